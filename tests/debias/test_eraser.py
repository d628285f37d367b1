from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from debias import Eraser, EraserFileError, random_direction
from debias import eraser as module
from tests.debias.conftest import any_eraser

EYE = torch.eye(6, dtype=torch.float64)
few = settings(derandomize=True, deadline=None, max_examples=40)


@pytest.fixture
def eraser() -> Eraser:
    return any_eraser(0)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal((3, 5, 6)))


def test_forward_is_the_affine_edit(eraser: Eraser, x: torch.Tensor) -> None:
    """x ↦ x + offset − ((x − mean) right) leftᵀ, as a dense matrix."""
    expected = (x - eraser.mean) @ (EYE - eraser.left @ eraser.right.T).T + eraser.mean + eraser.offset
    torch.testing.assert_close(eraser(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(eraser(x[0, 0]), expected[0, 0], rtol=1e-12, atol=1e-12)
    assert (eraser.dim, eraser.rank) == (6, 2)


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_dtypes_are_computed_in_float64(
    eraser: Eraser, x: torch.Tensor, given: torch.dtype, returned: torch.dtype
) -> None:
    edited = eraser(x.to(given))
    assert edited.dtype == returned
    assert torch.equal(edited, eraser(x.to(given).double()).to(returned))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_numpy_comes_back_as_numpy(eraser: Eraser, x: torch.Tensor, dtype: type) -> None:
    array = x.numpy().astype(dtype)
    array.flags.writeable = False
    edited = eraser(array)
    assert isinstance(edited, np.ndarray)
    np.testing.assert_array_equal(edited, eraser(torch.tensor(array)).numpy(), strict=True)


def test_the_offset_is_zero_by_default(eraser: Eraser, x: torch.Tensor) -> None:
    plain = Eraser(eraser.mean, eraser.left, eraser.right, method="planted", changes_images=True)
    torch.testing.assert_close(plain(x), eraser(x) - eraser.offset, rtol=0, atol=1e-12)
    assert torch.equal(plain(eraser.mean), eraser.mean)


@few
@given(st.integers(0, 10**6), st.integers(0, 3), st.integers(0, 3))
def test_one_edit_after_the_other_is_one_edit(seed: int, first: int, second: int) -> None:
    a, b = any_eraser(seed, rank=first), any_eraser(seed + 1, rank=second, changes_images=False)
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((4, 6)))
    both = a.then(b)
    torch.testing.assert_close(both(x), b(a(x)), rtol=1e-9, atol=1e-9)
    assert both.rank == first + second
    assert (both.method, both.changes_images) == ("planted+planted", True)
    assert both.details == {"steps": [a.spec(), b.spec()]}
    assert not b.then(b).changes_images


@few
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_an_idempotent_edit_after_itself_has_the_same_rank(seed: int, rank: int) -> None:
    once = any_eraser(seed, rank=rank, oblique=True)
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((4, 6)))
    assert once.then(once).rank == rank
    torch.testing.assert_close(once.then(once)(x), once(x), rtol=1e-6, atol=1e-6)


def test_composition_keeps_a_faint_second_edit() -> None:
    """Rank is numerical, not practical: a step of 1e-9 is still there."""
    a, b = random_direction(6, rank=1, seed=0), random_direction(6, rank=1, seed=1).at_strength(1e-9)
    assert a.then(b).rank == 2


def test_erasers_that_do_not_fit_are_not_joined(eraser: Eraser) -> None:
    with pytest.raises(ValueError, match="cannot join an eraser of dim 5 to one of dim 6"):
        eraser.then(random_direction(5, rank=1, seed=0))


@few
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_strength_goes_linearly_from_nothing_to_the_full_edit(seed: int, strength: float) -> None:
    eraser = any_eraser(seed)
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((4, 6)))
    part = eraser.at_strength(strength)
    torch.testing.assert_close(part(x), x + strength * (eraser(x) - x), rtol=1e-12, atol=1e-12)
    assert part.details == {"labelled": [3, 4], "strength": strength}
    assert part.rank == (2 if strength else 0)
    assert eraser.at_strength(0.5).at_strength(0.5).details["strength"] == 0.25


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_another_strength_is_refused(eraser: Eraser, strength: float) -> None:
    with pytest.raises(ValueError, match=r"strength is .*, expected 0 \(no edit\) to 1"):
        eraser.at_strength(strength)


@few
@given(st.integers(0, 10**6), st.floats(-9, 9), st.floats(0, 0.99))
def test_invertible_means_that_the_edit_can_be_undone(seed: int, exponent: float, strength: float) -> None:
    """Whatever the scale that left and right are split at: projections cannot, shrinking and shifting can."""
    projection, scale = any_eraser(seed, oblique=True), 10**exponent
    mixing = torch.from_numpy(np.random.default_rng(seed).standard_normal((2, 2))) + 3 * torch.eye(2)
    left, right = projection.left @ mixing * scale, projection.right @ torch.linalg.inv(mixing).T / scale
    again = Eraser(projection.mean, left, right, method="planted", changes_images=True)
    assert not projection.invertible
    assert not again.invertible
    assert not projection.then(any_eraser(seed, rank=1)).invertible
    assert again.at_strength(strength).invertible


