"""An audit of given embeddings, with and without a leak, and what it says of itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from evaluation.mlflow_plugin.data import Asked
from evaluation.mlflow_plugin.embeddings import Given
from evaluation.mlflow_plugin.leakage_audit import leakage_audit
from evaluation.results import AuditResult

N, DIM = 240, 6


def audited(effect: float, *, seed: int = 0, split: Any = None) -> AuditResult:
    """Two rows a cluster; dimension 0 tells the group by ``effect`` standard deviations."""
    rng = np.random.default_rng(seed)
    woman = np.repeat(rng.permutation(N // 2) % 2, 2)
    x = rng.normal(size=(N, DIM))
    x[:, 0] += effect * woman
    labels = np.where(woman, "woman", "man")
    clusters = np.repeat(np.arange(N // 2), 2)
    given = Given.of(x, labels, clusters=clusters, split=split, seed=seed)
    asked = Asked(
        attribute="gender", attackers=["logistic", "knn"], resamples=100, permutations=200, seed=seed
    )
    return leakage_audit(given, asked, data={"name": "planted", "digest": "d1"}, mlflow={})


def test_a_planted_leak_is_found_and_nothing_where_nothing_is() -> None:
    name = "leakage/gender/embedding/max"
    found = {
        effect: [audited(effect, seed=seed).find(name, system="eraser off") for seed in range(12)]
        for effect in (0.0, 2.0)
    }
    assert all(row.p_value is not None and row.p_value < 0.01 for row in found[2.0])
    # binomial(12, .05) exceeds 3 in 2 of 1,000
    assert sum(row.p_value is not None and row.p_value < 0.05 for row in found[0.0]) <= 3


def test_the_audit_says_where_it_comes_from() -> None:
    split = np.repeat(["train", "test", "elsewhere", "val"], N // 4)
    result = audited(1.0, split=split)
    assert {row.split for row in result.rows} == {"test", "elsewhere"}
    assert result.data["digest"] == "d1"
    assert result.data["splits"] == {
        name: {"pictures": N // 4, "stems": N // 8} for name in ("train", "elsewhere", "test")
    }
    assert result.attribute["groups"] == ["man", "woman"]
    assert result.model["embedding_dim"] == DIM
    assert result.provenance["attackers"] == ["logistic", "knn"]
    assert "'attribute': 'gender'" in result.provenance["command"]
    assert all(row.p_adjusted is not None for row in result.rows)
    assert AuditResult.from_json(result.to_json()).rows == result.rows
