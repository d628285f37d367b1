from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from evaluation.report import narrative, wording
from evaluation.results import AuditResult, Estimate

Swap = Callable[..., AuditResult]
MAX = "leakage/gender/embedding/max"


def changed(audit: AuditResult, name: str, system: str, bounds: tuple[float, float] | None) -> Estimate:
    low, high = bounds or (None, None)
    return replace(audit.find(f"{name}_change", system=system), low=low, high=high)


def without(audit: AuditResult, *names: str) -> AuditResult:
    return replace(audit, rows=tuple(row for row in audit.rows if row.name not in names))


def test_summary_says_what_the_fixture_holds(audit: AuditResult) -> None:
    leakage, attackers, retrieval = narrative.summary(audit)
    assert leakage == (
        "Leakage of perceived gender from the image embedding (maximum over attackers) was reduced from "
        ".78 [.71, .85] to .74 [.67, .81] (change −.041 [−.073, −.009]; chance .52); it lies above its null "
        "band [.46, .58]; removing random directions instead changed it by −.002 [−.020, .016]."
    )
    assert attackers == (
        "With the eraser on, nonlinear attackers (RBF SVM .72 [.65, .79], MLP .74 [.67, .81]) still find "
        "perceived gender above chance; the linear attacker (logistic .53 [.46, .60]) cannot be told from "
        "chance."
    )
    assert retrieval.startswith(
        "No change could be shown in image-to-text recall at 10: 30.4% [24.9, 35.9] with the eraser off, "
        "29.2% [23.7, 34.7] with it on (change −1.20 [−2.70, 0.30] points; chance 4.3%); no change"
    )


@pytest.mark.parametrize(
    ("bounds", "says"),
    [
        ((-0.09, -0.01), "was reduced from"),
        ((0.01, 0.09), "increased from"),
        ((-0.09, 0.01), "No change could be shown in"),
        ((-0.09, 0.0), "No change could be shown in"),
        (None, "a difference not tested"),
    ],
)
def test_only_an_interval_without_zero_moves_leakage(
    audit: AuditResult, swap: Swap, bounds: tuple[float, float] | None, says: str
) -> None:
    text = narrative.leakage(swap(changed(audit, MAX, "eraser on", bounds)), split="test")
    assert says in text
    others = {"was reduced from", "increased from", "No change could be shown in", "not tested"}
    assert sum(other in text for other in others) == 1
    assert not any(word in text.lower() for word in ("debiased", "fair", "unbiased", "removed"))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"value": 0.6}, "it lies above its null band [.46, .58]"),
        ({"value": 0.57}, "it cannot be told from chance (null band [.46, .58])"),
        ({"null_low": None, "null_high": None, "low": 0.6}, "it lies above chance"),
        ({"null_low": None, "null_high": None, "low": 0.5}, "it cannot be told from chance;"),
        ({"null_low": None, "null_high": None, "null": None}, "no null was computed"),
    ],
)
def test_remaining_leakage_is_compared_with_its_null(
    audit: AuditResult, swap: Swap, fields: dict[str, float | None], says: str
) -> None:
    row = replace(audit.find(MAX, system="eraser on"), **fields)  # type: ignore[arg-type]
    assert says in narrative.leakage(swap(row), split="test")


def test_random_directions_share_the_credit(audit: AuditResult, swap: Swap) -> None:
    control = changed(audit, MAX, "random direction", (-0.05, -0.01))
    both = narrative.leakage(swap(control), split="test")
    assert "removing random directions instead also reduced it, by −.002 [−.050, −.010]" in both
    alone = swap(control, changed(audit, MAX, "eraser on", (-0.05, 0.01)))
    assert "random directions instead changed it by" in narrative.leakage(alone, split="test")


def test_model_without_eraser(audit: AuditResult) -> None:
    rows = tuple(row for row in audit.rows if row.system not in {"eraser on", "random direction"})
    bare = replace(audit, rows=rows, model={})
    leakage, attackers, retrieval = narrative.summary(bare)
    assert "is .78 [.71, .85] with the eraser off (chance .52)" in leakage
    assert leakage.endswith("no eraser was measured.")
    assert attackers.startswith(
        "With the eraser off, the linear attacker (logistic .75 [.68, .82]) and nonlinear"
    )
    assert "Image-to-text recall at 10 is 30.4%" in retrieval
    assert narrative.fitted(bare) == ""


