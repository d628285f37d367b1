"""Reductions over two real processes, and over one."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from clip_lite.distributed import (
    any_rank,
    average,
    barrier,
    gather,
    is_main,
    main_first,
    process_group,
    rank,
    world_size,
)
from clip_lite.errors import UsageError
from tests.clip_lite.two_ranks import two_ranks

CPU = torch.device("cpu")


def rows_of(rank: int) -> torch.Tensor:
    return torch.arange(6.0, dtype=torch.float64).view(3, 2) + 10 * rank


def weight_of(rank: int) -> torch.Tensor:
    """What a process multiplies the gathered rows with, so that it has a gradient of its own for each."""
    return torch.linspace(1, 2, 12, dtype=torch.float64).view(6, 2) * (1 + 4 * rank)


def work(folder: Path) -> dict[str, Any]:
    own = rows_of(rank()).requires_grad_()
    gathered = gather(own)
    (gathered * weight_of(rank())).sum().backward()
    cache = folder / "cache"
    with main_first():
        found = cache.exists()
        if is_main():
            time.sleep(0.3)
            cache.write_text("filled")
    barrier()
    return {
        "place": (rank(), world_size(), is_main()),
        "gathered": gathered.detach(),
        "gradient": own.grad,
        "average": average(own),
        "flags": [any_rank(flag, CPU) for flag in (False, rank() == 1, True)],
        "found": found,
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return two_ranks("tests.clip_lite.test_distributed", tmp_path_factory.mktemp("ranks"))


def test_every_process_knows_its_place(ranks: list[dict[str, Any]]) -> None:
    assert [found["place"] for found in ranks] == [(0, 2, True), (1, 2, False)]


def test_gather_has_the_rows_of_all_in_order(ranks: list[dict[str, Any]]) -> None:
    expected = torch.cat([rows_of(0), rows_of(1)])
    assert all(torch.equal(found["gathered"], expected) for found in ranks)


def test_gradient_of_own_rows_is_summed_over_processes(ranks: list[dict[str, Any]]) -> None:
    summed = weight_of(0) + weight_of(1)
    assert torch.allclose(ranks[0]["gradient"], summed[:3])
    assert torch.allclose(ranks[1]["gradient"], summed[3:])


def test_average_and_flags_are_agreed_on(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        assert torch.equal(found["average"], (rows_of(0) + rows_of(1)) / 2)
        assert not found["average"].requires_grad
        assert found["flags"] == [False, True, True]


def test_the_others_find_what_the_first_one_left(ranks: list[dict[str, Any]]) -> None:
    assert [found["found"] for found in ranks] == [False, True]


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    x = torch.ones(2, 2, requires_grad=True)
    with process_group(CPU) as device, main_first():
        assert device is CPU
        assert not torch.distributed.is_initialized()
        assert (rank(), world_size(), is_main()) == (0, 1, True)
        assert gather(x) is x
        assert torch.equal(average(x), x.detach())
        assert not average(x).requires_grad
        assert [any_rank(flag, CPU) for flag in (False, True)] == [False, True]
        barrier()


def test_half_of_torchruns_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(UsageError, match=r"LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not: .* torchrun"),
        process_group(CPU),
    ):
        pass


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "2")
    with pytest.raises(UsageError, match="LOCAL_RANK is 2 with 2 CUDA"), process_group(torch.device("cuda")):
        pass


if __name__ == "__main__":
    target = Path(sys.argv[1])
    with process_group(CPU):
        torch.save(work(target), target / f"{rank()}.pt")
