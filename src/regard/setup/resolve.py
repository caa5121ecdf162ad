"""All settings of a run, decided once by a pure function.

Precedence: settings of the user, facts of the data, settings of trained weights or the sizes of a
preset, defaults of the task. Batch size, learning rate, precision and dropout depend on these; they
are decided last, where the user has not set them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from msgspec.structs import replace

from regard.data.split_rules import SPLIT_RULE
from regard.errors import ConfigError
from regard.hub.hugging_face.task_prefixes import name_of_use
from regard.models import (
    ENCODER_DECODERS,
    EncoderDecoderConfig,
    GptConfig,
    ModelConfig,
    TransformerConfig,
)
from regard.optim import ADAMW, MUON
from regard.settings.binding import Table, bind
from regard.setup.config import DataConfig, PresetName, RunConfig
from regard.setup.facts import SOURCE_LIMITS, Facts, Machine, SourceLengths
from regard.setup.presets import Preset, part_presets, part_sizes
from regard.training.optimizers import needs_full_batch, record_of, takes_gauss_newton
from regard.training.training_config import OptimizerConfig

if TYPE_CHECKING:
    from regard.setup.base_task import Task
    from regard.setup.request import Request

_SMALL_TEXT, _LARGE_TEXT = 2_000_000, 200_000_000  # characters to learn from
_FEW_EPOCHS = 6.0  # with fewer passes no text is seen often enough to be memorized
_USUAL_TOKENS = 20_000_000  # seen in a run without time budget and number of epochs
_FEWEST_EPOCHS, _MOST_EPOCHS = 10, 60
_FLOPS_PER_WEIGHT = 6  # of a token in training: Kaplan et al. 2020, section 2.1
_UTILIZATION = {"float32": 0.3, "bf16": 0.12}  # fraction of a product's speed in small models
_TRAINING_FRACTION = 0.8  # of a time budget is spent in steps
_LARGE_WORK = _FLOPS_PER_WEIGHT * 50e6 * 50e6  # of a model of base size that sees a token a weight
EpochsOf = Callable[[RunConfig], float]
"""Estimates the passes over the data of a run with some settings."""
_LOW_RANK_RATE = 1e-3  # adapters that start at zero take larger steps (Hu et al. 2021, table 12)
_OWN_FRACTION = 0.3  # of the preset's rate, over weights of regard's own
_PARTS = ("encoder", "decoder")
_WHOLE_SOURCE = 512  # tokens: room for sources that are longer than those of training
_FEWEST_PASSES = 4.0  # over the beginnings of sources, before more of each is read
_LONGEST_FULL = 1024  # tokens of a usual source, up to which each attends to all
_SPARSE = "local:256|global:"  # Beltagy et al. 2020, section 4: windows, and global first tokens
_MOST_GLOBAL = 64  # first tokens: each costs a source's length
_OUTPUT_ROOM = 1.2  # of the longest training target


def resolve(request: Request, facts: Facts, machine: Machine, task: Task) -> RunConfig:
    """Return every setting of a run, decided; nothing changes them afterwards.

    Args:
        request: What the user set.
        facts: Facts of the data, and the weights to start from.
        machine: Facts of the machine.
        task: The task of the run.

    Raises:
        ConfigError: A setting is unknown or refused, or settings do not fit together.
    """
    start = task.defaults if facts.pretrained is None else facts.pretrained.config
    preset = _preset(request, facts, machine, start)
    model = _base_model(request, facts, task, start.model, preset)
    base = replace(
        start,
        task=task.name,
        model=model,
        audio=facts.data.audio or start.audio,
        forecast=facts.data.forecast or start.forecast,
    )
    config = bind(RunConfig, _with_divisible_heads(request.table, facts, model, task), base)
    data = _with_facts(config.data, facts)
    config = replace(config, preset=preset, settings=request.settings, data=data)
    if facts.first_id is not None:
        config = replace(config, search=replace(config.search, forced_first=facts.first_id))
    config = _with_prefix(config, request, facts)
    task.require_family(config.model)
    if facts.pretrained is None and not request.is_explicit("model.has_copy"):
        config = _without_copies_for_gauss_newton(config)
    _check_coverage(config, task)
    _check_convex_loss(config)
    presets = task.presets[config.model.family]
    sizes = presets.get(preset, presets["small"])
    config = _with_batch_and_rate(config, request, facts, sizes)
    config = _with_precision(config, request, machine)
    epochs_of = partial(_expected_epochs, facts=facts, machine=machine, task=task)
    if facts.sources is not None:
        reads_less = facts.pretrained is None and task.begins_with_gist
        config = _with_source_limit(config, facts.sources, epochs_of if reads_less else None)
        if not facts.has_whole_model:
            config = _with_output_limit(config, facts.sources)
            config = _with_sparse_encoder(config, request, facts.sources)
    _check_positions(config)
    return _with_dropout(config, request, epochs_of)


def choose_preset(num_chars: int) -> PresetName:
    """Return the preset for an amount of text in characters."""
    if num_chars < _SMALL_TEXT:
        return "tiny"
    return "small" if num_chars < _LARGE_TEXT else "base"


def choose_epochs(num_tokens: int) -> int:
    """Return the number of passes over the data at most, 10 to 60: fewer for more tokens.

    >>> choose_epochs(100_000), choose_epochs(1_000_000), choose_epochs(10_000_000)
    (60, 20, 10)
    """
    return max(_FEWEST_EPOCHS, min(_MOST_EPOCHS, round(_USUAL_TOKENS / max(1, num_tokens))))


def _preset(request: Request, facts: Facts, machine: Machine, start: RunConfig) -> PresetName:
    """Return the preset that is set, or else that for the size of the data and the time budget."""
    preset = bind(RunConfig, {"preset": request.table.get("preset", start.preset)}).preset
    if preset != "auto" or facts.has_whole_model:
        return preset
    preset = choose_preset(facts.data.num_chars)
    section = {"training": request.table.get("training", {})}
    minutes = bind(RunConfig, section, start).training.minutes
    if preset != "base" or minutes is None:
        return preset
    speed = max(_UTILIZATION[name] * flops for name, flops in machine.flops.items())
    return preset if _TRAINING_FRACTION * 60 * minutes * speed >= _LARGE_WORK else "small"


def _base_model(
    request: Request, facts: Facts, task: Task, start: ModelConfig, preset: PresetName
) -> ModelConfig:
    """Return the dimensions of `start` or of the preset, with those that follow from the data."""
    if facts.has_whole_model:
        return replace(start, **facts.data.model)
    table = request.table.get("model", {})
    family = str(table.get("family", start.family))
    if family not in task.presets:
        config = bind(RunConfig, {"model": {"family": family}})
        task.require_family(config.model)
        raise AssertionError(family)
    presets = task.presets[family]
    if preset not in presets:
        raise ConfigError(f"preset={preset}: one of auto, {', '.join(presets)} was expected.")
    try:
        model = replace(presets[preset].model, **facts.data.model)
    except ValueError as error:
        raise ConfigError(f"model.{error}") from error
    if not isinstance(model, EncoderDecoderConfig):
        return model
    pretrained = getattr(facts.pretrained, "parts", {})
    return replace(model, **_parts(table, pretrained, start, preset))


def _parts(
    table: Table, pretrained: Collection[str], start: ModelConfig, preset: PresetName
) -> dict[str, Any]:
    """Return the fields of an encoder-decoder that trained parts or the families set.

    Args:
        table: Settings of the model.
        pretrained: Names of the parts that are trained.
        start: Their configuration.
        preset: Sizes of the others.
    """
    fields: dict[str, Any] = {}
    for part in _PARTS:
        if part in pretrained:
            fields[part] = getattr(start, part)
        elif part_family := table.get(part, {}).get("family"):
            family = EncoderDecoderConfig().family
            part_table = {"model": {"family": family, part: {"family": part_family}}}
            part_config = getattr(bind(RunConfig, part_table).model, part)
            fields[part] = part_sizes(part_config.family, preset)
    if pretrained and isinstance(start, EncoderDecoderConfig):
        fields |= {"source_rows": start.source_rows, "start_id": start.start_id}
    return fields


def _with_divisible_heads(table: Table, facts: Facts, model: ModelConfig, task: Task) -> Table:
    """Return the settings, with a number of heads where the user set only a size that needs it.

    It is the greatest common divisor of the size and the heads of the preset closest in size.
    """
    if facts.has_whole_model:
        return table
    table = copy.deepcopy(table)
    values = table.get("model", {})
    if isinstance(model, EncoderDecoderConfig):
        parts = [
            (values.get(part, {}), config, part_presets(config.family))
            for part, config in (("encoder", model.encoder), ("decoder", model.decoder))
        ]
    else:
        parts = [(values, model, task.presets.get(model.family, {}))]
    for part in parts:
        _set_heads(*part)
    return table


def _set_heads(values: Table, config: ModelConfig, presets: Mapping[Any, Preset]) -> None:
    """Set the heads of a part in its values, where these have a size alone that needs others."""
    digits = str(values.get("dim", "")).strip().replace("_", "")
    dim = int(digits) if digits.isdecimal() else 0  # other values are refused later
    num_heads = getattr(config, "num_heads", None)
    if num_heads is None or {"num_heads", "head_dim"} & values.keys():
        return
    if dim % num_heads:
        models: list[Any] = [preset.model for preset in presets.values()]
        nearest = min(models, key=lambda preset: abs(preset.dim - dim))
        values["num_heads"] = math.gcd(dim, nearest.num_heads)


def _with_facts(data: DataConfig, facts: Facts) -> DataConfig:
    """Add the facts of the data; weights to start from keep the scale that they were trained on."""
    scale = {} if facts.pretrained is not None else {"mean": facts.data.mean, "std": facts.data.std}
    return replace(
        data,
        sha256=facts.sha256,
        split_rule=SPLIT_RULE,
        labels=facts.data.labels,
        multi_label=facts.data.multi_label,
        languages=facts.data.languages,
        **scale,
        **facts.paths,
    )


def _with_prefix(config: RunConfig, request: Request, facts: Facts) -> RunConfig:
    """Return the settings with the prefix that trained weights know for the task, if there is one.

    Of translation it is that between the languages of the data.
    """
    prefixes = {} if facts.pretrained is None else facts.pretrained.prefixes
    prefix = prefixes.get(name_of_use(config.task, config.data.languages), prefixes.get(""))
    if not prefix or request.is_explicit("data.source_prefix"):
        return config
    return replace(config, data=replace(config.data, source_prefix=prefix))


def _with_source_limit(
    config: RunConfig, sources: SourceLengths, epochs_of: EpochsOf | None
) -> RunConfig:
    """Return the settings with the longest source that is read, in tokens.

    Args:
        config: The settings; weights that were trained with a limit have one.
        sources: Lengths of the sources.
        epochs_of: Where a beginning says what a source is about, and weights are random: then less
            of each is read where a time budget has room for few passes over whole sources.
    """
    if config.data.max_source_length is not None:
        return config
    needed = max(sources.longest, _WHOLE_SOURCE)
    whole = next((x for x in SOURCE_LIMITS if x >= needed), SOURCE_LIMITS[-1])
    limit = min(whole, _num_positions(config.model) or whole)
    if config.training.minutes is not None and epochs_of is not None:
        epochs = epochs_of(config)
        # The passes that fit are inverse to the tokens that are read in one.
        read = [x for x in SOURCE_LIMITS if epochs >= _FEWEST_PASSES * sources.covered.get(x, 1.0)]
        limit = min(limit, max(read, default=SOURCE_LIMITS[0]))
    return replace(config, data=replace(config.data, max_source_length=limit))


def _with_output_limit(config: RunConfig, sources: SourceLengths) -> RunConfig:
    """Return the settings with the longest output, a little longer than the targets of training."""
    if config.search.max_length is not None:
        return config
    longest = min(sources.longest_target, config.data.max_length)
    max_length = math.ceil(_OUTPUT_ROOM * longest) + 1
    return replace(config, search=replace(config.search, max_length=max_length))


def _with_sparse_encoder(config: RunConfig, request: Request, sources: SourceLengths) -> RunConfig:
    """Return the settings with windows and global first tokens, where usual sources are long."""
    names = ("attention.pattern", "attention.encoder")
    is_long = min(config.data.max_source_length or 0, sources.usual) > _LONGEST_FULL
    if not is_long or any(map(request.is_explicit, names)):
        return config
    if not isinstance(config.model, TransformerConfig):
        return config
    positions = range(min(sources.beginning, _MOST_GLOBAL))
    encoder = _SPARSE + ",".join(map(str, positions))
    return replace(config, attention=replace(config.attention, encoder=encoder))


def _num_positions(model: ModelConfig) -> int | None:
    """Return the most tokens that a model has positions for; None where there is no limit."""
    if isinstance(model, GptConfig):
        return model.position_limit
    has_table = getattr(model, "positions", None) == "learned"
    return getattr(model, "max_positions", None) if has_table else None


def _check_positions(config: RunConfig) -> None:
    """Raise where texts of training are longer than a table of positions.

    Encoders and inputs that are not text are cut to their table.

    Raises:
        ConfigError: They are; the message says which lengths fit.
    """
    most = _num_positions(config.model)
    if most is None:
        return
    for name in ("max_length", "max_source_length"):
        length = getattr(config.data, name)
        if length is not None and length > most:
            advice = f"Set `data.{name}={most}` or less"
            if config.start_from is None:
                advice += f", or `model.max_positions={length}`"
            raise ConfigError(
                f"data.{name}={length:,}: the model has {most:,} positions.  {advice}."
            )


def _without_copies_for_gauss_newton(config: RunConfig) -> RunConfig:
    """Return the settings without the preset's copy mechanism, where the optimizer needs that."""
    model = config.model
    if getattr(model, "has_copy", False) and takes_gauss_newton(config.optimizer):
        model = replace(model, has_copy=False)
    return replace(config, model=model)


