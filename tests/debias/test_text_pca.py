from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from debias import ProtectedAttribute, random_direction, text_direction, text_pca

Planted = Callable[..., tuple[Tensor, Tensor]]
Probe = Callable[..., float]
D = 32


class PlantedText:
    """Embeddings = template + pair + group · planted direction + noise, not yet of unit norm."""

    def __init__(self, attribute: ProtectedAttribute) -> None:
        rng = np.random.default_rng(0)
        self.direction = torch.from_numpy(np.linalg.qr(rng.standard_normal((D, 1))).Q[:, 0])
        self.known: dict[str, Tensor] = {}
        for template in attribute.templates:
            frame = rng.standard_normal(D)
            for pair in attribute.word_pairs:
                role = rng.standard_normal(D)
                for group, word in enumerate(pair):
                    noise = torch.from_numpy(frame + role + 0.01 * rng.standard_normal(D))
                    self.known[template.replace("{}", word)] = noise + (2 * group - 1) * self.direction

    def __call__(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([self.known[text] for text in texts]).float()


def images(direction: Tensor, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows whose group lies along ``direction``."""
    rng = np.random.default_rng(seed)
    z = torch.from_numpy(rng.integers(2, size=1500))
    x = torch.from_numpy(rng.standard_normal((1500, D))) + 2 * (2 * z[:, None] - 1) * direction
    return x, z


def test_it_removes_the_direction_the_words_differ_along(gender: ProtectedAttribute, logistic: Probe) -> None:
    """x ↦ x − V Vᵀ x: a fresh probe is at chance if the images carry the group along the text direction."""
    encode = PlantedText(gender)
    eraser = text_pca(encode, gender)
    control = random_direction(D, rank=1, seed=9)  # seed 0 draws the planted direction itself
    fitted, fresh = images(encode.direction), images(encode.direction, seed=1)

    def accuracy(edit: Callable[[Tensor], Tensor]) -> float:
        return logistic(edit(fitted[0]), fitted[1], edit(fresh[0]), fresh[1])

    assert accuracy(lambda x: x) > 0.9
    assert accuracy(control) > 0.9
    assert accuracy(eraser) == pytest.approx(0.5, abs=0.06)


def test_images_that_carry_the_group_elsewhere_keep_it(gender: ProtectedAttribute, logistic: Probe) -> None:
    """The limit of the method: at 90 degrees from the text direction nothing is removed."""
    encode = PlantedText(gender)
    eraser = text_pca(encode, gender)
    other = torch.from_numpy(np.random.default_rng(5).standard_normal(D))
    other -= (other @ encode.direction) * encode.direction
    x, z = images(other / other.norm())
    assert logistic(x, z) > 0.9
    assert logistic(eraser(x), z) > 0.9


def test_it_is_a_linear_orthogonal_projection(gender: ProtectedAttribute) -> None:
    """V Vᵀ with Vᵀ V = I, from tuples centred one by one; the origin stays."""
    encode = PlantedText(gender)
    eraser = text_pca(encode, gender, k=3)
    assert not eraser.mean.any()
    assert torch.equal(eraser.left, eraser.right)
    torch.testing.assert_close(
        eraser.left.T @ eraser.left, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(eraser.left[:, :1], text_pca(encode, gender).left, rtol=0, atol=1e-12)
    assert (eraser.method, eraser.rank, eraser.changes_images) == ("text_pca", 3, True)
    assert eraser.details == {"attribute": gender.describe(), "k": 3, "strength": 1.0}


@pytest.mark.parametrize("swapped", [False, True])
def test_the_direction_points_from_the_first_group_to_the_second(
    gender: ProtectedAttribute, swapped: bool
) -> None:
    """Decided by all pairs: a single one the wrong way round, even the first, turns nothing."""
    encode = PlantedText(gender)
    first, *others = gender.word_pairs
    attribute = replace(gender, word_pairs=(first[::-1] if swapped else first, *others))
    direction = text_direction(encode, attribute)
    assert direction.dtype == torch.float64
    assert float(direction.norm()) == pytest.approx(1)
    assert float(direction @ encode.direction) == pytest.approx(1, abs=0.02)


def test_the_length_of_embeddings_does_not_matter(gender: ProtectedAttribute) -> None:
    encode = PlantedText(gender)
    lengths = torch.from_numpy(np.random.default_rng(1).uniform(0.1, 10, size=(160, 1)))
    stretched = text_pca(lambda texts: encode(texts) * lengths, gender)
    assert (encode(list(encode.known)) * (lengths - 1)).abs().max() > 1
    torch.testing.assert_close(
        stretched(encode.direction), text_pca(encode, gender)(encode.direction), rtol=0, atol=1e-6
    )


def test_three_groups_span_two_directions(hair: Path) -> None:
    """One tuple of three words, centred, spans two dimensions: both go, a third does not exist."""
    attribute = ProtectedAttribute.load(hair)
    table = torch.eye(D)[:3]
    eraser = text_pca(lambda texts: table[: len(texts)], attribute, k=2)
    edited = eraser(table)
    torch.testing.assert_close(edited, edited.mean(0).expand(3, D), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="k is 3, expected 1 to 2"):
        text_pca(lambda texts: table[: len(texts)], attribute, k=3)


def test_an_intersection_has_one_word_per_joint_group(gender: ProtectedAttribute, hair: Path) -> None:
    """Two groups × three groups: six words a tuple span five directions at most, and k of them go."""
    joint = ProtectedAttribute.load(f"gender*{hair}")
    (words,) = joint.word_pairs
    table = torch.from_numpy(np.random.default_rng(0).standard_normal((6, D)))

    def encode(texts: Sequence[str]) -> Tensor:
        return table[[next(place for place, word in enumerate(words) if word in text) for text in texts]]

    assert len(words) == len(joint.groups) == 6
    prompts = torch.nn.functional.normalize(table, dim=1)
    assert torch.pdist(prompts).min() > 0.5
    assert torch.pdist(text_pca(encode, joint, k=1)(prompts)).max() > 0.5
    assert torch.pdist(text_pca(encode, joint, k=5)(prompts)).max() < 1e-6
    with pytest.raises(ValueError, match="k is 6, expected 1 to 5"):
        text_pca(encode, joint, k=6)


def test_strength_leaves_the_rest_of_the_direction(gender: ProtectedAttribute) -> None:
    encode = PlantedText(gender)
    direction = text_direction(encode, gender)
    for strength in (0.0, 0.25, 1.0):
        kept = text_pca(encode, gender, strength=strength)(direction) @ direction
        assert float(kept) == pytest.approx(1 - strength, abs=1e-9)
    with pytest.raises(ValueError, match="strength"):
        text_pca(encode, gender, strength=1.5)


def test_misfits_are_refused(gender: ProtectedAttribute) -> None:
    with pytest.raises(ValueError, match="k is 0, expected 1 to"):
        text_pca(PlantedText(gender), gender, k=0)
    with pytest.raises(
        ValueError, match=r"encode_text gave shape \(2, 32\), expected \(n, d\) for 160 texts"
    ):
        text_pca(lambda _: torch.ones(2, D), gender)
    with pytest.raises(ValueError, match="give no direction"):
        text_direction(lambda texts: torch.ones(len(texts), D), gender)
