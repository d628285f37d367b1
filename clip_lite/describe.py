"""What a run was, in plain mappings that an audit carries."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from clip_lite.config import ObjectiveConfig, TrainConfig
from clip_lite.data.pairs import Corpus
from clip_lite.distributed import world_size
from clip_lite.editable import EditableEncoder
from clip_lite.precision import resolve_precision

LIBRARIES = ("clip-lite", "torch", "torchvision", "transformers", "scikit-learn", "mlflow", "numpy")


@dataclass
class Clock:
    """Wall-clock seconds of named stages, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(time.perf_counter() - begin, 1)


def describe_corpus(corpus: Corpus, *, image_size: int) -> dict[str, Any]:
    """Name, digest, sizes, sources and limits of a corpus."""
    return {
        "name": corpus.name,
        "digest": corpus.digest,
        "image_size": image_size,
        "splits": {
            name: {"pictures": len(table), "stems": len(set(table.clusters)), "digest": table.digest}
            for name, table in corpus.splits.items()
        },
        "sources": [dict(source) for source in corpus.sources],
        "limits": list(corpus.limits),
        "skipped": dict(corpus.skipped),
    }


def describe_model(model: EditableEncoder) -> dict[str, Any]:
    """Architecture, where the weights come from, size, digest of the weights and the embedding's eraser."""
    embedding = model.attached.get("embedding")
    return {
        **model.describe(),
        "embedding_dim": model.embedding_dim,
        "parameters": sum(p.numel() for p in model.parameters()),
        "digest": weights_digest(model),
        "edited": list(model.attached),
        "eraser": embedding.spec() if embedding else None,
    }


def encoder_digest(model: EditableEncoder) -> str:
    """SHA-256 over what ``encode_image`` depends on: settings, weights, and erasers while they act."""
    spoken = json.dumps(model.settings, sort_keys=True)
    weights = weights_digest(model, leave=() if model.erase else ("erasers.",))
    return hashlib.sha256(f"{spoken} {weights}".encode()).hexdigest()


def weights_digest(model: torch.nn.Module, *, leave: tuple[str, ...] = ()) -> str:
    """SHA-256 over names and values of all weights but those whose names start with one of ``leave``."""
    seen = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith(leave):
            continue
        seen.update(name.encode())
        seen.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return seen.hexdigest()


def describe_training(
    config: TrainConfig, curve: Sequence[Mapping[str, float]], clock: Clock, *, device: torch.device
) -> dict[str, Any]:
    """Objective, amount of training, curve by epoch, seconds by stage, configuration."""
    training, precision = config.training, resolve_precision(device, config.training.precision)
    return {
        "objective": describe_objective(config.objective),
        "epochs": training.epochs,
        "batch_size": training.batch_size,
        "processes": world_size(),
        "pairs_seen": int(curve[-1]["step"]) * training.batch_size,
        "seconds": clock.seconds["training"],
        "precision": precision if precision == "float32" else f"{precision} autocast",
        "curve": [dict(epoch) for epoch in curve],
        "stages": dict(clock.seconds),
        "config": plain(asdict(config)),
    }


def describe_objective(objective: ObjectiveConfig) -> str:
    """The loss and its negatives in words."""
    if objective.loss != "jsd":
        names = {"infonce": "InfoNCE over the whole batch", "siglip": "pairwise sigmoid over the whole batch"}
        return names.get(objective.loss, objective.loss)
    k = objective.negatives_per_pair
    hard = f", hard by {objective.hard_by}" if objective.negatives == "hard" else ""
    kind = "shifted" if objective.negatives == "shifted" else f"{objective.negatives}{hard}"
    return f"Jensen-Shannon bound, {'one' if k == 1 else k} {kind} negative{'' if k == 1 else 's'} per pair"


def describe_run(
    argv: Sequence[str], *, prog: str, draws: Mapping[str, Any], mlflow: Mapping[str, str]
) -> dict[str, Any]:
    """Command, date, how uncertainty was drawn (``seed``, ``resamples`` …), versions, where MLflow has it."""
    return {
        "command": shlex.join([*prog.split(), *argv]),
        "created": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        **draws,
        "versions": describe_versions(),
        "threads": torch.get_num_threads(),
        "mlflow": dict(mlflow),
    }


def describe_versions() -> dict[str, str]:
    """Versions of what results depend on."""
    return {name: version(name) for name in LIBRARIES}


def plain(value: Any) -> Any:
    """The same structure with nothing but what JSON knows."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
