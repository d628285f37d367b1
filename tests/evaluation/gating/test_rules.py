"""The grammar of a gate's rules: what it reads, what it refuses, and that it refuses in one way."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_lite.errors import UsageError
from evaluation.gating.rules import OPERATORS, READINGS, Rule
from evaluation.results import Estimate

PARTS = st.text("abcxyz_01-& ", min_size=1, max_size=8).filter(
    lambda part: part == part.strip() and not part.replace(" ", "").endswith("-baseline")
)
DOTTED = st.builds(lambda a, b: f"{a}.{b}", PARTS, PARTS.filter(lambda part: part not in READINGS))
WORDS = st.text("abc xyz_01.+-/&'\"()", min_size=1, max_size=10).map(str.strip).filter(bool)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    first = draw(PARTS)
    more = draw(st.lists(PARTS | DOTTED, max_size=4))
    return Rule(
        text="",
        parts=(first, *more),
        reading=draw(st.sampled_from(("value", *READINGS))),
        place=tuple(draw(st.lists(WORDS, max_size=3))),
        regression=draw(st.booleans()),
        operator=draw(st.sampled_from(tuple(OPERATORS))),
        threshold=draw(st.floats(allow_nan=False, allow_infinity=False)),
    )


def read_or_refused(text: str) -> Rule | UsageError:
    try:
        return Rule.parse(text)
    except UsageError as error:
        return error


@given(rules())
def test_a_rule_is_read_as_it_is_spelled(rule: Rule) -> None:
    assert Rule.parse(str(rule)) == rule


@given(st.text() | st.text("abc.[]/<>=-, 0123456789lowbaseinephg", max_size=40))
def test_anything_else_is_a_usage_error_that_quotes_it(text: str) -> None:
    rule = read_or_refused(text)
    if isinstance(rule, UsageError):
        assert repr(text) in str(rule)
    else:
        assert math.isfinite(rule.threshold)
        assert rule.parts
        assert all(rule.parts)
        assert Rule.parse(rule.text) == rule


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(tuple(OPERATORS)))
def test_the_threshold_itself_breaks_only_what_includes_it(number: float, operator: str) -> None:
    rule = Rule.parse(f"a {operator} {number!r}")
    assert rule.broken_by(number) is ("=" in operator)
    above, below = math.nextafter(number, math.inf), math.nextafter(number, -math.inf)
    assert rule.broken_by(above) is (operator[0] == ">")
    assert rule.broken_by(below) is (operator[0] == "<")


@pytest.mark.parametrize(
    ("text", "parts", "reading", "place", "regression", "operator", "threshold"),
    [
        ("leakage>0.60", ("leakage",), "value", (), False, ">", 0.6),
        ("leakage.gender.max>0.60", ("leakage", "gender", "max"), "value", (), False, ">", 0.6),
        ("leakage/gender/max.low >= .6", ("leakage", "gender", "max"), "low", (), False, ">=", 0.6),
        ("a/v1.5/max<1e-3", ("a", "v1.5", "max"), "value", (), False, "<", 0.001),
        ("a.n > 3", ("a",), "n", (), False, ">", 3.0),
        ("a/n > 3", ("a", "n"), "value", (), False, ">", 3.0),
        ("p < 0.05", ("p",), "value", (), False, "<", 0.05),
        ("a.b.p<=5e-2", ("a", "b"), "p", (), False, "<=", 0.05),
        ("a.b[test, eraser off]<-1", ("a", "b"), "value", ("test", "eraser off"), False, "<", -1.0),
        ("a.b - baseline < -0.02", ("a", "b"), "value", (), True, "<", -0.02),
        ("a.b[test].low > 0", ("a", "b"), "low", ("test",), False, ">", 0.0),
        ("a.b[test].high - baseline > 0", ("a", "b"), "high", ("test",), True, ">", 0.0),
        ("a.low[test].high > 0", ("a", "low"), "high", ("test",), False, ">", 0.0),
        ("a.b.high[ test ]-baseline<0", ("a", "b"), "high", ("test",), True, "<", 0.0),
        ("two words.a-b > +1", ("two words", "a-b"), "value", (), False, ">", 1.0),
    ],
)
def test_what_is_read(
    text: str,
    parts: tuple[str, ...],
    reading: str,
    place: tuple[str, ...],
    regression: bool,
    operator: str,
    threshold: float,
) -> None:
    assert Rule.parse(text) == Rule(
        text=text,
        parts=parts,
        reading=reading,
        place=place,
        regression=regression,
        operator=operator,
        threshold=threshold,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no rule: expected NAME"),
        ("leakage", "is no rule"),
        ("leakage == 0.6", "is no rule"),
        ("leakage => 0.6", "is no rule"),
        ("0.6 < leakage", "'leakage' is no number"),
        ("leakage > 0.6 0.7", "is no rule"),
        ("leakage > nan", "'nan' is no number"),
        ("leakage > inf", "'inf' is no number"),
        ("leakage > 0,6", "'0,6' is no number"),
        ("leakage > 60%", "write 60% as 0.60"),
        ("leakage..max > 0.6", "leaves a name empty"),
        (".low > 0.6", "leaves a name empty"),
        ("leakage[] > 0.6", "leaves a name empty"),
        ("leakage[test,] > 0.6", "leaves a name empty"),
        ("leakage[[test]] > 0.6", "is no rule"),
        ("leakage[test].mid > 0.6", "is no rule"),
        ("leakage + baseline > 0.6 > 1", "is no rule"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        Rule.parse(text)
    assert said in str(refused.value)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(
    ("rule", "names", "others"),
    [
        (
            "leakage.gender.max",
            ("leakage/gender/embedding/max", "leakage/gender/features/max", "leakage/gender/max"),
            (
                "leakage_auc/gender/embedding/max",
                "leakage/gender/embedding/logistic",
                "leakage/gender/embedding/max_change",
                "leakage/Gender/embedding/max",
                "old/leakage/gender/max",
                "leakage/max/gender",
            ),
        ),
        ("leakage", ("leakage/gender/embedding/max", "leakage"), ("leakage/gender/embedding/max_change",)),
        ("leakage.max_change", ("leakage/gender/embedding/max_change",), ("leakage/gender/embedding/max",)),
        ("a.b.b", ("a/b/b", "a/b/c/b"), ("a/b",)),
    ],
)
def test_which_rows_are_named(rule: str, names: tuple[str, ...], others: tuple[str, ...]) -> None:
    read = Rule.parse(f"{rule} > 0")
    assert [name for name in (*names, *others) if read.names(name)] == list(names)


def test_what_is_read_of_a_row() -> None:
    bare = Estimate(name="a", value=0.5, n=9, split="test", system="eraser off", higher_is_better=False)
    full = Estimate(
        name="a", value=0.5, low=0.4, high=0.7, n=9, split="test", system="eraser off",
        higher_is_better=False, p_value=0.01, p_adjusted=0.08,
    )  # fmt: skip
    unadjusted = Estimate(
        name="a", value=0.5, n=9, split="test", system="eraser off", higher_is_better=False, p_value=0.01
    )
    readings = {reading: Rule.parse(f"a.{reading} > 0").read for reading in READINGS}
    assert {reading: read(full) for reading, read in readings.items()} == {
        "low": 0.4, "high": 0.7, "p": 0.08, "n": 9.0,
    }  # fmt: skip
    assert [read(bare) for read in readings.values()] == [None, None, None, 9.0]
    assert readings["p"](unadjusted) == 0.01
    assert Rule.parse("a > 0").read(bare) == 0.5
