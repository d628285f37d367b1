"""RefCOCO, RefCOCO+ and RefCOCOg: what people said to single out one thing in a picture of COCO."""

from __future__ import annotations

import contextlib
import io
import pickle
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clip_lite.data.encoded import EncodedPictures
from clip_lite.data.pairs import Corpus, PairTable, Phrases, Record
from clip_lite.data.reading import About, Entry, Reading, Skips, with_val
from clip_lite.data.sources.label_files import labelled_corpus, needed
from clip_lite.data.sources.listed import spoken
from clip_lite.errors import CommandError, UsageError
from clip_lite.progress import say

PICTURES = "train2014"
FOLDERS = (PICTURES, f"images/{PICTURES}", f"../images/mscoco/images/{PICTURES}")
ABOUT = About(
    title="RefCOCO, RefCOCO+ or RefCOCOg: expressions that name one thing in a picture, with its box",
    layout="refs(unc).p, refs(umd).p or refs(google).p, instances.json, and COCO's train2014/ or "
    "images/train2014/",
    url="https://github.com/lichengunc/refer",
    licence="pictures by their Flickr authors; see the data set's page",
)
SPLITS = {"train": "train", "val": "val", "test": "test", "testA": "test_a", "testB": "test_b"}
TESTS = ("test", "test_a", "test_b")
ORDER = ("train", "val", *TESTS)
LIMITS = (
    "Groups are read from expressions: what a player of a game saw fit to say, as perceived.",
    "An expression names one thing in the picture, not the picture: retrieval by it is harder than by COCO's "
    "captions, and does not compare with it.",
    "Photographs from Flickr of COCO's 80 kinds of things, with several of a kind in each: not a sample of "
    "any population.",
    "Weights trained on COCO's train2014, or on pictures that hold it, have seen these pictures.",
)


class Referred(NamedTuple):
    """One thing that is named: its phrases, and its box in shares of the picture's sides."""

    picture: str
    split: str
    phrases: tuple[str, ...]
    box: tuple[float, float, float, float]


class _Plain(pickle.Unpickler):
    """Reads lists, dicts, texts and numbers; a pickle that asks for more could run anything."""

    def find_class(self, module: str, name: str) -> Any:
        """Nothing is imported.

        Raises:
            UnpicklingError: always.
        """
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, expected lists, texts and numbers only")


def load_refcoco(root: Path, reading: Reading) -> Corpus:
    """One picture with all its expressions to a pair; boxes are in ``Corpus.phrases``, also of ``val``.

    The splits are the data set's own, ``test_a`` (people) and ``test_b`` (other things) in RefCOCO and
    RefCOCO+. Google's split of RefCOCOg has no public test: its ``val`` is ``test``, and a share of train is
    ``val``. It divides things, not pictures: those of train that are in ``test`` too are left out of train.

    Args:
        root: holds the files of ``ABOUT.layout``.
        reading: ``annotations`` is the file of expressions where there are several.

    Raises:
        UsageError: something of the layout is missing, or there are several files of expressions.
        CommandError: a file that is not what it should be, or too much that cannot be used.
    """
    file, skips = _refs_file(root, reading.annotations), Skips()
    folder = needed(root, FOLDERS, ABOUT)
    instances = _instances(needed(root, ["instances.json"], ABOUT))
    things = _whole(list(_referred(_refs(file), instances, skips)))
    corpus = labelled_corpus(
        "refcoco",
        ABOUT,
        _listed(things, folder, reading),
        reading,
        skips,
        attribution="Kazemzadeh et al. 2014, Yu et al. 2016, Mao et al. 2016; COCO Consortium",
        limits=(f"Expressions of {file.parent.resolve().name}/{file.name}.", *LIMITS),
        captioned=True,
    )
    by_picture = defaultdict(list)
    for thing in things:
        by_picture[thing.picture].append(thing)
    phrases = {
        split: _phrases(table, by_picture, reading)
        for split, table in corpus.splits.items()
        if split != "train" and len(table)
    }
    return replace(corpus, phrases=phrases)


def _refs_file(root: Path, named: Path | None) -> Path:
    if named:
        return named
    found = sorted(root.glob("refs(*).p"))
    if not found:
        raise UsageError(f"data.root {root}: refs(unc).p is missing; expected {ABOUT.layout}")
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise UsageError(f"data.root {root} holds {names}: name one, --data.annotations '{found[0]}'")
    return found[0]


def _refs(file: Path) -> list[Any]:
    try:
        with file.open("rb") as content:
            refs = _Plain(content, encoding="utf-8", errors="replace").load()
    except Exception as error:  # a damaged pickle may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CommandError(f"{file} is not read: {reason}") from error
    if not isinstance(refs, list) or not refs:
        raise CommandError(f"{file} holds no list of expressions; expected {ABOUT.layout}")
    return refs


