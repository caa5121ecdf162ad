"""An encoder-decoder whose parts begin as models that were trained alone.

Rothe, Narayan & Severyn 2020, "Leveraging Pre-trained Checkpoints for Sequence Generation Tasks":
the encoder, the decoder, or both come with weights; the attention over the source between them
begins at random. Two published parts keep their own vocabularies where these differ; else both
share one, that of the weights. Reading holds each part's weights a second time in memory.
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
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GptConfig,
    LongformerConfig,
    MesaNetConfig,
    Model,
    TransformerXlConfig,
    family_of,
)
from regard.models.base.encoder_decoder import START_ID
from regard.setup.config import RunConfig
from regard.setup.fine_tuning import fill_from_pretrained

_KINDS: dict[str, tuple[type, ...]] = {
    "encoder": (BertConfig, LongformerConfig),
    "decoder": (GptConfig, TransformerXlConfig, MesaNetConfig),
}
_ALONE, _READING = ".attention_residual.", ".self_residual."  # of a block; of one with a source
_CROSS = ".cross_"
_HEADS = ("head.", "pooler.")
_BEGINS = ("bos", "cls", "eos")  # what begins a target, in this order


class PretrainedPart(NamedTuple):
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


def part_folders(table: Mapping[str, Any]) -> dict[str, str]:
    """Return the folders of the parts that settings name, ``fine_tuning.encoder`` and its like.

    Args:
        table: Settings by section.

    Raises:
        ConfigError: A whole model to start from is set as well.
    """
    tuning = table.get("fine_tuning", {})
    folders = {part: str(tuning[part]) for part in _KINDS if tuning.get(part, "none") != "none"}
    if folders and table.get("start_from", "none") != "none":
        raise ConfigError(
            f"fine_tuning.{next(iter(folders))}: a part of a new model; `start_from` takes a "
            "whole one.  Leave one of the two out."
        )
    return folders


def parts_config(folders: Mapping[str, str], task: str, defaults: RunConfig) -> RunConfig:
    """Return the settings of a run whose parts begin as trained models.

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
        raise ConfigError(f"{given}: parts of an encoder-decoder; the data is for {task}.")
    parts = {name: _read_part(name, folder) for name, folder in folders.items()}
    first, *others = parts.values()
    are_two = any(not _share_vocabulary(first, other) for other in others)
    target = parts["decoder"] if are_two else first
    model = EncoderDecoderConfig(
        **{name: part.config for name, part in parts.items()},
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
            **{name: own for name, part in parts.items() if (own := _own_pattern(name, part))},
        ),
    )


class TwoVocabularies(ModelFolder):
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


def load_parts(model: Model, folders: Mapping[str, str]) -> None:
    """Put the weights of trained parts into an encoder-decoder.

    Raises:
        WeightsError: Weights are missing or of other shapes.
    """
    assert isinstance(model, EncoderDecoderModel)
    for name, folder in folders.items():
        part, tensors = getattr(model, name), _read_part(name, folder).tensors
        if name == "decoder":
            tensors = {key.replace(_ALONE, _READING): tensor for key, tensor in tensors.items()}
            own = dict(part.named_parameters())
            tensors |= {key: tensor.data for key, tensor in own.items() if _CROSS in key}
        fill_from_pretrained(part, tensors, Path(folder))


def _read_part(name: str, folder: str) -> PretrainedPart:
    place = Path(folder)
    attention = AttentionConfig()
    if is_hugging_face(place):
        published = read_hugging_face(place)
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
    return PretrainedPart(folder, config, attention, tensors, tokenizer, cut)


def _require_kind(name: str, folder: str, config: Any) -> None:
    if isinstance(config, _KINDS[name]):
        return
    wanted = ", ".join(family_of(kind()) for kind in _KINDS[name])
    raise ConfigError(
        f"fine_tuning.{name}={folder}: a model of family {family_of(config)}; the {name} may be "
        f"one of {wanted}."
    )


def _share_vocabulary(first: PretrainedPart, other: PretrainedPart) -> bool:
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


def _require_end(side: PretrainedPart, pad_id: int) -> None:
    """Refuse to end sources by the token that fills up their rows: no encoder would see it."""
    end = side.tokenizer.end_id
    if end == pad_id:
        raise ConfigError(
            f"{side.folder}: token {end} ends its texts, and by {pad_id} the encoder's rows are "
            "filled up.  Take an encoder that pads with another token (pad_token_id)."
        )


def _own_pattern(name: str, part: PretrainedPart) -> Any:
    """Return the pattern that a part was trained with; None for full attention."""
    pattern = getattr(part.attention, name)
    pattern = part.attention.pattern if pattern is None else pattern
    return None if pattern == AttentionConfig().pattern else pattern
