from __future__ import annotations

from math import comb

import numpy as np
import pytest

from evaluation.inference import Inference
from evaluation.results import Estimate
from evaluation.setting import Setting
from evaluation.utility.retrieval import recall_at, recall_change, retrieval
from evaluation.utility.retrieval_ranks import retrieval_ranks

QUICK = Inference(resamples=300, permutations=1000)


def _rows(estimates: list[Estimate]) -> dict[str, Estimate]:
    return {row.name.removeprefix("retrieval/"): row for row in estimates}


def _at(clusters: np.ndarray, inference: Inference = QUICK) -> Setting:
    return Setting(clusters=clusters, split="test", system="model", inference=inference)


def _audit(
    image: np.ndarray,
    text: np.ndarray,
    relevant: list[np.ndarray],
    clusters: np.ndarray | None = None,
    inference: Inference = QUICK,
) -> dict[str, Estimate]:
    clusters = np.arange(len(image)) if clusters is None else clusters
    return _rows(retrieval(retrieval_ranks(image, text, relevant), at=_at(clusters, inference)))


def _captions(images: int, each: int) -> list[np.ndarray]:
    return list(np.arange(images * each).reshape(images, each))


def test_hand_worked_table() -> None:
    degrees = np.radians([0, 50, 100])
    image = np.column_stack([np.cos(degrees), np.sin(degrees)]) * [[1], [3], [0.5]]
    degrees = np.radians([40, 10, 55, 80, 170])
    text = np.column_stack([np.cos(degrees), np.sin(degrees)])
    relevant = [np.array([0]), np.array([1, 3]), np.array([2, 4])]
    # image 0 (0°): captions in order 10 40 55 80 170, its own at 40 is second
    # image 1 (50°): 55 40 80 10 170, its best at 80 is third
    # image 2 (100°): 80 55 40 170 10, its best at 55 is second
    # captions 40 10 55 80 170 find their image (0 50 100 50 100) at ranks 2 2 2 2 1
    assert recall_at(image, text, relevant, ks=(1, 2, 3)) == pytest.approx(
        {
            "i2t_recall_1": 0.0,
            "i2t_recall_2": 2 / 3,
            "i2t_recall_3": 1.0,
            "t2i_recall_1": 1 / 5,
            "t2i_recall_2": 1.0,
            "t2i_recall_3": 1.0,
        }
    )


