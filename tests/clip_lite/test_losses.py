"""The JSD objective against the paper's equation, written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from clip_lite.losses import JSDLoss
from clip_lite.negatives import shifted


def pairs(n: int, d: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(2, n, d, generator=generator, dtype=dtype)
    return F.normalize(image, dim=-1), F.normalize(text, dim=-1)


def equation(image: torch.Tensor, text: torch.Tensor, scale: float) -> float:
    """−Î_JSD: joint and marginal expectations summed pair by pair, the marginal over the next text."""
    n = len(image)
    joint = marginal = 0.0
    for i in range(n):
        positive = scale * sum(float(a) * float(b) for a, b in zip(image[i], text[i], strict=True))
        negative = scale * sum(float(a) * float(b) for a, b in zip(image[i], text[i - 1], strict=True))
        joint += -math.log1p(math.exp(-positive))
        marginal += math.log1p(math.exp(negative))
    return -(joint / n - marginal / n)


@pytest.mark.parametrize("scale", [0.5, 1 / 0.07, 40.0])
def test_equals_the_equation(scale: float) -> None:
    image, text = pairs(7, 5)
    terms = JSDLoss()(image, text, shifted(text), torch.tensor(scale))
    total = sum(term.item() for term in terms.values())
    assert total == pytest.approx(equation(image.float(), text.float(), scale), abs=1e-6)
    assert set(terms) == {"joint", "marginal"}


def test_gradient_matches_finite_differences() -> None:
    image, text = pairs(4, 3, torch.float32)
    scale = torch.tensor(2.0, requires_grad=True)
    image = image.requires_grad_()
    sum(JSDLoss()(image, text, shifted(text), scale).values()).backward()

    def value(x: torch.Tensor, s: float) -> float:
        return equation(x.detach().double(), text.double(), s)

    step = 1e-5
    numeric = (value(image, 2.0 + step) - value(image, 2.0 - step)) / (2 * step)
    assert scale.grad.item() == pytest.approx(numeric, abs=1e-5)
    nudged = image.detach().double().clone()
    nudged[1, 2] += step
    lowered = image.detach().double().clone()
    lowered[1, 2] -= step
    numeric = (value(nudged, 2.0) - value(lowered, 2.0)) / (2 * step)
    assert image.grad[1, 2].item() == pytest.approx(numeric, abs=1e-5)


def test_every_text_is_the_negative_of_one_other_image() -> None:
    text = torch.arange(5.0)[:, None]
    negatives = shifted(text)
    assert sorted(negatives.flatten().tolist()) == text.flatten().tolist()
    assert not torch.eq(negatives, text).any()


def test_large_scores_stay_finite() -> None:
    image, _ = pairs(4, 8)
    terms = JSDLoss()(image, -image, image, torch.tensor(1e4))
    assert all(torch.isfinite(term) for term in terms.values())


def test_no_matrix_of_all_pairs_is_formed() -> None:
    """O(n·d): the largest tensor saved for backward grows linearly with the batch."""

    def largest(n: int) -> int:
        image, text = pairs(n, 16, torch.float32)
        sizes: list[int] = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            sum(JSDLoss()(image.requires_grad_(), text, shifted(text), torch.tensor(1.0)).values())
        return max(sizes)

    assert largest(512) == 4 * largest(128)
