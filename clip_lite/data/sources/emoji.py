"""The embedded corpus: four vendors' emoji with Unicode's names, fetched once, drawn once, split by stem.

Vendors draw man, woman and person of one role in six skin tones, so the corpus is balanced by
construction. Noto, Twemoji and Fluent are for training and testing; OpenMoji, never trained on, is the
style-shift test.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clip_lite.data.cache import atomic_folder, cache_root
from clip_lite.data.pairs import Corpus, Flag, PairTable, Record
from clip_lite.data.reading import About
from clip_lite.data.sources import emoji_names
from clip_lite.data.sources.emoji_art import draw, svg_of
from clip_lite.data.sources.emoji_names import EmojiName
from clip_lite.data.sources.npm import Package, fetch, read_json
from clip_lite.errors import CommandError
from clip_lite.progress import track

ABOUT = About(
    "embedded emoji",
    "nothing: fetched once and drawn",
    "https://www.npmjs.com/package/@iconify-json/noto",
    "Apache-2.0, CC-BY-4.0, MIT, CC-BY-SA-4.0, by pack",
)
RECORDS_VERSION = 1  # part of the cache key: raise it when drawings or records change
SHIFT_STYLE = "openmoji"
SHORTCODES = ("cldr", "emojibase", "github", "iamcal", "joypixels")


@dataclass(frozen=True)
class Style:
    """One vendor's pack and what its licence asks to be said."""

    name: str
    licence: str
    attribution: str
    url: str
    package: Package


def _pack(style: str, version: str, integrity: str) -> Package:
    return Package(f"@iconify-json/{style}", version, integrity)


