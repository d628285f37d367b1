"""How a reader of the model card loads the model and audits it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from evaluation.report import wording
from evaluation.results import AuditResult

AUDIT = "python -m evaluation.audit"
FOLDER = "DIR"
LOGGED_AS = "clip-lite"
OF_THE_AUDIT = ("seed", "resamples", "permutations")
NOT_OF_THE_DATA = ("image_size", "workers", "pixel_cache")  # the model's own, and how fast it is read


def audit_command(result: AuditResult) -> str:
    """What to type to audit the model in ``DIR`` again, on the same data with the same draws.

    Empty where the audit does not say how it was made.
    """
    made = str(result.provenance.get("command") or "")
    config = result.training.get("config")
    if not config or made.startswith(AUDIT):
        return made
    attribute = config.get("debias") or (config.get("audit") or {}).get("attribute")
    flags = {"model": FOLDER, "attribute": attribute or wording.attribute_name(result) or "null"}
    data: Mapping[str, Any] = config.get("data") or {}
    flags |= {f"data.{key}": value for key, value in data.items() if key not in NOT_OF_THE_DATA}
    flags |= {key: result.provenance.get(key) for key in OF_THE_AUDIT}
    flags["interval"] = result.provenance.get("interval_kind")
    return " ".join(
        [AUDIT, *(f"--{key} {_typed(value)}" for key, value in flags.items() if value is not None)]
    )


def _typed(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else shlex.quote(str(value))


def pyfunc(result: AuditResult) -> str:
    """Python that loads the model from the run that trained it; empty where there is none."""
    mlflow = result.provenance.get("mlflow") or {}
    if not (result.training and mlflow.get("run_id")):
        return ""
    lines = ["from pathlib import Path", "", "import mlflow", "import pandas as pd", ""]
    if uri := mlflow.get("tracking_uri"):
        lines.append(f"mlflow.set_tracking_uri({str(uri)!r})")
    kept = f"runs:/{mlflow['run_id']}/{LOGGED_AS}"
    lines += [
        f"model = mlflow.pyfunc.load_model({kept!r})",
        'image = model.predict(pd.DataFrame({"image": [Path("picture.png").read_bytes()]}))',
    ]
    return "\n".join(lines)
