"""CelebA as it lies on disk: aligned faces and text files of forty attributes, splits and identities."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clip_lite.data.pairs import Corpus, Record
from clip_lite.data.reading import About, Entry, Reading, Skips
from clip_lite.data.sources.label_files import labelled_corpus, needed
from clip_lite.data.sources.listed import lines_of
from clip_lite.errors import CommandError

ABOUT = About(
    title="CelebA",
    layout="list_attr_celeba.txt and list_eval_partition.txt (or in Anno/ and Eval/), img_align_celeba/ (or "
    "in Img/), and identity_CelebA.txt where you have it",
    url="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    licence="non-commercial research only, see the data set's page",
)
PICTURES = ("img_align_celeba", "Img/img_align_celeba")
SPLITS = {"0": "train", "1": "val", "2": "test"}
GENDERS = {"1": "male", "-1": "female"}
ANSWERS = {"1": "yes", "-1": "no"}
LIMITS = (
    "The forty attributes are what a labelling company saw in a face, each yes or no, and two of them, "
    '"Attractive" and "Young", are taste; who is called male or female was not asked.',
    "Faces of celebrities, most of them light-skinned and young: not a sample of any population.",
    "Many attributes go together with gender by make-up and hair style, so that a task can be solved by "
    "gender.",
)


def load_celeba(root: Path, reading: Reading) -> Corpus:
    """CelebA in its own splits ``train``, ``val`` and ``test``.

    Attributes are ``gender`` ("male", "female", of the file's ``Male``) and the other 39 under their names in
    lower case, "yes" or "no"; the probe's class is ``blond_hair``. ``young`` is one of them, and there is no
    ``age``, for the file says no years. With ``identity_CelebA.txt`` the pictures of an identity are a
    cluster, else each picture is its own. Source: Liu, Luo, Wang and Tang, ICCV 2015.

    Raises:
        UsageError: a file or the folder of pictures is missing.
        CommandError: a file has another form, or too many pictures cannot be used.
    """
    skips = Skips()
    attributes = needed(root, ["list_attr_celeba.txt", "Anno/list_attr_celeba.txt"], ABOUT)
    partition = needed(root, ["list_eval_partition.txt", "Eval/list_eval_partition.txt"], ABOUT)
    folder = needed(root, PICTURES, ABOUT)
    split_of = _pairs(partition)
    identity_of = _identities(root)
    listed: dict[str, list[Entry]] = {split: [] for split in SPLITS.values()}
    for name, own in _signs(attributes, skips):
        split = SPLITS.get(split_of.get(name, ""))
        if split is None:
            skips.add(f"pictures that {partition.name} puts in none of 0, 1 and 2", name)
            continue
        cluster = f"identity {identity_of[name]}" if name in identity_of else name
        listed[split].append(Entry(folder / name, Record(name, (), own, cluster)))
    return labelled_corpus(
        "celeba",
        ABOUT,
        listed,
        reading,
        skips,
        attribution="Liu, Luo, Wang and Tang: Deep Learning Face Attributes in the Wild, ICCV 2015",
        limits=LIMITS,
        classification="blond_hair",
    )


def _signs(file: Path, skips: Skips) -> Iterator[tuple[str, dict[str, str]]]:
    """Name and attributes of each picture: a line with their number, one with 40 names, rows of 1 and -1.

    Raises:
        CommandError: another form, or fewer rows than the first line says.
    """
    lines = _lines(file)
    (count, *more), names = next(lines, [""]), next(lines, [])
    if more or not count.isdecimal() or "Male" not in names or "Blond_Hair" not in names:
        raise CommandError(
            f"{file} holds no attributes of CelebA; expected a line with the number of pictures, then a line "
            "with names such as Male and Blond_Hair"
        )
    seen = 0
    for picture, *signs in lines:
        seen += 1
        if len(signs) == len(names) and all(sign in ANSWERS for sign in signs):
            yield picture, _attributes(names, signs)
        else:
            skips.add(f"rows without {len(names)} of 1 and -1", picture)
    if seen < int(count):
        raise CommandError(
            f"{file} ends after {seen:,} of the {int(count):,} pictures that its first line announces; "
            "get the whole file, or correct that line"
        )


def _attributes(names: list[str], signs: list[str]) -> dict[str, str]:
    own = {name.lower(): ANSWERS[sign] for name, sign in zip(names, signs, strict=True) if name != "Male"}
    return {"gender": GENDERS[signs[names.index("Male")]], **own}


def _identities(root: Path) -> dict[str, str]:
    for name in ("identity_CelebA.txt", "Anno/identity_CelebA.txt"):
        if (root / name).is_file():
            return _pairs(root / name)
    return {}


def _pairs(file: Path) -> dict[str, str]:
    """First word of each line → second.

    Raises:
        CommandError: a line of another form.
    """
    pairs = {}
    for number, words in enumerate(_lines(file), start=1):
        if len(words) != 2:
            raise CommandError(f"{file} row {number} is {' '.join(words)!r}, expected a picture and a number")
        pairs[words[0]] = words[1]
    return pairs


def _lines(file: Path) -> Iterator[list[str]]:
    """The words of each line that has any."""
    return (line.split() for line in lines_of(file) if line.strip())
