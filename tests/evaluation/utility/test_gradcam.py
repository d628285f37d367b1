"""Heat maps equal a computation by hand, and lie where a planted thing is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip_lite.encoder import ImageFeatures
from clip_lite.model import DualEncoder
from clip_lite.text_towers import TextTower
from debias.methods.random_direction import random_direction
from evaluation.utility.gradcam import heat_maps, target_layer
from evaluation.utility.grounding import found_in, hits

SIZE, DIM = 64, 16
TOWERS = (
    "resnet18",
    "vit_b_16",
    "timm/vit_tiny_patch16_224",
    "timm/tf_efficientnet_lite0",
    "mobilenet_v3_small",
    "densenet121",  # its last map is rectified in place
)


@pytest.fixture(scope="module")
def text_tower(text_folder: Path) -> TextTower:
    return TextTower.load(str(text_folder), training="frozen")


def encoder(text_tower: TextTower, tower: str = "resnet18") -> DualEncoder:
    torch.manual_seed(0)
    return DualEncoder(
        text_tower, image_tower=tower, small_images=tower == "resnet18", embedding_dim=DIM, image_size=SIZE
    ).eval()


def pictures(count: int = 3) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def texts(count: int = 3) -> Tensor:
    return F.normalize(torch.randn(count, DIM, generator=torch.Generator().manual_seed(2)), dim=-1)


def by_hand(activation: Tensor, gradient: Tensor) -> Tensor:
    """One picture's map, from ``(c, h, w)`` twice, written out."""
    weights = [float(channel.mean()) for channel in gradient]
    heat = sum(weight * channel for weight, channel in zip(weights, activation, strict=True))
    assert isinstance(heat, Tensor)
    heat = F.interpolate(heat.clamp(min=0)[None, None], (SIZE, SIZE), mode="bilinear")[0, 0]
    return heat / heat.max() if heat.max() > 0 else heat


def test_a_resnets_map_is_that_of_its_last_block_by_hand(text_tower: TextTower) -> None:
    model, image, text = encoder(text_tower), pictures(), texts()
    tower = model.image_tower
    layer = target_layer(tower, image[:1])
    assert layer is tower.layer4 or layer is tower.layer4[-1]
    found = heat_maps(model, image, text, layer=layer)
    for place in range(3):
        seen = tower.relu(tower.bn1(tower.conv1(image[place : place + 1])))
        seen = tower.layer4(tower.layer3(tower.layer2(tower.layer1(tower.maxpool(seen)))))
        activation = seen.detach().requires_grad_()
        features = tower.avgpool(activation).flatten(1)
        score = (F.normalize(model.image_head(features), dim=-1) @ text[place]).sum()
        (gradient,) = torch.autograd.grad(score, activation)
        torch.testing.assert_close(
            found[place], by_hand(activation.detach()[0], gradient[0]), atol=1e-5, rtol=1e-4
        )
    assert (found.amax(dim=(1, 2)) > 0.99).any()


def test_a_vits_map_reads_what_its_last_attention_reads(text_tower: TextTower) -> None:
    model, image, text = encoder(text_tower, "vit_b_16"), pictures(1), texts(1)
    tower, kept = model.image_tower, []
    last = tower.encoder.layers[-1]
    assert target_layer(tower, image) is last.ln_1
    hook = last.ln_1.register_forward_hook(lambda _m, _i, out: kept.append(out))
    embedding = model.encode_image(image).embedding
    hook.remove()
    (gradient,) = torch.autograd.grad((embedding @ text[0]).sum(), kept[0])
    grid = SIZE // 16
    read, pulled = (each[0, 1:].T.reshape(-1, grid, grid).detach() for each in (kept[0], gradient))
    assert pulled.abs().max() > 0
    found = heat_maps(model, image, text, layer=last.ln_1)[0]
    torch.testing.assert_close(found, by_hand(read, pulled), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("tower", TOWERS)
def test_towers_of_both_libraries_have_a_map(text_tower: TextTower, tower: str) -> None:
    model, image = encoder(text_tower, tower), pictures()
    found = heat_maps(model, image, texts(), layer=target_layer(model.image_tower, image[:1]))
    assert found.shape == (3, SIZE, SIZE)
    assert found.dtype == torch.float32
    assert 0 <= found.min() <= found.max() <= 1
    assert not torch.equal(found[0], found[1])


def test_channels_that_come_last_are_a_map_and_attention_between_places_is_none() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 16, stride=16)
            self.softmax, self.dropout, self.norm = nn.Softmax(dim=-1), nn.Dropout(), nn.LayerNorm(8)

        def forward(self, pixels: Tensor) -> Tensor:
            seen = self.norm(self.patches(pixels).permute(0, 2, 3, 1))
            tokens = seen.flatten(1, 2)[:, None]
            mixed = self.dropout(self.softmax(tokens @ tokens.mT)) @ tokens
            return mixed.mean(dim=(1, 2))

    class Model(Channels):
        def __init__(self) -> None:
            super().__init__()
            self.image_tower: nn.Module = Attends()

    torch.manual_seed(0)
    model, image, text = Model().eval(), pictures(2), F.normalize(torch.randn(2, 8), dim=-1)
    tower = model.image_tower
    layer = target_layer(tower, image[:1])
    assert layer is tower.norm
    kept: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _m, _i, out: kept.append(out))
    score = (model.encode_image(image).embedding * text).sum()
    hook.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    found = heat_maps(model, image, text, layer=layer)  # type: ignore[arg-type]
    for place in range(2):
        read, pulled = (each[place].detach().permute(2, 0, 1) for each in (kept[0], gradient))
        torch.testing.assert_close(found[place], by_hand(read, pulled), atol=1e-5, rtol=1e-4)