@pytest.mark.parametrize("block_cells", [1, 700, 2**22])
def test_agrees_with_brute_force_argsort(block_cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.utility.retrieval_ranks.BLOCK_CELLS", block_cells)
    rng = np.random.default_rng(0)
    image, text = rng.standard_normal((40, 6)), rng.standard_normal((90, 6))
    linked = rng.random((40, 90)) < 0.03
    linked[rng.integers(40, size=90), np.arange(90)] = True
    linked[np.arange(40), rng.integers(90, size=40)] = True
    relevant = [np.flatnonzero(row) for row in linked]
    scores = image @ text.T / np.outer(np.linalg.norm(image, axis=1), np.linalg.norm(text, axis=1))
    recalls = recall_at(image, text, relevant)
    rows = _audit(image, text, relevant)
    for direction, score, truth in (("i2t", scores, linked), ("t2i", scores.T, linked.T)):
        order = np.argsort(-score, axis=1)
        for k in (1, 5, 10):
            hit = np.take_along_axis(truth, order[:, :k], axis=1).any(axis=1).mean()
            assert recalls[f"{direction}_recall_{k}"] == pytest.approx(hit)
            row = rows[f"{direction}_recall_{k}"]
            assert row.value == pytest.approx(hit)
            assert row.n == len(score)
            assert row.low <= row.value <= row.high


def test_an_embedding_in_one_place_gets_no_credit() -> None:
    rng = np.random.default_rng(0)
    image, text = rng.standard_normal((60, 16)), rng.standard_normal((180, 16))
    relevant = _captions(60, 3)
    one_image, one_text = image[:1].repeat(60, 0), text[:1].repeat(180, 0)
    for images, texts in ((one_image, text), (image, one_text), (0 * image, text)):
        rows = _audit(images, texts, relevant)
        for name, row in rows.items():
            assert row.value <= row.null_high if row.higher_is_better else row.value >= row.null_low, name
    same = _audit(one_image.astype(np.float32), one_text, relevant)
    last = {"i2t_median_rank": 180 - 3 + 1, "t2i_median_rank": 60}
    assert {name: row.value for name, row in same.items()} == {name: last.get(name, 0) for name in same}
    assert recall_at(text[::3], text, relevant)["i2t_recall_1"] == 1.0


def test_chance_is_exact_and_random_embeddings_reach_it() -> None:
    relevant = [*_captions(20, 3), *(60 + index for index in _captions(20, 1))]
    reached = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        image, text = rng.standard_normal((40, 64)), rng.standard_normal((80, 64))
        ways = retrieval_ranks(image, text, relevant).directions
        medians = {f"{way.name}_median_rank": float(np.median(way.rank)) for way in ways}
        reached.append(recall_at(image, text, relevant) | medians)
    rng = np.random.default_rng(0)
    rows = _audit(rng.standard_normal((40, 64)), rng.standard_normal((80, 64)), relevant)
    for k in (1, 5, 10):
        by_hand = np.mean([1 - comb(80 - size, k) / comb(80, k) for size in (3, 1)])
        assert rows[f"i2t_recall_{k}"].null == pytest.approx(by_hand)
        assert rows[f"t2i_recall_{k}"].null == pytest.approx(k / 40)
    for name, row in rows.items():
        simulated = np.array([each[name] for each in reached])
        assert simulated.mean() == pytest.approx(row.null, abs=4 * simulated.std() / 10)
        # caption queries of one image share a cluster, so their band may be wider than independent hits
        assert np.mean((simulated >= row.null_low) & (simulated <= row.null_high)) >= 0.9


def test_p_sees_a_match_and_its_null_band_widens_with_clusters() -> None:
    rng = np.random.default_rng(0)
    text = rng.standard_normal((120, 16))
    image, relevant = text + 0.8 * rng.standard_normal((120, 16)), _captions(120, 1)
    single = _audit(image, text, relevant)["i2t_recall_5"]
    grouped = _audit(image, text, relevant, clusters=np.arange(120) // 6)["i2t_recall_5"]
    assert grouped.null_high - grouped.null_low > 1.5 * (single.null_high - single.null_low)
    assert (single.n_clusters, grouped.n_clusters) == (120, 20)
    assert single.p_value == grouped.p_value == 1 / 1001


def test_near_duplicates_do_not_fake_significance_when_they_are_one_cluster() -> None:
    stem, relevant = np.arange(120) // 6, _captions(120, 1)
    clustered, naive, inference = [], [], Inference(resamples=20, permutations=199)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        image, text = (
            rng.standard_normal((20, 16))[stem] + 0.1 * rng.standard_normal((120, 16)) for _ in range(2)
        )
        clustered.append(_audit(image, text, relevant, stem, inference)["i2t_recall_5"].p_value)
        naive.append(_audit(image, text, relevant, None, inference)["i2t_recall_5"].p_value)
    assert np.mean(np.array(clustered) <= 0.05) <= 0.05
    assert np.mean(np.array(naive) <= 0.05) > 0.1


def test_a_caption_belongs_to_the_cluster_of_its_first_image() -> None:
    rng = np.random.default_rng(0)
    image, text = rng.standard_normal((4, 3)), rng.standard_normal((3, 3))
    relevant = [np.array([0]), np.array([0, 1]), np.array([2]), np.array([2])]
    rows = _audit(image, text, relevant, clusters=np.array(["a", "b", "b", "c"]))
    assert rows["i2t_recall_1"].n_clusters == 3
    assert rows["t2i_recall_1"].n_clusters == 2


def _naive_recall(score: np.ndarray, truth: np.ndarray, k: int) -> float:
    """Any-hit recall as CLIP_benchmark defines it: the k highest of a full matrix."""
    top = np.argsort(-score, axis=1)[:, :k]
    retrieved = np.zeros_like(truth)
    np.put_along_axis(retrieved, top, True, axis=1)
    return float(np.mean((retrieved & truth).sum(axis=1) / truth.sum(axis=1) > 0))


@pytest.mark.parametrize("noise", [1.0, 1000.0])
def test_five_captions_an_image_agree_with_the_definition_over_a_full_matrix(noise: float) -> None:
    rng = np.random.default_rng(0)
    image = rng.standard_normal((150, 24))
    text = (image[:, None] + noise * rng.standard_normal((150, 5, 24))).reshape(750, 24)
    rows = _audit(image, text, _captions(150, 5))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text)]
    score = unit[0] @ unit[1].T
    truth = np.repeat(np.eye(150, dtype=bool), 5, axis=1)
    for way, scores, true in (("i2t", score, truth), ("t2i", score.T, truth.T)):
        for k in (1, 5, 10):
            assert rows[f"{way}_recall_{k}"].value == pytest.approx(_naive_recall(scores, true, k))
            assert (rows[f"{way}_recall_{k}"].p_value == 1 / 1001) == (noise == 1.0)
        order = np.argsort(-scores, axis=1)
        first = 1 + np.take_along_axis(true, order, axis=1).argmax(axis=1)
        assert rows[f"{way}_median_rank"].value == np.median(first)


