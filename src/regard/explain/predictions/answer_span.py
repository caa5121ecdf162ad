"""The first and the last token of the answer that a model finds in a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import torch
from torch import Tensor, nn

from regard.explain.prediction import (
    Baseline,
    ClassPrediction,
    Feature,
    Stack,
    replace_outputs,
    weaken,
)
from regard.explain.predictions.reference_tokens import (
    embed_baseline,
    reference_id,
    replace_tokens,
)
from regard.explain.predictions.weakened_tokens import WeakenedTokens
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import SpanModel
from regard.models.base.question_roles import NUM_ROLES, OF_CONTEXT
from regard.tasks.question_answering.text_windows import TextWindowBatch, window_logits
from regard.training.device import move_batch

NO_ANSWER = "no answer"


class AnswerSpan(ClassPrediction):
    """Where an answer begins and ends, predicted from a question and a part of its text.

    Classes are the positions of the tokens; the first one is "no answer".

    Args:
        model: In evaluation mode.
        tokenizer: Its vocabulary.
        window: One question with the part of its text that holds the answer, a batch of one.
        span: Positions of the first and the last token of the answer; 0 twice is "no answer".
        contrast: Those of another answer; None compares with nothing.
    """

    model: SpanModel

    def __init__(
        self,
        model: SpanModel,
        tokenizer: AnyTokenizer,
        window: TextWindowBatch,
        span: tuple[int, int],
        contrast: tuple[int, int] | None = None,
    ) -> None:
        self._window = window
        features = _window_features(tokenizer, window)
        self._pieces = [NO_ANSWER, *(feature.text for feature in features[1:])]
        self._reference_ids = replace_tokens(window.ids, features, reference_id(tokenizer))
        self.model = model
        self.refresh()
        readout = torch.zeros(2, len(features))
        readout[[0, 1], list(span)] = 1.0
        super().__init__(
            model,
            tuple(features),
            output_classes=torch.tensor(span),
            contrast=None if contrast is None else torch.tensor(contrast),
            stacks=(Stack("encoder", tuple(model.layers()), 0, len(features)),),
            readout=readout,
        )

    def refresh(self) -> None:
        """Embed the reference tokens by the weights of the model as they are now."""
        window = move_batch(self._window, self.model)
        ids = self._reference_ids.to(self.model.device)
        baselines = embed_baseline(
            self.model.embedded_inputs(),
            lambda: self.model(ids, segments=window.segments, lengths=window.lengths),
        )
        self._baseline = baselines["text"]

    def output_texts(self) -> list[str]:
        """Return the first and the last token of the answer, named so."""
        first, last = super().output_texts()
        return [f"start: {first.strip()}", f"end: {last.strip()}"]

    def class_text(self, index: int) -> str:
        """Return the token at a position."""
        return self._pieces[index]

    def log_probabilities(
        self,
        weights: Tensor,
        *,
        baseline: Baseline = "reference",
        outputs: Tensor | None = None,
    ) -> Tensor:
        """Compute log-probabilities of all positions; see `ClassPrediction`."""
        rows, window = len(weights), self._window
        vector = self._baseline if baseline == "reference" else torch.zeros_like(self._baseline)
        (layer,) = self.model.embedded_inputs().values()
        replacements: dict[nn.Module, Callable[[Tensor], Tensor]] = {
            layer: partial(weaken, weights=weights, baseline=vector)
        }
        embedding = self.model.roles
        if embedding is not None and window.roles is not None:
            # Whether the word of a hidden token is in the question is then unknown.
            hidden = torch.where(window.is_context, OF_CONTEXT, window.roles)
            mixed = WeakenedTokens.between(window.roles, hidden, weights, vector)
            replacements[embedding] = lambda _: embedding.mix(mixed.probabilities(NUM_ROLES))
        repeated = {
            name: tensor.expand(rows, *tensor.shape[1:])
            for name, tensor in msgspec.structs.asdict(window).items()
            if isinstance(tensor, Tensor)
        }
        batch = msgspec.structs.replace(window, **repeated)
        with replace_outputs(replacements):
            logits = window_logits(self.model, batch).mT.cpu()  # [rows, 2, length]
        log_probabilities = logits.log_softmax(-1)
        if outputs is None:
            return log_probabilities
        return log_probabilities[torch.arange(rows), outputs]


def _window_features(tokenizer: AnyTokenizer, window: TextWindowBatch) -> Sequence[Feature]:
    """Return the tokens of a question and a part of its text, with those around them."""
    ids, is_context = window.ids[0].tolist(), window.is_context[0].tolist()
    template = tokenizer.pair_template
    first = is_context.index(True) if any(is_context) else len(ids) - len(template.end)
    question = range(len(template.begin), first - len(template.between))
    return [
        Feature(
            piece,
            "question" if index < first else "context",
            is_special=not (is_context[index] or index in question),
        )
        for index, piece in enumerate(tokenizer.pieces(ids))
    ]
