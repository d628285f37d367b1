"""What a transformers model returns here is what it returns in transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoProcessor,
    Siglip2ImageProcessor,
    ViTForImageClassification,
)

from clip_lite.describe import encoder_digest
from clip_lite.editable import EditableEncoder
from clip_lite.encoder import ImageTextEncoder
from clip_lite.errors import UsageError
from clip_lite.pretrained import load_encoder
from tests.clip_lite.pretrained.conftest import TEXTS

PADDING: dict[str, dict[str, Any]] = {
    "clip_folder": {"padding": True, "truncation": True},
    "siglip_folder": {"padding": "max_length", "truncation": True},
    "siglip_pieces_folder": {"padding": "max_length", "truncation": True},
}
Embed = Callable[[EditableEncoder, list[Image.Image]], Tensor]


@pytest.fixture(params=sorted(PADDING))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(request: pytest.FixtureRequest, kind: str) -> Path:
    return request.getfixturevalue(kind)


def tensor(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.pooler_output


def test_pictures_of_every_shape_are_embedded_as_the_library_does(
    folder: Path, photos: list[Image.Image], embed: Embed
) -> None:
    encoder = load_encoder(folder)
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    with torch.no_grad():
        theirs = [
            tensor(model.get_image_features(**processor(images=photo, return_tensors="pt")))
            for photo in photos
        ]
    expected = F.normalize(torch.cat(theirs), dim=-1)
    assert torch.pdist(expected).min() > 1e-3
    assert torch.allclose(embed(encoder, photos), expected, atol=1e-5)


def test_texts_are_embedded_as_the_library_does(folder: Path, kind: str) -> None:
    encoder = load_encoder(folder)
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    inputs = processor(text=TEXTS, return_tensors="pt", **PADDING[kind])
    with torch.no_grad():
        expected = F.normalize(tensor(model.get_text_features(**inputs)), dim=-1)
    assert torch.pdist(expected).min() > 1e-3
    assert torch.allclose(encoder.encode_text(TEXTS), expected, atol=1e-5)


def test_many_texts_are_batched_without_a_change(clip_folder: Path) -> None:
    encoder = load_encoder(clip_folder)
    texts = [f"man {number}" for number in range(300)]
    together = encoder.encode_text(texts)
    assert torch.allclose(together[[0, 299]], encoder.encode_text([texts[0], texts[299]]), atol=1e-5)
    assert encoder.encode_text([]).shape == (0, encoder.embedding_dim)


def test_it_keeps_the_contract_of_an_encoder(folder: Path) -> None:
    encoder = load_encoder(folder)
    assert isinstance(encoder, ImageTextEncoder)
    assert not encoder.training
    assert encoder.has_text
    image = encoder.encode_image(encoder.image_transform(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)))
    assert image.features.shape == (2, encoder.feature_dim)
    assert image.embedding.shape == (2, encoder.embedding_dim)
    assert image.features.dtype == image.embedding.dtype == torch.float32
    assert set(encoder.describe()) == {"architecture", "image_tower", "image_weights", "text_tower"}
    assert encoder.describe()["image_weights"] == str(folder)
    assert json.loads(json.dumps(encoder.settings)) == encoder.settings


def test_features_are_what_the_projection_is_given(clip_folder: Path) -> None:
    encoder: Any = load_encoder(clip_folder)
    image = encoder.unedited(torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    projected = F.normalize(encoder.model.visual_projection(image.features), dim=-1)
    assert torch.allclose(projected, image.embedding, atol=1e-6)


def test_tensors_of_another_size_are_treated_as_the_pictures_they_are(
    folder: Path, photos: list[Image.Image]
) -> None:
    encoder = load_encoder(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    photo = photos[1]
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None]
    theirs = processor(images=photo, return_tensors="pt")["pixel_values"]
    assert torch.allclose(encoder.image_transform(pixels), theirs, atol=1e-5)


def test_gradients_flow_through_the_image_tower(folder: Path) -> None:
    encoder = load_encoder(folder)
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    encoder.encode_image(pixels).embedding[0, 0].backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().max() > 0


def test_a_fresh_model_has_other_pictures_and_depends_on_the_seed(
    folder: Path, photos: list[Image.Image], embed: Embed
) -> None:
    encoder = load_encoder(folder)
    before = embed(encoder, photos)
    one, again, other = encoder.fresh(0), encoder.fresh(0), encoder.fresh(1)
    assert torch.equal(embed(one, photos), embed(again, photos))
    assert not torch.allclose(embed(one, photos), embed(other, photos), atol=1e-2)
    assert not torch.allclose(embed(one, photos), before, atol=1e-2)
    assert torch.equal(embed(encoder, photos), before)
    assert one.describe()["image_weights"] == "random initialisation"
    assert not one.training


def test_the_digest_of_an_encoder_does_not_depend_on_where_it_lies(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere")
    first, second = load_encoder(folder), load_encoder(tmp_path / "elsewhere")
    first.encode_text(["a man"])
    assert encoder_digest(first) == encoder_digest(second)  # type: ignore[arg-type]
    assert encoder_digest(first) != encoder_digest(first.fresh(0))  # type: ignore[arg-type]


def test_an_image_model_has_no_text_tower(vit_folder: Path, photos: list[Image.Image], embed: Embed) -> None:
    encoder = load_encoder(vit_folder)
    assert not encoder.has_text
    with pytest.raises(UsageError, match="has no text tower"):
        encoder.encode_text(["a man"])
    whole, processor = (
        ViTForImageClassification.from_pretrained(vit_folder).eval(),
        AutoImageProcessor.from_pretrained(vit_folder),
    )
    with torch.no_grad():
        hidden = whole.vit(processor(images=photos, return_tensors="pt")["pixel_values"]).last_hidden_state
    assert torch.allclose(embed(encoder, photos), F.normalize(hidden[:, 0], dim=-1), atol=1e-5)
    assert not torch.equal(embed(encoder.fresh(0), photos), embed(encoder, photos))


def test_an_image_processor_that_lists_patches_is_refused(siglip_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(siglip_folder, tmp_path / "naflex")
    Siglip2ImageProcessor(patch_size=8).save_pretrained(tmp_path / "naflex")
    with pytest.raises(UsageError, match=r"naflex: its preprocessing gives .* expected one square of pixels"):
        load_encoder(tmp_path / "naflex")


def test_a_checkpoint_without_some_of_its_weights_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(clip_folder, tmp_path / "clip")
    weights = load_file(tmp_path / "clip" / "model.safetensors")
    weights.pop("visual_projection.weight")
    save_file(weights, tmp_path / "clip" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match="comes without 1 of the model's weights, such as visual_projection"):
        load_encoder(tmp_path / "clip")
