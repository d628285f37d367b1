"""The embedded corpus: names, split, cache."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clip_lite.data.pairs import Corpus
from clip_lite.data.sources import emoji_names, npm
from clip_lite.data.sources.emoji import Style, load_emoji
from clip_lite.data.sources.emoji_names import gender_of, read_names, skin_tone_of, stem_of
from clip_lite.data.sources.npm import Package
from clip_lite.errors import CommandError

Packages = tuple[Path, tuple[Style, ...], Package]


@pytest.mark.parametrize(
    ("label", "stem"),
    [
        ("woman teacher: medium-light skin tone", "teacher"),
        ("man: dark skin tone, curly hair", "curly hair"),
        ("old man", "person"),
        ("women holding hands: light skin tone, dark skin tone", "holding hands"),
        ("man walking: facing right", "walking"),
        ("Mrs. Claus", "claus"),
        ("mermaid", "merperson"),
        ("family: man, woman, girl, boy", "family"),
    ],
)
def test_stem_drops_gender_age_and_tone(label: str, stem: str) -> None:
    assert stem_of(label, is_people=True) == stem


def test_objects_keep_their_whole_label() -> None:
    assert stem_of("man’s shoe", is_people=False) == "mans shoe"


@pytest.mark.parametrize(
    ("hexcode", "gender"),
    [
        ("1F469-200D-1F3EB", "woman"),
        ("1F46E-1F3FD-200D-2642-FE0F", "man"),
        ("1F46E", "none"),
        ("1F469-200D-2764-FE0F-200D-1F468", "mixed"),
        ("1F46B", "mixed"),
    ],
)
def test_gender_comes_from_code_points(hexcode: str, gender: str) -> None:
    assert gender_of(hexcode) == gender


def test_skin_tone() -> None:
    assert [skin_tone_of(t) for t in (None, 3, [1, 5], [2, 2])] == ["none", "medium", "mixed", "medium-light"]


def test_captions_inherit_shortcodes_and_lose_tone_codes() -> None:
    entry = {
        "label": "cook",
        "hexcode": "1F9D1-200D-1F373",
        "group": emoji_names.PEOPLE,
        "subgroup": 1,
        "tags": ["chef", "food", "kitchen", "pan"],
        "skins": [{"label": "cook: dark skin tone", "hexcode": "1F9D1-1F3FF-200D-1F373", "tone": 5}],
    }
    shortcodes = [{"1F9D1-200D-1F373": ["cook", "the_chef"]}, {"1F9D1-1F3FF-200D-1F373": "person_tone5_cook"}]
    neutral, dark = read_names([entry], {"1": "person-role"}, shortcodes)
    assert neutral.captions == ("cook", "the chef", "chef food kitchen", "pan")
    assert dark.captions == (
        "cook dark skin tone",
        "cook",
        "the chef",
        "person cook",
        "chef food kitchen",
        "pan",
    )


def test_no_stem_in_two_splits_and_every_stem_in_one(corpus: Corpus) -> None:
    stems = {name: set(table.clusters) for name, table in corpus.splits.items()}
    assert not stems["train"] & stems["test"]
    assert not stems["train"] & stems["val"]
    assert not stems["val"] & stems["test"]
    assert stems["openmoji"] == stems["test"]
    assert len(stems["train"] | stems["val"] | stems["test"]) == 36


def test_unseen_style_is_only_in_its_own_split(corpus: Corpus) -> None:
    for name, table in corpus.splits.items():
        assert {style == "openmoji" for style in table.attribute("style")} == {name == "openmoji"}


def test_split_depends_on_the_seed_alone(emoji_packages: Packages, corpus: Corpus) -> None:
    cache, styles, names = emoji_packages
    sizes = {"image_size": 32, "val_fraction": 0.15, "test_fraction": 0.3}
    again = load_emoji(**sizes, seed=0, cache=cache, styles=styles, names=names)
    other = load_emoji(**sizes, seed=1, cache=cache, styles=styles, names=names)
    assert again.digest == corpus.digest
    assert other.digest != corpus.digest


def test_audited_pictures_are_balanced_counterfactuals(corpus: Corpus) -> None:
    for table in corpus.splits.values():
        audited = table.where(corpus.audited)
        counts = Counter(audited.attribute("gender"))
        assert set(counts) == {"man", "woman"}
        assert counts["man"] == counts["woman"]


def test_one_canonical_picture_per_stem_and_style(corpus: Corpus) -> None:
    table = corpus.splits["test"].where(corpus.canonical)
    keys = list(zip(table.clusters, table.attribute("style"), strict=True))
    assert len(keys) == len(set(keys))
    assert set(table.attribute("skin_tone")) == {"none"}
    assert set(table.attribute("gender")) == {"none"}


def test_pairs_carry_pixels_captions_and_attributes(corpus: Corpus) -> None:
    pair = corpus.splits["train"][0]
    assert pair.image.dtype.is_floating_point is False
    assert tuple(pair.image.shape) == (3, 32, 32)
    assert pair.image.float().std() > 0
    assert pair.captions
    assert {"gender", "skin_tone"} <= set(pair.attributes)
    assert len({record.id for table in corpus.splits.values() for record in table.records}) == sum(
        len(table) for table in corpus.splits.values()
    )


def test_second_load_neither_fetches_nor_draws(
    emoji_packages: Packages, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the cache was not used")

    cache, styles, names = emoji_packages
    monkeypatch.setattr("clip_lite.data.sources.emoji.fetch", refuse)
    monkeypatch.setattr("clip_lite.data.sources.emoji.draw", refuse)
    again = load_emoji(
        image_size=32, val_fraction=0.15, test_fraction=0.3, seed=0, cache=cache, styles=styles, names=names
    )
    assert again.digest == corpus.digest


def test_killed_drawing_leaves_no_half_cache(
    emoji_packages: Packages, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, styles, names = emoji_packages
    drawn = []

    def stop_after_three(svg: str, size: int) -> np.ndarray:
        drawn.append(svg)
        if len(drawn) > 3:
            raise KeyboardInterrupt
        return np.zeros((3, size, size), dtype=np.uint8)

    before = set(cache.iterdir())
    monkeypatch.setattr("clip_lite.data.sources.emoji.draw", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        load_emoji(
            image_size=20,
            val_fraction=0.1,
            test_fraction=0.3,
            seed=0,
            cache=cache,
            styles=styles,
            names=names,
        )
    assert set(cache.iterdir()) == before


def test_digest_mismatch_names_file_and_pin(emoji_packages: Packages, tmp_path: Path) -> None:
    cache, styles, _ = emoji_packages
    package = styles[0].package
    (tmp_path / package.archive_name).write_bytes((cache / "npm" / package.archive_name).read_bytes() + b"x")
    with pytest.raises(
        CommandError, match=rf"digest mismatch for {package.name}@1.0.0: .*{package.archive_name}"
    ):
        npm.fetch(package, tmp_path)


def test_damaged_drawings_name_the_folder_to_remove(
    corpus: Corpus, emoji_packages: Packages, tmp_path: Path
) -> None:
    cache, styles, names = emoji_packages
    shutil.copytree(cache, tmp_path / "cache")
    (drawn,) = (tmp_path / "cache").glob("emoji-32px-*")
    (drawn / "images.npy").write_bytes((drawn / "images.npy").read_bytes()[:1000])
    with pytest.raises(CommandError, match=rf"{drawn.name} is damaged"):
        load_emoji(
            image_size=32,
            val_fraction=0.1,
            test_fraction=0.3,
            seed=0,
            cache=tmp_path / "cache",
            styles=styles,
            names=names,
        )


def test_unwritable_cache_is_one_line(emoji_packages: Packages, tmp_path: Path) -> None:
    _, styles, _ = emoji_packages
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match="cannot write to"):
        npm.fetch(styles[0].package, tmp_path / "file" / "npm")


def fake_npm(folder: Path, script: str) -> None:
    folder.mkdir()
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_no_network_and_no_cache_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path / "bin", "echo ENOTFOUND >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    package = Package("@iconify-json/noto", "1.2.9", "sha512-x")
    with pytest.raises(
        CommandError, match=r"cannot fetch @iconify-json/noto@1\.2\.9 .*the network is needed once"
    ):
        npm.fetch(package, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_fetched_archive_is_verified_before_it_is_kept(
    emoji_packages: Packages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, styles, _ = emoji_packages
    package = styles[0].package
    archive = cache / "npm" / package.archive_name
    fake_npm(tmp_path / "bin", f'cp "{archive}" .')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    good = npm.fetch(package, tmp_path / "cache")
    assert good.read_bytes() == archive.read_bytes()
    with pytest.raises(CommandError, match="digest mismatch"):
        npm.fetch(replace(package, integrity="sha512-AAAA"), tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []
