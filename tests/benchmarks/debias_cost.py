"""What ``--debias gender`` adds to a step: ``python tests/benchmarks/debias_cost.py``, about 5 minutes.

The real loop (order, decoding, augmentation, captions, step, numbers) of the default configuration without
debias, with it (neutral captions, matched negatives), and with the HSIC term besides; in turns.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from common import configured, loop_steps, machine, ratio, take_turns

from clip_lite.build import build
from clip_lite.config import TrainConfig
from clip_lite.data.corpora import load_corpus
from clip_lite.mitigate import extra_terms, speech_of
from debias import ProtectedAttribute

STEPS = 4
PLAIN = configured()
DEBIAS = replace(PLAIN, debias="gender")
SETTINGS: dict[str, TrainConfig] = {
    "plain": PLAIN,
    "--debias gender": DEBIAS,
    "with the hsic term": replace(DEBIAS, mitigation=replace(DEBIAS.mitigation, term="hsic")),
}


def main() -> None:
    """Print milliseconds a step and ratios."""
    gender = ProtectedAttribute.load("gender")
    pairs = load_corpus(PLAIN.data).splits["train"]
    runs = {}
    for name, config in SETTINGS.items():
        built = build(
            config,
            pairs,
            torch.device("cpu"),
            speech=speech_of(gender, config),
            extra_terms=extra_terms(config),
        )
        built.step.objective.train()
        runs[name] = loop_steps(built, STEPS)
    taken = take_turns(runs, rounds=40)
    for name, seconds in taken.items():
        print(f"{name}: {statistics.median(seconds) / STEPS * 1e3:.1f} ms a step")
    for name in list(SETTINGS)[1:]:
        print(f"{name} / plain: {ratio(taken, name, 'plain')}, goal 1.03")


if __name__ == "__main__":
    print(machine())
    main()
