"""Explanations made by hand, of every task and size that the page shows."""

from __future__ import annotations

import base64
import struct
import zlib

import msgspec
import numpy as np

from regard.explain.document import (
    AttentionMap,
    AttentionRow,
    AttentionSink,
    ExplainedModel,
    Explanation,
    Faithfulness,
    InfluentialRow,
    LensRow,
    MethodResult,
    Retraining,
    TrainingInfluence,
)
from regard.explain.prediction import Feature, Output

TITLES = {
    "attention": "attention mean",
    "rollout": "rollout",
    "gradient": "gradient × input",
    "ig": "integrated gradients",
    "occlusion": "occlusion",
}
SIGNED = ("gradient", "ig", "occlusion")
BANK = ["The", "bank", "by", "the", "river", "was", "closed", "."]
UFER = ["Das", "Ufer", "am", "Fluss", "war", "geschlossen", "."]


def model(task="translation", family="transformer", **fields) -> ExplainedModel:
    return ExplainedModel(
        **{
            "name": "ende",
            "task": task,
            "family": family,
            "num_parameters": 12_104_704,
            "hash": "3f2a91c0",
            "explained": "2026-11-21",
            "search": "beam 4",
            "diagram": "flowchart TB\n    n0([source tokens]) --> n1[embedding]\n",
            **fields,
        }
    )


def features(words, part, *, begin=(), end=()) -> list[Feature]:
    """Words with the spaces between them, and special tokens around them."""
    spaced = [word if number == 0 else f" {word}" for number, word in enumerate(words)]
    return [
        *(Feature(text, part, is_special=True) for text in begin),
        *(Feature(text, part) for text in spaced),
        *(Feature(text, part, is_special=True) for text in end),
    ]


def outputs(words, seed=1) -> list[Output]:
    """Words with the alternatives of each."""
    rng = np.random.default_rng(seed)
    made = []
    for number, word in enumerate(words):
        text = word if number == 0 or word.startswith("<") else f" {word}"
        first, *others = np.sort(rng.dirichlet([8, 1, 0.5, 0.3, 0.2]))[::-1]
        names = (" Bank", " Rand", " die", " Haus")
        made.append(
            Output(
                text,
                float(np.log(first)),
                {text: float(first), **dict(zip(names, map(float, others), strict=True))},
            )
        )
    return made


def methods(reads: np.ndarray, seed=1, unit="nats") -> dict[str, MethodResult]:
    """Results of five methods, larger along the diagonal; `reads` is ``[outputs, features]``."""
    rng = np.random.default_rng(seed)
    num_outputs, num_features = reads.shape
    near = np.arange(num_outputs)[:, None] / max(1, num_outputs) - np.arange(num_features) / max(
        1, num_features
    )
    strength = np.exp(-(near**2) * num_features * 4) + 0.1 * rng.random(reads.shape)
    results = {}
    for number, (name, title) in enumerate(TITLES.items()):
        is_signed = name in SIGNED
        scores = strength * rng.random(reads.shape) ** 0.6
        scores = np.where(is_signed & (rng.random(reads.shape) < 0.3), -0.6 * scores, 2 * scores)
        if not is_signed:
            scores = scores * reads / np.maximum(1e-9, (scores * reads).sum(1, keepdims=True))
        rows = np.where(reads, scores, np.nan)
        results[name] = MethodResult(
            title=title,
            unit=unit if is_signed else "of 1",
            is_signed=is_signed,
            scores=[[None if np.isnan(v) else float(v) for v in row] for row in rows],
            error=0.008 if name == "ig" else None,
            steps=20 if name == "ig" else None,
            faithfulness=Faithfulness(
                comprehensiveness=0.2 + 0.08 * number,
                sufficiency=0.3 - 0.04 * number,
                tau=0.1 + 0.15 * number,
                random={"comprehensiveness": 0.17, "sufficiency": 0.34, "tau": 0.01},
            ),
            seconds=0.2 * number,
        )
    return results


