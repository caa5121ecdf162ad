"""The text of a continuation while its tokens are written.

A token is decoded together with a few before it, from which alone its text depends (spaces, bytes
of a character): what it costs depends neither on the prompt nor on what was written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from regard.hub.any_tokenizer import AnyTokenizer

_WINDOW = 16  # tokens
_OPEN = re.compile(r"(\ufffd+| .{0,2})\Z", re.DOTALL)
"""What later tokens may change: the first bytes of a character, and a space that decoders leave out
before what follows, such as ``n't``."""


class IncrementalText:
    """The tokens and the text of a continuation.

    Args:
        tokenizer: Of the model.
        prompt_ids: Tokens of the prompt.
        stop: Text that ends the continuation; None is none.
    """

    def __init__(
        self, tokenizer: AnyTokenizer, prompt_ids: Sequence[int], stop: str | None = None
    ) -> None:
        self.tokens: list[int] = []
        self.log_probability = 0.0
        """Of the tokens together, in nats."""
        self.has_ended = False
        """Whether a token or the stop text ended it."""
        self._tokenizer, self._prompt_ids, self._stop = tokenizer, prompt_ids, stop
        self._window = list(prompt_ids[-_WINDOW:])
        self._before = tokenizer.decode_text(self._window)
        self._certain = ""  # the text of the tokens before the window

    def append(self, token: int, log_probability: float) -> None:
        """Append a token, unless it is a special one that ends the text.

        Args:
            token: Its id.
            log_probability: Of the token, in nats.
        """
        is_end = token in self._tokenizer.stop_ids
        if not is_end or token in self._tokenizer.written_stop_ids:
            self.tokens.append(token)
            self._window.append(token)
            self.log_probability += log_probability
        self.has_ended = is_end or (self._stop is not None and self._stop in self.text_so_far())

    def text_so_far(self) -> str:
        """Return the text of the tokens, the stop text included."""
        text = self._tokenizer.decode_text(self._window)[len(self._before) :]
        if len(self._window) > 2 * _WINDOW and not _OPEN.search(text):
            self._certain += text
            self._window = self._window[-_WINDOW:]
            self._before, text = self._tokenizer.decode_text(self._window), ""
        return self._certain + text

    def certain_text(self) -> str:
        """Return the text that no later token changes and that is before any stop text."""
        text = self.text_so_far()
        text = text[: len(text) - _num_begun(self._stop or "", text)]
        return _OPEN.sub("", text)

    def text(self) -> str:
        """Return the whole text, without the stop text."""
        ids = self._prompt_ids
        before = self._tokenizer.decode_text(ids)
        text = self._tokenizer.decode_text([*ids, *self.tokens])[len(before) :]
        return text.partition(self._stop)[0] if self._stop else text


def _num_begun(stop: str, text: str) -> int:
    """Return how many characters at the end of a text may begin the stop text.

    >>> _num_begun("\\n\\n", "a\\n"), _num_begun("\\n\\n", "a"), _num_begun("", "a")
    (1, 0, 0)
    """
    lengths = range(min(len(stop) - 1, len(text)), 0, -1)
    return next((n for n in lengths if text.endswith(stop[:n])), 0)
