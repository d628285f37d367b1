"""Choosers of negatives: what they must never choose, and what they must find."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch.nn.functional as F

from clip_lite.errors import UsageError
from clip_lite.losses import JSDLoss
from clip_lite.negatives import Cached, Hard, Negatives, Picked, Rolled, Shifted, View, load_negatives, take

N, D = 12, 6


def view_of(own: list[list[int]] | None = None, *, n: int = N, pool: list[int] | None = None) -> View:
    """n pictures with captions 0 … n−1; ``own`` lists the captions of each, by default its one."""
    generator = torch.Generator().manual_seed(0)
    image, text = F.normalize(torch.randn(2, n, D, generator=generator), dim=-1)
    features = torch.randn(n, D + 2, generator=generator)
    caption = torch.arange(n)
    keys = own or [[i] for i in range(n)]
    width = max(map(len, keys))
    padded = torch.tensor([row + [-1] * (width - len(row)) for row in keys])
    return View(image, text, features, caption, padded, caption if pool is None else torch.tensor(pool))


def with_false_negatives() -> View:
    """Picture i is also described by captions i−1 (even i) and i−3 (every third i)."""
    own = [[i] for i in range(N)]
    for i in range(0, N, 2):
        own[i].append((i - 1) % N)
    for i in range(0, N, 3):
        own[i].append((i - 3) % N)
    return view_of(own)


def expected_nearest(view: View, k: int) -> list[list[int]]:
    n = len(view.own)
    rows = []
    for i in range(n):
        others = [(i - offset) % n for offset in range(1, n)]
        valid = [j for j in others if int(view.caption[j]) not in view.own[i].tolist()][:k]
        rows.append(valid + [-1] * (k - len(valid)))
    return rows


def test_shifted_is_the_papers_roll() -> None:
    view = view_of()
    index = Shifted()(view)
    assert index.shape == (N, 1)
    assert torch.equal(take(view.text, index), view.text.roll(1, 0).unsqueeze(1))


@pytest.mark.parametrize("k", [1, 2, 5, N - 1, N + 3])
@pytest.mark.parametrize("view", [view_of(), with_false_negatives()], ids=["all valid", "false negatives"])
def test_rolled_takes_the_nearest_valid_texts(view: View, k: int) -> None:
    assert Rolled(k)(view).tolist() == expected_nearest(view, k)


def test_shifted_passes_over_a_false_negative() -> None:
    assert Shifted()(with_false_negatives()).tolist() == expected_nearest(with_false_negatives(), 1)


@pytest.mark.parametrize("window", [1, 3, 64])
def test_runs_of_false_negatives_are_passed_in_windows(monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr("clip_lite.negatives.WINDOW", window)
    own = [[i] for i in range(N)]
    own[5] = [j for j in range(N) if j not in (6, 8)]
    view = view_of(own)
    assert Rolled(3)(view)[5].tolist() == [8, 6, -1]
    assert Rolled(3)(view).tolist() == expected_nearest(view, 3)


@pytest.mark.parametrize("chooser", [Shifted(), Rolled(2), Hard(2), Hard(2, "text"), Cached(N)])
def test_where_everything_is_the_pictures_own_nothing_is_chosen(chooser: Negatives) -> None:
    view = view_of([list(range(N))] * N)
    assert chooser(view).eq(-1).all()


@pytest.mark.parametrize("by", ["score", "text"])
@pytest.mark.parametrize("pool", [4, 64])
def test_hard_takes_the_highest_of_the_nearest_valid(by: Literal["score", "text"], pool: int) -> None:
    view = with_false_negatives()
    features = F.normalize(view.features, dim=-1)
    scores = view.image @ view.text.T if by == "score" else features @ features.T
    chosen = Hard(3, by, pool=pool)(view)
    for i, candidates in enumerate(expected_nearest(view, min(pool, N))):
        valid = [j for j in candidates if j >= 0]
        assert chosen[i].tolist() == sorted(valid, key=lambda j: -float(scores[i, j]))[:3]


@pytest.mark.parametrize("by", ["score", "text"])
def test_hard_finds_the_planted_one_and_not_a_false_one(by: Literal["score", "text"]) -> None:
    """Text 9 is picture 4's double, text 2 nearly so; text 7 is one too, but its own."""
    own = [[i] for i in range(N)]
    own[4].append(7)
    view = view_of(own)
    for place, share in ((9, 0.0), (7, 0.0), (2, 0.1)):
        other = view.image[0] * share
        view.text[place] = F.normalize(view.image[4] + other, dim=-1)
        view.features[place] = view.features[4] + share * view.features[0]
    assert Hard(2, by)(view)[4].tolist() == [9, 2]


