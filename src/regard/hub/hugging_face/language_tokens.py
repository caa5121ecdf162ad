"""The tokens of languages in a published vocabulary of many.

NLLB (Costa-jussà et al. 2022), M2M100 (Fan et al. 2020) and mBART-50 (Tang et al. 2020) begin a
source with the token of its language, and a target with that of its own, which the search forces
first. NLLB's ``legacy_behaviour`` has the language of a source after its end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from regard.data.language_codes import find_language
from regard.errors import ConfigError, WeightsError
from regard.hub.file_names import GENERATION_CONFIG, HF_CONFIG, TOKENIZER_CONFIG
from regard.hub.hugging_face.weight_files import is_whole_number, read_optional_json

NLLB_CLASS, M2M100_CLASS, MBART50_CLASS = "NllbTokenizer", "M2M100Tokenizer", "MBart50Tokenizer"
_DEFAULT_SOURCES = {NLLB_CLASS: "eng_Latn", M2M100_CLASS: "en", MBART50_CLASS: "en_XX"}
_PATTERNS = {
    NLLB_CLASS: re.compile("([a-z]{3}_[A-Z][a-z]{3})"),
    M2M100_CLASS: re.compile("__([a-z_]{2,})__"),
    MBART50_CLASS: re.compile("([a-z]{2}_[A-Z]{2})"),
}
FAIRSEQ_CLASSES = frozenset({NLLB_CLASS, MBART50_CLASS})
"""Classes of ``transformers`` that number pieces as fairseq does, without a file for it."""
MANY_LANGUAGE_CLASSES = frozenset(_PATTERNS)
"""Classes of ``transformers`` whose vocabularies have tokens of languages."""
# Of `transformers` (``tokenization_m2m_100``): in this order after the pieces of vocab.json.
_M2M100_CODES = {
    "m2m100": "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga "
    "gd gl gu ha he hi hr ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml "
    "mn mr ms my ne nl no ns oc or pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn "
    "tr uk ur uz vi wo xh yi yo zh zu",
    "wmt21": "en ha is ja cs ru zh de",
}


class LanguageTokens(msgspec.Struct, frozen=True, kw_only=True):
    """The languages of a vocabulary.

    Args:
        ids: Id of the token of each language, by its code.
        source: Code of the language of texts; None where none is put around them.
        target: Code of the language that is written; None where each text says it.
        end_id: Token that ends a text.
        is_after: Whether the token of a source is after its end, not before the source.
        kind: Class of ``transformers`` that has them.
        names_source: Whether the language of sources was named, and is not a default.
    """

    ids: dict[str, int]
    source: str | None
    target: str | None
    end_id: int
    is_after: bool = False
    kind: str
    names_source: bool = False

    @property
    def begin_ids(self) -> tuple[int, ...]:
        """The ids before a text."""
        return () if self.source is None or self.is_after else (self.ids[self.source],)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The ids after a text."""
        if self.source is None or not self.is_after:
            return (self.end_id,)
        return (self.end_id, self.ids[self.source])

    @property
    def first_id(self) -> int | None:
        """The id that an output begins with; None where each text says it."""
        return None if self.target is None else self.ids[self.target]

    @property
    def codes(self) -> list[str]:
        """The codes of all languages."""
        return list(self.ids)

    def settings(self) -> dict[str, Any]:
        """Return the fields of ``tokenizer_config.json`` by which others put them around texts."""
        template = "__{}__" if self.kind == M2M100_CLASS else "{}"
        fields = {
            "tokenizer_class": self.kind,
            "src_lang": self.source,
            "tgt_lang": self.target,
            # By this name releases of `transformers` before 5 read them, too. Release 5 would not
            # know those of M2M100 as special tokens, and leave them in texts.
            "additional_special_tokens": [template.format(code) for code in self.ids],
        }
        return fields | ({"legacy_behaviour": self.is_after} if self.kind == NLLB_CLASS else {})

    def find(self, name: str) -> str:
        """Return the code of a language; see `find_language`."""
        return find_language(name, self.codes)

    def between(self, source: str | None, target: str) -> LanguageTokens:
        """Return the languages with those of a pair by name; the source may be the one it has."""
        code = self.source if source is None else self.find(source)
        names_source = self.names_source or source is not None
        return msgspec.structs.replace(
            self, source=code, target=self.find(target), names_source=names_source
        )

    def of_targets(self) -> LanguageTokens:
        """Return the languages as targets have them: their own is first."""
        return msgspec.structs.replace(self, source=self.target, is_after=False)