def _instances(file: Path) -> Any:
    from pycocotools.coco import COCO  # it prints as it reads

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            instances = COCO(str(file))
        if not (instances.imgs and instances.anns):
            raise ValueError("no image or no annotation")
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise CommandError(
            f"{file} holds no COCO instances ({type(error).__name__}: {error}); expected images, annotations"
        ) from error
    return instances


def _referred(refs: Sequence[Any], instances: Any, skips: Skips) -> Iterator[Referred]:
    for place, ref in enumerate(refs):
        try:
            name, split = f"refs[{place}]", ref["split"]
            name = f"ref_id {ref['ref_id']}"
            sentences = spoken(sentence["sent"] for sentence in ref["sentences"])
            picture, thing = instances.imgs.get(ref["image_id"]), instances.anns.get(ref["ann_id"])
            if split not in SPLITS:
                skips.add(f"expressions of no split of {', '.join(SPLITS)}", name)
            elif not sentences:
                skips.add("things without an expression", name)
            elif picture is None or thing is None or thing["image_id"] != ref["image_id"]:
                skips.add("expressions whose picture or annotation instances.json does not know", name)
            elif (box := _box(thing, picture)) is None:
                skips.add("things without a box inside their picture", name)
            else:
                yield Referred(_picture_name(picture), SPLITS[split], sentences, box)
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            skips.add(f"expressions that cannot be read ({type(error).__name__}: {error})", name)


def _picture_name(picture: Mapping[str, Any]) -> str:
    name = str(picture["file_name"])
    if Path(name).name != name:
        raise ValueError("file_name is no plain name")
    return name


def _box(thing: Mapping[str, Any], picture: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """The box as ``(x0, y0, x1, y1)`` in shares of the picture's sides, cut to the picture."""
    x, y, width, height = map(float, thing["bbox"])
    sides = (float(picture["width"]), float(picture["height"]))
    x0, x1 = (min(max(each / sides[0], 0.0), 1.0) for each in (x, x + width))
    y0, y1 = (min(max(each / sides[1], 0.0), 1.0) for each in (y, y + height))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _whole(things: Sequence[Referred]) -> list[Referred]:
    """The things of which no picture is in two splits: a test keeps its pictures, then val does."""
    splits = {thing.split for thing in things}
    if "val" in splits and not splits & set(TESTS):
        things = [thing._replace(split="test") if thing.split == "val" else thing for thing in things]
    home: dict[str, str] = {}
    for thing in things:
        home[thing.picture] = max(thing.split, home.get(thing.picture, "train"), key=ORDER.index)
    kept = [thing for thing in things if thing.split == home[thing.picture]]
    if len(kept) < len(things):
        say(
            f"refcoco: {len(things) - len(kept):,} things are not used: their picture is in a later split too"
        )
    return kept


def _listed(things: Sequence[Referred], folder: Path, reading: Reading) -> dict[str, list[Entry]]:
    """Entries by split, one for each picture, with the expressions of all its things."""
    captions: dict[str, dict[str, list[str]]] = {split: defaultdict(list) for split in ORDER}
    for thing in things:
        captions[thing.split][thing.picture].extend(thing.phrases)
    listed = {split: [_entry(folder, *own) for own in captions[split].items()] for split in ORDER}
    if not listed["train"] or not any(listed[split] for split in TESTS):
        there = ", ".join(split for split, entries in listed.items() if entries) or "no split"
        raise CommandError(f"refcoco: expected expressions of train and of a test split, found {there}")
    if not listed["val"]:
        listed |= with_val(listed["train"], reading)
    return {split: entries for split, entries in listed.items() if entries}


def _entry(folder: Path, name: str, phrases: Sequence[str]) -> Entry:
    picture = f"{PICTURES}/{name}"
    return Entry(folder / name, Record(picture, tuple(phrases), {}, picture))


def _phrases(table: PairTable, things: Mapping[str, Sequence[Referred]], reading: Reading) -> Phrases:
    """The expressions of a split's pictures, each with its box."""
    assert isinstance(table.images, EncodedPictures)
    named = [
        (row, phrase, thing.box, record.cluster)
        for row, record in zip(table.rows.tolist(), table.records, strict=True)
        for thing in things[Path(record.id).name]
        for phrase in thing.phrases
    ]
    rows, phrases, boxes, clusters = zip(*named, strict=True)
    return Phrases(
        images=EncodedPictures(table.images.store, size=reading.size, workers=reading.workers, whole=True),
        rows=np.array(rows, dtype=np.int64),
        phrases=phrases,
        boxes=np.array(boxes),
        clusters=np.array(clusters),
    )
