"""What the user asks of a run: settings as typed, and those of a configuration file.

Nothing is decided here: `regard.setup.resolve` decides all settings at once, from a request and
what the data says. A configuration file that a run has written holds decided settings too; of these
only what was typed then, its ``settings``, counts as chosen.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from regard.errors import ConfigError
from regard.models import EncoderDecoderConfig, ModelConfig
from regard.settings.binding import (
    Table,
    bind,
    check_names,
    convert_fields,
    from_toml,
    merge,
    parse_settings,
)
from regard.setup.config import RunConfig

_WRITTEN_BY_RUNS = ("labels", "mean", "std", "sha256")  # in section data


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the user set.

    Args:
        settings: As typed, ``section.key=value`` each.
        table: All values that are set, those of a file among them.
        chosen: Values that the user chose, as far as that is known.
    """

    settings: tuple[str, ...] = ()
    table: Table = {}
    chosen: Table = {}

    @classmethod
    def of(cls, settings: Sequence[str], *, file: str | Path | None = None) -> Request:
        """Arrange settings, over those of a configuration file if there is one.

        Args:
            settings: As typed; a later one wins.
            file: A ``config.toml``.

        Raises:
            ConfigError: The file cannot be read or has a wrong setting, or a setting has no value.
        """
        typed = parse_settings(settings)
        if file is None:
            return cls(settings=tuple(settings), table=typed, chosen=typed)
        table = _read_file(Path(file))
        earlier = table.pop("settings", None)
        preset, wanted = table.get("preset", "auto"), str(typed.get("preset", "auto"))
        if preset not in ("auto", wanted) and "preset" in typed:
            raise ConfigError(
                f"preset={wanted}: {file} has the sizes of preset={preset}.  Leave `preset` out."
            )
        chosen = parse_settings(earlier) if earlier is not None else dict(table)
        merge(chosen, typed)
        merge(table, typed)
        return cls(settings=(*(earlier or ()), *settings), table=table, chosen=chosen)

    @property
    def task(self) -> str | None:
        """The task that is asked for; None leaves it to the data."""
        return None if "task" not in self.table else str(self.table["task"])

    @property
    def start_from(self) -> str | None:
        """Folder of the weights to start from."""
        folder = self.table.get("start_from")
        return None if folder is None or folder == "none" else str(folder)

    def with_paths(self, paths: Mapping[str, str]) -> Request:
        """Return the request for data at other paths, by setting: ``path``, ``valid``, ..."""
        table = copy.deepcopy(self.table)
        merge(table, {"data": dict(paths)})
        return msgspec.structs.replace(self, table=table)

    def bind_all_but_model(self, defaults: RunConfig) -> RunConfig:
        """Bind every section but the model's, whose dimensions depend on the data.

        Args:
            defaults: What the request leaves open.

        Raises:
            ConfigError: A setting is unknown, or has a value that its type or check refuses.
        """
        rest = {name: value for name, value in self.table.items() if name != "model"}
        return bind(RunConfig, rest, defaults)

    def is_chosen(self, name: str) -> bool:
        """Whether the user chose a setting, such as ``training.average``."""
        table: Any = self.chosen
        for key in name.split("."):
            if not isinstance(table, dict) or key not in table:
                return False
            table = table[key]
        return True

    def model_values(self, default: ModelConfig) -> dict[str, Any]:
        """Convert the dimensions of the model that are set, without the checks of the whole.

        Args:
            default: Of the family where none is set.
        """
        return convert_fields(type(default), self._values("model"), "model")

    def check(self, defaults: RunConfig) -> RunConfig:
        """Refuse what can be refused before the data is read.

        The dimensions of the model are checked one by one: how they fit together depends on the
        data.

        Args:
            defaults: Of the task.

        Returns:
            The defaults with what is set of every section but the model's, and with its family.

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
            for side in ("encoder", "decoder"):
                values = self._values("model").get(side, {})
                convert_fields(type(getattr(draft.model, side)), values, f"model.{side}")
        return draft

    def _values(self, section: str) -> Table:
        values = self.table.get(section, {})
        return values if isinstance(values, dict) else {}


def _read_file(path: Path) -> Table:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from error
    from_toml(text, RunConfig, name=str(path))
    table = tomllib.loads(text)
    for name in _WRITTEN_BY_RUNS:
        table.get("data", {}).pop(name, None)
    return table
