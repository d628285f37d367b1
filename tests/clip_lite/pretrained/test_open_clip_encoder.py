"""What an open_clip model returns here is what it returns in open_clip."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from torch import Tensor

from clip_lite.editable import EditableEncoder
from clip_lite.encoder import ImageTextEncoder
from clip_lite.errors import UsageError
from clip_lite.pretrained import load_encoder
from tests.clip_lite.pretrained.conftest import TEXTS

Embed = Callable[[EditableEncoder, list[Image.Image]], Tensor]


@pytest.fixture(params=["open_clip_folder", "open_clip_resnet_folder", "open_clip_timm_folder"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def test_pictures_and_texts_are_embedded_as_the_library_does(
    folder: Path, photos: list[Image.Image], embed: Embed
) -> None:
    encoder = load_encoder(folder)
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    with torch.no_grad():
        pictures = model.encode_image(torch.stack([transform(photo) for photo in photos]), normalize=True)
        texts = model.encode_text(tokenizer(TEXTS), normalize=True)
    assert torch.pdist(pictures).min() > 1e-3
    assert torch.pdist(texts).min() > 1e-3
    assert torch.allclose(embed(encoder, photos), pictures, atol=1e-5)
    assert torch.allclose(encoder.encode_text(TEXTS), texts, atol=1e-5)


def test_it_keeps_the_contract_of_an_encoder(folder: Path) -> None:
    encoder = load_encoder(folder)
    assert isinstance(encoder, ImageTextEncoder)
    assert not encoder.training
    size = encoder.image_size
    image = encoder.encode_image(encoder.image_transform(torch.zeros(2, 3, size, size, dtype=torch.uint8)))
    assert image.features.shape == (2, encoder.feature_dim)
    assert image.embedding.shape == (2, encoder.embedding_dim)
    assert encoder.encode_text([]).shape == (0, encoder.embedding_dim)
    assert set(encoder.describe()) == {"architecture", "image_tower", "image_weights", "text_tower"}
    assert json.loads(json.dumps(encoder.settings)) == encoder.settings


def test_features_come_before_the_projection(open_clip_folder: Path) -> None:
    encoder: Any = load_encoder(open_clip_folder)
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    image = encoder.unedited(pixels)
    assert image.features.shape == (3, 64)
    assert torch.allclose(image.features @ encoder.model.visual.proj, encoder.model.visual(pixels), atol=1e-5)


def test_gradients_flow_through_the_image_tower(folder: Path) -> None:
    encoder = load_encoder(folder)
    size = encoder.image_size
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    encoder.encode_image(pixels).embedding[0, 0].backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().max() > 0


def test_a_fresh_model_has_another_image_tower_and_the_same_texts(
    folder: Path, photos: list[Image.Image], embed: Embed
) -> None:
    encoder = load_encoder(folder)
    before = embed(encoder, photos)
    one, again, other = encoder.fresh(0), encoder.fresh(0), encoder.fresh(1)
    assert torch.equal(embed(one, photos), embed(again, photos))
    assert not torch.allclose(embed(one, photos), embed(other, photos), atol=1e-4)
    assert not torch.allclose(embed(one, photos), before, atol=1e-2)
    assert torch.equal(embed(encoder, photos), before)
    assert torch.equal(one.encode_text(TEXTS), encoder.encode_text(TEXTS))
    assert one.describe()["image_weights"] == "random initialisation"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ViT-B-32", r"does not say which weights: add /TAG, one of .*openai"),
        ("ViT-B-32/nothing", r"no weights 'nothing' for ViT-B-32, expected one of .*openai"),
        ("ViT-Z-99", r"no model 'ViT-Z-99', expected a directory, hf-hub:ORG/NAME or NAME/TAG"),
        ("ViT-B-32/openai", r"open_clip:ViT-B-32/openai: the hub is out of reach .* a local directory"),
        ("hf-hub:laion/nothing", r"open_clip:hf-hub:laion/nothing: the hub is out of reach"),
    ],
)
def test_wrong_names_are_one_line(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        load_encoder(f"open_clip:{name}")
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, open_clip_folder: Path) -> None:
    known = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name == "open_clip":
            raise ImportError(name)
        return known(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match="pip install open_clip_torch"):
        load_encoder(open_clip_folder)
