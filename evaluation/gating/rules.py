"""Rules of a release gate: what ``leakage.gender.max > 0.60`` means, and which rows it speaks of."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from clip_lite.errors import UsageError
from evaluation.comparing.differences import CHANGE, Difference
from evaluation.results import Estimate

BASELINE = "baseline"
Row = Estimate | Difference
READINGS = ("low", "high", "p", "n")
OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
FORM = (
    "expected NAME[.low|.high|.p|.n][[SPLIT, SYSTEM, GROUP]] [- baseline] >|>=|<|<= NUMBER, "
    "as in 'leakage.gender.max > 0.60'"
)
WRITTEN = re.compile(
    r"\s*(?P<name>[^\[\]<>=]+?)\s*(\[(?P<place>[^\[\]]*)\](\.(?P<reading>low|high|p|n))?)?"
    r"\s*(?P<regression>-\s*baseline)?\s*(?P<operator>[<>]=?)\s*(?P<threshold>[^\s<>=]+)\s*"
)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What must not hold of any row.

    Attributes:
        text: as a person wrote it.
        parts: parts of a row's name in order, the first being its first; others may be left out.
        reading: ``value``, an end of the interval (``low``, ``high``), ``p`` (adjusted where there is one) or
            ``n``.
        place: splits, systems and groups it is restricted to.
        regression: whether it reads differences from a baseline.
        operator, threshold: ``>`` and 0.60 fail what is larger than 0.60.
    """

    text: str = field(compare=False)
    parts: tuple[str, ...]
    reading: str
    place: tuple[str, ...]
    regression: bool
    operator: str
    threshold: float

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read a rule.

        Raises:
            UsageError: it is not one.
        """
        found = WRITTEN.fullmatch(text)
        if not found:
            raise UsageError(f"--fail-if {text!r} is no rule: {FORM}")
        name, _, reading = found["name"].rpartition(".")
        if found["reading"] or not name or reading not in READINGS:
            name, reading = found["name"], found["reading"] or "value"
        parts = tuple(name.split("/" if "/" in name else "."))
        place = () if found["place"] is None else tuple(word.strip() for word in found["place"].split(","))
        if not all(part.strip() == part != "" for part in (*parts, *place)):
            raise UsageError(f"--fail-if {text!r} leaves a name empty: {FORM}")
        return cls(
            text=text.strip(),
            parts=parts,
            reading=reading,
            place=place,
            regression=bool(found["regression"]),
            operator=found["operator"],
            threshold=_number(found["threshold"], text),
        )

    def __str__(self) -> str:
        """The rule in its shortest full spelling, which ``parse`` reads."""
        plain = not any("." in part for part in self.parts) and not (
            len(self.parts) > 1 and self.parts[-1] in READINGS and self.reading == "value"
        )
        name = ("." if plain else "/").join(self.parts)
        reading = "" if self.reading == "value" else f".{self.reading}"
        place = f"[{', '.join(self.place)}]" if self.place else ""
        regression = f" - {BASELINE}" if self.regression else ""
        return f"{name}{reading}{place}{regression} {self.operator} {self.threshold!r}"

    def names(self, name: str) -> bool:
        """Whether it speaks of rows of this name; of changes only where it names them."""
        parts = name.split("/")
        if parts[0] != self.parts[0] or (parts[-1].endswith(CHANGE) and parts[-1] != self.parts[-1]):
            return False
        rest = iter(parts)
        return all(part in rest for part in self.parts)

    def read(self, row: Row) -> float | None:
        """The number of a row that it compares; None where the row does not have it."""
        if self.reading == "p":
            number = row.p_value if row.p_adjusted is None else row.p_adjusted
        else:
            number = getattr(row, self.reading)
        return None if number is None or math.isnan(number) else float(number)

    def broken_by(self, number: float) -> bool:
        """Whether a number lies beyond the threshold, compared in float64."""
        return OPERATORS[self.operator](number, self.threshold)


def _number(written: str, text: str) -> float:
    try:
        number = float(written)
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return number
    hint = ": write 60% as 0.60" if written.endswith("%") else ""
    raise UsageError(f"--fail-if {text!r}: {written!r} is no number{hint}")