def attention_maps(
    kind: str,
    num_layers: int,
    num_heads: int,
    queries: int,
    keys: int,
    *,
    runs=None,
    pattern="full",
    most=16,
    seed=1,
    sink=None,
) -> list[AttentionMap]:
    """Weights that fall with the distance, of heads of different widths."""
    rng = np.random.default_rng(seed)
    runs = runs or [[(0, keys)]] * queries
    allowed = np.zeros((queries, keys), dtype=bool)
    for query, row in enumerate(runs):
        for first, stop in row:
            allowed[query, first:stop] = True
    distance = np.arange(queries)[:, None] * keys / queries - np.arange(keys)
    maps = []
    for layer in range(num_layers):
        heads = []
        for head in range(num_heads if layer < 2 else 0):
            shift = (head % 5) - 2
            logits = -np.abs(distance + shift) / (1 + (head + layer) % 7)
            logits = logits + rng.normal(0, 1, logits.shape)
            if sink is not None and head % 3 == 0:
                logits[:, sink] += 6
            weights = np.exp(np.where(allowed, logits, -np.inf) - logits.max())
            weights /= np.maximum(weights.sum(1, keepdims=True), 1e-30)
            heads.append(attention_rows(weights, most))
        heads = heads or maps[layer - 2].heads  # packed apart, they are as large as others
        effects = [-float(e) for e in rng.exponential(0.1, num_heads)]
        effects[-1] = 0.04
        sinks = [
            AttentionSink(sink, 0.62) if sink is not None and head % 3 == 0 else None
            for head in range(num_heads)
        ]
        maps.append(
            AttentionMap(
                layer=f"{kind if kind != 'cross' else 'decoder'}.layers.{layer}",
                kind=kind,
                pattern=pattern,
                num_queries=queries,
                num_keys=keys,
                heads=heads,
                effects=effects,
                sinks=sinks,
                computed=runs,
            )
        )
    return maps


def attention_rows(weights: np.ndarray, most: int) -> list[AttentionRow]:
    most = min(most, weights.shape[1])
    top = np.sort(np.argpartition(-weights, most - 1, axis=1)[:, :most], axis=1)
    thousandths = np.round(1000 * np.take_along_axis(weights, top, axis=1)).astype(int)
    rest = np.maximum(0, 1000 - thousandths.sum(1))
    return [
        AttentionRow(keys, values, int(left))
        for keys, values, left in zip(top.tolist(), thousandths.tolist(), rest, strict=True)
    ]


def lens(words, num_layers=6, name="decoder.layers") -> list[LensRow]:
    rng = np.random.default_rng(3)
    rows = []
    for layer in range(num_layers):
        certainty = (layer + 1) / num_layers
        rows.append(
            LensRow(
                layer=f"{name}.{layer}",
                texts=[w if rng.random() < certainty else "der" for w in words],
                probabilities=[float(certainty * rng.random() ** 0.3) for _ in words],
                scores=[float(-4 * (1 - certainty) - 0.3) for _ in words],
            )
        )
    return rows


def translation(source=BANK, target=UFER, *, num_layers=2, num_heads=4, **fields) -> Explanation:
    """A sentence and its translation by an encoder-decoder."""
    inputs = features(source, "source", end=["</s>"])
    written = features(target, "target", begin=["<s>"])
    num_source, num_target = len(inputs), len(written)
    reads = np.ones((num_target, num_source + num_target), dtype=bool)
    reads[:, num_source:] = np.tri(num_target, dtype=bool)
    words = [*target, "</s>"]
    causal = [[(0, query + 1)] for query in range(num_target)]
    results = methods(reads)
    control = [
        [None if v is None else abs(v) * 0.2 + 0.1 for v in row]
        for row in reversed(results["ig"].scores)
    ]
    control = [
        [None if not reads[o, f] else (control[o][f] or 0.1) for f in range(reads.shape[1])]
        for o in range(num_target)
    ]
    return Explanation(
        **{
            "model": model(),
            "text": " ".join(source),
            "input": [*inputs, *written],
            "output": outputs(words),
            "unit": "nats",
            "confidence": 0.71,
            "methods": results,
            "first": "ig",
            "attention": [
                *attention_maps(
                    "encoder", num_layers, num_heads, num_source, num_source, sink=num_source - 1
                ),
                *attention_maps(
                    "decoder",
                    num_layers,
                    num_heads,
                    num_target,
                    num_target,
                    runs=causal,
                    pattern="causal",
                    seed=2,
                ),
                *attention_maps(
                    "cross",
                    num_layers,
                    num_heads,
                    num_target,
                    num_source,
                    seed=3,
                    sink=num_source - 1,
                ),
            ],
            "lens": lens(words, num_layers),
            "encoder_lens": lens(words, num_layers, "encoder.layers"),
            "control": control,
            "control_similarity": 0.07,
            "notes": [],
            **fields,
        }
    )


