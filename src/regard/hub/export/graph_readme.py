"""``README.md`` of an exported graph: its inputs and outputs, and lines that run it.

The lines are those of modules of `usage`, which the check of an export has used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

from regard.data.listing import list_first
from regard.hub.export.graph import Graph
from regard.hub.export.graph_format import GraphFormat
from regard.hub.export.graphs import predicts_tokens
from regard.hub.export.hugging_face_readme import example_source
from regard.hub.export.trained_model import TrainedModel, describe_threshold
from regard.hub.file_names import README_MARK
from regard.models import Classifier, Decoder, EncoderDecoder, PatchTst, SpanModel, Vit

_LABELS = 50  # that are listed
_LAYER = re.compile(r"\.(\d+)\.")  # of the name of keys and values
_FUTURE = "from __future__ import annotations"
_OWN_IMPORT = f"from {__package__}.usage"
"""Begins the import of what another module of `usage` has, whose lines come before."""


class Usage(NamedTuple):
    """How an exported model is run.

    Args:
        modules: Names of the modules of `usage` whose lines the README holds.
        name: Name of the class in the last of them.
        packages: What the lines import, next to what runs the graph.
        example: Last lines.
        notes: What else a reader has to know, one paragraph each.
    """

    modules: tuple[str, ...]
    name: str
    packages: str
    example: str
    notes: tuple[str, ...] = ()


_TEXT_PACKAGES = "numpy tokenizers"
_PADDING = (
    "Padding is on the right: `attention_mask` is 1 at the tokens of a row and 0 after them. A row "
    "with another mask gives NaN."
)
_TEXT_LABELS = Usage(
    ("classify_texts",),
    "TextClassifier",
    _TEXT_PACKAGES,
    """\
classify = TextClassifier(".", open_session("."))
for probabilities in classify(["One text.", "Another text, which is longer."]):
    label = max(probabilities, key=probabilities.__getitem__)
    print(label, probabilities[label])
""",
    (_PADDING,),
)
_TEXT_LABEL_SETS = Usage(
    ("classify_texts",),
    "TextClassifier",
    _TEXT_PACKAGES,
    """\
classify = TextClassifier(".", open_session("."))
for probabilities in classify(["One text.", "Another text, which is longer."]):
    print({name: value for name, value in probabilities.items() if value > classify.threshold})
""",
    (_PADDING,),
)
_SPANS = Usage(
    ("answer_questions",),
    "QuestionAnswerer",
    _TEXT_PACKAGES,
    """\
answer = QuestionAnswerer(".", open_session("."))
print(answer("Who wrote it?", "It was written by a person in 2020."))
""",
    (
        _PADDING,
        "`token_roles`, where the model reads them: 0 for tokens of the question and special ones, "
        "1 for tokens of the text, 2 for those whose word is in the question, too, -1 for padding.",
    ),
)
_MASKED_TOKENS = Usage(
    ("fill_masks",),
    "MaskFiller",
    _TEXT_PACKAGES,
    """\
fill = MaskFiller(".", open_session("."))
mask = fill.tokenizer.id_to_token(fill.mask_id)
print(fill(f"This is a {mask}."))
""",
    (_PADDING,),
)
_VECTORS = Usage(
    ("embed_texts",),
    "TextEncoder",
    _TEXT_PACKAGES,
    """\
embed = TextEncoder(".", open_session("."))
vectors = embed(["One text.", "Another text, which is longer."])
print(vectors.shape)
""",
    (_PADDING,),
)
_IMAGES = Usage(
    ("classify_images",),
    "ImageClassifier",
    "numpy",
    """\
classify = ImageClassifier(".", open_session("."))
image = np.zeros(classify.session.get_inputs()[0].shape[1:])  # [channels, height, width]
print(classify([image]))
""",
    ("Images have the size of the model; of another size they are scaled first.",),
)
_ROWS = Usage(
    ("classify_rows",),
    "RowClassifier",
    "numpy",
    """\
classify = RowClassifier(".", open_session("."))
rows = np.zeros((10, classify.settings["feature_size"]))  # [length, features]
print(classify([rows]))
""",
    (_PADDING,),
)
_RECORDINGS = Usage(
    ("log_mel", "classify_rows"),
    "RowClassifier",
    "numpy",
    """\
classify = RowClassifier(".", open_session("."))
samples = np.zeros(classify.settings["sampling_rate"])  # one second, -1 to 1
print(classify([log_mel(samples, classify.settings)]))
""",
    (_PADDING,),
)
_WRITTEN = Usage(
    ("decoder_step", "write_texts"),
    "TextWriter",
    _TEXT_PACKAGES,
    """\
encoder = open_session(".", "encoder_model")
write = TextWriter(".", encoder, open_session(".", "decoder_model_merged"))
print(write({text}))
""",
    (
        "A source is padded on the right: a row with another `encoder_attention_mask` gives NaN. "
        "In the first step the `past_key_values` have length 0, and the `present` ones are those "
        "of the next. Keys and values of a source are computed in the first step alone.",
    ),
)
_CONTINUED = Usage(
    ("decoder_step", "continue_texts"),
    "TextGenerator",
    _TEXT_PACKAGES,
    """\
