from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from debias import Eraser, EraserFileError, random_direction
from debias.groupwise import GroupwiseEraser


@pytest.fixture
def eraser() -> GroupwiseEraser:
    """Two groups in 5 dimensions; the edit of the second changes three directions, of the first one."""
    rng = np.random.default_rng(0)
    means, offsets, sides = (
        torch.from_numpy(rng.standard_normal(shape)) for shape in [(2, 5), (2, 5), (2, 5, 3)]
    )
    sides[0, :, 1:] = 0
    return GroupwiseEraser(
        means, sides @ sides.mT, offsets, method="planted", changes_images=True, details={"n": 2}
    )


@pytest.fixture
def x() -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal((6, 5)))


Z = torch.tensor([0, 1, 1, 0, 1, 0])


def test_each_row_gets_the_edit_of_its_group(eraser: GroupwiseEraser, x: Tensor) -> None:
    """x ↦ x + offset_z − M_z (x − mean_z), row by row; in float64 inside and in the dtype that came in."""
    expected = torch.stack(
        [
            row + eraser.offsets[z] - eraser.matrices[z] @ (row - eraser.means[z])
            for row, z in zip(x, Z, strict=True)
        ]
    )
    torch.testing.assert_close(eraser(x, Z), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(eraser(x.half(), Z), eraser(x.half().double(), Z).float())
    edited = eraser(x.numpy(), Z.numpy().astype(np.int32))
    assert isinstance(edited, np.ndarray)
    np.testing.assert_array_equal(edited, eraser(x, Z).numpy())
    assert (eraser.dim, eraser.groups, eraser.rank, eraser.invertible) == (5, 2, 3, False)


def test_strength_goes_linearly_from_nothing_to_the_full_edit(eraser: GroupwiseEraser, x: Tensor) -> None:
    for strength in (0, 0.3, 1):
        part = eraser.at_strength(strength)
        torch.testing.assert_close(part(x, Z), x + strength * (eraser(x, Z) - x), rtol=1e-12, atol=1e-12)
        assert part.details == {"n": 2, "strength": strength}
    with pytest.raises(ValueError, match="strength is 2, expected 0"):
        eraser.at_strength(2)


def test_gradients_pass(eraser: GroupwiseEraser, x: Tensor) -> None:
    leaf = x.clone().requires_grad_()
    eraser(leaf, Z).sum().backward()
    expected = torch.stack([1 - eraser.matrices[z].sum(0) for z in Z])
    torch.testing.assert_close(leaf.grad, expected, rtol=1e-12, atol=1e-12)


def test_load_gives_back_the_right_class(eraser: GroupwiseEraser, x: Tensor, tmp_path: Path) -> None:
    eraser.save(tmp_path)
    loaded = Eraser.load(tmp_path)
    assert isinstance(loaded, GroupwiseEraser)
    assert torch.equal(loaded(x, Z), eraser(x, Z))
    assert loaded.spec() == eraser.spec()
    random_direction(5, rank=1, seed=0).save(tmp_path)
    assert type(GroupwiseEraser.load(tmp_path)) is Eraser


def test_spec_restores_through_the_parents_state_and_casts_leave_it_alone(
    eraser: GroupwiseEraser, x: Tensor
) -> None:
    spec = json.loads(json.dumps(eraser.spec()))
    assert spec == {
        "kind": "groupwise",
        "method": "planted",
        "dim": 5,
        "rank": 3,
        "groups": 2,
        "changes_images": True,
        "details": {"n": 2},
    }
    copy = Eraser.from_spec(spec)
    assert torch.equal(copy(x, Z), x)
    parent = nn.ModuleDict({"e": copy})
    parent.load_state_dict(nn.ModuleDict({"e": eraser}).state_dict())
    parent.half()
    assert torch.equal(copy(x, Z), eraser(x, Z))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"groups": "2"}, "groups is '2', expected int"),
        ({"groups": 3}, "holds .* expected"),
        ({"kind": "affine"}, "holds .* expected"),
    ],
)
def test_damaged_files_are_refused_in_one_line(
    eraser: GroupwiseEraser, tmp_path: Path, changes: dict[str, object], expected: str
) -> None:
    eraser.save(tmp_path)
    path = tmp_path / "eraser.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(EraserFileError, match=expected) as caught:
        Eraser.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_group_of_every_row_is_needed(eraser: GroupwiseEraser, x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"edits each group in its own way: call it with \(x, z\)"):
        eraser(x)
    for z in (torch.tensor([0, 1, 1, 0, 1, -1]), torch.tensor([0, 1, 1, 0, 1, 2]), Z.double(), Z > 0):
        with pytest.raises(ValueError, match="z must be the group of every row, integers from 0 to 1"):
            eraser(x, z)
    with pytest.raises(ValueError, match=r"x and z have shapes \(6, 5\) and \(2,\)"):
        eraser(x, Z[:2])
    with pytest.raises(ValueError, match=r"x has shape \(6, 4\), expected \(\.\.\., 5\)"):
        eraser(x[:, :4], Z)


def test_it_is_not_joined_with_an_affine_one(eraser: GroupwiseEraser) -> None:
    affine = random_direction(5, rank=1, seed=0)
    for first, second in ((eraser, affine), (affine, eraser)):
        with pytest.raises(ValueError, match=r"cannot join a .*groupwise.* eraser, expected two affine ones"):
            first.then(second)


def test_misfits_are_refused(eraser: GroupwiseEraser) -> None:
    with pytest.raises(
        ValueError, match=r"means, matrices, offsets have shapes \[\(2, 5\), \(2, 5\), \(2, 5\)\]"
    ):
        GroupwiseEraser(eraser.means, eraser.means, eraser.means, method="planted", changes_images=True)
    with pytest.raises(ValueError, match="offsets holds numbers that are not finite"):
        GroupwiseEraser(
            eraser.means, eraser.matrices, eraser.offsets / 0, method="planted", changes_images=True
        )
