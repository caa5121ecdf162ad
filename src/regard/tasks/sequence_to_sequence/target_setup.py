"""Model, batches, loss and evaluation of a run whose model writes a target for a source."""

from __future__ import annotations

import copy
import time
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from msgspec.structs import replace

from regard.data.batching import PairBatches
from regard.data.listing import pluralize
from regard.errors import NextStep, WeightsError
from regard.generation.scheduling import DECODING_TOKENS
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.hugging_face.source_target_tokenizer import SourceTargetTokenizer
from regard.models import EncoderDecoder
from regard.setup.build import summarize_tokens
from regard.setup.dataset import Dataset
from regard.setup.training_setup import RunParts, TrainingSetup
from regard.tasks.sequence_to_sequence.data import EncodedPairs, P, encode_pairs
from regard.tasks.sequence_to_sequence.decode_rows import decode_rows, special_ids
from regard.tasks.sequence_to_sequence.evaluator import DECODED_ROWS, TargetEvaluator
from regard.tasks.sequence_to_sequence.loss import TargetLoss
from regard.training.evaluation_loop import time_evaluation
from regard.training.events import Evaluated, Report, Warned

_SOURCE_IGNORED = 0.05  # nats per token: a smaller gap means that the source is not used
_SAMPLED_ROWS = 32
_BATCHING_GAIN = 0.6  # a sentence in a full batch takes less time than one in the small sample

D = TypeVar("D", bound=Dataset[Any])
"""Data whose rows are `TextPairs`."""


