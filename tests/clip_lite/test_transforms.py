from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_lite.data.transforms import IMAGENET_MEAN, IMAGENET_STD, Augment, crop_boxes, normalise

STILL = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "jitter": (0.0, 0.0, 0.0, 0.0)}


def batch(n: int = 6, size: int = 12) -> torch.Tensor:
    return torch.randint(
        0, 256, (n, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


def augmented(augment: Augment, images: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
    draws = augment.draw(len(images), np.random.default_rng(1))
    return augment(images, draws), draws.mirrored


def test_without_changes_augmentation_is_normalisation() -> None:
    images, mirrored = augmented(Augment(**STILL), batch())
    assert torch.allclose(images, normalise(batch()), atol=1e-4)
    assert not mirrored.any()


def test_normalise_uses_imagenet_statistics() -> None:
    grey = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    expected = (1 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    assert torch.allclose(normalise(grey)[0, :, 0, 0], expected)


def test_mirrored_pictures_are_reported_and_mirrored() -> None:
    images, mirrored = augmented(Augment(**{**STILL, "flip": 0.5}), batch(64))
    plain = normalise(batch(64))
    assert 0 < mirrored.sum() < 64
    for image, flipped, source in zip(images, mirrored, plain, strict=True):
        assert torch.allclose(image, source.flip(-1) if flipped else source, atol=1e-4)


def test_every_picture_has_its_own_parameters() -> None:
    same = batch(1).expand(8, -1, -1, -1)
    images, _ = augmented(Augment(scale=(0.3, 1.0), flip=0.5, jitter=(0.4, 0.4, 0.4, 0.1)), same)
    assert len({image.sum().item() for image in images}) == 8


def test_crop_stays_inside_the_picture() -> None:
    """A picture with a unique border: no crop may show a value that is not in it."""
    ramp = torch.arange(12, dtype=torch.uint8).mul(20).expand(32, 3, 12, 12).contiguous()
    images, _ = augmented(Augment(**{**STILL, "scale": (0.2, 0.9), "ratio": (0.75, 1.33)}), ramp)
    low, high = normalise(ramp).amin(), normalise(ramp).amax()
    assert images.amin() >= low - 1e-4
    assert images.amax() <= high + 1e-4
    assert len({round(image.std().item(), 3) for image in images}) > 16


def test_hue_shift_keeps_grey_and_brightness_scales() -> None:
    grey = torch.full((16, 3, 4, 4), 100, dtype=torch.uint8)
    hue = Augment(**{**STILL, "jitter": (0.0, 0.0, 0.5, 0.5)}, jitter_probability=1.0)
    assert torch.allclose(augmented(hue, grey)[0], normalise(grey), atol=2e-3)
    bright = Augment(**{**STILL, "jitter": (0.5, 0.0, 0.0, 0.0)}, jitter_probability=1.0)
    assert augmented(bright, grey)[0].std() > 0.1


def test_same_draws_same_batch_and_a_part_is_the_same_part() -> None:
    augment = Augment(scale=(0.3, 1.0), flip=0.5, jitter=(0.4, 0.4, 0.4, 0.1))
    draws = augment.draw(6, np.random.default_rng(0))
    whole = augment(batch(), draws)
    assert torch.equal(whole, augment(batch(), draws))
    part = slice(2, 5)
    assert torch.allclose(augment(batch()[part], draws.rows(part)), whole[part], atol=1e-5)


def test_pictures_cropped_before_are_only_mirrored_and_coloured() -> None:
    augment = Augment(**{**STILL, "scale": (0.2, 0.5), "flip": 0.5})
    draws = augment.draw(64, np.random.default_rng(0))
    images = augment(batch(64), draws, cropped=True)
    for image, flipped, source in zip(images, draws.mirrored, normalise(batch(64)), strict=True):
        assert torch.allclose(image, source.flip(-1) if flipped else source, atol=1e-4)


def test_crop_boxes_have_the_asked_area_and_ratio_and_stay_inside() -> None:
    uniforms = np.random.default_rng(0).random((4000, 4))
    x, y, width, height = crop_boxes(uniforms, (0.2, 0.6), (0.75, 4 / 3)).T
    area, ratio = width * height, width / height
    assert area.min() >= 0.2 - 1e-9
    assert area.max() <= 0.6 + 1e-9
    assert area.mean() == pytest.approx(0.4, abs=0.01)
    assert ratio.min() >= 0.75 - 1e-9
    assert ratio.max() <= 4 / 3 + 1e-9
    assert (x - width / 2).min() >= 0
    assert (y + height / 2).max() <= 1 + 1e-9
