from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from debias import ProtectedAttribute
from debias.label_noise import label_noise


def test_counts_disagreement_and_what_captions_miss(gender: ProtectedAttribute) -> None:
    captions = [["a man"], ["a man"], ["a woman"], ["a boy"], ["a dog"], ["a man", "a woman"], ["a man"]]
    labels = ["Male", "woman", "female", "man", "man", "woman", None]
    noise = label_noise(gender, captions, labels)
    assert (noise.compared, noise.unnamed, noise.disagreement) == (4, 2, 0.25)
    assert noise.confusion == {"man": {"man": 2, "none": 1}, "woman": {"man": 1, "mixed": 1, "woman": 1}}
    exact = binomtest(1, 4).proportion_ci(0.95, method="exact")
    assert (noise.low, noise.high) == pytest.approx((exact.low, exact.high))
    assert "25.0%" in str(noise)


def test_near_copies_count_once(gender: ProtectedAttribute) -> None:
    """Six copies of every picture leave the interval as wide as it was."""
    captions, labels = [["a man"]] * 20, ["man"] * 17 + ["woman"] * 3
    once = label_noise(gender, captions, labels, clusters=range(20))
    copied = label_noise(gender, captions * 6, labels * 6, clusters=[*range(20)] * 6)
    independent = label_noise(gender, captions * 6, labels * 6)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    assert independent.high - independent.low < 0.6 * (once.high - once.low)


def test_the_interval_covers(gender: ProtectedAttribute) -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        wrong = rng.random(60) < 0.25
        noise = label_noise(gender, [["a man"]] * 60, ["woman" if w else "man" for w in wrong])
        covered += noise.low <= 0.25 <= noise.high
    assert covered / 200 >= 0.93


def test_intersections_are_compared_by_joint_label() -> None:
    both = ProtectedAttribute.load("gender*skin_tone")
    noise = label_noise(both, [["a dark-skinned man"], ["a pale-skinned man"]], ["man & dark", "man & dark"])
    assert noise.disagreement == 0.5


def test_what_cannot_be_compared_is_refused(gender: ProtectedAttribute) -> None:
    with pytest.raises(
        ValueError, match="no image has both a label and captions that name one of man, woman"
    ):
        label_noise(gender, [["a dog"], ["a man"]], ["man", None])
    with pytest.raises(ValueError, match="captions of 1 images, 2 labels and 1 clusters"):
        label_noise(gender, [["a man"]], ["man", "man"])
