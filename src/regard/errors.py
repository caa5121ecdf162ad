"""The exceptions of regard: every failure a user can cause or meet, and its exit code.

    RegardError
    ├── ConfigError     a setting, an option or an output folder is wrong        exit 2
    ├── DataError       a file of text is missing, malformed or unsuitable       exit 3
    ├── WeightsError    a model folder or checkpoint is missing or damaged       exit 4
    ├── ResourceError   memory or disk does not suffice                          exit 5
    └── ShapeError      a tensor has the wrong shape, type or device             exit 1

A message says what was given, what is allowed and what to do next, on as few lines as it takes.
"""

from __future__ import annotations


class RegardError(Exception):
    """Base of every error that regard raises on purpose."""

    exit_code = 1


class ConfigError(RegardError):
    """A setting, an option or an output folder cannot be used as given."""

    exit_code = 2


class DataError(RegardError):
    """A file of text is missing, malformed or unsuitable for the task."""

    exit_code = 3


class WeightsError(RegardError):
    """A model folder or a checkpoint is missing, incomplete or damaged."""

    exit_code = 4


class ResourceError(RegardError):
    """Memory or disk space does not suffice for what was asked."""

    exit_code = 5


class ShapeError(RegardError, ValueError):
    """A tensor argument has a shape, type or device that the operation cannot take."""