def language_class(name: str, model_type: object, tokens: Mapping[str, int], folder: Path) -> str:
    """Return the class whose way of naming languages a folder follows; empty for none.

    Args:
        name: Class that its settings name, without ``Fast``.
        model_type: Field of ``config.json``.
        tokens: Its special tokens.
        folder: Folder, for messages.

    Raises:
        ConfigError: The class names languages in a way that is not known here.
    """
    if name in MANY_LANGUAGE_CLASSES or model_type != "m2m_100":
        return name if name in MANY_LANGUAGE_CLASSES else ""
    if name not in ("PreTrainedTokenizer", "TokenizersBackend"):
        supported = ", ".join((M2M100_CLASS, NLLB_CLASS))
        raise ConfigError(
            f"{folder / TOKENIZER_CONFIG}: tokenizer_class={name}: says in its own way which "
            f"language is written.  Supported for m2m_100: {supported}."
        )
    counts = {
        kind: sum(map(bool, map(pattern.fullmatch, tokens))) for kind, pattern in _PATTERNS.items()
    }
    kind = max(counts, key=counts.__getitem__)
    return kind if counts[kind] else ""


def languages_of_backend(
    backend: Backend,
    folder: Path,
    settings: Mapping[str, Any],
    name: str,
    model_type: object,
    end_id: int | None,
) -> LanguageTokens | None:
    """Read the languages of a vocabulary, whose tokens become special ones, if they are not.

    Args:
        backend: The vocabulary.
        folder: Its folder.
        settings: Settings of ``tokenizer_config.json``.
        name: Class that they name, without ``Fast``.
        model_type: Field of ``config.json``.
        end_id: Token that ends a text.

    Returns:
        The languages; None where it has no tokens of them.
    """
    added = backend.get_added_tokens_decoder()
    tokens = {token.content: number for number, token in added.items() if token.special}
    vocab = backend.get_vocab(with_added_tokens=True)
    tokens |= {token: vocab[token] for token in declared_tokens(settings) if token in vocab}
    kind = language_class(name, model_type, tokens, folder)
    languages = read_language_tokens(folder, settings, kind, tokens, end_id)
    if languages is not None:
        names = [str(backend.id_to_token(token)) for token in languages.ids.values()]
        backend.add_special_tokens([AddedToken(token, normalized=False) for token in names])
    return languages


def read_language_tokens(
    folder: Path,
    settings: Mapping[str, Any],
    kind: str,
    tokens: Mapping[str, int],
    end_id: int | None,
) -> LanguageTokens | None:
    """Read the languages of a folder.

    The language of sources is ``src_lang``, and that of targets the token that the search of the
    folder forces first, or else ``tgt_lang``.

    Args:
        folder: The folder.
        settings: Settings of ``tokenizer_config.json``.
        kind: One of `MANY_LANGUAGE_CLASSES`, or empty.
        tokens: Ids of the tokens that may be of languages.
        end_id: Token that ends a text.

    Returns:
        The languages; None where the vocabulary has no tokens of them.

    Raises:
        ConfigError: Two fields name different languages.
        WeightsError: A language that is named has no token.
    """
    pattern = _PATTERNS.get(kind)
    matches = {} if pattern is None else {pattern.fullmatch(token): token for token in tokens}
    ids = {match[1]: tokens[token] for match, token in matches.items() if match is not None}
    if not ids or end_id is None:
        return None
    target = _target(folder, settings, ids)
    return LanguageTokens(
        ids=dict(sorted(ids.items(), key=lambda item: item[1])),
        source=_named(folder, settings, "src_lang", ids, _DEFAULT_SOURCES[kind]),
        target=target,
        end_id=end_id,
        is_after=kind == NLLB_CLASS and settings.get("legacy_behaviour") is True,
        kind=kind,
        names_source=target is not None,
    )


