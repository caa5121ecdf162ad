"""The settings that the user asks for: as typed, and those of a configuration file.

`regard.setup.resolve` decides all settings, from a request and facts. A configuration file that a
run has written also holds decided settings; only what was typed then, its ``settings``, counts as
chosen by the user.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from regard.data.readers.source import describe_open_error
from regard.errors import ConfigError
from regard.hub.file_names import CONFIG
from regard.models import EncoderDecoderConfig, ModelConfig
from regard.settings.binding import (
    Table,
    bind,
    check_names,
    convert_fields,
    from_toml,
    merge,
    parse_settings,
    parse_toml,
)
from regard.setup.config import PresetName, RunConfig

_DEVICE = "training.device"
_WRITTEN_BY_RUNS = {
    "data": ("labels", "mean", "std", "sha256", "split_rule"),
    "forecast": ("step", "cycles"),
}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the user set.

    Args:
        settings: Settings as typed, ``section.key=value`` each.
        table: All values that are set, including those of a file.
        explicit: Values that the user chose, as far as that is known.
    """

    settings: tuple[str, ...] = ()
    table: Table = {}
    explicit: Table = {}

    @classmethod
    def parse(
        cls,
        settings: Sequence[str],
        *,
        file: str | Path | None = None,
        paths: Mapping[str, str] = MappingProxyType({}),
    ) -> Request:
        """Return the request of settings, which override those of a configuration file.

        Args:
            settings: Settings as typed; a later one wins.
            file: A ``config.toml``.
            paths: Where the data is, by the name of its setting in section data.

        Raises:
            ConfigError: The file cannot be read or has a wrong setting, a setting has no value, or
                names other data than `paths`.
        """
        typed = parse_settings(settings)
        if not isinstance(typed.get("data", {}), dict):
            paths = {}  # a section set like a setting: `check_names` refuses it
        _check_paths(typed.get("data", {}), paths)
        table = {} if file is None else _read_file(Path(file))
        _drop_facts(table)
        earlier = table.pop("settings", None)
        _check_preset(typed, table, file)
        explicit = copy.deepcopy(table) if earlier is None else parse_settings(earlier)
        merge(explicit, typed)
        merge(table, typed)
        if paths:
            merge(table, {"data": dict(paths)})
        return cls(settings=(*(earlier or ()), *settings), table=table, explicit=explicit)

    @property
    def task(self) -> str | None:
        """The task that the user set; None leaves it to the data."""
        return str(self.table.get("task", "")) or None

    @property
    def start_from(self) -> str | None:
        """Folder of the weights to start from; None for random weights."""
        folder = self.table.get("start_from")
        return None if folder is None or folder == "none" else str(folder)

    def with_preset(self, preset: PresetName) -> Request | None:
        """Return the request with another preset; None where a configuration file has the sizes."""
        is_typed = any(setting.startswith("preset=") for setting in self.settings)
        if self.table.get("preset", "auto") != "auto" and not is_typed:
            return None
        preset_table = {"preset": preset}
        return msgspec.structs.replace(
            self, table=self.table | preset_table, explicit=self.explicit | preset_table
        )

    def bind_all_but_model(self, defaults: RunConfig) -> RunConfig:
        """Return `defaults` with every section of the request but the model's.

        The dimensions of the model depend on the data.

        Raises:
            ConfigError: A setting is unknown, or has a value that its type or check refuses.
        """
        rest = {name: value for name, value in self.table.items() if name != "model"}
        return bind(RunConfig, rest, defaults)

    def is_explicit(self, name: str) -> bool:
        """Whether the user chose a setting, such as ``training.average``."""
        table: Any = self.explicit
        for key in name.split("."):
            if not isinstance(table, dict) or key not in table:
                return False
            table = table[key]
        return True

    def model_values(self, default: ModelConfig) -> dict[str, Any]:
        """Return the dimensions of the model that are set, converted to the types of `default`."""
        return convert_fields(type(default), self._values("model"), "model")

    def check(self, defaults: RunConfig) -> RunConfig:
        """Check all settings before the data is read.

        The dimensions of the model are checked one by one: whether they fit together depends on
        the data.

        Args:
            defaults: The defaults of the task.

        Returns:
            The defaults with the family of the model and every other section of the request.

        Raises:
            ConfigError: A setting is unknown, or has a value that its type or check refuses.
        """
        check_names(RunConfig, self.table, defaults)
        draft = self.bind_all_but_model(defaults)
        family = self._values("model").get("family")
        if family is not None:
            draft = bind(RunConfig, {"model": {"family": family}}, draft)
        self.model_values(draft.model)
        if isinstance(draft.model, EncoderDecoderConfig):
            for part in ("encoder", "decoder"):
                values = self._values("model").get(part, {})
                convert_fields(type(getattr(draft.model, part)), values, f"model.{part}")
        return draft

    def first_change(self, saved: RunConfig) -> tuple[str, str, str] | None:
        """Return name, saved and requested value of a setting that differs from a saved one.

        A run may be resumed on another device.

        Raises:
            ConfigError: A setting is unknown, or has a value that its type or check refuses.
        """
        differences = _differences(saved, bind(RunConfig, self.table, saved))
        return next((change for change in differences if change[0] != _DEVICE), None)

    @property
    def device(self) -> str | None:
        """What computes, as the user chose it; None where the user did not."""
        return str(self.explicit["training"]["device"]) if self.is_explicit(_DEVICE) else None

    def _values(self, section: str) -> Table:
        values = self.table.get(section, {})
        return values if isinstance(values, dict) else {}