def test_an_edit_that_leaves_images_alone_says_so(audit: AuditResult) -> None:
    model = {**audit.model, "image_features_changed": False}
    assert "cannot change" in narrative.leakage(replace(audit, model=model), split="test")
    assert "cannot change" not in narrative.leakage(audit, split="test")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            (0.70, 0.72, 0.74),
            "the linear attacker (logistic .70 [.46, .60]) and nonlinear attackers (RBF SVM",
        ),
        ((0.70, 0.51, 0.52), "the linear attacker (logistic .70 [.46, .60]) still finds perceived gender"),
        ((0.53, 0.51, 0.74), "nonlinear attackers (MLP .74 [.67, .81]) still find"),
        ((0.53, 0.51, 0.52), "does not show that nothing is left"),
    ],
)
def test_attackers_are_named_by_what_they_find(
    audit: AuditResult, swap: Swap, values: tuple[float, ...], says: str
) -> None:
    names = ("logistic", "rbf_svm", "mlp")
    prefix = "leakage/gender/embedding/"
    rows = [
        replace(audit.find(prefix + name, system="eraser on"), value=value)
        for name, value in zip(names, values, strict=True)
    ]
    text = narrative.attackers(swap(*rows), split="test")
    assert says in text
    assert all(wording.ATTACKERS[name] in text for name in names)
    assert ("still find" in text) == (max(values) > 0.6)


def test_attackers_without_a_null(audit: AuditResult, swap: Swap) -> None:
    row = audit.find("leakage/gender/embedding/mlp", system="eraser on")
    text = narrative.attackers(swap(replace(row, null=None, null_low=None, null_high=None)), split="test")
    assert "nonlinear attackers (MLP .74 [.67, .81]) had no null to compare with" in text


@pytest.mark.parametrize(
    ("bounds", "says"), [((-0.05, -0.01), "recall at 10 fell from"), ((0.01, 0.05), "recall at 10 rose from")]
)
def test_retrieval_moves_only_with_its_interval(
    audit: AuditResult, swap: Swap, bounds: tuple[float, float], says: str
) -> None:
    row = changed(audit, "retrieval/i2t_recall_10", "eraser on", bounds)
    text = narrative.cost(swap(row), split="test")
    assert text.startswith(f"Image-to-text {says} 30.4%")
    assert "; no change could be shown in text-to-image recall at 10" in text


def test_other_splits_are_named(audit: AuditResult) -> None:
    assert "on OpenMoji (style shift)" in narrative.leakage(audit, split="openmoji")
    assert "on OpenMoji (style shift)" in narrative.cost(audit, split="openmoji")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "which cannot be told from chance: what a linear attacker finds on other data"),
        ({"value": 0.7}, "so even there the erasure leaves something to a linear attacker"),
        ({"null": None, "null_low": None, "null_high": None}, "without a null"),
    ],
)
def test_fitted_data(audit: AuditResult, swap: Swap, fields: dict[str, float | None], says: str) -> None:
    row = audit.find("leakage/gender/embedding_fitted/logistic", system="eraser on", split="train")
    text = narrative.fitted(swap(replace(row, **fields)))  # type: ignore[arg-type]
    assert says in text
    assert "(.93 [.86, 1.00] with it off)" in text


def test_geometry_turns_the_angle_into_a_share(audit: AuditResult, swap: Swap) -> None:
    angle = audit.find("geometry/gender/cross_modal_angle", system="eraser off")
    text = narrative.geometry(swap(replace(angle, value=60.0)))
    assert "60.0° [67.2, 75.6] apart (random directions: 87.1° [83.0, 89.9])" in text
    assert "takes out 25% [6, 15] of the squared length" in text
    assert wording.beyond_chance(replace(angle, p_value=0.001)) is True
    assert wording.beyond_chance(replace(angle, p_value=0.4)) is False
    assert wording.beyond_chance(angle) is None


def test_nothing_measured(audit: AuditResult) -> None:
    bare = replace(audit, rows=(), attribute={})
    assert narrative.summary(bare) == (
        "Leakage of a protected attribute from the image embedding (maximum over attackers) was not "
        "measured.",
        "No attacker was compared with chance.",
        "Utility was not measured.",
    )
    assert narrative.geometry(bare) == ""


