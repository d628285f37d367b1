"""Hold an audit to the rules of a release: ``python -m evaluation.gate``."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clip_lite.cli import guarded, parse
from clip_lite.errors import CommandError, GateFailed, UsageError
from clip_lite.progress import console, say
from clip_lite.tracking import Journal, annotate, recorded_run
from evaluation.comparing.stored import Stored, stored_audit
from evaluation.gating.judgement import Verdict, judge
from evaluation.gating.matching import refuse_early
from evaluation.gating.rules import Rule
from evaluation.report.verdict import print_verdict
from evaluation.results import AuditResult
from evaluation.writing import write_text

GATE, GATE_TAG = "gate.json", "gate"
PROG = "python -m evaluation.gate"
RULES = """A rule says what must not be:  NAME [PLACE] OPERATOR NUMBER
  leakage.gender.max > 0.60             rows leakage/gender/embedding/max, leakage/gender/features/max
  leakage.gender.max[openmoji] > 0.60   on one split; [eraser off] of one system, [woman] of one group,
                                        [test, eraser off] of both; without, all test splits and groups
                                        of what a user of the model gets: eraser on, where it has one
  retrieval.i2t_recall_10 - baseline < -0.02    a difference from --baseline RUN
NAME is parts of a row's name in order, from its first part on; parts in between may be left out. Rows of
changes (max_change) are meant only where they are named. A part that holds a dot: a/b.c/max.

Three readings of one bound, from lenient to strict (.low may stand behind the brackets too):
  leakage.gender.max.low > 0.60    fails if the whole 95% interval lies beyond: shown to be bad
  leakage.gender.max > 0.60        fails if the estimate does
  leakage.gender.max.high > 0.60   fails unless the whole interval lies within: not shown to be good
(of a lower bound, .high < 0.25 is the lenient and .low < 0.25 the strict one)
and besides .p, the p-value (adjusted where the audit adjusts it), and .n, the observations. Of a difference,
.low and .high are the ends of its interval: leakage.gender.max.low - baseline > 0 fails on an increase that
is shown. A rule is broken if any row breaks it; one that no row can answer is an error, never a pass."""
DESCRIPTION = f"""Hold an audit to the rules of a release: exit code 3 and the failing rows if one is broken.

  {PROG} runs/NAME --fail-if 'leakage.gender.max > 0.60'
      RUN is a folder of a training run or an audit, an audit.json, or an MLflow run id
  {PROG} audits/NAME --baseline runs/LAST --fail-if 'retrieval.i2t_recall_10 - baseline < -0.02'
      --fail-if may be given several times; in YAML, fail_if is a list
  python -m evaluation.audit --model DIR ... --fail-if RULE
      the same at the end of an audit

{RULES}

The verdict is written to gate.json beside the audit; an MLflow run is tagged gate: passed or failed.

Exit codes: 0 passed, 1 failed to work, 2 wrong usage, 3 a rule is broken.
"""


@dataclass
class GateCommand:
    """Judge an audit.

    Attributes:
        run: what is judged, as above.
        fail_if: a rule; give the flag once for each.
        baseline: the RUN that rules with "- baseline" compare with.
    """

    run: str
    fail_if: list[str] = field(default_factory=list)
    baseline: str | None = None


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Rules, and the audit that regressions are measured from."""

    rules: tuple[Rule, ...]
    baseline: Stored | None

    @classmethod
    def checked(
        cls, fail_if: Sequence[str], baseline: str | None, *, families: Collection[str] | None = None
    ) -> Gate:
        """The gate that flags ask for; ``families`` are those an audit is going to measure, if known.

        Raises:
            UsageError: a rule that is none or can never be answered; a baseline that is missing or idle.
        """
        rules = tuple(Rule.parse(text) for text in fail_if)
        refuse_early(rules, families)
        regressions = [rule for rule in rules if rule.regression]
        if regressions and baseline is None:
            raise UsageError(f"--fail-if {regressions[0].text!r} needs --baseline RUN")
        if baseline is not None and not regressions:
            raise UsageError(
                f"--baseline {baseline}: no rule reads it, expected --fail-if 'NAME - baseline …'"
            )
        return cls(rules=rules, baseline=stored_audit(baseline) if baseline else None)

    def verdict(self, result: AuditResult) -> Verdict:
        """What the rules say of an audit.

        Raises:
            UsageError: a rule that no row answers.
        """
        try:
            judged = judge(self.rules, result, self.baseline.result if self.baseline else None)
        except UsageError as error:
            if failed := result.provenance.get("failed"):
                raise UsageError(f"{error}; metrics that failed in the audit: {', '.join(failed)}") from error
            raise
        return Verdict(rules=self.rules, judged=judged, baseline=self._about_baseline(result))

    def _about_baseline(self, result: AuditResult) -> dict[str, Any] | None:
        if self.baseline is None:
            return None
        there, here = self.baseline.result.data.get("digest"), result.data.get("digest")
        return {
            "name": self.baseline.spec,
            "model_digest": self.baseline.result.model.get("digest"),
            "data_digest": there,
            "judged_on": here,
            "same_data": there == here,
        }


def main(argv: Sequence[str]) -> None:
    """Read rules and audits, judge, tell."""
    config, _ = parse(
        GateCommand, argv, prog=PROG, description=DESCRIPTION, words="run", repeatable=("fail_if",)
    )
    if not config.fail_if:
        raise UsageError(f"{PROG} needs a rule: --fail-if 'leakage.gender.max > 0.60'")
    gate = Gate.checked(config.fail_if, config.baseline)
    stored = stored_audit(config.run)
    conclude(gate.verdict(stored.result), folder=stored.folder, run_id=None if stored.folder else stored.spec)


def conclude(verdict: Verdict, *, folder: Path | None, run_id: str | None = None) -> None:
    """Print a verdict; keep it beside the audit, and in the MLflow run that the folder or ``run_id`` names.

    Raises:
        GateFailed: a rule is broken.
    """
    if verdict.baseline and not verdict.baseline["same_data"]:
        here, there = verdict.baseline["judged_on"], verdict.baseline["data_digest"]
        say(f"note: {verdict.baseline['name']} was audited on other data ({there}, here {here}): unpaired")
    print_verdict(verdict, console)
    written = {"created": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", **verdict.to_json()}
    text = json.dumps(written, indent=1, ensure_ascii=False, allow_nan=False)
    with _noted(GATE):
        if folder:
            _write(folder, text, verdict.word)
    with _noted("MLflow"):
        if run_id := run_id or (recorded_run(folder) if folder else None):
            annotate(run_id, tags={GATE_TAG: verdict.word}, texts={GATE: text})
    if not verdict.passed:
        raise GateFailed(f"gate failed: {verdict.summary}")


@contextmanager
def _noted(place: str) -> Iterator[None]:
    """A verdict stands, whether or not it can be kept everywhere."""
    try:
        yield
    except (CommandError, OSError) as error:
        say(f"note: the verdict is not in {place}: {error}")


def _write(folder: Path, text: str, word: str) -> None:
    """Write ``GATE``, and note it in the journal of what MLflow is told, where there is one."""
    write_text(folder / GATE, text)
    journal = Journal(folder)
    if journal.begun:
        others = [entry for entry in journal.read()["artifacts"] if entry["path"] != GATE]
        journal.note(tags={GATE_TAG: word}, artifacts=[*others, {"path": GATE, "under": ""}])


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