def _differences(
    left: msgspec.Struct, right: msgspec.Struct, path: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Yield the dotted name and both values of every setting that differs."""
    if type(left) is not type(right):
        old, new = left.__struct_config__, right.__struct_config__
        yield f"{path}{old.tag_field}", str(old.tag), str(new.tag)
        return
    for name in left.__struct_fields__:
        old, new = getattr(left, name), getattr(right, name)
        if isinstance(old, msgspec.Struct) and isinstance(new, msgspec.Struct):
            yield from _differences(old, new, f"{path}{name}.")
        elif old != new:
            yield f"{path}{name}", _text(old), _text(new)


def _text(value: object) -> str:
    return f"{value:,}" if type(value) is int else str(value)


def _check_paths(data: Table, paths: Mapping[str, str]) -> None:
    """Raise where settings of section data name other data than `paths`."""
    for name, path in paths.items():
        if data.get(name, path) != path:
            raise ConfigError(
                f"data.{name}={data[name]}: {path} is named as well.  Name one of the two."
            )


def _check_preset(typed: Table, table: Table, file: object) -> None:
    """Raise where another preset is set than the one whose sizes a file has."""
    file_preset, preset = table.get("preset", "auto"), str(typed.get("preset", "auto"))
    if file_preset not in ("auto", preset) and "preset" in typed:
        raise ConfigError(
            f"preset={preset}: {file} has the sizes of preset={file_preset}.  Leave `preset` out."
        )


def _read_file(path: Path) -> Table:
    try:
        if path.is_dir():
            inner = path / CONFIG
            raise ConfigError(f"{path}: a folder, not a file.  Name a file: `config={inner}`")
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: a device or a pipe, not a file.  Name a config.toml.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(describe_open_error(str(path), error)) from error
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1:,} (0x{error.object[error.start]:02X})"
        raise ConfigError(f"{path}: not UTF-8 at {byte}.  Name a config.toml.") from error
    from_toml(text, RunConfig, name=str(path))
    return parse_toml(text)


def _drop_facts(table: Table) -> None:
    """Take out of a run's settings what it learned of its data, and a device that it chose."""
    for section, names in _WRITTEN_BY_RUNS.items():
        for name in names:
            table.get(section, {}).pop(name, None)
    settings = table.get("settings")
    if settings is not None and "device" not in parse_settings(settings).get("training", {}):
        table.get("training", {}).pop("device", None)  # it was that of another machine
