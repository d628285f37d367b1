"""A corpus of photographs has no roles and no classes; audit and report do without them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from clip_lite.data.captions import caption_key
from clip_lite.data.coco import load_coco
from clip_lite.describe import describe_corpus
from clip_lite.encoder import ImageFeatures
from debias.attributes import ProtectedAttribute
from evaluation.audit import audit
from evaluation.inference import Inference
from evaluation.population import describe_attribute
from evaluation.report import render_html
from evaluation.results import AuditResult
from evaluation.systems import Subject


class Colours:
    """Embeds a picture by its mean colours, a text by a random vector of its own."""

    embedding_dim = 12

    def image_transform(self, images: Tensor) -> Tensor:
        return images.float() / 255

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        features = torch.nn.functional.adaptive_avg_pool2d(pixels, 2).flatten(1)
        return ImageFeatures(features, normalize(features))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        drawn = [
            torch.randn(12, generator=torch.Generator().manual_seed(caption_key(t) % 2**31)) for t in texts
        ]
        return normalize(torch.stack(drawn))


@pytest.mark.parametrize("name", [None, "gender"])
def test_there_are_rows_and_a_report_without_role_and_probe(
    coco_root: Path, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("no roles to recognise")

    monkeypatch.setattr("evaluation.utility.suite.role_rows", never)
    corpus = load_coco(coco_root, image_size=32, val_fraction=0.1, seed=0, workers=2)
    attribute = ProtectedAttribute.load(name) if name else None
    subject = Subject(encoder=Colours(), erasers={}, untrained=Colours(), device=torch.device("cpu"))
    rows, examples = audit(
        subject, corpus, attribute, examples=2, inference=Inference(resamples=20, permutations=20)
    )
    kinds = {row.name.split("_top")[0].split("/")[0] for row in rows}
    assert "retrieval" in kinds
    assert not [row.name for row in rows if row.name.startswith(("zero_shot/role", "probe/"))]
    assert ("leakage" in kinds) == bool(name)
    html = render_html(
        AuditResult(
            rows=rows,
            examples=examples,
            attribute=describe_attribute(attribute, corpus),
            data=describe_corpus(corpus, image_size=32),
            model={},
            training={},
            provenance={},
        )
    )
    assert "COCO Captions 2017" in html
    assert "Attribution License" in html
