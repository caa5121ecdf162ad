"""All settings of a run, decided once: `resolve` is pure and reads no files.

In the order of their weight: what the user set; what the data says; what comes with trained
weights, or the sizes of a preset; the defaults of the task. What follows from these together, such
as the precision or whether dropout is on, is decided last, where the user has not.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import msgspec
import torch
from msgspec.structs import replace

from regard.errors import ConfigError
from regard.models import EncoderDecoderConfig, ModelConfig, family_of
from regard.settings.binding import Table, bind
from regard.setup.base_task import Task
from regard.setup.config import PresetName, RunConfig
from regard.setup.facts import Facts, Machine
from regard.setup.presets import Preset, part_presets, part_sizes
from regard.setup.request import Request
from regard.training.training_config import FULL_BATCH

_SMALL_TEXT, _LARGE_TEXT = 2_000_000, 200_000_000  # characters to learn from
_FEW_EPOCHS = 6.0  # after which no text has been seen often enough to be memorized
_TOKENS_WANTED = 20_000_000  # seen in a run that has neither a budget nor a number of epochs
_FEWEST_EPOCHS, _MOST_EPOCHS = 10, 60
_FLOPS_PER_WEIGHT = 6  # of a token in training: Kaplan et al. 2020, section 2.1
_UTILIZATION = {"float32": 0.3, "bf16": 0.12}  # of a product's speed, that small models reach
_TRAINING_FRACTION = 0.8  # of a time budget that is spent in steps
_PRETRAINED_RATE = 1e-4  # of AdamW over published weights (Devlin et al. 2019: 2e-5 to 5e-5)
_LOW_RANK_RATE = 1e-3  # changes that begin at zero take larger steps (Hu et al. 2021, table 12)
_OWN_FRACTION = 0.3  # of the preset's rate, over weights of one's own
_WITHOUT_RATE = FULL_BATCH - {"adam-then-cg"}
_PARTS = ("encoder", "decoder")


def resolve(request: Request, facts: Facts, machine: Machine, task: Task) -> RunConfig:
    """Decide every setting of a run.

    Args:
        request: What the user set.
        facts: What the data says, and the weights to start from.
        machine: What there is to compute on.
        task: What is learned.

    Returns:
        The settings; nothing changes them afterwards.

    Raises:
        ConfigError: A setting is unknown or refused, or settings do not fit together.
    """
    start = task.defaults if facts.pretrained is None else facts.pretrained.config
    name = _preset_name(request, facts, start)
    model = _starting_model(request, facts, task, start.model, name)
    base = replace(
        start,
        task=task.name,
        model=model,
        audio=facts.data.audio or start.audio,
    )
    config = bind(RunConfig, _with_divisible_heads(request.table, facts, model, task), base)
    config = replace(config, preset=name, settings=request.settings, data=_data(config, facts))
    task.require_family(config.model)
    presets = task.presets[family_of(config.model)]
    config = _with_pace(config, request, facts, presets.get(name) or presets["small"])
    config = _with_precision(config, request, machine)
    return _with_dropout(config, request, facts, machine, task)


def choose_preset(num_chars: int) -> PresetName:
    """Choose a size by the characters to learn from."""
    if num_chars < _SMALL_TEXT:
        return "tiny"
    return "small" if num_chars < _LARGE_TEXT else "base"


def choose_epochs(num_tokens: int) -> int:
    """Choose the most passes over the data: fewer the more there is, 10 to 60.

    >>> choose_epochs(100_000), choose_epochs(1_000_000), choose_epochs(10_000_000)
    (60, 20, 10)
    """
    return max(_FEWEST_EPOCHS, min(_MOST_EPOCHS, round(_TOKENS_WANTED / max(1, num_tokens))))


def _preset_name(request: Request, facts: Facts, start: RunConfig) -> PresetName:
    name = bind(RunConfig, {"preset": request.table.get("preset", start.preset)}).preset
    starts_whole = facts.pretrained is not None and not facts.pretrained.parts
    return choose_preset(facts.data.num_chars) if name == "auto" and not starts_whole else name


def _starting_model(
    request: Request, facts: Facts, task: Task, start: ModelConfig, name: PresetName
) -> ModelConfig:
    """Return the dimensions that are taken where the user set none."""
    pretrained = facts.pretrained
    if pretrained is not None and not pretrained.parts:
        return replace(start, **facts.data.model)
    set_values = request.table.get("model", {})
    family = str(set_values.get("family", family_of(start)))
    presets = task.presets.get(family)
    if presets is None:
        task.require_family(bind(RunConfig, {"model": {"family": set_values["family"]}}).model)
        raise AssertionError(family)
    if name not in presets:
        raise ConfigError(f"preset={name}: one of auto, {', '.join(presets)} was expected.")
    model = replace(presets[name].model, **facts.data.model)
    if not isinstance(model, EncoderDecoderConfig):
        return model
    parts: dict[str, Any] = {}
    for part in _PARTS:
        if pretrained is not None and part in pretrained.parts:
            parts[part] = getattr(start, part)
        elif chosen := set_values.get(part, {}).get("family"):
            other = bind(RunConfig, {"model": {"family": family, part: {"family": chosen}}}).model
            parts[part] = part_sizes(family_of(getattr(other, part)), name)
    if pretrained is not None and isinstance(start, EncoderDecoderConfig):
        parts |= {"source_rows": start.source_rows, "start_id": start.start_id}
    return replace(model, **parts)


def _with_divisible_heads(table: Table, facts: Facts, model: ModelConfig, task: Task) -> Table:
    """Set the number of heads where the user set a size alone that the heads do not divide.

    They are those of the family's preset next in size, or as many as divide the size.
    """
    if facts.pretrained is not None and not facts.pretrained.parts:
        return table
    table = copy.deepcopy(table)
    set_values = table.get("model", {})
    candidates = [(set_values, model, task.presets.get(family_of(model), {}))]
    if isinstance(model, EncoderDecoderConfig):
        candidates = [
            (set_values.get(part, {}), getattr(model, part), _presets_of_part(model, part))
            for part in _PARTS
        ]
    for values, sizes, presets in candidates:
        size, heads = _whole_number(values.get("dim")), getattr(sizes, "num_heads", None)
        if (
            not size
            or heads is None
            or {"num_heads", "head_dim"} & values.keys()
            or not size % heads
        ):
            continue
        models: list[Any] = [preset.model for preset in presets.values()]
        nearest = min(models, key=lambda preset: abs(preset.dim - size))
        values["num_heads"] = math.gcd(size, nearest.num_heads)
    return table


def _presets_of_part(model: EncoderDecoderConfig, part: str) -> Mapping[PresetName, Preset]:
    return part_presets(family_of(getattr(model, part)))


def _whole_number(value: object) -> int:
    """Read a size that is set; 0 where it is none."""
    try:
        return max(0, int(str(value)))
    except ValueError:
        return 0


def _data(config: RunConfig, facts: Facts) -> Any:
    """Note what the data says; weights to start from keep the scale that they were trained on."""
    found = facts.data
    scale = {} if facts.pretrained is not None else {"mean": found.mean, "std": found.std}
    return replace(
        config.data,
        sha256=facts.sha256,
        labels=found.labels,
        languages=found.languages,
        **scale,
        **facts.paths,
    )


def _with_pace(config: RunConfig, request: Request, facts: Facts, preset: Preset) -> RunConfig:
    """Choose batch size, optimizer and learning rate where nobody did."""
    training, optimizer = config.training, config.optimizer
    rate = preset.learning_rate
    if facts.pretrained is not None:
        is_low_rank = config.fine_tuning.method == "lora"
        is_published = config.tokenizer.kind == "published"
        if not request.is_chosen("optimizer.name") and (is_published or is_low_rank):
            optimizer = replace(optimizer, name="adamw")
        rate = _PRETRAINED_RATE if optimizer.name == "adamw" else _OWN_FRACTION * rate
        rate = _LOW_RANK_RATE if is_low_rank else rate
    if optimizer.learning_rate is None and optimizer.name not in _WITHOUT_RATE:
        optimizer = replace(optimizer, learning_rate=rate)
    batch_tokens = training.batch_tokens or preset.batch_tokens
    return replace(
        config, training=replace(training, batch_tokens=batch_tokens), optimizer=optimizer
    )


def _with_precision(config: RunConfig, request: Request, machine: Machine) -> RunConfig:
    """Choose the precision, and whether weights are averaged.

    Methods that see all rows at once compare values that differ by less than bf16's rounding, and
    want them to depend on the weights alone: float32, no average of the weights.
    """
    training = config.training
    if config.optimizer.name in FULL_BATCH:
        if training.precision == "bf16":
            raise ConfigError(
                f"training.precision=bf16: optimizer {config.optimizer.name} compares values that "
                "differ by less than bf16 can tell.  Take float32, or `optimizer.name=muon`."
            )
        average = training.average if request.is_chosen("training.average") else 0.0
        training = replace(training, precision="float32", average=average)
    elif training.precision == "auto":
        precision = "bf16" if machine.has_fast_bf16 else "float32"
        training = replace(training, precision=precision)
    return replace(config, training=training)


def _with_dropout(
    config: RunConfig, request: Request, facts: Facts, machine: Machine, task: Task
) -> RunConfig:
    """Turn dropout off where the user did not choose it and it would only cost.

    That is where all rows are seen at once, and where no text is seen often enough to be memorized;
    in the latter case a rate other than the default, as trained weights may have, stays.
    """
    is_full_batch = config.optimizer.name in FULL_BATCH
    if not is_full_batch and _expected_epochs(config, facts, machine, task) >= _FEW_EPOCHS:
        return config

    def clear(part: Any, path: str) -> Any:
        changes: dict[str, Any] = {}
        for name, value in msgspec.structs.asdict(part).items():
            if isinstance(value, msgspec.Struct):
                changes[name] = clear(value, f"{path}.{name}")
            elif name == "dropout" and not request.is_chosen(f"{path}.{name}"):
                is_default = value == getattr(type(part)(), name)
                changes[name] = 0.0 if is_default or is_full_batch else value
        return replace(part, **changes)

    return replace(config, model=clear(config.model, "model"))


def _expected_epochs(config: RunConfig, facts: Facts, machine: Machine, task: Task) -> float:
    """Predict the passes over the data; with a time budget from the speed of the machine."""
    training = config.training
    if training.minutes is None:
        return training.epochs or choose_epochs(facts.num_tokens)
    with torch.device("meta"):
        model = task.build(config, facts.vocab_size)
    num_weights = sum(parameter.numel() for parameter in model.parameters())
    flops = _FLOPS_PER_WEIGHT * num_weights * max(1, facts.num_tokens)
    speed = _UTILIZATION[training.precision] * machine.flops[training.precision]
    epochs = _TRAINING_FRACTION * 60 * training.minutes * speed / flops
    return epochs if training.epochs is None else min(epochs, training.epochs)