@pytest.mark.parametrize(
    ("value", "printed"), [(0.784, ".78"), (-0.004, ".00"), (1.0, "1.00"), (-0.126, "−.13"), (0.0, ".00")]
)
def test_fractions(audit: AuditResult, value: float, printed: str) -> None:
    assert wording.value(replace(audit.find(MAX, system="eraser on"), value=value)) == printed


@pytest.mark.parametrize(("value", "printed"), [(0.304, "30.4%"), (0.004, "0.4%"), (1.0, "100.0%")])
def test_percentages(audit: AuditResult, value: float, printed: str) -> None:
    row = audit.find("retrieval/i2t_recall_10", system="eraser on")
    assert wording.value(replace(row, value=value)) == printed


def test_a_start_inside_the_null_band_is_said(audit: AuditResult, swap: Swap) -> None:
    off = audit.find("leakage/gender/embedding/max", system="eraser off")
    assert "with the eraser off it could not be told from chance" not in narrative.leakage(
        audit, split="test"
    )
    assert off.null is not None
    inside = swap(replace(off, value=off.null))
    assert "with the eraser off it could not be told from chance" in narrative.leakage(inside, split="test")


def test_what_was_done_in_training_and_what_the_gate_said(audit: AuditResult) -> None:
    told = replace(
        audit,
        training={**audit.training, "captions": "of 9 pictures, 2 of 3 captions reworded: man → person 2"},
        model={**audit.model, "gate": {"embedding": {"decision": "warn", "reasons": ["few rows"]}}},
    )
    said = narrative.mitigation(told)
    assert said.startswith("Trained with mitigation (of 9 pictures, 2 of 3 captions reworded); eraser ")
    assert "the gate before the eraser said embedding: warn" in said
    assert "compare with a run without --debias" in said
    assert said not in narrative.summary(told)
    assert narrative.mitigation(audit) == ""


def test_without_captions_the_cost_is_told_by_a_task_that_is_not_the_attribute_itself(
    audit: AuditResult,
) -> None:
    rest = tuple(row for row in audit.rows if not row.name.startswith("retrieval/"))
    text = narrative.cost(replace(audit, rows=rest), split="test")
    assert text.startswith("Zero-shot accuracy (Role, top 1) is 21.3% [15.8, 26.8] with the eraser off and ")
    probes = tuple(row for row in rest if not row.name.startswith("zero_shot/role"))
    text = narrative.cost(replace(audit, rows=probes), split="test")
    assert text.startswith("Probe accuracy (Subgroup accuracy) is 32.2%")


def test_rounding_errors_are_no_change(audit: AuditResult, swap: Swap) -> None:
    edge = changed(audit, MAX, "eraser on", (-0.088, -2.8e-18))
    assert "No change could be shown" in narrative.leakage(swap(edge), split="test")
    assert wording.interval(edge) == "[−.088, .000]"


@pytest.mark.parametrize(("high", "printed"), [(-0.0004, "−.0004"), (-0.00002, "−.00002"), (0.0, ".000")])
def test_an_end_of_a_change_shows_its_side_of_zero(audit: AuditResult, high: float, printed: str) -> None:
    edge = changed(audit, MAX, "eraser on", (-0.088, high))
    assert wording.interval(edge) == f"[−.088, {printed}]"
    assert wording.verdict(edge) == ("lower" if high else "not shown")


def test_intersections_are_spelled_for_a_reader(audit: AuditResult) -> None:
    crossed = replace(audit, attribute={"name": "gender_x_skin_tone"})
    assert wording.perceived(crossed) == "perceived gender × skin tone"
    assert wording.plain("gender_x_skin_tone") == "Gender × skin tone"


def test_beyond_chance_lies_on_the_side_of_the_p_value() -> None:
    rank = Estimate(
        name="retrieval/i2t_median_rank",
        value=60.0,
        null=285.0,
        null_low=249.0,
        null_high=323.0,
        p_value=0.001,
        n=100,
        split="test",
        system="eraser off",
        higher_is_better=False,
        unit="rank",
    )
    assert wording.beyond_chance(rank) is True
    assert wording.beyond_chance(replace(rank, value=330.0, p_value=0.98)) is False
    assert wording.beyond_chance(replace(rank, value=260.0, p_value=0.1)) is False
    assert wording.metric_label(rank.name) == "Image → text, median rank"
    assert wording.metric_label("probe/category_knn_accuracy") == "Category, k-NN"
    assert wording.metric_label("leakage_auc/gender/embedding/knn") == "k-NN"
