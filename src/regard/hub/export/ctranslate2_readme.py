"""The README of a folder for CTranslate2: the lines of Python that write the model's texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from regard.generation.sampling import SamplingConfig
from regard.hub.export.ctranslate2_search import WritingLimits
from regard.hub.file_names import (
    CTRANSLATE2_VOCABULARY,
    MARIAN_SOURCE,
    MARIAN_TARGET,
    README_MARK,
    SENTENCEPIECE_FAIRSEQ,
    SENTENCEPIECE_LLAMA,
    SENTENCEPIECE_T5,
    TOKENIZER,
)
from regard.hub.hugging_face.published_tokenizer import SENTINEL

_TOKENIZERS = f"""
tokenizer = Tokenizer.from_file(f"{{folder}}/{TOKENIZER}")
tokenizer.encode_special_tokens = True  # "</s>" in a text is text

def encode(text):
    return [tokenizer.id_to_token(token) for token in tokenizer.encode(text).ids]

def decode(tokens):
    return tokenizer.decode([tokenizer.token_to_id(token) for token in tokens])
"""
_HIDDEN = "    tokens = [token for token in tokens if not SENTINEL.fullmatch(token)]\n"
_SENTINEL = f"SENTINEL = re.compile({SENTINEL.pattern!r})  # read in texts, and never written\n"
_MARIAN = f"""
source = SentencePieceProcessor(model_file=f"{{folder}}/{MARIAN_SOURCE}")
target = SentencePieceProcessor(model_file=f"{{folder}}/{MARIAN_TARGET}")
with open(f"{{folder}}/{CTRANSLATE2_VOCABULARY}", encoding="utf-8") as file:
    vocabulary = set(json.load(file))

def encode(text):
    tag = re.match(">>[^<>]+<<", text)  # of the target language
    head = tag[0] if tag and tag[0] in vocabulary else ""
    pieces = source.encode(text.removeprefix(head), out_type=str)
    return [*BEFORE, *([head] if head else []), *pieces, *AFTER]
"""
_SENTENCEPIECE = """
source = target = SentencePieceProcessor(model_file=f"{folder}/NAME")

def encode(text):
    return [*BEFORE, *source.id_to_piece(source.encode(text)), *AFTER]
"""
_PIECES_AND_SENTINELS = """
source = target = SentencePieceProcessor(model_file=f"{folder}/NAME")

def encode(text):
    pieces = [*BEFORE]
    for part in re.split(f"({SENTINEL.pattern})", text):
        is_token = SENTINEL.fullmatch(part)
        pieces += [part] if is_token else source.id_to_piece(source.encode(part))
    return [*pieces, *AFTER]
"""
_PIECES = """
def decode(tokens):
    text = target.decode([token for token in tokens if token not in HIDDEN])
    return text.replace("\u2581", " ").strip()