def test_a_caption_of_several_images_is_found_by_each_and_finds_any() -> None:
    image = np.eye(3)
    text = np.array([[3.0, 2, 1], [1, 2, 3]])
    ranks = retrieval_ranks(image, text, [np.array([0]), np.array([0, 1]), np.array([0, 1])])
    # image 0 prefers caption 0, images 1 and 2 have no caption that is not theirs
    assert ranks.i2t.rank.tolist() == [1, 1, 1]
    # caption 0 has all three images; caption 1 has images 1 and 2, and prefers image 2
    assert ranks.t2i.rank.tolist() == [1, 1]
    assert ranks.i2t.relevant.tolist() == [1, 2, 2]
    assert ranks.t2i.relevant.tolist() == [3, 2]
    other = retrieval_ranks(image, text, [np.array([1]), np.array([0]), np.array([0])])
    assert other.i2t.rank.tolist() == [2, 2, 2]
    assert other.t2i.rank.tolist() == [2, 3]


def test_change_is_paired() -> None:
    rng = np.random.default_rng(0)
    text, relevant = rng.standard_normal((200, 16)), _captions(200, 1)
    before = text + 0.9 * rng.standard_normal((200, 16))
    ranks = retrieval_ranks(before, text, relevant)

    def change(after: np.ndarray) -> Estimate:
        changed = recall_change(ranks, retrieval_ranks(after, text, relevant), at=_at(np.arange(200)))
        rows = _rows(changed)
        assert list(rows) == [f"{way}_recall_{k}_change" for way in ("i2t", "t2i") for k in (1, 5, 10)]
        return rows["i2t_recall_1_change"]

    worse = change(before + 0.8 * rng.standard_normal((200, 16)))
    assert worse.low <= worse.value <= worse.high < 0
    assert worse.p_value < 0.01
    same = change(3.0 * before)
    assert (same.value, same.low, same.high, same.null, same.p_value) == (0.0, 0.0, 0.0, 0.0, 1.0)
    slight = change(before + 0.1 * rng.standard_normal((200, 16)))
    plain = _audit(before, text, relevant)["i2t_recall_1"]
    assert slight.high - slight.low < 0.5 * (plain.high - plain.low)


@pytest.mark.parametrize(
    ("relevant", "message"),
    [
        ([[0], [1]], "text 2 has nothing"),
        ([[0, 1, 2], []], "image 1 has nothing"),
        ([[0, 1], [2, 3]], "outside 0..2"),
        ([[0, 1, 2]], "2 images but captions for 1"),
    ],
)
def test_refuses_broken_links(relevant: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recall_at(np.eye(2), np.eye(2)[[0, 1, 1]], [np.array(each) for each in relevant])


def test_refuses_embeddings_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="not finite"):
        recall_at(np.full((2, 2), np.nan), np.eye(2), _captions(2, 1))


def test_refuses_clusters_of_other_images() -> None:
    with pytest.raises(ValueError, match="2 images but 3 cluster names"):
        _audit(np.eye(2), np.eye(2), _captions(2, 1), clusters=np.arange(3))
