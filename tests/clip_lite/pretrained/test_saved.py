"""A model saved with its erasers: one line loads it, and so does its own library."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import Tensor
from transformers import AutoModel, AutoProcessor

from clip_lite.describe import encoder_digest
from clip_lite.editable import EditableEncoder
from clip_lite.errors import UsageError
from clip_lite.pretrained import load_encoder
from clip_lite.pretrained.saved import NOTE_FILE
from debias.eraser import Eraser

Embed = Callable[[EditableEncoder, list[Image.Image]], Tensor]
FOLDERS = [
    "clip_folder",
    "siglip_folder",
    "vit_folder",
    "open_clip_folder",
    "open_clip_timm_folder",
    "timm_folder",
]


@pytest.fixture(params=FOLDERS)
def encoder(request: pytest.FixtureRequest) -> EditableEncoder:
    return load_encoder(request.getfixturevalue(request.param))


@pytest.fixture
def edited(clip_folder: Path, eraser: Callable[[int], Eraser], tmp_path: Path) -> Path:
    """A saved CLIP with an eraser of its embedding."""
    encoder = load_encoder(clip_folder)
    encoder.attach({"embedding": eraser(encoder.embedding_dim)})
    encoder.save_pretrained(tmp_path / "edited")
    return tmp_path / "edited"


def both(encoder: EditableEncoder, photos: list[Image.Image]) -> tuple[Tensor, Tensor]:
    assert encoder.prepare is not None
    pixels = encoder.image_transform(torch.from_numpy(np.stack([encoder.prepare(each) for each in photos])))
    with torch.inference_mode():
        image = encoder.encode_image(pixels)
    return image.features, image.embedding


def test_what_was_saved_comes_back_with_its_erasers(
    encoder: EditableEncoder, eraser: Callable[[int], Eraser], photos: list[Image.Image], tmp_path: Path
) -> None:
    plain = both(encoder, photos)
    encoder.attach({"features": eraser(encoder.feature_dim), "embedding": eraser(encoder.embedding_dim)})
    edited = both(encoder, photos)
    encoder.save_pretrained(tmp_path / "saved")
    loaded = load_encoder(tmp_path / "saved")
    assert type(loaded) is type(encoder)
    assert not loaded.training
    for ours, theirs, before in zip(both(loaded, photos), edited, plain, strict=True):
        assert torch.equal(ours, theirs)
        assert not torch.allclose(ours, before, atol=1e-3)
    loaded.erase = False
    for ours, before in zip(both(loaded, photos), plain, strict=True):
        assert torch.equal(ours, before)
    if encoder.has_text:
        assert torch.equal(loaded.encode_text(["a man"]), encoder.encode_text(["a man"]))
    assert loaded.describe() == encoder.describe()
    loaded.erase = True
    assert encoder_digest(loaded) == encoder_digest(encoder)  # type: ignore[arg-type]


def test_saving_again_replaces_the_folder_and_its_erasers(
    encoder: EditableEncoder, eraser: Callable[[int], Eraser], tmp_path: Path
) -> None:
    encoder.attach({"features": eraser(encoder.feature_dim)})
    encoder.save_pretrained(tmp_path / "saved")
    encoder.attach({})
    encoder.save_pretrained(tmp_path / "saved")
    assert load_encoder(tmp_path / "saved").attached == {}
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_transformers_still_loads_its_folder(
    clip_folder: Path, edited: Path, photos: list[Image.Image], embed: Embed
) -> None:
    model, processor = AutoModel.from_pretrained(edited).eval(), AutoProcessor.from_pretrained(edited)
    inputs = processor(images=photos, text=["a man"], padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model(**inputs)
    assert torch.allclose(embed(load_encoder(clip_folder), photos), theirs.image_embeds, atol=1e-5)
    assert torch.allclose(load_encoder(edited).encode_text(["a man"]), theirs.text_embeds, atol=1e-5)


def test_open_clip_still_loads_its_folder(
    open_clip_folder: Path,
    eraser: Callable[[int], Eraser],
    photos: list[Image.Image],
    embed: Embed,
    tmp_path: Path,
) -> None:
    encoder = load_encoder(open_clip_folder)
    before = embed(encoder, photos)
    encoder.attach({"embedding": eraser(encoder.embedding_dim)})
    encoder.save_pretrained(tmp_path / "saved")
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'saved'}")
    with torch.no_grad():
        theirs = model.eval().encode_image(torch.stack([transform(each) for each in photos]), normalize=True)
    assert torch.allclose(before, theirs, atol=1e-5)
    by_prefix = load_encoder(f"open_clip:{tmp_path / 'saved'}")
    assert torch.equal(embed(by_prefix, photos), embed(encoder, photos))


def test_timm_still_loads_its_folder(
    timm_folder: Path, photos: list[Image.Image], embed: Embed, tmp_path: Path
) -> None:
    encoder = load_encoder(timm_folder)
    encoder.save_pretrained(tmp_path / "saved")
    model = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    with torch.no_grad():
        theirs = F.normalize(model(torch.stack([transform(each) for each in photos])), dim=-1)
    assert torch.allclose(embed(encoder, photos), theirs, atol=1e-5)


def test_a_torchvision_tower_is_saved_with_its_name(
    eraser: Callable[[int], Eraser],
    photos: list[Image.Image],
    embed: Embed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    state = torchvision.models.resnet18(weights=None).state_dict()
    weights = type(torchvision.models.ResNet18_Weights.DEFAULT)
    monkeypatch.setattr(weights, "get_state_dict", lambda *_, **__: state)
    encoder = load_encoder("torchvision:resnet18")
    encoder.attach({"embedding": eraser(encoder.embedding_dim)})
    encoder.save_pretrained(tmp_path / "saved")
    monkeypatch.undo()
    assert torch.equal(embed(load_encoder(tmp_path / "saved"), photos), embed(encoder, photos))


def test_a_damaged_eraser_is_one_line_and_never_an_unedited_model(edited: Path) -> None:
    path = edited / "erasers" / "embedding" / "eraser.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-8] + b"\0" * 8)
    with pytest.raises(UsageError, match=r"erasers/embedding cannot be loaded: ") as caught:
        load_encoder(edited)
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(UsageError, match=r"erasers/embedding cannot be loaded: "):
        load_encoder(f"hf:{edited}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format_version": 99}, "format_version is 99, expected 1"),
        ({"kind": "caffe"}, "of kind 'caffe', expected one of transformers, open_clip, timm, torchvision"),
        ({"erasers": None}, "is damaged"),
        ({"erasers": ["../secret"]}, "is damaged: erasers"),
        ({"surplus": 1}, "is damaged"),
    ],
)
def test_a_damaged_note_is_one_line(edited: Path, change: dict[str, object], said: str) -> None:
    content = json.loads((edited / NOTE_FILE).read_text())
    (edited / NOTE_FILE).write_text(json.dumps(content | change))
    with pytest.raises(UsageError, match=said) as caught:
        load_encoder(edited)
    assert "\n" not in str(caught.value)


def test_an_eraser_of_another_width_is_refused(edited: Path, eraser: Callable[[int], Eraser]) -> None:
    eraser(5).save(edited / "erasers" / "embedding")
    with pytest.raises(UsageError, match="eraser for 'embedding' has dim 5"):
        load_encoder(edited)