def long_text(length=512, num_layers=12, num_heads=12, num_outputs=20, most=8) -> Explanation:
    """A language model that continues a long text."""
    vocabulary = [
        "the",
        "river",
        "bank",
        "closed",
        "open",
        "water",
        "money",
        "house",
        "of",
        "a",
        "and",
        "to",
        "in",
        "it",
        "was",
        "is",
        "for",
        "on",
    ]
    rng = np.random.default_rng(5)
    words = [str(rng.choice(vocabulary)) for _ in range(length)]
    prompt = features(words[: length - num_outputs + 1], "text")
    continuation = [Feature(f" {w}", "continuation") for w in words[length - num_outputs + 1 :]]
    inputs = [*prompt, *continuation]
    positions = np.arange(num_outputs) + len(prompt) - 1
    reads = np.arange(len(inputs)) <= positions[:, None]
    causal = [[(0, query + 1)] for query in range(len(inputs))]
    target = [str(rng.choice(vocabulary)) for _ in range(num_outputs)]
    return Explanation(
        model=model("language_modeling", "gpt", name="tales"),
        text=" ".join(words),
        input=inputs,
        output=outputs([f"{w}" for w in target]),
        unit="nats",
        confidence=0.4,
        methods=methods(reads),
        first="ig",
        attention=attention_maps(
            "decoder",
            num_layers,
            num_heads,
            len(inputs),
            len(inputs),
            runs=causal,
            pattern="causal",
            most=most,
            sink=0,
        ),
        lens=lens(target, num_layers, "blocks"),
        control_similarity=None,
    )


def window_runs(length: int, window: int, num_global: int = 1) -> list[list[tuple[int, int]]]:
    """Runs of a sliding window, and of a few keys that every query reads."""
    runs = []
    for query in range(length):
        first, stop = max(0, query - window), min(length, query + window + 1)
        runs.append([(0, stop)] if first <= num_global else [(0, num_global), (first, stop)])
    return runs


