"""RefCOCO's pickle and instances: phrases with boxes, splits without shared pictures, and hostile files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clip_lite.data.pairs import Corpus
from clip_lite.data.reading import Reading
from clip_lite.data.sources.refcoco import load_refcoco
from clip_lite.errors import CommandError, UsageError
from tests.clip_lite.data.conftest import jpeg

SPLITS = {1: "train", 2: "train", 3: "val", 4: "testA", 5: "testB", 6: "train"}


def ref(number: int, image: int, split: str) -> dict[str, Any]:
    words = f"thing {number}"
    sentences = [
        {"raw": text.upper(), "sent": text, "tokens": text.split(), "sent_id": 10 * number + place}
        for place, text in enumerate((words, f"the {words}"))
    ]
    return {
        "ref_id": number,
        "ann_id": 100 + number,
        "category_id": 1,
        "image_id": image,
        "file_name": f"COCO_train2014_{image:012d}_{number}.jpg",
        "split": split,
        "sent_ids": [10 * number, 10 * number + 1],
        "sentences": sentences,
    }


def name(image: int) -> str:
    return f"COCO_train2014_{image:012d}.jpg"


def put(root: Path, refs: object, file: str = "refs(unc).p") -> None:
    (root / file).write_bytes(pickle.dumps(refs, protocol=2))


@pytest.fixture
def refs() -> list[dict[str, Any]]:
    """Things 0 and 1 are in picture 1, every other picture has one."""
    return [ref(0, 1, "train"), *(ref(image, image, split) for image, split in SPLITS.items())]


@pytest.fixture
def root(tmp_path: Path, refs: list[dict[str, Any]]) -> Path:
    folder = tmp_path / "refcoco+"
    (folder / "train2014").mkdir(parents=True)
    images = [{"id": i, "file_name": name(i), "width": 40, "height": 30, "license": 1} for i in SPLITS]
    annotations = [
        {
            "id": each["ann_id"],
            "image_id": each["image_id"],
            "category_id": 1,
            "bbox": [4.0 + each["ref_id"], 3.0, 10.0, 15.0],
            "iscrowd": 0,
        }
        for each in refs
    ]
    for image in SPLITS:
        (folder / "train2014" / name(image)).write_bytes(jpeg(image))
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (folder / "instances.json").write_text(json.dumps(content))
    put(folder, refs)
    return folder


def load(root: Path, **changed: Any) -> Corpus:
    return load_refcoco(root, Reading(size=16, **{"val_fraction": 0.5, **changed}))


def ids(corpus: Corpus) -> dict[str, list[str]]:
    return {split: [record.id for record in table.records] for split, table in corpus.splits.items()}


def test_a_picture_has_the_expressions_of_all_its_things(root: Path) -> None:
    corpus = load(root)
    pictures = {1: "train", 2: "train", 6: "train", 3: "val", 4: "test_a", 5: "test_b"}
    expected: dict[str, list[str]] = {}
    for image, split in pictures.items():
        expected.setdefault(split, []).append(f"train2014/{name(image)}")
    assert ids(corpus) == expected
    first = corpus.splits["train"].records[0]
    assert first.captions == ("thing 0", "the thing 0", "thing 1", "the thing 1")
    assert (corpus.captioned, corpus.skipped) == (True, {})


def test_phrases_have_boxes_in_shares_of_the_whole_picture(root: Path) -> None:
    corpus = load(root)
    assert set(corpus.phrases) == {"val", "test_a", "test_b"}
    asked = corpus.phrases["test_a"]
    assert list(asked.phrases) == ["thing 4", "the thing 4"]
    assert asked.boxes == pytest.approx(np.array([[8 / 40, 3 / 30, 18 / 40, 18 / 30]] * 2))
    assert asked.clusters.tolist() == [f"train2014/{name(4)}"] * 2
    assert np.asarray(asked.images[asked.rows]).shape == (2, 3, 16, 16)
    assert not np.array_equal(asked.images[asked.rows][0], corpus.splits["test_a"][0].image.numpy())


def test_where_things_are_divided_no_picture_is_in_two_splits(root: Path, refs: list[dict[str, Any]]) -> None:
    """Google's split: no test, and a picture with one thing in train and one in val."""
    for each in refs:
        each["split"] = "val" if each["ref_id"] in (1, 3) else "train"
    put(root, refs)
    parts = ids(load(root))
    assert sorted(parts["test"]) == [f"train2014/{name(i)}" for i in (1, 3)]
    assert sorted(parts["train"] + parts["val"]) == [f"train2014/{name(i)}" for i in (2, 4, 5, 6)]
    assert len(parts["val"]) == 2


def test_of_two_files_one_is_named(root: Path, refs: list[dict[str, Any]]) -> None:
    put(root, refs[:1], "refs(google).p")
    with pytest.raises(UsageError, match=r"holds refs\(google\)\.p and refs\(unc\)\.p: name one, --data"):
        load(root)
    assert len(load(root, annotations=root / "refs(unc).p").splits["train"]) == 3


def test_a_pickle_that_asks_for_more_than_plain_things_is_refused(root: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (root / "opened",))

    put(root, [Hostile()])
    with pytest.raises(CommandError, match=r"refs\(unc\)\.p is not read: it asks for ") as said:
        load(root)
    assert "\n" not in str(said.value)
    assert not (root / "opened").exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps({"a": 1}), pickle.dumps([1, 2])[:-3]])
def test_a_file_that_is_no_list_is_refused(root: Path, content: bytes) -> None:
    (root / "refs(unc).p").write_bytes(content)
    with pytest.raises(CommandError, match=r"refs\(unc\)\.p"):
        load(root)


def test_what_is_unknown_missing_or_broken_is_left_out_and_counted(
    root: Path, refs: list[dict[str, Any]]
) -> None:
    unknown, silent, malformed = ref(7, 1, "train"), ref(1, 1, "train"), ref(2, 2, "train")
    silent["sentences"] = [{"sent": "  "}]
    del malformed["sentences"]
    put(root, [*refs, unknown, silent, malformed, "no dict"])
    (root / "train2014" / name(4)).unlink()
    picture = root / "train2014" / name(6)
    picture.write_bytes(picture.read_bytes()[:300])
    put(root, [*refs, ref(7, 1, "train"), silent, malformed, "no dict", {**ref(5, 5, "testA"), "ref_id": 9}])
    corpus = load(root, skip_limit=0.9)
    assert "test_a" not in corpus.phrases
    assert len(corpus.splits["train"]) == 2
    reasons = " ".join(corpus.skipped)
    for said in ("does not know", "without an expression", "cannot be read", "missing"):
        assert said in reasons
    with pytest.raises(CommandError, match=r"refcoco: .* cannot be used, more than data.skip_limit"):
        load(root)


@pytest.mark.parametrize("missing", ["instances.json", "refs(unc).p"])
def test_a_missing_part_is_named(root: Path, missing: str) -> None:
    (root / missing).unlink()
    with pytest.raises(UsageError, match=f"{missing.split('(')[0]}.* is missing"):
        load(root)
