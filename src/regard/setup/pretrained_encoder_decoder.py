"""An encoder-decoder whose sides begin as models that were trained alone.

Rothe, Narayan & Severyn 2020, "Leveraging Pre-trained Checkpoints for Sequence Generation Tasks":
the encoder, the decoder, or both come with weights; what stands between them, the attention over
the source, begins at random. Two sides as others publish them keep their own vocabularies where
these differ; else both share one, that of the weights. Reading holds each side's weights a second
time in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from torch import Tensor

from regard.data.tokenizer import TokenizerConfig
from regard.errors import ConfigError, WeightsError
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.hugging_face.checkpoint import is_hugging_face, read_hugging_face
from regard.hub.hugging_face.published_tokenizer import PublishedTokenizer
from regard.hub.hugging_face.sentencepiece_tokenizer import (
    SentencePieceTokenizer,
    read_any_tokenizer,
)
from regard.hub.hugging_face.source_target_tokenizer import SourceTargetTokenizer
from regard.hub.model_folder import ModelFolder
from regard.layers.attention_config import AttentionConfig
from regard.models import (
    CHECKPOINT_FORMATS,
    BertConfig,
    GptConfig,
    Joined,
    JoinedConfig,
    LongformerConfig,
    MesaNetConfig,
    Model,
    TransformerXlConfig,
    family_of,
)
from regard.models.base.encoder_decoder import START_ID
from regard.setup.config import Preset, RunConfig, TaskName
from regard.setup.pretrained import fill_weights, load_start, suit_start
from regard.setup.resolve import apply_preset

_KINDS: dict[str, tuple[type, ...]] = {
    "encoder": (BertConfig, LongformerConfig),
    "decoder": (GptConfig, TransformerXlConfig, MesaNetConfig),
}
_ALONE, _READING = ".attention_residual.", ".self_residual."  # of a block; of one with a source
_CROSS = ".cross_"
_HEADS = ("head.", "pooler.")
_BEGINS = ("bos", "cls", "eos")  # what begins a target, in this order


class _Side(NamedTuple):
    """One trained model.

    Args:
        folder: Where it stands.
        config: Its family's settings.
        attention: Its patterns.
        tensors: Its weights by the family's names.
        tokenizer: Its vocabulary.
        cut: How text becomes tokens of it.
    """

    folder: str
    config: Any
    attention: AttentionConfig
    tensors: dict[str, Tensor]
    tokenizer: AnyTokenizer
    cut: TokenizerConfig

    @property
    def table_rows(self) -> int:
        """Rows of its table of tokens."""
        return self.cut.table_rows or len(self.tokenizer)

    @property
    def start_id(self) -> int:
        """Token that begins a target."""
        ids = self.tokenizer.special_ids
        return next((ids[role] for role in _BEGINS if role in ids), START_ID)


def sides_of(words: Mapping[str, str]) -> dict[str, str]:
    """Find the folders of sides among settings by name, such as ``fine_tuning.encoder``.

    Raises:
        ConfigError: A model to go on from is set as well.
    """
    names = {side: f"fine_tuning.{side}" for side in _KINDS}
    found = {side: words[name] for side, name in names.items() if words.get(name, "none") != "none"}
    if found and "start_from" in words:
        raise ConfigError(
            f"{names[next(iter(found))]}: the sides of a new model; --from goes on with a whole "
            "one.  Leave one of the two out."
        )
    return found


def joined_config(folders: Mapping[str, str], task: TaskName, defaults: RunConfig) -> RunConfig:
    """Make the settings of a run whose sides begin as trained models.

    Args:
        folders: Of encoder and decoder, or of one of them; regard's own or in Hugging Face's
            layout.
        task: What the data is for.
        defaults: Of the task.

    Raises:
        ConfigError: The data has no pairs, a model is none that can be that side, or the two have
            other vocabularies and are not both in Hugging Face's layout.
        WeightsError: A folder holds no model, or no vocabulary.
    """
    if task != "translation":
        given = "fine_tuning." + ", fine_tuning.".join(folders)
        raise ConfigError(f"{given}: sides of an encoder-decoder; the data is for {task}.")
    sides = {name: _read_side(name, folder) for name, folder in folders.items()}
    first, *others = sides.values()
    are_two = any(not _share_vocabulary(first, other) for other in others)
    target = sides["decoder"] if are_two else first
    model = JoinedConfig(
        **{name: side.config for name, side in sides.items()},
        source_rows=first.table_rows if are_two else None,
        start_id=target.start_id,
    )
    _require_end(first, model.encoder.pad_id)
    replace = msgspec.structs.replace
    return replace(
        defaults,
        model=model,
        tokenizer=target.cut,
        attention=replace(
            defaults.attention,
            **{name: own for name, side in sides.items() if (own := _own_pattern(name, side))},
        ),
    )


def suit_sides(config: RunConfig, preset: Preset) -> RunConfig:
    """Fill in what is open: sizes of a side without weights, batch and rate of a preset."""
    given = {name: getattr(config.model, name) for name in _folders(config)}
    suited = apply_preset(suit_start(msgspec.structs.replace(config, preset=preset)), preset)
    model = msgspec.structs.replace(suited.model, **given)
    return msgspec.structs.replace(suited, model=model)


def begins_with_weights(config: RunConfig) -> bool:
    """Tell whether a run begins with weights of other models, in whole or in part."""
    return config.start_from is not None or bool(_folders(config))


def stored_vocabulary(config: RunConfig) -> ModelFolder | None:
    """Find what has the vocabulary that a run takes; None where it makes its own."""
    folders = _folders(config)
    if folders and isinstance(config.model, JoinedConfig) and config.model.source_rows is not None:
        return _TwoVocabularies(folders)
    folder = next(iter(folders.values()), config.start_from)
    return None if folder is None else ModelFolder(folder)


class _TwoVocabularies(ModelFolder):
    """The folders of an encoder and a decoder with vocabularies of their own."""

    def __init__(self, folders: Mapping[str, str]) -> None:
        super().__init__(folders["decoder"])
        self._source = ModelFolder(folders["encoder"])

    def read_tokenizer(self) -> AnyTokenizer:
        """Read both."""
        source, target = self._source.read_tokenizer(), super().read_tokenizer()
        assert isinstance(source, PublishedTokenizer)
        assert isinstance(target, PublishedTokenizer)
        return SourceTargetTokenizer(source, target)


def load_weights_of(model: Model, config: RunConfig) -> None:
    """Put the weights that a run begins with into its model; as `load_start`."""
    folders = _folders(config)
    if not folders:
        load_start(model, config)
        return
    assert isinstance(model, Joined)
    for name, folder in folders.items():
        part, tensors = getattr(model, name), _read_side(name, folder).tensors
        if name == "decoder":
            tensors = {key.replace(_ALONE, _READING): tensor for key, tensor in tensors.items()}
            own = dict(part.named_parameters())
            tensors |= {key: tensor.data for key, tensor in own.items() if _CROSS in key}
        fill_weights(part, tensors, Path(folder))


def _folders(config: RunConfig) -> dict[str, str]:
    given = {name: getattr(config.fine_tuning, name) for name in _KINDS}
    return {name: folder for name, folder in given.items() if folder is not None}


def _read_side(name: str, folder: str) -> _Side:
    place = Path(folder)
    attention = AttentionConfig()
    if is_hugging_face(place):
        published = read_hugging_face(place, CHECKPOINT_FORMATS)
        config, tensors = published.config, published.tensors()
        cut = TokenizerConfig(kind="published", table_rows=published.vocab_size)
        tokenizer = read_any_tokenizer(place)
        if tokenizer.is_missing:
            raise WeightsError(f"{folder}: has no vocabulary, so text cannot be read or written.")
    else:
        own = ModelFolder(folder)
        settings = own.read_config(RunConfig)
        config, attention, cut = settings.model, settings.attention, settings.tokenizer
        _require_kind(name, folder, config)
        tensors, tokenizer = own.read_weights(), own.read_tokenizer()
    _require_kind(name, folder, config)
    if "output_bias" in tensors:  # of a classifier
        inner = "encoder."
        tensors = {n.removeprefix(inner): t for n, t in tensors.items() if n.startswith(inner)}
    tensors = {n: tensor for n, tensor in tensors.items() if not n.startswith(_HEADS)}
    return _Side(folder, config, attention, tensors, tokenizer, cut)


def _require_kind(name: str, folder: str, config: Any) -> None:
    if isinstance(config, _KINDS[name]):
        return
    wanted = ", ".join(family_of(kind()) for kind in _KINDS[name])
    raise ConfigError(
        f"fine_tuning.{name}={folder}: a model of family {family_of(config)}; the {name} may be "
        f"one of {wanted}."
    )


def _share_vocabulary(first: _Side, other: _Side) -> bool:
    """Tell whether two sides have one vocabulary, and refuse two where one of them is our own."""
    if _content(first.tokenizer) != _content(other.tokenizer):
        if all(type(side.tokenizer) is PublishedTokenizer for side in (first, other)):
            return False
        counts = [f"{len(side.tokenizer):,} tokens" for side in (first, other)]
        raise ConfigError(
            f"{first.folder} and {other.folder}: have other vocabularies ({' and '.join(counts)}), "
            "which only two folders in Hugging Face's layout without SentencePiece may.  Take two "
            "models with the same, or leave one side out, which then begins at random."
        )
    if first.table_rows != other.table_rows:
        raise ConfigError(
            f"{first.folder} and {other.folder}: have tables of {first.table_rows:,} and "
            f"{other.table_rows:,} rows of tokens, which must be equal."
        )
    return True


def _content(tokenizer: AnyTokenizer) -> Any:
    if isinstance(tokenizer, SentencePieceTokenizer):
        return tokenizer.files()
    return tokenizer.to_json()


def _require_end(side: _Side, pad_id: int) -> None:
    """Refuse to end sources by the token that fills up their rows: no encoder would see it."""
    end = side.tokenizer.end_id
    if end == pad_id:
        raise ConfigError(
            f"{side.folder}: token {end} ends its texts, and by {pad_id} the encoder's rows are "
            "filled up.  Take an encoder that pads with another token (pad_token_id)."
        )


def _own_pattern(name: str, side: _Side) -> Any:
    """Return the pattern that a side was trained with; None for full attention."""
    given = getattr(side.attention, name)
    given = side.attention.pattern if given is None else given
    return None if given == AttentionConfig().pattern else given
