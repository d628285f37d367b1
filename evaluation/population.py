"""Whose attribute is audited, and which group each picture is counted in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clip_lite.data.pairs import Corpus, PairTable
from debias.attribute_file import NONE
from debias.attributes import ProtectedAttribute
from debias.label_noise import LabelNoise, label_noise


class Population(NamedTuple):
    """The audited pictures of a split: mask ``keep`` ``(n,)``, the pictures, their groups."""

    keep: np.ndarray
    table: PairTable
    labels: np.ndarray


def population(corpus: Corpus, split: str, attribute: ProtectedAttribute) -> Population:
    """Audited pictures of a split that belong to one of the attribute's groups.

    The group is the corpus's own label; where the corpus does not know the attribute, what captions say.

    Raises:
        ValueError: a group without pictures in two clusters, so that nothing could be said of it.
    """
    table = corpus.splits[split]
    labels = group_labels(table, attribute)
    audited = np.array([corpus.audited(record) for record in table.records])
    keep = audited & np.isin(labels, attribute.groups)
    for group in attribute.groups:
        items = len(set(table.clusters[keep & (labels == group)]))
        if items < 2:
            named = sorted({name for record in table.records[:100] for name in record.attributes})
            labels_there = f"; its pictures have labels named {', '.join(named)}" if named else ""
            raise ValueError(
                f"attribute {attribute.name}: corpus {corpus.name!r}, split {split!r} shows {group!r} in "
                f"{items} audited items, an audit needs at least 2: take an attribute whose groups this "
                f"corpus shows, or another corpus (--data.source){labels_there}"
            )
    return Population(keep, table.rows_where(keep), labels[keep])


def group_labels(table: PairTable, attribute: ProtectedAttribute) -> np.ndarray:
    """Group of every picture ``(n,)``: the corpus's label if it knows the attribute, else the captions'."""
    if corpus_knows(table, attribute):
        return np.array([attribute.group_in(record.attributes) or NONE for record in table.records])
    return caption_labels(table, attribute)


def corpus_knows(table: PairTable, attribute: ProtectedAttribute) -> bool:
    """Whether the pictures carry labels of their own for the attribute."""
    return any(attribute.group_in(record.attributes) is not None for record in table.records)


def caption_labels(table: PairTable, attribute: ProtectedAttribute) -> np.ndarray:
    """What the captions of every picture say ``(n,)``: a group, ``mixed`` or ``none``."""
    return np.array([attribute.label(record.captions) for record in table.records])


def caption_noise(corpus: Corpus, attribute: ProtectedAttribute | None) -> LabelNoise | None:
    """How often captions of the audited training pictures name another group than the corpus's own label.

    None where the corpus has no labels of its own.
    """
    table = corpus.splits["train"]
    if attribute is None or not corpus.captioned or not corpus_knows(table, attribute):
        return None
    people = population(corpus, "train", attribute).table
    return label_noise(
        attribute,
        [record.captions for record in people.records],
        [attribute.group_in(record.attributes) for record in people.records],
        clusters=people.clusters.tolist(),
    )


def check_auditable(corpus: Corpus, attribute: ProtectedAttribute | None) -> None:
    """Find out before long work whether an audit can work on a corpus.

    Raises:
        ValueError: an empty split, or a group that is hardly there.
    """
    if empty := [name for name, table in corpus.splits.items() if len(table) == 0]:
        raise ValueError(f"split {empty[0]!r} is empty: raise data.val_fraction or data.test_fraction")
    if attribute:
        for split in (name for name in corpus.splits if name != "val"):
            population(corpus, split, attribute)


def check_named(corpus: Corpus, attribute: ProtectedAttribute) -> None:
    """Find out before training whether captions name groups that an eraser can be fitted by.

    Raises:
        ValueError: captions that do not name two groups.
    """
    said = set(caption_labels(corpus.splits["train"], attribute))
    named = [group for group in attribute.groups if group in said]
    if len(named) < 2:
        raise ValueError(f"attribute {attribute.name}: captions to train on name only {named}")


def describe_attribute(attribute: ProtectedAttribute | None, corpus: Corpus) -> dict[str, object]:
    """Name, version and lexicon of the audited attribute, and where its labels come from."""
    if attribute is None:
        return {}
    labels = (
        "the corpus's own labels"
        if corpus_knows(corpus.splits["train"], attribute)
        else "groups read from captions too"
    )
    erasers = "erasers read groups from captions" if corpus.captioned else "pictures have no captions"
    return {
        "name": attribute.name,
        "version": attribute.version,
        "groups": list(attribute.groups),
        "lexicon_digest": attribute.digest,
        "label_source": f"{erasers}; attackers are scored on {labels}",
        "note": "Groups are read from text or as a picture's source perceived them; nobody was asked.",
    }
