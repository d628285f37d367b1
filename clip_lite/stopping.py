"""SIGTERM as a request: a scheduler that wants the machine back gets a checkpoint, not a loss."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopped(Exception):
    """The training was asked to stop, and everything needed to continue is on disk."""


@contextmanager
def stop_on_sigterm() -> Iterator[Callable[[], bool]]:
    """Yield ``asked()``: whether SIGTERM has arrived since. Outside the main thread it never has."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