def _check_coverage(config: RunConfig, task: Task) -> None:
    """Raise for coverage without a copy mechanism."""
    coverage = config.training.coverage
    if coverage and not getattr(config.model, "has_copy", False):
        advice = "Leave it out"
        if task.families is ENCODER_DECODERS and hasattr(config.model, "has_copy"):
            advice += ", or add `model.has_copy=true`"
        raise ConfigError(
            f"`training.coverage={coverage:g}`: the loss of a model that copies, and this one does "
            f"not.  {advice}."
        )


def _check_convex_loss(config: RunConfig) -> None:
    """Raise for a copy mechanism with Gauss-Newton."""
    if getattr(config.model, "has_copy", False) and takes_gauss_newton(config.optimizer):
        raise ConfigError(
            f"`optimizer.name={config.optimizer.name}`: the Gauss-Newton matrix needs a loss that "
            "is convex in the logits, which that of a model that copies is not.  Take the Hessian: "
            "`optimizer.curvature=hessian`, or do not copy: `model.has_copy=false`"
        )


def _with_batch_and_rate(
    config: RunConfig, request: Request, facts: Facts, preset: Preset
) -> RunConfig:
    """Set batch size, patience, optimizer and learning rate where the user did not."""
    training, optimizer, rate = config.training, config.optimizer, preset.learning_rate
    if facts.pretrained is not None:
        optimizer, rate = _fine_tuning_rate(config, request, rate)
    if optimizer.learning_rate is None and not record_of(optimizer.name).is_full_batch:
        optimizer = replace(optimizer, learning_rate=rate)
    training = replace(training, batch_tokens=training.batch_tokens or preset.batch_tokens)
    is_exact = set(filter(request.is_explicit, ("training.patience", "training.patience_steps")))
    if is_exact == {"training.patience"}:
        training = replace(training, patience_steps=0)  # a patience that is set is exact
    return replace(config, training=training, optimizer=optimizer)


