"""How a preset fills in what a configuration leaves open, and how `auto` chooses among presets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from regard.errors import ConfigError
from regard.models import JoinedConfig, ModelConfig, VitConfig, family_of
from regard.setup.config import Preset, RunConfig
from regard.setup.presets import RECIPES, Recipe, side_of
from regard.setup.role_presets import ROLE_RECIPES
from regard.tasks.classification.modalities import fit_patch
from regard.training.training_config import FULL_BATCH

_FEW_EPOCHS = 6.0
WITHOUT_RATE = FULL_BATCH - {"adam-then-cg"}


def drop_dropout(config: RunConfig, epochs: float) -> RunConfig:
    """Turn dropout off where no sentence will be seen often enough to be learned by heart.

    A rate that somebody chose stays.
    """
    if epochs >= _FEW_EPOCHS:
        return config
    return msgspec.structs.replace(config, model=_without_dropout(config, is_default_only=True))


def suit_full_batch(config: RunConfig) -> RunConfig:
    """Fill in what methods need that see all rows at once, where nothing else was chosen.

    They compare values that differ by less than bf16's rounding, and want them to depend on the
    weights alone: float32, no dropout, no average of the weights.

    Raises:
        ConfigError: bf16 was asked for.
    """
    if config.optimizer.name not in FULL_BATCH:
        return config
    if config.training.precision == "bf16":
        raise ConfigError(
            f"training.precision=bf16: optimizer {config.optimizer.name} compares values that "
            "differ by less than bf16 can tell.  Take float32, or optimizer.name=muon."
        )
    replace = msgspec.structs.replace
    chosen = {setting.partition("=")[0] for setting in config.settings}
    average = config.training.average if "training.average" in chosen else 0.0
    return replace(
        config,
        training=replace(config.training, precision="float32", average=average),
        model=_without_dropout(config),
    )


def choose_preset(num_chars: int) -> Preset:
    """Choose a size by the characters of target text to learn from."""
    if num_chars < 2_000_000:
        return "tiny"
    return "small" if num_chars < 200_000_000 else "base"


def recipes_of(config: RunConfig) -> dict[Preset, Recipe]:
    """List the presets of a family, in the role that it has in a task."""
    family = family_of(config.model)
    return ROLE_RECIPES.get(config.task, {}).get(family) or RECIPES[family]


def apply_preset(config: RunConfig, preset: Preset) -> RunConfig:
    """Fill in the dimensions, batch size and rate of a preset, where the configuration has none."""
    recipes = recipes_of(config)
    if preset not in recipes:
        raise ConfigError(f"preset={preset}: one of auto, {', '.join(recipes)} was expected.")
    recipe = recipes[preset]
    replace = msgspec.structs.replace
    training, optimizer = config.training, config.optimizer
    rate = optimizer.learning_rate
    if rate is None and optimizer.name not in WITHOUT_RATE:
        rate = recipe.learning_rate
    return suit_full_batch(
        replace(
            config,
            preset=preset,
            model=_fill(recipe.model, config.model, preset),
            training=replace(training, batch_tokens=training.batch_tokens or recipe.batch_tokens),
            optimizer=replace(optimizer, learning_rate=rate),
        )
    )


def with_heads(settings: Sequence[str], model: ModelConfig) -> tuple[str, ...]:
    """Choose heads where the size of a model is set alone and the default number cannot divide it.

    They are those of the family's preset next in size, or as many as divide the size: the settings
    are checked before the data has chosen a preset.

    Args:
        settings: As typed, ``section.key=value`` each.
        model: That they change.

    Returns:
        Settings to go behind the given ones; most often none.

    >>> with_heads(["model.dim=128"], JoinedConfig().encoder)  # a BERT
    ('model.num_heads=4',)
    """
    words = _by_name(settings)
    added = []
    for path in ("model", "model.encoder", "model.decoder"):
        size, family = words.get(f"{path}.dim", ""), words.get(f"{path}.family")
        if not size.isdigit() or not int(size) or f"{path}.num_heads" in words:
            continue
        side = JoinedConfig() if path != "model" else None
        known = model if side is None else getattr(side, path.rpartition(".")[2])
        sizes: list[Any] = [r.model for r in RECIPES.get(family or family_of(known), {}).values()]
        default = getattr(type(sizes[0])(), "num_heads", None) if sizes else None
        if default is not None and int(size) % default:
            nearest = min(sizes, key=lambda preset: abs(preset.dim - int(size)))
            added.append(f"{path}.num_heads={math.gcd(int(size), nearest.num_heads)}")
    return tuple(added)


def with_patches(settings: Sequence[str], model: ModelConfig) -> tuple[str, ...]:
    """Make sides of images and of patches agree where one is set alone and the default cannot.

    The data will choose the other (`regard.tasks.classification.modalities`): the settings are
    checked before.

    Args:
        settings: As typed, ``section.key=value`` each.
        model: That they change.

    Returns:
        Settings to be checked with the given ones, not to be kept; most often none.

    >>> with_patches(["model.height=28"], VitConfig())
    ('model.patch_height=4',)
    """
    words = _by_name(settings)
    if not isinstance(model, VitConfig) or words.get("model.family", "vit") != "vit":
        return ()
    added = []
    for name in ("height", "width"):
        side, patch = words.get(f"model.{name}"), words.get(f"model.patch_{name}")
        given = side or patch or ""
        if (side and patch) or not given.isdigit() or not int(given):
            continue
        if side and int(side) % getattr(model, f"patch_{name}"):
            added.append(f"model.patch_{name}={fit_patch(int(side), None, int(side))[1]}")
        elif patch and getattr(model, name) % int(patch):
            added.append(f"model.{name}={patch}")
    return tuple(added)


def _by_name(settings: Sequence[str]) -> dict[str, str]:
    """Split settings as typed, ``section.key=value`` each, into names and values."""
    parts = (setting.partition("=") for setting in settings)
    return {name.strip(): value.strip() for name, _, value in parts}


def _fill(sizes: Any, given: Any, preset: Preset) -> Any:
    """Put what was chosen in place of a preset's; a side of another family has sizes of its own."""
    changes = _changed(given)
    for name, value in changes.items():
        if isinstance(value, msgspec.Struct):
            known: Any = getattr(sizes, name)
            if type(known) is not type(value):
                known = side_of(str(value.__struct_config__.tag), preset)
            changes[name] = _fill(known, value, preset)
    return msgspec.structs.replace(sizes, **changes)


def _without_dropout(config: RunConfig, *, is_default_only: bool = False) -> ModelConfig:
    """Set every rate of a model to 0 that nobody chose on the command line.

    Args:
        config: Of the run.
        is_default_only: Whether a rate other than its default stays too.
    """
    chosen = {setting.partition("=")[0] for setting in config.settings}

    def clear(part: Any, path: str) -> Any:
        changed = _changed(part) if is_default_only else {}
        changes: dict[str, Any] = {}
        for name, value in msgspec.structs.asdict(part).items():
            if isinstance(value, msgspec.Struct):
                changes[name] = clear(value, f"{path}.{name}")
            elif name == "dropout" and name not in changed and f"{path}.{name}" not in chosen:
                changes[name] = 0.0
        return msgspec.structs.replace(part, **changes)

    return clear(config.model, "model")


def _changed(model: Any) -> dict[str, Any]:
    """Return the fields that differ from their defaults: somebody chose them."""
    default = msgspec.structs.asdict(type(model)())
    given = msgspec.structs.asdict(model)
    return {name: value for name, value in given.items() if value != default[name]}
