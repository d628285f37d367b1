"""A tracking server that dies while a model is trained loses nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest

from clip_lite.keeper import Keeper
from clip_lite.tracking import recorded_run, tracked_run
from clip_lite.upload import main
from evaluation.results import AuditResult
from tests.clip_lite.conftest import Live
from tests.clip_lite.tracked_runs import Done, Packages, Shown, World
from tests.servers import Server, mlflow_server

SPEED = "train/pairs_per_second"


@dataclass(frozen=True)
class Lost:
    """A training whose server was killed after its first epoch."""

    world: World
    done: Done
    server: Server

    @property
    def folder(self) -> Path:
        return self.world.folder / "out"


@pytest.fixture(scope="module")
def lost(
    emoji_packages: Packages, text_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lost]:
    keep = Keeper.keep
    with mlflow_server(tmp_path_factory.mktemp("dying_server")) as server:
        world = World(tmp_path_factory.mktemp("lost"), emoji_packages, text_folder, server.url)

        def fatal(self: Keeper, state: Any, step: int, *, best: bool) -> str:
            server.stop()
            return keep(self, state, step, best=best)

        done = world.train(
            "--output=out",
            "--tracking.register=emoji-encoder",
            patches={"clip_lite.train.Keeper.keep": fatal},
        )
        yield Lost(world, done, server)


def numbers(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        said = json.loads(line)
        for key, value in said["numbers"].items():
            found.setdefault(key, []).append((said["step"], value))
    return found


def test_training_goes_on_and_names_the_command_that_uploads(lost: Lost, live: Live) -> None:
    assert lost.done.code == 1
    assert lost.done.err.count("\n") == 1
    assert lost.done.err.endswith("upload it with: python -m clip_lite.upload out\n")
    assert lost.done.out.count("failed, going on with all of it kept on disk") == 1
    assert "open http" not in lost.done.out
    for name in ("audit.json", "draws.npz", "report.html", "README.md", "model", "data/manifest.csv"):
        assert (lost.folder / name).exists(), name
    mine, reference = numbers(lost.folder), numbers(live.folder)
    assert {k: v for k, v in mine.items() if k != SPEED} == {k: v for k, v in reference.items() if k != SPEED}
    assert [step for step, _ in mine[SPEED]] == [step for step, _ in reference[SPEED]]


def test_upload_gives_the_run_that_a_live_server_would_have(lost: Lost, live: Live) -> None:
    assert lost.world.upload("out").err.startswith(f"error: MLflow store {lost.server.url} cannot be used")
    lost.server.start()
    begun = json.loads((lost.folder / "tracking.json").read_text())["runs"][lost.server.url]
    done = lost.world.upload("out")
    assert done.code == 0, done.err
    assert f"uploaded out to MLflow run {begun}" in done.out

    mine, reference = Shown.of(lost.server.url, "clip-lite"), live.shown
    assert mine.run.info.run_id == begun
    assert mine.run.info.status == "FINISHED"
    same_params(mine, reference)
    assert own_tags(mine) == own_tags(reference)
    assert mine.datasets == reference.datasets
    assert mine.files == reference.files
    assert_same_history(mine.history, reference.history)
    assert set(mine.models) == set(reference.models)
    for name, model in mine.models.items():
        assert model.status == "READY"
        assert {m.key for m in model.metrics} == {m.key for m in reference.models[name].metrics}
    audited = AuditResult.load(lost.folder / "audit.json").metrics()
    delivered = {m.key: m.value for m in mine.models["clip-lite"].metrics}
    assert {key: delivered[key] for key in audited} == audited

    before = mine.run.data.metrics
    again = lost.world.upload("--folder=out")
    assert again.code == 0
    assert again.out == f"nothing to upload, MLflow run {begun} has all of out\n"
    after = Shown.of(lost.server.url, "clip-lite")
    assert after.history == mine.history
    assert after.run.data.metrics == before
    assert {m.model_id for m in after.models.values()} == {m.model_id for m in mine.models.values()}
    (version,) = mlflow.MlflowClient(lost.server.url).search_model_versions("name = 'emoji-encoder'")
    assert version.run_id == begun


def test_to_another_store_it_makes_a_run_of_its_own(live: Live, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    flags = (str(live.folder), "--tracking.experiment=elsewhere", "--tracking.run_name=copied")
    done = live.world.upload(*flags, store=store)
    assert done.code == 0, done.err
    mine, reference = Shown.of(store, "elsewhere"), live.shown
    assert mine.run.info.run_id != reference.run.info.run_id
    assert mine.run.info.run_name == "copied"
    same_params(mine, reference)
    assert own_tags(mine) == own_tags(reference)
    assert mine.history == reference.history
    assert mine.files == reference.files
    again = live.world.upload(*flags, store=store)
    assert "nothing to upload" in again.out
    assert "nothing to upload" in live.world.upload(str(live.folder)).out  # the first store is not forgotten


def test_a_sweep_goes_to_another_store_with_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stored_at(name: str) -> str:
        uri = f"sqlite:///{tmp_path / name}.db"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        return uri

    stored_at("first")
    sweep = tmp_path / "sweep"
    cells = [sweep / "cells" / name for name in ("a", "b")]
    for folder in cells:
        folder.mkdir(parents=True)
    plain: dict[str, Any] = {"experiment": "sweeps", "system_metrics": False}
    with tracked_run(name="sweep", tags={"kind": "sweep"}, folder=sweep, **plain) as parent:
        parent.log_metrics({"hypervolume/all": 0.5})
    for place, folder in enumerate(cells):
        tags = {"seed": str(place)}
        with tracked_run(name=folder.name, tags=tags, folder=folder, parent=parent.run_id, **plain) as cell:
            cell.log_metrics({"audit/leakage_max": 0.6 + place / 10})
    client = mlflow.MlflowClient(stored_at("second"))
    main([str(sweep)])
    runs = {
        run.info.run_name: run
        for run in client.search_runs([client.get_experiment_by_name("sweeps").experiment_id])
    }
    assert set(runs) == {"sweep", "a", "b"}
    assert runs["sweep"].data.metrics == {"hypervolume/all": 0.5}
    assert [runs[name].data.metrics["audit/leakage_max"] for name in "ab"] == [0.6, 0.7]
    new_parent = runs["sweep"].info.run_id
    assert new_parent != parent.run_id
    assert {runs[name].data.tags["mlflow.parentRunId"] for name in "ab"} == {new_parent}
    alone = mlflow.MlflowClient(stored_at("third"))
    main([str(cells[0])])  # its sweep is not there
    (found,) = alone.search_runs([alone.get_experiment_by_name("sweeps").experiment_id])
    assert "mlflow.parentRunId" not in found.data.tags
    stored_at("first")
    main([str(sweep)])
    kept = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'first'}.db").get_run(recorded_run(cells[1]) or "")
    assert kept.data.tags["mlflow.parentRunId"] == parent.run_id


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["nowhere"], 2, "nowhere holds no results to upload, expected tracking.json"),
        ([], 2, "folder"),
        (["damaged"], 1, "damaged/tracking.json is damaged"),
        (["stale"], 2, "stale/audit.json: audit schema version is 1"),
    ],
)
def test_bad_input_is_one_line(flags: list[str], code: int, said: str, live: Live, tmp_path: Path) -> None:
    for name in ("damaged", "stale"):
        (tmp_path / name).mkdir()
        text = (live.folder / "tracking.json").read_text()
        (tmp_path / name / "tracking.json").write_text(text[:100] if name == "damaged" else text)
    (tmp_path / "stale" / "audit.json").write_text('{"schema_version": 1}')
    world = World(tmp_path, live.world.packages, live.world.text_folder, None)
    done = world.upload(*flags)
    assert done.code == code
    assert said in done.err
    assert done.err.count("\n") == 1


def same_params(mine: Shown, reference: Shown) -> None:
    free = ("output", "tracking.experiment")
    assert {k: v for k, v in mine.run.data.params.items() if k not in free} == {
        k: v for k, v in reference.run.data.params.items() if k not in free
    }


def own_tags(shown: Shown) -> dict[str, str]:
    return {k: v for k, v in shown.run.data.tags.items() if not k.startswith("mlflow.") and k != "published"}


def assert_same_history(
    mine: dict[str, list[tuple[int, float]]] | Any, reference: dict[str, list[tuple[int, float]]] | Any
) -> None:
    assert set(mine) == set(reference)
    for key in reference:
        if key != SPEED:
            assert [step for step, _ in mine[key]] == [step for step, _ in reference[key]], key
            assert all(
                math.isclose(a, b) for (_, a), (_, b) in zip(mine[key], reference[key], strict=True)
            ), key
