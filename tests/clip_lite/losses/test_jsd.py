"""The JSD objective against the paper's equation, written out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import pytest
import torch

from clip_lite.losses import JSDLoss
from clip_lite.losses.jsd import _Scores
from clip_lite.negatives import Picked, take
from tests.clip_lite.losses.conftest import dot, pairs

ROWS = torch.tensor([[6, 5, 4], [0, 6, 5], [1, 0, -1], [2, 2, 2], [3, 1, 0], [-1, -1, -1], [5, 4, 3]])
SHIFTED = (torch.arange(7)[:, None] - 1) % 7


def equation(
    image: torch.Tensor, text: torch.Tensor, rows: Sequence[Sequence[int]], scale: float, *, reduction: str
) -> dict[str, float]:
    """−Î_JSD: joint and marginal expectations summed pair by pair; row -1 is a text with score 0."""
    joint = marginal = 0.0
    for i, own in enumerate(rows):
        joint += math.log1p(math.exp(-scale * dot(image[i], text[i])))
        scores = [scale * dot(image[i], text[j]) if j >= 0 else 0.0 for j in own]
        summed = sum(math.log1p(math.exp(score)) for score in scores)
        marginal += summed / len(own) if reduction == "mean" else summed
    return {"joint": joint / len(rows), "marginal": marginal / len(rows)}


@pytest.mark.parametrize("picked", [True, False])
@pytest.mark.parametrize("rows", [SHIFTED, ROWS])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("scale", [0.5, 1 / 0.07, 40.0])
def test_equals_the_equation(
    scale: float, reduction: Literal["mean", "sum"], rows: torch.Tensor, picked: bool
) -> None:
    image, text = pairs(7, 5)
    negatives = Picked(text, rows) if picked else take(text, rows)
    terms = JSDLoss(reduction)(image, text, negatives, torch.tensor(scale, dtype=torch.float64))
    expected = equation(image, text, rows.tolist(), scale, reduction=reduction)
    tolerance = 1e-12 if scale < 20 else 1e-8  # torch's softplus is linear from 20 on
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, abs=tolerance)


def test_the_papers_negatives_are_the_texts_rolled_by_one() -> None:
    image, text = pairs(7, 5)
    rolled = JSDLoss()(image, text, text.roll(1, 0).unsqueeze(1), torch.tensor(3.0).double())
    expected = equation(image, text, SHIFTED.tolist(), 3.0, reduction="mean")
    assert {name: term.item() for name, term in rolled.items()} == pytest.approx(expected, abs=1e-12)


def test_gradient_matches_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of scores and of the whole loss, with repeated and missing negatives and more than one part."""
    monkeypatch.setattr("clip_lite.negatives.PICKS", 6)
    image, text = (x.requires_grad_() for x in pairs(7, 5))
    pool = pairs(8, 5)[1].requires_grad_()
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: _Scores.apply(*x, ROWS), (image, text, pool))

    def loss(*x: torch.Tensor) -> torch.Tensor:
        return torch.stack(list(JSDLoss()(x[0], x[1], Picked(x[2], ROWS), x[3]).values())).sum()

    assert torch.autograd.gradcheck(loss, (image, text, pool, scale))
    assert torch.autograd.gradcheck(lambda *x: loss(x[0], x[1], x[1], x[2]), (image, text, scale))


def test_a_missing_negative_has_no_gradient() -> None:
    image, text = (x.requires_grad_() for x in pairs(4, 3))
    terms = JSDLoss()(image, text, Picked(text, torch.full((4, 2), -1)), torch.tensor(5.0))
    assert terms["marginal"].item() == pytest.approx(math.log(2))
    assert not any(x.any() for x in torch.autograd.grad(terms["marginal"], [image, text]))


def test_large_scores_stay_finite() -> None:
    image, _ = pairs(4, 8)
    terms = JSDLoss()(image, -image, image[:, None], torch.tensor(1e4))
    assert all(torch.isfinite(term) for term in terms.values())


def test_half_precision_is_computed_in_float32() -> None:
    image, text = (x.bfloat16() for x in pairs(7, 5))
    with torch.autocast("cpu", torch.bfloat16):
        terms = JSDLoss()(image, text, Picked(text, ROWS), torch.tensor(2.0))
    expected = equation(image, text, ROWS.tolist(), 2.0, reduction="mean")
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, abs=1e-6)
    assert terms["joint"].dtype == torch.float32


def largest_saved(n: int, k: int) -> int:
    """Elements of the largest tensor that is kept for the backward pass."""
    image, text = (x.requires_grad_() for x in pairs(n, 64, torch.float32))
    rows = (torch.arange(n)[:, None] - torch.arange(1, k + 1)) % n
    sizes: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        JSDLoss()(image, text, Picked(text, rows), torch.tensor(1.0))
    return max(sizes)


def test_no_matrix_of_all_pairs_and_no_copy_of_negatives_is_kept() -> None:
    assert largest_saved(256, 1) == 256 * 64
    assert largest_saved(64, 1) == 64 * 64
    assert largest_saved(64, 16) == 64 * 64
