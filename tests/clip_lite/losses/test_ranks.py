"""Two processes on halves of a batch learn what one learns from the whole: values and gradients."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from clip_lite.distributed import average, process_group, rank
from clip_lite.losses import load_loss
from tests.clip_lite.two_ranks import two_ranks

LOSSES = ("jsd", "infonce", "siglip")
ROWS, HALF = 12, 6


class Towers(nn.Module):
    """One linear tower for pictures and captions, a scale, and a loss."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tower = nn.Linear(7, 5)
        self.logit_scale = nn.Parameter(torch.tensor(1.5))
        self.loss = load_loss(name, {})
        self.whole_batch = getattr(self.loss, "uses_batch", False)
        self.double()

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        image, text = (F.normalize(self.tower(x), dim=-1) for x in (image, text))
        negatives = text.roll(1, 0).unsqueeze(1) if not self.whole_batch else None
        return torch.stack(list(self.loss(image, text, negatives, self.logit_scale.exp()).values())).sum()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    image, text = torch.randn(2, ROWS, 7, generator=generator, dtype=torch.float64)
    return image, text


def found(module: nn.Module, loss: Tensor, inputs: list[Tensor]) -> dict[str, Any]:
    weights = {name.removeprefix("module."): p.grad for name, p in module.named_parameters()}
    return {"loss": loss.detach(), "weights": weights, "inputs": [x.grad for x in inputs]}


def half(name: str) -> dict[str, Any]:
    """What a process has after it saw its own rows."""
    own = slice(rank() * HALF, (rank() + 1) * HALF)
    inputs = [x[own].clone().requires_grad_() for x in batch()]
    module = DistributedDataParallel(Towers(name))
    loss = module(*inputs)
    loss.backward()
    return found(module, average(loss), inputs)


def whole(name: str) -> dict[str, Any]:
    """What one process has; JSD takes its negatives inside the same halves."""
    inputs = [x.clone().requires_grad_() for x in batch()]
    module = Towers(name)
    if module.whole_batch:
        loss = module(*inputs)
    else:
        loss = (module(*(x[:HALF] for x in inputs)) + module(*(x[HALF:] for x in inputs))) / 2
    loss.backward()
    return found(module, loss, inputs)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return two_ranks("tests.clip_lite.losses.test_ranks", tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_equal(ranks: list[dict[str, Any]], name: str) -> None:
    expected = whole(name)["loss"].item()
    assert [one[name]["loss"].item() for one in ranks] == pytest.approx([expected] * 2, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_the_weights_are_equal(ranks: list[dict[str, Any]], name: str) -> None:
    expected = whole(name)["weights"]
    assert {"tower.weight", "tower.bias", "logit_scale"} <= expected.keys()
    assert ("loss.bias" in expected) == (name == "siglip")
    for one in ranks:
        assert one[name]["weights"].keys() == expected.keys()
        for key, gradient in expected.items():
            assert gradient.any()
            assert torch.allclose(one[name]["weights"][key], gradient, rtol=0, atol=1e-12), key


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_the_inputs_are_equal(ranks: list[dict[str, Any]], name: str) -> None:
    """Each process has the gradient of the sum of all losses: twice that of their mean."""
    for place, gradient in enumerate(whole(name)["inputs"]):
        halves = torch.cat([one[name]["inputs"][place] for one in ranks]) / 2
        assert gradient.any(dim=1).all()
        assert torch.allclose(halves, gradient, rtol=0, atol=1e-12)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    with process_group(torch.device("cpu")):
        torch.save({name: half(name) for name in LOSSES}, target / f"{rank()}.pt")
