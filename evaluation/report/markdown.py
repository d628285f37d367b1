"""Strings of an audit as Markdown in which nothing from outside is markup."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

# A backslash would be markup itself, and dollars formulas, to some renderers: both become entities.
ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\\": "&#92;", "$": "&#36;"})
# What can be markup in the middle of a line: a bracket only where a link could follow, an underscore only at
# the edge of a word; so that intervals and names of methods stay readable in the source.
INLINE = re.compile(r"[`*|~#]|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])")
LEADING = re.compile(r"^(\d*)([-+.)])(?=[\s-]|$)")  # a list's bullet or number, a rule
IN_ADDRESSES = "%/:=&?~#+!,;@()*'"


class Markdown(str):
    """Text that is Markdown already."""

    __slots__ = ()


def one_line(value: object) -> str:
    """Any value as text without line breaks."""
    return " ".join(str(value).split())


def escaped(value: object) -> Markdown:
    """Any value as one line that renders as itself, in running text and in the cell of a table."""
    if isinstance(value, Markdown):
        return value
    line = LEADING.sub(r"\1\\\2", one_line(value).translate(ENTITIES))
    return Markdown(INLINE.sub(r"\\\g<0>", line))


def address(url: str) -> Markdown:
    """An http address as a link to itself."""
    return Markdown(f"<{quote(url, safe=IN_ADDRESSES)}>")


def block(code: str, language: str = "") -> Markdown:
    """A fenced block of code, whose fence is longer than any in it."""
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markdown(f"{fence}{language}\n{code}\n{fence}")


def bullets(lines: Sequence[tuple[str, str]]) -> Markdown:
    """A list of labelled facts."""
    return Markdown("\n".join(f"- **{escaped(label)}**: {escaped(text)}" for label, text in lines))


def table(header: Sequence[object], lines: Sequence[Sequence[object]], *, numbers: bool = True) -> Markdown:
    """A table; ``numbers`` stand to the right in all columns but the first."""
    rule = [Markdown("---"), *[Markdown("---:" if numbers else "---")] * (len(header) - 1)]
    head, *body = ([escaped(cell) for cell in line] for line in (header, *lines))
    return Markdown("\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *body]))
