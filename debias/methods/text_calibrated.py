"""Text calibration: project out the prompts that name a group, so that pairs of prompts come together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from debias.attributes import ProtectedAttribute
from debias.eraser import Eraser
from debias.methods.text_pca import EncodeText, span, unit_embeddings

SUBJECTS = ("doctor", "nurse", "teacher", "student", "cook", "scientist", "farmer", "singer")
EDIT_FLOOR = 1e-10  # of the largest singular value of I − P


def text_calibrated(
    encode_text: EncodeText,
    attribute: ProtectedAttribute,
    *,
    calibration: float = 1000.0,
    subjects: Sequence[str] = SUBJECTS,
    strength: float = 1.0,
) -> Eraser:
    """Needs word pairs; projects off their prompts, calibrated; retrained linear attackers may lose little.

    x ↦ P x with P = P₀ (I + λM)⁻¹, Chuang et al. 2023 (arXiv 2302.00070), "calibrated projection". P is the
    minimiser of ‖P − P₀‖² + λ · mean ‖P zᵢ − P zⱼ‖² (Frobenius norms): its derivative is 2 (P − P₀ + λPM).

    P₀ projects off the span of the words' embeddings; a word has one, the mean over templates, as a class has
    in zero-shot. M is the mean of (zᵢ − zⱼ)(zᵢ − zⱼ)ᵀ over pairs of prompts that differ in the group alone,
    such as "a photo of a female doctor" and "a photo of a male doctor". As P₀ stands on the left, results
    are orthogonal to the words' span, but what is lost is the gaps of the pairs: a gap that only the bare
    words have turns up along another direction.

    The paper edits text embeddings. This eraser is for image embeddings, and whether they carry the attribute
    along the same directions is for the audit to say.

    Args:
        encode_text: texts → embeddings ``(n, d)``; normalised here.
        attribute: gives word pairs (tuples for more than two groups) and templates.
        calibration: λ, 0 for P₀ alone; the paper takes 1000 or 500.
        subjects: what follows the word in the pairs' prompts.
        strength: 0, the identity, to 1, the full edit.

    Raises:
        ValueError: ``calibration`` is negative or not finite, ``subjects`` is empty or a bare string,
            ``encode_text`` returns another shape, or ``strength`` is not from 0 to 1.
    """
    if not 0 <= calibration < float("inf"):
        raise ValueError(f"calibration is {calibration}, expected a finite number, 0 or above")
    if isinstance(subjects, str) or not subjects:
        raise ValueError(f"subjects is {subjects!r}, expected at least one text in a sequence")
    named = span(_words(encode_text, attribute))
    gaps = _gaps(encode_text, attribute, subjects)
    identity = torch.eye(len(named), dtype=torch.float64)
    projection = identity - named @ named.mT
    weighted = identity + calibration * gaps.mT @ gaps / len(gaps)
    left, lengths, right = torch.linalg.svd(identity - torch.linalg.solve(weighted, projection).mT)
    kept = lengths > EDIT_FLOOR * lengths[0]
    return Eraser(
        torch.zeros(len(named)),
        left[:, kept] * lengths[kept],
        right[kept].mT,
        method="text_calibrated",
        changes_images=True,
        details={
            "attribute": attribute.describe(),
            "calibration": calibration,
            "subjects": list(subjects),
        },
    ).at_strength(strength)


def _words(encode_text: EncodeText, attribute: ProtectedAttribute) -> Tensor:
    """One embedding per word of every tuple ``(words, d)``: the mean over templates."""
    words = [word for words in attribute.word_pairs for word in words]
    prompts = [template.replace("{}", word) for word in words for template in attribute.templates]
    return unit_embeddings(encode_text, prompts).unflatten(0, (len(words), -1)).mean(1)


def _gaps(encode_text: EncodeText, attribute: ProtectedAttribute, subjects: Sequence[str]) -> Tensor:
    """zᵢ − zⱼ ``(pairs, d)`` for every two groups of every tuple, template and subject."""
    prompts = [
        template.replace("{}", f"{word} {subject}")
        for words in attribute.word_pairs
        for template in attribute.templates
        for subject in subjects
        for word in words
    ]
    tuples = unit_embeddings(encode_text, prompts).unflatten(0, (-1, len(attribute.groups)))
    return torch.cat([tuples[:, i] - tuples[:, j] for i, j in combinations(range(tuples.shape[1]), 2)])
