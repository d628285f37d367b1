"""The vectors that ``python -m debias.fit`` fits on, with their groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clip_lite.data.corpora import load_corpus
from clip_lite.editable import EditableEncoder
from clip_lite.errors import CommandError, UsageError
from clip_lite.precision import resolve_device
from debias.attribute_file import MIXED, NONE
from debias.attributes import ProtectedAttribute
from debias.calibration import CAPTION_METHOD, Calibration, needs_task
from debias.fit_request import FitConfig
from debias.vector_files import CaptionedVectors, read_vectors
from evaluation.embed import embed


def read_rows(
    config: FitConfig, attribute: ProtectedAttribute, model: EditableEncoder | None
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
    data = replace(config.data, image_size=model.image_size)
    corpus = load_corpus(data, prepare=model.prepare).limited(train=data.fit_pictures)
    if config.method == CAPTION_METHOD and not corpus.captioned:
        raise UsageError(
            f"--method {CAPTION_METHOD} reads captions, which {corpus.name} does not have: --method leace "
            "goes by its labels"
        )
    table, device = corpus.splits["train"], resolve_device(config.device, key="--device")
    image = embed(model.to(device), table, "reading training pictures", device=device)
    task = corpus.role or corpus.classification or ""
    return CaptionedVectors(
        getattr(image, config.on),
        [list(record.captions) for record in table.records],
        table.clusters,
        [attribute.group_in(record.attributes) for record in table.records],
        [record.attributes.get(task) for record in table.records],
        table.digest,
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
