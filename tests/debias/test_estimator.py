from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from torch import Tensor

from debias import LeaceFitter, random_direction
from debias import estimator as module
from debias.estimator import AttributeEraser
from debias.methods.quadratic import QuadraticFitter

Planted = Callable[..., tuple[Tensor, Tensor]]
Probe = Callable[..., float]
D = 12
NAMES = np.array(["blond", "dark", "red"], dtype=object)


@pytest.fixture
def rows(planted: Planted) -> tuple[np.ndarray, np.ndarray]:
    """Rows and their groups' names."""
    x, z = planted((0.5, 0.3, 0.2))
    return x.numpy(), NAMES[z.numpy()]


class TaskFitter(LeaceFitter):
    needs_task = True


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> None:
    fitters = {"leace": LeaceFitter, "quadratic": QuadraticFitter, "tasked": TaskFitter}
    monkeypatch.setattr(module, "FITTERS", fitters)


def test_a_probe_behind_it_in_a_pipeline_is_at_chance(
    rows: tuple[np.ndarray, np.ndarray], least_squares: Probe
) -> None:
    x, y = rows
    probe = LogisticRegression(class_weight="balanced", max_iter=5000)
    control = random_direction(D, rank=2, mean=torch.from_numpy(x.mean(0)), seed=0)
    for edited in (x, control(x)):
        assert probe.fit(edited, y).score(edited, y) > 0.6
    piped = make_pipeline(AttributeEraser(), probe).fit(x, y)
    recalls = [piped.predict(x)[y == name].tolist().count(name) / sum(y == name) for name in NAMES]
    assert np.mean(recalls) == pytest.approx(1 / 3, abs=0.01)
    z = torch.from_numpy(np.searchsorted(NAMES.astype(str), y.astype(str)))
    assert least_squares(torch.from_numpy(x), z) > 0.05
    assert least_squares(torch.from_numpy(piped[0].transform(x)), z) < 1e-6


