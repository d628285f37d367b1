"""What COCO's instance annotations say about a picture: its objects, and how many people, how large."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from clip_lite.data.reading import Skips
from clip_lite.data.sources.label_files import json_object
from clip_lite.errors import CommandError
from clip_lite.progress import track

PERSON = "person"
EXPECTED = "COCO's instances with images, categories and annotations"
BROKEN = (ValueError, TypeError, KeyError, IndexError, OverflowError)
Size = tuple[int, int]


class Instances(NamedTuple):
    """Attributes by the id of a picture, and how many annotations were left out."""

    attributes: dict[Any, dict[str, str]]
    left_out: int


@dataclass
class _Seen:
    """What is outlined in one picture."""

    size: Size | None
    objects: set[str] = field(default_factory=set)
    crowds: set[str] = field(default_factory=set)
    people: int = 0
    largest: float = 0.0


def read_instances(file: Path, *, skip_limit: float) -> Instances:
    """Attributes of every picture of ``instances_*.json``.

    ``objects`` names the categories that are outlined one by one, sorted and joined by ``;``, and
    ``objects_unsure`` those that are there as a crowd only. Where the file has COCO's category *person*,
    ``people`` is the number of outlined persons, and ``person_share`` the largest one's area as a share of
    the picture, to three decimals. Areas are the annotations' own, or else counted in their segmentation. No
    mask is kept.

    An annotation of an unknown picture or category, or with a broken segmentation, is left out and counted.

    Args:
        file: the JSON.
        skip_limit: share of the annotations that may be left out.

    Raises:
        CommandError: the file holds no instances, or too many are left out.
    """
    content = json_object(file, EXPECTED)
    try:
        seen = {image["id"]: _Seen(_size(image)) for image in content["images"]}
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        persons = {
            category["id"]
            for category in content["categories"]
            if category["name"] == category.get("supercategory") == PERSON
        }
        annotations = list(content["annotations"])
    except BROKEN as error:
        reason = f"{type(error).__name__}: {error}"
        raise CommandError(f"{file} holds no instances ({reason}); expected {EXPECTED}") from error
    skips = Skips()
    for place, annotation in enumerate(track(annotations, f"reading {file.name}", len(annotations))):
        if problem := _count(annotation, seen, names, persons):
            number = annotation.get("id", place) if isinstance(annotation, dict) else place
            skips.add(problem, f"annotation {number}")
    skips.check(len(annotations), skip_limit, source=str(file))
    attributes = {picture: _attributes(one, people=bool(persons)) for picture, one in seen.items()}
    return Instances(attributes, len(skips))


def segmentation_area(segmentation: Any, size: Size | None) -> int:
    """Pixels inside polygons, a list of counts, or compressed counts, in a picture of ``(height, width)``.

    Raises:
        ValueError: it is none of them, or not of a picture of that size.
    """
    from pycocotools import mask

    checked = check_segmentation(segmentation, size)
    if isinstance(checked, dict):
        return int(mask.area(checked))
    if size is None:
        raise ValueError("polygons without the size of their picture")
    return int(mask.area(mask.merge(mask.frPyObjects(checked, *size))))


def check_segmentation(segmentation: Any, size: Size | None) -> Any:
    """Polygons as they are, counts as COCO's compressed form.

    Raises:
        ValueError: neither.
    """
    try:
        if isinstance(segmentation, list):
            return _polygons(segmentation, size)
        return _compressed(segmentation, size)
    except BROKEN as error:
        raise ValueError(f"no segmentation ({error})") from error


def _polygons(parts: Sequence[Any], size: Size | None) -> Any:
    reach = 2 * max(size) if size else math.inf  # far outside, a line is too long to be drawn
    for part in parts:
        if len(part) < 6 or len(part) % 2 or not all(map(math.isfinite, part)):
            raise ValueError("a polygon is no list of at least three points")
        if max(part) > reach or min(part) < -reach:
            raise ValueError("a polygon lies outside the picture")
    if not parts:
        raise ValueError("no polygon")
    return parts


def _compressed(segmentation: Any, size: Size | None) -> Any:
    from pycocotools import mask

    height, width = (int(side) for side in segmentation["size"])
    if size not in (None, (height, width)) or height < 1 or width < 1:
        raise ValueError(f"counts of a picture of {width} x {height}")
    counts = segmentation["counts"]
    runs = counts if isinstance(counts, list) else _runs(counts)
    if min(runs) < 0 or sum(runs) != height * width:
        raise ValueError("counts do not fill the picture")
    return mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)


def _runs(counts: str | bytes) -> list[int]:
    """The lengths in COCO's compressed counts, which pycocotools decodes without a look at where they end.

    Each is a run of characters of 5 bits, lowest first, the sixth bit set on all but the last; from the
    fourth on it is the difference to the one before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts.encode() if isinstance(counts, str) else counts:
        bits = character - 48
        if not 0 <= bits < 64:
            raise ValueError("counts of another alphabet")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (bits & 16) and 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("counts that break off")
    return runs


def _count(annotation: Any, seen: dict[Any, _Seen], names: dict[Any, str], persons: set[Any]) -> str | None:
    """Add an annotation to its picture; returns why it cannot be used."""
    try:
        picture = seen.get(annotation["image_id"])
        category = annotation["category_id"]
        if picture is None:
            return "annotations of an unknown picture"
        if category not in names:
            return "annotations of an unknown category"
        area = _area(annotation, picture.size)
    except BROKEN:
        return "annotations that are broken, or their segmentation is"
    if annotation.get("iscrowd"):
        picture.crowds.add(names[category])
        return None
    picture.objects.add(names[category])
    if category in persons:
        picture.people += 1
        picture.largest = max(picture.largest, area)
    return None


def _area(annotation: dict[str, Any], size: Size | None) -> float:
    """The annotation's own area, else that of its segmentation, which is looked at in any case."""
    area, segmentation = annotation.get("area"), annotation.get("segmentation")
    if area is None:
        return float(segmentation_area(segmentation, size))
    if segmentation is not None:
        check_segmentation(segmentation, size)
    if not 0 <= float(area) < math.inf:
        raise ValueError(f"area {area}")
    return float(area)


def _size(image: dict[str, Any]) -> Size | None:
    """Height and width, where the file gives them."""
    sides = (image.get("height"), image.get("width"))
    height, width = (side if isinstance(side, int) and side > 0 else 0 for side in sides)
    return (height, width) if height and width else None


def _attributes(seen: _Seen, *, people: bool) -> dict[str, str]:
    attributes = {"objects": ";".join(sorted(seen.objects))}
    if unsure := seen.crowds - seen.objects:
        attributes["objects_unsure"] = ";".join(sorted(unsure))
    if people:
        attributes["people"] = str(seen.people)
    if people and seen.size:
        attributes["person_share"] = f"{min(1.0, seen.largest / math.prod(seen.size)):.3f}"
    return attributes
