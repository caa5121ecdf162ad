"""Which pattern each layer attends by: the settings ``attention.*``."""

from __future__ import annotations

from typing import Literal

import msgspec

from regard.attention import (
    Hierarchical,
    LengthDependentPattern,
    Pattern,
    ScoreDependentPattern,
    parse_pattern,
)
from regard.errors import ConfigError
from regard.settings.binding import check_types

PatternText = str | tuple[str, ...]


class AttentionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which positions attend to which; a list alternates over the layers.

    Args:
        pattern: Pattern of self-attention in encoder and decoder, such as full, local:256,
            local:256|global:0, strided:8 or top_k:16; decoders look back only. A fraction of the
            length, such as local:0.1, and random blocks, such as random:64:3, are possible in the
            encoder and in cross-attention only: a decoder does not know the length of its text.
        encoder: Pattern of the encoder's self-attention; None is `pattern`.
        decoder: Pattern of the decoder's self-attention; None is `pattern`.
        cross: Pattern of the decoder's attention over the encoder's output.

    Raises:
        ConfigError: A text is not a pattern, or not one that is possible there.
    """

    pattern: PatternText = "full"
    encoder: PatternText | None = None
    decoder: PatternText | None = None
    cross: PatternText = "full"

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("pattern", "encoder", "decoder", "cross"):
            if getattr(self, name) is not None:
                self._parse(name, is_decoder=False)
        self.encoder_patterns(1)
        self.decoder_patterns(1)
        self.cross_patterns(1)

    def encoder_patterns(self, num_layers: int) -> list[Pattern]:
        """Read the pattern of each encoder layer's self-attention."""
        name = "pattern" if self.encoder is None else "encoder"
        return _alternate(self._parse(name, is_decoder=False), num_layers)

    def decoder_patterns(self, num_layers: int) -> list[Pattern]:
        """Read the pattern of each decoder layer's self-attention; all are causal."""
        name = "pattern" if self.decoder is None else "decoder"
        patterns = self._parse(name, is_decoder=True)
        example = "local:256"
        if name == "pattern":
            example += ", or set attention.decoder as well"
        self._refuse(
            name,
            Hierarchical,
            "averages keys of the queries' own sequence, which does not go with a decoder that "
            f"writes token by token.  Take another pattern, e.g. {example}.",
        )
        self._refuse(
            name,
            LengthDependentPattern,
            "depends on the length, which a decoder that writes token by token does not know.  "
            f"Take a number, e.g. {example}.",
        )
        return _alternate(patterns, num_layers)

    def cross_patterns(self, num_layers: int) -> list[Pattern]:
        """Read the pattern of each decoder layer's attention over the encoder's output."""
        patterns = self._parse("cross", is_decoder=False)
        self._refuse(
            "cross",
            Hierarchical,
            "averages keys of the queries' own sequence, which does not go with cross-attention, "
            "which has other keys than queries.  Take another pattern, e.g. full.",
        )
        return _alternate(patterns, num_layers)

    def every_pattern(self, num_encoder_layers: int, num_decoder_layers: int) -> list[Pattern]:
        """Read the pattern of every attention of an encoder and decoder."""
        return [
            *self.encoder_patterns(num_encoder_layers),
            *self.decoder_patterns(num_decoder_layers),
            *self.cross_patterns(num_decoder_layers),
        ]

    def replace_score_dependent(self, mask: str) -> AttentionConfig:
        """Replace the patterns that depend on scores by patterns that are masks.

        Args:
            mask: Pattern for self-attention; cross-attention gets full.

        Returns:
            The changed settings.

        >>> AttentionConfig(pattern=("top_k:4", "full"), encoder="local:9").replace_score_dependent(
        ...     "local:512"
        ... ).summary()
        'encoder local:9, decoder local:512, cross full'
        """
        changed = {}
        for name in ("pattern", "encoder", "decoder", "cross"):
            if getattr(self, name) is not None and any(
                isinstance(pattern, ScoreDependentPattern)
                for pattern in self._parse(name, is_decoder=False)
            ):
                changed[name] = "full" if name == "cross" else mask
        return msgspec.structs.replace(self, **changed)

    def summary(self) -> str:
        """Return the patterns in a line, as the settings have them.

        >>> AttentionConfig(pattern="local:64", encoder=("local:64", "full")).summary()
        'encoder local:64 / full, decoder local:64, cross full'
        """
        encoder, decoder, cross = map(self.kind_summary, ("encoder", "decoder", "cross"))
        if encoder == decoder and cross == "full":
            return encoder
        return f"encoder {encoder}, decoder {decoder}, cross {cross}"

    def kind_summary(self, kind: Literal["encoder", "decoder", "cross"]) -> str:
        """Return the patterns of one kind of attention, as the settings have them.

        >>> AttentionConfig(pattern=("local:64", "full"), encoder="full").kind_summary("decoder")
        'local:64 / full'
        """
        pattern = getattr(self, kind)
        return " / ".join(_texts(self.pattern if pattern is None else pattern))

    def _parse(self, name: str, *, is_decoder: bool) -> list[Pattern]:
        texts = _texts(getattr(self, name))
        if not texts:
            raise ConfigError(
                f"attention.{name}=[]: the list is empty.  "
                'Expected one pattern or more, e.g. ["local:64", "full"].'
            )
        return [_parse_one(name, text, is_decoder=is_decoder) for text in texts]

    def _refuse(self, name: str, kind: type[Pattern], reason: str) -> None:
        for text in _texts(getattr(self, name)):
            if isinstance(_parse_one(name, text, is_decoder=name != "cross"), kind):
                raise ConfigError(f"attention.{name}={text}: {reason}")


def _parse_one(name: str, text: str, *, is_decoder: bool) -> Pattern:
    if text.lstrip().startswith("["):
        raise ConfigError(
            f"attention.{name}={text}: a list has each pattern in double quotes, "
            f"""e.g. 'attention.{name}=["local:64", "full"]'."""
        )
    try:
        return parse_pattern(text, is_decoder=is_decoder)
    except ConfigError as error:
        message = str(error).replace("attention.pattern", f"attention.{name}", 1)
        raise ConfigError(message) from error


def _texts(pattern: PatternText) -> tuple[str, ...]:
    return (pattern,) if isinstance(pattern, str) else pattern


def _alternate(patterns: list[Pattern], num_layers: int) -> list[Pattern]:
    return [patterns[layer % len(patterns)] for layer in range(num_layers)]
