"""Why a model of another library cannot be loaded, in one line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from safetensors import SafetensorError

from clip_lite.errors import UsageError

UNREACHED = (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError, TimeoutError, URLError)
LOADING_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    ImportError,
    RuntimeError,
    TypeError,
    AttributeError,
    AssertionError,
    SafetensorError,
    UnpicklingError,
)


@contextmanager
def loading(name: str) -> Iterator[None]:
    """What a library raises while it loads ``name`` becomes one ``UsageError``; its own log is silent.

    Raises:
        UsageError: the library failed.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    except LOADING_ERRORS as error:
        raise UsageError(why(name, error)) from error
    finally:
        logging.disable(before)


def why(name: str, error: Exception) -> str:
    """One line on why ``name`` could not be loaded; a hub that is out of reach is told from a bad model."""
    if any(isinstance(each, UNREACHED) for each in _chain(error)):
        return (
            f"{name}: the hub is out of reach and its cache has no such model; a local directory with the "
            f"model works without it"
        )
    if any(isinstance(each, UnpicklingError) for each in _chain(error)):
        return f"{name} cannot be loaded: its weights hold more than numbers, which could run code"
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{name} cannot be loaded: {reason}"


def check_safetensors(folder: Path) -> None:
    """Refuse a directory whose weights are not in safetensors, for other formats can run code.

    Raises:
        UsageError: there are none.
    """
    if not any(folder.glob("*.safetensors")):
        raise UsageError(f"{folder} has no *.safetensors: weights in other formats are not loaded")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
