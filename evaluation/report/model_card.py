"""The model card: ``README.md`` with the metadata of a model hub, written from an audit and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluation.report import card_tables, facts, markdown, narrative, reloading, wording
from evaluation.results import AuditResult, Estimate
from evaluation.writing import write_text

OWN = "CLIP-Lite"
LIBRARY = re.compile(r" of (transformers|open_clip|timm|torchvision)\b")
HEADLINES = re.compile(
    r"leakage/[^/]+/embedding/(max|logistic)|(neutral_)?retrieval/\w+_recall_10|zero_shot/.+_top1"
)


def write_model_card(result: AuditResult, path: Path) -> None:
    """Write the card of the audited model to ``path``; a reader never sees half a file.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    write_text(path, str(model_card(result)))


def model_card(result: AuditResult) -> ModelCard:
    """Metadata and text; whatever comes from ``result`` is text, and what is missing there is left out."""
    body = (
        _environment()
        .get_template("model_card.md.j2")
        .render(
            title=title(result),
            result=result,
            has_text=has_text(result),
            perceived=wording.perceived(result),
            facts=facts,
            narrative=narrative,
            tables=card_tables,
            reloading=reloading,
            markdown=markdown,
        )
    )
    return ModelCard(f"---\n{metadata(result).to_yaml()}\n---\n\n{body}")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,
        finalize=markdown.escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def title(result: AuditResult) -> str:
    """Architecture, image tower and the corpus that it was trained or audited on."""
    tower, corpus = result.model.get("image_tower"), result.data.get("name")
    parts = [str(result.model.get("architecture") or "Image encoder")]
    parts += [f"({tower})"] if tower else []
    parts += [f"{'trained' if result.training else 'audited'} on {corpus}"] if corpus else []
    return markdown.one_line(" ".join(parts))


def metadata(result: AuditResult) -> ModelCardData:
    """What a hub reads. The licence is ``other``: an audit knows those of the pictures, none of the model."""
    task = pipeline_tag(result)
    results = [_eval_result(row, result, task) for row in _headlines(result)]
    attribute = _slug(wording.attribute_name(result))
    return ModelCardData(
        license="other",
        library_name=library(result),
        pipeline_tag=task,
        tags=["bias-audit", *([f"perceived-{attribute}"] if attribute else [])],
        model_name=title(result),
        eval_results=results or None,
    )


def library(result: AuditResult) -> str:
    """The library whose model it is."""
    found = LIBRARY.search(str(result.model.get("architecture") or ""))
    return found[1] if found else "clip-lite"


def pipeline_tag(result: AuditResult) -> str:
    """The hub's name of what the model is for."""
    return "zero-shot-image-classification" if has_text(result) else "image-feature-extraction"


def has_text(result: AuditResult) -> bool:
    """Whether the model has a text tower."""
    return result.model.get("text_tower") not in (None, "none")


def _headlines(result: AuditResult) -> Iterator[Estimate]:
    for row in result.rows:
        held_out = row.split not in ("train", "val")
        if held_out and row.system == result.delivered and HEADLINES.fullmatch(row.name):
            yield row


def _eval_result(row: Estimate, result: AuditResult, task: str) -> EvalResult:
    corpus = markdown.one_line(result.data.get("name") or "unnamed")
    known: dict[str, Any] = {
        "system": row.system,
        "ci_low": _rounded(row.low),
        "ci_high": _rounded(row.high),
        "chance": _rounded(row.null),
        "n": row.n,
    }
    return EvalResult(
        task_type=task,
        dataset_type=_slug(corpus) or "unnamed",
        dataset_name=corpus,
        dataset_split=markdown.one_line(row.split),
        metric_type=markdown.one_line(row.name),
        metric_name=_metric_name(row),
        metric_value=_rounded(row.value),
        metric_args={key: item for key, item in known.items() if item is not None},
    )


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 6)


def _metric_name(row: Estimate) -> str:
    label = wording.metric_label(row.name)
    words = f"Leakage to the attacker: {label}" if row.name.startswith("leakage/") else label
    return markdown.one_line(f"{words}, {row.group}" if row.group else words)


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII).strip("-").lower()