class SequenceToSequenceSetup(TrainingSetup[D, AnyTokenizer, EncoderDecoder[Any]], Generic[D, P]):
    """Model, batches, loss and evaluation of an encoder-decoder; each task has a subclass.

    Pairs that are too long are dropped from the data, unless the settings cut long sources.

    Args:
        parts: Settings, data, vocabulary and model of the run.
        report: Called with events.
    """

    score_name: str
    """Name of the score of decoded outputs by which the best weights are chosen."""

    def __init__(
        self, parts: RunParts[D, AnyTokenizer, EncoderDecoder[Any]], report: Report
    ) -> None:
        config, dataset, tokenizer = parts.config, parts.dataset, parts.tokenizer
        encode = partial(
            encode_pairs,
            tokenizer=tokenizer,
            max_length=config.data.max_length,
            max_source_length=config.data.max_source_length,
            encode_sources=partial(self.encode_sources, parts),
        )
        train: EncodedPairs[P] = encode(dataset.train)
        self.valid: EncodedPairs[P] = encode(dataset.valid)
        dataset.dropped += train.dropped
        self.num_too_long, self.truncated = len(train.dropped), train.truncated
        self.longest_source = train.longest_source
        dataset.train = train.text
        report(
            summarize_tokens(
                config,
                len(tokenizer),
                train.text.targets,
                int(train.targets.lengths.sum()),
                is_shared=not isinstance(tokenizer, SourceTargetTokenizer),
            )
        )
        batches = PairBatches(
            train.sources,
            train.targets,
            batch_tokens=parts.batch_tokens,
            seed=config.training.seed,
            ids=special_ids(parts.model, tokenizer),
        )
        super().__init__(parts, batches)

    @staticmethod
    def encode_sources(
        parts: RunParts[D, AnyTokenizer, EncoderDecoder[Any]], pairs: P
    ) -> list[list[int]]:
        """Return the token ids of sources, without special tokens around them."""
        return parts.tokenizer.encode(parts.config.data.with_prefix(pairs.sources))

    def report_cut(self, report: Report, sources: str, target: str, targets: str) -> None:
        """Report what of the training data is cut off, and what is left out, for its length.

        Args:
            report: Called with events.
            sources: What sources are, such as ``documents``.
            target: What a target is, such as ``summary``.
            targets: The same in the plural.
        """
        data, num_rows = self.config.data, len(self.dataset.train)
        if num_cut := len(self.truncated):
            verb = "is" if num_cut == 1 else "are"
            report(
                Warned(
                    text=f"{num_cut:,} of {num_rows:,} training {sources} {verb} longer than "
                    f"{data.max_source_length:,} tokens: the rest is cut off.  Whole: "
                    f"`data.max_source_length={self.longest_source}`"
                )
            )
        if num_dropped := self.num_too_long:
            are = pluralize(num_dropped, f"training {target} is", f"training {targets} are")
            report(
                Warned(
                    text=f"{are} longer than {data.max_length:,} tokens and left out.  "
                    "Keep them: `data.max_length=1024`"
                )
            )

    @abstractmethod
    def score(self, outputs: Sequence[str], rows: Sequence[int]) -> dict[str, float]:
        """Return the scores of outputs for some rows of `valid` by name, 0 to 100."""

    def references(self, rows: Sequence[int]) -> list[str]:
        """Return the targets of some rows of `valid`."""
        targets = self.valid.text.targets
        return [targets[row] for row in rows]

    def loss(self) -> TargetLoss:
        """Return the label-smoothed cross-entropy."""
        training = self.config.training
        return TargetLoss(
            training.label_smoothing,
            special_ids(self.model, self.tokenizer).ignore_index,
            training.coverage,
        )

    def _valid_batches(self) -> PairBatches:
        valid, ids = self.valid, special_ids(self.model, self.tokenizer)
        return PairBatches(
            valid.sources, valid.targets, batch_tokens=DECODING_TOKENS, seed=0, ids=ids
        )

    def evaluator(self) -> TargetEvaluator:
        """Return the evaluator of validation losses and the scores."""
        greedy = replace(self.config.search, beam=1, num_best=1)
        return TargetEvaluator(
            self.model,
            self.tokenizer,
            self.valid,
            self._valid_batches(),
            greedy,
            score=self.score,
            score_name=self.score_name,
            world=self.world,
        )

    @torch.no_grad()
    def evaluation_seconds(self, model: EncoderDecoder[Any]) -> float:
        """Return the time of both losses, and of decoding rows to the length of their sources.

        Each is scaled up from a few batches or rows. Where sources are longer than targets by their
        limit, the mean target is the length.
        """
        losses = 2 * time_evaluation(self.loss(), model, self._valid_batches(), self.world)
        evaluated = copy.deepcopy(model).to(model.compute_dtype).eval()
        num_rows = len(self.valid.text)
        sample = range(0, num_rows, max(1, num_rows // _SAMPLED_ROWS))[:_SAMPLED_ROWS]
        search = replace(self.config.search, beam=1, num_best=1, max_length_ratio=1.0)
        if self.config.data.max_source_length is not None:
            search = replace(search, max_length=1 + int(self.valid.targets.lengths.mean()))
        ids = special_ids(evaluated, self.tokenizer)
        decode = partial(decode_rows, evaluated, self.valid.sources, sample, search, ids)
        start = time.perf_counter()
        with suppress(WeightsError):  # measured steps that end in NaN: the run itself names them
            if model.device.type != "cpu":
                decode()  # kernels for a GPU are compiled, for which no evaluation of the run waits
                start = time.perf_counter()
            decode()
        seconds_per_row = (time.perf_counter() - start) / len(sample)
        # The rows of all ranks take as long as those of the one that has most.
        num_decoded = -(-min(num_rows, DECODED_ROWS) // self.world.size)
        return losses + seconds_per_row * num_decoded * _BATCHING_GAIN

    def data_warning(self, event: Evaluated) -> Warned | None:
        """Return a warning where the model has learned to ignore its source."""
        if "shuffled_loss" not in event.measures or event.step < event.total_steps // 2:
            return None
        gap = event.measures["shuffled_loss"] - event.measures["loss"]
        if gap >= _SOURCE_IGNORED:
            return None
        path = self.config.data.path or self.dataset.path  # a stream has a copy in the folder
        return Warned(
            text="The output hardly depends on the source: validation loss with shuffled sources "
            f"is only {gap:.3f} nats higher.  Are the columns aligned line by line?",
            next_steps=(NextStep("See", "check", (path,)),),
        )