STYLES = (
    Style(
        "noto",
        "Apache-2.0",
        "Noto Emoji by Google Inc",
        "https://github.com/googlefonts/noto-emoji",
        _pack(
            "noto",
            "1.2.9",
            "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        ),
    ),
    Style(
        "twemoji",
        "CC-BY-4.0",
        "Twemoji by Twitter, Inc and other contributors; drawn to pixels here",
        "https://github.com/jdecked/twemoji",
        _pack(
            "twemoji",
            "1.2.5",
            "sha512-uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
        ),
    ),
    Style(
        "fluent-emoji-flat",
        "MIT",
        "Fluent Emoji by Microsoft Corporation",
        "https://github.com/microsoft/fluentui-emoji",
        _pack(
            "fluent-emoji-flat",
            "1.2.6",
            "sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        ),
    ),
    Style(
        SHIFT_STYLE,
        "CC-BY-SA-4.0",
        "OpenMoji, the open-source emoji and icon project; drawn to pixels here",
        "https://openmoji.org",
        _pack(
            "openmoji",
            "1.2.29",
            "sha512-vXdhkqcXVSO6suy+m9LbcUM3OdVyuNOtpV8/als/WqfkQIRxevL5Geb/g+6GH/Qwnq1OqksEmaDGTCmZ5nFKJQ==",
        ),
    ),
)
NAMES = Package(
    "emojibase-data",
    "17.0.0",
    "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
)
LIMITS = (
    "Drawings, not photographs: no number here carries over to pictures of people.",
    "Gender is drawn as binary and as a caricature (hair, moustache, colour), by four vendors.",
    "Group labels come from Unicode sequences and names, not from anyone's own account of themselves.",
    "Captions are short names and keywords, 2 to 8 words, in English.",
    "Test intervals rest on few independent items (role stems), however many pictures show them.",
)


def load_emoji(
    *,
    image_size: int,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    cache: Path | None = None,
    styles: Sequence[Style] = STYLES,
    names: Package = NAMES,
) -> Corpus:
    """The corpus with splits ``train``, ``val``, ``test`` and ``openmoji`` (the test stems, unseen style).

    Args:
        image_size: side of the square pictures in pixels.
        val_fraction, test_fraction: shares of the *stems*, taken separately among stems drawn as both man
            and woman and among all others.
        seed: of the split.
        cache: folder for archives and drawings; default ``CLIP_LITE_CACHE`` or the user's cache folder.

    Raises:
        CommandError: nothing cached and no network, or a digest that does not match its pin.
    """
    folder = _drawn(image_size, cache or cache_root(), styles, names)
    images, records = _read(folder)
    stems = split_stems(records, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed)
    everything = PairTable(images, records, np.arange(len(records)))

    def part(split: str, *, shifted: bool) -> PairTable:
        return everything.where(
            lambda r: stems[r.cluster] == split and (r.attributes["style"] == SHIFT_STYLE) == shifted
        )

    splits = {split: part(split, shifted=False) for split in ("train", "val", "test")}
    splits[SHIFT_STYLE] = part("test", shifted=True)
    return Corpus(
        name="emoji",
        splits=splits,
        sources=_sources(splits.values(), styles, names),
        limits=LIMITS,
        audited=Flag("counterfactual"),
        canonical=Flag("canonical"),
        classification="category",
        role="role",
        templates=("{}", "a picture of a {}", "an emoji of a {}"),
    )


def split_stems(
    records: Iterable[Record], *, val_fraction: float, test_fraction: float, seed: int
) -> dict[str, str]:
    """Assign every stem to one split, stratified by whether it is drawn as both man and woman."""
    records = list(records)
    both = {record.cluster for record in records if record.attributes["counterfactual"] == "yes"}
    rng = np.random.default_rng(seed)
    assigned: dict[str, str] = {}
    for group in (both, {record.cluster for record in records} - both):
        stems = sorted(group)
        order = rng.permutation(len(stems))
        n_test = round(test_fraction * len(stems))
        n_val = round(val_fraction * len(stems))
        for place, index in enumerate(order):
            split = "test" if place < n_test else "val" if place < n_test + n_val else "train"
            assigned[stems[index]] = split
    return assigned


def _drawn(image_size: int, cache: Path, styles: Sequence[Style], names: Package) -> Path:
    """Folder with ``images.npy`` and ``records.json``, made if it is not there."""
    pins = [RECORDS_VERSION, image_size, names.integrity, *(style.package.integrity for style in styles)]
    key = hashlib.sha256(json.dumps(pins).encode()).hexdigest()[:16]
    target = cache / f"emoji-{image_size}px-{key}"
    if target.exists():
        return target
    packages = (names, *(style.package for style in styles))
    archives = [fetch(p, cache / "npm") for p in track(packages, "fetching emoji", len(packages))]
    named = _read_names(archives[0])
    jobs: list[tuple[EmojiName, str, str]] = []
    for style, archive in zip(styles, archives[1:], strict=True):
        chars, pack = read_json(archive, "chars.json", "icons.json")
        by_code = {emoji_names.canonical_hexcode(code): name for code, name in chars.items()}
        jobs += [(e, style.name, svg_of(by_code[e.hexcode], pack)) for e in named if e.hexcode in by_code]
    with atomic_folder(target) as folder:
        images = np.empty((len(jobs), 3, image_size, image_size), dtype=np.uint8)
        for row, (_, _, svg) in enumerate(track(jobs, "drawing emoji", len(jobs))):
            images[row] = draw(svg, image_size)
        np.save(folder / "images.npy", images)
        rows = _records([(emoji, style) for emoji, style, _ in jobs])
        text = json.dumps([record._asdict() for record in rows], ensure_ascii=False)
        (folder / "records.json").write_text(text, encoding="utf-8")
    return target


def _read(folder: Path) -> tuple[np.ndarray, list[Record]]:
    try:
        images = np.load(folder / "images.npy", mmap_mode="r")
        raw = json.loads((folder / "records.json").read_text(encoding="utf-8"))
        records = [Record(r["id"], tuple(r["captions"]), r["attributes"], r["cluster"]) for r in raw]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{folder} is damaged ({error}); remove it and it is drawn again") from error
    return images, records


def _read_names(archive: Path) -> list[EmojiName]:
    members = [f"en/shortcodes/{name}.json" for name in SHORTCODES]
    entries, groups, *shortcodes = read_json(archive, "en/data.json", "meta/groups.json", *members)
    return list(emoji_names.read_names(entries, groups["subgroups"], shortcodes))


def _records(drawn: Sequence[tuple[EmojiName, str]]) -> list[Record]:
    """Records in drawing order.

    ``canonical``: the first neutral-tone picture of a stem and style, genderless if there is one.
    ``counterfactual``: man and woman are drawn for the stem, and this picture shows one of them alone.
    """
    canonical: dict[tuple[str, str], tuple[EmojiName, str]] = {}
    neutral_label: dict[str, str] = {}
    genders: dict[str, set[str]] = defaultdict(set)
    for emoji, style in sorted(drawn, key=lambda item: item[0].gender != "none"):
        genders[emoji.stem].add(emoji.gender)
        if emoji.skin_tone == "none":
            canonical.setdefault((emoji.stem, style), (emoji, style))
            if emoji.gender == "none":
                neutral_label.setdefault(emoji.stem, emoji.label)
    chosen = set(canonical.values())

    def counterfactual(emoji: EmojiName) -> bool:
        both = {"man", "woman"} <= genders[emoji.stem] and emoji.gender in {"man", "woman"}
        return both and emoji.category not in emoji_names.COUPLES and emoji.skin_tone != "mixed"

    return [
        Record(
            id=f"{style}/{emoji.hexcode}",
            captions=emoji.captions,
            attributes={
                "gender": emoji.gender,
                "skin_tone": emoji.skin_tone,
                "style": style,
                "category": emoji.category,
                "role": neutral_label.get(emoji.stem, emoji.stem),
                "canonical": "yes" if (emoji, style) in chosen else "no",
                "counterfactual": "yes" if counterfactual(emoji) else "no",
            },
            cluster=emoji.stem,
        )
        for emoji, style in drawn
    ]


def _sources(
    tables: Iterable[PairTable], styles: Sequence[Style], names: Package
) -> list[Mapping[str, object]]:
    counts = Counter(style for table in tables for style in table.attribute("style").tolist())
    rows: list[Mapping[str, object]] = [
        {
            "name": style.package.name,
            "version": style.package.version,
            "licence": style.licence,
            "url": style.url,
            "attribution": style.attribution,
            "pictures": counts[style.name],
        }
        for style in styles
    ]
    rows.append(
        {
            "name": names.name,
            "version": names.version,
            "licence": "MIT",
            "url": "https://emojibase.dev",
            "attribution": "Emojibase by Miles Johnson: names, keywords, shortcodes",
            "pictures": 0,
        }
    )
    return rows
