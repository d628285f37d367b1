"""``Comparison``: what comparing runs finds, which table, page, JSON and MLflow read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from clip_lite.errors import UsageError
from evaluation.comparing.configurations import Configuration, short_names
from evaluation.comparing.differences import Difference, compared
from evaluation.comparing.trade_off import TradeOff, trade_off
from evaluation.results import NOT_IN_KEYS


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Configurations, the first of them the reference; what differs; where they lie.

    ``same`` says that all runs are seeds of one configuration: what differs is training noise.
    """

    configurations: tuple[Configuration, ...]
    differences: tuple[Difference, ...]
    trade_off: TradeOff | None
    same: bool

    @property
    def reference(self) -> Configuration:
        """What the others are compared with."""
        return self.configurations[0]

    @property
    def single(self) -> bool:
        """Whether no configuration has several seeds, so that nothing is known of how trainings differ."""
        return all(len(each.runs) == 1 for each in self.configurations)

    @property
    def one_corpus(self) -> bool:
        """Whether all runs were audited on the same data."""
        return (
            len({result.data.get("digest") for each in self.configurations for result in each.results}) == 1
        )

    def metrics(self) -> dict[str, float]:
        """Hypervolumes as MLflow takes them: ``hypervolume/METHOD``, ``_ci_low``, ``_ci_high``, ``_n``."""
        numbers: dict[str, float] = {}
        for each in self.trade_off.hypervolumes if self.trade_off else ():
            bounds = {"": each.value, "_ci_low": each.low, "_ci_high": each.high, "_n": float(each.points)}
            key = f"hypervolume/{NOT_IN_KEYS.sub('_', each.method)}"
            numbers |= {key + end: value for end, value in bounds.items() if value is not None}
        return numbers

    def plain(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        return {
            "configurations": [_plain(each) for each in self.configurations],
            "seeds_of_one_configuration": self.same,
            "differences": [asdict(row) for row in self.differences],
            "trade_off": asdict(self.trade_off) if self.trade_off else None,
        }


def comparison_of(found: Sequence[Configuration]) -> Comparison:
    """Compare with the first; the seeds of a single configuration are compared one by one.

    Raises:
        UsageError: fewer than two runs, or none that shares a number with the reference.
    """
    if sum(len(each.runs) for each in found) < 2:
        raise UsageError("give at least two runs to compare")
    same = len(found) == 1
    if same:
        runs = found[0].runs
        found = [
            Configuration(name=name, runs=(run,)) for name, run in zip(short_names(runs), runs, strict=True)
        ]
    reference, *others = found
    differences = compared(reference.results, {each.name: each.results for each in others})
    if not differences:
        raise UsageError(
            f"{reference.name} shares no number with the others: it takes audits of the same attribute and "
            "metrics"
        )
    return Comparison(
        configurations=tuple(found),
        differences=tuple(differences),
        trade_off=trade_off(found),
        same=same,
    )


def _plain(configuration: Configuration) -> Mapping[str, Any]:
    results = configuration.results
    return {
        "name": configuration.name,
        "runs": [run.spec for run in configuration.runs],
        "settings": {key: str(value) for key, value in configuration.settings.items()},
        "data_digest": results[0].data.get("digest"),
        "model_digests": [result.model.get("digest") for result in results],
    }
