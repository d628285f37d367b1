"""CIFAR-10 and CIFAR-100 in their Python version, read by torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity

from clip_lite.data.pairs import Corpus, Record
from clip_lite.data.reading import About, Entry, Reading, Skips, with_val
from clip_lite.data.sources.array_store import ArrayStore
from clip_lite.data.sources.label_files import labelled_corpus
from clip_lite.errors import CommandError, UsageError

ABOUT = About(
    title="CIFAR-10 or CIFAR-100: pictures of 32 x 32 pixels of one thing each",
    layout="cifar-10-batches-py/ or cifar-100-python/, unpacked",
    url="https://www.cs.toronto.edu/~kriz/cifar.html",
    licence="none stated; see the data set's page",
)
CLASS = "class"
LIMITS = (
    "Pictures of 32 x 32 pixels collected from the web by search words: not a sample of any population, and "
    "far from the pictures that most models are trained on.",
    "Some test pictures have near-copies in train (about 3% in CIFAR-10, 10% in CIFAR-100: Barz and Denzler "
    "2020), so a probe's accuracy is a little too high.",
    "Nothing is known of the people in the pictures: an audit of a protected attribute needs labels of your "
    "own.",
)


def load_cifar(root: Path, reading: Reading) -> Corpus:
    """CIFAR with splits ``train``, ``val`` (a share of the training pictures) and ``test``.

    The files are pickles, which may run anything when they are read. torchvision reads only files whose MD5
    is that of the published ones.

    Args:
        root: folder that holds ``cifar-10-batches-py`` or ``cifar-100-python``, or one of these.
        reading: how pictures are read.

    Raises:
        UsageError: neither folder is there, or both.
        CommandError: a file that is missing or not the published one.
    """
    kind, parent = _kind(root)
    _check_files(kind, parent / kind.base_folder)
    parts = {part: kind(parent, train=part == "train", download=False) for part in ("train", "test")}
    listed = {part: _entries(part, own.targets, own.classes) for part, own in parts.items()}
    pictures = {
        entry.record.id: picture
        for part, entries in listed.items()
        for entry, picture in zip(entries, parts[part].data, strict=True)
    }
    splits = with_val(listed["train"], reading) | {"test": listed["test"]}
    ids = [entry.record.id for entries in splits.values() for entry in entries]
    return labelled_corpus(
        kind.__name__.lower(),
        ABOUT._replace(title=kind.__name__.replace("CIFAR", "CIFAR-")),
        splits,
        reading,
        Skips(),
        attribution="Alex Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009",
        limits=LIMITS,
        store=ArrayStore(np.stack([pictures[each] for each in ids]), ids),
        classification=CLASS,
        role=CLASS,
    )


def _kind(root: Path) -> tuple[type[CIFAR10], Path]:
    """Which CIFAR lies there, and the folder that holds its folder."""
    kinds = (CIFAR10, CIFAR100)
    for kind in kinds:
        if root.resolve().name == kind.base_folder:
            return kind, root.resolve().parent
    found = [kind for kind in kinds if (root / kind.base_folder).is_dir()]
    if len(found) == 1:
        return found[0], root
    names = [kind.base_folder for kind in kinds]
    if found:
        raise UsageError(
            f"data.root {root} holds both {' and '.join(names)}: name one, --data.root {root / names[0]}"
        )
    raise UsageError(
        f"data.root {root} holds neither {' nor '.join(names)}; unpack the archive from {ABOUT.url}"
    )


def _check_files(kind: type[CIFAR10], folder: Path) -> None:
    files = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
    for name, md5 in files:
        if not (folder / name).is_file():
            raise CommandError(f"{folder / name} is missing; unpack the whole archive from {ABOUT.url}")
        if not check_integrity(folder / name, md5):
            raise CommandError(
                f"{folder / name} is not the published file (its MD5 is not {md5}) and is not read, for a "
                f"pickle of another origin may run anything: get the archive from {ABOUT.url}"
            )


def _entries(part: str, targets: Sequence[int], classes: Sequence[str]) -> list[Entry]:
    named = [{CLASS: name.replace("_", " ")} for name in classes]
    ids = [f"{part}/{place:05d}" for place in range(len(targets))]
    return [
        Entry(Path(each), Record(each, (), named[target], each))
        for each, target in zip(ids, targets, strict=True)
    ]
