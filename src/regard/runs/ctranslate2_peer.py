"""Outputs of an exported folder in CTranslate2, with what its README needs and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import chain, filterfalse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from msgspec.structs import replace
from tokenizers import Tokenizer as Backend
from torch import Tensor

from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.export.ctranslate2_search import (
    sampling_options,
    search_difference,
    search_options,
    writing_limits,
)
from regard.hub.file_names import (
    CTRANSLATE2_VOCABULARY,
    CTRANSLATE2_WRITER_VOCABULARY,
    HF_CONFIG,
    MARIAN_SOURCE,
    MARIAN_TARGET,
    SENTENCEPIECE_FAIRSEQ,
    SENTENCEPIECE_LLAMA,
    SENTENCEPIECE_T5,
    TOKENIZER,
)
from regard.hub.hugging_face.base_tokenizer import PublishedTokenizer
from regard.hub.hugging_face.published_tokenizer import SENTINEL
from regard.models import EncoderDecoder, Model
from regard.runs.text_check import Peer
from regard.runs.text_outputs import (
    TextOutput,
    TextReader,
    compared_search,
    continued_tokens,
    scored_tokens,
)
from regard.tasks.language_modeling.predictor import TextGenerator
from regard.tasks.sequence_to_sequence.predictor import TargetWriter

_SPACE = "▁"
_TAG = re.compile(">>[^<>]+<<")  # Marian's target language, before the source


class _Vocabulary(NamedTuple):
    """The tokens of a folder.

    Args:
        tokens: That of each id.
        ids: The id of each, as CTranslate2 reads it: that of the unknown token where there is none.
        encode: Splits a text into tokens, special tokens around it.
        decode: Joins tokens to a text.
    """

    tokens: list[str]
    ids: Callable[[Sequence[str]], tuple[int, ...]]
    encode: Callable[[str], list[str]]
    decode: Callable[[Sequence[str]], str]


def ctranslate2_outputs(folder: Path, opened: TextReader, texts: Sequence[str]) -> list[TextOutput]:
    """Return what CTranslate2 makes of texts with an exported folder.

    Args:
        folder: The export.
        opened: The model that was exported.
        texts: Sources, or prompts.

    Returns:
        An output for each, with the mean log-probability of an output or of a prompt.
    """
    library = import_module("ctranslate2")
    vocabulary = _read_vocabulary(folder, opened.tokenizer)
    if isinstance(opened, TargetWriter):
        translator = library.Translator(str(folder), intra_threads=torch.get_num_threads())
        return [_translate(translator, vocabulary, opened, text) for text in texts]
    assert isinstance(opened, TextGenerator)
    generator = library.Generator(str(folder), intra_threads=torch.get_num_threads())
    return [_continue(generator, vocabulary, opened, text) for text in texts]


def ctranslate2_difference(
    folder: Path, model: Model, inputs: Sequence[tuple[Tensor, ...]], outputs: Sequence[Tensor]
) -> float:
    """Return the largest difference of a log-probability in an export to that in the model.

    Args:
        folder: The export.
        model: The model.
        inputs: Token ids of each text, ``[1, length]``, and of a translator of its target.
        outputs: The model's logits of each, ``[1, length, vocab]``.

    Returns:
        Of every token of every text but the first, and of the end of a target.
    """
    library = import_module("ctranslate2")
    differences = []
    is_translator = isinstance(model, EncoderDecoder)
    tokens = _read_tokens(folder)
    kind = library.Translator if is_translator else library.Generator
    reader = kind(str(folder), intra_threads=torch.get_num_threads())
    for rows, logits in zip(inputs, outputs, strict=True):
        texts = [[[tokens[token] for token in row] for row in ids.tolist()] for ids in rows]
        if is_translator:  # targets begin with a token that is not scored
            scored = reader.score_batch(texts[0], [row[1:] for row in texts[1]])
        else:
            scored = reader.score_batch(texts[0])
        log_probabilities = logits.float().log_softmax(-1)
        for row, own, scores in zip(rows[-1], log_probabilities, scored, strict=True):
            num = len(row) - 1
            ours = own[:num].gather(1, row[1:, None])[:, 0]  # [length - 1]
            differences.append(float((ours - torch.tensor(scores.log_probs[:num])).abs().max()))
    return max(differences)


CTRANSLATE2 = Peer(
    "ctranslate2",
    ctranslate2_outputs,
    ctranslate2_difference,
    numbers="Log-probabilities",
    search_difference=search_difference,
    greedy="beam_size=1",
    limit="max_decoding_length",
)
"""What CTranslate2's format is for."""


def _translate(
    translator: Any, vocabulary: _Vocabulary, opened: TargetWriter, text: str
) -> TextOutput:
    """Translate with the options of the README, and the limit of the text."""
    source = vocabulary.encode(text)
    search = compared_search(opened)
    limits = writing_limits(search, opened.max_source_length)
    first = search.forced_first
    (result,) = translator.translate_batch(
        [source],
        target_prefix=None if first is None else [[vocabulary.tokens[first]]],
        max_decoding_length=limits.of_output(len(source)),
        max_input_length=limits.source or 0,
        **search_options(search, vocabulary.tokens),
    )
    (output,) = result.hypotheses
    (scored,) = translator.score_batch([source], [output], max_input_length=0)
    score = float(np.mean(scored.log_probs[: scored_tokens(opened)]))
    return TextOutput(vocabulary.ids(source), vocabulary.decode(output), (score,))