def test_a_tower_without_places_is_one_line(text_tower: TextTower) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 8))
    with pytest.raises(ValueError, match="Sequential has no map of places"):
        target_layer(flat, pictures(1))


def test_nothing_of_the_model_is_changed_and_inference_mode_is_no_obstacle(text_tower: TextTower) -> None:
    model, image, text = encoder(text_tower), pictures(), texts()
    layer = target_layer(model.image_tower, image[:1])
    outside = heat_maps(model, image, text, layer=layer)
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.inference_mode():
        inside = heat_maps(model, image.clone(), text.clone(), layer=layer)
    assert torch.equal(inside, outside)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not layer._forward_hooks


def test_erasers_that_act_and_edits_are_looked_through(text_tower: TextTower) -> None:
    model, image, text = encoder(text_tower), pictures(), texts()
    layer = target_layer(model.image_tower, image[:1])
    plain = heat_maps(model, image, text, layer=layer)
    eraser = random_direction(DIM, rank=8, mean=torch.zeros(DIM), seed=0)
    edited = heat_maps(model, image, text, layer=layer, edit=eraser)
    model.attach({"embedding": eraser})
    attached = heat_maps(model, image, text, layer=layer)
    torch.testing.assert_close(attached, edited, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(plain, edited, atol=1e-2)


class Channels(nn.Module):
    """Sees the three colour channels, four pixels at a time; text k asks for channel k."""

    def __init__(self) -> None:
        super().__init__()
        self.image_tower = nn.Sequential(nn.AvgPool2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.erase = False

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        features = self.image_tower(pixels)
        return ImageFeatures(features, F.normalize(features, dim=-1))


def test_a_planted_square_is_found_where_it_is_and_not_by_another_text() -> None:
    model = Channels()
    image = torch.full((2, 3, 32, 32), 0.05)
    image[0, 0, 4:12, 20:28] = 1.0
    image[1, 0, 16:24, 0:8] = 1.0
    image[:, 1, 24:32, 24:32] = 1.0
    red, green = torch.eye(3)[[0, 0]], torch.eye(3)[[1, 1]]
    layer = target_layer(model.image_tower, image[:1])
    found = heat_maps(model, image, red, layer=layer)  # type: ignore[arg-type]
    other = heat_maps(model, image, green, layer=layer)  # type: ignore[arg-type]
    for heat, (rows, columns) in zip(
        found, ((slice(4, 12), slice(20, 28)), (slice(16, 24), slice(0, 8))), strict=True
    ):
        inside = heat[rows, columns].mean()
        assert inside > 0.6
        assert inside > 5 * heat.mean()
    assert (other[:, 24:32, 24:32].mean(dim=(1, 2)) > 0.6).all()
    assert other[0, 4:12, 20:28].mean() < 0.1


def test_the_box_and_point_of_a_planted_square_are_right_and_those_of_another_text_are_not() -> None:
    model, generator = Channels(), torch.Generator().manual_seed(0)
    image, corners = torch.full((40, 3, 32, 32), 0.05), []
    for each in image:
        x, y = (int(4 * place) for place in torch.randint(0, 7, (2,), generator=generator))
        each[1, :, :4] = 1.0  # green along the left edge
        each[0, y : y + 8, x : x + 8] = 1.0
        corners.append([x, y, x + 8, y + 8])
    true, layer = np.array(corners, dtype=float), target_layer(model.image_tower, image[:1])
    shares = {}
    for name, channel in (("red", 0), ("green", 1)):
        heat = heat_maps(model, image, torch.eye(3)[[channel] * 40], layer=layer)  # type: ignore[arg-type]
        shares[name] = {k: hit.mean() for k, hit in hits(found_in(heat.numpy()), true).items()}
    moved = hits(found_in(heat_maps(model, image, torch.eye(3)[[0] * 40], layer=layer).numpy()), true[::-1])  # type: ignore[arg-type]
    assert min(shares["red"].values()) == 1.0
    assert max(shares["green"].values()) < 0.3
    assert max(hit.mean() for hit in moved.values()) < 0.3


def test_not_one_text_per_picture_is_refused(text_tower: TextTower) -> None:
    model, image = encoder(text_tower), pictures()
    with pytest.raises(ValueError, match="3 pictures but 2 texts"):
        heat_maps(model, image, texts(2), layer=target_layer(model.image_tower, image[:1]))