def _fine_tuning_rate(
    config: RunConfig, request: Request, preset_rate: float
) -> tuple[OptimizerConfig, float]:
    """Return the optimizer of trained weights, and its learning rate where none is set."""
    optimizer, is_low_rank = config.optimizer, config.fine_tuning.method == "lora"
    takes_adamw = is_low_rank or config.tokenizer.kind == "published"
    if takes_adamw and not request.is_explicit("optimizer.name"):
        optimizer = replace(optimizer, name=ADAMW)
    if is_low_rank:
        return optimizer, _LOW_RANK_RATE
    rate = record_of(optimizer.name).fine_tuning_rate
    return optimizer, _OWN_FRACTION * preset_rate if rate is None else rate


def _with_precision(config: RunConfig, request: Request, machine: Machine) -> RunConfig:
    """Return the settings with device and precision, without an average where it would be wrong.

    Full-batch methods compare loss values that differ by less than bf16's rounding, and these
    values must depend on the current weights alone: float32, no average of the weights.

    Raises:
        ConfigError: The user set bf16 for a full-batch method.
    """
    training = replace(config.training, device=machine.device)
    if needs_full_batch(config.optimizer.name):
        if training.precision == "bf16":
            raise ConfigError(
                f"training.precision=bf16: optimizer {config.optimizer.name} compares values that "
                f"differ by less than bf16's rounding.  Take float32, or `optimizer.name={MUON}`."
            )
        average = training.average if request.is_explicit("training.average") else 0.0
        training = replace(training, precision="float32", average=average)
    elif training.precision == "auto":
        training = replace(training, precision="bf16" if machine.has_fast_bf16 else "float32")
    return replace(config, training=training)