def test_it_is_the_fitter_by_that_name(rows: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = rows
    fitted = AttributeEraser(strength=0.5).fit(x, y)
    z = np.searchsorted(NAMES.astype(str), y.astype(str))
    expected = LeaceFitter(D, 3).update(x, z).eraser.at_strength(0.5)
    np.testing.assert_array_equal(fitted.transform(x), expected(x))
    assert fitted.eraser_.spec() == expected.spec()
    assert fitted.classes_.tolist() == ["blond", "dark", "red"]
    assert fitted.n_features_in_ == D
    design = torch.tensor([[0.0], [1.0], [1.0]])
    assert AttributeEraser(options={"design": design}).fit(x, y).eraser_.rank == 1


def test_partial_fit_equals_fit(rows: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = rows
    whole = AttributeEraser().fit(x, y)
    order = np.argsort(y, kind="stable")  # a first chunk of one group alone
    parts = AttributeEraser()
    for index in np.array_split(order, 5):
        parts.partial_fit(x[index], y[index], classes=["blond", "dark", "red"])
    np.testing.assert_allclose(parts.transform(x), whole.transform(x), rtol=0, atol=1e-10)
    before = parts.transform(x)
    parts.partial_fit(x[:50] + 5, y[:50])
    assert np.abs(parts.transform(x) - before).max() > 1e-3
    np.testing.assert_allclose(parts.fit(x, y).transform(x), before, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "rename",
    [
        lambda y: np.searchsorted(NAMES.astype(str), y.astype(str)),
        lambda y: torch.from_numpy(np.searchsorted(NAMES.astype(str), y.astype(str))),
        lambda y: y.astype(str),
        lambda y: [("hair", name) for name in y],
        lambda y: [{"blond": 1, "dark": 2.5, "red": "red"}[name] for name in y],
    ],
)
def test_labels_of_any_hashable_kind(
    rows: tuple[np.ndarray, np.ndarray], rename: Callable[[np.ndarray], Any]
) -> None:
    x, y = rows
    renamed = AttributeEraser().fit(x, rename(y))
    assert len(renamed.classes_) == 3
    np.testing.assert_allclose(
        renamed.transform(x), AttributeEraser().fit(x, y).transform(x), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("missing", [None, -1, float("nan")])
def test_unlabelled_rows_enter_nothing(rows: tuple[np.ndarray, np.ndarray], missing: Any) -> None:
    x, y = rows
    some = y.copy()
    some[::3] = missing
    kept = np.arange(len(y)) % 3 > 0
    expected = AttributeEraser().fit(x[kept], y[kept])
    fitted = AttributeEraser().fit(x, some)
    assert fitted.classes_.tolist() == expected.classes_.tolist()
    np.testing.assert_array_equal(fitted.transform(x), expected.transform(x))


def test_groups_say_the_order_and_may_make_a_group_of_minus_one(rows: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = rows
    signs = np.where(y == "red", -1, 1)
    fitted = AttributeEraser(groups=[1, -1]).fit(x, signs)
    assert fitted.eraser_.details["labelled"] == [480, 120]
    assert AttributeEraser(groups=(1, -1)).partial_fit(x, signs).eraser_.details["labelled"] == [480, 120]


def test_clone_and_parameters_are_scikit_learns() -> None:
    eraser = AttributeEraser("leace", strength=0.3, options={"a": 1}, groups=["x", "y"])
    assert clone(eraser).get_params() == eraser.get_params()
    assert eraser.set_params(strength=0.1).strength == 0.1


def test_it_keeps_scikit_learns_contract() -> None:
    """All of its checks but one: partial_fit needs to be told the groups, as a classifier's is."""
    found = check_estimator(AttributeEraser(), on_fail=None, on_skip=None)
    assert len(found) > 40
    assert {one["check_name"] for one in found if one["status"] == "failed"} == {
        "check_n_features_in_after_fitting"
    }


@pytest.mark.usefixtures("methods")
def test_a_method_that_needs_the_group_of_every_row_says_so(rows: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = rows
    fitted = AttributeEraser("quadratic").fit(x, y)
    with pytest.raises(ValueError, match="a quadratic eraser edits each group in its own way"):
        fitted.transform(x)
    z = np.searchsorted(NAMES.astype(str), y.astype(str))
    assert fitted.eraser_(x, z).shape == x.shape


@pytest.mark.usefixtures("methods")
@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        (
            lambda x, y: AttributeEraser("magic").fit(x, y),
            "method is 'magic', expected one of leace, quadratic",
        ),
        (lambda x, y: AttributeEraser("tasked").fit(x, y), "'tasked' needs task labels too: use TaskFitter"),
        (lambda x, y: AttributeEraser(strength=2).fit(x, y), "strength is 2, expected 0"),
        (lambda x, y: AttributeEraser().fit(x, None), "requires y to be passed"),
        (lambda x, y: AttributeEraser().fit(x, y[:5]), r"z has shape \(5,\), expected \(600,\)"),
        (lambda x, y: AttributeEraser().fit(x, x), "y must hold one label per row"),
        (lambda x, y: AttributeEraser().fit(x, ["a"] * 600), "y has 1 class, expected at least two groups"),
        (lambda x, y: AttributeEraser().fit(x, [None] * 600), "y has 0 classes, expected at least two"),
        (lambda x, y: AttributeEraser(groups=["a", "b"]).fit(x, y), "y has label .*, expected one of"),
        (lambda x, y: AttributeEraser().fit(x * np.nan, y), "X holds NaN or infinity"),
        (lambda x, y: AttributeEraser().fit(x[0], y), "Expected 2D array, got 1D array"),
        (lambda x, y: AttributeEraser().partial_fit(x, y), "the first partial_fit needs classes"),
        (
            lambda x, y: AttributeEraser().partial_fit(x, y, NAMES).partial_fit(x, y, NAMES[:2]),
            r"classes is \['blond', 'dark'\], the first partial_fit had",
        ),
        (
            lambda x, y: AttributeEraser().fit(x, y).transform(x[:, :3]),
            "X has 3 features, but AttributeEraser",
        ),
        (lambda x, y: AttributeEraser().fit(x, y).transform(x * np.inf), "X holds NaN or infinity"),
    ],
)
def test_misfits_are_refused(
    rows: tuple[np.ndarray, np.ndarray], fit: Callable[[np.ndarray, np.ndarray], Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        fit(*rows)


def test_nothing_before_fit() -> None:
    for use in (lambda: AttributeEraser().transform(np.zeros((2, 2))), lambda: AttributeEraser().eraser_):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            use()
