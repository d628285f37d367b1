"""How often captions and images disagree on a group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy.stats import beta

from debias.attribute_file import MIXED, NONE
from debias.attributes import ProtectedAttribute


@dataclass(frozen=True, kw_only=True)
class LabelNoise:
    """Disagreement between groups read from captions and labels of the images.

    Attributes:
        compared: images with a group on both sides; ``clusters``: independent ones among them.
        disagreement: share of them on which the two differ; ``low``, ``high``: its 95% interval.
        unnamed: images with a label whose captions name no group or several: what the captions miss.
        confusion: image label → caption label → images.
    """

    compared: int
    clusters: int
    disagreement: float
    low: float
    high: float
    unnamed: int
    confusion: dict[str, dict[str, int]]

    def to_json(self) -> dict[str, Any]:
        """For provenance."""
        return asdict(self)

    def __str__(self) -> str:
        """For the log."""
        return (
            f"captions name another group than the image's label on {self.disagreement:.1%} "
            f"[{self.low:.1%}, {self.high:.1%}] of {self.compared:,} images ({self.clusters:,} independent); "
            f"on {self.unnamed:,} more with a label they name none or several"
        )


def label_noise(
    attribute: ProtectedAttribute,
    captions: Sequence[Sequence[str]],
    image_labels: Sequence[str | None],
    *,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> LabelNoise:
    """Compare what captions say with labels of the same images, whatever subset has them.

    The interval is Clopper and Pearson's for as many images as there are clusters: near-copies, such as one
    emoji in six skin tones, agree or disagree together. It errs on the wide side.

    Args:
        attribute: whose lexicon reads the captions; its ``labels`` translate those of the images.
        captions: of each image.
        image_labels: of each image; None, "none" and "mixed" where there is no single one.
        clusters: names of what is independent; every image by default.
        level: of the interval.

    Raises:
        ValueError: sequences of different lengths, or no image with a group on both sides.
    """
    names = list(range(len(captions))) if clusters is None else list(clusters)
    if not len(captions) == len(image_labels) == len(names):
        raise ValueError(
            f"captions of {len(captions)} images, {len(image_labels)} labels and {len(names)} clusters, "
            "expected equally many"
        )
    confusion: Counter[tuple[str, str]] = Counter()
    compared: set[Hashable] = set()
    for own, label, cluster in zip(captions, image_labels, names, strict=True):
        seen = attribute.group_in({attribute.name: label}) if label is not None else None
        if seen in attribute.groups:
            said = attribute.label(own)
            confusion[str(seen), said] += 1
            if said in attribute.groups:
                compared.add(cluster)
    both = {pair: count for pair, count in confusion.items() if pair[1] in attribute.groups}
    if not both:
        raise ValueError(
            f"no image has both a label and captions that name one of {', '.join(attribute.groups)}"
        )
    total = sum(both.values())
    differing = sum(count for (seen, said), count in both.items() if seen != said) / total
    low, high = _clopper_pearson(differing * len(compared), len(compared), level)
    return LabelNoise(
        compared=total,
        clusters=len(compared),
        disagreement=differing,
        low=low,
        high=high,
        unnamed=sum(confusion[group, word] for group in attribute.groups for word in (MIXED, NONE)),
        confusion={
            group: {said: count for (seen, said), count in sorted(confusion.items()) if seen == group}
            for group in attribute.groups
        },
    )


def _clopper_pearson(hits: float, trials: int, level: float) -> tuple[float, float]:
    """Exact interval of a share; hits may be fractional."""
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high
