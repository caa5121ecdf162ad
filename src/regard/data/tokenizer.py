"""Subword vocabularies: trained, saved and applied by the `tokenizers` library.

Text is taken as UTF-8 bytes (the byte-level alphabet of GPT-2, Radford et al. 2019), so that every
Unicode string has tokens and comes back exactly, whatever the kind: byte-pair encoding (Sennrich
et al. 2016), unigram (Kudo 2018), whole words, characters, or the bytes alone. Words and
characters that are not in the vocabulary become their bytes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import count
from typing import Any, Literal, NamedTuple

import msgspec
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from regard.data.progress import begin_stage
from regard.data.tokenizer_patterns import check_patterns
from regard.errors import ConfigError, WeightsError
from regard.settings.binding import check_types
from regard.settings.validation import require_at_least, require_at_most

SPECIALS = ("<pad>", "<s>", "</s>")
_LARGEST_VOCABULARY = 1_000_000
_MAX_TRAINING_CHARS = 20_000_000

Kind = Literal["bpe", "unigram", "word", "character", "byte", "published"]


class TokenizerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How text becomes tokens.

    Args:
        kind: bpe, unigram, word, character or byte; published if it came with weights.
        vocab_size: Maximum number of tokens, at least 300; none chooses by the amount of text.
        tags: Strings that are always one token, such as target-language tags.
        table_rows: Rows of the model's embedding table, which may be more than there are tokens if
            it came with weights. None has one for each token.
    """

    kind: Kind = "bpe"
    vocab_size: int | None = None
    tags: tuple[str, ...] = ()
    table_rows: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if self.vocab_size is not None and self.vocab_size < 300:
            raise ValueError(f"vocab_size must be 300 or more, not {self.vocab_size}")
        require_at_most(_LARGEST_VOCABULARY, self, "vocab_size")
        require_at_least(1, self, "table_rows")


