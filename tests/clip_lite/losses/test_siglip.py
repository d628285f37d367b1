"""SigLIP's objective against its formula and open_clip's own class."""

from __future__ import annotations

import math

import pytest
import torch
from open_clip.loss import SigLipLoss

from clip_lite.losses import SigLIPLoss
from tests.clip_lite.losses.conftest import dot, pairs


def formula(image: torch.Tensor, text: torch.Tensor, scale: float, bias: float) -> float:
    """Σ_ij log(1 + exp(−z_ij·(s·⟨x_i, y_j⟩ + b))) / n."""
    total = 0.0
    for i, x in enumerate(image):
        for j, y in enumerate(text):
            sign = 1 if i == j else -1
            total += math.log1p(math.exp(-sign * (scale * dot(x, y) + bias)))
    return total / len(image)


@pytest.mark.parametrize("bias", [-10.0, 0.5])
def test_equals_the_formula(bias: float) -> None:
    image, text = pairs(7, 5)
    loss = SigLIPLoss().double()
    loss.bias.data.fill_(bias)
    terms = loss(image, text, None, torch.tensor(10.0).double())
    assert terms.keys() == {"sigmoid"}
    assert terms["sigmoid"].item() == pytest.approx(formula(image, text, 10.0, bias), abs=1e-12)


def test_equals_open_clip_in_value_and_gradients() -> None:
    module = SigLIPLoss().double()
    inputs = [x.requires_grad_() for x in (*pairs(16, 8), torch.tensor(9.0).double())]
    image, text, scale = inputs
    loss = module(image, text, None, scale)["sigmoid"]
    reference = SigLipLoss()(image, text, scale, module.bias)
    assert loss.item() == pytest.approx(reference.item(), abs=1e-12)
    gradients = (torch.autograd.grad(value, [*inputs, module.bias]) for value in (loss, reference))
    for own, other in zip(*gradients, strict=True):
        assert torch.allclose(own, other, atol=1e-12)


def test_training_begins_where_most_answers_are_no() -> None:
    loss = SigLIPLoss()
    assert loss.initial_scale == 10
    assert loss.bias.item() == -10
    assert loss.bias.requires_grad


def test_half_precision_is_computed_in_float32() -> None:
    image, text = (x.bfloat16() for x in pairs(7, 5))
    with torch.autocast("cpu", torch.bfloat16):
        terms = SigLIPLoss()(image, text, None, torch.tensor(5.0))
    assert terms["sigmoid"].item() == pytest.approx(formula(image, text, 5.0, -10.0), abs=1e-5)