def windowed(length=4096, window=64, num_layers=2, num_heads=4, most=6) -> Explanation:
    """A classifier of a long document with a sliding window."""
    rng = np.random.default_rng(7)
    vocabulary = ["package", "library", "tool", "for", "the", "fast", "data", "and", "a"]
    inputs = features(
        [str(rng.choice(vocabulary)) for _ in range(length - 1)], "text", begin=["<cls>"]
    )
    runs = window_runs(length, window)
    maps = []
    for layer in range(num_layers):
        heads = []
        for head in range(num_heads):
            offsets = rng.integers(-window, window + 1, (length, most)) // (head + 1)
            keys = np.clip(np.arange(length)[:, None] + offsets, 0, length - 1)
            weights = rng.integers(1, 900 // most, (length, most))
            rows = []
            for row_keys, row_weights in zip(keys.tolist(), weights.tolist(), strict=True):
                row = dict(zip(row_keys, row_weights, strict=True))
                order = sorted(row)
                rows.append(AttentionRow(order, [row[k] for k in order], 1000 - sum(row.values())))
            heads.append(rows)
        maps.append(
            AttentionMap(
                layer=f"layers.{layer}",
                kind="encoder",
                pattern=f"local:{window}+global:1",
                num_queries=length,
                num_keys=length,
                heads=heads,
                effects=[-0.01 * (head + 1) for head in range(num_heads)],
                sinks=[AttentionSink(0, 0.4)] + [None] * (num_heads - 1),
                computed=runs,
            )
        )
    reads = np.ones((1, length), dtype=bool)
    return Explanation(
        model=model("classification", "roberta", name="sections", search="most probable"),
        text=" ".join(f.text for f in inputs),
        input=inputs,
        output=[Output("science", -0.2, {"science": 0.82, "web": 0.11, "games": 0.02})],
        unit="nats",
        positions=[0],
        methods=methods(reads),
        first="occlusion",
        attention=maps,
        notes=["The text has 9,412 tokens; the model reads the first 4,096."],
    )


def classification() -> Explanation:
    """One label of a short review."""
    words = ["A", "quiet", "film", ",", "beautifully", "shot", ",", "and", "never", "dull", "."]
    inputs = features(words, "text", begin=["[CLS]"], end=["[SEP]"])
    reads = np.ones((1, len(inputs)), dtype=bool)
    return Explanation(
        model=model("classification", "bert", name="mood", search="most probable"),
        text=" ".join(words),
        input=inputs,
        output=[Output("positive", -0.03, {"positive": 0.97, "negative": 0.03})],
        unit="nats",
        positions=[0],
        methods=methods(reads),
        first="occlusion",
        attention=attention_maps("encoder", 6, 12, len(inputs), len(inputs), sink=len(inputs) - 1),
        lens=lens(["positive"], 6, "layers"),
        contrast="negative",
    )


def forecast() -> Explanation:
    """The steps ahead of a series; a model without attention."""
    inputs = [Feature(f"2026-03-{day:02d}", "history") for day in range(1, 29)]
    reads = np.ones((7, len(inputs)), dtype=bool)
    return Explanation(
        model=model("forecasting", "lstm", name="demand", search="median"),
        text="demand.csv",
        input=inputs,
        output=[Output(f"+{step}", 100.0 + step) for step in range(1, 8)],
        unit="units of the series",
        methods=methods(reads, unit="units of the series"),
        first="occlusion",
        notes=["The model has no attention: there is no map of it."],
    )


def image() -> Explanation:
    """A label of a picture of 7 x 7 patches."""
    inputs = [
        Feature(f"patch {row}, {column}", "image") for row in range(1, 8) for column in range(1, 8)
    ]
    reads = np.ones((1, 49), dtype=bool)
    return Explanation(
        model=model("image_classification", "vit", name="clothes", search="most probable"),
        text="shirt.png",
        input=inputs,
        output=[Output("shirt", -0.5, {"shirt": 0.6, "coat": 0.3, "dress": 0.1})],
        unit="nats",
        methods=methods(reads),
        first="ig",
        attention=attention_maps("encoder", 2, 4, 49, 49),
    )


MARKUP = [
    "<script>window.hacked=1</script>",
    "</script><script>window.hacked=2</script>",
    "<img",
    "src=x",
    "onerror=window.hacked=3>",
    "<!--",
    "]]>",
    "&amp;",
    '"quoted"',
    "{{payload}}",
    "\u2028",
]
SCRIPTS = [
    "银行",
    "在",
    "河边",
    "，",
    "👩‍👩‍👧",
    "🏦",
    "नदी",
    "किनारा",
    "ธนาคาร",
    "\u202eabc",
    "é",
    "naïve",
]
UNSEEN = {  # what a page and a picture call words of which nothing is seen
    "\u200b": "U+200B",
    "\ufeff": "U+FEFF",
    "\u00ad\u200d": "U+00AD U+200D",
    "\x07": "U+0007",
    "\uffff": "U+FFFF",
    "\u202e": "U+202E",
    "\u3000": "␣",
    "a\u200bb": "a\u200bb",
    "a\ufffe": "a",
}
RIGHT_TO_LEFT = ["البنك", "بجانب", "النهر", "كان", "مغلقا", "."]


def tiled() -> Explanation:
    """A long document whose maps have four positions in a row and in a column."""
    document = windowed(1024, 16, 1, 2)
    words = features(["word"] * 4095, "text", begin=["<cls>"])
    maps = [msgspec.structs.replace(attention, tile=4) for attention in document.attention]
    return msgspec.structs.replace(
        document, input=words, attention=maps, methods=methods(np.ones((1, 4096), dtype=bool))
    )


def empty() -> Explanation:
    """A model that wrote nothing, explained by no method."""
    return msgspec.structs.replace(
        translation(num_layers=1, num_heads=1), output=[], methods={}, first="", control=[], lens=[]
    )


def unconverged() -> Explanation:
    """A translation whose first method missed the change by 92 %, and whose control is reversed."""
    explanation = translation(num_layers=1, num_heads=2)
    failed = msgspec.structs.replace(explanation.methods["ig"], error=0.92)
    row = msgspec.structs.replace(explanation.lens[0], scores=[-5.11] * 8)
    return msgspec.structs.replace(
        explanation,
        methods={**explanation.methods, "ig": failed},
        lens=[row, row],
        control_similarity=-0.29,
    )


def mixed_scripts() -> Explanation:
    """A Hebrew text with English in it, and a character that is two bytes."""
    words = ["סרט", "ט·1", "ט·2", "the", "movie", "is", "lovely"]
    return translation(words, UFER, num_layers=1, num_heads=2)


def forecast_of_times() -> Explanation:
    """Hours ahead, with the values of the history."""
    explanation = forecast()
    inputs = [Feature(f"2026-03-{day:02d}T12:00:00", "history") for day in range(1, 29)]
    output = [Output(f"2026-03-29T{hour:02d}:00:00", 51.234 + hour) for hour in range(7)]
    rows = [
        LensRow(layer="embedding", texts=[], probabilities=[], scores=[50.0 + h for h in range(7)])
    ]
    history = [float(40 + number % 7) for number in range(84)]
    return msgspec.structs.replace(
        explanation, input=inputs, output=output, lens=rows, history=history
    )


def image_with_pixels() -> Explanation:
    """The same with the picture: 7 x 7 grey pixels."""
    rows = b"".join(b"\0" + bytes(range(number, number + 7)) for number in range(0, 210, 30))

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 7, 7, 8, 0, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return msgspec.structs.replace(image(), image=url)


def with_training_rows() -> Explanation:
    """A translation with what it owes to training rows, checked by training again."""
    helpful = [
        ("line 4,104", "They rested on the bank of the river.", "Sie ruhten am Ufer.", 0.0231),
        ("line 12", "The bank was covered with reeds.", "Das Ufer war verschilft.", 0.0102),
        ("line 88", "شاطئ النهر", "Das Flussufer", 0.00089),
    ]
    harmful = [
        ("line 577", "<b>The bank</b> was closed on Monday. " * 20, "Die Bank war zu.", -0.0312),
        ("line 31", "The bank by the station", "Die Bank am Bahnhof", -0.0007),
    ]
    rows = (
        [
            InfluentialRow(location=location, text=text, target=target, influence=influence)
            for location, text, target, influence in kind
        ]
        for kind in (helpful, harmful)
    )
    retraining = Retraining(
        num_left_out=200,
        estimate=0.41,
        complete=[-1.1, -0.9],
        without_most_influential=[-2.5, -2.3],
        without_random=[-1.0, -1.04],
        seconds=120.5,
    )
    of_helpful, of_harmful = rows
    influence = TrainingInfluence(
        data="pairs.tsv",
        unit="pairs",
        num_rows=20_412,
        helpful=of_helpful,
        harmful=of_harmful,
        total_helpful=2.71,
        total_harmful=-1.93,
        damping=0.2,
        num_products=15,
        residual=0.008,
        num_product_rows=1743,
        seconds=38.2,
        retraining=retraining,
    )
    return msgspec.structs.replace(translation(num_layers=1, num_heads=2), influence=influence)
