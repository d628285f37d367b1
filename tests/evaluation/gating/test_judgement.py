"""Which rows a rule is held against, what breaks it, and that nothing passes for lack of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_lite.errors import UsageError
from evaluation.gating.judgement import Judged, Verdict, judge
from evaluation.gating.matching import refuse_early
from evaluation.gating.rules import Rule
from evaluation.results import AuditResult, Estimate

Swap = Callable[..., AuditResult]


def row(name: str, value: float, **fields: object) -> Estimate:
    common = {"n": 50, "split": "test", "system": "eraser off", "higher_is_better": False}
    return Estimate(name=name, value=value, **(common | fields))  # type: ignore[arg-type]


def held(result: AuditResult, *texts: str) -> tuple[Judged, ...]:
    return judge([Rule.parse(text) for text in texts], result)


def places(judged: tuple[Judged, ...]) -> set[tuple[str, str, str]]:
    return {(item.row.name, item.row.split, item.row.system) for item in judged}


def refusal(result: AuditResult, text: str) -> str:
    with pytest.raises(UsageError) as refused:
        held(result, text)
    return str(refused.value)


def test_a_rule_is_held_against_what_a_user_gets_on_every_test_split(audit: AuditResult) -> None:
    name = "leakage/gender/embedding/max"
    assert places(held(audit, "leakage.gender.max > 0.6")) == {
        (name, "test", "eraser on"),
        (name, "openmoji", "eraser on"),
    }
    unedited = replace(audit, rows=tuple(r for r in audit.rows if r.system != "eraser on"))
    assert places(held(unedited, "leakage.gender.max > 0.6")) == {
        (f"leakage/gender/{kind}/max", split, "eraser off")
        for kind in ("embedding", "features")
        for split in ("test", "openmoji")
    }


def test_brackets_choose_splits_and_systems_and_several_of_a_kind(audit: AuditResult) -> None:
    def chosen(place: str) -> set[tuple[str, str]]:
        return {
            (split, system) for _, split, system in places(held(audit, f"leakage.embedding.max[{place}]>0"))
        }

    assert chosen("test") == {("test", "eraser on")}
    assert chosen("eraser off") == {("test", "eraser off"), ("openmoji", "eraser off")}
    assert chosen("random direction, openmoji") == {("openmoji", "random direction")}
    assert chosen("test, openmoji, eraser off, eraser on") == {
        (split, system) for split in ("test", "openmoji") for system in ("eraser off", "eraser on")
    }
    assert places(held(audit, "leakage.embedding_fitted[train] > 0.6")) == {
        ("leakage/gender/embedding_fitted/logistic", "train", "eraser on")
    }


def test_all_groups_are_held_to_a_rule_or_the_one_in_brackets(audit: AuditResult) -> None:
    rows = (
        row("groups/gender/role/accuracy", 0.3, group="man"),
        row("groups/gender/role/accuracy", 0.1, group="woman"),
    )
    result = replace(audit, rows=rows)
    assert [item.broken for item in held(result, "groups.accuracy < 0.2")] == [False, True]
    assert [item.row.group for item in held(result, "groups.accuracy[man] < 0.2")] == ["man"]
    assert not held(result, "groups.accuracy[man] < 0.2")[0].broken


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("a > 0.6", False),
        ("a >= 0.6", True),
        ("a > 0.5", True),
        ("a.low > 0.5", False),
        ("a.low > 0.39", True),
        ("a.high > 0.7", False),
        ("a.high > 0.69", True),
        ("a.p < 0.05", False),
        ("a.p < 0.09", True),
        ("a.n < 51", True),
        ("a.n < 50", False),
    ],
)
def test_the_three_readings_of_a_bound_and_the_other_two(audit: AuditResult, rule: str, broken: bool) -> None:
    full = row("a", 0.6, low=0.4, high=0.7, p_value=0.01, p_adjusted=0.08)
    judged = held(replace(audit, rows=(full,)), rule)
    assert [item.broken for item in judged] == [broken]


@given(st.floats(0.01, 0.99), st.sampled_from((">", ">=", "<", "<=")))
def test_of_the_readings_the_high_end_is_the_strictest_upper_bound(bound: float, operator: str) -> None:
    full = row("a", 0.6, low=0.4, high=0.7)
    result = AuditResult(rows=(full,), attribute={}, data={}, model={}, training={}, provenance={})
    low, value, high = (
        held(result, f"a{reading} {operator} {bound!r}")[0].broken for reading in (".low", "", ".high")
    )
    assert (low <= value <= high) if operator[0] == ">" else (low >= value >= high)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("leakage.gneder.max > 0.6", "no row is named leakage.gneder.max; nearest are leakage.gender.max"),
        ("retreival > 0.6", "nearest are retrieval"),
        ("quite_else > 0.6", "rows begin with geometry, leakage, probe, retrieval, zero_shot"),
        (
            "leakage.gender.max[openmjoi] > 0.6",
            "no row in 'openmjoi', there are splits openmoji, test; systems",
        ),
        ("geometry.cross_modal_angle > 80", "no row in [eraser on, test splits]"),
        ("geometry.cross_modal_angle > 80", "systems eraser off, in brackets"),
        ("leakage.embedding_fitted > 0.6", "no row in [eraser on, test splits], name one of splits train"),
        ("leakage.features.max[pixels] > 0.6", "no row in 'pixels'"),
        ("leakage > 60", "would never fail"),
        ("leakage > 60", "write 60% as 0.6"),
        ("leakage > 1", "write 1% as 0.01"),
        ("leakage >= 0", "would always fail"),
        ("retrieval.i2t_recall_10 < -0.02", "write '- baseline' after the name"),
        ("leakage.gender.max_change > 1.5", "would never fail"),
        ("geometry[eraser off] > 200", "between 0 and 180"),
        ("leakage.gender.max.p < 5", "a p-value lies between 0 and 1"),
        ("leakage.gender.max.n < 0", "a count lies between 0 and inf"),
        (
            "geometry.cosine_kept.p < 0.05",
            "needs the p-value of geometry.gender.cosine_kept[test, eraser on]",
        ),
    ],
)
def test_a_rule_that_cannot_be_answered_never_passes(audit: AuditResult, rule: str, said: str) -> None:
    message = refusal(audit, rule)
    assert said in message
    assert message.startswith(f"--fail-if {rule!r}")


def test_an_interval_that_any_of_the_rows_lacks_is_an_error(audit: AuditResult) -> None:
    result = replace(audit, rows=(row("a/b", 0.5, low=0.4, high=0.6), row("a/c", 0.5)))
    for reading in ("low", "high"):
        assert "needs the interval of a.c[test, eraser off]" in refusal(result, f"a.{reading} > 0.55")
    assert len(held(result, "a.b.low > 0.55")) == 1


def test_numbers_of_two_units_are_not_held_against_one_threshold(audit: AuditResult) -> None:
    result = replace(audit, rows=(row("a/b", 0.5), row("a/c", 12, unit="classes")))
    assert "compares classes, fraction with one number: name fewer rows than a.b, a.c" in refusal(
        result, "a > 0.6"
    )
    assert len(held(result, "a.n < 10")) == 2


def test_a_number_beyond_its_unit_is_judged_as_it_is(audit: AuditResult) -> None:
    result = replace(audit, rows=(row("own/score", 37.2), row("bits/x", -0.3, unit="bits")))
    assert held(result, "own.score > 30")[0].broken
    assert not judge([Rule.parse("own.score - baseline < -5")], result, result)[0].broken
    assert held(result, "bits.x < -0.2")[0].broken


def test_all_that_is_wrong_is_said_at_once(audit: AuditResult) -> None:
    with pytest.raises(UsageError, match=r"leakage > 60.*; --fail-if 'no\.such > 1'"):
        held(audit, "leakage > 60", "leakage.gender.max > 0.6", "no.such > 1")


def test_an_empty_audit_passes_nothing(audit: AuditResult) -> None:
    assert "rows begin with nothing" in refusal(replace(audit, rows=()), "leakage > 0.6")


def test_regressions_read_differences_of_what_users_get(audit: AuditResult, swap: Swap) -> None:
    name = "retrieval/i2t_recall_10"
    worse = swap(replace(audit.find(name, system="eraser on"), value=0.2, low=0.15, high=0.25))
    rules = [Rule.parse(text) for text in (
        "retrieval.i2t_recall_10 - baseline < -0.02",
        "retrieval.i2t_recall_10.high[test] - baseline < 0",
        "retrieval.i2t_recall_10.low[openmoji] - baseline > 0",
    )]  # fmt: skip
    judged = judge(rules, worse, audit)
    assert [(item.rule.text[-12:], item.row.split, item.broken) for item in judged] == [
        ("line < -0.02", "test", True),
        ("line < -0.02", "openmoji", False),
        ("baseline < 0", "test", True),
        ("baseline > 0", "openmoji", False),
    ]
    assert judged[0].number == pytest.approx(0.2 - 0.292)
    unedited = replace(audit, rows=tuple(r for r in audit.rows if r.system == "eraser off"))
    found = judge([Rule.parse("leakage.embedding.max[test] - baseline > 0")], audit, unedited)
    assert [item.number for item in found] == [pytest.approx(0.74 - 0.78)]


def test_a_regression_of_rows_that_the_baseline_lacks_is_an_error(audit: AuditResult) -> None:
    less = replace(audit, rows=audit.select("retrieval"))
    rule = Rule.parse("leakage.gender.max - baseline > 0")
    with pytest.raises(UsageError, match=r"no difference from the baseline is named leakage\.gender\.max"):
        judge([rule], audit, less)
    with pytest.raises(UsageError, match="would never fail"):
        judge([Rule.parse("retrieval.i2t_recall_10 - baseline < -2")], audit, audit)


def test_a_regression_of_which_one_audit_lacks_rows_is_an_error(audit: AuditResult) -> None:
    rule = Rule.parse("leakage.gender.embedding.max - baseline > 0")
    one_split = replace(audit, rows=tuple(r for r in audit.rows if r.split == "test"))
    with pytest.raises(UsageError, match=r"the baseline has no leakage\.gender\.embedding\.max\[openmoji\]"):
        judge([rule], audit, one_split)
    with pytest.raises(UsageError, match=r"the audit has no leakage\.gender\.embedding\.max\[openmoji\]"):
        judge([rule], one_split, audit)
    placed = Rule.parse("leakage.gender.embedding.max[test, eraser on] - baseline > 0")
    assert len(judge([placed], audit, one_split)) == len(judge([placed], one_split, audit)) == 1


def test_a_verdict_counts_and_is_plain_data(audit: AuditResult) -> None:
    rules = tuple(Rule.parse(text) for text in ("leakage.gender.max > 0.7", "retrieval.i2t_recall_10 < 0.01"))
    verdict = Verdict(rules=rules, judged=judge(rules, audit))
    assert (verdict.passed, verdict.word, len(verdict.broken)) == (False, "failed", 1)
    assert verdict.summary == "1 of 2 rules, 1 of 4 rows"
    written = verdict.to_json()
    assert [rule["broken"] for rule in written["rules"]] == [True, False]
    assert written["rules"][0]["rows"][0] == {
        "name": "leakage/gender/embedding/max", "split": "test", "system": "eraser on", "group": "",
        "unit": "fraction", "value": 0.74, "low": pytest.approx(0.67), "high": pytest.approx(0.81),
        "p_value": 0.001, "p_adjusted": None, "n": 466, "read": 0.74, "broken": True,
    }  # fmt: skip
    passed = Verdict(rules=rules[1:], judged=judge(rules[1:], audit))
    assert (passed.passed, passed.summary) == (True, "1 rule, 2 rows")


@pytest.mark.parametrize(
    ("rule", "families", "said"),
    [
        ("leakage > 60", None, "write 60% as 0.6"),
        ("leakage.max - baseline > 1", None, "would never fail"),
        ("leakge > 0.6", {"leakage", "retrieval"}, "expected leakage"),
        (
            "leakage > 0.6",
            {"probe", "retrieval"},
            "no row that begins with 'leakage', expected probe, retrieval",
        ),
    ],
)
def test_what_no_audit_can_answer_is_refused_before_one(
    rule: str, families: set[str] | None, said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        refuse_early([Rule.parse("retrieval > 0.5"), Rule.parse(rule)], families)
    assert said in str(refused.value)


def test_what_an_audit_may_answer_is_not_refused_before_one() -> None:
    texts = (
        "leakage > 0.6",
        "leakage.max - baseline > 0",
        "leakage.max_change > -0.1",
        "mine.own > 60",
        "leakage.n < 9",
    )
    refuse_early([Rule.parse(text) for text in texts], None)
