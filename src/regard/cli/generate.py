"""``regard generate``: a language model continues a prompt."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import msgspec

from regard.cli.model_options import WRITING_DEFAULTS, WritingOptions
from regard.cli.outputs import as_json
from regard.cli.parameters import Flag, Name, Text
from regard.cli.predictors import open_predictor
from regard.settings.validation import LARGEST, require_range

if TYPE_CHECKING:
    from regard.tasks.language_modeling.predictor import Generation


def generate(
    model: Annotated[str, Name],
    prompt: Annotated[str | None, Text] = None,
    /,
    *,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    num: int = 1,
    stop: Annotated[str | None, Text] = None,
    seed: int | None = None,
    compute: WritingOptions = WRITING_DEFAULTS,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Continue a text.

    Parameters
    ----------
    model
        Folder of a trained language model.
    prompt
        Text to continue; - reads it from standard input; without it a new text begins. Text that
        begins with a dash goes behind --.
    max_tokens
        Maximum number of tokens to write: 200, unless a published folder says otherwise, as in
        what follows.
    temperature
        0 takes the most probable token, 1 (the default) samples from the model's probabilities, a
        higher value makes improbable tokens more frequent.
    top_k
        Sample from this number of the most probable tokens; 0 (the default) sets no limit.
    top_p
        Sample from the most probable tokens that together reach this probability; 1 by default.
    num
        Number of continuations.
    stop
        Text to stop at.
    seed
        Seed of the sampling; the same seed writes the same text.
    compute
        What computes the continuations.
    json
        One JSON object with all continuations.
    """
    from regard.tasks.language_modeling.predictor import (
        MOST_CONTINUATIONS,
        Generation,
        SamplingOptions,
        TextGenerator,
        sampling_config,
    )

    options = SamplingOptions(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        stop=stop,
        seed=seed,
    )
    sampling_config(options)  # refuse them before the model is opened
    require_range("--num", num, 1, MOST_CONTINUATIONS)
    require_range("--seed", seed, 0, LARGEST)
    generator = open_predictor(model, TextGenerator, "generate text", compute)
    text = _read_prompt(prompt)
    if prompt is not None and not text.strip():
        warnings.warn(
            "the prompt is blank, so nothing is written.  Without one, a text begins.", stacklevel=1
        )
        nothing = Generation(text="", num_tokens=0, is_complete=True)
        _write("", [nothing] * num, json=json)
    elif num == 1 and not json:
        _write_stream(text, generator.stream(text, **options))
    else:
        result = generator.generate(text, num=num, **options)
        _write(text, [result] if num == 1 else result, json=json)


def _read_prompt(prompt: str | None) -> str:
    """Return the text to continue, of standard input for ``-``."""
    if prompt != "-":
        return prompt or ""
    from regard.data.readers.text_lines import read_lines

    return "\n".join(read_lines("-"))


def _write_stream(prompt: str, pieces: Iterable[str]) -> None:
    """Print a prompt and its continuation, as it is generated."""
    for piece in chain([prompt], pieces):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _write(prompt: str, generations: Sequence[Generation], *, json: bool) -> None:
    """Print continuations of a prompt: as one object, or as texts, several of them numbered."""
    if json:
        outputs = msgspec.to_builtins(generations)
        entry = {"line": 1, "text": prompt, "prompt": prompt, "outputs": outputs}
        print(as_json(entry))
        return
    for number, generation in enumerate(generations, start=1):
        title = "" if len(generations) == 1 else f"--- {number}\n"
        print(f"{title}{prompt}{generation.text}")
