"""The gate: what rows count for, what is left on fresh data, and when it says no."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from debias.calibration import Calibration
from debias.eraser import Eraser
from debias.gate import HOPELESS, LEVEL, TOLERABLE, judge
from debias.groupwise import GroupwiseEraser
from debias.methods.leace import LeaceFitter, leace
from debias.methods.random_direction import random_direction
from debias.moments import StreamingMoments
from debias.residual import Residual, effective_size, expected_residuals
from debias.separation import edited, separation_change

GROUPS = ("man", "woman")


class World:
    """Gaussian groups under correlated noise; rows of a cluster share ``alike`` of their variance."""

    def __init__(self, d: int, *, squared_distance: float, repeats: int = 1, alike: float = 0.0) -> None:
        rng = np.random.default_rng(d)
        self.mixing = np.eye(d) + rng.standard_normal((d, d)) / d
        direction = rng.standard_normal(d)
        self.gap = self.mixing @ direction * np.sqrt(squared_distance) / np.linalg.norm(direction)
        self.squared_distance, self.repeats, self.alike = squared_distance, repeats, alike

    def draw(self, n: int, seed: int, *, share: float = 0.5) -> Calibration:
        rng = np.random.default_rng(seed)
        clusters = np.repeat(np.arange(n // self.repeats), self.repeats)
        z = (rng.permutation(n // self.repeats) < share * (n // self.repeats)).astype(int)[clusters]
        shared = rng.standard_normal((n // self.repeats, len(self.gap)))[clusters]
        own = rng.standard_normal((n, len(self.gap)))
        noise = np.sqrt(self.alike) * shared + np.sqrt(1 - self.alike) * own
        return Calibration(5 + noise @ self.mixing.T + z[:, None] * self.gap, z, clusters)

    def kept(self, eraser: Eraser) -> float:
        """Share of the squared Mahalanobis distance of the population that an eraser leaves."""
        linear = (torch.eye(eraser.dim) - eraser.left @ eraser.right.mT).numpy()
        gap, covariance = linear @ self.gap, linear @ self.mixing @ self.mixing.T @ linear.T
        return float(gap @ np.linalg.pinv(covariance, rcond=1e-9) @ gap) / self.squared_distance


def fitted(rows: Calibration, groups: int = 2) -> Eraser:
    return LeaceFitter(rows.x.shape[1], groups).update(rows.x, rows.z).eraser


def residual_of(rows: Calibration) -> Residual:
    _, (found,) = expected_residuals(rows, effective_size(rows), goal=TOLERABLE, level=LEVEL)
    return found


@pytest.mark.parametrize(
    ("d", "n", "squared_distance", "repeats", "alike"),
    [
        (8, 200, 0.5, 1, 0.0),
        (16, 100, 1.0, 1, 0.0),
        (32, 400, 1.0, 1, 0.0),
        (16, 600, 2.0, 6, 0.5),
        (48, 360, 8.0, 6, 0.5),
    ],
)
def test_residual_on_fresh_data_follows_the_formula_and_the_interval_covers_it(
    d: int, n: int, squared_distance: float, repeats: int, alike: float
) -> None:
    world = World(d, squared_distance=squared_distance, repeats=repeats, alike=alike)
    kappa = n / (1 + (repeats - 1) * alike) / 4 * squared_distance
    truth, estimates = [], []
    for seed in range(200):
        rows = world.draw(n, seed)
        truth.append(world.kept(fitted(rows)))
        estimates.append(residual_of(rows))
    mean, error = np.mean(truth), np.std(truth) / np.sqrt(len(truth))
    # the noise along the true direction, one of d, takes nothing away: the formula is above by at most that
    assert (d - 1) / (d + kappa) - 3 * error < mean < d / (d + kappa) + 3 * error
    assert np.mean([d / e.value - d for e in estimates]) == pytest.approx(kappa, rel=0.1)
    assert np.mean([e.low <= mean <= e.high for e in estimates]) >= 0.9
    assert np.mean([e.high - e.low for e in estimates]) < 0.6


@settings(derandomize=True, deadline=None, max_examples=8)
@given(st.integers(2, 6), st.integers(2, 10))
def test_copies_count_once(copies: int, d: int) -> None:
    rows = World(d, squared_distance=1, repeats=copies, alike=1.0).draw(120 * copies, seed=0)
    assert effective_size(rows) == pytest.approx(120, rel=0.05)


@pytest.mark.parametrize(("alike", "counts_for"), [(0.0, 1200), (0.5, 1200 / 3.5), (0.9, 1200 / 5.5)])
def test_rows_count_as_far_as_they_are_alike(alike: float, counts_for: float) -> None:
    rows = World(24, squared_distance=1, repeats=6, alike=alike).draw(1200, seed=1)
    assert effective_size(rows) == pytest.approx(counts_for, rel=0.1)
    assert effective_size(rows) <= len(rows)


def test_one_large_cluster_counts_for_less_than_the_number_of_clusters() -> None:
    rng = np.random.default_rng(0)
    clusters = np.concatenate([np.repeat(np.arange(4), 100), np.arange(4, 44)])
    x = rng.standard_normal((44, 6))[clusters] + 0.1 * rng.standard_normal((440, 6))
    rows = Calibration(x, clusters % 2, clusters)
    assert effective_size(rows) < 20 < len(np.unique(clusters))


def test_enough_rows_give_a_residual_of_ten_percent() -> None:
    world = World(12, squared_distance=1, repeats=3, alike=0.6)
    predicted = [residual_of(world.draw(300, seed)).enough for seed in range(30)]
    enough = int(np.median([n for n in predicted if n is not None]))
    left = np.mean([world.kept(fitted(world.draw(enough // 3 * 3, seed))) for seed in range(60)])
    assert left == pytest.approx(TOLERABLE, abs=0.025)
    assert residual_of(World(12, squared_distance=0).draw(300, 2)).enough is None


def test_the_worst_pair_of_three_groups_is_named() -> None:
    rng = np.random.default_rng(0)
    z = np.repeat([0, 1, 2], 200)
    x = rng.standard_normal((600, 8))
    x[:, 0] += np.array([0, 3, 0])[z]
    x[:, 1] += np.array([0, 0, 0.5])[z]
    rows = Calibration(x, z)
    verdict = judge(fitted(rows, 3), rows, groups=("a", "b", "c"))
    assert verdict.decision == "warn"
    assert "'a' and 'c'" in verdict.reasons[0]
    assert verdict.residual is not None
    assert verdict.residual[0] > 5 * 8 / (8 + 100 * 9)


def test_a_good_eraser_acts_and_a_random_direction_does_not() -> None:
    calibration, held_out = World(16, squared_distance=2, repeats=6, alike=0.5).draw(6000, 0).split(0.2, 0)
    verdict = judge(fitted(calibration), calibration, groups=GROUPS, held_out=held_out)
    assert verdict.decision == "act"
    assert verdict.residual is not None
    assert verdict.residual[2] < TOLERABLE
    assert verdict.separation["attacker"].before > 0.3
    assert verdict.separation["attacker"].after < 0.03
    assert json.loads(json.dumps(verdict.to_json()))["decision"] == "act"
    assert "gate: act" in str(verdict)

    control = judge(random_direction(16, rank=1, seed=0), calibration, groups=GROUPS, held_out=held_out)
    assert control.decision != "act"
    assert control.separation["attacker"].kept is not None
    assert control.separation["attacker"].kept[0] > 0.8
    assert "no reduction could be shown" in str(control)


def stretch(world: World, calibration: Calibration) -> Eraser:
    """Pushes the groups three times further apart along their own direction."""
    gap = torch.from_numpy(world.gap / np.linalg.norm(world.gap))[:, None]
    return Eraser(torch.zeros(len(gap)), -2 * gap, gap, method="planted", changes_images=True)


def strip(world: World, calibration: Calibration) -> Eraser:
    """Takes away what has nothing to do with the groups, so that the rest is mostly about them."""
    gap = world.gap / np.linalg.norm(world.gap)
    others = np.linalg.svd(np.eye(len(gap)) - np.outer(gap, gap)).U[:, : len(gap) * 3 // 4]
    basis = torch.from_numpy(others)
    return Eraser(
        torch.from_numpy(calibration.x.mean(0)), basis, basis, method="planted", changes_images=True
    )


@pytest.mark.parametrize("harmful", [stretch, strip])
def test_planted_harm_is_refused(harmful: Callable[[World, Calibration], Eraser]) -> None:
    world = World(16, squared_distance=1)
    calibration, held_out = world.draw(3000, 0).split(0.3, 0)
    verdict = judge(harmful(world, calibration), calibration, groups=GROUPS, held_out=held_out)
    assert verdict.decision == "abstain"
    assert "makes it worse" in str(verdict)
    assert verdict.separation["cosine"].low > 0


def test_what_can_be_undone_is_said_to_keep_everything() -> None:
    calibration, held_out = World(8, squared_distance=2).draw(3000, 0).split(0.2, 0)
    half = fitted(calibration).at_strength(0.5)
    verdict = judge(half, calibration, groups=GROUPS, held_out=held_out)
    assert verdict.decision == "warn"
    assert any("an attacker who trains anew loses nothing" in reason for reason in verdict.reasons)
    assert verdict.residual == pytest.approx((1, 1, 1))
    assert verdict.separation["cosine"].high < 0


def with_rare_group(rare: int, clusters: int) -> Calibration:
    rows = World(8, squared_distance=4).draw(20_000 - rare, 0)
    rng = np.random.default_rng(1)
    gap = np.array([0, 0, 0, 0, 0, 0, 0, 4.0])
    x = np.concatenate([rows.x, 5 + gap + rng.standard_normal((rare, 8))])
    own = 20_000 + np.arange(rare) % clusters
    return Calibration(x, np.append(rows.z, [2] * rare), np.append(rows.clusters, own))


def test_a_group_at_a_thousandth_is_erased() -> None:
    rows = with_rare_group(20, 20)
    eraser = fitted(rows, 3)
    after = edited(eraser, rows)
    means = np.stack([after[rows.z == group].mean(0) for group in range(3)])
    assert np.abs(means - means[0]).max() < 1e-9
    assert judge(eraser, rows, groups=(*GROUPS, "child")).decision != "abstain"


def test_a_group_that_was_skipped_or_is_too_rare_is_named() -> None:
    rows = with_rare_group(20, 20)
    skipping = leace(StreamingMoments(8, 2).update(rows.x[rows.z < 2], rows.z[rows.z < 2]))
    verdict = judge(skipping, rows, groups=(*GROUPS, "child"))
    assert verdict.decision == "abstain"
    assert "group 'child' keeps" in verdict.reasons[0]

    single = with_rare_group(20, 1)
    verdict = judge(fitted(single, 3), single, groups=(*GROUPS, "child"))
    assert verdict.decision == "abstain"
    assert "group 'child' has 20 labelled rows in 1 clusters" in verdict.reasons[0]


def test_too_few_rows_for_the_width() -> None:
    rows = World(32, squared_distance=2, repeats=6, alike=1.0).draw(180, 0)
    verdict = judge(fitted(rows), rows, groups=GROUPS)
    assert verdict.decision == "warn"
    assert verdict.residual is None
    assert "cannot be estimated: n_eff is" in verdict.reasons[0]


@pytest.mark.parametrize(("seed", "decision"), [(2, "abstain"), (3, "warn")])
def test_no_difference_to_remove(seed: int, decision: str) -> None:
    rows = World(64, squared_distance=0).draw(4000, seed)
    verdict = judge(fitted(rows), rows, groups=GROUPS)
    assert verdict.decision == decision
    assert verdict.residual is not None
    assert (verdict.residual[1] >= HOPELESS) == (decision == "abstain")
    assert verdict.residual[2] == 1
    assert ("do not show what to remove" in str(verdict)) == (decision == "abstain")


def test_one_group_alone_is_refused() -> None:
    rows = Calibration(np.random.default_rng(0).standard_normal((20, 3)), np.zeros(20))
    verdict = judge(random_direction(3, rank=1, seed=0), rows, groups=GROUPS)
    assert verdict.decision == "abstain"
    assert "group 'woman' has 0 labelled rows" in verdict.reasons[0]


def test_an_eraser_that_needs_the_group_is_told_it() -> None:
    calibration, held_out = World(8, squared_distance=2).draw(2000, 0).split(0.2, 0)
    means = torch.stack([torch.from_numpy(calibration.x[calibration.z == g].mean(0)) for g in range(2)])
    eraser = GroupwiseEraser(
        means, torch.zeros(2, 8, 8), means.mean(0) - means, method="quadratic", changes_images=True
    )
    verdict = judge(eraser, calibration, groups=GROUPS, held_out=held_out)
    assert verdict.decision == "act"
    assert verdict.separation["attacker"].high < 0


def test_separation_has_no_noise_of_its_own_and_its_interval_covers() -> None:
    gap, edit = np.array([1.0, 0.5, 0, 0, 0, 0]), np.diag([0.3, 1, 1, 1, 1, 0])
    true_before, true_after = 0.25 * (gap @ gap), 0.25 * np.sum((edit @ gap) ** 2)
    covered, before, nothing = [], [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        clusters = np.repeat(np.arange(60), 3)
        z = clusters % 2
        noise = rng.standard_normal((60, 6))[clusters] + rng.standard_normal((180, 6))
        x = noise + z[:, None] * gap
        change = separation_change(x, x @ edit, z, clusters, resamples=200, level=0.95, seed=0)
        null = separation_change(noise, noise @ edit, z, clusters, resamples=100, level=0.95, seed=0)
        assert change is not None
        assert null is not None
        covered.append(change.low <= true_after - true_before <= change.high)
        before.append(change.before)
        nothing.append(null.before)
    assert np.mean(covered) > 0.88
    assert abs(np.mean(before) - true_before) < 3 * np.std(before) / np.sqrt(len(before))
    assert abs(np.mean(nothing)) < 3 * np.std(nothing) / np.sqrt(len(nothing))


def test_an_edit_that_changes_nothing_is_refused() -> None:
    x, z = np.random.default_rng(0).standard_normal((40, 3)), np.arange(40) % 2
    rows = Calibration(x, z)
    eraser = LeaceFitter(3, 2).update(x, z).eraser
    assert "the edit changes nothing" not in judge(eraser, rows, groups=("a", "b")).reasons
    verdict = judge(eraser.at_strength(0), rows, groups=("a", "b"))
    assert verdict.decision == "abstain"
    assert verdict.reasons[0] == "the edit changes nothing"


def test_held_out_rows_of_one_group_or_none_are_no_check() -> None:
    x, z = np.random.default_rng(0).standard_normal((40, 3)), np.arange(40) % 2
    rows = Calibration(x, z)
    eraser = LeaceFitter(3, 2).update(x, z).eraser
    for held_out in (rows.rows(z == 5), rows.rows(z == 0)):
        verdict = judge(eraser, rows, groups=("a", "b"), held_out=held_out)
        assert any(reason.startswith("harm was not checked") for reason in verdict.reasons)
