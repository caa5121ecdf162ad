"""Decoding of many sources: sorted by length, in batches by tokens, by one worker or several.

Sentences of about equal length are decoded together. Where the decoder lets rows join (the compiled
one), new sentences take the places of those that are done, so that a batch stays full; else a batch
shrinks until its last sentence is done. Outputs are those of every sentence alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import Tensor

from regard.data.batching import SpecialIds, TokenRows
from regard.data.progress import stage_counter
from regard.errors import ConfigError
from regard.generation.beam_search import Hypothesis, make_search
from regard.generation.beam_search_config import NEW_SEARCH, BeamSearchConfig
from regard.generation.decoders import decoder_of
from regard.generation.decoding import JoiningDecoder, SearchingDecoder, Seq2SeqDecoder
from regard.settings.binding import check_type

if TYPE_CHECKING:
    from regard.models import EncoderDecoder
    from regard.settings.values import DecodingPrecision

DECODING_TOKENS = 4096  # source tokens decoded together, those of all beams counted
_JOINING_PARTS = 4  # parts of a batch, each of which joins when there is room for it
_SECONDS_TO_SHOW = 1.0  # from one look at how far workers are to the next
_LEAST_TOKENS = DECODING_TOKENS // 16  # fewer are not shared out to workers


def decode(
    model: EncoderDecoder[Any],
    source_ids: Sequence[Sequence[int]] | Tensor,
    *,
    beam: int = 4,
    min_length: int = 0,
    max_length: int | None = None,
    length_penalty: float = 1.0,
    precision: DecodingPrecision | None = None,
    num_workers: int | None = None,
    end_id: int = 2,
) -> list[Hypothesis]:
    """Decode sources as token ids.

    Args:
        model: An encoder-decoder in evaluation mode. Its packed weights are kept with it, and made
            again where its weights changed, though not through ``weight.data``.
        source_ids: Token ids of each source as the encoder reads it, its end included; rows of any
            length, or a tensor ``[batch, length]`` padded on the right with ``model.pad_id``.
        beam: Number of hypotheses kept at every step, 1 or more; 1 is greedy.
        min_length: Minimum number of tokens of an output, its end counted.
        max_length: Maximum number of tokens of an output, its end counted; None takes twice the
            tokens of the source and 10 more.
        length_penalty: 0 favours short outputs, 1 is neutral, more favours long ones.
        precision: Type of the weights: float32, bf16 or int8; None is the model's own.
        num_workers: Threads that decode batches of their own, with an equal part of PyTorch's
            threads each; None is one for each of these where the compiled decoder writes, else 1.
        end_id: Id of the token that ends an output.

    Returns:
        The best output of each source, in their order: its ids without begin and end, and its
        score.

    Raises:
        ConfigError: A number is out of its range, a source has no tokens or others than ids of
            the vocabulary, or the model cannot be decoded in this precision.
        WeightsError: The model gives NaN.

    >>> from regard.models import Transformer, TransformerConfig
    >>> config = TransformerConfig(num_encoder_layers=1, num_decoder_layers=1, dim=8, num_heads=2)
    >>> outputs = decode(Transformer(config, 20).eval(), [[5, 6, 2], [7, 2]], max_length=4)
    >>> len(outputs), all(len(output.ids) <= 4 for output in outputs)
    (2, True)
    """
    for name, value, kind in (
        ("beam", beam, int),
        ("min_length", min_length, int),
        ("max_length", max_length, int | None),
        ("length_penalty", length_penalty, float),
        ("num_workers", num_workers, int | None),
        ("end_id", end_id, int),
    ):
        check_type(value, kind, name)
    if not 0 <= end_id < model.vocab_size:
        raise ConfigError(f"end_id must be 0 to {model.vocab_size - 1:,}, not {end_id}.")
    try:
        config = replace(
            NEW_SEARCH,
            beam=beam,
            min_length=min_length,
            max_length=max_length,
            max_length_ratio=2.0 if max_length is None else None,
            length_penalty=length_penalty,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None
    rows = _token_rows(source_ids, pad=model.pad_id, vocab_size=model.vocab_size)
    ids = SpecialIds(pad=model.pad_id, start=model.start_id, end=end_id)
    decoder = decoder_of(model, precision)
    outputs = decode_sources(
        decoder,
        rows.lengths,
        lambda indices: rows.pad(indices, fill=model.pad_id).to(model.output_weight.device),
        config,
        ids,
        num_workers=num_workers,
    )
    return [best for best, *_ in outputs]


def decode_sources(
    decoder: Seq2SeqDecoder[Any],
    lengths: NDArray[np.int64],
    pad: Callable[[NDArray[np.int64]], Tensor],
    config: BeamSearchConfig,
    ids: SpecialIds,
    *,
    num_workers: int | None = None,
) -> list[list[Hypothesis]]:
    """Decode sources in batches of similar length.

    Args:
        decoder: From `seq2seq_decoder`.
        lengths: Tokens of each source with its end, ``[sources]``.
        pad: Returns the sources of some indices, ``[batch, length]``, padded on the right.
        config: The search.
        ids: The tokens that pad, begin and end the rows.
        num_workers: Threads that decode batches of their own; see `decode`.

    Returns:
        The hypotheses of each source, best first, in their order.

    Raises:
        ConfigError: `num_workers` is below 1.
    """
    if num_workers is None:
        # Without the compiled decoder the workers would wait for each other's Python.
        num_workers = torch.get_num_threads() if isinstance(decoder, SearchingDecoder) else 1
    if num_workers < 1:
        raise ConfigError(f"num_workers must be 1 or more, not {num_workers}.")
    results: list[list[Hypothesis]] = [[] for _ in lengths]
    num_tokens, batches = _plan_batches(decoder, lengths, config.beam, num_workers)

    count = stage_counter("writing", len(lengths), "texts")

    def show() -> None:
        if count is not None:
            count(sum(map(bool, results)))

    def work(show: Callable[[], None] = lambda: None) -> None:
        _decode_batches(decoder, lengths, pad, config, ids, batches, num_tokens, results, show)

    num_workers = min(num_workers, len(batches))
    if num_workers <= 1:
        work(show)
    else:
        try:
            _run_workers(work, num_workers, show)
        except BaseException:  # an interrupt, too: no worker takes another batch
            batches.clear()
            raise
    return results


def _plan_batches(
    decoder: Seq2SeqDecoder[Any], lengths: NDArray[np.int64], beam: int, num_workers: int
) -> tuple[int, deque[list[int]]]:
    """Return the most source tokens that a worker decodes together, and the batches."""
    num_tokens, num_parts = DECODING_TOKENS, 1
    if isinstance(decoder, JoiningDecoder):
        num_tokens, num_parts = num_tokens * decoder.batch_factor, _JOINING_PARTS
    batch_tokens = num_tokens // num_parts
    if num_workers > 1:  # two batches for each, so that all end at about the same time
        even = int(lengths.sum()) * beam // (2 * num_workers)
        batch_tokens = min(batch_tokens, max(_LEAST_TOKENS, even))
    return num_tokens, deque(length_batches(lengths, beam, batch_tokens))


def length_batches(lengths: NDArray[np.int64], beam: int, num_tokens: int) -> list[list[int]]:
    """Return batches of similar length, shortest first.

    Args:
        lengths: Tokens of each row, ``[rows]``.
        beam: Hypotheses of each.
        num_tokens: Most tokens of a batch, padding and hypotheses counted; one row is never cut.

    Returns:
        Indices of the rows of each batch.
    """
    by_length = np.argsort(lengths, kind="stable")
    batches: list[list[int]] = []
    start = 0
    while start < len(by_length):
        end = start + 1
        while end < len(by_length):
            width = int(lengths[by_length[end]])
            if width * (end + 1 - start) * beam > num_tokens:
                break
            end += 1
        batches.append(by_length[start:end].tolist())
        start = end
    return batches


@torch.inference_mode()
def _decode_batches(
    decoder: Seq2SeqDecoder[Any],
    lengths: NDArray[np.int64],
    pad: Callable[[NDArray[np.int64]], Tensor],
    config: BeamSearchConfig,
    ids: SpecialIds,
    batches: deque[list[int]],
    num_tokens: int,
    results: list[list[Hypothesis]],
    show: Callable[[], None],
) -> None:
    """Decode batches of indices, about `num_tokens` at once, until none is left for any worker.

    `show` is called from time to time.
    """
    num_left = 0  # source tokens of the sentences that are not done, those of all beams counted

    def finish(index: int, outputs: list[Hypothesis]) -> None:
        nonlocal num_left
        results[index] = outputs
        num_left -= int(lengths[index]) * config.beam

    search = make_search(decoder, config, ids, finish)
    part = num_tokens - num_tokens // _JOINING_PARTS
    while True:
        has_room = search.num_sentences == 0 or (search.may_join and num_left <= part)
        if has_room and batches:
            try:
                batch = batches.popleft()
            except IndexError:  # another worker took the last one
                continue
            num_left += int(lengths[batch].sum()) * config.beam
            search.add(pad(np.array(batch)), batch)
        elif search.num_sentences:
            search.advance()
            show()
        else:
            return


def _run_workers(work: Callable[[], None], num_workers: int, show: Callable[[], None]) -> None:
    """Run workers that share PyTorch's threads; call `show` meanwhile; raise the first error."""
    num_threads = torch.get_num_threads()
    each = max(1, num_threads // num_workers)

    def run() -> None:
        torch.set_num_threads(each)  # of this thread
        work()

    pool = ThreadPoolExecutor(num_workers)
    try:
        running = {pool.submit(run) for _ in range(num_workers)}
        while running:
            finished, running = wait(running, _SECONDS_TO_SHOW, FIRST_COMPLETED)
            show()
            for future in finished:
                future.result()
    finally:
        pool.shutdown(wait=False)
        torch.set_num_threads(num_threads)


def _token_rows(
    source_ids: Sequence[Sequence[int]] | Tensor, *, pad: int, vocab_size: int
) -> TokenRows:
    """Return sources as rows, without padding.

    Raises:
        ConfigError: A source has no tokens, or has others than ids of the vocabulary.
    """
    if isinstance(source_ids, Tensor):
        if source_ids.dim() != 2:
            raise ConfigError(f"sources must be [batch, length], not {list(source_ids.shape)}.")
        source_ids = [_unpadded(row, pad) for row in source_ids.tolist()]
    return TokenRows([_token_row(index, row, vocab_size) for index, row in enumerate(source_ids)])


def _token_row(index: int, source: Sequence[int], vocab_size: int) -> NDArray[np.int64]:
    """Return a source as a row, ``[length]``; raise ConfigError as `_token_rows`."""
    row = _whole_numbers(source)
    if row is None:
        raise ConfigError(f"source {index} must be a list of whole numbers, not {source!r:.80}")
    if not len(row):
        raise ConfigError(f"source {index} has no tokens.")
    if row.min() < 0 or row.max() >= vocab_size:
        wrong = row[(row < 0) | (row >= vocab_size)][0]
        raise ConfigError(
            f"source {index}: token ids must be 0 to {vocab_size - 1:,}, not {wrong}."
        )
    return row


def _whole_numbers(values: Sequence[int]) -> NDArray[np.int64] | None:
    """Return a list of whole numbers as an array, ``[length]``; None for anything else."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        return None
    is_list = array.ndim == 1 and (not len(array) or array.dtype.kind in "iu")
    return array if is_list else None


def _unpadded(row: list[int], pad: int) -> list[int]:
    """Return a row without the padding on its right."""
    length = len(row)
    while length and row[length - 1] == pad:
        length -= 1
    return row[:length]
