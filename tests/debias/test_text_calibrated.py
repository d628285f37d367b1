from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from debias import ProtectedAttribute, random_direction
from debias.methods.text_calibrated import SUBJECTS, text_calibrated

Probe = Callable[..., float]
D = 24
SUBJECT_PAIR = ("doctor", "nurse")
WORDS = {"man": ("adult", -1), "woman": ("adult", 1), "boy": ("child", -0.8), "girl": ("child", 0.8)}


def vector(name: str) -> Tensor:
    """A fixed direction for every name."""
    normal = np.random.default_rng(crc32(name.encode())).standard_normal(D)
    return torch.from_numpy(normal / np.linalg.norm(normal))


def encode(texts: Sequence[str]) -> Tensor:
    """Words add up; a woman's word is a man's plus the planted gap, which a subject after it turns a little.

    So the bare words do not tell all about the pairs.
    """
    rows = []
    for text in texts:
        *before, last = text.split()
        gap = vector("planted") + (0.4 * vector("hidden") if last in SUBJECT_PAIR else 0)
        rows.append(sum((_word(word, gap) for word in before), _word(last, gap)))
    return torch.stack(rows).float()


def _word(word: str, gap: Tensor) -> Tensor:
    age, side = WORDS.get(word, (word, 0))
    return 0.5 * vector(age) + side * gap


def shortened(gender: ProtectedAttribute) -> ProtectedAttribute:
    pairs, templates = (("man", "woman"), ("boy", "girl")), ("a {}", "photo of a {}")
    return replace(gender, word_pairs=pairs, templates=templates)


@pytest.fixture
def small(gender: ProtectedAttribute) -> ProtectedAttribute:
    return shortened(gender)


def matrix(attribute: ProtectedAttribute, *, calibration: float) -> Tensor:
    """P itself: what it makes of the axes."""
    eraser = text_calibrated(encode, attribute, calibration=calibration, subjects=SUBJECT_PAIR)
    return eraser(torch.eye(D, dtype=torch.float64)).mT


def unit(texts: Sequence[str]) -> Tensor:
    return torch.nn.functional.normalize(encode(texts).double(), dim=1)


def gaps(attribute: ProtectedAttribute) -> Tensor:
    return torch.stack(
        [
            torch.sub(*unit([template.replace("{}", f"{word} {subject}") for word in pair]))
            for pair in attribute.word_pairs
            for template in attribute.templates
            for subject in SUBJECT_PAIR
        ]
    )


