"""``README.md`` of a folder for ``transformers``: lines that load the model and use it."""

from __future__ import annotations

import json

from regard.data.listing import list_first
from regard.data.tokenizer import Tokenizer
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.export.graphs import predicts_tokens
from regard.hub.export.trained_model import TrainedModel, describe_threshold
from regard.hub.file_names import README_MARK
from regard.models import Classifier, Decoder, EncoderDecoder, SpanModel, Vit

_LABELS = 50  # that are listed
_CLASSIFY_TEXTS = """\
from transformers import pipeline

classify = pipeline("text-classification", model=".")
for text in ["One text.", "Another text, which is longer."]:
    print(classify(text, truncation=True))
"""
_CLASSIFY_LABELS = """\
from transformers import pipeline

classify = pipeline("text-classification", model=".")
threshold = classify.model.config.label_threshold
for text in ["One text.", "Another text, which is longer."]:
    labels = classify(text, top_k=None, truncation=True)
    print([label for label in labels if label["score"] > threshold])
"""
_CLASSIFY_IMAGES = """\
from PIL import Image
from transformers import pipeline

classify = pipeline("image-classification", model=".")
print(classify(Image.new("RGB", (64, 64), "white")))
"""
_FIND_ANSWERS = """\
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForQuestionAnswering.from_pretrained(".").eval()
question, text = "Who wrote it?", "It was written by a person in 2020."
row = tokenizer(
    question, text, truncation="only_second", return_tensors="pt", return_offsets_mapping=True
)
offsets = row.pop("offset_mapping")[0]
is_text = torch.tensor([number == 1 for number in row.sequence_ids(0)])
with torch.inference_mode():
    output = model(**row)
starts = output.start_logits[0].masked_fill(~is_text, -torch.inf)
ends = output.end_logits[0].masked_fill(~is_text, -torch.inf)
pairs = (starts[:, None] + ends).masked_fill(
    ~torch.ones(len(ends), len(ends), dtype=torch.bool).triu(), -torch.inf
)
first, last = divmod(int(pairs.argmax()), len(ends))
print(text[offsets[first][0] : offsets[last][1]])
"""
_FILL_MASKS = """\
from transformers import pipeline

fill = pipeline("fill-mask", model=".")
for candidate in fill({text}):
    print(candidate["token_str"], candidate["score"])
"""
_EMBED_TEXTS = """\
from sentence_transformers import SentenceTransformer

vectors = SentenceTransformer(".").encode(["One text.", "Another text, which is longer."])
print(vectors.shape)
"""
_WRITE = """\
from transformers import {auto_class}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = {auto_class}.from_pretrained(".").eval()
row = tokenizer({text}{options}, return_tensors="pt")
print(tokenizer.decode(model.generate(**row)[0], skip_special_tokens=True))
"""


def write_readme(trained: TrainedModel, model_type: str, *, has_vocabulary: bool) -> str:
    """Return the text of the README.

    Args:
        trained: The model.
        model_type: Its layout, by the name that ``config.json`` gives it.
        has_vocabulary: Whether the folder has what splits texts into tokens.
    """
    task = f" for {trained.task}" if trained.task else ""
    paragraphs = [
        README_MARK,
        f"# A model{task}, as {model_type} of transformers",
        "Written by regard in float32; `regard` opens this folder, too.",
    ]
    if trained.labels:
        names = list_first([json.dumps(x, ensure_ascii=False) for x in trained.labels], _LABELS)
        paragraphs.append(f"Labels: {names}.{describe_threshold(trained)}")
    if trained.source_prefix:
        prefix = json.dumps(trained.source_prefix, ensure_ascii=False)
        paragraphs.append(f"Every source begins with {prefix}.")
    if trained.max_length is not None and isinstance(trained.model, EncoderDecoder):
        paragraphs.append(_describe_longest_source(trained, trained.max_length))
    if not has_vocabulary and not isinstance(trained.model, Vit):
        paragraphs.append("The folder has no vocabulary: the model reads and gives token ids.")
        return "\n\n".join(paragraphs) + "\n"
    packages, lines = _usage(trained)
    paragraphs += [
        f"These lines need `pip install {packages}` and run in this folder:",
        f"```python\n{lines}```",
    ]
    return "\n\n".join(paragraphs) + "\n"


def _describe_longest_source(trained: TrainedModel, limit: int) -> str:
    """Return what is done with a source of more tokens than the model reads at most."""
    action = "cuts the end of a longer one off"
    if trained.task == "translation":
        action = "translates a longer one in parts"
    return (
        f"A source has {limit:,} tokens at most, its end not counted: `regard` {action}.  Without "
        "`truncation=True` `transformers` reads all of it, for which the model was not trained."
    )


def _usage(trained: TrainedModel) -> tuple[str, str]:
    """Return the packages that a model needs, and the lines that use it."""
    model, tokenizer = trained.model, trained.tokenizer
    if isinstance(model, Vit):
        return "pillow torch transformers", _CLASSIFY_IMAGES
    assert tokenizer is not None, "a model of texts has a vocabulary"
    if isinstance(model, Classifier):
        lines = _CLASSIFY_TEXTS if trained.label_threshold is None else _CLASSIFY_LABELS
    elif isinstance(model, SpanModel):
        lines = _FIND_ANSWERS
    elif isinstance(model, Decoder):
        lines = _WRITE.format(auto_class="AutoModelForCausalLM", text='"Once"', options="")
    elif isinstance(model, EncoderDecoder):
        text = json.dumps(example_source(trained, tokenizer), ensure_ascii=False)
        options = "" if trained.max_length is None else ", truncation=True"
        lines = _WRITE.format(auto_class="AutoModelForSeq2SeqLM", text=text, options=options)
    elif predicts_tokens(trained):
        text = json.dumps(f"This is {_mask(tokenizer)}.", ensure_ascii=False)
        lines = _FILL_MASKS.format(text=text)
    else:
        return "sentence-transformers", _EMBED_TEXTS
    return "torch transformers", lines


def example_source(trained: TrainedModel, tokenizer: AnyTokenizer) -> str:
    """Return a text as a model reads it: after its prefix, and the tag of a language.

    Args:
        trained: An encoder-decoder.
        tokenizer: Its vocabulary.
    """
    tags = tokenizer.language_tags if isinstance(tokenizer, Tokenizer) else ()
    tag = min(tags, default="")
    return f"{trained.source_prefix}{tag}{' ' if tag else ''}Good morning"


def _mask(tokenizer: AnyTokenizer) -> str:
    """Return the text of the token that hides another."""
    assert tokenizer.mask_id is not None, "of a model that predicts hidden tokens"
    return tokenizer.token_string(tokenizer.mask_id) or ""
