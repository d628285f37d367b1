"""The ways a command ends badly, each one line and one exit code."""

from __future__ import annotations


class CommandError(Exception):
    """A failure that is explained to the person in one line."""

    exit_code = 1


class UsageError(CommandError):
    """The request itself was wrong: an unknown name, a missing file, a value out of range."""

    exit_code = 2


class GateFailed(CommandError):
    """The work is done and written, and what was measured breaks a rule of the release gate."""

    exit_code = 3
