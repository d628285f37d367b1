"""``Estimate`` and ``AuditResult``: what every metric returns and every reader of an audit reads."""

from __future__ import annotations

import json
import math
import numbers
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from evaluation.pictures.shown import Examples, examples_from
from evaluation.writing import replacing, write_text

SCHEMA_VERSION = 3
DRAWS = "draws.npz"
OFF, ON = "eraser off", "eraser on"
# what a list of thousands of metrics shows first
HEADLINES = {
    "leakage_max": "leakage/{attribute}/embedding/max",
    "leakage_linear": "leakage/{attribute}/embedding/logistic",
    "leakage_max_change": "leakage/{attribute}/embedding/max_change",
    "i2t_recall_10": "retrieval/i2t_recall_10",
    "t2i_recall_10": "retrieval/t2i_recall_10",
}
NOT_IN_KEYS = re.compile(r"[^\w\-./: ]+", re.ASCII)  # what MLflow refuses in a metric's name


NUMBERS = ("value", "low", "high", "null", "null_low", "null_high", "p_value", "p_adjusted")
COUNTS = ("n", "n_clusters")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One number with its uncertainty.

    Attributes:
        name: slash-separated metric name that MLflow accepts, e.g. ``leakage/gender/embedding/max``.
        value: the point estimate.
        low, high: 95% interval; ``None`` where no interval is defined.
        null: what the metric is expected to be when nothing is there to find (chance).
        null_low, null_high: central 95% of the null distribution.
        p_value: one-sided permutation p-value against the null, unless the metric says otherwise.
        p_adjusted: the same after Holm's correction over the tests of its family, system and split.
        n: observations the value rests on; ``n_clusters``: independent ones (stems, images);
            ``n_by_group``: of each group, where the metric compares groups.
        group: the protected group the row is about, ``""`` for all.
        split: the data the value was measured on, e.g. ``test``.
        system: what was measured, e.g. ``eraser off``, ``eraser on``, ``pixels``.
        draws: the value in every bootstrap resample ``(resamples,)``, which all audits of the same clusters
            share; ``None`` where the interval is not read off one such list. JSON leaves them to ``DRAWS``.
        unit: ``fraction``, ``degrees``, ``pairs/s`` …
        higher_is_better: direction for a reader; leakage has ``False``.
    """

    name: str
    value: float
    n: int
    split: str
    system: str
    higher_is_better: bool
    low: float | None = None
    high: float | None = None
    null: float | None = None
    null_low: float | None = None
    null_high: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    n_clusters: int | None = None
    n_by_group: Mapping[str, int] = field(default_factory=dict)
    group: str = ""
    unit: str = "fraction"
    draws: np.ndarray | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make plain numbers of numpy's, and refuse what JSON, MLflow or a reader cannot take."""
        if not self.name:
            raise ValueError("an Estimate needs a name")
        for item in (*NUMBERS, *COUNTS):
            self._plain(item, optional=item not in ("value", "n"))
        if self.draws is not None:  # a copy: a part of a larger array would keep all of it in memory
            object.__setattr__(self, "draws", np.array(self.draws, dtype=np.float64))
        for chance in ("p_value", "p_adjusted"):
            number = getattr(self, chance)
            if number is not None and not 0 <= number <= 1:
                raise ValueError(f"Estimate {self.name!r}: {chance} is {number}, expected 0 to 1")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"Estimate {self.name!r}: low {self.low} is above high {self.high}")

    def _plain(self, item: str, *, optional: bool) -> None:
        number: Any = getattr(self, item)
        if optional and number is None:
            return
        whole = item in COUNTS
        if not isinstance(number, numbers.Real) or not math.isfinite(number) or (whole and number < 0):
            expected = "a count" if whole else "a finite number"
            raise ValueError(f"Estimate {self.name!r}: {item} is {number!r}, expected {expected}")
        plain: float = float(number)
        object.__setattr__(self, item, int(plain) if whole else plain)

    @property
    def key(self) -> str:
        """MLflow metric key ``split/system/name/group`` with spaces made underscores, ``&`` written out."""
        group = f"/{self.group}" if self.group else ""
        spelled = f"{self.split}/{self.system}/{self.name}{group}".replace("&", "and")
        return NOT_IN_KEYS.sub("_", spelled).replace(" ", "_")


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """Rows plus where they come from; the only input of report, table, MLflow and gate.

    Attributes:
        rows: all estimates.
        attribute: name, version, groups and source of the labels.
        data: name, digest, sizes per split, licences (list of mappings) and limits of the corpus.
        model: architecture, digest, eraser method, rank and calibration size.
        training: configuration, per-epoch curve and timings; empty for a model trained elsewhere.
        provenance: command, seeds, attackers, library versions, date.
        examples: pictures and prompts to look at, see ``evaluation.pictures.shown``.
    """

    rows: tuple[Estimate, ...]
    attribute: Mapping[str, Any]
    data: Mapping[str, Any]
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    provenance: Mapping[str, Any]
    examples: Examples = field(default_factory=Examples)
    schema_version: int = field(default=SCHEMA_VERSION)

    def metrics(self) -> dict[str, float]:
        """Rows as flat numbers: ``key``, ``key_ci_low``, ``key_ci_high``, ``key_n``.

        The main ones come once more, first in the alphabet, as ``audit/NAME``: what a user of the model gets
        on the test split.
        """
        keyed = {row.key: row for row in self.rows}
        place = ("test", self.delivered, "")
        main = {row.name: row for row in self.rows if (row.split, row.system, row.group) == place}
        for short, name in HEADLINES.items():
            if row := main.get(name.format(attribute=self.attribute.get("name"))):
                keyed[f"audit/{short}"] = row
        numbers: dict[str, float] = {}
        for key, row in keyed.items():
            bounds = {"": row.value, "_ci_low": row.low, "_ci_high": row.high, "_n": row.n}
            numbers |= {key + end: float(value) for end, value in bounds.items() if value is not None}
        return numbers

    @property
    def delivered(self) -> str:
        """The system that a user of the model gets: with its eraser, where it has one."""
        return ON if any(row.system == ON for row in self.rows) else OFF

    def find(self, name: str, *, system: str, split: str = "test", group: str = "") -> Estimate:
        """The one row with this name, system, split and group.

        Raises:
            KeyError: no such row.
        """
        for row in self.rows:
            if (row.name, row.system, row.split, row.group) == (name, system, split, group):
                return row
        raise KeyError(f"no row {name!r} for system {system!r}, split {split!r}, group {group!r}")

    def select(self, prefix: str, *, split: str | None = None, system: str | None = None) -> list[Estimate]:
        """Rows whose name starts with ``prefix``, in order."""
        return [
            row
            for row in self.rows
            if row.name.startswith(prefix)
            and (split is None or row.split == split)
            and (system is None or row.system == system)
        ]

    def to_json(self) -> str:
        """Serialise all but the draws; the inverse of ``from_json``."""
        plain = asdict(self)
        for row in plain["rows"]:
            del row["draws"]
        return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> AuditResult:
        """Parse what ``to_json`` wrote.

        Raises:
            ValueError: another schema version, or not an audit at all.
        """
        raw = json.loads(text)
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != SCHEMA_VERSION:
            raise ValueError(f"audit schema version is {version!r}, this release reads {SCHEMA_VERSION}")
        try:
            raw["rows"] = tuple(Estimate(**row) for row in raw["rows"])
            raw["examples"] = examples_from(raw["examples"])
            return cls(**raw)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an audit of schema version {SCHEMA_VERSION}: {error}") from error

    def save(self, path: Path) -> None:
        """Write the draws to ``DRAWS`` beside ``path``, then JSON to ``path``, each atomically."""
        draws = {row.key: row.draws.astype(np.float32) for row in self.rows if row.draws is not None}
        with replacing(path.with_name(DRAWS)) as partial, partial.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **draws)
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> AuditResult:
        """Read what ``save`` wrote; without ``DRAWS`` beside it, rows have no draws.

        Raises:
            OSError: no such file.
            ValueError: another schema version, not an audit at all, or damaged draws.
        """
        result = cls.from_json(path.read_text(encoding="utf-8"))
        beside = path.with_name(DRAWS)
        if not beside.exists():
            return result
        try:
            with np.load(beside, allow_pickle=False) as kept:
                rows = tuple(
                    replace(row, draws=kept[row.key].astype(np.float64)) if row.key in kept else row
                    for row in result.rows
                )
        except (ValueError, EOFError, BadZipFile) as error:
            raise ValueError(f"{DRAWS} beside it is damaged; without that file nothing is paired") from error
        return replace(result, rows=rows)
