"""CLIP's objective against its formula and open_clip's own class."""

from __future__ import annotations

import math

import pytest
import torch
from open_clip.loss import ClipLoss

from clip_lite.losses import InfoNCELoss
from tests.clip_lite.losses.conftest import dot, pairs


def formula(rows: torch.Tensor, columns: torch.Tensor, scale: float) -> float:
    """Half the mean over rows of −log(exp(s·own) / Σ exp(s·any))."""
    total = 0.0
    for i, row in enumerate(rows):
        scores = [scale * dot(row, column) for column in columns]
        total += math.log(sum(math.exp(score) for score in scores)) - scores[i]
    return total / len(rows) / 2


@pytest.mark.parametrize("scale", [1.0, 1 / 0.07])
def test_equals_the_formula(scale: float) -> None:
    image, text = pairs(7, 5)
    terms = InfoNCELoss()(image, text, None, torch.tensor(scale, dtype=torch.float64))
    expected = {"image_to_text": formula(image, text, scale), "text_to_image": formula(text, image, scale)}
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, abs=1e-12)


def test_equals_open_clip_in_value_and_gradients() -> None:
    inputs = [x.requires_grad_() for x in (*pairs(16, 8), torch.tensor(9.0).double())]
    image, text, scale = inputs
    loss = torch.stack(list(InfoNCELoss()(image, text, None, scale).values())).sum()
    reference = ClipLoss()(*inputs)
    assert loss.item() == pytest.approx(reference.item(), abs=1e-12)
    gradients = (torch.autograd.grad(value, inputs) for value in (loss, reference))
    for own, other in zip(*gradients, strict=True):
        assert torch.allclose(own, other, atol=1e-12)


def test_half_precision_is_computed_in_float32() -> None:
    image, text = (x.bfloat16() for x in pairs(7, 5))
    with torch.autocast("cpu", torch.bfloat16):
        terms = InfoNCELoss()(image, text, None, torch.tensor(5.0))
    assert terms["image_to_text"].item() == pytest.approx(formula(image, text, 5.0), abs=1e-6)