def test_invertible_is_asked_of_the_whole_edit(x: torch.Tensor) -> None:
    """A random edit of rank 2 is undone by solving with I − left rightᵀ; one that shrinks to 1e-9 is not."""
    eraser = any_eraser(3)
    assert eraser.invertible
    undone = torch.linalg.solve(
        EYE - eraser.left @ eraser.right.T, (eraser(x) - eraser.offset - eraser.mean).mT
    )
    torch.testing.assert_close(undone.mT + eraser.mean, x, rtol=1e-9, atol=1e-9)
    assert random_direction(6, rank=6, seed=0).at_strength(0.999).invertible
    assert not random_direction(6, rank=6, seed=0).at_strength(1 - 1e-9).invertible
    assert Eraser(EYE[0], EYE[:, :0], EYE[:, :0], method="none", changes_images=False).invertible


def test_autocast_does_not_reach_it(eraser: Eraser, x: torch.Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = eraser(x.float())
        assert (x[0].float() @ x[0].float().T).dtype == torch.bfloat16
    assert torch.equal(inside, eraser(x.float()))


@pytest.mark.parametrize(
    "cast",
    [
        lambda model: model.to(torch.bfloat16),
        lambda model: model.half(),
        lambda model: model.float(),
        lambda model: model.to("cpu", torch.float16),
        lambda model: model.type(torch.bfloat16),
    ],
)
def test_a_cast_of_the_parent_leaves_the_buffers_alone(eraser: Eraser, x: torch.Tensor, cast: Any) -> None:
    before = eraser(x)
    parent = cast(nn.ModuleDict({"head": nn.Linear(6, 6), "eraser": eraser}))
    assert parent["head"].weight.dtype != torch.float64
    assert {buffer.dtype for buffer in parent["eraser"].buffers()} == {torch.float64}
    assert torch.equal(parent["eraser"](x), before)


def test_it_follows_the_parent_to_another_device(eraser: Eraser) -> None:
    moved = nn.ModuleList([eraser]).to("meta", torch.float16)[0]
    assert {(buffer.device.type, buffer.dtype) for buffer in moved.buffers()} == {("meta", torch.float64)}
    back = moved.to_empty(device="cpu")
    assert {(buffer.device.type, buffer.dtype) for buffer in back.buffers()} == {("cpu", torch.float64)}


def test_it_stays_on_the_cpu_for_devices_without_float64(
    eraser: Eraser, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = eraser(x)
    monkeypatch.setattr(module, "_NO_FLOAT64", frozenset({"meta"}))
    assert torch.equal(eraser.to("meta")(x), before)


def test_it_is_frozen_but_passes_gradients(eraser: Eraser, x: torch.Tensor) -> None:
    assert not list(eraser.parameters())
    leaf = x[0].clone().requires_grad_()
    eraser(leaf).sum().backward()
    expected = (EYE - eraser.right @ eraser.left.T).sum(1).expand(5, 6)
    torch.testing.assert_close(leaf.grad, expected, rtol=1e-12, atol=1e-12)


def test_it_owns_its_numbers() -> None:
    shared = torch.eye(3, dtype=torch.float64)[:, :1]
    eraser = Eraser(torch.zeros(3), shared, shared, method="planted", changes_images=False)
    shared.zero_()
    assert eraser.left[0, 0] == 1
    assert eraser.left.data_ptr() != eraser.right.data_ptr()


def test_spec_restores_through_the_parents_state(eraser: Eraser, x: torch.Tensor) -> None:
    spec = json.loads(json.dumps(eraser.spec()))
    assert spec == {
        "kind": "affine",
        "method": "planted",
        "dim": 6,
        "rank": 2,
        "changes_images": True,
        "details": {"labelled": [3, 4]},
    }
    parent, copy = nn.ModuleDict({"e": eraser}), nn.ModuleDict({"e": Eraser.from_spec(spec)})
    assert torch.equal(copy["e"](x), x)
    copy.load_state_dict(parent.state_dict())
    assert torch.equal(copy["e"](x), eraser(x))
    assert copy["e"].spec() == eraser.spec()


def test_an_incomplete_spec_is_refused(eraser: Eraser) -> None:
    spec = eraser.spec()
    for key, expected in (("rank", "rank is None, expected int"), ("kind", "kind is None, expected affine")):
        del spec[key]
        with pytest.raises(EraserFileError, match=f"eraser spec: {expected}"):
            Eraser.from_spec(spec)


def test_misfits_are_refused(eraser: Eraser) -> None:
    zeros, sides = torch.zeros(3), torch.zeros(3, 1)
    with pytest.raises(ValueError, match=r"x has shape \(2, 5\), expected \(\.\.\., 6\)"):
        eraser(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="mean, left, right have shapes"):
        Eraser(zeros, sides, torch.zeros(3, 2), method="planted", changes_images=True)
    with pytest.raises(ValueError, match=r"offset has shape \(2,\), expected \(3,\)"):
        Eraser(zeros, sides, sides, offset=zeros[:2], method="planted", changes_images=True)
    with pytest.raises(ValueError, match="left holds numbers that are not finite"):
        Eraser(zeros, sides / 0, sides, method="planted", changes_images=True)
    with pytest.raises(TypeError, match="not JSON serializable"):
        Eraser(zeros, sides, sides, method="planted", changes_images=True, details={"x": zeros})