class TokenOffsets(NamedTuple):
    """The tokens of a text, and the characters of the text that they are.

    Args:
        ids: Token ids, without special tokens.
        offsets: First character of each token, and the one after its last.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]


class PairTemplate(NamedTuple):
    """The special tokens around two texts that are read as one, such as question and context.

    Args:
        begin: Before the first text.
        between: After the first text, before the second.
        end: After the second.
        segments: Segment number of what these begin, of the first text, of what is between, of the
            second text, and of the end (Devlin et al. 2019, figure 2).
    """

    begin: tuple[int, ...]
    between: tuple[int, ...]
    end: tuple[int, ...]
    segments: tuple[int, int, int, int, int] = (0, 0, 0, 1, 1)

    @property
    def num_special(self) -> int:
        """Number of special tokens."""
        return len(self.begin) + len(self.between) + len(self.end)


class Tokenizer:
    """A trained vocabulary for source and target. Ids 0, 1, 2 are padding, begin and end."""

    pad_id, bos_id, eos_id = 0, 1, 2
    max_length: int | None = None
    """Maximum number of tokens of a text that the vocabulary itself sets: any number."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        backend.no_padding()
        backend.no_truncation()
        # The text "</s>" in somebody's file is text, not the end of a sentence.
        self._backend.encode_special_tokens = True
        self._byte_of = {char: byte for byte, char in enumerate(_byte_alphabet())}

    @classmethod
    def train(cls, texts: Sequence[str], config: TokenizerConfig) -> Tokenizer:
        """Return a tokenizer whose vocabulary is learned from texts.

        Args:
            texts: Sentences of all languages; beyond twenty million characters an evenly spaced
                sample is used.
            config: Its kind and size.
        """
        begin_stage("learning the vocabulary")
        num_chars = sum(map(len, texts))
        texts = texts[:: 1 + num_chars // _MAX_TRAINING_CHARS]
        size = config.vocab_size or suggest_vocab_size(texts)
        assert config.kind != "published", "a published vocabulary is not trained"
        if config.kind in _TRAINERS:
            backend = _train_subwords(texts, size, *_TRAINERS[config.kind])
        else:
            backend = _backend_of_pieces(_COUNTERS[config.kind](texts), size)
        backend.add_tokens([AddedToken(tag, normalized=False) for tag in config.tags])
        return cls(backend)

    @classmethod
    def from_json(cls, text: str, *, name: str) -> Tokenizer:
        """Read a vocabulary from the text of a ``tokenizer.json``; `name` is for messages."""
        check_patterns(text, name=name)
        try:
            backend = Backend.from_str(text)
        except Exception as error:
            raise WeightsError(f"{name}: not a tokenizer file ({error}).") from error
        ids = [backend.token_to_id(special) for special in SPECIALS]
        if ids != [0, 1, 2] or backend.token_to_id(_byte_alphabet()[10]) is None:
            raise WeightsError(f"{name}: has not the tokens that every vocabulary of regard has.")
        return cls(backend)

    def to_json(self) -> str:
        """Return the text of a ``tokenizer.json`` that `from_json` reads."""
        return self._backend.to_str()

    def files(self) -> dict[str, str | bytes]:
        """Return the files that a model folder has of it, by name."""
        return {"tokenizer.json": self.to_json()}

    @property
    def languages(self) -> None:
        """The tokens of languages around texts: there are none, but tags that texts begin with."""

    @cached_property
    def language_tags(self) -> tuple[str, ...]:
        """The tags but for that of hidden tokens, longest first."""
        added = self._backend.get_added_tokens_decoder()
        tags = [
            token.content
            for token_id, token in added.items()
            if not token.special and token_id != self.mask_id
        ]
        return tuple(sorted(tags, key=len, reverse=True))

    def language_tag(self, text: str) -> str:
        """Return the tag that a text begins with; empty if with none."""
        return next(filter(text.startswith, self.language_tags), "")

    def __len__(self) -> int:
        """Return the number of token ids."""
        return self._backend.get_vocab_size()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of sentences, without begin and end."""
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_with_offsets(self, texts: Sequence[str]) -> list[TokenOffsets]:
        """Return the tokens of texts with the characters that they are, without begin and end."""
        encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [TokenOffsets(encoding.ids, encoding.offsets) for encoding in encodings]

    @property
    def pair_template(self) -> PairTemplate:
        """The special tokens around two texts: ``<s> first </s> second </s>``."""
        return PairTemplate((self.bos_id,), (self.eos_id,), (self.eos_id,))

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of target sentences, which share the vocabulary of the sources."""
        return self.encode(texts)

    @cached_property
    def newline_id(self) -> int:
        """Token of the end of a line."""
        token = self._backend.token_to_id(_byte_alphabet()[10])
        assert token is not None
        return token

    @property
    def mask_id(self) -> int | None:
        """Token of the tag ``<mask>``, if the vocabulary has it."""
        return self._backend.token_to_id("<mask>")

    @property
    def special_ids(self) -> dict[str, int]:
        """Ids of the special tokens by their names: bos, eos, pad, and mask if there is one."""
        ids = {"bos": self.bos_id, "eos": self.eos_id, "pad": self.pad_id}
        return ids if self.mask_id is None else ids | {"mask": self.mask_id}

    @property
    def end_id(self) -> int:
        """Id that ends an output."""
        return self.eos_id

    @property
    def begin_ids(self) -> tuple[int, ...]:
        """Ids before every text: none."""
        return ()

    def unused_ids(self, num_rows: int) -> tuple[int, ...]:
        """Return the rows of an embedding table of `num_rows` that belong to no token."""
        return tuple(range(len(self), num_rows))

    def encode_masked(self, text: str) -> list[int]:
        """Return the token ids of a text with masks, as part of running text."""
        return [*self.document_start, *self.encode([text])[0], self.newline_id]

    @property
    def document_start(self) -> list[int]:
        """Ids before running text: a newline, as before every line."""
        return [self.newline_id]

    def encode_prompt(self, text: str) -> list[int]:
        """Return the token ids of a text to continue, after the newline before running text."""
        return [*self.document_start, *self.encode_text(text)]

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end generated text."""
        return frozenset({self.eos_id})

    @property
    def written_stop_ids(self) -> frozenset[int]:
        """Those of the `stop_ids` that belong to the text: none."""
        return frozenset()

    @property
    def document_end(self) -> list[int]:
        """Ids after a document."""
        return [self.eos_id, self.newline_id]

    def encode_truncated(self, texts: Sequence[str], *, max_length: int) -> list[list[int]]:
        """Return the token ids of texts with an end, cut to `max_length` ids."""
        return [[*row[: max_length - 1], self.eos_id] for row in self.encode(texts)]

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """Return the token ids of lines, each with its newline."""
        return [
            [*row, self.newline_id] if line else [self.newline_id]
            for line, row in zip(lines, self.encode(lines), strict=True)
        ]

    def encode_text(self, text: str) -> list[int]:
        """Return the token ids of a text of one line or more, without begin and end."""
        rows = self.encode_lines(text.split("\n"))
        return [token for row in rows for token in row][:-1]

    def decode_text(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, of one line or more."""
        rows: list[list[int]] = [[]]
        for token in ids:
            if token == self.newline_id:
                rows.append([])
            else:
                rows[-1].append(token)
        return "\n".join(self.decode(rows))

    def decode(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """Return the sentences of token ids; special tokens are left out."""
        num_specials = len(SPECIALS)
        texts = [[token for token in row if token >= num_specials] for row in rows]
        return self._backend.decode_batch(texts, skip_special_tokens=False)

    def token_string(self, token: int) -> str | None:
        """Return a token as the vocabulary's file has it; None for an id without one."""
        return self._backend.id_to_token(token)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each token as readable text; bytes of a split character appear as ``\\xNN``."""
        texts = []
        for piece in map(self._backend.id_to_token, ids):
            assert piece is not None
            if all(char in self._byte_of for char in piece):
                content = bytes(self._byte_of[char] for char in piece)
                texts.append(content.decode("utf-8", errors="backslashreplace"))
            else:
                texts.append(piece)  # an added token, written in plain text
        return texts


def suggest_vocab_size(texts: Sequence[str]) -> int:
    """Return a vocabulary size for the number of characters, 500 to 16,000.

    It grows with the square root of the text, as the number of distinct words does (Heaps' law).
    """
    num_chars = sum(map(len, texts))
    return max(500, min(16_000, round(1.5 * math.sqrt(num_chars) / 100) * 100))


def _byte_alphabet() -> list[str]:
    """Return the character for each byte 0 to 255 (Radford et al. 2019): itself if printable."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    substitutes = map(chr, count(256))
    return [chr(byte) if byte in printable else next(substitutes) for byte in range(256)]


def _specials() -> list[AddedToken]:
    return [AddedToken(special, special=True, normalized=False) for special in SPECIALS]


def _backend(model: Any) -> Backend:
    """Return a byte-level tokenizer around a model.

    A space is put before every text, so that its first word has the same tokens as elsewhere.
    """
    backend = Backend(model)
    backend.normalizer = normalizers.Prepend(" ")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    return backend


def _train_subwords(texts: Sequence[str], size: int, model: Any, trainer: Any) -> Backend:
    backend = _backend(model())
    settings = trainer(
        vocab_size=size,
        special_tokens=_specials(),
        initial_alphabet=_byte_alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, settings, length=len(texts))
    return backend


def _count_words(texts: Sequence[str]) -> Counter[str]:
    """Count words, written in the byte alphabet."""
    splitter = _backend(models.Unigram()).pre_tokenizer
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in splitter.pre_tokenize_str(" " + text))
    return counts


def _count_characters(texts: Sequence[str]) -> Counter[str]:
    """Count characters, written in the byte alphabet."""
    alphabet = _byte_alphabet()
    counts = Counter(char for text in texts for char in text)
    return Counter({"".join(alphabet[b] for b in char.encode()): n for char, n in counts.items()})


def _backend_of_pieces(counts: Counter[str], size: int) -> Backend:
    """Return a tokenizer with a vocabulary of all bytes and the most frequent longer pieces.

    Every piece has the same score, so the segmentation with the fewest pieces wins: a piece of the
    vocabulary is one token, another piece is its bytes.
    """
    room = max(0, size - len(SPECIALS) - 256)
    longer = [piece for piece, _ in counts.most_common() if len(piece) > 1][:room]
    vocab = [(piece, 0.0) for piece in SPECIALS]
    vocab += [(piece, -10.0) for piece in [*_byte_alphabet(), *longer]]
    backend = _backend(models.Unigram(vocab, None, byte_fallback=False))
    backend.add_special_tokens(_specials())
    return backend


def check_tags(config: TokenizerConfig) -> None:
    """Check that every tag is one word.

    Raises:
        ConfigError: A tag is empty or holds a space.
    """
    for tag in config.tags:
        if not tag or any(char.isspace() for char in tag):
            raise ConfigError(f"tokenizer.tags={tag!r}: a tag is one word, such as <de>.")


_TRAINERS = {
    "bpe": (models.BPE, trainers.BpeTrainer),
    "unigram": (models.Unigram, trainers.UnigramTrainer),
}
"""Model and trainer of the kinds that learn which pieces to have."""
_COUNTERS: dict[str, Callable[[Sequence[str]], Counter[str]]] = {
    "word": _count_words,
    "character": _count_characters,
    "byte": lambda texts: Counter(),  # noqa: ARG005 - bytes are always in the vocabulary
}
"""Counts the pieces of texts, by the kind whose vocabulary has the most frequent ones."""
