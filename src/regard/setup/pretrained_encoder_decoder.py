"""An encoder-decoder with encoder, decoder or both from models that were pretrained alone.

Rothe, Narayan & Severyn 2020, "Leveraging Pre-trained Checkpoints for Sequence Generation Tasks":
the attention over the source starts at random. Two published parts keep their own vocabularies
where these differ; else both share one, that of the weights. Memory: the weights of each part once
more, while they are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace
from torch import Tensor

from regard.data.tokenizer import TokenizerConfig
from regard.errors import ConfigError, WeightsError
from regard.hub.hugging_face.published_folder import read_hugging_face
from regard.hub.hugging_face.published_tokenizer import FastTokenizer
from regard.hub.hugging_face.recognize import is_hugging_face
from regard.hub.hugging_face.sentencepiece_tokenizer import (
    SentencePieceTokenizer,
    read_any_tokenizer,
)
from regard.hub.hugging_face.source_target_tokenizer import read_source_target
from regard.hub.model_folder import ModelFolder
from regard.layers.attention_config import AttentionConfig
from regard.models import (
    EncoderDecoderConfig,
    EncoderDecoderModel,
    Model,
)
from regard.models.base.encoder import EncoderConfig
from regard.models.base.encoder_decoder import START_ID
from regard.models.encoder_decoder.model import PART_CONFIGS
from regard.setup.config import RunConfig
from regard.setup.fine_tuning import encoder_weights, fill_from_pretrained

if TYPE_CHECKING:
    from regard.hub.any_tokenizer import AnyTokenizer
    from regard.setup.base_task import Task

_DECODER_ONLY, _WITH_SOURCE = ".attention_residual.", ".self_residual."  # names within a block
_CROSS = ".cross_"
_HEADS = ("head.", "pooler.")
_PROBES = ["The cat isn't at number 4,096.", "ÄRGER über déjà-vu: Γειά, 猫 и кот!"]
_START_TOKENS = ("bos", "cls", "eos")  # the first of these begins a target


class PretrainedPart(NamedTuple):
    """One trained model.

    Args:
        folder: Its model folder.
        config: Its settings.
        attention: Its attention patterns.
        tensors: Its weights by parameter name.
        tokenizer: Its vocabulary.
        tokenizer_config: The settings of its vocabulary.
    """

    folder: str
    config: Any
    attention: AttentionConfig
    tensors: dict[str, Tensor]
    tokenizer: AnyTokenizer
    tokenizer_config: TokenizerConfig

    @property
    def embedding_rows(self) -> int:
        """Rows of its embedding."""
        return self.tokenizer_config.table_rows or len(self.tokenizer)

    @property
    def start_id(self) -> int:
        """Token that begins a target."""
        ids = self.tokenizer.special_ids
        return next((ids[role] for role in _START_TOKENS if role in ids), START_ID)


def part_folders(table: Mapping[str, Any]) -> dict[str, str]:
    """Return the folders of the parts, set by ``fine_tuning.encoder`` and ``fine_tuning.decoder``.

    Args:
        table: Settings by section.

    Raises:
        ConfigError: A whole model to start from is set as well.
    """
    tuning = table.get("fine_tuning", {})
    named = {part: str(tuning.get(part, "none")) for part in PART_CONFIGS}
    folders = {part: folder for part, folder in named.items() if folder != "none"}
    if folders and table.get("start_from", "none") != "none":
        raise ConfigError(
            f"fine_tuning.{next(iter(folders))}: a part of a new model; `start_from` takes a "
            "whole one.  Leave one of the two out."
        )
    return folders


def parts_config(folders: Mapping[str, str], task: Task) -> RunConfig:
    """Return the settings of a run that starts from pretrained parts.

    Args:
        folders: Folders of encoder and decoder, or of one of them, in regard's or Hugging Face's
            format.
        task: The task of the data.

    Raises:
        ConfigError: The data has no pairs, a model cannot be the part that it is set for, or the
            two have different vocabularies and are not both in Hugging Face's format.
        WeightsError: A folder holds no model, or no vocabulary.
    """
    if not task.writes_targets:
        names = "fine_tuning." + ", fine_tuning.".join(folders)
        raise ConfigError(f"{names}: parts of an encoder-decoder; the data is for {task.name}.")
    parts = {name: _read_part(name, folder) for name, folder in folders.items()}
    source, target = next(iter(parts.values())), list(parts.values())[-1]
    has_two_vocabularies = source is not target and not _share_vocabulary(source, target)
    if not has_two_vocabularies:
        target = source
    model = EncoderDecoderConfig(
        **{name: part.config for name, part in parts.items()},
        source_rows=source.embedding_rows if has_two_vocabularies else None,
        start_id=target.start_id,
    )
    end, pad_id = source.tokenizer.end_id, model.encoder.pad_id
    if end == pad_id:  # the encoder would not see the end of a source
        raise ConfigError(
            f"{source.folder}: token {end} ends its texts, and by {pad_id} the encoder's rows are "
            "filled up.  Take an encoder that pads with another token (pad_token_id)."
        )
    full = AttentionConfig().pattern
    patterns = {}
    for name, part in parts.items():
        pattern = getattr(part.attention, name)
        patterns[name] = part.attention.pattern if pattern is None else pattern
    return replace(
        task.defaults,
        model=model,
        tokenizer=target.tokenizer_config,
        attention=replace(
            task.defaults.attention,
            **{name: pattern for name, pattern in patterns.items() if pattern != full},
        ),
    )


class TwoVocabularies(ModelFolder):
    """The folders of an encoder and a decoder with vocabularies of their own.

    Args:
        folders: Folders of ``encoder`` and ``decoder``, in Hugging Face's format.
    """

    def __init__(self, folders: Mapping[str, str]) -> None:
        super().__init__(folders["decoder"])
        self._source = Path(folders["encoder"])

    def read_tokenizer(self) -> AnyTokenizer:
        """Return the pair of both."""
        return read_source_target(self._source, self.path)


def load_parts(model: Model, folders: Mapping[str, str]) -> None:
    """Copy the weights of pretrained parts into an encoder-decoder.

    Raises:
        ConfigError: The model is of another family.
        WeightsError: Weights are missing or of other shapes.
    """
    if not isinstance(model, EncoderDecoderModel):
        raise ConfigError(
            f"fine_tuning.{next(iter(folders))}: a part of an encoder-decoder of the family "
            f"{EncoderDecoderConfig().family}, not of a {type(model).__name__}.  Leave "
            "`model.family` out."
        )
    for name, folder in folders.items():
        part, tensors = getattr(model, name), _read_part(name, folder).tensors
        if name == "decoder":
            tensors = {
                key.replace(_DECODER_ONLY, _WITH_SOURCE): tensor for key, tensor in tensors.items()
            }
            parameters = dict(part.named_parameters())
            tensors |= {key: tensor.data for key, tensor in parameters.items() if _CROSS in key}
        fill_from_pretrained(part, tensors, Path(folder))


def _read_part(name: str, folder: str) -> PretrainedPart:
    path = Path(folder)
    if is_hugging_face(path):
        checkpoint = read_hugging_face(path)
        config, attention = checkpoint.config, AttentionConfig()
        tokenizer_config = TokenizerConfig(kind="published", table_rows=checkpoint.vocab_size)
        tensors, tokenizer = checkpoint.tensors(), read_any_tokenizer(path)
        if tokenizer.is_missing:
            raise WeightsError(f"{folder}: has no vocabulary, so text cannot be read or written.")
    else:
        own = ModelFolder(folder)
        settings = own.read_config(RunConfig)
        config, attention = settings.model, settings.attention
        tokenizer_config = settings.tokenizer
        _check_family(name, folder, config)  # a model of images has no tokenizer to read
        tensors, tokenizer = own.read_weights(), own.read_tokenizer()
    _check_family(name, folder, config)
    if isinstance(config, EncoderConfig):
        config = config.for_single_texts()
    weights = {
        key: tensor
        for key, tensor in encoder_weights(tensors).items()
        if not key.startswith(_HEADS)
    }
    return PretrainedPart(folder, config, attention, weights, tokenizer, tokenizer_config)


def _check_family(name: str, folder: str, config: Any) -> None:
    if not isinstance(config, PART_CONFIGS[name]):
        families = ", ".join(part_config().family for part_config in PART_CONFIGS[name])
        raise ConfigError(
            f"fine_tuning.{name}={folder}: a model of family {config.family}; the {name} may "
            f"be one of {families}."
        )


def _split_alike(source: AnyTokenizer, target: AnyTokenizer) -> bool:
    """Return whether two vocabularies give a text of one line the same token ids.

    An exported vocabulary has rules for the ends of lines which its original lacks: there the
    tables of tokens and the ids of some texts decide.
    """
    if SentencePieceTokenizer in (type(source), type(target)):
        return type(source) is type(target) and source.files() == target.files()
    if source.to_json() == target.to_json():
        return True
    if type(source) is type(target) or _table_of(source) != _table_of(target):
        return False
    return source.encode(_PROBES) == target.encode(_PROBES)


def _table_of(tokenizer: AnyTokenizer) -> list[Any]:
    """Return the pieces of a vocabulary, without the rules for what is around them."""
    content = json.loads(tokenizer.to_json())
    return [content["model"], content["added_tokens"]]


def _share_vocabulary(source: PretrainedPart, target: PretrainedPart) -> bool:
    """Return whether two parts have the same vocabulary.

    Raises:
        ConfigError: They have not, and may not have two; or their embeddings differ in size.
    """
    if not _split_alike(source.tokenizer, target.tokenizer):
        if all(type(part.tokenizer) is FastTokenizer for part in (source, target)):
            return False
        counts = [f"{len(part.tokenizer):,} tokens" for part in (source, target)]
        raise ConfigError(
            f"{source.folder} and {target.folder}: have other vocabularies "
            f"({' and '.join(counts)}), which only two folders in Hugging Face's layout without "
            "SentencePiece may.  Take two models with the same, or leave one side out, which then "
            "begins at random."
        )
    if source.embedding_rows != target.embedding_rows:
        raise ConfigError(
            f"{source.folder} and {target.folder}: have tables of {source.embedding_rows:,} and "
            f"{target.embedding_rows:,} rows of tokens, which must be equal."
        )
    return True
