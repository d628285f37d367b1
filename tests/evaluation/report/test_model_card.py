"""The model card as a hub reads it, and as a reader of its Markdown sees it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from markdown_it.token import Token

from clip_lite.cli import parse
from clip_lite.config import TrainConfig
from clip_lite.describe import plain
from clip_lite.model import DualEncoder
from clip_lite.pretrained import load_encoder
from evaluation.audit_request import AuditCommand
from evaluation.report.model_card import model_card, write_model_card
from evaluation.results import AuditResult
from tests.evaluation.report.odd_audits import MAPPINGS, empty, poisoned

HOSTILE = (
    "|`<script>alert(1)</script>` ``` [x](javascript:alert(1)) ![y](z) **b** _i_ ~~s~~ $$m$$ \\(n\\) "
    "# h: {- a}"
    "\n---\n# heading\n- item\n\n| a | b |\n| - | - |\n<img src=x onerror=alert(1)>&lt;"
)
HEADINGS = 13


def parsed(text: str) -> list[Token]:
    """Tokens of CommonMark with GitHub's tables and strikethrough; raw HTML is a token of its own."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)


def flat(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from flat(token.children or [])


def shown(text: str) -> str:
    """What a reader sees, in one line."""
    said = (token.content for token in flat(parsed(text)) if token.type in {"text", "code_inline", "fence"})
    return " ".join(" ".join(said).split())


def kinds(text: str) -> set[str]:
    return {token.type for token in flat(parsed(text))}


@pytest.fixture(scope="module")
def card(audit: AuditResult) -> ModelCard:
    return model_card(audit)


def test_metadata_come_back_from_the_file(audit: AuditResult, tmp_path: Path) -> None:
    write_model_card(audit, tmp_path / "README.md")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "other"
    assert card.data.library_name == "clip-lite"
    assert card.data.pipeline_tag == "zero-shot-image-classification"
    assert card.data.tags == ["bias-audit", "perceived-gender"]
    assert card.data.datasets is None
    assert "emoji" in card.data.model_name
    found = {(own.metric_type, own.dataset_split): own for own in card.data.eval_results}
    assert len(found) == len(card.data.eval_results) == 12
    for (name, split), own in found.items():
        row = audit.find(name, system="eraser on", split=split)
        assert own.metric_value == pytest.approx(row.value, abs=1e-6)
        assert own.metric_args["ci_low"] == pytest.approx(row.low, abs=1e-6)
        assert own.metric_args["n"] == row.n
        assert own.metric_args["system"] == "eraser on"
    assert ("leakage/gender/embedding/max", "openmoji") in found
    again = ModelCard(str(card))
    assert again.data.to_dict() == card.data.to_dict()
    assert again.text == card.text


def test_the_system_that_is_delivered_is_reported(audit: AuditResult) -> None:
    rows = tuple(row for row in audit.rows if row.system not in ("eraser on", "random direction"))
    model = {key: value for key, value in audit.model.items() if key != "eraser"}
    card = model_card(replace(audit, rows=rows, model=model))
    assert {own.metric_args["system"] for own in card.data.eval_results} == {"eraser off"}
    assert "carries no eraser" in shown(card.text)
    assert "eraser on" not in card.text


@pytest.mark.parametrize(
    ("architecture", "library"),
    [
        ("CLIP-Lite dual encoder", "clip-lite"),
        ("CLIPModel of transformers 5.0.0", "transformers"),
        ("CLIP of open_clip 3.0.0", "open_clip"),
        ("image tower of timm 1.0.15", "timm"),
    ],
)
def test_library_and_task_follow_the_model(audit: AuditResult, architecture: str, library: str) -> None:
    model = {**audit.model, "architecture": architecture, "text_tower": "none"}
    card = model_card(replace(audit, model=model, training={}))
    assert card.data.library_name == library
    assert card.data.pipeline_tag == "image-feature-extraction"
    assert "encode_text" not in card.text
    assert "trained elsewhere" in shown(card.text)
    assert "audited on emoji" in card.data.model_name
    assert "encode_text" in model_card(audit).text


def test_sections_hold_numbers_of_the_rows(audit: AuditResult, swap: Callable[..., AuditResult]) -> None:
    changes = {
        "| max |": replace(audit.find("leakage/gender/embedding/max", system="eraser on"), value=0.617),
        "| MLP |": replace(audit.find("leakage/gender/embedding/mlp", system="eraser on"), null=0.473),
        "R@10 |": replace(audit.find("retrieval/i2t_recall_10", system="eraser on"), value=0.291),
        "from pixels |": replace(audit.find("leakage/gender/pixels/max", system="pixels"), value=0.827),
    }
    printed = {"| max |": ".62 [", "| MLP |": "| .47 [", "R@10 |": "29.1% [", "from pixels |": ".83 ["}
    for begin, row in changes.items():
        before, after = (
            [line for line in model_card(result).text.splitlines() if begin in line]
            for result in (audit, swap(row))
        )
        changed = [new for old, new in zip(before, after, strict=True) if old != new]
        assert len(changed) == 1, begin
        assert printed[begin] in changed[0]


def test_the_card_tells_all_a_hub_asks_for(audit: AuditResult, card: ModelCard) -> None:
    text = shown(card.text)
    for said in (
        "Apache-2.0", "CC-BY-SA-4.0", "sha256:51ab77", "sha256:c0ffee", "sha256:9d0c1f", "caption_leace",
        "Drawn gender is binary", "Out-of-scope use", "python -m clip_lite.train --debias gender",
        'load_encoder("DIR")', "runs:/ab12cd34", "random direction", "OpenMoji (style shift)",
    ):  # fmt: skip
        assert said in text, said
    gate = {"embedding": {"decision": "warn", "reasons": ["few pictures"]}}
    gated = model_card(replace(audit, model={**audit.model, "gate": gate}))
    assert "Gate, Embedding" in shown(gated.text)
    assert "few pictures" in shown(gated.text)


def test_nothing_is_called_finished(audit: AuditResult, card: ModelCard) -> None:
    assert not re.search(r"\b(debiased|unbiased|fair|bias-free)\b", card.text, re.IGNORECASE)


def test_everything_from_outside_stays_text(audit: AuditResult) -> None:
    mappings: dict[str, Any] = {item: poisoned(getattr(audit, item), HOSTILE) for item in MAPPINGS}
    mappings["data"]["sources"].append({"name": "bad", "url": "https://x/`|)><script>\n# h"})
    mappings["data"]["limits"] += ["- [ ] list", "1. list", "+ list", "--- rule", "> quote", "# head"]
    rows = tuple(
        replace(row, group=HOSTILE, split=HOSTILE, name=f"{row.name}{HOSTILE}") for row in audit.rows[:60]
    )
    card = model_card(replace(audit, rows=(*audit.rows, *rows), **mappings))
    tokens = list(flat(parsed(card.text)))
    assert kinds(card.text).isdisjoint(
        {"html_inline", "html_block", "image", "s_open", "hr", "blockquote_open", "lheading_open"}
    )
    assert {str(token.attrs["href"]).split(":")[0] for token in tokens if token.type == "link_open"} == {
        "https"
    }
    headings = [token for token in tokens if token.type == "heading_open"]
    assert (
        len(headings)
        == HEADINGS
        == len([t for t in parsed(model_card(audit).text) if t.type == "heading_open"])
    )
    assert " ".join(HOSTILE.split()) in shown(card.text)
    nested = [
        token for token in tokens if token.type in {"bullet_list_open", "ordered_list_open"} and token.level
    ]
    assert nested == []


def test_tables_keep_their_shape(audit: AuditResult) -> None:
    mappings: dict[str, Any] = {item: poisoned(getattr(audit, item), HOSTILE) for item in MAPPINGS}
    for result in (audit, replace(audit, **mappings)):
        lines = model_card(result).text.splitlines()
        for before, line in pairwise(lines):
            if before.startswith("| ") and line.startswith("| "):
                bars = [len(re.findall(r"(?<!\\)\|", own)) for own in (before, line)]
                assert bars[0] == bars[1], line


def test_metadata_take_any_string(audit: AuditResult, tmp_path: Path) -> None:
    data = {**audit.data, "name": HOSTILE}
    attribute = {**audit.attribute, "name": "a: 'b' #\n---\n- {c}"}
    write_model_card(replace(audit, data=data, attribute=attribute), tmp_path / "README.md")
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.eval_results[0].dataset_name == " ".join(HOSTILE.split())
    assert card.data.license == "other"
    assert card.text.lstrip().startswith("# ")


def test_any_missing_key_only_leaves_a_gap(audit: AuditResult) -> None:
    assert "was not measured" in shown(model_card(empty()).text)
    for item in MAPPINGS:
        mapping = getattr(audit, item)
        for key in mapping:
            rest = {other: value for other, value in mapping.items() if other != key}
            partial: dict[str, Any]
            for partial in ({item: rest}, {item: {key: None}}):
                assert "## Provenance" in model_card(empty(**partial)).text
    bare = tuple(
        replace(row, low=None, high=None, null=None, null_low=None, null_high=None) for row in audit.rows
    )
    card = model_card(empty(rows=bare))
    assert "| max | .78 | .74 | .78 |  |" in card.text
    assert card.data.eval_results[0].metric_args == {"system": "eraser on", "n": 466}


def test_the_command_to_audit_again_is_one(audit: AuditResult) -> None:
    trained = TrainConfig(debias="gender*skin_tone", seed=7)
    trained.data.labels, trained.data.pixel_cache = Path("/data/my labels.csv"), True
    config = plain({key: vars(value) if key == "data" else value for key, value in vars(trained).items()})
    result = replace(audit, training={**audit.training, "config": config})
    fence = model_card(result).text.split("## How to audit it again")[1].split("```")[1]
    command, _ = parse(AuditCommand, shlex.split(fence)[3:], prog="x", description="x")
    assert command.model == "DIR"
    assert command.attribute == "gender*skin_tone"
    assert command.data == replace(trained.data, pixel_cache=False)
    assert (command.seed, command.resamples) == (20260701, 2000)
    own = {**audit.provenance, "command": "python -m evaluation.audit --model X --seed 3"}
    assert "--model X --seed 3\n```" in model_card(replace(audit, provenance=own, training={})).text


def test_a_model_folder_with_a_card_is_still_a_model(saved_model: Path, audit: AuditResult) -> None:
    write_model_card(audit, Path("model/README.md"))
    assert isinstance(load_encoder("model"), DualEncoder)
    assert DualEncoder.from_pretrained(Path("model")).embedding_dim == 8
