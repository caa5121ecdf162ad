"""The structs of a section of several kinds by tag, each loaded when it is first used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class TaggedStructs(Mapping[str, type[msgspec.Struct]], Generic[T]):
    """The structs of a section by tag: the type of a field, instead of a union of the structs.

    Args:
        tag_field: Name of the setting that selects one, such as ``family``.
        entries: An entry for each tag.
        struct_of: Returns the struct of an entry.
    """

    def __init__(
        self,
        tag_field: str,
        entries: Mapping[str, T],
        struct_of: Callable[[T], type[msgspec.Struct]],
    ) -> None:
        self.tag_field = tag_field
        self._entries, self._struct_of = entries, struct_of

    def __getitem__(self, tag: str) -> type[msgspec.Struct]:
        return self._struct_of(self._entries[tag])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
