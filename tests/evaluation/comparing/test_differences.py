"""Differences of audits: which rows are compared, when they are paired, and Holm's correction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from evaluation.comparing.differences import compared, delivered_rows, differences
from evaluation.inference import Inference, bootstrap_mean, holm
from evaluation.results import AuditResult, Estimate

ITEMS = np.arange(60)
FEW = Inference(resamples=200, permutations=1)
NAMES = ("retrieval/i2t_recall_10", "retrieval/t2i_recall_10", "zero_shot/role_top1", "probe/role_accuracy")


def measured(outcomes: np.ndarray, name: str, **fields: object) -> Estimate:
    found = bootstrap_mean(outcomes, ITEMS, FEW)
    low, high = found.interval(FEW)
    given = {"split": "test", "system": "eraser off", "n": len(outcomes), "n_clusters": len(ITEMS)}
    return Estimate(
        name=name,
        value=found.value,
        low=low,
        high=high,
        draws=found.draws,
        higher_is_better=True,
        **(given | fields),  # type: ignore[arg-type]
    )


def audited(rows: list[Estimate], *, digest: str = "d") -> AuditResult:
    return AuditResult(
        rows=tuple(rows), attribute={}, data={"digest": digest}, model={}, training={}, provenance={}
    )


def model(rng: np.random.Generator, easy: np.ndarray, shift: float = 0.0) -> AuditResult:
    """Four numbers of a model that answers rightly by an item's own chance, plus ``shift``."""
    return audited([measured((rng.random(len(ITEMS)) < easy + shift).astype(float), name) for name in NAMES])


def test_what_users_get_is_compared_without_changes_within_the_audit(audit: AuditResult) -> None:
    rows = delivered_rows(audit)
    assert rows
    assert {row.system for row in rows.values()} == {"eraser on"}
    assert not any(name.endswith("_change") for name, *_ in rows)
    plain = replace(audit, rows=tuple(row for row in audit.rows if row.system != "eraser on"))
    assert {row.system for row in delivered_rows(plain).values()} == {"eraser off"}


def test_seeds_of_one_configuration_are_told_apart_in_one_family_of_twenty() -> None:
    rng = np.random.default_rng(0)
    single, family = [], []
    for _ in range(250):
        easy = rng.uniform(0.2, 0.8, len(ITEMS))
        found = differences([model(rng, easy)], [model(rng, easy)])
        assert all(row.paired for row in found)
        single += [row.p_value < 0.05 for row in found]  # type: ignore[operator]
        family.append(any(row.p_adjusted < 0.05 for row in found if row.name.startswith("retrieval")))  # type: ignore[operator]
    assert 0.03 <= np.mean(single) <= 0.075
    assert np.mean(family) <= 0.08


def test_a_better_model_is_found_and_the_sign_is_after_minus_before() -> None:
    rng = np.random.default_rng(1)
    easy = np.full(len(ITEMS), 0.3)
    found = differences([model(rng, easy)], [model(rng, easy, shift=0.5)])
    assert all(row.value > 0 and row.low > 0 and row.p_adjusted < 0.01 for row in found)  # type: ignore[operator]
    assert [row.value for row in found] == pytest.approx([row.after - row.before for row in found])


def test_other_data_or_sizes_or_missing_draws_are_not_paired() -> None:
    rng = np.random.default_rng(2)
    one, other = (audited([measured(rng.random(len(ITEMS)), "a/b")]) for _ in range(2))
    assert differences([one], [other])[0].paired
    for unlike in (
        replace(other, data={"digest": "e"}),
        replace(other, data={}),
        replace(other, rows=(replace(other.rows[0], n_clusters=59),)),
        replace(other, rows=(replace(other.rows[0], draws=None),)),
    ):
        (row,) = differences([one], [unlike])
        assert not row.paired
        assert row.low is not None


def test_rows_are_matched_by_name_split_and_group_and_need_every_seed() -> None:
    rng = np.random.default_rng(3)
    rows = [
        measured(rng.random(len(ITEMS)), "groups/accuracy", group="woman"),
        measured(rng.random(len(ITEMS)), "groups/accuracy", group="man"),
        measured(rng.random(len(ITEMS)), "only/here"),
        measured(rng.random(len(ITEMS)), "groups/accuracy", group="man", split="openmoji"),
    ]
    found = differences([audited(rows)], [audited(rows[:2]), audited([rows[0], rows[3]])])
    assert [(row.name, row.group, row.split) for row in found] == [("groups/accuracy", "woman", "test")]


def test_holm_runs_over_a_family_in_all_configurations() -> None:
    rng = np.random.default_rng(4)
    easy = np.full(len(ITEMS), 0.4)
    base = model(rng, easy)
    found = compared([base], {"b": [model(rng, easy, 0.15)], "c": [model(rng, easy, 0.2)]})
    retrieval = [row for row in found if row.name.startswith("retrieval")]
    assert len(retrieval) == 4
    expected = holm(np.array([row.p_value for row in retrieval]))
    assert [row.p_adjusted for row in retrieval] == pytest.approx(expected.tolist())
    alone = next(row for row in found if row.name.startswith("probe") and row.configuration == "b")
    pair = [row.p_value for row in found if row.name.startswith("probe")]
    assert alone.p_adjusted == pytest.approx(holm(np.array(pair))[0])
    assert (np.array(expected) >= false_discovery_control([row.p_value for row in retrieval]) - 1e-12).all()


def test_a_configuration_without_audits_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one audit"):
        compared([], {})
