"""The vocabulary of an exported model: with what regard puts around its texts, and their length.

A vocabulary that a run trained splits texts alone. Outside, ``tokenizer.json`` has to add the end
of a source or of a labelled text, what is around a question and its text, and the newline before
running text, each line of which begins with a space. ``tokenizer_config.json`` says how long a text
may be and which inputs the model has: GPT-2 would add the row of token 0 to every position if it
were given segments.
"""

from __future__ import annotations

import json

from tokenizers import Regex, decoders, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from regard.data.tokenizer import Tokenizer
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.file_names import TOKENIZER, TOKENIZER_CONFIG
from regard.hub.hugging_face.published_tokenizer import vocabulary_files
from regard.hub.hugging_face.tokenizer_overrides import surround
from regard.hub.hugging_face.weight_files import dump_json
from regard.models import (
    Classifier,
    Decoder,
    Encoder,
    SpanModel,
    TextModel,
)

# After a space at the beginning: one before each later line, none before an empty first one.
_LINES = (("\n(?=[^\n])", "\n "), (r"\A (?=\n)", ""))


def tokenizer_files(
    tokenizer: AnyTokenizer,
    model: TextModel,
    *,
    reads_segments: bool,
    max_length: int | None,
) -> dict[str, str | bytes]:
    """Return the files of the vocabulary of an exported model, by name.

    Args:
        tokenizer: The vocabulary; one that was published keeps its own tokens around texts.
        model: Decides what is put around texts.
        reads_segments: Whether the exported model reads the numbers of segments.
        max_length: Maximum number of tokens of a text, those around it counted; None sets no limit.

    Returns:
        The files; none without a vocabulary.
    """
    files = files_with_ends(tokenizer, model)
    if not files:
        return files
    settings = json.loads(files.get(TOKENIZER_CONFIG, "{}"))
    inputs = ["input_ids", "attention_mask"]
    if reads_segments:
        inputs.insert(1, "token_type_ids")
    settings["model_input_names"] = inputs
    limits = [limit for limit in (max_length, tokenizer.max_length) if limit is not None]
    if limits:
        settings["model_max_length"] = min(limits)
    return files | {TOKENIZER_CONFIG: dump_json(settings)}


def files_with_ends(tokenizer: AnyTokenizer, model: TextModel) -> dict[str, str | bytes]:
    """Return the files of a vocabulary, by name, with which others put the same around texts.

    Args:
        tokenizer: The vocabulary; one that was published keeps its own tokens around texts.
        model: Decides what is put around texts.

    Returns:
        The files; none without a vocabulary.
    """
    files = vocabulary_files(tokenizer)
    if isinstance(tokenizer, Tokenizer):
        files[TOKENIZER] = _with_ends(tokenizer, model)
    return files


def _with_ends(tokenizer: Tokenizer, model: TextModel) -> str:
    """Return the text of a ``tokenizer.json`` that adds what the model was trained with."""
    backend = Backend.from_str(tokenizer.to_json())
    begin, end = [], [tokenizer.eos_id]
    if isinstance(model, SpanModel):
        begin = tokenizer.pair_template.begin
    elif _reads_running_text(model):
        newline = tokenizer.newline_id
        begin, end = [newline], [] if isinstance(model, Decoder) else [newline]
        _split_lines(backend)
    before, after = ([str(backend.id_to_token(t)) for t in tokens] for tokens in (begin, end))
    backend.post_processor = surround(before, after, backend.get_vocab())
    return backend.to_str()


def _reads_running_text(model: TextModel) -> bool:
    """Return whether a model was trained with running text: a decoder, or one with masks."""
    has_masks = isinstance(model, Encoder) and not isinstance(model, Classifier | SpanModel)
    return isinstance(model, Decoder) or (has_masks and model.head is not None)


def _split_lines(backend: Backend) -> None:
    """Split each line of a text as if it were alone, with the newlines between them."""
    spaces = [normalizers.Replace(Regex(pattern), text) for pattern, text in _LINES]
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(" "), *spaces])
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), backend.pre_tokenizer]
    )
    backend.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace("\n ", "\n"), decoders.Strip(" ", 1, 0)]
    )