"""


_UNUSED = re.compile(r"<unused (\d+)>")  # of `token_strings`
_LONG = 8  # rows of no token


class SpecialTokens(NamedTuple):
    """The tokens that a vocabulary of SentencePiece has around texts, as strings.

    Args:
        before: Before a text.
        after: After a text.
        hidden: Left out of an output.
        has_sentinels: Whether there are T5's ``<extra_id_0>`` and so on.
    """

    before: Sequence[str]
    after: Sequence[str]
    hidden: Sequence[str]
    has_sentinels: bool = False


class TokenUsage(NamedTuple):
    """Lines of Python that split a text into tokens, and join the tokens of an output.

    Args:
        package: That does it.
        imports: Its imports.
        lines: Functions ``encode`` and ``decode``.
    """

    package: str
    imports: str
    lines: str


def usage_of_tokens(files: Mapping[str, object], special: SpecialTokens) -> TokenUsage:
    """Return how the tokens of a vocabulary are used.

    Args:
        files: Of the vocabulary, by name.
        special: Special tokens, which ``tokenizer.json`` has by itself.
    """
    if special.has_sentinels:
        return _usage_with_sentinels(files, special)
    if TOKENIZER in files:
        return TokenUsage("tokenizers", "from tokenizers import Tokenizer", _TOKENIZERS.strip())
    names = (SENTENCEPIECE_T5, SENTENCEPIECE_LLAMA, SENTENCEPIECE_FAIRSEQ)
    name = next((name for name in names if name in files), None)
    code = _MARIAN if name is None else _SENTENCEPIECE.replace("NAME", name)
    before = _constants(special)
    imports = "from sentencepiece import SentencePieceProcessor"
    if name is None:
        imports = f"import json\nimport re\n{imports}"
    return TokenUsage("sentencepiece", imports, before + code.rstrip() + "\n" + _PIECES.rstrip())


def _constants(special: SpecialTokens) -> str:
    """Return the lines that name special tokens."""
    constants = zip(("BEFORE", "AFTER", "HIDDEN"), special[:3], strict=True)
    return "".join(f"{constant} = {list(tokens)!r}\n" for constant, tokens in constants)


def _usage_with_sentinels(files: Mapping[str, object], special: SpecialTokens) -> TokenUsage:
    """Return how the tokens of a vocabulary of T5 are used; see `usage_of_tokens`."""
    decode = "def decode(tokens):\n"
    if TOKENIZER in files:
        lines = _SENTINEL + _TOKENIZERS.strip().replace(decode, decode + _HIDDEN)
        return TokenUsage("tokenizers", "import re\nfrom tokenizers import Tokenizer", lines)
    pieces = _PIECES.replace(decode, decode + _HIDDEN).replace(".strip()", "")
    code = _PIECES_AND_SENTINELS.replace("NAME", SENTENCEPIECE_T5)
    lines = _SENTINEL + _constants(special) + code.rstrip() + "\n" + pieces.rstrip()
    imports = "import re\nfrom sentencepiece import SentencePieceProcessor"
    return TokenUsage("sentencepiece", imports, lines)


def translator_readme(
    usage: TokenUsage,
    options: Mapping[str, Any],
    limits: WritingLimits,
    prefix: str | None,
    notes: Sequence[str],
    source_prefix: str = "",
) -> str:
    """Return the README of an encoder-decoder.

    Args:
        usage: How its tokens are used.
        options: Of ``translate_batch``, but for lengths.
        limits: The lengths.
        prefix: Token that every output begins with; None leaves it to the model.
        notes: Sentences on what is different elsewhere.
        source_prefix: Text that every source begins with.
    """
    begin = f"{source_prefix!r} + text.removeprefix({source_prefix!r})" if source_prefix else "text"
    arguments = _arguments(options)
    if prefix is not None:
        arguments.insert(0, f"target_prefix=[[{prefix!r}]],")
    lines = [
        "translator = ctranslate2.Translator(folder)",
        "",
        "def write(text):",
        "    if not text:",
        '        return ""',
        f"    tokens = encode({begin})",
        f"    num_source = {_num_source(limits.source)}",
        "    (result,) = translator.translate_batch(",
        "        [tokens],",
        *(f"        {argument}" for argument in arguments),
        f"        max_input_length={limits.source or 0},",
        f"        max_decoding_length={limits.formula},",
        "    )",
        "    return decode(result.hypotheses[0])",
    ]
    return _readme(usage, lines, notes)


def generator_readme(
    usage: TokenUsage,
    options: Mapping[str, Any],
    sampling: SamplingConfig,
    start: str | None,
    notes: Sequence[str],
    most: int | None = None,
) -> str:
    """Return the README of a language model.

    Args:
        usage: How its tokens are used.
        options: Of ``generate_batch``, but for sampling and lengths.
        sampling: Settings of the model.
        start: Token that a text without a prompt begins with, where ``encode`` gives none for it.
        notes: Sentences on what is different elsewhere.
        most: Maximum number of tokens of prompt and output; None sets no limit.
    """
    refusal = [
        f"    if len(tokens) >= {most}:",
        f'        raise ValueError("the prompt has {most} tokens or more")',
    ]
    limited = f"min(max_tokens, {most} - len(tokens))"
    prompt = "encode(prompt)" if start is None else f"encode(prompt) or [{start!r}]"
    lines = [
        "generator = ctranslate2.Generator(folder)",
        "",
        f"def write(prompt, max_tokens={sampling.max_tokens}, **sampling):",
        f"    tokens = {prompt}",
        *(refusal if most is not None else ()),
        "    (result,) = generator.generate_batch(",
        "        [tokens],",
        *(f"        {argument}" for argument in _arguments(options)),
        "        include_prompt_in_result=False,",
        f"        max_length={'max_tokens' if most is None else limited},",
        "        **sampling,",
        "    )",
        "    return decode(tokens + result.sequences[0])[len(decode(tokens)) :]",
    ]
    greedy = "`write(prompt)` takes the most probable token each time, as `temperature=0` in regard"
    sampled = [f"sampling_topk={sampling.top_k}"]
    sampled += [f"sampling_topp={sampling.top_p}"] * (sampling.top_p != 1)
    sampled.append(f"sampling_temperature={sampling.temperature}")
    drawn = f"; `write(prompt, {', '.join(sampled)})` draws it, from other random numbers"
    notes = [f"{greedy}{drawn if sampling.temperature else ''}.", *notes]
    return _readme(usage, lines, notes)


def _num_source(limit: int | None) -> str:
    """Return the number of tokens that are read of a source, in Python."""
    return "len(tokens)" if limit is None else f"min(len(tokens), {limit})"


def _arguments(options: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in options.items():
        text = _sequences(value) if name == "suppress_sequences" else repr(value)
        lines.append(f"{name}={text},")
    return lines


def _sequences(tokens: Sequence[Sequence[str]]) -> str:
    """Return tokens as Python writes them; rows of no token in succession are one range."""
    names = [token for (token,) in tokens]
    numbers = [int(match[1]) for name in names if (match := _UNUSED.fullmatch(name))]
    first = numbers[0] if numbers else 0
    if len(numbers) < _LONG or numbers != list(range(first, first + len(numbers))):
        return repr(list(tokens))
    named = "".join(f"[{name!r}], " for name in names if not _UNUSED.fullmatch(name))
    unused = f'*([f"<unused {{n}}>"] for n in range({first}, {numbers[-1] + 1}))'
    return f"[{named}{unused}]"


def _readme(usage: TokenUsage, lines: Sequence[str], notes: Sequence[str]) -> str:
    code = "\n".join(lines)
    items = "\n".join(f"- {note}" for note in notes)
    return f"""{README_MARK}
# A Transformer for CTranslate2

Written by `regard export`. After `pip install ctranslate2 {usage.package}` these lines write texts:

```python
import ctranslate2
{usage.imports}

folder = "."  # this one
{usage.lines}

{code}
```

{items}
"""
