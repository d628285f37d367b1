"""Small stand-ins in the true formats: npm archives of emoji, a transformers text tower; and no hub."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # two test processes with two threads each would wait on one another

import functools
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from clip_lite.data.pairs import Corpus
from clip_lite.data.sources.emoji import Style, load_emoji
from clip_lite.data.sources.npm import Package, integrity_of
from clip_lite.model import DualEncoder
from clip_lite.text_towers import TextTower
from debias import ProtectedAttribute
from tests.servers import mlflow_server

ROLES = 24
OBJECTS = 12
TONES = {1: "1F3FB", 5: "1F3FF"}
TONE_NAMES = {1: "light", 5: "dark"}
PEOPLE = {"person": "1F9D1", "man": "1F468", "woman": "1F469"}


def _pack(path: Path, members: dict[str, object]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            data = json.dumps(content).encode()
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _entries() -> list[dict[str, object]]:
    """emojibase entries: roles drawn as person, man and woman in three tones, and objects."""
    entries: list[dict[str, object]] = []
    for role in range(ROLES):
        for who, point in PEOPLE.items():
            code = f"1F9{role:02X}"
            label = f"role{role}" if who == "person" else f"{who} role{role}"
            skins = [
                {
                    "label": f"{label}: {TONE_NAMES[t]} skin tone",
                    "hexcode": f"{point}-{s}-200D-{code}",
                    "tone": t,
                }
                for t, s in TONES.items()
            ]
            base = {"label": label, "hexcode": f"{point}-200D-{code}", "tags": [f"job{role}", "work"]}
            entries.append({**base, "group": 1, "subgroup": 25, "skins": skins})
    for thing in range(OBJECTS):
        base = {"label": f"thing{thing}", "hexcode": f"26{thing:02X}", "tags": ["object"]}
        entries.append({**base, "group": 6, "subgroup": 73})
    return entries


def _body(hexcode: str) -> str:
    """A drawing in which role, gender and tone each have a mark of their own."""
    points = hexcode.split("-")
    code = int(points[-1], 16)
    skin = {"1F3FB": "#ffe0c0", "1F3FF": "#604020"}.get(points[1] if len(points) > 1 else "", "#ffd000")
    hair = {"1F468": "#202020", "1F469": "#c03030"}.get(points[0], "#808080")
    x, y = 2 + (code * 5) % 11, 2 + (code * 3) % 13
    return (
        f'<circle cx="8" cy="8" r="5" fill="{skin}"/><rect x="4" y="2" width="8" height="2" fill="{hair}"/>'
        f'<rect x="{x}" y="{y}" width="4" height="3" fill="hsl({code * 47 % 360},90%,45%)"/>'
    )


@pytest.fixture(scope="session")
def emoji_packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Style, ...], Package]:
    """A cache folder that holds archives of four styles and of the names, with their pins."""
    cache = tmp_path_factory.mktemp("cache")
    folder = cache / "npm"
    folder.mkdir()
    entries = _entries()
    variants = [v for e in entries for v in (e, *e.get("skins", ()))]  # type: ignore[misc]
    names = Package("emojibase-data", "1.0.0", "")
    codes = {v["hexcode"]: str(v["label"]).replace(" ", "_") for v in variants}
    shortcodes = {f"en/shortcodes/{name}.json": {} for name in ("emojibase", "github", "iamcal", "joypixels")}
    subgroups = {"25": "person-role", "73": "tool"}
    members = {"en/data.json": entries, "meta/groups.json": {"subgroups": subgroups}, **shortcodes}
    _pack(folder / names.archive_name, {**members, "en/shortcodes/cldr.json": codes})
    names = Package(names.name, names.version, integrity_of(folder / names.archive_name))
    styles = []
    for style in ("noto", "twemoji", "fluent-emoji-flat", "openmoji"):
        package = Package(f"@iconify-json/{style}", "1.0.0", "")
        icons = {f"icon-{v['hexcode'].lower()}": {"body": _body(str(v["hexcode"]))} for v in variants}
        chars = {str(v["hexcode"]).lower(): f"icon-{v['hexcode'].lower()}" for v in variants}
        pack = {"prefix": style, "width": 16, "height": 16, "icons": icons}
        _pack(folder / package.archive_name, {"icons.json": pack, "chars.json": chars})
        pinned = Package(package.name, package.version, integrity_of(folder / package.archive_name))
        styles.append(Style(style, "MIT", f"{style} artists", "https://example.org", pinned))
    return cache, tuple(styles), names


@pytest.fixture(scope="session")
def corpus(emoji_packages: tuple[Path, tuple[Style, ...], Package]) -> Corpus:
    cache, styles, names = emoji_packages
    return load_emoji(
        image_size=32, val_fraction=0.15, test_fraction=0.3, seed=0, cache=cache, styles=styles, names=names
    )


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers text model and tokenizer, small and untrained, in a local folder."""
    folder = tmp_path_factory.mktemp("text_tower")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = ["man", "woman", "person", "skin", "tone", "light", "dark", "role", "thing", "left", "right"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{c}" for c in letters), *words]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture
def gender() -> ProtectedAttribute:
    return ProtectedAttribute.load("gender")


@pytest.fixture
def hair(tmp_path: Path) -> Path:
    """A valid attribute file of somebody's own, with three groups."""
    path = tmp_path / "hair.yaml"
    path.write_text(
        'name: hair\nversion: "2"\n'
        "groups: {blond: [blond, blonde], dark: [dark haired], red: [redhead]}\n"
        "word_pairs: [[blond, dark, red]]\n"
        'templates: ["a {} wig"]\n'
    )
    return path


@pytest.fixture
def saved_model(
    emoji_packages: tuple[Path, tuple[Style, ...], Package],
    text_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """An untrained model in a folder, and a corpus that needs no network."""
    cache, styles, names = emoji_packages
    loader = functools.partial(load_emoji, cache=cache, styles=styles, names=names)
    monkeypatch.setattr("clip_lite.data.corpora.load_emoji", loader)
    monkeypatch.setenv("CLIP_LITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    tower = TextTower.load(str(text_folder), training="frozen")
    DualEncoder(tower, embedding_dim=8, image_size=32).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an MLflow server that all tests share; each takes an experiment of its own."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow_server")) as server:
        yield server.url
