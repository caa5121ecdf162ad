"""Masked language modeling as a task: text with hidden tokens -> an encoder that tells them.

Such an encoder is what classifiers start from: ``regard train reviews.jsonl --from ENCODER``.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from msgspec.structs import replace
from torch import Tensor, nn

from regard.data.masking import MASK, MaskedBatches
from regard.data.readers.text import TextLines
from regard.data.token_stream import TextBatch, TokenStream
from regard.data.tokenizer import TokenizerConfig
from regard.errors import ConfigError
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import BertConfig, Encoder
from regard.models.base.text_model import TextModel
from regard.setup.base_task import Outcome
from regard.setup.config import RunConfig
from regard.tasks.language_modeling.loss import EVALUATED_TOKENS
from regard.tasks.language_modeling.task import LanguageModeling, PreparedText, Prose
from regard.tasks.masked_language_modeling.predictor import TextEncoder
from regard.training.evaluation_loop import LossEvaluator, total_loss
from regard.training.token_loss import TokenLoss
from regard.training.training_config import TrainingConfig


class MaskedTokenLoss(TokenLoss):
    """The training objective: cross-entropy of the hidden tokens."""

    nothing = -1

    def hidden(self, model: nn.Module, batch: TextBatch) -> Tensor:
        """Compute the last states, ``[batch, length, dim]``."""
        assert isinstance(model, Encoder)
        return model.hidden(batch.ids)


def masked_measures(model: Encoder, batches: MaskedBatches) -> dict[str, float]:
    """Measure how well a model tells hidden tokens.

    Args:
        model: In evaluation mode.
        batches: Of the text.

    Returns:
        ``loss`` in nats a hidden token, and ``perplexity``, its exponential.
    """
    total, num_tokens = total_loss(MaskedTokenLoss(label_smoothing=0.0), model, batches)
    loss = total / num_tokens
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}


class PreparedMaskedText(PreparedText):
    """A run of masked language modeling."""

    text: Prose
    model: Encoder

    def objective(self) -> MaskedTokenLoss:
        """Make the cross-entropy of the hidden tokens."""
        return MaskedTokenLoss(self.config.training.label_smoothing)

    def evaluator(self) -> LossEvaluator:
        """Make what computes loss and perplexity."""
        batches = self.evaluated(self.text.valid)
        return LossEvaluator(self.model, partial(masked_measures, batches=batches))

    def evaluated(self, lines: TextLines) -> MaskedBatches:
        """Lay a held-out text out, its hidden tokens always the same."""
        stream = TokenStream(lines, self.tokenizer)
        config = replace(self.config, training=replace(self.config.training, seed=0))
        return _batches(config, stream, self.model, self.tokenizer, EVALUATED_TOKENS)

    def finish(self, opened: TextEncoder, valid: dict[str, float]) -> Outcome:
        """Measure the loss on the test text."""
        text = self.text
        shown, test = f"valid perplexity {valid['perplexity']:.2f}", {}
        if len(text.test):
            test = masked_measures(opened.model, self.evaluated(text.test))
            shown += f"   test perplexity {test['perplexity']:.2f}"
        sizes = [f"{part.num_chars:,}" for part in (text.train, text.valid, text.test)]
        return Outcome(
            test=test,
            summary=f"{shown} of hidden tokens",
            tries=["train reviews.jsonl --from {folder} -o mood"],
            kind="An encoder trained on hidden tokens",
            rows=f"{sizes[0]} train / {sizes[1]} validation / {sizes[2]} test characters",
            notes="`perplexity` is of a hidden token of this vocabulary.",
        )


class MaskedLanguageModeling(LanguageModeling):
    """Running text, of which hidden tokens are learned."""

    prepared = PreparedMaskedText

    @property
    def defaults(self) -> RunConfig:
        """A BERT whose vocabulary has a mask."""
        return RunConfig(
            task="masked-language-modeling",
            model=BertConfig(),
            tokenizer=TokenizerConfig(tags=(MASK,)),
            training=TrainingConfig(label_smoothing=0.0),
        )

    def lay_out(
        self, config: RunConfig, stream: TokenStream, model: TextModel, tokenizer: AnyTokenizer
    ) -> MaskedBatches:
        """Cut the training text into segments, and hide tokens."""
        assert config.training.batch_tokens is not None
        return _batches(config, stream, model, tokenizer, config.training.batch_tokens)

    def open(self, folder: str | Path) -> TextEncoder:
        """Open a model folder for vectors of texts and words under masks."""
        return TextEncoder.open(folder)


def _batches(
    config: RunConfig,
    stream: TokenStream,
    model: TextModel,
    tokenizer: AnyTokenizer,
    batch_tokens: int,
) -> MaskedBatches:
    assert isinstance(model, Encoder)
    if tokenizer.mask_id is None:
        raise ConfigError(f"tokenizer.tags: the vocabulary has no mask.  Add {MASK}.")
    return MaskedBatches(
        stream,
        length=min(config.data.max_length, model.config.max_positions),
        batch_tokens=batch_tokens,
        mask_id=tokenizer.mask_id,
        vocab_size=len(tokenizer),
        seed=config.training.seed,
        pad_id=model.config.pad_id,
    )
