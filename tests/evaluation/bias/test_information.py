from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from evaluation.bias.attackers import ATTACKERS, Scorer
from evaluation.bias.information import FAMILIES, usable_information
from evaluation.bias.leakage import Sample
from evaluation.inference import Inference
from evaluation.results import Estimate
from evaluation.setting import Setting

QUICK = Inference(resamples=200, permutations=199)
GROUPS = np.array(["man", "woman"])
LINEAR = {"logistic": ATTACKERS["logistic"]}


def _sample(kind: str, seed: int, size: int = 1200, share: float = 0.5, width: int = 6) -> Sample:
    rng = np.random.default_rng(seed)
    codes = (rng.random(size) < share).astype(int)
    x, sign = rng.standard_normal((size, width)), rng.choice([-1, 1], size=size)
    if kind == "linear":
        x[:, 0] += 2 * codes
    if kind == "xor":
        x[:, 0] += 4 * sign
        x[:, 1] += 4 * sign * (2 * codes - 1)
    return Sample(x, GROUPS[codes], np.arange(size) // 2)


def _at(test: Sample, inference: Inference = QUICK) -> Setting:
    return Setting(clusters=test.clusters, split="test", system="eraser off", inference=inference)


def _bits(kind: str, seed: int = 0, families: object = FAMILIES, **fields: float) -> dict[str, Estimate]:
    train, test = (_sample(kind, 2 * seed + own, **fields) for own in (1, 2))
    rows = usable_information(train, (test, _at(test)), name="gender/embedding", families=families)
    return {row.name.removeprefix("leakage_bits/gender/embedding/"): row for row in rows}


def _true_bits(distance: float, share: float = 0.5) -> float:
    """Mutual information of two groups with unit normals ``distance`` apart, the upper one of this share."""

    def gained(x: float) -> float:
        lower, upper = norm.pdf(x), norm.pdf(x, distance)
        both = (1 - share) * lower + share * upper
        return (1 - share) * lower * np.log2(lower / both) + share * upper * np.log2(upper / both)

    return quad(gained, -8, 8 + distance)[0]


def test_a_linear_leak_gives_the_bits_of_the_planted_distributions_and_noise_none() -> None:
    found, nothing = _bits("linear", size=2000), _bits("none", size=2000)
    for family in FAMILIES:
        row, control = found[family], nothing[family]
        assert row.value == pytest.approx(_true_bits(2.0), abs=0.07)
        assert row.low <= row.value <= row.high
        assert row.low > 0.3
        assert (row.p_value, row.unit, row.higher_is_better) == (1 / 200, "bits", False)
        assert row.null < row.null_high < 0
        assert control.value == pytest.approx(0.0, abs=0.02)
        assert control.p_value > 0.02
    assert sum(found["mlp"].n_by_group.values()) == found["mlp"].n == 2000


def test_xor_gives_the_linear_family_nothing_and_the_other_nearly_a_bit() -> None:
    rows = _bits("xor")
    assert rows["logistic"].value == pytest.approx(0.0, abs=0.03)
    assert rows["logistic"].p_value > 0.02
    assert rows["mlp"].value > 0.8


def test_a_rare_group_holds_few_bits_and_noise_about_it_none() -> None:
    rare, none = (_bits(kind, share=0.1, size=4000, families=LINEAR) for kind in ("linear", "none"))
    assert rare["logistic"].value == pytest.approx(_true_bits(2.0, 0.1), abs=0.05)
    assert rare["logistic"].low > 0.1
    assert abs(none["logistic"].value) < 0.01


def test_overconfidence_is_calibrated_on_training_clusters_alone() -> None:
    def loud(x: np.ndarray, codes: np.ndarray, seed: int) -> Scorer:
        scores = ATTACKERS["logistic"](x, codes, seed)

        def cubed(x: np.ndarray) -> np.ndarray:
            powered = scores(x) ** 6
            return powered / powered.sum(axis=1, keepdims=True)

        return cubed

    for kind in ("linear", "none"):
        rows = _bits(kind, families={"calm": ATTACKERS["logistic"], "loud": loud})
        assert rows["loud"].value == pytest.approx(rows["calm"].value, abs=0.01)


def test_in_many_dimensions_noise_is_not_taken_for_information() -> None:
    rows = [_bits("none", seed, LINEAR, size=300, width=100)["logistic"] for seed in range(10)]
    assert np.mean([row.value for row in rows]) == pytest.approx(0.0, abs=0.03)
    assert np.mean([row.p_value for row in rows]) == pytest.approx(0.5, abs=0.3)
    found = _bits("linear", 0, LINEAR, size=300, width=100)["logistic"]
    assert found.p_value == 1 / 200
    assert found.low > 0


def test_names_of_groups_and_a_repeat_change_nothing_and_another_seed_holds_other_clusters_back() -> None:
    train, test = _sample("linear", 1, 400), _sample("linear", 2, 400)

    def value(train: Sample, test: Sample, seed: int = 0) -> float:
        at = _at(test, replace(QUICK, seed=seed))
        return usable_information(train, (test, at), name="g", families=LINEAR)[0].value

    first = value(train, test)
    names = {"man": "z", "woman": "a"}
    renamed = [replace(each, labels=np.array([names[g] for g in each.labels])) for each in (train, test)]
    assert value(train, test) == first
    assert value(*renamed) == pytest.approx(first, abs=0.01)
    assert value(train, test, seed=1) != first
    assert value(train, test, seed=1) == pytest.approx(first, abs=0.15)


def test_refuses_unknown_groups_other_clusters_and_groups_in_one_cluster() -> None:
    train, test = _sample("linear", 1, 60), _sample("linear", 2, 60)
    with pytest.raises(ValueError, match="person"):
        usable_information(
            train,
            (replace(test, labels=np.where(test.labels == "man", "person", "woman")), _at(test)),
            name="g",
        )
    with pytest.raises(ValueError, match="other clusters"):
        usable_information(train, (test, _at(_sample("linear", 2, 40))), name="g")
    rare = replace(train, labels=np.where(np.arange(60) < 2, "woman", "man"))
    with pytest.raises(ValueError, match="too few training clusters"):
        usable_information(rare, (test, _at(test)), name="g", families=LINEAR)
