"""What an audit keeps for people to look at: small pictures, what changed most in rankings, heat maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A test picture, small (WebP, base64), with its own captions and its perceived or text-derived group."""

    webp_base64: str
    captions: tuple[str, ...]
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What a query ranks first, unedited (``off``) and edited (``on``, empty where nothing edits).

    A picture, by its id, ranks texts; a text ranks pictures, by their ids. ``moved`` is how far the first
    places changed, from 0 (nothing) to 1 (none in common), see ``evaluation.pictures.examples.moved``.
    """

    query: str
    off: tuple[str, ...]
    on: tuple[str, ...] = ()
    moved: float | None = None


@dataclass(frozen=True, kw_only=True)
class Rankings:
    """The rankings that moved most, of ``of`` that were looked through with a median of ``median``.

    Without an edit they are drawn at random and ``median`` is None.
    """

    items: tuple[Ranking, ...] = ()
    of: int = 0
    median: float | None = None


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """Where a picture speaks for a text, as grey PNG in base64, unedited and edited.

    ``picture`` is an id, or empty for the mean over ``n`` pictures of the group. Each map of a picture is
    scaled to its own hottest place.
    """

    picture: str
    group: str
    text: str
    off: str
    on: str = ""
    n: int = 1


@dataclass(frozen=True, kw_only=True)
class Examples:
    """All of it. ``pictures`` holds every picture once, by id; ``notes`` say what was left out and why."""

    pictures: Mapping[str, Picture] = field(default_factory=dict)
    by_picture: Rankings = field(default_factory=Rankings)
    by_text: Rankings = field(default_factory=Rankings)
    heat: tuple[HeatMap, ...] = ()
    notes: tuple[str, ...] = ()


def examples_from(raw: Mapping[str, Any]) -> Examples:
    """The inverse of ``dataclasses.asdict``.

    Raises:
        KeyError, TypeError: a part is missing or there is one too many.
    """
    return Examples(
        pictures={
            key: Picture(**(own | {"captions": tuple(own["captions"])}))
            for key, own in raw["pictures"].items()
        },
        by_picture=_rankings(raw["by_picture"]),
        by_text=_rankings(raw["by_text"]),
        heat=tuple(HeatMap(**own) for own in raw["heat"]),
        notes=tuple(raw["notes"]),
    )


def _rankings(raw: Mapping[str, Any]) -> Rankings:
    items = (Ranking(**(own | {"off": tuple(own["off"]), "on": tuple(own["on"])})) for own in raw["items"])
    return Rankings(**{**raw, "items": tuple(items)})
