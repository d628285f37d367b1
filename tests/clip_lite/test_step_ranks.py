"""The whole model under DDP on two real processes against one process on the same global batch."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.clip_lite.coco_folder import write_coco_folder
from tests.clip_lite.step_worker import LOSSES, gradients
from tests.clip_lite.two_ranks import two_ranks


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory, text_folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("ranks")
    write_coco_folder(folder / "coco", train=60, val=4)
    shutil.copytree(text_folder, folder / "text")
    return folder, two_ranks("tests.clip_lite.step_worker", folder)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_gradients_equal_one_process(ranks: tuple[Path, list[dict[str, Any]]], loss: str) -> None:
    """jsd in one process runs two parts: a rank takes its negatives from its own rows, and so does a part."""
    folder, (first, second) = ranks
    alone = gradients(folder, loss, accumulation=2 if loss == "jsd" else 1)
    together = torch.cat([first[loss]["captions"], second[loss]["captions"]])
    assert torch.equal(together, alone["captions"])
    for name, term in alone["terms"].items():
        assert first[loss]["terms"][name].item() == pytest.approx(term.item(), abs=1e-6)
    assert first[loss]["gradients"].keys() == alone["gradients"].keys()
    assert {"model.logit_scale", "model.image_tower.conv1.weight"} < alone["gradients"].keys()
    assert ("loss.bias" in alone["gradients"]) == (loss == "siglip")
    for name, gradient in alone["gradients"].items():
        assert torch.equal(first[loss]["gradients"][name], second[loss]["gradients"][name])
        error = (first[loss]["gradients"][name] - gradient).abs().max()
        assert error <= 1e-6 * max(1.0, gradient.abs().max().item()), name
        assert gradient.abs().max() > 0 or "bias" in name
