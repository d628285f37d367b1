"""The pictures of a report: each stored once, drawn wherever it is ranked, some under heat maps."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from evaluation.pictures.shown import Examples, HeatMap, Picture, Ranking
from evaluation.results import AuditResult

ALT_LENGTH = 120
HEAT = (
    214,
    0,
    108,
)  # magenta: no skin tone, no emoji, and seen in every kind of colour blindness by its weight
OPACITY = 0.8


@dataclass(frozen=True, kw_only=True)
class Thumb:
    """A picture's place among the stored ones, its text alternative, captions and group."""

    number: int
    alt: str
    captions: tuple[str, ...]
    group: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """A picture and the texts it ranks first."""

    thumb: Thumb
    ranking: Ranking


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A prompt and the pictures it ranks first."""

    ranking: Ranking
    off: tuple[Thumb, ...]
    on: tuple[Thumb, ...]


@dataclass(frozen=True, kw_only=True)
class HeatCell:
    """A heat map over its picture (None under a mean); ``overlay`` is empty where no place is hot."""

    thumb: Thumb | None
    overlay: str
    alt: str


@dataclass(frozen=True, kw_only=True)
class HeatLine:
    """One picture of a group, or the mean over ``n``: a cell for each column of its table."""

    label: str
    cells: tuple[HeatCell | None, ...]


@dataclass(frozen=True, kw_only=True)
class HeatTable:
    """The heat maps of a group; a column is a text and whether the edit is on."""

    group: str
    columns: tuple[tuple[str, str], ...]
    lines: tuple[HeatLine, ...]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """All pictures and where they are shown."""

    pictures: tuple[str, ...]
    cards: tuple[Card, ...]
    strips: tuple[Strip, ...]
    heat: tuple[HeatTable, ...]


def gallery(result: AuditResult) -> Gallery:
    """The examples of an audit, ready to be drawn; what names a picture that is not kept is left out."""
    examples = result.examples
    thumbs = {name: _thumb(number, name, own) for number, (name, own) in enumerate(examples.pictures.items())}
    return Gallery(
        pictures=tuple(f"data:image/webp;base64,{own.webp_base64}" for own in examples.pictures.values()),
        cards=tuple(
            Card(thumb=thumbs[own.query], ranking=own)
            for own in examples.by_picture.items
            if own.query in thumbs
        ),
        strips=tuple(
            Strip(
                ranking=own,
                off=tuple(thumbs[name] for name in own.off if name in thumbs),
                on=tuple(thumbs[name] for name in own.on if name in thumbs),
            )
            for own in examples.by_text.items
        ),
        heat=tuple(_heat_tables(examples, thumbs)),
    )


def _thumb(number: int, name: str, picture: Picture) -> Thumb:
    said = picture.captions[0] if picture.captions else name
    short = said if len(said) <= ALT_LENGTH else f"{said[:ALT_LENGTH]}…"
    alt = f"perceived {picture.group}: {short}" if picture.group else short
    return Thumb(number=number, alt=alt, captions=picture.captions, group=picture.group)


def _heat_tables(examples: Examples, thumbs: dict[str, Thumb]) -> Iterator[HeatTable]:
    for group in dict.fromkeys(own.group for own in examples.heat):
        maps = [own for own in examples.heat if own.group == group]
        edited = any(own.on for own in maps)
        texts = list(dict.fromkeys(own.text for own in maps))
        states = ("eraser off", "eraser on") if edited else ("eraser off",)
        yield HeatTable(
            group=group,
            columns=tuple((text, state) for text in texts for state in states),
            lines=tuple(_heat_lines(maps, texts, states, thumbs)),
        )


def _heat_lines(
    maps: list[HeatMap], texts: list[str], states: tuple[str, ...], thumbs: dict[str, Thumb]
) -> Iterator[HeatLine]:
    for name in dict.fromkeys(own.picture for own in maps):
        by_text = {own.text: own for own in maps if own.picture == name}
        n = next(iter(by_text.values())).n
        thumb = thumbs.get(name)
        label = f"mean of {n} pictures" if not name else thumb.alt if thumb else name
        cells = (
            _heat_cell(by_text[text], state, thumb, label) if text in by_text else None
            for text in texts
            for state in states
        )
        yield HeatLine(label=label, cells=tuple(cells))


def _heat_cell(own: HeatMap, state: str, thumb: Thumb | None, label: str) -> HeatCell:
    drawn = overlay(own.off if state == "eraser off" else own.on)
    where = "heat map" if drawn else "no place speaks for it"
    return HeatCell(thumb=thumb, overlay=drawn, alt=f"{label}, asked for “{own.text}”, {state}: {where}")


def overlay(grey: str) -> str:
    """A grey map (PNG, base64) as see-through colour in a data URI; empty if it is black or no picture."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(grey))) as image:
            heat = np.asarray(image.convert("L"))
    except (ValueError, OSError):
        return ""
    if not heat.any():
        return ""
    colour = np.full((*heat.shape, 3), HEAT, dtype=np.uint8)
    opaque = (OPACITY * heat).round().astype(np.uint8)[..., None]
    stream = io.BytesIO()
    Image.fromarray(np.concatenate([colour, opaque], axis=2)).save(stream, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
