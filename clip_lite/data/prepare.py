"""Write a corpus as WebDataset shards, and back: ``python -m clip_lite.data.prepare``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, get_args

import numpy as np

from clip_lite.cli import guarded
from clip_lite.config import DataConfig, SourceName, TrainConfig
from clip_lite.config_checks import problems
from clip_lite.data.coco_export import write_coco
from clip_lite.data.corpora import describe_sources, load_corpus
from clip_lite.data.pairs import Corpus
from clip_lite.data.reading import Reading
from clip_lite.data.shard_writer import file_digest, write_shards
from clip_lite.data.sources.webdataset import MANIFEST, load_webdataset, read_manifest
from clip_lite.errors import CommandError, UsageError
from clip_lite.progress import say, track

PROG = "python -m clip_lite.data.prepare"
DESCRIPTION = f"""Say what can be read; write a corpus as WebDataset shards, turn shards into a COCO Captions
folder, check digests.

  {PROG} sources
      every data.source: what lies in its folder, where to get it, under which licence
  {PROG} shards --source coco --root /data/coco --out /data/coco-shards
      train-*.tar, val-*.tar, test-*.tar and manifest.json; JPEGs are copied byte for byte
  {PROG} shards --source emoji --out emoji-shards
      the embedded corpus, drawn as PNG
  {PROG} coco --shards /data/coco-shards --out /data/coco-again
      annotations/ and picture folders that pycocotools and torchvision read
  {PROG} verify /data/coco-shards
      SHA-256 of every shard, against the manifest

Then train from them: python -m clip_lite.train --data.source webdataset --data.root /data/coco-shards ...
Exit codes: 0 done, 1 failed or damaged, 2 wrong usage.
"""


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing usage."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str]) -> None:
    """Run one of the commands."""
    arguments = _parser().parse_args(argv)
    if arguments.command == "sources":
        tell_sources()
    elif arguments.command == "shards":
        if arguments.source != "emoji" and not arguments.root:
            raise UsageError(f"--source {arguments.source} needs its folder: --root DIR")
        data = DataConfig(
            source=arguments.source,
            root=arguments.root,
            annotations=arguments.annotations,
            image_size=arguments.image_size,
            val_fraction=arguments.val_fraction,
            split_seed=arguments.split_seed,
        )
        if wrong := list(problems(TrainConfig(data=data))):
            raise UsageError("; ".join(wrong))
        to_shards(load_corpus(data), arguments.out, data=data, pairs_per_shard=arguments.pairs_per_shard)
    elif arguments.command == "coco":
        to_coco(arguments.shards, arguments.out)
    else:
        verify(arguments.folder)


def _parser() -> Parser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog=PROG, description=DESCRIPTION, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="sources|shards|coco|verify")
    defaults = DataConfig()
    commands.add_parser("sources", help="what can be read", description="List every data.source.")
    shards = commands.add_parser("shards", help="corpus → shards", description="Write a corpus as shards.")
    shards.add_argument(
        "--source",
        choices=[name for name in get_args(SourceName) if name != "webdataset"],
        required=True,
        metavar="NAME",
        help="where the pairs come from, see sources",
    )
    shards.add_argument("--root", type=Path, help="its folder")
    shards.add_argument("--annotations", type=Path, help="a file besides, as data.annotations")
    shards.add_argument("--out", type=Path, required=True, help="new folder for the shards")
    shards.add_argument("--pairs-per-shard", type=_positive, default=1000, help="default 1000")
    shards.add_argument(
        "--image-size", type=_positive, default=defaults.image_size, help="of drawn emoji, in pixels"
    )
    shards.add_argument(
        "--val-fraction", type=float, default=defaults.val_fraction, help="share kept for validation"
    )
    shards.add_argument("--split-seed", type=int, default=defaults.split_seed, help="seed of the split")
    coco = commands.add_parser(
        "coco", help="shards → COCO folder", description="Write shards as a COCO folder."
    )
    coco.add_argument("--shards", type=Path, required=True, help="folder of shards")
    coco.add_argument("--out", type=Path, required=True, help="new folder")
    check = commands.add_parser(
        "verify", help="check digests", description="Check shards against the manifest."
    )
    check.add_argument("folder", type=Path, help="folder of shards with its manifest")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


def tell_sources() -> None:
    """Print every source with its layout, address and licence."""
    for name, about in describe_sources().items():
        print(f"{name}\n    {about.title}: {about.layout}\n    {about.url}; licence: {about.licence}")


def to_shards(corpus: Corpus, out: Path, *, data: DataConfig, pairs_per_shard: int) -> None:
    """Write every split of a corpus; training pairs in a seeded random order. The manifest comes last.

    Raises:
        UsageError: ``out`` holds shards already, a split is empty, or pictures have no captions.
    """
    if not corpus.captioned:
        raise UsageError(f"{corpus.name} has no captions: shards hold pairs of pictures and captions")
    if empty := [split for split, table in corpus.splits.items() if not len(table)]:
        raise UsageError(f"split {empty[0]} is empty: raise --val-fraction")
    if any(out.glob("*.tar")) or (out / MANIFEST).exists():
        raise UsageError(f"--out {out} holds shards already: choose a new folder or remove that one")
    out.mkdir(parents=True, exist_ok=True)
    shards: dict[str, dict[str, Any]] = {}
    digests: dict[str, str] = {}
    for split, table in corpus.splits.items():
        order = np.arange(len(table))
        if split == "train":
            order = np.random.default_rng(data.split_seed).permutation(order)
        written, digests[split] = write_shards(
            table, order, out, split=split, pairs_per_shard=pairs_per_shard
        )
        shards |= written
    about = {
        "name": corpus.name,
        "sources": [dict(source) for source in corpus.sources],
        "limits": list(corpus.limits),
        "audited": corpus.audited.attribute,
        "canonical": corpus.canonical.attribute,
        "classification": corpus.classification,
        "role": corpus.role,
        "objects": corpus.objects,
        "templates": list(corpus.templates),
    }
    manifest = {"corpus": about, "made_with": asdict(data), "shards": shards, "digests": digests}
    partial = out / f".{MANIFEST}"
    partial.write_text(json.dumps(manifest, indent=1, ensure_ascii=False, default=str), encoding="utf-8")
    partial.replace(out / MANIFEST)
    say(f"{sum(s['pairs'] for s in shards.values())} pairs in {len(shards)} shards: {out.resolve()}")


def to_coco(shards: Path, out: Path) -> None:
    """Write the corpus of a folder of shards as COCO Captions.

    Raises:
        UsageError: ``out`` is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"--out {out} is not empty: choose a new folder or remove that one")
    corpus = load_webdataset(shards, Reading(size=64))
    write_coco(corpus, out)
    say(f"COCO Captions layout: {out.resolve()}")


def verify(folder: Path) -> None:
    """Compare shards with the manifest.

    Raises:
        UsageError: no manifest.
        CommandError: naming every file that differs.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise UsageError(f"{file} is missing: {folder} was not written by {PROG} shards")
    manifest = read_manifest(folder)
    shards = manifest["shards"]
    wrong = [
        f"{path.name} is not in the manifest" for path in folder.glob("*.tar") if path.name not in shards
    ]
    for name, about in track(shards.items(), "checking shards", len(shards)):
        path = folder / name
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif file_digest(path) != about["sha256"]:
            wrong.append(f"{name} has another SHA-256")
    if wrong:
        raise CommandError(f"{folder}: {'; '.join(sorted(wrong))}")
    say(f"{folder}: {len(manifest['shards'])} shards as in the manifest")


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
