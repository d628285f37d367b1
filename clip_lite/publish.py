"""What a folder of results holds, brought to its MLflow run: models, numbers, files, the registry."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import torch

from clip_lite.model import DualEncoder
from clip_lite.registry_text import audit_tags, description
from clip_lite.runs import CHECKPOINTS, CONFIG, MODEL
from clip_lite.tracking import Point, Run, flatten
from clip_lite.tracking.models import keep_model, link, register, use_model
from evaluation.report import narrative
from evaluation.report.files import AUDIT, CARD, REPORT
from evaluation.results import DRAWS, AuditResult

NAME = "clip-lite"
ARTIFACTS = (AUDIT, DRAWS, REPORT, CARD, CONFIG)
NOTE = "mlflow.note.content"  # the tag that MLflow shows as a run's description
PUBLISHED = "published"  # the tag that says which audit a run holds all of
OBJECTIVE = "model."  # how the names of the model's weights begin in a checkpoint
PARAMS = ("debias", "seed", "data.source", "model.", "objective.", "optimizer.", "training.", "mitigation.")


def publish_folder(result: AuditResult, run: Run, *, name: str | None = None) -> None:
    """Bring to MLflow what the run's folder holds and its run does not have yet.

    A training's folder gives LoggedModels: the delivered model with the audit's numbers, and every epoch's
    checkpoint that was kept, each with the numbers of validation at its step. An audit's numbers go to the
    LoggedModel that was audited, if it was one. A store that fails is given up, see ``Run.reaching``.

    Args:
        name: registered model of which the delivered model becomes a version.
    """
    if run.lost:
        return
    folder = run.journal.folder
    with run.reaching():
        run.catch_up()
        model_id = keep_models(result, run) if (folder / MODEL).is_dir() else use_model(run)
        if model_id:
            link(run, model_id, audit_points(result), datasets_of(run))
        else:
            run.send_points(audit_points(result), dataset=datasets_of(run))
        for file in ARTIFACTS:
            run.send_file(folder / file)
        if name and model_id:
            register(
                run, model_id, name, description=description(result), tags=audit_tags(result, run.run_id)
            )
        run.send_tags({NOTE: "\n\n".join(narrative.summary(result)), PUBLISHED: audit_digest(folder)})


def audit_digest(folder: Path) -> str:
    """What tells one audit from another."""
    return hashlib.sha256((folder / AUDIT).read_bytes()).hexdigest()[:16]


def audit_points(result: AuditResult) -> list[Point]:
    """The audit's numbers, dated by the audit, so that those which are sent twice are kept once."""
    made = datetime.strptime(result.provenance["created"], "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)
    return [Point(key, value, int(made.timestamp() * 1000), 0) for key, value in result.metrics().items()]


def datasets_of(run: Run) -> Callable[[str], tuple[str, str] | None]:
    """Name and digest of the split that a number's key begins with; ``audit/`` speaks of the test split."""
    splits = {entry["context"]: (entry["name"], entry["digest"]) for entry in run.journal.read()["datasets"]}

    def named(key: str) -> tuple[str, str] | None:
        first = key.split("/")[0]
        return splits.get("test" if first == "audit" else first)

    return named


def keep_models(result: AuditResult, run: Run) -> str:
    """Log the models of a training's folder, each with its validation; returns the delivered one's id."""
    folder, dim = run.journal.folder, int(result.model["embedding_dim"])
    last = int(result.training["curve"][-1]["step"])
    params = {key: value for key, value in run.journal.read()["params"].items() if key.startswith(PARAMS)}

    def keep(saved: Path, name: str, step: int, **more: str) -> str:
        model_id = keep_model(run, saved, name=name, step=step, dim=dim, params=params | more)
        link(run, model_id, run.journal.at(step, "val/"), datasets_of(run))
        return model_id

    with tempfile.TemporaryDirectory(prefix="clip-lite-") as scratch:
        for step, model in checkpoint_models(folder, before=last):
            saved = Path(scratch) / MODEL
            model.save_pretrained(saved)
            keep(saved, f"{NAME}-step-{step}", step)
    eraser = {key: str(value) for key, value in flatten({"eraser": result.model["eraser"]})}
    return keep(folder / MODEL, NAME, last, **eraser)


def checkpoint_models(folder: Path, *, before: int) -> Iterator[tuple[int, DualEncoder]]:
    """Step and model, without erasers, of every kept checkpoint of an epoch's end before that step."""
    seen: set[int] = set()
    for file in sorted((folder / CHECKPOINTS).glob("*.pt")):
        state = torch.load(file, map_location="cpu", weights_only=True)
        progress, step = state["progress"], int(state["progress"]["step"])
        ends_epoch = bool(progress["epochs"]) and progress["epochs"][-1]["step"] == step
        if step in seen or step >= before or not ends_epoch:
            continue
        seen.add(step)
        model = DualEncoder.from_pretrained(folder / MODEL)
        model.attach({})
        weights = state["step"]["weights"].items()
        own = {key.removeprefix(OBJECTIVE): weight for key, weight in weights if key.startswith(OBJECTIVE)}
        model.load_state_dict({**model.state_dict(), **own})
        yield step, model
