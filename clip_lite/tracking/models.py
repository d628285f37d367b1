"""Models of a run as MLflow keeps them: LoggedModels that load as pyfunc, ranked by numbers; the registry."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from mlflow.entities import LoggedModel, LoggedModelInput, LoggedModelOutput, LoggedModelStatus
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from clip_lite import served
from clip_lite.tracking.journal import Point
from clip_lite.tracking.run import AboutData, Run
from clip_lite.tracking.store import MlflowException, mlflow

MODEL_TYPE = "image-text-encoder"
REQUIRED = ("clip-lite", "torch", "torchvision", "transformers", "mlflow")


def keep_model(run: Run, folder: Path, *, name: str, step: int, dim: int, params: Mapping[str, str]) -> str:
    """The id of the run's LoggedModel of that name; it is made where the run does not have it yet.

    Args:
        folder: a model saved with ``save_pretrained``.
        step: of training, at which the weights were such.
        dim: width of the embeddings.

    Raises:
        MlflowException, OSError: the store fails.
    """
    client = mlflow.MlflowClient()
    model = _known(run, name) or client.create_logged_model(
        client.get_run(run.run_id).info.experiment_id,
        name=name,
        source_run_id=run.run_id,
        params=dict(params),
        model_type=MODEL_TYPE,
    )
    if model.status == LoggedModelStatus.READY:
        return str(model.model_id)
    with tempfile.TemporaryDirectory(prefix="clip-lite-") as scratch:
        packed = Path(scratch) / "packed"
        pack(folder, packed, dim=dim, run_id=run.run_id, model_id=model.model_id)
        client.log_model_artifacts(model.model_id, str(packed))
    client.log_outputs(run.run_id, [LoggedModelOutput(model.model_id, step)])
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return str(model.model_id)


def pack(folder: Path, target: Path, *, dim: int, run_id: str, model_id: str) -> None:
    """Write ``target``, a pyfunc around the saved model in ``folder``; nothing in it is pickled."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside MLflow's handling of the example
        mlflow.pyfunc.save_model(
            target,
            loader_module=served.__name__,
            data_path=folder,
            mlflow_model=Model(run_id=run_id, model_id=model_id, model_uuid=model_id),
            signature=signature(dim),
            input_example=served.example(),
            pip_requirements=[f"{library}=={version(library).split('+')[0]}" for library in REQUIRED],
        )


def signature(dim: int) -> ModelSignature:
    """A text or an encoded picture in, ``dim`` numbers out."""
    columns: list[ColSpec | TensorSpec] = [
        ColSpec("string", served.TEXT, required=False),
        ColSpec("binary", served.IMAGE, required=False),
    ]
    return ModelSignature(Schema(columns), Schema([TensorSpec(np.dtype(np.float32), (-1, dim))]))


def link(
    run: Run,
    model_id: str,
    points: Sequence[Point],
    dataset: AboutData,
) -> None:
    """Log numbers of a run as those of a model too; what the model has from this run is left alone.

    ``dataset`` gives name and digest of the data that a number is about.
    """
    there = mlflow.get_logged_model(model_id).metrics or ()
    known = {(metric.key, metric.step) for metric in there if metric.run_id == run.run_id}
    new = [point for point in points if (point.key, point.step) not in known]
    run.send_points(new, model_id=model_id, dataset=dataset)


def register(run: Run, model_id: str, name: str, *, description: str, tags: Mapping[str, str]) -> str:
    """The version of a registered model that is this LoggedModel; it is made where there is none yet."""
    client = mlflow.MlflowClient()
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for known in client.search_model_versions(f"name = '{name}'"):
        if known.model_id == model_id:
            return str(known.version)
    made = client.create_model_version(
        name,
        source=f"models:/{model_id}",
        run_id=run.run_id,
        model_id=model_id,
        tags=dict(tags),
        description=description,
    )
    versions = json.loads(client.get_logged_model(model_id).tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
    if (name, str(made.version)) not in {(each["name"], str(each["version"])) for each in versions}:
        versions.append({"name": name, "version": made.version})  # a server has noted it itself
        client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(versions)})
    return str(made.version)


def use_model(run: Run) -> str | None:
    """The LoggedModel that the run's journal names as audited, noted as its input; None if there is none."""
    model_id = run.journal.read()["model"]
    if model_id is None:
        return None
    try:
        mlflow.get_logged_model(model_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # another store
            return None
        raise
    mlflow.MlflowClient().log_inputs(run.run_id, models=[LoggedModelInput(model_id)])
    return str(model_id)


def _known(run: Run, name: str) -> LoggedModel | None:
    client = mlflow.MlflowClient()
    found = client.search_logged_models(
        [client.get_run(run.run_id).info.experiment_id],
        filter_string=f"name = '{name}' AND source_run_id = '{run.run_id}'",
    )
    return found[0] if found else None
