"""An encoder that finds the first and the last token of an answer (Devlin et al. 2019, 4.2).

Each token of a question and a text has two logits, to be where the answer begins and where it ends.
The first token of all is "no answer" (section 4.3). Tokens may have a feature: whether their word
in the text occurs in the question, too (exact match, Chen et al. 2017, "Reading Wikipedia to Answer
Open-Domain Questions", section 3.2). A model then learns to look near words of the question without
having to learn each word; a convolution adds those of its neighbours. Cost: that of the
encoder.
"""

from __future__ import annotations

from torch import Tensor, nn

from regard.layers.role_embedding import RoleEmbedding
from regard.models.base.encoder import Encoder
from regard.models.base.encoder_outputs import EncoderOutputs
from regard.models.base.question_roles import NUM_ROLES, ROLE_WIDTH


class SpanModel(EncoderOutputs):
    """A model of the position of an answer in a text.

    Args:
        encoder: Reads the question and the text; it has no head for masked tokens.
        has_roles: Whether it reads which tokens are of the context, and which of these are in the
            question.
    """

    def __init__(self, encoder: Encoder, *, has_roles: bool) -> None:
        # Published weights have a bias. It shifts all positions equally: the softmax is the same.
        super().__init__(encoder, num_outputs=2, has_trained_bias=False)
        self.roles = RoleEmbedding(encoder.dim, NUM_ROLES, ROLE_WIDTH) if has_roles else None

    def forward(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        roles: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """Compute the logits of the first and the last token of the answer.

        Args:
            ids: Question and context, ``[batch, length]``, padded on the right.
            segments: Segment numbers of the same shape, where the encoder has a table of them.
            roles: Roles of the same shape, 0 to 2, and -1 for padding; None leaves them out.
            lengths: Tokens of each row, ``[batch]``; None finds them by the encoder's `pad_id`.

        Returns:
            ``[batch, length, 2]``; those of padding are meaningless.
        """
        features = None if self.roles is None or roles is None else self.roles(roles)
        states = self.encoder.hidden_states(
            ids, segments=segments, lengths=lengths, features=features
        )
        if self._pools_tokens and self.encoder.pooler is not None:
            states = self.encoder.pooler(states)
        return self.logits(self.dropout(states))

    @property
    def _pools_tokens(self) -> bool:
        """Whether the encoder's pooler, if it has one, maps the state of each token."""
        return self.encoder.config.pools_every_vector

    @property
    def output_name(self) -> str:
        """Logits of both ends."""
        return "logits of start and end"

    def vector_layers(self) -> list[nn.Module]:
        """Return a pooler that maps no tokens."""
        return [] if self._pools_tokens else super().vector_layers()

    def unused_layers(self) -> list[nn.Module]:
        """Return the head of masked tokens, and a pooler that maps no tokens."""
        head = [] if self.encoder.head is None else [self.encoder.head]
        return [*head, *self.vector_layers()]
