"""Fit an eraser, let the gate judge it, write it: ``python -m debias.fit``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from clip_lite.cli import guarded, parse
from clip_lite.editable import EditableEncoder
from clip_lite.errors import CommandError
from clip_lite.progress import say
from debias.attributes import ProtectedAttribute
from debias.calibration import CONTROL, Calibration, fit_eraser
from debias.eraser import FITTED_ON, Eraser
from debias.fit_request import FitConfig, checked_attribute, checked_model
from debias.fit_rows import calibration, read_rows, reads_captions
from debias.gate import Verdict, judge
from debias.groupwise import GroupwiseEraser
from debias.methods import describe_methods

PROG = "python -m debias.fit"
HELD_OUT = 0.2  # of the clusters: enough to see harm, and the fit keeps most of what its residual depends on
CONTROL_LINE = {CONTROL: "The control: removes random directions; leaves the attribute about as it was."}
METHODS = "\n".join(f"  {name}: {line}" for name, line in (describe_methods() | CONTROL_LINE).items())
DESCRIPTION = f"""Fit an eraser for a protected attribute, judge it on held-out clusters, write it to a
folder. Groups are read from captions, and no image needs a label; where rows have labels of their own,
methods other than caption_leace go by these.

  {PROG} --model runs/NAME/model --attribute gender --output erasers/gender
      a model trained here, on the training pictures of the embedded corpus
  {PROG} --model DIR --data.source coco --data.root /data/coco --attribute gender --output DIR
  {PROG} --vectors clip.npy --captions clip.jsonl --attribute gender --output DIR
      vectors of any model, one line of JSON per row: ["a man in the rain", ...], or
      {{"captions": [...], "cluster": "photo 7", "group": "man", "task": "cooking"}}
  {PROG} --model hf:openai/clip-vit-base-patch32 --data.source coco --data.root /data/coco
      --attribute gender --output erasers/clip --save_model models/clip-gender
      a model of transformers, open_clip or timm (python -m evaluation.audit --help says how they are named),
      written once more with its eraser: load_encoder("models/clip-gender") has it
  {PROG} --model DIR --data.source fairface --data.root DIR --attribute race --method leace --output DIR
      by labels, where pictures have no captions
  {PROG} --model DIR --attribute gender --method text_pca --options.k 2 --output DIR

Then, in Python: Eraser.load(DIR)(vectors), or model.attach({{"embedding": Eraser.load(DIR)}}).

Methods:
{METHODS}

Exit codes: 0 written, 1 the gate abstains (nothing is written) or the work failed, 2 wrong usage.
"""


def main(argv: Sequence[str]) -> None:
    """Configure → vectors with captions → groups → fit → judge → write → tell."""
    config, _ = parse(FitConfig, argv, prog=PROG, description=DESCRIPTION)
    attribute = checked_attribute(config)
    model = checked_model(config)
    if model:
        model.erase = False  # fitted on what the model itself gives, by words as they are written
    rows = read_rows(config, attribute, model)
    fitted_on, held_out = calibration(config, rows, attribute).split(HELD_OUT, config.seed)
    eraser = fit(config, fitted_on, attribute, model)
    verdict = judge(eraser, fitted_on, groups=attribute.groups, held_out=held_out, seed=config.seed)
    source = "captions" if reads_captions(config, rows) else "the rows' own labels, else captions"
    tell_labelled(eraser, source)
    if verdict.decision == "abstain" and not config.force:
        reasons = "; ".join(verdict.reasons)
        raise CommandError(f"the gate abstains and nothing is written (--force true writes): {reasons}")
    eraser.details |= provenance(config) | ({FITTED_ON: rows.digest} if rows.digest else {})
    eraser.details |= {
        "groups_read_from": source,
        "held_out": len(held_out),
        "gate": verdict.to_json(),
    }
    eraser.save(config.output)
    tell(eraser, verdict, config)
    if model and config.save_model:
        save_model(model, eraser, config)


def save_model(model: EditableEncoder, eraser: Eraser, config: FitConfig) -> None:
    """Write the model once more, with the eraser in it.

    Raises:
        CommandError: the eraser needs the group of every picture.
    """
    assert config.save_model is not None
    try:
        model.attach({**model.attached, config.on: eraser})
    except ValueError as error:
        raise CommandError(f"--save_model: {error}") from error
    model.save_pretrained(config.save_model)
    say(
        f'model with its eraser: {config.save_model.resolve()}; load_encoder("{config.save_model}") has it on'
    )
    if config.on == "features":
        say(
            "note: it edits tower features alone; zero-shot and retrieval compare embeddings, which stay as "
            "they are"
        )


def fit(
    config: FitConfig, rows: Calibration, attribute: ProtectedAttribute, model: EditableEncoder | None
) -> Eraser:
    """The eraser.

    Raises:
        CommandError: what the method refuses.
    """
    try:
        return fit_eraser(
            config.method,
            rows,
            attribute=attribute,
            encode_text=model.encode_text if model else None,
            options=config.options,
        )
    except ValueError as error:
        raise CommandError(f"{config.method}: {error}") from error


def provenance(config: FitConfig) -> dict[str, Any]:
    """Where the rows came from, for the eraser's ``details``."""
    source = {"vectors": str(config.vectors)} if config.vectors else {"data": config.data.source}
    return {**source, "model": config.model, "on": config.on, "seed": config.seed}


def tell_labelled(eraser: Eraser, source: str) -> None:
    """How many rows of each group the eraser was fitted on."""
    details = eraser.details
    say(f"groups are read from {source}")
    for group, count in details["labelled"].items():
        say(f"{group}: {count:,} labelled in {details['clusters'][group]:,} clusters")
    say(f"dropped: {details['dropped']:,} that name no group or several; the gate holds out {HELD_OUT:.0%}")


def tell(eraser: Eraser, verdict: Verdict, config: FitConfig) -> None:
    """What was written and how to use it."""
    say(f"{eraser.method}: {eraser.rank} of {eraser.dim} directions")
    say(str(verdict))
    if verdict.enough:
        say(f"enough for a residual of 10%: {verdict.enough:,} labelled images")
    load = f'Eraser.load("{config.output}")'
    say(f"eraser: {config.output.resolve()}")
    if isinstance(eraser, GroupwiseEraser):
        say(f"use it: {load}(vectors, groups), with the group index of every row")
    elif config.vectors:
        say(f"use it: {load}(vectors)")
    else:
        say(f'use it: model.attach({{**model.attached, "{config.on}": {load}}})')


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