def _target(folder: Path, settings: Mapping[str, Any], ids: Mapping[str, int]) -> str | None:
    """Return the language that a folder is to write; None where it says none."""
    forced = _forced_language(folder, ids)
    target = _named(folder, settings, "tgt_lang", ids, forced)
    if forced is not None and target != forced:
        raise ConfigError(
            f"{folder / TOKENIZER_CONFIG}: tgt_lang={target}: forced_bos_token_id={ids[forced]} of "
            f"the search is {forced}, and the two must agree."
        )
    return target


def _named(
    folder: Path,
    settings: Mapping[str, Any],
    field: str,
    ids: Mapping[str, int],
    default: str | None,
) -> str | None:
    """Return the language in a field, or the default; raise WeightsError if it has no token."""
    code = settings.get(field) or default
    if code is not None and code not in ids:
        raise WeightsError(
            f"{folder / TOKENIZER_CONFIG}: {field}={code}: the vocabulary has no token of it."
        )
    return code


def _forced_language(folder: Path, ids: Mapping[str, int]) -> str | None:
    """Return the language whose token a folder forces first; None where it forces none."""
    fields = read_optional_json(folder / GENERATION_CONFIG) or read_optional_json(
        folder / HF_CONFIG
    )
    forced = fields.get("forced_bos_token_id")
    if not is_whole_number(forced):
        return None
    return next((code for code, token in ids.items() if token == forced), None)


def fairseq_tokens(
    folder: Path, settings: Mapping[str, Any], kind: str, num_pieces: int
) -> dict[str, int]:
    """Return the tokens of NLLB's or mBART-50's languages with their ids after the pieces.

    Args:
        folder: Folder, for messages.
        settings: Settings of ``tokenizer_config.json``, which list them in their order.
        kind: One of `FAIRSEQ_CLASSES`.
        num_pieces: Number of pieces of the vocabulary.

    Raises:
        WeightsError: The settings name none.
    """
    names = list(filter(_PATTERNS[kind].fullmatch, declared_tokens(settings)))
    if not names:
        raise WeightsError(
            f"{folder / TOKENIZER_CONFIG}: additional_special_tokens names no languages, whose ids "
            "are in no other file.  Save a tokenizer.json, which has them:\n"
            "    from transformers import AutoTokenizer\n"
            f"    AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
        )
    return {name: num_pieces + index for index, name in enumerate(names)}


def declared_tokens(settings: Mapping[str, Any]) -> list[str]:
    """Return the special tokens without a role that settings name, by either name of the list."""
    names = ("additional_special_tokens", "extra_special_tokens")
    lists = [value for name in names if isinstance(value := settings.get(name), list)]
    return [
        str(token.get("content")) if isinstance(token, dict) else str(token)
        for tokens in lists
        for token in tokens
    ]


def m2m100_tokens(folder: Path, settings: Mapping[str, Any], num_pieces: int) -> dict[str, int]:
    """Return the tokens of M2M100's languages with their ids, which follow those of the pieces.

    Args:
        folder: Folder, for messages.
        settings: Settings of ``tokenizer_config.json``.
        num_pieces: Number of pieces of the vocabulary.

    Raises:
        ConfigError: ``language_codes`` is not a list that is known.
    """
    name = settings.get("language_codes") or "m2m100"
    if name not in _M2M100_CODES:
        raise ConfigError(
            f"{folder / TOKENIZER_CONFIG}: language_codes={name}: one of "
            f"{', '.join(_M2M100_CODES)} was expected."
        )
    codes = _M2M100_CODES[name].split()
    return {f"__{code}__": num_pieces + index for index, code in enumerate(codes)}
