"""Outputs of an exported folder in ``transformers``: its tokenizer, `generate` and `pipeline`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regard.generation.beam_search_config import BeamSearchConfig
from regard.models import Classifier, Decoder, Encoder, EncoderDecoder, Model, SpanModel, Vit
from regard.runs.text_check import Peer, largest_difference
from regard.runs.text_outputs import (
    NUM_CANDIDATES,
    TextOutput,
    TextReader,
    compared_search,
    continued_tokens,
    label_output,
    question_of,
    scored_tokens,
)
from regard.tasks.classification.predictor import TextClassifier
from regard.tasks.language_modeling.predictor import TextGenerator
from regard.tasks.masked_language_modeling.predictor import TextEncoder, pool_states
from regard.tasks.question_answering.predictor import QuestionAnswerer
from regard.tasks.sequence_to_sequence.decode_rows import special_ids
from regard.tasks.sequence_to_sequence.predictor import TargetWriter


def transformers_outputs(
    folder: Path, opened: TextReader, texts: Sequence[str]
) -> list[TextOutput]:
    """Return what ``transformers`` makes of texts with an exported folder.

    Args:
        folder: The export.
        opened: The model that was exported, whose task decides the class.
        texts: Inputs, such as prompts.

    Returns:
        An output for each.
    """
    library = import_module("transformers")
    with silent(library), torch.inference_mode():
        tokenizer = library.AutoTokenizer.from_pretrained(folder)
        if isinstance(opened, TargetWriter):
            return _translate(library, folder, opened, tokenizer, texts)
        if isinstance(opened, TextClassifier):
            return _classify(library, folder, opened, tokenizer, texts)
        if isinstance(opened, QuestionAnswerer):
            return _answer(library, folder, opened, tokenizer, texts)
        if isinstance(opened, TextGenerator):
            return _generate(library, folder, opened, tokenizer, texts)
        if opened.model.head is None or opened.tokenizer.mask_id is None:
            return _embed(library, folder, opened, tokenizer, texts)
        return _fill(library, folder, tokenizer, texts)


def transformers_difference(
    folder: Path, model: Model, inputs: Sequence[tuple[Tensor, ...]], outputs: Sequence[Tensor]
) -> float:
    """Return the largest difference between the outputs of a model and those of its export.

    Args:
        folder: The export.
        model: The model.
        inputs: Token ids ``[batch, length]`` or pixels ``[batch, channels, height, width]``.
        outputs: Logits of each, ``[batch, (length,) vocabulary or labels]``, or hidden states.

    Returns:
        The difference.
    """
    library = import_module("transformers")
    return largest_difference(outputs, _outputs(library, folder, model, inputs))


def _ranking_difference(search: BeamSearchConfig) -> str:
    """Return what ``generate`` does otherwise in a search."""
    return "ranks outputs by another function of their length" if search.ranking == "wu" else ""


TRANSFORMERS = Peer(
    "transformers",
    transformers_outputs,
    transformers_difference,
    numbers="Logits",
    search_difference=_ranking_difference,
    greedy="num_beams=1",
    limit="max_new_tokens",
)
"""What Hugging Face's format is for."""


@contextmanager
def silent(library: Any) -> Iterator[None]:
    """Show no warnings and no progress of the library."""
    logging = library.utils.logging
    verbosity, has_progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if has_progress:
            logging.enable_progress_bar()


def _outputs(
    library: Any, folder: Path, model: Model, inputs: Sequence[tuple[Tensor, ...]]
) -> list[Tensor]:
    """Return what an exported folder gives for inputs: logits, or hidden states without a head."""
    has_hidden_states = isinstance(model, Encoder) and model.head is None
    auto_classes: tuple[tuple[type[Model], str], ...] = (
        (Vit, "ViTForImageClassification"),
        (Classifier, "AutoModelForSequenceClassification"),
        (SpanModel, "AutoModelForQuestionAnswering"),
        (Encoder, "AutoModel" if has_hidden_states else "AutoModelForMaskedLM"),
        (Decoder, "AutoModelForCausalLM"),
        (EncoderDecoder, "AutoModelForSeq2SeqLM"),
    )
    name = next(name for kind, name in auto_classes if isinstance(model, kind))
    with silent(library):
        peer = getattr(library, name).from_pretrained(folder).eval()
    first = "pixel_values" if isinstance(model, Vit) else "input_ids"
    names = (first, "decoder_input_ids")
    outputs = []
    with torch.inference_mode():
        for tensors in inputs:
            output = peer(**dict(zip(names, tensors, strict=False)))
            if isinstance(model, SpanModel):
                spans = torch.stack([output.start_logits, output.end_logits], dim=2)
                outputs.append(spans)  # [batch, length, 2]
                continue
            outputs.append(output.last_hidden_state if has_hidden_states else output.logits)
    return outputs


