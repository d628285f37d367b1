"""Pictures that show several classes: which, which not, and of which that cannot be said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clip_lite.data.pairs import PairTable


def object_classes(table: PairTable, attribute: str) -> list[str]:
    """Names of all classes that some picture surely shows, sorted."""
    return sorted({name for said in table.attribute(attribute) for name in _names(said)})


def object_matrix(table: PairTable, attribute: str, classes: Sequence[str], *, unsure: int = 0) -> np.ndarray:
    """Which picture shows which class, int8 ``(n, c)``: 1 where it does, -1 where not.

    Args:
        table: pictures; ``attribute`` holds the classes joined by ``;``, ``{attribute}_unsure`` those of
            which it cannot be said (of which all objects are "difficult").
        classes: names of the columns.
        unsure: what stands for the latter: 0 leaves them out of a test, -1 makes them negatives.
    """
    column = {name: place for place, name in enumerate(classes)}
    matrix = np.full((len(table), len(classes)), -1, dtype=np.int8)
    for said, value in ((f"{attribute}_unsure", unsure), (attribute, 1)):
        for row, names in enumerate(table.attribute(said)):
            matrix[row, [column[name] for name in _names(names) if name in column]] = value
    return matrix


def _names(said: str) -> list[str]:
    """The classes of one picture; "none" stands for a picture without the attribute."""
    return [name for name in said.split(";") if name] if said != "none" else []
