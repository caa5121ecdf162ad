"""Sampling for many callers at once: their texts are rows of one batch, each of its own length.

A prompt is read in pieces, one between two steps, so that a long one holds up no other text; then
its rows join the batch (Yu et al. 2022, "Orca"). Where rows cannot join (models that write through
PyTorch's operators) the texts take turns, a token each. What a caller gets is what it gets alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress
from queue import SimpleQueue
from threading import Condition, Thread
from typing import Any, Self

import torch
from torch import Tensor

from regard.generation.decoding import CausalDecoder, JoiningCausalDecoder
from regard.generation.sampling import (
    Continuations,
    Draw,
    DrawnTokens,
    NextLogits,
    SamplingConfig,
    draw_together,
)

_PIECE = 256  # tokens of a prompt that are read between two steps


class _Text:
    """The continuations of a prompt that a caller waits for.

    Args:
        continuations: They.
        decoder: Reads the prompt.
    """

    def __init__(self, continuations: Continuations, decoder: CausalDecoder[Any]) -> None:
        self.continuations = continuations
        self.arrived: SimpleQueue[DrawnTokens | BaseException | None] = SimpleQueue()
        """Tokens, and at the end None, or why there are no more."""
        self.is_wanted = True
        self._decoder = decoder
        self.state: Any = decoder.init_state()
        """The prompt as far as it was read, until the text joins a batch."""
        self._num_read = 0

    def read_piece(self, device: torch.device) -> Tensor | None:
        """Read the next piece of the prompt; after the last return logits, ``[num, vocab]``."""
        prompt, num = self.continuations.history[:1], self.continuations.num  # [1, length]
        piece = prompt[:, self._num_read : self._num_read + _PIECE]
        logits = self._decoder.decode_step(piece.to(device), self.state)
        self._num_read += piece.shape[1]
        if self._num_read < prompt.shape[1]:
            return None
        self.state.select(torch.zeros(num, dtype=torch.long, device=device))
        return logits.expand(num, -1)

    def append(self, draw: Draw) -> bool:
        """Hand over the next tokens; return whether more are to follow."""
        continuations = self.continuations
        self.arrived.put(continuations.append(draw))
        if continuations.num_left and not continuations.have_ended:
            return self.is_wanted
        self.arrived.put(None)
        return False


class _Batch:
    """Texts whose rows are stepped together: they follow each other in the state."""

    def __init__(self, text: _Text) -> None:
        self.texts, self.state = [text], text.state

    def next_logits(self, decoder: CausalDecoder[Any], device: torch.device) -> Iterator[Tensor]:
        """Take a step; yield the logits of each text, ``[num, vocab]``."""
        last = torch.cat([text.continuations.history[:, -1:] for text in self.texts])
        logits = decoder.decode_step(last.to(device), self.state)  # [rows, vocab]
        yield from logits.split([text.continuations.num for text in self.texts])

    def keep(self, is_kept: Sequence[bool], device: torch.device) -> None:
        """Let the texts go that have ended."""
        if all(is_kept):
            return
        rows, first = list[int](), 0
        for text, kept in zip(self.texts, is_kept, strict=True):
            end = first + text.continuations.num
            rows += range(first, end) if kept else ()
            first = end
        texts = list(compress(self.texts, is_kept))
        self.texts = []  # where this fails, the state is of no use
        if rows:
            self.state.select(torch.tensor(rows, device=device))
        self.texts = texts


class ContinuousSampling:
    """Continues texts for callers in several threads.

    Args:
        decoder: From `causal_decoder`; its model does not change meanwhile.
    """

    def __init__(self, decoder: CausalDecoder[Any]) -> None:
        self._decoder = decoder
        # The compiled decoder and CUDA graphs read tokens and rows in main memory.
        self._device = getattr(decoder, "device", torch.device("cpu"))
        self._changed = Condition()
        self._new: deque[_Text] = deque()  # since the last step
        self._is_closed = False
        self._worker = Thread(target=self._work, name="sampling", daemon=True)
        self._worker.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_alive(self) -> bool:
        """Whether its thread works."""
        return self._worker.is_alive()

    def sample(
        self,
        prompt: Sequence[int],
        config: SamplingConfig,
        *,
        num: int = 1,
        ends: Collection[int] = (),
        generator: torch.Generator | None = None,
    ) -> Iterator[DrawnTokens]:
        """Continue a prompt, together with those of other callers; see `sampling.sample`.

        Yields:
            The next token of each continuation until the limit of `config`, or until all have
            ended.

        Raises:
            RuntimeError: It is closed.
        """
        continuations = Continuations(prompt, config, num=num, ends=ends, generator=generator)
        if not continuations.num_left:
            return
        text = _Text(continuations, self._decoder)
        with self._changed:
            if self._is_closed:
                raise RuntimeError("sampling was closed.")
            self._new.append(text)
            self._changed.notify()
        try:
            while (drawn := text.arrived.get()) is not None:
                if isinstance(drawn, BaseException):
                    raise drawn
                yield drawn
        finally:
            text.is_wanted = False

    def close(self) -> None:
        """Finish what callers wait for; later calls raise RuntimeError."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._worker.join()

    @torch.inference_mode()
    def _work(self) -> None:
        """Read prompts and take steps until it is closed and nothing is left."""
        prompts: deque[_Text] = deque()
        batches: list[_Batch] = []
        while True:
            with self._changed:
                if not prompts and not batches:
                    self._changed.wait_for(lambda: self._new or self._is_closed)
                prompts.extend(self._new)
                self._new.clear()
                if not prompts and not batches:
                    return
            if prompts:
                self._read(prompts, batches)
            for batch in batches:
                self._step(batch)
            batches[:] = [batch for batch in batches if batch.texts]

    def _read(self, prompts: deque[_Text], batches: list[_Batch]) -> None:
        """Read a piece of the next prompt; once it is read, its text joins the others."""
        text = prompts.popleft()
        if not text.is_wanted:
            return
        with self._failures_for([text]):
            logits = text.read_piece(self._device)
            if logits is None:
                prompts.append(text)
            elif self._draw([text], [logits]) == [True]:
                self._join(text, batches)

    def _join(self, text: _Text, batches: list[_Batch]) -> None:
        """Add the rows of a text to the batch, or begin one."""
        if batches and isinstance(self._decoder, JoiningCausalDecoder):
            self._decoder.join(batches[0].state, text.state)
            text.state = None  # the batch has copies
            batches[0].texts.append(text)
        else:
            batches.append(_Batch(text))

    def _step(self, batch: _Batch) -> None:
        """Take a step of a batch, and let the texts go that have ended."""
        is_kept = [False] * len(batch.texts)
        with self._failures_for(batch.texts):
            all_logits = list(batch.next_logits(self._decoder, self._device))
            is_kept = self._draw(batch.texts, all_logits)
        with self._failures_for(list(compress(batch.texts, is_kept))):
            batch.keep(is_kept, self._device)

    def _draw(self, texts: Sequence[_Text], all_logits: Sequence[Tensor]) -> list[bool]:
        """Draw the next tokens of texts, of those with the same settings together.

        Args:
            texts: Texts.
            all_logits: Of each, ``[num, vocab]``.

        Returns:
            For each text whether more tokens are to follow.
        """
        continues = [False] * len(texts)
        groups: dict[Any, list[tuple[int, NextLogits]]] = {}
        for index, (text, logits) in enumerate(zip(texts, all_logits, strict=True)):
            continuations = text.continuations
            with self._failures_for([text]):
                next_logits = continuations.apply_rules(logits)
                settings = continuations.distribution, continuations.device
                groups.setdefault(settings, []).append((index, next_logits))
        for group in groups.values():
            members = [texts[index] for index, _ in group]
            with self._failures_for(members):
                draws = draw_together(
                    [text.continuations for text in members], [logits for _, logits in group]
                )
                for (index, _), draw in zip(group, draws, strict=True):
                    with self._failures_for([texts[index]]):
                        continues[index] = texts[index].append(draw)
        return continues

    @contextmanager
    def _failures_for(self, texts: Sequence[_Text]) -> Iterator[None]:
        """Let the callers of texts raise what the body does."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised where the callers wait for it
            for text in texts:
                text.arrived.put(error)
