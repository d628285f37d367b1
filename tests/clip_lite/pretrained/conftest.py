"""Tiny untrained models in the true on-disk formats of transformers, open_clip and timm."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import sentencepiece
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipTokenizer,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from clip_lite.editable import EditableEncoder
from debias.eraser import Eraser

TEXTS = [
    "a photo of a man",
    "A Woman, reading!",
    "two dogs on a red sofa " * 30,
    "",
    "crème brûlée im Café",
]
SIZES = [(48, 48), (97, 41), (33, 160), (400, 17), (7, 9), (16, 16)]


@pytest.fixture(scope="session")
def photos() -> list[Image.Image]:
    """Noise on a slope, in several sizes and aspect ratios."""
    rng = np.random.default_rng(0)
    found = []
    for width, height in SIZES:
        slope = np.linspace(0, 200, width)[None, :, None] + rng.integers(0, 56, (height, width, 3))
        found.append(Image.fromarray(slope.astype(np.uint8)))
    return found


Embed = Callable[[EditableEncoder, list[Image.Image]], Tensor]


@pytest.fixture(scope="session")
def embed() -> Embed:
    """``embed(encoder, photos)``: prepared, transformed and encoded as an evaluation does it."""

    def run(encoder: EditableEncoder, photos: list[Image.Image]) -> Tensor:
        assert encoder.prepare is not None
        pixels = torch.from_numpy(np.stack([encoder.prepare(photo) for photo in photos]))
        assert pixels.dtype == torch.uint8
        assert pixels.shape[1:] == (3, encoder.image_size, encoder.image_size)
        with torch.inference_mode():
            return encoder.encode_image(encoder.image_transform(pixels)).embedding

    return run


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with the tokenizer's vocab.json and merges.txt, resize to 32 and crop to 32."""
    folder = tmp_path_factory.mktemp("clip")
    _clip_vocabulary(folder)
    tokenizer = CLIPTokenizer(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=77
    )
    tower = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = CLIPConfig(
        text_config={
            **tower,
            "vocab_size": len(tokenizer),
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "projection_dim": 24,
        },
        vision_config={**tower, "image_size": 32, "patch_size": 8, "projection_dim": 24},
        projection_dim=24,
    )
    torch.manual_seed(0)
    _loud(CLIPModel(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="session")
def siglip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SigLIP with a unigram tokenizer that ends texts with </s> and pads with it, squeezed to 32 px."""
    folder = tmp_path_factory.mktemp("siglip")
    words = ["man", "woman", "photo", "dog", "a", "of", "on", "red"]
    pieces = ["</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz", *(f"▁{word}" for word in words)]
    raw = Tokenizer(models.Unigram([(piece, -float(len(piece) < 2)) for piece in pieces], unk_id=1))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="</s>",
        pad_token="</s>",
        unk_token="<unk>",
        model_max_length=64,
        model_input_names=["input_ids"],
    )
    tower = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = SiglipConfig(
        text_config={**tower, "vocab_size": len(pieces), "max_position_embeddings": 64},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
    )
    torch.manual_seed(1)
    _loud(SiglipModel(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def siglip_pieces_folder(siglip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same SigLIP with a tokenizer as published ones have it: a sentencepiece model."""
    folder = tmp_path_factory.mktemp("siglip_pieces")
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        shutil.copy(siglip_folder / name, folder / name)
    pieces = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a photo of a man", "a woman on the red sofa", "the dog at work"] * 20),
        model_writer=pieces,
        vocab_size=30,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(pieces.getvalue())
    tokenizer = SiglipTokenizer(
        str(folder / "spiece.model"), model_max_length=64, model_input_names=["input_ids"]
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image classifier of transformers, whose checkpoint has no pooler."""
    folder = tmp_path_factory.mktemp("vit")
    config = ViTConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    torch.manual_seed(2)
    _loud(ViTForImageClassification(config)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def open_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT of open_clip in its local-dir layout, with its own byte-pair tokenizer."""
    folder = tmp_path_factory.mktemp("open_clip")
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    preprocess = {
        "mean": list(open_clip.OPENAI_DATASET_MEAN),
        "std": list(open_clip.OPENAI_DATASET_STD),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    torch.manual_seed(3)
    model = open_clip.CLIP(**config)
    return _open_clip_layout(folder, model, config, preprocess)


@pytest.fixture(scope="session")
def open_clip_resnet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet of open_clip, squeezed to 64 px."""
    folder = tmp_path_factory.mktemp("open_clip_resnet")
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    preprocess = {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bilinear",
        "resize_mode": "squash",
    }
    torch.manual_seed(4)
    model = open_clip.CLIP(**config)
    return _open_clip_layout(folder, model, config, preprocess)


@pytest.fixture(scope="session")
def open_clip_timm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of open_clip whose image tower is timm's, the longer side resized and the rest filled."""
    folder = tmp_path_factory.mktemp("open_clip_timm")
    config = {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": 160,
            "timm_model_name": "test_vit",
            "timm_model_pretrained": False,
            "timm_pool": "token",
            "timm_proj": "linear",
        },
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    preprocess = {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "longest",
        "fill_color": 40,
    }
    torch.manual_seed(6)
    model = open_clip.CLIP(**config)
    return _open_clip_layout(folder, model, config, preprocess)


@pytest.fixture(scope="session")
def timm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of timm as its hub stores it."""
    folder = tmp_path_factory.mktemp("timm")
    torch.manual_seed(5)
    model = timm.create_model("test_resnet", pretrained=False, num_classes=7)
    timm.models.save_for_hf(model, str(folder), safe_serialization=True)
    return folder


@pytest.fixture
def eraser() -> Callable[[int], Eraser]:
    """``eraser(d)``: a projection of rank 3 about a mean, in width d."""

    def make(dim: int) -> Eraser:
        generator = torch.Generator().manual_seed(dim)
        directions = torch.linalg.qr(torch.randn(dim, 3, generator=generator, dtype=torch.float64)).Q
        mean = torch.randn(dim, generator=generator, dtype=torch.float64) / dim**0.5
        return Eraser(mean, directions, directions, method="test", changes_images=True)

    return make


def _clip_vocabulary(folder: Path) -> None:
    """Bytes, bytes at the end of a word, a few merges, and the two special tokens, in CLIP's order."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("m", "a"), ("ma", "n</w>"), ("w", "o"), ("wo", "man</w>"), ("o", "f</w>"), ("d", "o")]
    pieces = [*alphabet, *(f"{piece}</w>" for piece in alphabet), *("".join(pair) for pair in merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _loud(model: Any) -> Any:
    """Weights that are large enough for pictures and texts to differ."""
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.ndim > 1:
                weights.copy_(torch.randn_like(weights) * weights.shape[-1] ** -0.5)
            elif "logit" not in name:
                weights.add_(0.1 * torch.randn_like(weights))
    return model


def _open_clip_layout(folder: Path, model: Any, config: dict[str, Any], preprocess: dict[str, Any]) -> Path:
    content = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(content), encoding="utf-8")
    save_file(_loud(model).state_dict(), folder / "open_clip_model.safetensors")
    return folder
