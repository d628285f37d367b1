"""Runs and their journal: what is shown of a store, what is kept, what happens when a store fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pytest

from clip_lite.data.pairs import Corpus
from clip_lite.errors import CommandError, UsageError
from clip_lite.tracking import Journal, Run, check_store, flatten, recorded_run, tracked_run, without_password

RUN: dict[str, Any] = {"experiment": "e", "name": "n", "tags": {"seed": "0"}, "system_metrics": False}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    return uri


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://ada:secret@db.example:5432/mlflow", "postgresql://db.example:5432/mlflow"),
        ("https://tracking.example/x", "https://tracking.example/x"),
        ("sqlite:////tmp/a@b/mlflow.db", "sqlite:////tmp/a@b/mlflow.db"),
    ],
)
def test_passwords_are_not_shown(uri: str, shown: str) -> None:
    assert without_password(uri) == shown
    assert Run("id", "experiment", uri, Journal(Path())).where()["tracking_uri"] == shown


def test_how_to_open_fits_the_store() -> None:
    assert Run("id", "e", "http://host:5000", Journal(Path())).how_to_open() == "open http://host:5000"
    path = "sqlite:////tmp/with space/mlflow.db"
    assert Run("id", "e", path, Journal(Path())).how_to_open() == f"mlflow ui --backend-store-uri '{path}'"


def test_nested_parameters_are_dotted() -> None:
    assert dict(flatten({"a": {"b": 1, "c": {"d": None}}, "e": 2})) == {"a.b": 1, "a.c.d": None, "e": 2}


def test_a_journal_outlives_a_line_that_a_kill_cut_short(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin(experiment="e", name="n")
    journal.add({"loss": 2.0}, step=1, timestamp=10)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"time": 11, "st')
    journal.add({"loss": 1.0, "val/x": 3.0}, step=2, timestamp=12)
    journal.add({"val/x": 4.0}, step=2, timestamp=13)
    assert list(journal.points()) == [
        ("loss", 2.0, 10, 1),
        ("loss", 1.0, 12, 2),
        ("val/x", 3.0, 12, 2),
        ("val/x", 4.0, 13, 2),
    ]
    assert journal.at(2, "val/") == [("val/x", 4.0, 13, 2)]


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"experiment": "e"}'):
        (tmp_path / "tracking.json").write_text(text)
        with pytest.raises(CommandError, match=r"tracking\.json is damaged"):
            Journal(tmp_path).read()


def test_runs_are_nested_and_a_parent_is_opened_again(store: str, tmp_path: Path) -> None:
    for folder in ("sweep", "cell"):
        (tmp_path / folder).mkdir()
    sweep, cell = tmp_path / "sweep", tmp_path / "cell"
    assert recorded_run(sweep) is None
    with tracked_run(
        experiment="e", name="sweep", tags={"kind": "sweep"}, folder=sweep, system_metrics=False
    ) as parent:
        parent.log_params({"seeds": [0, 1]})
    with tracked_run(
        experiment="e", name="cell", tags={}, folder=cell, parent=parent.run_id, system_metrics=False
    ) as child:
        child.log_metrics({"x": 1.0}, step=3)
    (sweep / "table.csv").write_text("a")
    with tracked_run(
        experiment="e",
        name="sweep",
        tags={"kind": "sweep"},
        folder=sweep,
        resume=recorded_run(sweep),
        system_metrics=False,
    ) as again:
        again.log_metrics({"front": 0.5})
        again.log_artifact(sweep / "table.csv", under="tables")
    client = mlflow.MlflowClient(store)
    assert again.run_id == parent.run_id
    shown = client.get_run(parent.run_id)
    assert (shown.info.status, shown.data.params, shown.data.metrics["front"]) == (
        "FINISHED",
        {"seeds": "[0, 1]"},
        0.5,
    )
    assert [item.path for item in client.list_artifacts(parent.run_id, "tables")] == ["tables/table.csv"]
    assert client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == parent.run_id


def test_a_parent_that_is_not_there_is_refused(store: str, tmp_path: Path) -> None:
    with (
        pytest.raises(CommandError, match=r"Run with id=0+ not found"),
        tracked_run(experiment="e", name="n", tags={}, folder=tmp_path, parent="0" * 32),
    ):
        pytest.fail("the block must not be entered")


def test_a_store_that_fails_is_given_up_once_and_caught_up_with(
    store: str,
    tmp_path: Path,
    corpus: Corpus,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls, begun = [], []

    def broken(*args: object, **kwargs: object) -> None:
        calls.append(args)
        raise OSError("the disk of the store is full")

    def lost() -> None:
        with tracked_run(**RUN, folder=tmp_path) as run:
            begun.append(run.run_id)
            run.log_metrics({"x": 1.0}, step=1)
            with monkeypatch.context() as patch:
                patch.setattr(mlflow.MlflowClient, "log_batch", broken)
                run.log_metrics({"x": 2.0}, step=2)
                run.log_params({"a": {"b": 1}})
            run.log_metrics({"x": 3.0}, step=3)
            run.log_corpus(corpus)

    with pytest.raises(CommandError) as raised:
        lost()
    assert len(calls) == 1
    assert capsys.readouterr().out.count("the disk of the store is full") == 1
    assert str(raised.value).endswith(f"python -m clip_lite.upload {tmp_path}")
    client, (run_id,) = mlflow.MlflowClient(store), begun
    assert client.get_run(run_id).info.status == "FAILED"
    assert [m.step for m in client.get_metric_history(run_id, "x")] == [1]

    with tracked_run(**RUN, folder=tmp_path, resume=recorded_run(tmp_path)) as again:
        for _ in range(2):
            again.catch_up()
    shown = client.get_run(run_id)
    assert shown.info.status == "FINISHED"
    assert [(m.step, m.value) for m in client.get_metric_history(run_id, "x")] == [
        (1, 1.0),
        (2, 2.0),
        (3, 3.0),
    ]
    assert shown.data.params == {"a.b": "1"}
    assert shown.data.tags["data_digest"] == corpus.digest
    assert {item.tags[0].value for item in shown.inputs.dataset_inputs} == set(corpus.splits)
    assert [item.path for item in client.list_artifacts(run_id, "data")] == ["data/manifest.csv"]
    lines = (tmp_path / "data" / "manifest.csv").read_text().splitlines()
    assert len(lines) == 1 + sum(len(table) for table in corpus.splits.values())


def test_what_goes_wrong_in_the_block_is_said_before_the_store(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise OSError("gone")

    def lost() -> None:
        with tracked_run(**RUN, folder=tmp_path) as run:
            monkeypatch.setattr(mlflow.MlflowClient, "log_batch", broken)
            run.log_metrics({"x": 1.0})
            raise UsageError("no such corpus")

    with pytest.raises(UsageError, match=r"^no such corpus; MLflow store .* failed \(gone\)"):
        lost()


def test_a_server_that_does_not_answer_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:secret@127.0.0.1:9")
    with pytest.raises(CommandError, match=r"^MLflow store http://127\.0\.0\.1:9 cannot be used: .*refused"):
        check_store()


def test_a_database_without_its_driver_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ada:secret@127.0.0.1:1/x")
    with pytest.raises(CommandError, match=r"^MLflow store postgresql://127\.0\.0\.1:1/x cannot be used: "):
        check_store()


def test_results_are_there_before_a_store_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an audit ends with: its journal is written, and the error says how to upload it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    def lost() -> None:
        with tracked_run(**RUN, folder=tmp_path, late=True) as run:
            run.log_params({"a": 1})

    with pytest.raises(CommandError, match=rf"python -m clip_lite\.upload {tmp_path}$"):
        lost()
    kept = Journal(tmp_path).read()
    assert (kept["params"], kept["tags"], kept["runs"], kept["behind"]) == (
        {"a": "1"},
        {"seed": "0"},
        {},
        True,
    )
