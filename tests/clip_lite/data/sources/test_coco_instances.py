"""Instances of COCO: three kinds of segmentation, people, crowds, and what is broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask
from pycocotools.coco import COCO

from clip_lite.data.pairs import Corpus
from clip_lite.data.reading import Reading
from clip_lite.data.sources.coco import load_coco
from clip_lite.data.sources.coco_instances import check_segmentation, read_instances, segmentation_area
from clip_lite.errors import CommandError

HEIGHT, WIDTH = 30, 40
CATEGORIES = [
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "vehicle", "id": 2, "name": "bicycle"},
    {"supercategory": "animal", "id": 18, "name": "dog"},
]


def box(x: float, y: float, width: float, height: float) -> list[float]:
    """A polygon, as COCO writes it: x and y in turn."""
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def filled(x: int, y: int, width: int, height: int) -> np.ndarray:
    picture = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    picture[y : y + height, x : x + width] = 1
    return picture


def compressed(picture: np.ndarray) -> dict[str, Any]:
    rle = mask.encode(picture)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def listed(picture: np.ndarray) -> dict[str, Any]:
    """Uncompressed: lengths of runs in column order, from zeros on."""
    flat = picture.flatten(order="F").astype(int)
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges.tolist(), len(flat)]).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": [0, *counts] if flat[0] else counts}


def annotation(number: int, picture: int, category: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    said = {"id": number, "image_id": picture, "category_id": category, "segmentation": segmentation}
    return {**said, "iscrowd": 0, "area": 12.5, "bbox": [1.0, 2.0, 3.0, 4.0], **more}


def write(
    root: Path, annotations: list[Any], split: str = "val2017", change: Callable[[Any], Any] | None = None
) -> Path:
    images = [
        {"id": n, "file_name": f"{n:012d}.jpg", "height": HEIGHT, "width": WIDTH} for n in range(101, 109)
    ]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": CATEGORIES}
    if change:
        change(content)
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    file = root / "annotations" / f"instances_{split}.json"
    file.write_text(json.dumps(content))
    return file


SHAPES = [
    [box(4, 3, 20, 10)],
    [box(0, 0, 5, 5), box(20.0, 10.0, 8.0, 6.0)],
    listed(filled(4, 3, 20, 10)),
    listed(filled(0, 0, 40, 30)),
    listed(filled(10, 10, 1, 1)),
    compressed(filled(4, 3, 20, 10)),
    compressed(filled(0, 0, 40, 30)),
    compressed(filled(39, 29, 1, 1) | filled(3, 3, 9, 9) | filled(20, 1, 2, 28)),
    compressed((np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.5).astype(np.uint8, order="F")),
]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools' decode
@pytest.mark.parametrize("segmentation", SHAPES)
def test_areas_of_all_three_kinds_are_those_of_pycocotools_masks(tmp_path: Path, segmentation: Any) -> None:
    file = write(tmp_path, [annotation(1, 101, 1, segmentation)])
    coco = COCO(str(file))
    area = int(coco.annToMask(coco.anns[1]).sum())
    assert segmentation_area(segmentation, (HEIGHT, WIDTH)) == area > 0


@pytest.mark.parametrize(
    "segmentation",
    [
        [],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [["a"] * 6],
        [[float("nan")] * 6],
        [[1e9, 0, 1e9, 5, 0, 5]],
        [None],
        "polygon",
        7,
        {"counts": [1200]},
        {"size": [HEIGHT, WIDTH]},
        {"size": [HEIGHT, WIDTH], "counts": [1199]},
        {"size": [HEIGHT, WIDTH], "counts": [1201, -1]},
        {"size": [HEIGHT, WIDTH], "counts": ["a"]},
        {"size": [HEIGHT, WIDTH], "counts": []},
        {"size": [HEIGHT, WIDTH], "counts": ""},
        {"size": [HEIGHT, WIDTH], "counts": "zzzz"},
        {"size": [HEIGHT, WIDTH], "counts": "é"},
        {"size": [HEIGHT, WIDTH], "counts": compressed(filled(4, 3, 20, 10))["counts"][:-2]},
        {"size": [WIDTH, HEIGHT], "counts": compressed(filled(4, 3, 20, 10))["counts"]},
    ],
)
def test_what_is_no_segmentation_is_refused(segmentation: Any) -> None:
    with pytest.raises(ValueError, match="no segmentation"):
        check_segmentation(segmentation, (HEIGHT, WIDTH))


def test_objects_and_people_of_a_picture(tmp_path: Path) -> None:
    crowd = {"iscrowd": 1}
    file = write(
        tmp_path,
        [
            annotation(1, 101, 18, [box(0, 0, 5, 5)]),
            annotation(2, 101, 1, [box(0, 0, 5, 5)], area=120.0),
            annotation(3, 101, 1, compressed(filled(0, 0, 20, 15)), area=None),
            annotation(4, 101, 1, listed(filled(0, 0, 40, 30)), area=1200.0, **crowd),
            annotation(5, 101, 2, listed(filled(0, 0, 40, 30)), **crowd),
            annotation(6, 102, 1, [box(0, 0, 40, 30)], area=1200.0),
        ],
    )
    attributes = read_instances(file, skip_limit=0).attributes
    assert attributes[101] == {
        "objects": "dog;person",
        "objects_unsure": "bicycle",
        "people": "2",
        "person_share": "0.250",
    }
    assert attributes[102] == {"objects": "person", "people": "1", "person_share": "1.000"}
    assert attributes[103] == {"objects": "", "people": "0", "person_share": "0.000"}


def test_broken_annotations_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = [annotation(n, 101 + n % 8, 18, [box(0, 0, 5, 5)]) for n in range(20)]
    cut = {"size": [HEIGHT, WIDTH], "counts": compressed(filled(4, 3, 20, 10))["counts"][:-2]}
    broken = [
        annotation(100, 101, 99, [box(0, 0, 5, 5)]),
        annotation(101, 101, 1, [[1, 2, 3]]),
        annotation(102, 101, 1, cut),
        annotation(103, 999, 1, [box(0, 0, 5, 5)]),
        annotation(104, 101, 1, [box(0, 0, 5, 5)], area="large"),
        {"id": 105, "image_id": 101},
        "no annotation",
        annotation(106, 101, 1, None, area=None),
    ]
    file = write(tmp_path, fine + broken)
    instances = read_instances(file, skip_limit=0.3)
    assert instances.left_out == len(broken)
    assert {one["objects"] for one in instances.attributes.values()} == {"dog"}
    assert {one["people"] for one in instances.attributes.values()} == {"0"}
    said = capsys.readouterr().out
    assert "left out 1 of 28: annotations of an unknown category: annotation 100" in said
    with pytest.raises(CommandError, match=r"8 of 28 cannot be used, .*annotation 100 \(annotations of an"):
        read_instances(file, skip_limit=0.2)


def test_without_the_size_of_a_picture_there_is_no_share(tmp_path: Path) -> None:
    def forget(content: Any) -> None:
        for image in content["images"]:
            del image["height"]

    file = write(tmp_path, [annotation(1, 101, 1, compressed(filled(0, 0, 4, 4)), area=None)], change=forget)
    assert read_instances(file, skip_limit=0).attributes[101] == {"objects": "person", "people": "1"}


def test_where_nobody_could_be_outlined_nobody_is_counted(tmp_path: Path) -> None:
    def rename(content: Any) -> None:
        content["categories"] = [{"id": 1, "name": "person", "supercategory": "category"}]

    file = write(tmp_path, [annotation(1, 101, 1, [box(0, 0, 5, 5)])], change=rename)
    assert read_instances(file, skip_limit=0).attributes[101] == {"objects": "person"}


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_a_file_without_instances_is_refused(tmp_path: Path, key: str) -> None:
    file = write(tmp_path, [], change=lambda content: content.pop(key))
    with pytest.raises(CommandError, match=f"{file} holds no instances .*{key}"):
        read_instances(file, skip_limit=0)


def test_a_corpus_has_the_objects_of_the_files_that_are_there(coco_root: Path) -> None:
    def load() -> Corpus:
        return load_coco(coco_root, Reading(size=16, skip_limit=0.2))

    assert load().objects is None
    fine = [annotation(n, n, 18 if n % 2 else 1, [box(0, 0, 5, 5)]) for n in range(101, 109)]
    write(coco_root, [*fine, annotation(1, 108, 77, [])], split="val2017")
    corpus = load()
    assert corpus.objects == "objects"
    assert corpus.splits["test"].attribute("objects").tolist() == ["dog", "person"] * 4
    assert corpus.splits["test"].attribute("people").tolist() == ["0", "1"] * 4
    assert set(corpus.splits["train"].attribute("objects")) == {"none"}
    assert corpus.sources[0]["instances_left_out"] == 1
    assert corpus.skipped == {}
