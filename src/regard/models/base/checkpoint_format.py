"""How the checkpoints that others publish name and store the parameters of a family.

A family declares a `CheckpointFormat` for each ``model_type`` of a Hugging Face ``config.json``
that it can read; `regard.hub` applies it in both directions. Models never read files themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
from torch import Tensor

from regard.errors import ConfigError

MULTI_LABEL = "multi_label_classification"
"""Value of ``problem_type`` where a text may have any number of labels."""
LABEL_THRESHOLD = "label_threshold"
"""Field of ``config.json`` with the probability above which a text has a label, which is ours."""
USUAL_THRESHOLD = 0.5
"""Its value in files without the field."""

V = TypeVar("V", bound=bool | int | float | str)


class SettingError(ConfigError):
    """A checkpoint format cannot express some settings of a model.

    Args:
        obstacles: A sentence for each, of which the first is the message.
        settings: Values that the format has, by the names of the settings.
    """

    def __init__(self, obstacles: Sequence[str], settings: Mapping[str, Any]) -> None:
        super().__init__(obstacles[0])
        self.obstacles, self.settings = tuple(obstacles), dict(settings)


class ParameterMapping(NamedTuple):
    """A parameter of the model and the tensors of a published checkpoint that hold it.

    Args:
        local: Name of the parameter in the model.
        remote: Names of the tensors, stacked along the first axis where there are several, which
            are of equal sizes then.
        is_transposed: Whether the tensors have rows and columns exchanged (GPT-2's ``Conv1D``).
        interleaved: Numbers of maps and of heads in one tensor, which has the rows of the first
            head of each map, then those of the second (GPT-NeoX); the parameter has the rows of
            the first map, then those of the second.
        rows: First row, the one after the last, and number of rows of the one tensor, which holds
            other parameters, too (Phi-3's ``qkv_proj``): their mappings follow each other.
    """

    local: str
    remote: tuple[str, ...]
    is_transposed: bool = False
    interleaved: tuple[int, int] = (1, 1)
    rows: tuple[int, int, int] | None = None


class FieldMapping(NamedTuple):
    """A setting of the model and the field of ``config.json`` that holds it.

    Args:
        local: Name of the setting.
        remote: Name of the field.
        default: Value of ``transformers`` where the field is missing or null; its type is required.
        names: Values of the setting by their published names, of which the first is written; None
            where the field holds the value itself.
    """

    local: str
    remote: str
    default: bool | int | float | str
    names: Mapping[str, str] | None = None


class LabelHead(NamedTuple):
    """The layers after the encoder in a published classifier of texts.

    Args:
        dense: Name of the linear map of a text's vector.
        output: Name of the linear map to the labels.
        activation: Between the two.
        ignored: Endings of names of layers that old files have and no classifier uses.
        is_pooler: Whether the first map is the encoder's own pooler, with the activation that its
            configuration says, of vectors by any pooling: models of answers have it, too.
    """

    dense: str
    output: str
    activation: Literal["tanh", "relu", "gelu"] = "tanh"
    ignored: tuple[str, ...] = ()
    is_pooler: bool = False


class CheckpointFormat(NamedTuple):
    """One published checkpoint format of a family.

    Args:
        model_type: Its name in ``config.json``.
        read: Turns the fields of ``config.json`` into the family's configuration; raises
            `ConfigError` with the field's name where the family has no such variant.
        write: Turns the configuration and the vocabulary size into the fields of ``config.json``
            that ``transformers`` needs to open it, with ``architectures`` and ``model_type``.
        map_parameters: Lists every parameter of the configuration's model, tied ones once.
        prefix: Beginning of the names that the bare model (``AutoModel``) leaves out: such a
            checkpoint is read as if each name began with it.
        ignored: Endings of names that hold nothing trained, such as masks and position ids.
        adapt: Fits the configuration to the names of the tensors in a file, where ``config.json``
            does not say which layers there are.
        renamed: Endings of names in old files, each with its ending of today.
        tied_names: For the name of a tensor, the name of another that it equals where the two are
            tied: a checkpoint may have it too, or leave it out.
        label_head: Head of the classifiers built on it; None where there are none.
        span_output: Name of the linear map to the two logits of models of answers.
        tokenizer_class: Class of ``transformers`` that reads its vocabulary, where a folder names
            none.
        reads_segments: Whether its models read the segment of each token (``token_type_ids``).
        has_global_questions: Whether its models of answers have global attention at every token of
            the question.
        untrained: Returns the tensors of a configuration's file that nobody trains and that
            ``transformers`` misses where they are left out; a file with others is refused. None
            where there are none.
    """

    model_type: str
    read: Callable[[Mapping[str, Any]], Any]
    write: Callable[[Any, int], dict[str, Any]]
    map_parameters: Callable[[Any], list[ParameterMapping]]
    prefix: str = ""
    ignored: tuple[str, ...] = ()
    adapt: Callable[[Any, Set[str]], Any] | None = None
    renamed: tuple[tuple[str, str], ...] = ()
    tied_names: Mapping[str, str] = {}
    label_head: LabelHead | None = None
    span_output: str = "qa_outputs"
    tokenizer_class: str = "PreTrainedTokenizer"
    reads_segments: bool = False
    has_global_questions: bool = False
    untrained: Callable[[Any], dict[str, Tensor]] | None = None


def map_layer(
    local: str, *remote: str, kinds: Iterable[str] = ("weight", "bias")
) -> list[ParameterMapping]:
    """Return the mappings of the weight and the bias of a linear map or a normalisation.

    Args:
        local: Name of the layer in the model.
        remote: Names of the published layers that it stacks.
        kinds: Its parameters.

    Returns:
        One mapping for each of `kinds`.

    >>> mapping = map_layer("norm", "transformer.ln_f")[1]
    >>> mapping.local, mapping.remote
    ('norm.bias', ('transformer.ln_f.bias',))
    """
    return [
        ParameterMapping(f"{local}.{kind}", tuple(f"{name}.{kind}" for name in remote))
        for kind in kinds
    ]


def map_blocks(
    local: str, remote: str, num_layers: int, layers: Mapping[str, tuple[str, ...]]
) -> list[ParameterMapping]:
    """Return the mappings of the weights and biases of a stack of blocks.

    Args:
        local: Name of the stack in the model.
        remote: Its published name.
        num_layers: Number of blocks.
        layers: For the name of each layer of a block those of the published layers that it stacks.

    Returns:
        The mappings of the first block, then of the second, and so on.
    """
    mappings: list[ParameterMapping] = []
    for number in range(num_layers):
        for layer, names in layers.items():
            stacked = (f"{remote}.{number}.{name}" for name in names)
            mappings += map_layer(f"{local}.{number}.{layer}", *stacked)
    return mappings


def field_of(fields: Mapping[str, Any], name: str, default: V) -> V:
    """Read one value from ``config.json``.

    Args:
        fields: All values.
        name: Name of the value.
        default: The value of ``transformers`` where it is missing or null; its type is required.

    Returns:
        The value, or the default.

    Raises:
        ConfigError: The value is of another type; a whole number is accepted for a fraction.

    >>> field_of({"hidden_size": 64}, "hidden_size", 768), field_of({}, "layer_norm_eps", 1e-12)
    (64, 1e-12)
    """
    value = fields.get(name)
    if value is None:
        return default
    allowed = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, allowed) or isinstance(value, bool) != isinstance(default, bool):
        raise ConfigError(
            f"config.json: {name}={value!r}: expected a value such as {default!r}, "
            "the default of transformers."
        )
    return type(default)(value)


def require_fields(fields: Mapping[str, Any], only: Mapping[str, Any]) -> None:
    """Refuse fields of ``config.json`` that ask for a variant that no model here computes.

    Args:
        fields: The values of the file.
        only: The one value of each that is computed; a field that is missing or null has it.

    Raises:
        ConfigError: A field has another value.
    """
    for name, value in only.items():
        if fields.get(name) not in (value, None):
            raise ConfigError(
                f"config.json: {name}={json.dumps(fields[name])}: no such variant here, "
                f"{name}={json.dumps(value)} alone is computed."
            )


def under_own_names(fields: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of ``config.json``, those under other names under the format's own.

    ``transformers`` takes some sizes by the names that most formats have, too (``attribute_map``).

    Args:
        fields: All values of the file.
        aliases: The format's own name of a field, by the other.

    Raises:
        ConfigError: A field has two values, one under either name.

    >>> under_own_names({"num_attention_heads": 4}, {"num_attention_heads": "n_head"})
    {'n_head': 4}
    """
    renamed = dict(fields)
    for other, own in aliases.items():
        value = renamed.pop(other, None)
        if value is None:
            continue
        if renamed.get(own) not in (None, value):
            raise ConfigError(
                f"config.json: {own}={json.dumps(renamed[own])} and {other}={json.dumps(value)}: "
                "two values of one setting.  Take the wrong one out."
            )
        renamed[own] = value
    return renamed


def read_settings(fields: Mapping[str, Any], mappings: Iterable[FieldMapping]) -> dict[str, Any]:
    """Read settings of a model from ``config.json``.

    Args:
        fields: All values of the file.
        mappings: Mappings of the settings.

    Returns:
        The values of the settings, by name.

    Raises:
        ConfigError: A value is of another type, or has a name that is not computed here.
    """
    values: dict[str, Any] = {}
    for local, remote, default, names in mappings:
        value = field_of(fields, remote, default)
        if names is not None and value not in names:
            raise ConfigError(
                f"config.json: {remote}={value}: no such variant here, known are "
                f"{', '.join(names)}."
            )
        values[local] = value if names is None else names[str(value)]
    return values


def write_settings(
    config: msgspec.Struct, mappings: Iterable[FieldMapping], *, kind: str
) -> dict[str, Any]:
    """Return the fields of ``config.json`` that hold settings of a model.

    Args:
        config: The model's.
        mappings: Mappings of the settings.
        kind: What is written, such as ``gpt2 checkpoints``.

    Returns:
        The values of the fields, by name.

    Raises:
        SettingError: A setting has a value without a published name.
    """
    fields: dict[str, Any] = {}
    for local, remote, _, names in mappings:
        value = getattr(config, local)
        if names is None:
            fields[remote] = value
        elif value in names.values():
            fields[remote] = next(name for name in names if names[name] == value)
        else:
            allowed = ", ".join(dict.fromkeys(names.values()))
            sentence = f"model.{local}={value}: {kind} have {allowed} only."
            raise SettingError([sentence], {local: next(iter(names.values()))})
    return fields


def label_fields(labels: Sequence[str]) -> dict[str, Any]:
    """Return the fields of ``config.json`` that name labels, in the order of their logits."""
    return {
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def threshold_fields(threshold: float | None) -> dict[str, Any]:
    """Return the fields of ``config.json`` of a classifier of texts that may have several labels.

    Args:
        threshold: Probability above which a text has a label; None where it has one label, and
            nothing is to be said.
    """
    if threshold is None:
        return {}
    return {"problem_type": MULTI_LABEL, LABEL_THRESHOLD: threshold}


def require_settings(config: msgspec.Struct, only: Mapping[str, Any], *, kind: str) -> None:
    """Refuse to write a configuration that a checkpoint format cannot express.

    Args:
        config: The model's.
        only: The one value that the format has for some settings, of this family or another.
        kind: What is written, such as ``gpt2 checkpoints``.

    Raises:
        SettingError: A setting has another value; the first one is named.
    """
    other = {name: value for name, value in only.items() if getattr(config, name, value) != value}
    if other:
        sentences = [
            f"model.{name}={setting_text(getattr(config, name))}: {kind} have "
            f"{setting_text(value)} only."
            for name, value in other.items()
        ]
        raise SettingError(sentences, other)


def setting_text(value: object) -> str:
    """Return a value of a setting as it is typed."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return json.dumps(value, separators=(",", ":"))
    return str(value).lower() if isinstance(value, bool) else str(value)