def _with_dropout(config: RunConfig, request: Request, epochs_of: EpochsOf) -> RunConfig:
    """Return the settings without dropout where the user did not set it and it would not help.

    Dropout does not help full-batch methods, and runs that see no text often enough to memorize.
    In such a run a rate other than the default, which trained weights may have, is kept.
    """
    is_full_batch = needs_full_batch(config.optimizer.name)
    if not is_full_batch and epochs_of(config) >= _FEW_EPOCHS:
        return config
    model = _without_dropout(config.model, "model", request, keeps_others=not is_full_batch)
    return replace(config, model=model)


def _without_dropout(part: Any, path: str, request: Request, *, keeps_others: bool) -> Any:
    """Return a model, or a part of one, without dropout where the user did not set it.

    Args:
        part: The configuration.
        path: Name of its section.
        request: What the user set.
        keeps_others: Whether a rate other than the default is kept.
    """
    changes: dict[str, Any] = {
        name: _without_dropout(value, f"{path}.{name}", request, keeps_others=keeps_others)
        for name, value in msgspec.structs.asdict(part).items()
        if isinstance(value, msgspec.Struct)
    }
    rate = getattr(part, "dropout", 0.0)
    if rate and not request.is_explicit(f"{path}.dropout"):
        is_kept = keeps_others and rate != type(part)().dropout
        changes["dropout"] = rate if is_kept else 0.0
    return replace(part, **changes)


def _expected_epochs(config: RunConfig, facts: Facts, machine: Machine, task: Task) -> float:
    """Estimate the passes over the data; with a time budget from the speed of the machine."""
    training = config.training
    if training.minutes is None:
        return training.epochs or choose_epochs(facts.num_tokens)
    with torch.device("meta"):
        model = task.build(config, facts.vocab_size)
    fractions = facts.sources.covered if facts.sources is not None else {}
    num_tokens = facts.num_tokens * fractions.get(config.data.max_source_length or 0, 1.0)
    flops = _FLOPS_PER_WEIGHT * model.num_parameters * max(1, num_tokens)
    speed = _UTILIZATION[training.precision] * machine.flops[training.precision]
    epochs = _TRAINING_FRACTION * 60 * training.minutes * speed / flops
    return epochs if training.epochs is None else min(epochs, training.epochs)