def test_hard_never_forms_the_matrix_of_all_pairs() -> None:
    view = view_of(n=300)
    sizes: list[int] = []

    class Sizes(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                sizes.append(result.numel())
            return result

    with Sizes():
        Hard(2, pool=8)(view)
    assert 300 * 8 in sizes
    assert max(sizes) < 300 * 300


def test_cached_takes_the_whole_pool_without_false_ones() -> None:
    index = Cached(4)(view_of([[0, 70], [1, 71], [2, 90]], n=3, pool=[70, 80, 71, 70]))
    assert index.tolist() == [[-1, 1, 2, -1], [0, 1, -1, 3], [0, 1, 2, 3]]


def test_padding_is_nobodys_caption() -> None:
    assert Cached(1)(view_of([[0, 1, 2], [1]], n=2, pool=[5])).tolist() == [[0], [0]]


@pytest.mark.parametrize("chooser", [Shifted(), Rolled(3), Hard(3), Hard(3, "text")])
def test_chosen_texts_are_distinct_and_valid(chooser: Negatives) -> None:
    view = with_false_negatives()
    index = chooser(view)
    assert index.dtype == torch.int64
    assert index.shape == (N, chooser.k)
    for i, row in enumerate(index.tolist()):
        assert len(set(row)) == chooser.k
        assert not set(row) & {-1, *view.own[i].tolist()}


def test_take_has_zero_vectors_and_no_gradient_where_nothing_is_left() -> None:
    pool = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    rows = torch.tensor([[1, -1], [1, 2], [-1, -1]])
    taken = take(pool, rows)
    assert torch.equal(taken[0, 0], pool[1])
    assert not taken[rows < 0].any()
    (gradient,) = torch.autograd.grad(taken.sum(), pool)
    assert gradient.tolist() == [[0] * 3, [2] * 3, [1] * 3, [0] * 3]
    assert torch.autograd.gradcheck(lambda x: take(x, rows), pool.detach().requires_grad_())


def test_a_loss_may_pick_or_take() -> None:
    """Values and gradients are the same, false negatives included."""
    view = with_false_negatives()
    index = Rolled(N)(view)
    assert index.eq(-1).any()
    gradients = []
    for negatives in (lambda text: Picked(text, index), lambda text: take(text, index)):
        image, text = (x.clone().requires_grad_() for x in (view.image, view.text))
        terms = JSDLoss()(image, text, negatives(text), torch.tensor(5.0))
        loss = torch.stack(list(terms.values())).sum()
        gradients.append(torch.stack(torch.autograd.grad(loss, [image, text])))
    assert gradients[0].any()
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "kind", "k"),
    [("shifted", Shifted, 1), ("rolled", Rolled, 3), ("hard", Hard, 3), ("cached", Cached, 3)],
)
def test_by_name(name: str, kind: type, k: int) -> None:
    chooser = load_negatives(name, k=k, by="text")
    assert type(chooser) is kind
    assert chooser.k == k
    assert chooser.uses_cache == (name == "cached")
    assert getattr(chooser, "by", "text") == "text"


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^objective.negatives is 'soft', expected one of shifted, rolled"):
        load_negatives("soft", k=1, by="score")


@pytest.mark.parametrize("chooser", [Shifted(), Rolled(3), Hard(2), Hard(2, "text")])
def test_matched_negatives_are_of_the_pictures_own_group(chooser: Negatives) -> None:
    """Groups 0 and 1, and the two ways of having none; the last picture is alone in its own."""
    group = torch.tensor([0, 1] * 4 + [-1, -1, -2, 7])
    view = with_false_negatives()
    matched = chooser(view._replace(group=group, pool_group=group))
    unmatched = chooser(view)
    picked = matched >= 0
    assert torch.equal(group[matched][picked], group[:, None].expand_as(matched)[picked])
    assert not torch.equal(group[unmatched], group[:, None].expand_as(unmatched))
    own = (matched[:, :, None] == view.own[:, None, :]).any(2)
    assert not (own & picked).any()
    assert matched[-1].eq(-1).all()
    assert matched[:8].ge(0).any(dim=1).all()


def test_matched_cached_negatives_look_at_the_pools_groups() -> None:
    view = view_of(n=2, pool=[70, 80, 71])
    matched = view._replace(group=torch.tensor([0, 1]), pool_group=torch.tensor([1, 0, 1]))
    assert Cached(3)(matched).tolist() == [[-1, 1, -1], [0, -1, 2]]


def test_with_matched_negatives_the_group_alone_tells_no_pair_apart() -> None:
    """Embeddings that hold the group and nothing else: the loss is that of guessing, unlike with any one."""
    group = torch.tensor([0, 0, 1, 0, 1, 1, 0, 1])
    only_group = F.one_hot(group, D).float().requires_grad_()
    view = view_of(n=8)._replace(image=only_group.detach(), text=only_group.detach())
    losses = {}
    for name, chosen in (("any", view), ("matched", view._replace(group=group, pool_group=group))):
        negatives = take(only_group, Shifted()(chosen))
        scale = torch.tensor(4.0, requires_grad=True)
        losses[name] = sum(JSDLoss()(only_group, only_group, negatives, scale).values())
        losses[f"{name} by scale"] = torch.autograd.grad(losses[name], scale, retain_graph=True)[0]
    assert losses["any"] < losses["matched"]
    assert losses["matched by scale"] > 0.4  # a larger score for a common group costs
    assert losses["any by scale"] < 0.3
