"""A corpus of photographs has no roles and no classes; audit and report do without them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from clip_lite.data.captions import caption_key
from clip_lite.data.reading import Reading
from clip_lite.data.sources.coco import load_coco
from clip_lite.encoder import ImageFeatures
from debias.attributes import ProtectedAttribute
from evaluation.inference import Inference
from evaluation.measure import audit_result, measure
from evaluation.metrics import METRICS
from evaluation.report import render_html
from evaluation.systems import Bench, Subject


class Colours:
    """Embeds a picture by its mean colours, a text by a random vector of its own."""

    embedding_dim = 12
    has_text = True

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
def test_there_are_rows_and_a_report_without_role_and_probe(coco_root: Path, name: str | None) -> None:
    corpus = load_coco(coco_root, Reading(size=32))
    attribute = ProtectedAttribute.load(name) if name else None
    subject = Subject(encoder=Colours(), erasers={}, untrained=Colours(), device=torch.device("cpu"))
    bench = Bench.prepare(subject, corpus, Inference(resamples=20, permutations=20))
    measured = measure(bench, attribute, METRICS, examples=2)
    assert not measured.failed
    kinds = {row.name.split("_top")[0].split("/")[0] for row in measured.rows}
    assert "retrieval" in kinds
    assert not [row.name for row in measured.rows if row.name.startswith(("zero_shot/role", "probe/"))]
    of_attribute = {"leakage", "leakage_auc", "leakage_bits", "geometry", "association"}
    assert kinds & of_attribute == (of_attribute if name else set())
    html = render_html(audit_result(measured, bench, attribute, model={}, run={}))
    assert "COCO Captions 2017" in html
    assert "Attribution License" in html