def _continue(
    generator: Any, vocabulary: _Vocabulary, opened: TextGenerator, prompt: str
) -> TextOutput:
    """Continue a prompt by the most probable tokens, with the options of the README."""
    tokens = vocabulary.encode(prompt)
    sampling, tokenizer = opened.config.sampling, opened.tokenizer
    unused = tokenizer.unused_ids(opened.model.vocab_size)
    sampling = replace(sampling, forbidden=(*sampling.forbidden, *unused))
    options = sampling_options(
        sampling, tokenizer.stop_ids, tokenizer.written_stop_ids, vocabulary.tokens
    )
    (result,) = generator.generate_batch(
        [tokens],
        include_prompt_in_result=False,
        max_length=continued_tokens(opened, len(tokens)),
        **options,
    )
    before, whole = map(vocabulary.decode, (tokens, [*tokens, *result.sequences[0]]))
    numbers: tuple[float, ...] = ()
    if len(tokens) > 1:
        (scored,) = generator.score_batch([tokens])
        numbers = (float(np.mean(scored.log_probs)),)
    return TextOutput(vocabulary.ids(tokens), whole[len(before) :], numbers)


def _read_tokens(folder: Path) -> list[str]:
    names = (CTRANSLATE2_VOCABULARY, CTRANSLATE2_WRITER_VOCABULARY)
    path = next(filter(Path.is_file, map(folder.joinpath, names)))
    return json.loads(path.read_text(encoding="utf-8"))


def _read_vocabulary(folder: Path, tokenizer: AnyTokenizer) -> _Vocabulary:
    """Read the vocabulary of a folder; `tokenizer` has the special tokens that its README names."""
    tokens = _read_tokens(folder)
    numbers = {token: number for number, token in enumerate(tokens)}
    unknown = numbers[json.loads((folder / HF_CONFIG).read_text(encoding="utf-8"))["unk_token"]]

    def ids(row: Sequence[str]) -> tuple[int, ...]:
        return tuple(numbers.get(token, unknown) for token in row)

    read = _read_tokenizer if (folder / TOKENIZER).is_file() else _read_sentencepiece
    return _Vocabulary(tokens, ids, *read(folder, tokenizer, tokens))


_Coders = tuple[Callable[[str], list[str]], Callable[[Sequence[str]], str]]
"""What splits a text into tokens, and what joins them."""


def _read_tokenizer(folder: Path, _tokenizer: AnyTokenizer, _tokens: Sequence[str]) -> _Coders:
    backend = Backend.from_file(str(folder / TOKENIZER))
    backend.encode_special_tokens = True

    def encode(text: str) -> list[str]:
        return [str(backend.id_to_token(token)) for token in backend.encode(text).ids]

    def decode(row: Sequence[str]) -> str:
        ids = map(backend.token_to_id, filterfalse(SENTINEL.fullmatch, row))
        return backend.decode([token for token in ids if token is not None])

    return encode, decode


def _read_sentencepiece(folder: Path, tokenizer: AnyTokenizer, tokens: Sequence[str]) -> _Coders:
    package = import_module("sentencepiece")
    names = (MARIAN_SOURCE, SENTENCEPIECE_T5, SENTENCEPIECE_LLAMA, SENTENCEPIECE_FAIRSEQ)
    name = next(name for name in names if (folder / name).is_file())
    source, target = (
        package.SentencePieceProcessor(model_file=str(folder / file))
        for file in (name, MARIAN_TARGET if name == MARIAN_SOURCE else name)
    )
    assert isinstance(tokenizer, PublishedTokenizer)
    before, after, hidden = (
        [tokens[token] for token in ids]
        for ids in (tokenizer.begin_ids, tokenizer.end_ids, tokenizer.hidden_ids)
    )

    def encode(text: str) -> list[str]:
        if name == SENTENCEPIECE_T5:
            parts = re.split(f"({SENTINEL.pattern})", text)
            pieces = [_split(source, part) for part in parts]
            return [*before, *chain.from_iterable(pieces), *after]
        if name != MARIAN_SOURCE:
            return [*before, *source.id_to_piece(source.encode(text)), *after]
        tag = _TAG.match(text)
        head = [tag[0]] if tag is not None and tag[0] in tokens else []
        pieces = source.encode(text.removeprefix("".join(head)), out_type=str)
        return [*before, *head, *pieces, *after]

    def decode(row: Sequence[str]) -> str:
        row = [token for token in row if token not in hidden and not SENTINEL.fullmatch(token)]
        text = target.decode(row).replace(_SPACE, " ")
        return text if name == SENTENCEPIECE_T5 else text.strip()

    return encode, decode


def _split(processor: Any, part: str) -> list[str]:
    """Return the pieces of a part of a text; a sentinel of T5 is one."""
    return [part] if SENTINEL.fullmatch(part) else processor.encode(part, out_type=str)
