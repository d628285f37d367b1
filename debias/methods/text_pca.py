"""Text PCA: project out the directions along which word pairs differ (the CLIP-Lite paper's edit)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from debias.attributes import ProtectedAttribute
from debias.eraser import Eraser

EncodeText = Callable[[Sequence[str]], Tensor]


def text_pca(encode_text: EncodeText, attribute: ProtectedAttribute, *, k: int = 1) -> Eraser:
    """Linear projection x ↦ x − V Vᵀ x that removes the top ``k`` text directions.

    Bolukbasi et al. 2016 (arXiv 1607.06520), "identify gender subspace": every word of every pair in every
    template is encoded, each tuple is centred, and V is the first ``k`` principal directions of what is left.
    Text alone fits it; whether image vectors carry the attribute along the same directions is for the audit
    to say.

    Args:
        encode_text: texts → embeddings ``(n, d)``; normalised here.
        attribute: gives word pairs and templates.
        k: number of directions.

    Raises:
        ValueError: the tuples span fewer than ``k`` directions, or ``encode_text`` returns another shape.
    """
    directions = _principal_directions(_centred(encode_text, attribute))
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
    )


def text_direction(encode_text: EncodeText, attribute: ProtectedAttribute) -> Tensor:
    """First direction ``(d,)`` of ``text_pca``: unit norm, float64, from the first group to the second.

    Raises:
        ValueError: the words of each pair have the same embedding, or ``encode_text`` returns another shape.
    """
    centred = _centred(encode_text, attribute)
    directions = _principal_directions(centred)
    if not directions.shape[1]:
        raise ValueError(f"word pairs of {attribute.name!r} give no direction: their embeddings are equal")
    first = directions[:, 0]
    towards_second = (centred[:, 1] - centred[:, 0]).mean(0) @ first
    return first if towards_second >= 0 else -first


def _centred(encode_text: EncodeText, attribute: ProtectedAttribute) -> Tensor:
    """Unit embeddings ``(pairs · templates, groups, d)`` minus their tuple's mean, float64 on the CPU."""
    prompts = [
        template.replace("{}", word)
        for pair in attribute.word_pairs
        for template in attribute.templates
        for word in pair
    ]
    embeddings = encode_text(prompts).detach().cpu().double()
    if embeddings.ndim != 2 or len(embeddings) != len(prompts):
        raise ValueError(
            f"encode_text gave shape {tuple(embeddings.shape)}, expected (n, d) for {len(prompts)} texts"
        )
    tuples = torch.nn.functional.normalize(embeddings, dim=1).unflatten(0, (-1, len(attribute.groups)))
    return tuples - tuples.mean(1, keepdim=True)


def _principal_directions(centred: Tensor) -> Tensor:
    """Orthonormal directions ``(d, r)`` of the tuples, most variance first; r is their numerical rank."""
    _, lengths, directions = torch.linalg.svd(centred.flatten(0, 1), full_matrices=False)
    # The embeddings have unit norm, so lengths are on a known scale and float32 rounding is about 1e-7.
    return directions[lengths > 1e-6 * len(centred) ** 0.5].mT
