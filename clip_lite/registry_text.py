"""What a version of a registered model says of its audit: a description and tags."""

from __future__ import annotations

from evaluation.results import OFF, AuditResult, Estimate

REPRESENTATIONS = ("embedding", "features")
RECALLS = {"i2t": "texts of a picture", "t2i": "pictures of a text"}


def description(result: AuditResult) -> str:
    """What the delivered model leaks and what it can do, in a few lines."""
    name = result.attribute.get("name")
    lines = [
        f"Leakage of {name} from the {what} (balanced accuracy of the best attacker): "
        f"{_change(result, row)}; chance {row.null:.3f}."
        for what in REPRESENTATIONS
        if (row := _row(result, f"leakage/{name}/{what}/max")) and row.null is not None
    ]
    lines += [
        f"Recall at 10, {words}: {_change(result, row)}."
        for direction, words in RECALLS.items()
        if (row := _row(result, f"retrieval/{direction}_recall_10"))
    ]
    where = f"{result.data['name']}, split {_split(result)}, digest {result.data['digest'][:16]}"
    return "\n".join([*lines, f"Measured on {where}; intervals are 95%."])


def audit_tags(result: AuditResult, run_id: str) -> dict[str, str]:
    """What links the version to its audit: the run, the data and the largest leakage of the embedding."""
    name = result.attribute.get("name")
    tags = {"audit_run_id": run_id, "data_digest": str(result.data["digest"])}
    if row := _row(result, f"leakage/{name}/embedding/max"):
        bounds = {"max": row.value, "max_ci_low": row.low, "max_ci_high": row.high}
        tags |= {
            f"leakage.{name}.{key}": f"{value:.4f}" for key, value in bounds.items() if value is not None
        }
    return tags


def _split(result: AuditResult) -> str:
    """The first split that was held out."""
    return next((row.split for row in result.rows if row.split not in ("train", "val")), "")


def _row(result: AuditResult, name: str, *, system: str | None = None) -> Estimate | None:
    found = result.select(name, split=_split(result), system=system or result.delivered)
    return next((row for row in found if row.name == name and not row.group), None)


def _change(result: AuditResult, row: Estimate) -> str:
    before = _row(result, row.name, system=OFF)
    return f"from {_spelled(before)} to {_spelled(row)}" if before and before != row else _spelled(row)


def _spelled(row: Estimate) -> str:
    interval = f" ({row.low:.3f} to {row.high:.3f})" if row.low is not None and row.high is not None else ""
    return f"{row.value:.3f}{interval}"
