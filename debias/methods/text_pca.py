"""Text PCA: project out the directions along which word pairs differ (the CLIP-Lite paper's edit)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from debias.attributes import ProtectedAttribute
from debias.eraser import Eraser

EncodeText = Callable[[Sequence[str]], Tensor]


def text_pca(
    encode_text: EncodeText, attribute: ProtectedAttribute, *, k: int = 1, strength: float = 1.0
) -> Eraser:
    """Needs word pairs; projects off the top k text directions; retrained linear attackers may lose little.

    x ↦ x − V Vᵀ x, Bolukbasi et al. 2016 (arXiv 1607.06520), "identify gender subspace": every word of every
    tuple in every template is encoded, each tuple is centred, and V is the first ``k`` principal directions
    of what is left. Text alone fits it; whether image vectors carry the attribute along the same directions
    is for the audit to say.

    Args:
        encode_text: texts → embeddings ``(n, d)``; normalised here.
        attribute: gives word pairs (tuples for more than two groups) and templates.
        k: number of directions.
        strength: 0, the identity, to 1, the full projection.

    Raises:
        ValueError: the tuples span fewer than ``k`` directions, ``encode_text`` returns another shape, or
            ``strength`` is not from 0 to 1.
    """
    directions = span(_centred(encode_text, attribute).flatten(0, 1))
    if not 1 <= k <= directions.shape[1]:
        raise ValueError(f"k is {k}, expected 1 to {directions.shape[1]}, what the word pairs span")
    top = directions[:, :k]
    return Eraser(
        torch.zeros(len(top)),
        top,
        top,
        method="text_pca",
        changes_images=True,
        details={"attribute": attribute.describe(), "k": k},
    ).at_strength(strength)


def text_direction(encode_text: EncodeText, attribute: ProtectedAttribute) -> Tensor:
    """First direction ``(d,)`` of ``text_pca``: unit norm, float64, from the first group to the second.

    Raises:
        ValueError: the words of each pair have the same embedding, or ``encode_text`` returns another shape.
    """
    centred = _centred(encode_text, attribute)
    directions = span(centred.flatten(0, 1))
    if not directions.shape[1]:
        raise ValueError(f"word pairs of {attribute.name!r} give no direction: their embeddings are equal")
    first = directions[:, 0]
    towards_second = (centred[:, 1] - centred[:, 0]).mean(0) @ first
    return first if towards_second >= 0 else -first


def unit_embeddings(encode_text: EncodeText, prompts: Sequence[str]) -> Tensor:
    """Embeddings ``(n, d)`` of unit norm, float64 on the CPU.

    Raises:
        ValueError: ``encode_text`` returns another shape.
    """
    embeddings = encode_text(prompts).detach().cpu().double()
    if embeddings.ndim != 2 or len(embeddings) != len(prompts):
        raise ValueError(
            f"encode_text gave shape {tuple(embeddings.shape)}, expected (n, d) for {len(prompts)} texts"
        )
    return torch.nn.functional.normalize(embeddings, dim=1)


def span(rows: Tensor) -> Tensor:
    """Orthonormal directions ``(d, r)`` of rows ``(n, d)`` on the scale of unit vectors; r is their rank."""
    _, lengths, directions = torch.linalg.svd(rows, full_matrices=False)
    # Encoders give float32, whose rounding of a unit vector is about 1e-7.
    return directions[lengths > 1e-6 * len(rows) ** 0.5].mT


def _centred(encode_text: EncodeText, attribute: ProtectedAttribute) -> Tensor:
    """Unit embeddings ``(pairs · templates, groups, d)`` minus their tuple's mean."""
    prompts = [
        template.replace("{}", word)
        for pair in attribute.word_pairs
        for template in attribute.templates
        for word in pair
    ]
    tuples = unit_embeddings(encode_text, prompts).unflatten(0, (-1, len(attribute.groups)))
    return tuples - tuples.mean(1, keepdim=True)
