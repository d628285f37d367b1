"""Fit an eraser, let the gate judge it, write it: ``python -m debias.fit``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from clip_lite.cli import guarded, parse
from clip_lite.config import DataConfig, TrainConfig
from clip_lite.config_checks import problems
from clip_lite.data.sources import load_corpus
from clip_lite.errors import CommandError, UsageError
from clip_lite.model import DualEncoder
from clip_lite.precision import resolve_device
from clip_lite.progress import say
from debias.attribute_file import MIXED, NONE
from debias.attributes import ProtectedAttribute
from debias.calibration import (
    CAPTION_METHOD,
    CONTROL,
    Calibration,
    check_method,
    fit_eraser,
    needs_task,
)
from debias.eraser import Eraser
from debias.gate import Verdict, judge
from debias.groupwise import GroupwiseEraser
from debias.methods import TEXT_METHODS, describe_methods
from debias.vector_files import CaptionedVectors, read_vectors
from evaluation.embed import embed

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
  {PROG} --model DIR --attribute gender --method text_pca --options.k 2 --output DIR

Then, in Python: Eraser.load(DIR)(vectors), or model.attach({{"embedding": Eraser.load(DIR)}}).

Methods:
{METHODS}

Exit codes: 0 written, 1 the gate abstains (nothing is written) or the work failed, 2 wrong usage.
"""


@dataclass
class FitConfig:
    """Fit an eraser.

    Attributes:
        attribute: a shipped name (gender), an intersection (gender*skin_tone) or the path of a YAML file.
        output: new folder for the eraser.
        method: one of those above.
        options: keyword arguments of the method, e.g. --options.k 2 or --options.strength 0.5.
        model: folder of a trained model; not needed with --vectors, but for methods that read word pairs.
        on: what of the model is edited.
        vectors: a .npy of (n, d), in place of the model's embedding of --data.
        captions: .jsonl with a line per row of --vectors.
        data: pictures with captions; their training split is read, at the model's size.
        force: write the eraser although the gate abstains.
        device: "auto" takes CUDA where there is one.
        seed: of the held-out clusters and of the gate's bootstrap.
    """

    attribute: str
    output: Path
    method: str = CAPTION_METHOD
    options: dict[str, Any] = field(default_factory=dict)
    model: Path | None = None
    on: Literal["embedding", "features"] = "embedding"
    vectors: Path | None = None
    captions: Path | None = None
    data: DataConfig = field(default_factory=DataConfig)
    force: bool = False
    device: str = "auto"
    seed: int = 0


def main(argv: Sequence[str]) -> None:
    """Configure → vectors with captions → groups → fit → judge → write → tell."""
    config, _ = parse(FitConfig, argv, prog=PROG, description=DESCRIPTION)
    attribute = checked_attribute(config)
    model = DualEncoder.from_pretrained(config.model) if config.model else None
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
    eraser.details |= provenance(config) | {
        "groups_read_from": source,
        "held_out": len(held_out),
        "gate": verdict.to_json(),
    }
    eraser.save(config.output)
    tell(eraser, verdict, config)


def checked_attribute(config: FitConfig) -> ProtectedAttribute:
    """The attribute of a request that can be served.

    Raises:
        UsageError: naming what is wrong or missing.
    """
    if (config.vectors is None) != (config.captions is None):
        raise UsageError("--vectors and --captions go together: a .npy of (n, d) and a .jsonl of n lines")
    if config.model is None and (config.vectors is None or config.method in TEXT_METHODS):
        needed = (
            f"--method {config.method} reads word pairs and" if config.vectors else "without --vectors it"
        )
        raise UsageError(f"{needed} needs --model DIR")
    for path in (config.output, *config.output.parents):
        if path.exists() and not path.is_dir():
            raise UsageError(f"--output {config.output}: {path} is a file, choose a new folder")
    if config.output.is_dir() and any(config.output.iterdir()):
        raise UsageError(f"--output {config.output} is not empty: choose a new folder")
    if wrong := list(problems(TrainConfig(data=config.data, seed=config.seed))):
        raise UsageError("; ".join(wrong))
    try:
        check_method(config.method, config.options)
        return ProtectedAttribute.load(config.attribute)
    except ValueError as error:
        raise UsageError(str(error)) from error


def read_rows(
    config: FitConfig, attribute: ProtectedAttribute, model: DualEncoder | None
) -> CaptionedVectors:
    """Vectors with what is said of them: from files, or the model's of the training pictures.

    Raises:
        UsageError, CommandError: files or a corpus that are not there or not what they should be.
    """
    if config.vectors and config.captions:
        try:
            rows = read_vectors(config.vectors, config.captions)
        except ValueError as error:
            raise UsageError(str(error)) from error
        except OSError as error:
            raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from error
        return rows._replace(groups=known_groups(config, rows, attribute))
    assert model is not None
    data = replace(config.data, image_size=model.settings["image_size"])
    corpus = load_corpus(data).limited(train=data.fit_pictures)
    table, device = corpus.splits["train"], resolve_device(config.device, key="--device")
    image = embed(model.to(device), table, "reading training pictures", device=device)
    task = corpus.role or corpus.classification or ""
    return CaptionedVectors(
        getattr(image, config.on),
        [list(record.captions) for record in table.records],
        table.clusters,
        [attribute.group_in(record.attributes) for record in table.records],
        [record.attributes.get(task) for record in table.records],
    )


def known_groups(
    config: FitConfig, rows: CaptionedVectors, attribute: ProtectedAttribute
) -> list[str | None]:
    """The rows' own labels as groups of the attribute.

    Raises:
        UsageError: a label that is none of them.
    """
    named = [attribute.group_in({attribute.name: label}) if label else None for label in rows.groups]
    for line, group in enumerate(named, start=1):
        if group is not None and group not in (*attribute.groups, MIXED, NONE):
            raise UsageError(
                f"{config.captions}, line {line}: group is {group!r}, expected "
                f"{', '.join(attribute.groups)}, {MIXED} or {NONE}"
            )
    return named


def calibration(config: FitConfig, rows: CaptionedVectors, attribute: ProtectedAttribute) -> Calibration:
    """The rows with their groups: what captions say; for other methods a row's own label, if there is one.

    Raises:
        CommandError: fewer than two groups are there.
    """
    z = attribute.indices(rows.captions).numpy()
    if not reads_captions(config, rows):
        place = {group: index for index, group in enumerate(attribute.groups)}
        own = [place.get(group, -1) if group else said for group, said in zip(rows.groups, z, strict=True)]
        z = np.array(own, dtype=np.int64)
    y = rows.task_indices() if needs_task(config.method) else None
    if y is not None and len(np.unique(y[y >= 0])) < 2:
        raise UsageError(
            f"--method {config.method} needs rows of at least two tasks: give lines the key task"
        )
    found = Calibration(rows.x, z, rows.clusters, y)
    if len(np.unique(found.labelled.z)) < 2:
        counts = dict(zip(attribute.groups, found.counts(len(attribute.groups)).tolist(), strict=True))
        raise CommandError(f"attribute {attribute.name}: two groups are needed, labelled rows are {counts}")
    return found


def reads_captions(config: FitConfig, rows: CaptionedVectors) -> bool:
    """Whether groups are read from captions: no label is given, or the method wants none."""
    return config.method == CAPTION_METHOD or not any(rows.groups)


def fit(
    config: FitConfig, rows: Calibration, attribute: ProtectedAttribute, model: DualEncoder | None
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
    return {**source, "model": config.model and str(config.model), "on": config.on, "seed": config.seed}


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
