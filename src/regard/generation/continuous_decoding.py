"""Decoding for many callers at once: what a caller asks for joins what is being decoded.

Scheduling by iterations (Yu et al. 2022, "Orca: A Distributed Serving System for Transformer-Based
Generative Models"): a worker takes one step of each of its searches in turn, and takes in between
what has come since, so that a short sentence never waits until a long one of somebody else is done.
Where rows may join (the compiled decoder, CUDA graphs), sources with the same settings are rows of
one search; else those that came together are. Outputs are those of every sentence alone. What a
caller no longer waits for leaves its search before the next step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread, get_ident
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from regard.data.batching import SpecialIds, TokenRows
from regard.generation.awaited_results import await_results, deliver, deliver_error
from regard.generation.beam_search import Hypothesis, make_search
from regard.generation.beam_search_config import BeamSearchConfig
from regard.generation.decoding import JoiningDecoder, SearchingDecoder, Seq2SeqDecoder
from regard.generation.fair_queue import FairQueue
from regard.generation.scheduling import DECODING_TOKENS, length_batches

_ENCODED_PARTS = 4  # of the tokens that a worker decodes at once, each encoded together


@dataclass(eq=False)
class _Source:
    """A source that is decoded for a caller.

    Args:
        ids: Its tokens as the encoder reads them, ``[length]``.
        config: The search.
        is_alone: Whether it has a search of its own, since a step of a batch with it has failed.
        outputs: Its hypotheses, best first, once it is done.
    """

    ids: NDArray[np.int64]
    config: BeamSearchConfig
    is_alone: bool = False
    outputs: Future[list[Hypothesis]] = field(default_factory=Future)

    @property
    def num_tokens(self) -> int:
        """Its tokens, those of all beams counted."""
        return len(self.ids) * self.config.beam

    @property
    def is_cancelled(self) -> bool:
        """Whether its caller waits no longer."""
        return self.outputs.cancelled()


class _RunningSearch:
    """A search of a worker, and the sources that are in it.

    Args:
        decoder: Takes the steps.
        ids: The tokens that pad, begin and end the rows.
        first: The first source.
    """

    def __init__(self, decoder: Seq2SeqDecoder[Any], ids: SpecialIds, first: _Source) -> None:
        self._ids, self._first = ids, first
        self._num_added = 0
        self._search = make_search(decoder, first.config, ids, self._finish)
        self.sources: dict[int, _Source] = {}
        """Those that are not done, by their index in the search."""

    @property
    def num_tokens(self) -> int:
        """Tokens of its sources, those of all beams counted."""
        return sum(source.num_tokens for source in self.sources.values())

    def may_join(self, source: _Source) -> bool:
        """Return whether a source may be added."""
        is_shared = not (source.is_alone or self._first.is_alone)
        return is_shared and source.config == self._first.config and self._search.may_join

    def add(self, batch: Sequence[_Source], device: torch.device) -> None:
        """Begin sources."""
        indices = range(self._num_added, self._num_added + len(batch))
        self._num_added += len(batch)
        self.sources.update(zip(indices, batch, strict=True))
        rows = TokenRows([source.ids for source in batch])
        padded = rows.pad(np.arange(len(batch)), fill=self._ids.pad)  # [batch, length]
        self._search.add(padded.to(device), indices)

    def advance(self) -> None:
        """Take a step, or a few where sources are few."""
        self._search.advance()

    def drop_cancelled(self) -> None:
        """Let the sources go whose callers have left."""
        cancelled = [index for index, source in self.sources.items() if source.is_cancelled]
        if cancelled:
            self._search.drop(cancelled)
            for index in cancelled:
                del self.sources[index]

    def _finish(self, index: int, outputs: list[Hypothesis]) -> None:
        deliver(self.sources.pop(index).outputs, outputs)


class ContinuousDecoding:
    """Decodes for callers in several threads; each waits for its own sources alone.

    Args:
        decoder: From `seq2seq_decoder`; its model does not change meanwhile.
        ids: The tokens that pad, begin and end the rows.
        device: Where sources are read.
        num_workers: Threads that decode, and share PyTorch's threads; None is one for each of these
            where the compiled decoder writes, else 1.
        num_tokens: Source tokens that a thread decodes at once, those of all beams counted; None
            takes as many as a single call does.
    """

    def __init__(
        self,
        decoder: Seq2SeqDecoder[Any],
        ids: SpecialIds,
        *,
        device: torch.device | str = "cpu",
        num_workers: int | None = None,
        num_tokens: int | None = None,
    ) -> None:
        self._decoder, self._ids, self._device = decoder, ids, torch.device(device)
        self._num_threads = torch.get_num_threads()
        if num_workers is None:
            num_workers = self._num_threads if isinstance(decoder, SearchingDecoder) else 1
        factor = decoder.batch_factor if isinstance(decoder, JoiningDecoder) else 1
        self._num_tokens = DECODING_TOKENS * factor if num_tokens is None else num_tokens
        self._changed = Condition()
        self._waiting = FairQueue[_Source]()
        self._busy: set[int] = set()  # workers that have searches
        self._is_closed = False
        self._workers = [
            Thread(target=self._work, name=f"decoding-{number}", daemon=True)
            for number in range(num_workers)
        ]
        for worker in self._workers:
            worker.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decode(
        self,
        sources: Sequence[NDArray[np.int64]],
        config: BeamSearchConfig,
        check_caller: Callable[[], None] | None = None,
    ) -> list[list[Hypothesis]]:
        """Decode sources, together with those of other callers.

        Args:
            sources: Tokens of each as the encoder reads it, ``[length]``, its end included.
            config: The search.
            check_caller: Called now and then; what it raises ends the decoding of these sources,
                not of those of others.

        Returns:
            The hypotheses of each source, best first, in their order.

        Raises:
            RuntimeError: It is closed.
            ConfigError: The constraints of the search forbid every token.
            WeightsError: The model gives NaN.
        """
        waiting = [_Source(ids, config) for ids in sources]
        self._submit(waiting)
        return await_results([source.outputs for source in waiting], check_caller)

    @property
    def is_alive(self) -> bool:
        """Whether its threads work."""
        return all(worker.is_alive() for worker in self._workers)

    def close(self) -> None:
        """Finish what callers wait for, and let the workers end; later calls raise RuntimeError."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _submit(self, sources: Sequence[_Source]) -> None:
        with self._changed:
            if self._is_closed:
                raise RuntimeError("decoding was closed.")
            self._waiting.put(sources)
            self._changed.notify_all()

    @torch.inference_mode()
    def _work(self) -> None:
        """Decode until it is closed and nothing is left."""
        searches: list[_RunningSearch] = []
        while (taken := self._take(searches)) is not None:
            for batch in self._batches(taken):
                search = next((each for each in searches if each.may_join(batch[0])), None)
                if search is None:
                    search = _RunningSearch(self._decoder, self._ids, batch[0])
                    searches.append(search)
                self._step(search, batch)
            for search in searches:
                self._step(search)
            searches[:] = [search for search in searches if search.sources]

    def _take(self, searches: Sequence[_RunningSearch]) -> list[_Source] | None:
        """Take sources that wait, while there is room for them.

        Args:
            searches: Those of this worker; without one it waits for sources.

        Returns:
            The sources; None where it is closed, and nothing is left.
        """
        taken: list[_Source] = []
        room = self._num_tokens - sum(search.num_tokens for search in searches)
        with self._changed:
            if not searches:
                self._busy.discard(get_ident())
                self._changed.wait_for(lambda: len(self._waiting) or self._is_closed)
                if not len(self._waiting):
                    return None
                self._busy.add(get_ident())
            # Workers without a search are about to take their part.
            num_takers = 1 + len(self._workers) - len(self._busy)
            for _ in range(-(-len(self._waiting) // num_takers)):
                first = self._waiting.first()
                if first.is_cancelled:
                    self._waiting.pop()
                    continue
                if first.num_tokens > room and (searches or taken):
                    break
                taken.append(self._waiting.pop())
                room -= taken[-1].num_tokens
            num_threads = self._num_threads // len(self._busy)
        torch.set_num_threads(max(1, num_threads))  # of this worker
        return taken

    def _batches(self, sources: Sequence[_Source]) -> Iterator[list[_Source]]:
        """Yield sources that are encoded together: with the same settings, of similar length."""
        groups: dict[object, list[_Source]] = {}
        for source in sources:
            groups.setdefault(source if source.is_alone else source.config, []).append(source)
        for group in groups.values():
            lengths = np.array([len(source.ids) for source in group])
            most = self._num_tokens // _ENCODED_PARTS
            for batch in length_batches(lengths, group[0].config.beam, most):
                yield [group[index] for index in batch]

    def _step(self, search: _RunningSearch, batch: Sequence[_Source] | None = None) -> None:
        """Begin sources in a search, or take a step of it.

        Where that fails, its sources are tried again, each alone: one that has failed alone has the
        error, and what others asked for is written.
        """
        try:
            if batch is None:
                search.drop_cancelled()
                if search.sources:
                    search.advance()
            else:
                search.add(batch, self._device)
        except Exception as error:  # noqa: BLE001 - raised where the caller waits for it
            failed = list(search.sources.values())
            search.sources.clear()
            if len(failed) == 1 and failed[0].is_alone:
                deliver_error(failed[0].outputs, error)
                return
            for source in failed:
                source.is_alone = True
            with self._changed:
                for source in failed:
                    self._waiting.put([source])
                self._changed.notify_all()