def test_without_calibration_it_projects_off_the_words(small: ProtectedAttribute) -> None:
    """λ = 0 gives P₀, the orthogonal projection off one embedding per word; λ → 0 tends to it."""
    words = torch.stack(
        [
            unit([template.replace("{}", word) for template in small.templates]).mean(0)
            for pair in small.word_pairs
            for word in pair
        ]
    )
    expected = torch.eye(D, dtype=torch.float64) - torch.linalg.pinv(words, rtol=1e-5) @ words
    torch.testing.assert_close(matrix(small, calibration=0), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(matrix(small, calibration=1e-9), expected, rtol=0, atol=1e-6)


@given(calibration=st.floats(0.1, 2000), seed=st.integers(0, 999))
@settings(derandomize=True, deadline=None, max_examples=15)
def test_it_minimises_the_papers_objective(calibration: float, seed: int) -> None:
    """‖P − P₀‖² + λ · mean ‖P zᵢ − P zⱼ‖² grows in every direction; (I + λM)⁻¹ P₀ is not the minimiser."""
    small = shortened(ProtectedAttribute.load("gender"))
    initial, pairs = matrix(small, calibration=0), gaps(small)
    best = matrix(small, calibration=calibration)

    def objective(candidate: Tensor) -> float:
        discrepancy = (pairs @ candidate.mT).square().sum(1).mean()
        return float((candidate - initial).square().sum() + calibration * discrepancy)

    generator = torch.Generator().manual_seed(seed)
    for scale in (1e-3, 0.1):
        noise = scale * torch.randn(D, D, generator=generator, dtype=torch.float64)
        assert objective(best) < objective(best + noise)
    assert objective(best) < objective(best.mT)
    assert objective(best) < objective(initial)


def test_pairs_come_together(small: ProtectedAttribute) -> None:
    pairs = gaps(small)

    def apart(calibration: float) -> float:
        return float((pairs @ matrix(small, calibration=calibration).mT).norm(dim=1).mean())

    assert float(pairs.norm(dim=1).mean()) > 0.5
    assert apart(0) > 0.1
    assert apart(1000) < 0.05 * apart(0)
    assert apart(1000) < apart(100) < apart(1) < apart(0)


def test_images_lose_the_group_where_they_carry_it_as_the_pairs_do(
    small: ProtectedAttribute, logistic: Probe
) -> None:
    """A probe loses a group along the pairs' gap and keeps one elsewhere: the limit of text methods."""
    eraser = text_calibrated(encode, small, subjects=SUBJECT_PAIR)
    control = random_direction(D, rank=eraser.rank, seed=0)
    rng = np.random.default_rng(0)
    z = torch.from_numpy(rng.integers(2, size=1500))
    noise = torch.from_numpy(rng.standard_normal((1500, D)))
    gap = gaps(small).mean(0)

    def images(direction: Tensor) -> Tensor:
        return noise + 3 * (2 * z[:, None] - 1) * direction / direction.norm()

    for direction in (gap, vector("elsewhere")):
        assert logistic(images(direction), z) > 0.9
        assert logistic(control(images(direction)), z) > 0.9
    assert logistic(eraser(images(gap)), z) < 0.6
    assert logistic(eraser(images(vector("elsewhere"))), z) > 0.9


def test_calibration_gives_back_what_the_bare_words_alone_say(
    small: ProtectedAttribute, logistic: Probe
) -> None:
    """P₀ stands on the left: the kernel holds the pairs' gaps, and the words' only if these are the same."""
    rng = np.random.default_rng(0)
    z = torch.from_numpy(rng.integers(2, size=1500))
    x = torch.from_numpy(rng.standard_normal((1500, D))) + 5 * (2 * z[:, None] - 1) * vector("planted")
    assert logistic(x, z) > 0.9
    assert logistic(text_calibrated(encode, small, calibration=0, subjects=SUBJECT_PAIR)(x), z) < 0.6
    assert logistic(text_calibrated(encode, small, subjects=SUBJECT_PAIR)(x), z) > 0.8


def test_more_than_two_groups_use_every_pair_of_groups(hair: Path) -> None:
    attribute = ProtectedAttribute.load(hair)
    eraser = text_calibrated(_hair, attribute, subjects=("doctor",))
    prompts = _hair(["a blond doctor wig", "a dark doctor wig", "a red doctor wig"]).double()
    before, after = torch.pdist(prompts), torch.pdist(eraser(prompts))
    assert before.min() > 0.5
    assert after.max() < 0.05


def _hair(texts: Sequence[str]) -> Tensor:
    total = [torch.stack([vector(word) for word in text.split()]).sum(0) for text in texts]
    return torch.nn.functional.normalize(torch.stack(total), dim=1).float()


def test_it_says_what_it_was_made_from(small: ProtectedAttribute) -> None:
    eraser = text_calibrated(encode, small)
    assert (eraser.method, eraser.dim, eraser.changes_images) == ("text_calibrated", D, True)
    assert eraser.details["attribute"] == small.describe()
    assert eraser.details["calibration"] == 1000
    assert eraser.details["subjects"] == list(SUBJECTS)
    assert not eraser.mean.any()


def test_strength_goes_from_the_identity_to_the_edit(small: ProtectedAttribute) -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((5, D)))
    full = text_calibrated(encode, small)(x)
    assert (full - x).abs().max() > 0.1
    for strength in (0.0, 0.5, 1.0):
        edited = text_calibrated(encode, small, strength=strength)(x)
        torch.testing.assert_close(edited, x + strength * (full - x), rtol=0, atol=1e-9)


def test_misfits_are_refused(small: ProtectedAttribute) -> None:
    for calibration in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="expected a finite number, 0 or above"):
            text_calibrated(encode, small, calibration=calibration)
    for subjects in ((), "doctor"):
        with pytest.raises(ValueError, match="expected at least one text in a sequence"):
            text_calibrated(encode, small, subjects=subjects)
    with pytest.raises(ValueError, match=r"encode_text gave shape \(2, 24\), expected \(n, d\) for 8 texts"):
        text_calibrated(lambda _: torch.ones(2, D), small)
