"""Which picture an id of somebody's table means: by the id, its file name, or the number in it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from clip_lite.data.pairs import Corpus
from clip_lite.progress import progress_bar

ENDINGS = frozenset(("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"))
LAST_DIGITS = re.compile(r"([0-9]+)(?:\.0)?$")
BARE = re.compile(r"[0-9]+(\.0)?")
BLOCK = 65536  # ids at a time
NO_PICTURE, SEVERAL = -1, -2
SHOWN = 3  # ids, in a message


class Rule(NamedTuple):
    """How ids of pictures, and those ``asked`` by a table, become keys; those of equal keys belong together.

    ``""`` belongs to none.
    """

    name: str
    key: Callable[[str], str]
    asked: Callable[[str], str]


def _file_name(text: str) -> str:
    return text.strip().replace("\\", "/").rpartition("/")[2]


def _stem(text: str) -> str:
    name = _file_name(text)
    stem, _, ending = name.rpartition(".")
    return stem if ending.lower() in ENDINGS else name


def _number(text: str) -> str:
    """``COCO_val2014_000000000042.jpg`` → ``42``."""
    digits = LAST_DIGITS.search(_stem(text))
    return (digits[1].lstrip("0") or "0") if digits else ""


def _bare_number(text: str) -> str:
    """``42``, ``042`` and ``42.0`` (of a column that was one of floats) → ``42``; nothing else is a number.

    Names of other data sets end in numbers too.
    """
    return _number(text) if BARE.fullmatch(text.strip()) else ""


RULES = (
    Rule("id", str.strip, str.strip),
    Rule("file name", _file_name, _file_name),
    Rule("file name without its ending", _stem, _stem),
    Rule("the number that the file name ends in", _number, _bare_number),
)


class NamedPictures:
    """What the pictures of a corpus are called, by every rule; a picture of two splits is one."""

    def __init__(self, corpus: Corpus) -> None:
        self.shown: list[str] = []
        tables = corpus.splits.items()
        hashes: list[np.ndarray] = []
        with progress_bar(f"reading ids of {corpus.name}", sum(len(table) for _, table in tables)) as advance:
            ids = (record.id for _, table in tables for record in table.records)
            while block := list(itertools.islice(ids, BLOCK)):
                self.shown = self.shown or block[:SHOWN]
                hashes.append(np.stack([_hashes(block, rule.key) for rule in RULES]))
                advance(len(block), "")
        joined = np.concatenate(hashes, axis=1) if hashes else np.empty((len(RULES), 0), dtype=np.uint64)
        _, first, row_of = np.unique(joined[0], return_index=True, return_inverse=True)
        self._indices = [KeyIndex(rule, own) for rule, own in zip(RULES, joined[:, first], strict=True)]
        self._count = len(first)
        ends = np.cumsum([len(table) for _, table in tables])[:-1]
        self.rows = dict(zip(corpus.splits, np.split(row_of.astype(np.int32), ends), strict=True))

    def __len__(self) -> int:
        return self._count

    def first_index(self, ids: Sequence[str]) -> KeyIndex | None:
        """By the first rule under which any of these ids is of one picture."""
        return next((index for index in self._indices if (index.find(ids) >= 0).any()), None)


class KeyIndex:
    """From keys of one rule to pictures, given the hash of each picture's key ``(m,)``."""

    def __init__(self, rule: Rule, hashes: np.ndarray) -> None:
        self.rule = rule
        self._known, first, times = np.unique(hashes, return_index=True, return_counts=True)
        self._rows = np.where(times == 1, first, SEVERAL).astype(np.int32)
        self._rows[self._known == _hashes([""], str)] = NO_PICTURE

    def find(self, ids: Sequence[str]) -> np.ndarray:
        """Row of each id's picture ``(n,)``, ``NO_PICTURE`` or ``SEVERAL``."""
        wanted = _hashes(ids, self.rule.asked)
        place = np.searchsorted(self._known, wanted).clip(max=len(self._known) - 1)
        return np.where(self._known[place] == wanted, self._rows[place], NO_PICTURE)


def _hashes(ids: Sequence[str], key: Callable[[str], str]) -> np.ndarray:
    keys = np.array([key(text) for text in ids], dtype=object)
    return pd.util.hash_array(keys, categorize=False)
