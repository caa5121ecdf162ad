"""The vocabulary of an exported model: with what regard puts around its texts, and their length.

A vocabulary that a run trained splits texts alone. Outside, ``tokenizer.json`` has to add the end
of a source or of a labelled text, what is around a question and its text, and the newline before
running text, each line of which begins with a space. ``tokenizer_config.json`` says how long a text
may be and which inputs the model has: GPT-2 would add the row of token 0 to every position if it
were given segments.
"""

from __future__ import annotations

import json

from tokenizers import Regex, decoders, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from regard.data.tokenizer import Tokenizer
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.file_names import TOKENIZER, TOKENIZER_CONFIG
from regard.hub.hugging_face.published_tokenizer import vocabulary_files
from regard.hub.hugging_face.weight_files import dump_json
from regard.models import Classifier, Decoder, Encoder, SpanModel, TextModel

# After a space at the beginning: one before each later line, none before an empty first one.
_LINES = (("\n(?=[^\n])", "\n "), (r"\A (?=\n)", ""))


def tokenizer_files(
    tokenizer: AnyTokenizer, model: TextModel, model_type: str, max_length: int | None
) -> dict[str, str | bytes]:
    """Return the files of the vocabulary of an exported model, by name.

    Args:
        tokenizer: The vocabulary; one that was published keeps its own tokens around texts.
        model: Decides what is put around texts.
        model_type: Type of the export, which decides the inputs.
        max_length: Maximum number of tokens of a text, those around it counted; None sets no limit.

    Returns:
        The files; none without a vocabulary.
    """
    files = vocabulary_files(tokenizer)
    if not files:
        return files
    if isinstance(tokenizer, Tokenizer):
        files[TOKENIZER] = _with_ends(tokenizer, model)
    settings = json.loads(files.get(TOKENIZER_CONFIG, "{}"))
    inputs = ["input_ids", "attention_mask"]
    if model_type == "bert":
        inputs.insert(1, "token_type_ids")
    settings["model_input_names"] = inputs
    limits = [limit for limit in (max_length, tokenizer.max_length) if limit is not None]
    if limits:
        settings["model_max_length"] = min(limits)
    return files | {TOKENIZER_CONFIG: dump_json(settings)}


def _with_ends(tokenizer: Tokenizer, model: TextModel) -> str:
    """Return the text of a ``tokenizer.json`` that adds what the model was trained with."""
    backend = Backend.from_str(tokenizer.to_json())
    newline, end = tokenizer.newline_id, tokenizer.eos_id
    is_running = isinstance(model, Decoder) or (
        isinstance(model, Encoder) and not isinstance(model, Classifier) and model.head is not None
    )
    begins, ends = ([newline], [newline]) if is_running else ([], [end])
    if isinstance(model, SpanModel):
        begins = list(tokenizer.pair_template.begin)
    if isinstance(model, Decoder):
        ends = []
    if is_running:
        _split_lines(backend)
    names = {token: backend.id_to_token(token) for token in (*begins, *ends)}
    first, last = ([names[token] for token in tokens] for tokens in (begins, ends))
    single, second = (
        " ".join(f"{piece}:{segment}" for piece in (*before, text, *last))
        for segment, before, text in ((0, first, "$A"), (1, [], "$B"))
    )
    backend.post_processor = processors.TemplateProcessing(
        single=single,
        pair=f"{single} {second}",
        special_tokens=[(str(name), token) for token, name in names.items()],
    )
    return backend.to_str()


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
