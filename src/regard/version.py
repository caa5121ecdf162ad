"""The version of regard, which the installed package alone knows."""

from __future__ import annotations

from importlib import metadata


def installed_version() -> str:
    """Return the version of the installed package; ``unknown`` where there are sources alone."""
    try:
        return metadata.version("regard")
    except metadata.PackageNotFoundError:
        return "unknown"
