"""What is minimised: a model, a loss and its negatives as one module, so that DDP can wrap it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from clip_lite.data.batches import Batch
from clip_lite.losses import ContrastiveLoss
from clip_lite.model import DualEncoder
from clip_lite.negatives import Negatives, Picked, View, take
from clip_lite.precision import autocast


class Projected(NamedTuple):
    """Unit-norm embeddings of pictures and captions ``(n, d)``, the text tower's features ``(n, f)``, and
    embeddings that negatives are taken from: the captions' own, or ``(k, d)`` of the whole corpus.
    """

    image: Tensor
    text: Tensor
    features: Tensor
    pool: Tensor


class ExtraTerm(Protocol):
    """A term beside the contrastive loss; the debias package has some."""

    def __call__(self, image: Tensor, group: Tensor, /) -> dict[str, Tensor]:
        """Scalars by name, weighted; added to the loss.

        Args:
            image: unit-norm embeddings ``(n, d)``.
            group: number of each picture's group ``(n,)`` int64 on the same device; negative where its
                captions name none or several.
        """
        ...


class Objective(nn.Module):
    """Terms of the loss for a batch; their sum is minimised.

    A loss that is a module brings its own weights (SigLIP's bias); they are trained with the heads.

    Args:
        matched: take negatives from the picture's own group, which batches must then number.
        extra_terms: further terms of the pictures' embeddings and group numbers.
    """

    def __init__(
        self,
        model: DualEncoder,
        loss: ContrastiveLoss,
        negatives: Negatives,
        *,
        precision: str,
        matched: bool = False,
        extra_terms: Sequence[ExtraTerm] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.negatives = negatives
        self.precision = precision
        self.matched = matched
        self.extra_terms = extra_terms

    @property
    def uses_batch(self) -> bool:
        """Whether the loss contrasts with every other pair of the batch."""
        return getattr(self.loss, "uses_batch", False)

    def forward(self, batch: Batch, cotangents: Sequence[Tensor] = ()) -> dict[str, Tensor]:
        """Terms of the loss; with ``cotangents`` of ``whole_batch`` the one that carries them back."""
        projected = self.project(batch)
        if not cotangents:
            return self.terms(projected, batch)
        carried = total(
            {str(i): (out * g).sum() for i, (out, g) in enumerate(zip(projected, cotangents, strict=False))}
        )
        # gradients of these are there already; DDP has to see them used
        touched = torch.stack([parameter.sum() for parameter in self.outside_towers()]).sum()
        return {"carried": carried + 0.0 * touched}

    def project(self, batch: Batch) -> Projected:
        """Run towers and heads; captions of the whole corpus go through the head with the batch's own."""
        with autocast(batch.images.device, self.precision):
            image = self.model.encode_image(batch.images).embedding
            features = batch.text if isinstance(batch.text, Tensor) else self.model.text_tower(batch.text)
            together = features if batch.extra is None else torch.cat([features, batch.extra])
            embedded = self.model.project_text(together)
        text = embedded[: len(features)]
        return Projected(image, text, features, text if batch.extra is None else embedded[len(features) :])

    def terms(self, projected: Projected, batch: Batch) -> dict[str, Tensor]:
        """The loss of projected pairs and what comes beside it."""
        terms = self.contrast(projected, batch)
        for term in self.extra_terms:
            if batch.group is None:
                raise ValueError("a term of groups needs batches that number them")
            terms |= term(projected.image, batch.group.to(projected.image.device))
        return terms

    def contrast(self, projected: Projected, batch: Batch) -> dict[str, Tensor]:
        """The contrastive loss."""
        scale = self.model.logit_scale.exp()
        if self.uses_batch:
            return self.loss(projected.image, projected.text, None, scale)
        view = View(
            image=projected.image.detach(),
            text=projected.text.detach(),
            features=projected.features.detach(),
            caption=batch.caption,
            own=batch.own,
            pool_caption=batch.caption if batch.extra_caption is None else batch.extra_caption,
        )
        if self.matched:
            pool_group = batch.group if batch.extra_caption is None else batch.extra_group
            view = view._replace(group=batch.group, pool_group=pool_group)
        picked = Picked(projected.pool, self.negatives(view))
        negatives = picked if getattr(self.loss, "takes_picked", False) else take(*picked)
        return self.loss(projected.image, projected.text, negatives, scale)

    def outside_towers(self) -> Iterator[nn.Parameter]:
        """The logit scale and the loss's own weights."""
        yield self.model.logit_scale
        if isinstance(self.loss, nn.Module):
            yield from self.loss.parameters()


def whole_batch(
    objective: Objective, parts: Sequence[Batch], seeds: Sequence[int], scaled: Callable[[Tensor], Tensor]
) -> tuple[dict[str, Tensor], list[tuple[Tensor, Tensor]]]:
    """Loss of a batch whose parts do not fit through the towers together (GradCache, Gao et al. 2021).

    Projects the parts without keeping anything, takes the loss over all of them, and returns its terms and,
    for each part, its gradients with respect to the embeddings of pictures and captions. Gradients of logit
    scale and of the loss's own weights are left on them. Random layers repeat themselves in the second run
    of the towers when it begins from the same ``seeds``; batch norm counts the first run only.

    Args:
        scaled: what the loss is multiplied with before its gradient is taken (float16's loss scaling).
    """
    images, texts = [], []
    with torch.no_grad():
        for part, seed in zip(parts, seeds, strict=True):
            torch.manual_seed(seed)
            projected = objective.project(part)
            images.append(projected.image)
            texts.append(projected.text)
    image, text = (torch.cat(own).requires_grad_() for own in (images, texts))
    groups = [part.group for part in parts if part.group is not None]
    whole = replace(parts[0], group=torch.cat(groups) if groups else None)
    terms = objective.terms(Projected(image, text, text, text), whole)
    scaled(total(terms)).backward()
    size = len(parts[0])
    cotangents = zip(_gradient(image).split(size), _gradient(text).split(size), strict=True)
    return {name: term.detach() for name, term in terms.items()}, list(cotangents)


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum that is minimised."""
    return torch.stack(list(terms.values())).sum()


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


@contextmanager
def unmoved_batch_norm(module: nn.Module) -> Iterator[None]:
    """Inside, batch norm normalises by the batch as ever but leaves its running statistics alone."""
    layers = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
