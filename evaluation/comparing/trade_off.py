"""Configurations in the plane of utility and leakage: points, front and hypervolume, by method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.comparing.configurations import UNEDITED, Configuration
from evaluation.comparing.pareto import (
    Axis,
    front,
    hypervolume,
    hypervolume_interval,
    leakage_axis,
    utility_axis,
)
from evaluation.inference import Inference
from evaluation.inference.across_runs import Reading, Spread, level, mean_draws, spread

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Coordinate:
    """A number with its 95% interval, the mean over seeds."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class TradePoint:
    """A configuration; ``front`` says that no other is as useful and leaks as little."""

    configuration: str
    method: str
    strength: float
    seeds: int
    utility: Coordinate
    leakage: Coordinate
    front: bool


@dataclass(frozen=True, kw_only=True)
class Hypervolume:
    """Of the points of one method (with the unedited model's) or of all; no interval without shared draws."""

    method: str
    points: int
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class TradeOff:
    """What is utility here, chance of leakage, the points and how much of the plane they cover."""

    utility: str
    chance: float
    points: tuple[TradePoint, ...]
    hypervolumes: tuple[Hypervolume, ...]


@dataclass(frozen=True)
class _Place:
    configuration: Configuration
    utility: list[Axis]
    leakage: list[Axis]


def trade_off(configurations: Sequence[Configuration]) -> TradeOff | None:
    """Where each configuration lies on the test split, as its users get it.

    ``None`` where they were audited on different data, no two share what counts as utility, or none was
    audited for leakage.
    """
    if len({result.data.get("digest") for each in configurations for result in each.results}) > 1:
        return None
    places = [found for each in configurations if (found := _placed(each))]
    places = [place for place in places if place.utility[0].label == places[0].utility[0].label]
    groups = places[0].configuration.results[0].attribute.get("groups") if places else None
    if not groups:
        return None
    chance = 1 / len(groups)
    ways = [[place.utility for place in places], [place.leakage for place in places]]
    useful, leaking = (np.array([np.mean([axis.value for axis in each]) for each in way]) for way in ways)
    between = [spread([[_reading(axis) for axis in each] for each in way]) for way in ways]
    best = front(useful, leaking)
    points = tuple(
        TradePoint(
            configuration=place.configuration.name,
            method=place.configuration.method,
            strength=place.configuration.strength,
            seeds=len(place.utility),
            utility=_coordinate(place.utility, between[0]),
            leakage=_coordinate(place.leakage, between[1]),
            front=bool(on_front),
        )
        for place, on_front in zip(places, best, strict=True)
    )
    return TradeOff(
        utility=places[0].utility[0].label,
        chance=chance,
        points=points,
        hypervolumes=tuple(_hypervolumes(places, useful, leaking, chance)),
    )


def _placed(configuration: Configuration) -> _Place | None:
    systems = [(result, result.delivered) for result in configuration.results]
    utility = [utility_axis(result, system=system) for result, system in systems]
    leakage = [leakage_axis(result, system=system) for result, system in systems]
    if not (all(utility) and all(leakage)):
        return None
    return _Place(configuration, [axis for axis in utility if axis], [axis for axis in leakage if axis])


def _reading(axis: Axis) -> Reading:
    return Reading(value=axis.value, low=axis.low, high=axis.high, draws=axis.draws, clusters=axis.clusters)


def _coordinate(axes: Sequence[Axis], between: Spread | None) -> Coordinate:
    value, low, high = level([_reading(axis) for axis in axes], between=between)
    return Coordinate(value=value, low=low, high=high)


def _hypervolumes(
    places: Sequence[_Place], useful: np.ndarray, leaking: np.ndarray, chance: float
) -> list[Hypervolume]:
    methods = dict.fromkeys(place.configuration.method for place in places)
    shared = _shared_draws(places)
    found = []
    for method in (ALL, *(each for each in methods if each != UNEDITED)):
        own = np.array([method in (ALL, place.configuration.method) for place in places])
        own |= [place.configuration.method == UNEDITED for place in places]
        value = hypervolume(useful[own], leaking[own], chance=chance)
        low, high = None, None
        if shared is not None:
            low, high = hypervolume_interval(
                shared[0][own], shared[1][own], chance=chance, value=value, inference=Inference()
            )
        found.append(Hypervolume(method=method, points=int(own.sum()), value=value, low=low, high=high))
    return found


def _shared_draws(places: Sequence[_Place]) -> tuple[np.ndarray, np.ndarray] | None:
    """Draws of utility and leakage ``(points, resamples)``, means over seeds, if all rest on the same."""
    ways = [[place.utility for place in places], [place.leakage for place in places]]
    drawn = [[mean_draws([axis.draws for axis in axes]) for axes in way] for way in ways]
    known = [each for way in drawn for each in way if each is not None and not np.isnan(each).any()]
    if len(known) < 2 * len(places) or len({len(each) for each in known}) > 1:
        return None
    return np.array(drawn[0]), np.array(drawn[1])
