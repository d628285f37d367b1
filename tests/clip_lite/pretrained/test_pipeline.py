"""The pipelines of transformers rank with the eraser's embeddings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, pipeline

from clip_lite.editable import EditableEncoder
from clip_lite.errors import UsageError
from clip_lite.pretrained import edited_transformers, load_encoder
from debias.eraser import Eraser

Embed = Callable[[EditableEncoder, list[Image.Image]], Tensor]
LABELS = ["man", "woman", "dog", "red", "photo of a", "on on", "zebra", "cat"]


@pytest.fixture(params=["clip_folder", "siglip_folder"])
def edited(
    request: pytest.FixtureRequest, eraser: Callable[[int], Eraser], tmp_path: Path
) -> tuple[Path, EditableEncoder]:
    """A saved model with an eraser of its embedding, and the encoder."""
    encoder = load_encoder(request.getfixturevalue(request.param))
    encoder.attach({"embedding": eraser(encoder.embedding_dim)})
    encoder.save_pretrained(tmp_path / "edited")
    return tmp_path / "edited", encoder


def rankings(model: Any, folder: Path, photos: list[Image.Image]) -> list[list[str]]:
    classify = pipeline(
        "zero-shot-image-classification",
        model=model,
        image_processor=AutoImageProcessor.from_pretrained(folder),
        tokenizer=AutoTokenizer.from_pretrained(folder),
    )
    answers = classify(photos, candidate_labels=LABELS, hypothesis_template="{}")
    return [[each["label"] for each in answer] for answer in answers]


def by_cosine(encoder: EditableEncoder, photos: list[Image.Image], embed: Embed) -> list[list[str]]:
    cosines = F.normalize(embed(encoder, photos), dim=-1) @ encoder.encode_text(LABELS).T
    return [[LABELS[index] for index in row] for row in cosines.argsort(descending=True).tolist()]


def test_zero_shot_classification_ranks_by_the_edited_embeddings(
    edited: tuple[Path, EditableEncoder], photos: list[Image.Image], embed: Embed
) -> None:
    folder, encoder = edited
    ranked = rankings(edited_transformers(folder), folder, photos)
    assert ranked == by_cosine(encoder, photos, embed)
    encoder.erase = False
    unedited = by_cosine(encoder, photos, embed)
    assert ranked != unedited
    assert rankings(edited_transformers(encoder), folder, photos) == unedited


def test_image_features_have_the_edited_direction(
    edited: tuple[Path, EditableEncoder], photos: list[Image.Image], embed: Embed
) -> None:
    folder, encoder = edited
    model: Any = edited_transformers(encoder)
    pixels = AutoImageProcessor.from_pretrained(folder)(images=photos, return_tensors="pt")
    with torch.no_grad():
        given = model.get_image_features(**pixels)
    features = given if isinstance(given, Tensor) else given.pooler_output
    expected = embed(encoder, photos)
    assert torch.allclose(features, expected, atol=1e-5)


def test_an_encoder_that_is_given_stays_as_it_is(
    edited: tuple[Path, EditableEncoder], photos: list[Image.Image], embed: Embed
) -> None:
    _, encoder = edited
    before = embed(encoder, photos)
    edited_transformers(encoder)
    assert torch.equal(embed(encoder, photos), before)


def test_a_model_of_another_library_is_refused(timm_folder: Path, vit_folder: Path) -> None:
    for folder in (timm_folder, vit_folder):
        with pytest.raises(UsageError, match="is no image-text model of transformers"):
            edited_transformers(folder)


def test_an_eraser_of_features_alone_is_refused_as_pipelines_would_not_show_it(
    clip_folder: Path, eraser: Callable[[int], Eraser]
) -> None:
    encoder = load_encoder(clip_folder)
    encoder.attach({"features": eraser(encoder.feature_dim)})
    with pytest.raises(UsageError, match="its eraser edits features, and pipelines compare embeddings"):
        edited_transformers(encoder)  # type: ignore[arg-type]


def test_the_edited_model_is_not_written_without_its_eraser(
    edited: tuple[Path, EditableEncoder], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="without its eraser"):
        edited_transformers(edited[0]).save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again").exists()
