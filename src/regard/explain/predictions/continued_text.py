"""The tokens that a language model writes after a text."""

from __future__ import annotations

from collections.abc import Sequence

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
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import Decoder


class ContinuedText(ClassPrediction):
    """A continuation, each token predicted from all tokens before it.

    Args:
        model: In evaluation mode.
        tokenizer: Its vocabulary.
        before: Special tokens before the prompt.
        prompt: Token ids of the prompt; it may be empty where there are special tokens.
        continuation: Token ids after it, one or more.
        contrast: Token ids of another continuation: the first token where it differs is explained
            against it. None compares with nothing.

    Raises:
        ConfigError: There is nothing to explain, or the other continuation does not differ.
    """

    first_method = "integrated_gradients"
    model: Decoder

    def __init__(
        self,
        model: Decoder,
        tokenizer: AnyTokenizer,
        *,
        before: Sequence[int],
        prompt: Sequence[int],
        continuation: Sequence[int],
        contrast: Sequence[int] | None = None,
    ) -> None:
        row = [*before, *prompt, *continuation]
        num_before = len(row) - len(continuation)
        if not num_before or not continuation:
            raise ConfigError("the text has no continuation, or nothing before it.")
        self._tokenizer = tokenizer
        self._ids = torch.tensor([row[:-1]])  # what the model reads
        self._unused = torch.tensor(tokenizer.unused_ids(model.vocab_size), dtype=torch.long)
        self._positions = torch.arange(num_before - 1, len(row) - 1)
        predicted, other = list(continuation), None
        if contrast is not None:
            index = first_difference(predicted, contrast)
            other = torch.tensor([contrast[index]])
            predicted, self._positions = [predicted[index]], self._positions[index : index + 1]
        features = [
            *token_features(tokenizer, prompt, "text", before=before),
            *token_features(tokenizer, continuation[:-1], "continuation"),
        ]
        self._reference_ids = replace_tokens(self._ids, features, reference_id(tokenizer))
        self.model = model
        self.refresh()
        readout = torch.zeros(len(predicted), len(features))
        readout[torch.arange(len(predicted)), self._positions] = 1.0
        super().__init__(
            model,
            tuple(features),
            output_classes=torch.tensor(predicted),
            contrast=other,
            stacks=(Stack("decoder", tuple(model.layers()), 0, len(features)),),
            readout=readout,
        )

    def refresh(self) -> None:
        """Embed the reference tokens by the weights of the model as they are now."""
        baselines = embed_baseline(
            self.model.embedded_inputs(),
            lambda: self.model.hidden_states(self._reference_ids.to(self.model.device)),
        )
        self._baseline = baselines["text"]

    @property
    def reads(self) -> Tensor:
        """The tokens before each output, ``[outputs, features]``."""
        return torch.arange(len(self.features)) <= self._positions[:, None]

    def output_texts(self) -> list[str]:
        """Return the tokens as text, bytes of a character named by that character."""
        return name_bytes(super().output_texts())

    def class_text(self, index: int) -> str:
        """Return a token as text."""
        return self._tokenizer.pieces([index])[0]

    def log_probabilities(
        self,
        weights: Tensor,
        *,
        baseline: Baseline = "reference",
        outputs: Tensor | None = None,
    ) -> Tensor:
        """Compute log-probabilities of all tokens; see `ClassPrediction`."""
        (layer,) = self.model.embedded_inputs().values()
        vector = self._baseline if baseline == "reference" else torch.zeros_like(self._baseline)
        with replace_outputs({layer: lambda embeddings: weaken(embeddings, weights, vector)}):
            ids = self._ids.expand(len(weights), -1).to(self.model.device)
            hidden = self.model.hidden_states(ids)
        if outputs is None:
            hidden = hidden[:, self._positions]  # [rows, outputs, dim]
        else:
            hidden = hidden[torch.arange(len(weights)), self._positions[outputs]]  # [rows, dim]
        logits = self.model.logits(hidden)
        logits = logits.to("cpu", torch.promote_types(logits.dtype, torch.float32))
        return logits.index_fill(-1, self._unused, -torch.inf).log_softmax(-1)
