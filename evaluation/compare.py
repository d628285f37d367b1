"""Compare finished runs: ``python -m evaluation.compare RUN RUN …``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from clip_lite.cli import guarded, parse
from clip_lite.config import TrackingConfig
from clip_lite.describe import describe_versions
from clip_lite.errors import UsageError
from clip_lite.progress import console, say
from clip_lite.tracking import tracked_run
from evaluation.comparing.comparison import Comparison, comparison_of
from evaluation.comparing.configurations import configurations
from evaluation.report.comparison import write_comparison
from evaluation.report.comparison_table import print_comparison
from evaluation.writing import write_text

PROG = "python -m evaluation.compare"
COMPARISON, PAGE = "comparison.json", "comparison.html"
DESCRIPTION = f"""Compare finished runs or audits: paired differences with intervals, p-values corrected by
Holm over all runs, and the front of utility and leakage. Prints a table, writes {COMPARISON} and {PAGE},
and logs them to MLflow.

  {PROG} runs/plain-seed0 runs/gender-seed0
      the second against the first; a run is its folder, its audit.json, an MLflow run id or runs:/ID
  {PROG} runs/plain-seed0 runs/plain-seed1 runs/gender-seed0 runs/gender-seed1
      seeds of one configuration are found by their config.yaml and averaged
  {PROG} plain=audits/a plain=audits/b edited=audits/c edited=audits/d
      or named by you, e.g. audits of models that were trained elsewhere
  {PROG} sweeps/NAME
      all runs in a folder, such as those of python -m clip_lite.sweep

The first configuration is the reference. Runs on the same data are paired: every audit draws the same
bootstrap resamples, kept in draws.npz. With several seeds of some configuration the intervals also hold how
much trainings differ; with one seed each they speak of these trained models alone.

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""


@dataclass
class CompareCommand:
    """Compare finished runs.

    Attributes:
        runs: folders, audit.json files, MLflow run ids or folders of runs; NAME=RUN says which configuration
            a run belongs to.
        output: new folder for comparison.json and comparison.html; null makes comparisons/<time>.
        track: log to MLflow.
        tracking: where MLflow finds the comparison.
    """

    runs: list[str] = field(default_factory=list)
    output: Path | None = None
    track: bool = True
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


def main(argv: Sequence[str]) -> None:
    """Runs → configurations → differences → write → tell."""
    config, _ = parse(
        CompareCommand, argv, prog=PROG, description=DESCRIPTION, words="runs", repeatable=("runs",)
    )
    output = config.output or Path("comparisons") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if (output / COMPARISON).exists():
        raise UsageError(f"--output {output} holds another comparison: choose a new folder")
    comparison = compare_runs(config.runs, output)
    say(f"report: {(output / PAGE).resolve()}")
    if not config.track:
        return
    tags = {"kind": "comparison", "runs": ", ".join(config.runs)[:5000]}
    name = config.tracking.run_name or f"comparison-{output.name}"
    with tracked_run(
        experiment=config.tracking.experiment,
        name=name,
        tags=tags,
        folder=output,
        parent=config.tracking.parent,
        system_metrics=False,
    ) as run:
        run.log_metrics(comparison.metrics())
        for file in (COMPARISON, PAGE):
            run.log_artifact(output / file)
    say(f"compare runs: {run.how_to_open()}")


def compare_runs(runs: Sequence[str], output: Path) -> Comparison:
    """Compare, write ``comparison.json`` and ``comparison.html`` into ``output``, and print a table.

    Raises:
        UsageError: fewer than two runs, or runs that cannot be read or compared.
    """
    comparison = comparison_of(configurations(runs))
    made = {"created": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "versions": describe_versions()}
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(made | comparison.plain(), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(output / COMPARISON, text)
    write_comparison(comparison, output / PAGE, made=made)
    print_comparison(comparison, console)
    return comparison


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
