"""Heads, towers and the saved directory."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from clip_lite.encoder import ImageTextEncoder
from clip_lite.errors import UsageError
from clip_lite.heads import ProjectionHead
from clip_lite.model import DualEncoder
from clip_lite.text_towers import TextTower, pooled_texts
from debias import GroupwiseEraser, NeutralWords
from debias.methods.random_direction import random_direction


@pytest.fixture
def model(text_folder: Path) -> DualEncoder:
    torch.manual_seed(0)
    tower = TextTower.load(str(text_folder), training="frozen")
    return DualEncoder(tower, embedding_dim=24, image_size=32).eval()


def pictures(n: int = 5, size: int = 32) -> torch.Tensor:
    return torch.randint(
        0, 256, (n, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


def test_head_follows_the_paper() -> None:
    head: Any = ProjectionHead(6, 4).eval()
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    first, batch_norm, _, second = head.mlp
    hidden = torch.relu(batch_norm(x @ first.weight.T))
    summed = hidden @ second.weight.T + second.bias + x @ head.shortcut.weight.T + head.shortcut.bias
    expected = (summed - summed.mean(1, keepdim=True)) / (
        summed.var(1, unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    assert torch.allclose(head(x), expected, atol=1e-5)
    assert first.bias is None
    assert torch.equal(head.shortcut.weight.diagonal(), torch.ones(4))
    off_diagonal = head.shortcut.weight - torch.eye(4, 6)
    assert 0 < off_diagonal.abs().max() <= 0.01


def test_missing_text_tower_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model.text_tower .*nothing-here"):
        TextTower.load(str(tmp_path / "nothing-here"), training="frozen")


def test_encoder_contract(model: DualEncoder) -> None:
    assert isinstance(model, ImageTextEncoder)
    image = model.encode_image(model.image_transform(pictures()))
    text = model.encode_text(["a man", "Two Roles!", "left"])
    assert image.features.shape == (5, 512)
    assert image.embedding.shape == (5, 24)
    assert text.shape == (3, 24)
    for rows in (image.embedding, text):
        assert torch.allclose(rows.norm(dim=-1), torch.ones(len(rows)), atol=1e-5)
    assert model.logit_scale.item() == pytest.approx(math.log(1 / 0.07))


def test_prompts_are_cleaned_like_training_captions(model: DualEncoder) -> None:
    assert torch.allclose(model.encode_text(["A man-role!"]), model.encode_text(["a man role"]), atol=1e-6)


def test_pooling_ignores_padding_and_batch_order(model: DualEncoder) -> None:
    texts = ["man", "person with a dark skin tone", "left"]
    together = pooled_texts(model.text_tower, texts, batch_size=2)
    alone = torch.cat([pooled_texts(model.text_tower, [text]) for text in texts])
    assert torch.allclose(together, alone, atol=1e-5)


def test_pictures_of_another_size_are_resized(model: DualEncoder) -> None:
    assert model.image_transform(pictures(size=40)).shape == (5, 3, 32, 32)


def test_directory_alone_restores_the_model(model: DualEncoder, tmp_path: Path) -> None:
    model.attach(
        {"embedding": random_direction(24, rank=2, seed=0), "features": random_direction(512, rank=1, seed=1)}
    )
    model.save_pretrained(tmp_path / "model")
    moved = Path(shutil.move(tmp_path / "model", tmp_path / "elsewhere"))
    loaded = DualEncoder.from_pretrained(moved)
    pixels = model.image_transform(pictures())
    for ours, theirs in zip(model.encode_image(pixels), loaded.encode_image(pixels), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(model.encode_text(["man"]), loaded.encode_text(["man"]))
    loaded.erase = False
    assert not torch.equal(model.encode_image(pixels).embedding, loaded.encode_image(pixels).embedding)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "timm/test_resnet", "timm/test_vit"])
def test_directory_restores_every_kind_of_image_tower(text_folder: Path, name: str, tmp_path: Path) -> None:
    tower = TextTower.load(str(text_folder), training="trained")
    model = DualEncoder(
        tower, image_tower=name, small_images=False, embedding_dim=8, image_size=48, initial_scale=10.0
    ).eval()
    assert model.logit_scale.exp().item() == pytest.approx(10.0)
    model.save_pretrained(tmp_path / "model")
    loaded = DualEncoder.from_pretrained(tmp_path / "model")
    pixels = model.image_transform(pictures())
    assert model.encode_image(pixels).features.shape == (5, model.feature_dim)
    for ours, theirs in zip(model.encode_image(pixels), loaded.encode_image(pixels), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert torch.equal(loaded.logit_scale, model.logit_scale)


def test_eraser_acts_on_what_is_returned(model: DualEncoder) -> None:
    pixels = model.image_transform(pictures())
    before = model.encode_image(pixels)
    eraser = random_direction(24, rank=1, seed=0)
    model.attach({"embedding": eraser})
    after = model.encode_image(pixels)
    assert torch.equal(after.embedding, eraser(before.embedding))
    assert torch.equal(after.features, before.features)
    assert not torch.allclose(after.embedding, before.embedding, atol=1e-3)


def test_eraser_of_another_width_is_refused(model: DualEncoder) -> None:
    with pytest.raises(ValueError, match="'embedding' has dim 23"):
        model.attach({"embedding": random_direction(23, rank=1, seed=0)})


def test_eraser_that_needs_groups_is_refused(model: DualEncoder) -> None:
    zeros, maps = torch.zeros(2, 24), torch.zeros(2, 24, 24)
    groupwise = GroupwiseEraser(zeros, maps, zeros, method="quadratic", changes_images=True)
    with pytest.raises(ValueError, match="'embedding' is groupwise: it needs the group of every picture"):
        model.attach({"embedding": groupwise})


def test_damaged_directories_are_refused(model: DualEncoder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a saved model"):
        DualEncoder.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "format_version": 99}))
    with pytest.raises(UsageError, match="format_version must be 3"):
        DualEncoder.from_pretrained(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "embedding_dim": 25}))
    with pytest.raises(UsageError, match="does not fit the other files") as caught:
        DualEncoder.from_pretrained(tmp_path / "model")
    assert "\n" not in str(caught.value)
    model.save_pretrained(tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "text_tower")
    with pytest.raises(UsageError, match="does not fit the other files"):
        DualEncoder.from_pretrained(tmp_path / "model")


def test_failed_save_keeps_the_old_directory(
    model: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save_pretrained(tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()

    def disk_full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("clip_lite.model.save_file", disk_full)
    with pytest.raises(OSError, match="No space"):
        model.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_neutral_words_travel_and_act_on_texts_unless_switched_off(
    model: DualEncoder, tmp_path: Path
) -> None:
    said, neutral = ["a man role1", "a woman role1"], model.encode_text(["a person role1"])
    man, woman = model.encode_text(said)
    assert not torch.allclose(man, woman, atol=1e-3)
    model.neutral = NeutralWords({"man": "person", "woman": "person"})
    model.save_pretrained(tmp_path / "model")
    for each in (model, DualEncoder.from_pretrained(tmp_path / "model")):
        assert torch.allclose(each.encode_text(said), neutral.expand(2, -1), atol=1e-6)
        each.erase = False
        assert torch.allclose(each.encode_text(said), torch.stack([man, woman]), atol=1e-6)
