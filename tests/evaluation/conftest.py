"""A synthetic audit with every row and mapping a report reads."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation.pictures.examples import small
from evaluation.pictures.shown import Examples, HeatMap, Picture, Ranking, Rankings
from evaluation.results import AuditResult, Estimate

LEVELS = {
    ("pixels", "pixels"): (0.71, 0.83, 0.80, 0.84),
    ("features", "untrained tower"): (0.68, 0.74, 0.72, 0.75),
    ("features", "eraser off"): (0.77, 0.81, 0.82, 0.82),
    ("embedding", "eraser off"): (0.75, 0.78, 0.77, 0.78),
    ("embedding", "eraser on"): (0.53, 0.72, 0.74, 0.74),
    ("embedding", "random direction"): (0.75, 0.78, 0.76, 0.78),
}
UTILITY = {
    "retrieval/i2t_recall_1": (0.052, 0.004),
    "retrieval/i2t_recall_5": (0.192, 0.021),
    "retrieval/i2t_recall_10": (0.304, 0.043),
    "retrieval/t2i_recall_1": (0.048, 0.004),
    "retrieval/t2i_recall_5": (0.181, 0.021),
    "retrieval/t2i_recall_10": (0.287, 0.043),
    "zero_shot/role_top1": (0.213, 0.013),
    "zero_shot/role_top5": (0.466, 0.065),
    "zero_shot/gender_top1": (0.712, 0.5),
    "probe/subgroup_accuracy": (0.322, 0.011),
}
SHIFTS = {"eraser off": 0.0, "eraser on": -0.012, "random direction": -0.003}


def measured(
    name: str, value: float, half_width: float, *, system: str, split: str, **fields: Any
) -> Estimate:
    ends = {"low": value - half_width, "high": value + half_width}
    common = {"n": 466, "n_clusters": 19, "higher_is_better": not name.startswith("leakage")}
    return Estimate(name=name, value=value, system=system, split=split, **(common | ends | fields))


def leakage(value: float, *, system: str, attacker: str, split: str, representation: str) -> Estimate:
    null = 0.52 if attacker == "max" else 0.5
    band = {"null": null, "null_low": null - 0.06, "null_high": null + 0.06, "p_value": 0.001}
    name = f"leakage/gender/{representation}/{attacker}"
    return measured(name, value, 0.07, system=system, split=split, **band)


def change(name: str, value: float, half_width: float, *, system: str, split: str) -> Estimate:
    return measured(f"{name}_change", value, half_width, system=system, split=split, null=0.0)


def utility(name: str, value: float, *, system: str, null: float, split: str) -> Estimate:
    return measured(name, value, 0.055, system=system, split=split, null=null, low=max(0.0, value - 0.055))


def geometry(split: str) -> list[Estimate]:
    band = {"null": 87.1, "null_low": 83.0, "null_high": 89.9, "unit": "degrees", "higher_is_better": False}
    return [
        measured("geometry/gender/cross_modal_angle", 71.4, 4.2, system="eraser off", split=split, **band),
        measured("geometry/gender/cosine_kept", 0.981, 0.004, system="eraser on", split=split),
        measured("geometry/gender/cosine_kept", 0.994, 0.004, system="random direction", split=split),
    ]


def _rows() -> list[Estimate]:
    rows = []
    for split, lost in (("test", 0.0), ("openmoji", 0.09)):
        for (representation, system), values in LEVELS.items():
            for attacker, value in zip(("logistic", "rbf_svm", "mlp", "max"), values, strict=True):
                fallen = round(max(0.5, value - lost), 3)
                rows.append(
                    leakage(
                        fallen, system=system, attacker=attacker, split=split, representation=representation
                    )
                )
        name = "leakage/gender/embedding/max"
        rows.append(change(name, -0.041, 0.032, system="eraser on", split=split))
        rows.append(change(name, -0.002, 0.018, system="random direction", split=split))
        for metric, (value, null) in UTILITY.items():
            for system, shift in SHIFTS.items():
                rows.append(
                    utility(metric, value - 2 * lost * value + shift, system=system, null=null, split=split)
                )
                if system != "eraser off" and metric.startswith("retrieval"):
                    rows.append(change(metric, shift, 0.015, system=system, split=split))
        rows += geometry(split)
    for system, value in (("eraser off", 0.93), ("eraser on", 0.51)):
        rows.append(
            leakage(
                value, system=system, attacker="logistic", split="train", representation="embedding_fitted"
            )
        )
    return rows


def _source(name: str, version: str, licence: str, pictures: int) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "licence": licence,
        "pictures": pictures,
        "url": f"https://www.npmjs.com/package/@iconify-json/{name}",
        "attribution": f"{name} by its authors",
    }


def _grey(values: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray((255 * values).astype(np.uint8)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _examples() -> Examples:
    rng = np.random.default_rng(0)
    shown, ranked = {}, []
    for index, stem in enumerate(("teacher", "astronaut", "person surfing", "cook")):
        group = ("woman", "man")[index % 2]
        image = np.kron((255 * rng.random((3, 4, 4))).astype(np.uint8), np.ones((16, 16), dtype=np.uint8))
        captions = (f"{group} {stem}", f"{stem} at work")
        shown[f"noto/{index}"] = Picture(webp_base64=small(image), captions=captions, group=group)
        ranked.append(
            Ranking(
                query=f"noto/{index}",
                off=(f"{group} {stem}", "woman office worker", "man technologist"),
                on=(f"man {stem}", f"{stem} at work", "technologist"),
                moved=0.8 - index / 10,
            )
        )
    prompt = Ranking(query="a picture of a cook", off=tuple(shown), on=tuple(reversed(shown)), moved=0.6)
    heat = tuple(
        HeatMap(
            picture=picture,
            group=group,
            text=f"a picture of a {group}",
            off=_grey(rng.random((32, 32))),
            on=_grey(rng.random((32, 32))),
            n=1 if picture else 16,
        )
        for group, pictures in (("woman", ("noto/0", "")), ("man", ("noto/1", "")))
        for picture in pictures
    )
    return Examples(
        pictures=shown,
        by_picture=Rankings(items=tuple(ranked), of=466, median=0.11),
        by_text=Rankings(items=(prompt,), of=19, median=0.2),
        heat=heat,
    )


def _training() -> dict[str, Any]:
    curve = [
        {
            "epoch": epoch,
            "loss": 1.35 * 0.86**epoch + 0.2,
            "val_i2t_recall_10": 0.31 * (1 - 0.75**epoch),
            "val_t2i_recall_10": 0.29 * (1 - 0.77**epoch),
            "pairs_per_second": 512.0,
        }
        for epoch in range(1, 13)
    ]
    return {
        "objective": "JSD, one shifted negative per positive",
        "epochs": 12,
        "batch_size": 64,
        "pairs_seen": 105_528,
        "seconds": 214.3,
        "precision": "bf16",
        "curve": curve,
        "stages": {"prepare data": 41.2, "train": 214.3, "fit eraser": 0.8, "audit": 96.0},
        "config": {
            "data": {"image_size": 64},
            "training": {"learning_rate": 0.001, "flip": 0.5},
            "resume": None,
        },
    }


def _data() -> dict[str, Any]:
    return {
        "name": "emoji",
        "digest": "sha256:51ab77",
        "image_size": 64,
        "label_noise": {
            "disagreement": 0.013,
            "low": 0.002,
            "high": 0.07,
            "compared": 1904,
            "unnamed": 72,
        },
        "splits": {
            "train": {"pictures": 8794, "stems": 1370},
            "test": {"pictures": 2210, "stems": 380},
            "openmoji": {"pictures": 3970, "stems": 380},
        },
        "sources": [
            _source("noto", "1.2.9", "Apache-2.0", 3708),
            _source("twemoji", "1.2.5", "CC-BY-4.0", 3970),
            _source("fluent-emoji-flat", "1.2.6", "MIT", 3139),
            _source("openmoji", "1.2.29", "CC-BY-SA-4.0", 3970),
        ],
        "limits": [
            "Drawn gender is binary and caricatured.",
            "Captions are short: 5.5 words on average.",
        ],
    }


def _model() -> dict[str, Any]:
    return {
        "architecture": "dual encoder",
        "image_tower": "resnet18 (3×3 stem)",
        "text_tower": "all-MiniLM-L6-v2, frozen",
        "embedding_dim": 512,
        "parameters": 37_184_001,
        "digest": "sha256:c0ffee",
        "eraser": {
            "method": "caption_leace",
            "rank": 1,
            "changes_images": True,
            "details": {
                "labelled": {"woman": 1510, "man": 1490},
                "dropped": {"both": 12, "none": 5782},
            },
        },
    }


def _provenance() -> dict[str, Any]:
    return {
        "command": "python -m clip_lite.train --debias gender",
        "created": "2026-07-01T10:00:00Z",
        "seed": 20260701,
        "resamples": 2000,
        "permutations": 1000,
        "attackers": ["logistic", "rbf_svm", "mlp"],
        "versions": {"torch": "2.14.1", "scikit-learn": "1.8.0"},
        "mlflow": {
            "tracking_uri": "sqlite:///mlflow.db",
            "experiment": "clip-lite",
            "run_id": "ab12cd34",
        },
    }


@pytest.fixture(scope="session")
def audit() -> AuditResult:
    return AuditResult(
        rows=tuple(_rows()),
        attribute={
            "name": "gender",
            "version": "1",
            "groups": ["woman", "man"],
            "label_source": "captions",
            "lexicon_digest": "sha256:9d0c1f",
            "note": "two drawn categories; person and unlabelled pictures are left out of the attack",
        },
        data=_data(),
        model=_model(),
        training=_training(),
        provenance=_provenance(),
        examples=_examples(),
    )


@pytest.fixture(scope="session")
def swap(audit: AuditResult) -> Callable[..., AuditResult]:
    """``swap(row, …)``: the audit with rows of the same name, system and split replaced."""

    def replaced(*rows: Estimate) -> AuditResult:
        new = {(row.name, row.system, row.split): row for row in rows}
        return replace(
            audit, rows=tuple(new.get((row.name, row.system, row.split), row) for row in audit.rows)
        )

    return replaced
