"""Command lines: typed configuration in, one clear line and an exit code out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter

from clip_lite.errors import CommandError, UsageError

C = TypeVar("C")
WITHOUT_VALUE = ("help", "print_config")


class HelpFormatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Options as jsonargparse shows them, the description as it is written."""


def shipped_config(name: str) -> Path:
    """Path of a configuration that comes with the package, installed or in a checkout."""
    package = Path(__file__).parent
    installed = package / "configs" / name
    return installed if installed.exists() else package.parent / "configs" / name


def parse(
    schema: type[C],
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    default_config: Path | None = None,
    repeatable: Collection[str] = (),
    words: str | None = None,
) -> tuple[C, str]:
    """Build ``schema`` from flags and YAML; also return the complete configuration as YAML.

    Args:
        default_config: holds where no ``--config`` is given; without it, the schema's own defaults do.
        repeatable: keys of lists to which every flag adds one item, after those of the YAML.
        words: key that words without a flag before them belong to.

    Raises:
        UsageError: unknown key, wrong type or missing file; the message names the key.
    """
    own_config = any(arg == "--config" or arg.startswith("--config=") for arg in argv)
    parser = ArgumentParser(
        prog=prog,
        description=description,
        usage=" ".join([prog, *([words.upper()] if words else []), "[--config FILE] [--key value ...]"]),
        formatter_class=HelpFormatter,
        exit_on_error=False,
        allow_abbrev=False,
        default_config_files=[] if own_config or default_config is None else [str(default_config)],
    )
    parser.add_argument("--config", action="config", help="YAML file; flags after it override it")
    parser.add_class_arguments(schema, as_group=False)
    try:
        namespace = parser.parse_args(list(_spelled(argv, repeatable, words)))
    except ArgumentError as error:
        message = " ".join(str(error).split())
        raise UsageError(f"{message} (see {prog} --help)") from error
    text = parser.dump(namespace)
    namespace.pop("config", None)
    return schema(**vars(parser.instantiate(namespace))), text


def _spelled(argv: Sequence[str], repeatable: Collection[str], words: str | None) -> Iterator[str]:
    """Flags as jsonargparse has them: underscores for dashes, ``+`` after what may be repeated."""
    free = True  # no flag before it waits for a value
    for arg in argv:
        if arg.startswith("--"):
            flag, equals, value = arg.partition("=")
            key = flag.removeprefix("--").replace("-", "_")
            yield f"--{key}{'+' * (key in repeatable)}{equals}{value}"
            free = bool(equals) or key in WITHOUT_VALUE
        elif free and words and not arg.startswith("-"):
            yield f"--{words}{'+' * (words in repeatable)}={arg}"
        else:
            yield arg
            free = True


def guarded(main: Callable[[], None]) -> int:
    """Run ``main``; explain a ``CommandError`` or a failing disk in one line, and return the exit code."""
    try:
        main()
    except CommandError as error:
        if not (isinstance(error, UsageError) and os.environ.get("RANK", "0") != "0"):  # all processes agree
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"error: {error.strerror or error}{where}", file=sys.stderr)
        return CommandError.exit_code
    except KeyboardInterrupt:
        print("interrupted: what was written so far is kept", file=sys.stderr)
        return 130
    return 0
