"""Values of a column of Arrow as JSON can have them: bytes as text, labels by their names."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple

from regard.data.readers.row_encoder import name_infinite
from regard.errors import DataError

_MEDIA = {
    **dict.fromkeys((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*"), "images"),
    **dict.fromkeys((b"RIFF", b"ID3", b"fLaC", b"OggS"), "recordings"),
}
"""What bytes are by their beginning; WebP begins as WAV does."""
_WEBP = slice(8, 12)


class ArrowColumn(NamedTuple):
    """A column of a table, in all of its batches.

    Args:
        number: Its index in a batch.
        name: Its name.
        label_names: Names of the labels that it has as numbers; empty for any other column.
    """

    number: int
    name: str
    label_names: Sequence[str] = ()

    def values(self, array: Any, locate: Callable[[int], str]) -> list[Any]:
        """Return the values of an array of pyarrow.

        Args:
            array: The column in a batch.
            locate: Returns where a row of the batch is, for messages.

        Raises:
            DataError: A text is not UTF-8, or a label has no name.
        """
        pyarrow = import_module("pyarrow")
        kind = array.type
        if pyarrow.types.is_timestamp(kind) and kind.unit == "ns":
            array = array.cast(pyarrow.timestamp("us", kind.tz), safe=False)
        try:
            values = array.to_pylist()
        except UnicodeDecodeError as error:
            row = next(row for row in range(len(array)) if not _is_unicode(array[row]))
            raise DataError(
                f"{locate(row)}: column {self.name} is not UTF-8.  Write the table again."
            ) from error
        if self.label_names:
            return [self._label_of(value, row, locate) for row, value in enumerate(values)]
        return list(map(_plain_value, values)) if _may_differ(array) else values

    def _label_of(self, value: object, row: int, locate: Callable[[int], str]) -> object:
        """Return the name of a label, or of those of a list; -1 is no label for ``datasets``."""
        if isinstance(value, list):
            return [self._label_of(item, row, locate) for item in value]
        if value is None or value == -1:
            return None
        if isinstance(value, int) and 0 <= value < len(self.label_names):
            return self.label_names[value]
        raise DataError(
            f"{locate(row)}: column {self.name} holds {value}, and the file has names of labels "
            f"for 0 to {len(self.label_names) - 1}."
        )


def read_label_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """Return the names of labels that ``datasets`` keeps in the metadata of a table, by column."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {
            name: list(map(str, label["names"]))
            for name, feature in features.items()
            if isinstance(label := _item_of(feature), dict) and label.get("_type") == "ClassLabel"
        }
    return {}


def _item_of(feature: object) -> object:
    """Return what a feature of ``datasets`` has a list of, in each of its forms; else itself."""
    if isinstance(feature, list) and len(feature) == 1:
        return feature[0]
    if isinstance(feature, dict) and feature.get("_type") in ("Sequence", "List", "LargeList"):
        return feature.get("feature")
    return feature


def media_of(value: object) -> str:
    """Return ``images`` or ``recordings`` where a value is one, or an object that holds one.

    >>> media_of({"bytes": b"\\x89PNG...", "path": "a.png"}), media_of(b"text")
    ('images', '')
    """
    if isinstance(value, dict):
        return next(filter(None, map(media_of, value.values())), "")
    if not isinstance(value, bytes):
        return ""
    if value[_WEBP] == b"WEBP":
        return "images"
    return next((media for start, media in _MEDIA.items() if value.startswith(start)), "")


def _may_differ(array: Any) -> bool:
    """Return whether a value of an array may be bytes, or is infinite."""
    types = import_module("pyarrow").types
    kind = array.type
    if types.is_float32(kind) or types.is_float64(kind):
        compute = import_module("pyarrow.compute")
        return compute.any(compute.is_inf(array)).as_py() is True
    return not (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_integer(kind)
        or types.is_boolean(kind)
        or types.is_temporal(kind)
    )


def _is_unicode(scalar: Any) -> bool:
    """Return whether a value of pyarrow has no text that is not UTF-8."""
    with suppress(UnicodeDecodeError):
        scalar.as_py()
        return True
    return False


def _plain_value(value: object) -> object:
    """Return a value with text for bytes that are UTF-8, else their number under ``bytes``.

    Infinite numbers have their names.
    """
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            return value.decode()
        return {"bytes": len(value)}
    if isinstance(value, dict):
        return {key: _plain_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return list(map(_plain_value, value))
    return name_infinite(value)
