"""The tokens that an encoder-decoder writes for a source: translations, summaries, answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.explain.prediction import (
    Baseline,
    ClassPrediction,
    Stack,
    replace_outputs,
    weaken,
)
from regard.explain.predictions.reference_tokens import (
    embed_baseline,
    first_difference,
    name_bytes,
    reference_id,
    replace_tokens,
    token_features,
)
from regard.explain.predictions.weakened_tokens import (
    WeakenedTokens,
    copy_weakened,
    weaken_ids,
)
from regard.hub.any_tokenizer import AnyTokenizer, split_tokenizer
from regard.models import EncoderDecoder
from regard.tasks.sequence_to_sequence.decode_rows import special_ids

END = "</s>"
# Of the points of an integral, where a model copies: the logarithm of ``p + w a``, a token that is
# copied with weight w of attention a, is steep for small w, as the vocabulary's p is small.
_COPYING_POWER = 2


class WrittenTarget(ClassPrediction):
    """A target with its end, each token predicted from the source and the tokens before it.

    Args:
        model: In evaluation mode.
        tokenizer: Its vocabulary.
        source: Token ids of the source, without special tokens.
        target: Token ids of the target, without special tokens.
        contrast: Token ids of another target: the first token where it differs is explained against
            it. None compares with nothing.
        is_complete: Whether the end of the target is an output, too; an output that was cut off has
            none.
        begin: Token ids between the start and the target, which are no outputs, such as that of a
            language; None is what the vocabulary puts before a target.

    Raises:
        ConfigError: The source is empty, or the other target does not differ.
    """

    model: EncoderDecoder[Any]

    def __init__(
        self,
        model: EncoderDecoder[Any],
        tokenizer: AnyTokenizer,
        source: Sequence[int],
        target: Sequence[int],
        contrast: Sequence[int] | None = None,
        *,
        is_complete: bool = True,
        begin: Sequence[int] | None = None,
    ) -> None:
        if not source:
            raise ConfigError("the text is empty: there is nothing to explain.")
        source_tokenizer, self._tokenizer = split_tokenizer(tokenizer)
        ids = special_ids(model, tokenizer)
        source_begin = source_tokenizer.begin_ids
        target_begin = self._tokenizer.begin_ids if begin is None else begin
        source_row = [*source_begin, *source, *ids.after_source]
        target_row = [ids.start, *target_begin, *target]
        self._source_ids = torch.tensor([source_row])
        self._target_ids = torch.tensor([target_row])  # the decoder's input
        self._end = ids.end
        self._unused = torch.tensor(self._tokenizer.unused_ids(model.vocab_size), dtype=torch.long)
        predicted = [*target, ids.end] if is_complete or not target else [*target]
        self._positions = torch.arange(len(predicted)) + len(target_begin)  # of the inputs
        other = None
        if contrast is not None:
            index = first_difference(predicted, [*contrast, ids.end])
            other = torch.tensor([[*contrast, ids.end][index]])
            predicted, self._positions = [predicted[index]], self._positions[index : index + 1]
        sources = token_features(
            source_tokenizer, source, "source", before=source_begin, after=ids.after_source
        )
        begin_target = (ids.start, *target_begin)
        targets = token_features(self._tokenizer, target, "target", before=begin_target)
        num_source = len(source_row)
        self._reference_ids = (
            replace_tokens(self._source_ids, sources, reference_id(source_tokenizer)),
            replace_tokens(self._target_ids, targets, reference_id(self._tokenizer)),
        )
        self.model = model
        if model.copy_head is not None:
            self.path_power = _COPYING_POWER
        self.refresh()
        encoder, decoder = model.stacks().values()
        readout = torch.zeros(len(predicted), len(target_row))
        readout[torch.arange(len(predicted)), self._positions] = 1.0
        super().__init__(
            model,
            (*sources, *targets),
            output_classes=torch.tensor(predicted),
            contrast=other,
            stacks=(
                Stack("encoder", tuple(encoder), 0, num_source),
                Stack("decoder", tuple(decoder), num_source, num_source + len(targets)),
            ),
            readout=readout,
        )

    def refresh(self) -> None:
        """Embed the reference tokens by the weights of the model as they are now."""
        source_ids, target_ids = (ids.to(self.model.device) for ids in self._reference_ids)
        lengths = torch.tensor([source_ids.shape[1]])
        self._baselines = embed_baseline(
            self.model.embedded_inputs(),
            lambda: self.model.states_and_copies(source_ids, target_ids, lengths=lengths),
        )

    @property
    def reads(self) -> Tensor:
        """The source, and the tokens of the target before each output, ``[outputs, features]``."""
        num_source = self._source_ids.shape[1]
        before = torch.arange(self._target_ids.shape[1]) <= self._positions[:, None]
        return torch.cat([before.new_ones(len(before), num_source), before], dim=1)

    def output_texts(self) -> list[str]:
        """Return the tokens as text, bytes of a character named by that character."""
        return name_bytes(super().output_texts())

    def class_text(self, index: int) -> str:
        """Return a token as text."""
        return END if index == self._end else self._tokenizer.pieces([index])[0]

    def log_probabilities(
        self,
        weights: Tensor,
        *,
        baseline: Baseline = "reference",
        outputs: Tensor | None = None,
    ) -> Tensor:
        """Compute log-probabilities of all tokens; see `ClassPrediction`."""
        rows, num_source = len(weights), self._source_ids.shape[1]
        parts = {"source": weights[:, :num_source], "target": weights[:, num_source:]}
        layers, is_reference = self.model.embedded_inputs(), float(baseline == "reference")
        embeddings = {
            layers[name]: partial(weaken, weights=part, baseline=is_reference * vector)
            for (name, part), vector in zip(parts.items(), self._baselines.values(), strict=True)
        }
        ids, lengths = (self._source_ids, self._target_ids), torch.full((rows,), num_source)
        source, target = (
            WeakenedTokens.between(*tokens, self._baselines["source"])
            for tokens in zip(ids, self._reference_ids, parts.values(), strict=True)
        )
        source_ids, target_ids = (part.expand(rows, -1).to(self.model.device) for part in ids)
        with replace_outputs(embeddings), weaken_ids(self.model, source, target):
            hidden, copies = self.model.states_and_copies(source_ids, target_ids, lengths=lengths)
        index = (
            (slice(None), self._positions)
            if outputs is None
            else (torch.arange(rows), self._positions[outputs])
        )
        if copies is None:
            logits = self.model.logits(hidden[index])  # of these positions alone
        else:
            logits = copy_weakened(copies, source).mix(self.model.logits(hidden))[index]
        # [rows, outputs, vocab], or [rows, vocab] of one output each
        logits = logits.to("cpu", torch.promote_types(logits.dtype, torch.float32))
        return logits.index_fill(-1, self._unused, -torch.inf).log_softmax(-1)
