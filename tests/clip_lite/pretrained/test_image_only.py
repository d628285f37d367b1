"""Towers of timm and torchvision see what they see in their own libraries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from clip_lite.editable import EditableEncoder
from clip_lite.errors import UsageError
from clip_lite.pretrained import load_encoder

Embed = Callable[[EditableEncoder, list[Image.Image]], Tensor]


@pytest.fixture
def torchvision_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """Untrained weights where torchvision would have put the published ones; the whole classifier."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None)
    monkeypatch.setattr(
        torchvision.models.ResNet18_Weights.IMAGENET1K_V1.__class__,
        "get_state_dict",
        lambda *_, **__: model.state_dict(),
    )
    return model.eval()


def test_a_timm_directory_is_embedded_as_the_library_does(
    timm_folder: Path, photos: list[Image.Image], embed: Embed
) -> None:
    model = timm.create_model(f"local-dir:{timm_folder}", pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    with torch.no_grad():
        features = model(torch.stack([transform(photo) for photo in photos]))
    expected = F.normalize(features, dim=-1)
    assert torch.pdist(expected).min() > 1e-4
    for name in (str(timm_folder), f"timm:{timm_folder}", f"timm:local-dir:{timm_folder}"):
        assert torch.allclose(embed(load_encoder(name), photos), expected, atol=1e-5)


def test_a_torchvision_tower_is_embedded_as_the_library_does(
    torchvision_cache: torch.nn.Module, photos: list[Image.Image], embed: Embed
) -> None:
    encoder = load_encoder("torchvision:resnet18")
    transform = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    torchvision_cache.fc = torch.nn.Identity()  # type: ignore[assignment]
    with torch.no_grad():
        features = torchvision_cache(torch.stack([transform(photo) for photo in photos]))
    assert torch.allclose(embed(encoder, photos), F.normalize(features, dim=-1), atol=1e-5)
    assert "ResNet18_Weights" in encoder.describe()["image_weights"]


def test_its_embedding_is_the_direction_of_its_features_and_texts_are_refused(timm_folder: Path) -> None:
    encoder = load_encoder(timm_folder)
    assert not encoder.has_text
    size = encoder.image_size
    image = encoder.encode_image(encoder.image_transform(torch.zeros(2, 3, size, size, dtype=torch.uint8)))
    assert torch.allclose(image.embedding, F.normalize(image.features, dim=-1))
    assert encoder.feature_dim == encoder.embedding_dim == image.features.shape[1]
    with pytest.raises(UsageError, match="has no text tower"):
        encoder.encode_text(["a man"])


def test_a_fresh_tower_depends_on_the_seed(
    timm_folder: Path, photos: list[Image.Image], embed: Embed
) -> None:
    encoder = load_encoder(timm_folder)
    before = embed(encoder, photos)
    one, again, other = encoder.fresh(0), encoder.fresh(0), encoder.fresh(1)
    assert torch.equal(embed(one, photos), embed(again, photos))
    assert not torch.equal(embed(one, photos), embed(other, photos))
    assert torch.equal(embed(encoder, photos), before)
    assert one.describe()["image_weights"] == "random initialisation"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:nothing", r"timm has no tower 'nothing', expected one of timm.list_models\(\)"),
        ("torchvision:nothing", r"torchvision has no classifier 'nothing', expected one of"),
        ("timm:resnet10t", r"timm:resnet10t: the hub is out of reach .* a local directory"),
        ("timm:hf-hub:timm/nothing", r"timm:hf-hub:timm/nothing: the hub is out of reach"),
    ],
)
def test_wrong_names_are_one_line(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        load_encoder(name)
    assert "\n" not in str(caught.value)


def test_weights_that_are_no_safetensors_are_refused(timm_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((timm_folder / "config.json").read_text())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"has no \*.safetensors"):
        load_encoder(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match="cannot be loaded") as caught:
        load_encoder(tmp_path)
    assert "\n" not in str(caught.value)