generate = TextGenerator(".", open_session("."))
print(generate("Once", temperature=0))
""",
    (
        "In the first step the `past_key_values` have length 0, and the `present` ones are those "
        "of the next. Shorter prompts of a batch are padded on the left, or anywhere: "
        "`attention_mask` is 0 there, and `position_ids` count the tokens alone.",
    ),
)


_SERIES = Usage(
    ("forecast_series",),
    "Forecaster",
    "numpy",
    """\
forecast = Forecaster(".", open_session("."))
settings = forecast.settings
rows = settings["window"] + settings["horizon"]
known = np.tile(settings["known_mean"], (rows, 1))
observed = np.zeros((settings["window"], settings["num_observed"]))
values = np.sin(np.arange(settings["window"]))
start = "2024-01-01" if settings["unit"] != "row" else len(values)
print(forecast(values, start, known, observed)["0.5"])
""",
    (
        "`past_values` is a history without gaps, `past_observed_mask` is False where a value was "
        "missing and is a guess. `calendar` is that of the first step of each patch; `known` has "
        "mean 0 and variance 1.",
    ),
)


def usage_of(trained: TrainedModel) -> Usage:
    """Return how a model is run."""
    model = trained.model
    if isinstance(model, Classifier):
        return _TEXT_LABELS if trained.label_threshold is None else _TEXT_LABEL_SETS
    if isinstance(model, SpanModel):
        return _SPANS
    if isinstance(model, Vit):
        if model.config.input == "image":
            return _IMAGES
        return _ROWS if trained.audio is None else _RECORDINGS
    if isinstance(model, PatchTst):
        return _SERIES
    if isinstance(model, Decoder):
        return _CONTINUED
    if isinstance(model, EncoderDecoder):
        source = "" if trained.tokenizer is None else example_source(trained, trained.tokenizer)
        text = json.dumps(source, ensure_ascii=False)
        return _WRITTEN._replace(example=_WRITTEN.example.format(text=text))
    return _MASKED_TOKENS if predicts_tokens(trained) else _VECTORS


def write_readme(
    trained: TrainedModel, graphs: Mapping[str, Graph], summary: str, form: GraphFormat
) -> str:
    """Return the text of the README.

    Args:
        trained: The model.
        graphs: Its graphs, by the names of their files without endings.
        summary: The model in a line.
        form: The format of its file.
    """
    usage = usage_of(trained)
    task = f" for {trained.task}" if trained.task else ""
    paragraphs = [
        README_MARK,
        f"# A model{task}, as {form.name}",
        f"{summary}. Written by regard; {form.description}",
        *_tables(graphs, form),
        *usage.notes,
    ]
    if trained.labels:
        names = list_first([json.dumps(x, ensure_ascii=False) for x in trained.labels], _LABELS)
        paragraphs.append(f"Labels: {names}.{describe_threshold(trained)}")
    packages = " ".join(sorted([*usage.packages.split(), form.package]))
    if trained.tokenizer is not None or isinstance(trained.model, Vit | PatchTst):
        paragraphs += [
            f"What these lines give is what regard gives. They need `pip install {packages}` and "
            "run in this folder:",
            f"```python\n{_lines((form.session, *usage.modules))}\n\n{usage.example}```",
        ]
    return "\n\n".join(paragraphs) + "\n"


def _tables(graphs: Mapping[str, Graph], form: GraphFormat) -> list[str]:
    """Return the inputs and outputs of each graph, after the name of its file if there are more."""
    if len(graphs) == 1:
        return [_table(graph) for graph in graphs.values()]
    return [
        part
        for name, graph in graphs.items()
        for part in (f"`{name}{form.suffix}`:", _table(graph))
    ]


def _table(graph: Graph) -> str:
    """Return the inputs and outputs as a table."""
    rows = ["| | name | type | shape |", "| --- | --- | --- | --- |"]
    inputs = graph.example()
    with torch.inference_mode():
        outputs = graph.compute(inputs)
    last = max((int(match[1]) for match in map(_LAYER.search, graph.inputs) if match), default=0)
    for role, tensors, axes in (("in", inputs, graph.inputs), ("out", outputs, graph.outputs)):
        for name, values in tensors.items():
            layer = _LAYER.search(name)
            if layer and layer[1] != "0":
                continue  # as of the first layer
            sizes = [axes[name].get(axis, str(size)) for axis, size in enumerate(values.shape)]
            kind = str(values.dtype).removeprefix("torch.")
            of_layer = _LAYER.sub(".N.", name)
            rows.append(f"| {role} | `{of_layer}` | {kind} | {', '.join(sizes)} |")
    layers = [f"N is the number of a layer, 0 to {last}."] if last else []
    return "\n".join([*rows, "", *layers]).rstrip()


def _lines(modules: Sequence[str]) -> str:
    """Return the lines of modules as one program: the imports first, once."""
    imports, bodies = [_FUTURE, ""], []
    for module in modules:
        spec = find_spec(f"{__package__}.usage.{module}")
        assert spec is not None and spec.origin is not None
        text = Path(spec.origin).read_text(encoding="utf-8")
        lines = text.partition(_FUTURE)[2].strip().splitlines()
        is_import = [not line or line.startswith(("import ", "from ")) for line in lines]
        count = is_import.index(False)
        imports += [
            line
            for line in lines[:count]
            if line and line not in imports and not line.startswith(_OWN_IMPORT)
        ]
        bodies.append("\n".join(lines[count:]))
    return "\n\n\n".join(["\n".join(imports), *bodies])
