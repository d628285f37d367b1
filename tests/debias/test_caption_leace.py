from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from debias import CaptionLeaceFitter, LeaceFitter, ProtectedAttribute, expected_residual, random_direction

Planted = Callable[..., tuple[Tensor, Tensor]]
Probe = Callable[..., float]
D = 12
SAY = {
    0: ["a teacher", "a man at a desk"],
    1: ["a Woman teaching"],
    2: ["her and him"],
    3: ["a human", "a dog"],
}


@pytest.fixture
def captioned(planted: Planted) -> tuple[Tensor, Tensor, list[list[str]]]:
    """Men, women, pictures of both, pictures of neither: only the first two are labelled (index 0 and 1)."""
    x, z = planted((0.4, 0.3, 0.2, 0.1))
    return x, z, [SAY[int(group)] for group in z]


def test_captions_alone_remove_what_a_linear_probe_reads(
    gender: ProtectedAttribute,
    captioned: tuple[Tensor, Tensor, list[list[str]]],
    least_squares: Probe,
    logistic: Probe,
) -> None:
    """Cov(r(x), z) = 0 over the pictures whose captions name one group."""
    x, z, captions = captioned
    eraser = CaptionLeaceFitter(gender, D).update(x, captions).eraser
    control = random_direction(D, rank=eraser.rank, mean=eraser.mean, seed=0)
    rows, groups = x[z < 2], z[z < 2]
    for edited in (rows, control(rows)):
        assert least_squares(edited, groups) > 0.05
        assert logistic(edited, groups) > 0.8
    assert least_squares(eraser(rows), groups) < 1e-6
    assert logistic(eraser(rows), groups) == pytest.approx(0.5, abs=0.01)


def test_it_is_leace_on_the_labelled_rows_and_says_so(
    gender: ProtectedAttribute, captioned: tuple[Tensor, Tensor, list[list[str]]]
) -> None:
    x, z, captions = captioned
    fitter = CaptionLeaceFitter(gender, D).update(x, captions)
    labelled = LeaceFitter(D, 2).update(x[z < 2], z[z < 2])
    assert torch.equal(fitter.eraser(x), labelled.eraser(x))
    assert fitter.eraser.spec() == {
        "kind": "affine",
        "method": "caption_leace",
        "dim": D,
        "rank": 1,
        "changes_images": True,
        "details": {
            "attribute": gender.describe(),
            "labelled": {"man": 240, "woman": 180},
            "dropped": {"mixed": 120, "none": 60},
            "expected_residual_if_rows_independent": expected_residual(labelled.moments),
            "strength": 1.0,
        },
    }


def test_streaming_equals_batch_equals_merged(
    gender: ProtectedAttribute, captioned: tuple[Tensor, Tensor, list[list[str]]]
) -> None:
    x, _, captions = captioned
    batch = CaptionLeaceFitter(gender, D).update(x, captions).eraser
    streamed, shards = CaptionLeaceFitter(gender, D), [CaptionLeaceFitter(gender, D) for _ in range(2)]
    for start in range(0, len(x), 77):
        part = slice(start, start + 77)
        streamed.update(x[part], captions[part])
        shards[start % 2].update(x[part].numpy(), captions[part])
    for eraser in (streamed.eraser, shards[0].merge(shards[1]).eraser):
        torch.testing.assert_close(eraser(x), batch(x), rtol=0, atol=1e-10)
        assert eraser.details["dropped"] == batch.details["dropped"]
        assert eraser.details["labelled"] == batch.details["labelled"]


def test_three_groups_from_an_own_file(hair: Path, planted: Planted, least_squares: Probe) -> None:
    x, z = planted((0.5, 0.3, 0.2))
    words = ["blonde", "dark haired", "redhead"]
    captions = [[f"somebody {words[int(group)]}"] for group in z]
    eraser = CaptionLeaceFitter(ProtectedAttribute.load(hair), D).update(x, captions).eraser
    assert eraser.rank == 2
    assert eraser.details["expected_residual_if_rows_independent"] is None
    assert least_squares(x, z) > 0.05 > 1e-6 > least_squares(eraser(x), z)


def test_strength_leaves_the_rest_of_the_gap(
    gender: ProtectedAttribute, captioned: tuple[Tensor, Tensor, list[list[str]]]
) -> None:
    x, z, captions = captioned

    def gap(strength: float) -> Tensor:
        edited = CaptionLeaceFitter(gender, D, strength=strength).update(x, captions).eraser(x)
        return edited[z == 1].mean(0) - edited[z == 0].mean(0)

    assert gap(0).abs().max() > 0.5
    torch.testing.assert_close(gap(0.75), 0.25 * gap(0), rtol=0, atol=1e-9)
    torch.testing.assert_close(gap(1), torch.zeros(D).double(), rtol=0, atol=1e-9)


def test_misfits_are_refused_and_leave_no_trace(gender: ProtectedAttribute) -> None:
    fitter, x = CaptionLeaceFitter(gender, D), torch.zeros(2, D)
    with pytest.raises(ValueError, match="captions of 1 images for 2 rows of x"):
        fitter.update(x, [["a man"]])
    with pytest.raises(TypeError, match="sequence of strings"):
        fitter.update(x, ["a man", "a woman"])
    with pytest.raises(ValueError, match=r"expected \(n, 12\)"):
        fitter.update(x[:, :3], [["a dog"], ["a cat"]])
    with pytest.raises(ValueError, match="cannot merge 'gender' version draft into 'gender' version"):
        fitter.merge(CaptionLeaceFitter(replace(gender, version="draft"), D))
    fitter.update(x, [["a dog"], ["a man"]])
    assert fitter.dropped == {"mixed": 0, "none": 1}
    with pytest.raises(ValueError, match=r"at least two groups, got \[1, 0\] rows per group"):
        _ = fitter.eraser
