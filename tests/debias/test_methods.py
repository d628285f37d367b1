from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from debias import Eraser, ProtectedAttribute
from debias.methods import CAPTION_FITTERS, FITTERS, TEXT_METHODS, describe_methods

Planted = Callable[..., tuple[Tensor, Tensor]]
D = 12
CAPTIONS = {0: ["a man"], 1: ["a woman"], -1: ["a dog"]}


@pytest.mark.parametrize("name", FITTERS)
def test_every_fitter_streams_merges_and_names_itself(planted: Planted, name: str) -> None:
    """One signature for all: (dim, groups, **options), update(x, z[, y]), merge, eraser; −1 is unlabelled."""
    x, z = planted((0.4, 0.4, 0.2))
    z = torch.where(z == 2, -1, z)
    y = torch.from_numpy(np.random.default_rng(0).integers(2, size=len(z)))
    needs_task = getattr(FITTERS[name], "needs_task", False)
    labels = (z, y) if needs_task else (z,)
    halves = [FITTERS[name](D, 2, **({"tasks": 2} if needs_task else {})) for _ in range(2)]
    for half, rows in zip(halves, (slice(0, 300), slice(300, 600)), strict=True):
        assert half.update(x[rows], *(index[rows] for index in labels)) is half
    eraser = halves[0].merge(halves[1]).eraser
    assert isinstance(eraser, Eraser)
    assert (eraser.method, eraser.dim, eraser.changes_images) == (name, D, True)
    assert eraser.details["labelled"] == [240, 240]


@pytest.mark.parametrize("name", CAPTION_FITTERS)
def test_every_caption_fitter_reads_the_captions(
    planted: Planted, gender: ProtectedAttribute, name: str
) -> None:
    x, z = planted()
    eraser = CAPTION_FITTERS[name](gender, D).update(x, [CAPTIONS[int(group)] for group in z]).eraser
    assert (eraser.method, eraser.details["labelled"]) == (name, {"man": 300, "woman": 300})


@pytest.mark.parametrize("name", TEXT_METHODS)
def test_every_text_method_needs_text_alone(gender: ProtectedAttribute, name: str) -> None:
    def encode(texts: Sequence[str]) -> Tensor:
        return torch.stack([torch.randn(D, generator=torch.Generator().manual_seed(len(t))) for t in texts])

    eraser = TEXT_METHODS[name](encode, gender)
    assert (eraser.method, eraser.dim, eraser.details["attribute"]) == (name, D, gender.describe())


def test_names_are_unique_and_every_method_has_its_line() -> None:
    names = [*FITTERS, *CAPTION_FITTERS, *TEXT_METHODS]
    lines = describe_methods()
    assert sorted(lines) == sorted(set(names)) == sorted(names)
    assert lines["pareto_shrink"].endswith("retrained linear attackers lose nothing.")
    assert lines["text_pca"].startswith("Needs word pairs; projects off the top k text directions")
    assert len(set(lines.values())) == len(lines)
    for line in lines.values():
        assert line.endswith(".")
        assert len(line) <= 110


def test_any_fitter_learns_from_captions_alone(planted: Planted, gender: ProtectedAttribute) -> None:
    """caption_leace is leace on attribute.indices(captions)."""
    x, z = planted()
    captions = [CAPTIONS[int(group)] for group in torch.where(torch.arange(600) % 3 == 0, -1, z)]
    labelled = FITTERS["leace"](D, 2).update(x, gender.indices(captions)).eraser
    assert torch.equal(labelled(x), CAPTION_FITTERS["caption_leace"](gender, D).update(x, captions).eraser(x))


def test_the_tables_are_read_only() -> None:
    for table in (FITTERS, CAPTION_FITTERS, TEXT_METHODS):
        with pytest.raises(TypeError):
            table["mine"] = object  # type: ignore[index]
