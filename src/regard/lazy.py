"""Public names and entries of registries that are imported when they are first used.

A command needs one task, one family, and no optimizer, or one: importing all of them took longer
than translating a sentence.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")


class _LazyPackage(ModuleType):
    """A package whose public names are imported from its modules when they are first used."""

    _module_of_name: dict[str, str]
    _packages: Sequence[str]

    def __getattr__(self, name: str) -> Any:
        if name in self._packages:
            return import_module(f"{self.__name__}.{name}")
        module = self._module_of_name.get(name)
        if module is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(import_module(module), name)
        super().__setattr__(name, value)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        # Python sets a module as an attribute of its package once it is imported; a function that
        # has the name of its module goes first.
        if not (isinstance(value, ModuleType) and name in self._module_of_name):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._module_of_name, *self._packages})


def import_lazily(package: str, packages: Sequence[str] = ()) -> None:
    """Let a package import its public names when they are first used.

    These are the names that it imports from regard's modules under ``if TYPE_CHECKING``.

    Args:
        package: Its ``__name__``.
        packages: Names of the packages in it that are public.
    """
    module = sys.modules[package]
    module.__dict__["_module_of_name"] = dict(_type_checked_names(module))
    module.__dict__["_packages"] = packages
    module.__class__ = _LazyPackage


def _type_checked_names(package: ModuleType) -> Iterator[tuple[str, str]]:
    """Yield each name that a package imports from regard for type checkers, and its module.

    Raises:
        ImportError: The source of the package was left out where it was installed.
    """
    loader: Any = package.__loader__
    source = loader.get_source(package.__name__)
    if source is None:
        raise ImportError(f"{package.__name__}: its source is missing. Install regard with it.")
    blocks = (node for node in ast.parse(source).body if isinstance(node, ast.If))
    block = next(node for node in blocks if ast.unparse(node.test) == "TYPE_CHECKING")
    for node in block.body:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("regard."):
            yield from ((name.name, str(node.module)) for name in node.names)


def load(dotted_name: str) -> Any:
    """Return what a dotted name such as ``regard.optim.muon.Muon`` is, its module imported."""
    module, _, name = dotted_name.rpartition(".")
    return getattr(import_module(module), name)


class Registry(MutableMapping[str, T]):
    """Entries by name; one that is a dotted name is imported when it is first used.

    Args:
        entries: Values, or their dotted names, such as ``"regard.optim.muon.Muon"``.
    """

    def __init__(self, entries: Mapping[str, T | str]) -> None:
        self._entries: dict[str, Any] = dict(entries)

    def __getitem__(self, name: str) -> T:
        if isinstance(self._entries[name], str):
            self._entries[name] = load(self._entries[name])
        return self._entries[name]

    def import_all(self) -> None:
        """Import all entries now, as a graph that is traced cannot."""
        for name in self:
            self[name]

    def __setitem__(self, name: str, value: T) -> None:
        self._entries[name] = value

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __or__(self, other: Registry[Any]) -> Registry[T]:
        return Registry({**self._entries, **other._entries})

    def __repr__(self) -> str:
        return f"Registry({', '.join(self._entries)})"