def _translate(
    library: Any, folder: Path, opened: TargetWriter, tokenizer: Any, texts: Sequence[str]
) -> list[TextOutput]:
    """Write with the search of the folder, and the limit of each text: it has no field for that."""
    model = library.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    search, outputs = compared_search(opened), []
    end = special_ids(opened.model, opened.tokenizer).end
    for text in texts:
        row = tokenizer(text, return_tensors="pt")
        limit = int(search.output_limits(np.array(row["input_ids"].shape[1])))
        tokens = model.generate(**row, num_beams=search.beam, max_new_tokens=limit)
        output = tokenizer.decode(tokens[0], skip_special_tokens=True)
        _, *target = tokens[0].tolist()
        target += [end] * (target[-1:] != [end])
        labels = torch.tensor([target[: scored_tokens(opened)]])
        score = -float(model(**row, labels=labels).loss)
        outputs.append(TextOutput(tuple(row["input_ids"][0].tolist()), output, (score,)))
    return outputs


def _classify(
    library: Any, folder: Path, opened: TextClassifier, tokenizer: Any, texts: Sequence[str]
) -> list[TextOutput]:
    pipeline = library.pipeline("text-classification", model=str(folder), tokenizer=tokenizer)
    outputs = []
    for text in texts:
        (ranked,) = pipeline([text], top_k=None, truncation=True)
        scores = {entry["label"]: entry["score"] for entry in ranked}
        tokens = tokenizer(text, truncation=True)["input_ids"]
        outputs.append(label_output(scores, opened.labels, tokens))
    return outputs


def _answer(
    library: Any, folder: Path, opened: QuestionAnswerer, tokenizer: Any, texts: Sequence[str]
) -> list[TextOutput]:
    """Find the best span as the pipeline of version 4 did, which version 5 has not."""
    model = library.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    most, outputs = opened.config.qa.max_answer_tokens, []
    for text in texts:
        row = tokenizer(question_of(text), text, return_tensors="pt", return_offsets_mapping=True)
        offsets = row.pop("offset_mapping")[0].tolist()
        is_context = torch.tensor([number == 1 for number in row.sequence_ids(0)])
        is_possible = is_context.clone()
        is_possible[0] = True
        output = model(**row)
        starts, ends = (
            logits[0].masked_fill(~is_possible, -math.inf).softmax(0) * is_context
            for logits in (output.start_logits, output.end_logits)
        )
        pairs = (starts[:, None] * ends).triu().tril(most - 1)  # [length, length]
        first, last = divmod(int(pairs.argmax()), len(ends))
        answer = text[offsets[first][0] : offsets[last][1]].strip()
        tokens = tuple(row["input_ids"][0].tolist())
        outputs.append(TextOutput(tokens, answer, (float(pairs[first, last]),)))
    return outputs


def _generate(
    library: Any, folder: Path, opened: TextGenerator, tokenizer: Any, prompts: Sequence[str]
) -> list[TextOutput]:
    model = library.AutoModelForCausalLM.from_pretrained(folder).eval()
    outputs = []
    for prompt in prompts:
        row = tokenizer(prompt, return_tensors="pt")
        length = row["input_ids"].shape[1]
        limit = continued_tokens(opened, length)
        tokens = model.generate(**row, do_sample=False, max_new_tokens=limit)[0]
        whole, before = (
            tokenizer.decode(ids, skip_special_tokens=True) for ids in (tokens, tokens[:length])
        )
        output = whole[len(before) :]
        numbers = () if length == 1 else (-float(model(**row, labels=row["input_ids"]).loss),)
        outputs.append(TextOutput(tuple(row["input_ids"][0].tolist()), output, numbers))
    return outputs


def _embed(
    library: Any, folder: Path, opened: TextEncoder, tokenizer: Any, texts: Sequence[str]
) -> list[TextOutput]:
    model = library.AutoModel.from_pretrained(folder).eval()
    outputs = []
    for text in texts:
        options = {"truncation": True, "max_length": opened.max_length, "return_tensors": "pt"}
        row = tokenizer(opened.prepare(text), **options)
        vector = pool_states(model(**row).last_hidden_state, opened.pooling)[0]
        tokens = tuple(row["input_ids"][0].tolist())
        outputs.append(TextOutput(tokens, numbers=tuple(vector.tolist())))
    return outputs


def _fill(library: Any, folder: Path, tokenizer: Any, texts: Sequence[str]) -> list[TextOutput]:
    pipeline = library.pipeline("fill-mask", model=str(folder), tokenizer=tokenizer)
    return [
        TextOutput(
            tuple(tokenizer(text)["input_ids"]),
            numbers=tuple(candidate["score"] for candidate in pipeline(text, top_k=NUM_CANDIDATES)),
        )
        for text in texts
    ]
