from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from debias import ProtectedAttribute
from debias.training import NO_GROUP, SEVERAL, HSICTerm, group_number


def test_pictures_are_numbered_by_what_all_their_captions_name(gender: ProtectedAttribute) -> None:
    number = group_number(gender)
    assert [number(["a man"]), number(["x", "a woman"])] == [0, 1]
    assert (number(["a dog"]), number(["a man", "a woman"])) == (NO_GROUP, SEVERAL)


def by_definition(x: Tensor, z: Tensor) -> float:
    """tr(K H L H) / n², every matrix written out."""
    n = len(x)
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    width = np.median(squared[~np.eye(n, dtype=bool)].numpy())
    kernel = torch.exp(-squared / width)
    counts = torch.bincount(z)
    same = (z[:, None] == z[None]).double() * (n / counts[z])[:, None]
    centring = torch.eye(n, dtype=torch.float64) - 1 / n
    return float(torch.trace(kernel @ centring @ same @ centring)) / n**2


@pytest.mark.parametrize("groups", [2, 3])
def test_it_is_the_estimator_of_the_paper(groups: int) -> None:
    rng = np.random.default_rng(0)
    x = F.normalize(torch.from_numpy(rng.standard_normal((40, 6))), dim=1)
    z = torch.from_numpy(rng.integers(groups, size=40))
    z[:groups] = torch.arange(groups)
    assert HSICTerm(2.0)(x, z)["hsic"].item() == pytest.approx(2 * by_definition(x, z), rel=1e-3)


def planted(n: int) -> tuple[Tensor, Tensor]:
    """Groups of the same mean: one near the poles of an axis, the other at the equator."""
    rng = np.random.default_rng(1)
    z = torch.from_numpy(rng.integers(2, size=n))
    x = torch.from_numpy(rng.standard_normal((n, 8)))
    x[:, 0] *= torch.where(z == 1, 4.0, 0.2)
    return x, z


def test_descending_it_takes_away_dependence_that_no_mean_shows() -> None:
    x, z = planted(256)
    shuffled = torch.from_numpy(np.random.default_rng(2).permutation(z.numpy()))
    free = torch.zeros(8, requires_grad=True, dtype=torch.float64)
    term, optimizer = HSICTerm(), torch.optim.Adam([free], lr=0.1)

    def dependence(groups: Tensor = z) -> Tensor:
        return term(F.normalize(x * free.exp(), dim=1), groups)["hsic"]

    before, chance = dependence().item(), dependence(shuffled).item()
    assert before > 3 * chance
    for _ in range(60):
        optimizer.zero_grad()
        dependence().backward()
        optimizer.step()
    assert dependence().item() < 1.5 * chance
    assert free.argmin().item() == 0


def test_unlabelled_rows_enter_nothing_and_one_group_gives_no_gradient() -> None:
    x, z = planted(64)
    x = F.normalize(x, dim=1)
    some = torch.cat([z, torch.full((10,), -1), torch.full((10,), -2)])
    more = torch.cat([x, x[:20]])
    assert torch.equal(HSICTerm()(more, some)["hsic"], HSICTerm()(x, z)["hsic"])
    leaf = x.clone().requires_grad_()
    HSICTerm()(leaf, torch.zeros(64, dtype=torch.long))["hsic"].backward()
    assert leaf.grad is not None
    assert not leaf.grad.any()


def test_a_weight_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="weight is 0, expected above 0"):
        HSICTerm(0)
