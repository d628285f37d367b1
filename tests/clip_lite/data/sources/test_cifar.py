"""CIFAR as published: batches of rows, names of classes, and no pickle of another origin."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from clip_lite.data.pairs import Corpus
from clip_lite.data.reading import Reading
from clip_lite.data.sources.array_store import ArrayStore
from clip_lite.data.sources.cifar import load_cifar
from clip_lite.errors import CommandError, UsageError

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FINE = ["apple", "aquarium_fish", "baby"]
EACH = 4


def rows(batch: int) -> np.ndarray:
    """Rows of 3,072 bytes, all red, then all green, then all blue, as the batches have them."""
    return np.random.default_rng(batch).integers(0, 256, (EACH, 3072), dtype=np.uint8)


def put(path: Path, content: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def ten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10 with four pictures to a batch; torchvision is told its MD5s."""
    folder = tmp_path / "data" / "cifar-10-batches-py"
    sums = {
        name: put(
            folder / name,
            {
                "batch_label": f"batch {place}",
                "labels": [(place + each) % 10 for each in range(EACH)],
                "data": rows(place),
                "filenames": [f"{place}_s_{each:06d}.png" for each in range(EACH)],
            },
        )
        for place, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"])
    }
    meta = put(folder / "batches.meta", {"label_names": NAMES, "num_cases_per_batch": EACH, "num_vis": 3072})
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums.pop("test_batch")]])
    monkeypatch.setattr(CIFAR10, "train_list", [list(pair) for pair in sums.items()])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": meta})
    return tmp_path / "data"


@pytest.fixture
def hundred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hundred" / "cifar-100-python"
    content = {"coarse_labels": [0] * EACH, "fine_labels": [0, 1, 2, 1], "data": rows(7)}
    for split in ("train", "test"):
        monkeypatch.setattr(CIFAR100, f"{split}_list", [[split, put(folder / split, content)]])
    meta = put(folder / "meta", {"fine_label_names": FINE, "coarse_label_names": ["aquatic_mammals"]})
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": meta})
    return folder.parent


def load(root: Path, size: int = 32, **changed: Any) -> Corpus:
    return load_cifar(root, Reading(size=size, **{"val_fraction": 0.25, **changed}))


def test_pictures_and_classes_belong_together(ten: Path) -> None:
    corpus = load(ten)
    assert {split: len(table) for split, table in corpus.splits.items()} == {"train": 15, "val": 5, "test": 4}
    for split, table in corpus.splits.items():
        for place, record in enumerate(table.records):
            part, _, number = record.id.partition("/")
            assert (part == "test") == (split == "test")
            batch, row = (5, int(number)) if part == "test" else divmod(int(number), EACH)
            assert record.attributes == {"class": NAMES[(batch + row) % 10]}
            assert (table[place].image.numpy() == rows(batch)[row].reshape(3, 32, 32)).all()
    assert corpus.classification == corpus.role == "class"
    assert not corpus.captioned
    assert corpus.templates == ("a photo of a {}",)


def test_pictures_are_enlarged_to_the_side_asked(ten: Path) -> None:
    assert load(ten, size=48).splits["test"].pixels(slice(0, 2)).shape == (2, 3, 48, 48)


def test_of_a_hundred_the_fine_classes_are_read_as_words(hundred: Path) -> None:
    corpus = load(hundred)
    assert corpus.name == "cifar100"
    said = corpus.splits["test"].attribute("class").tolist()
    assert said == ["apple", "aquarium fish", "baby", "aquarium fish"]


def test_the_folder_may_be_the_inner_one(ten: Path) -> None:
    assert load(ten / "cifar-10-batches-py").digest == load(ten).digest


def test_both_or_none_are_refused(ten: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds neither cifar-10-batches-py nor cifar-100-python"):
        load(tmp_path)
    (ten / "cifar-100-python").mkdir()
    with pytest.raises(UsageError, match=r"holds both .*: name one, --data.root .*cifar-10-batches-py"):
        load(ten)


def test_a_pickle_of_another_origin_is_never_opened(ten: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (ten / "opened",))

    file = ten / "cifar-10-batches-py" / "data_batch_3"
    file.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(
        CommandError, match=r"data_batch_3 is not the published file \(its MD5 is not"
    ) as said:
        load(ten)
    assert "\n" not in str(said.value)
    assert not (ten / "opened").exists()


@pytest.mark.parametrize("name", ["test_batch", "batches.meta"])
def test_a_missing_file_is_named(ten: Path, name: str) -> None:
    (ten / "cifar-10-batches-py" / name).unlink()
    with pytest.raises(CommandError, match=f"{name} is missing; unpack the whole archive"):
        load(ten)


def test_a_store_gives_the_pixels_back_and_its_fingerprint_follows_them() -> None:
    pictures = rows(0).reshape(EACH, 32, 32, 3)
    store = ArrayStore(pictures, [f"p{place}" for place in range(EACH)])
    assert (np.asarray(Image.open(io.BytesIO(store.read(2)))) == pictures[2]).all()
    assert (len(store), store.name(2)) == (EACH, "p2")
    before = [store.fingerprint(row) for row in range(EACH)]
    pictures[2, 5, 5, 0] ^= 1
    after = [store.fingerprint(row) for row in range(EACH)]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False, True]


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        (np.zeros((2, 3, 8, 8), np.uint8), "expected uint8"),
        (np.zeros((2, 8, 8, 3)), "expected uint8"),
        (np.zeros((3, 8, 8, 3), np.uint8), "3 pictures but 2 names"),
    ],
)
def test_an_array_of_another_kind_is_refused(pictures: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ArrayStore(pictures, ["a", "b"])
