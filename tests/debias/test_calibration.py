"""Calibration rows and the one entrance to all methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from debias.attributes import ProtectedAttribute
from debias.calibration import Calibration, available_methods, check_method, fit_eraser, method_options
from debias.methods import FITTERS, TEXT_METHODS

Planted = Callable[..., tuple[Tensor, Tensor]]
Probe = Callable[..., float]


def encode_text(texts: Sequence[str]) -> Tensor:
    """Deterministic embeddings ``(n, 12)`` that depend on every word."""
    rows = [np.random.default_rng(list(text.encode())).standard_normal(12) for text in texts]
    return torch.from_numpy(np.array(rows))


def rows_of(planted: Planted, **kwargs: int) -> Calibration:
    x, z = planted(**kwargs)
    return Calibration(x, z, np.arange(len(x)) // 3, y=torch.arange(len(x)) % 3)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.lists(st.integers(-1, 2), min_size=40, max_size=80), st.integers(1, 6), st.integers(0, 99))
def test_a_split_keeps_clusters_whole_and_every_row_once(z: list[int], size: int, seed: int) -> None:
    clusters = np.arange(len(z)) // size
    rows = Calibration(np.arange(len(z), dtype=float)[:, None], z, clusters)
    rest, held_out = rows.split(0.25, seed)
    assert not set(rest.clusters) & set(held_out.clusters)
    assert sorted([*rest.x[:, 0], *held_out.x[:, 0]]) == list(range(len(z)))
    again = rows.split(0.25, seed)[1]
    assert np.array_equal(again.x, held_out.x)


def test_a_rare_group_is_held_out_in_proportion() -> None:
    z = np.array([0] * 1000 + [1] * 10)
    rest, held_out = Calibration(np.zeros((1010, 2)), z).split(0.2, 0)
    assert held_out.counts(2).tolist() == [200, 2]
    assert rest.clusters_per_group(2).tolist() == [800, 8]


def test_narrow_tensors_and_unlabelled_rows() -> None:
    rows = Calibration(torch.ones(4, 2, dtype=torch.bfloat16), torch.tensor([0, -1, 1, 1]), y=[0, 0, -1, 1])
    assert rows.x.dtype == np.float32
    assert rows.labelled.z.tolist() == [0, 1]
    assert Calibration(rows.x, rows.z).labelled.z.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("x", "z", "said"),
    [
        (np.zeros((3, 2)), [0, 1], r"z has shape \(2,\), expected \(3,\)"),
        (np.zeros(3), [0, 1, 1], r"expected \(n, d\)"),
        (np.full((2, 2), np.nan), [0, 1], "finite"),
    ],
)
def test_rows_that_do_not_fit_are_refused(x: np.ndarray, z: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Calibration(x, z)


@pytest.mark.parametrize("method", available_methods())
def test_every_method_is_fitted_and_says_on_what(
    method: str, planted: Planted, gender: ProtectedAttribute
) -> None:
    rows = rows_of(planted, n=240)
    z = rows.z.copy()
    z[:10] = -1
    rows = Calibration(rows.x, z, rows.clusters, rows.y)
    eraser = fit_eraser(method, rows, attribute=gender, encode_text=encode_text)
    assert (eraser.method, eraser.dim) == (method, 12)
    assert eraser.details["attribute"] == gender.describe()
    counts = rows.counts(2)
    assert eraser.details["labelled"] == {"man": counts[0], "woman": counts[1]}
    assert eraser.details["clusters"]["man"] == len(set(rows.clusters[rows.z == 0]))
    assert eraser.details["dropped"] == 10


def test_captions_methods_remove_and_the_control_does_not(
    planted: Planted, gender: ProtectedAttribute, logistic: Probe
) -> None:
    x, z = planted()
    rows = Calibration(x, z)
    found = {
        method: fit_eraser(method, rows, attribute=gender, options={})
        for method in ("caption_leace", "leace", "random_direction")
    }
    assert logistic(x, z) > 0.8
    assert logistic(found["caption_leace"](x), z) < 0.55
    assert logistic(found["random_direction"](x), z) > 0.8
    assert torch.equal(found["caption_leace"](x), found["leace"](x))


def test_options_reach_the_method(planted: Planted, gender: ProtectedAttribute) -> None:
    rows = rows_of(planted)
    options = {"rank": 3, "seed": 5}
    control = fit_eraser("random_direction", rows, attribute=gender, options=options)
    assert control.rank == 3
    assert control.details["options"] == options
    wide = fit_eraser("text_pca", rows, attribute=gender, encode_text=encode_text, options={"k": 2})
    assert wide.rank == 2


def test_unknown_methods_and_options_are_refused_with_what_there_is(
    planted: Planted, gender: ProtectedAttribute
) -> None:
    rows = rows_of(planted)
    with pytest.raises(ValueError, match=r"no method 'magic', expected one of caption_leace, .*text_pca"):
        fit_eraser("magic", rows, attribute=gender)
    with pytest.raises(ValueError, match="text_pca has no option 'q': its options are k"):
        fit_eraser("text_pca", rows, attribute=gender, encode_text=encode_text, options={"q": 1})
    with pytest.raises(ValueError, match="needs a text encoder"):
        fit_eraser("text_pca", rows, attribute=gender)
    with pytest.raises(ValueError, match="splince needs a task label per row"):
        fit_eraser("splince", Calibration(rows.x, rows.z), attribute=gender)
    narrow = Calibration(rows.x[:, :5], rows.z)
    with pytest.raises(ValueError, match="width 12, the vectors have width 5"):
        fit_eraser("text_pca", narrow, attribute=gender, encode_text=encode_text)


def test_what_calibration_gives_is_no_option() -> None:
    for method in {*FITTERS, *TEXT_METHODS}:
        assert not {"dim", "groups", "tasks", "attribute", "encode_text"} & set(method_options(method))


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("leace", {"strength": "abc"}, "option strength of leace is 'abc', expected a number"),
        ("leace", {"strength": None}, "option strength of leace is None, expected a number"),
        ("caption_leace", {"strength": 2}, "strength is 2, expected 0"),
        ("hsic", {"rank": 2.5}, "option rank of hsic is 2.5, expected a whole number"),
        ("hsic", {"rank": 0}, "rank and steps must be at least 1"),
        ("hsic", {"seed": -1}, "option seed of hsic is -1, expected 0 or above"),
        ("text_pca", {"k": "two"}, "option k of text_pca is 'two', expected a whole number"),
        (
            "text_calibrated",
            {"subjects": "cook"},
            "option subjects of text_calibrated is 'cook', expected a list",
        ),
        ("splince", {"strength": True}, "option strength of splince is True, expected a number"),
    ],
)
def test_option_values_are_checked_before_any_data_is_read(
    method: str, options: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        check_method(method, options)
