"""The document of an explanation: what the page shows, and what ``--json`` prints.

Every number on the page is in the document, and pictures and tables are drawn from it alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from regard.explain.prediction import Feature, Output
from regard.settings.validation import require_kind


class ExplainedModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model that is explained.

    Args:
        name: Name of its folder.
        task: That it was trained for.
        family: Name of its architecture.
        num_parameters: Numbers in its weights.
        hash: The first digits of the hash of its weights; empty where it has no folder.
        explained: The day, ``2026-11-21``.
        search: How the output was chosen, such as ``greedy``, ``beam 4`` or ``given``.
        diagram: The architecture as Mermaid text.
        picture: The same as the text of an SVG file; empty where it was not drawn.
    """

    name: str
    task: str
    family: str
    num_parameters: int
    hash: str
    explained: str
    search: str
    diagram: str = ""
    picture: str = ""


class Faithfulness(msgspec.Struct, frozen=True, kw_only=True):
    """How far scores of features agree with what the model does without these features.

    Args:
        comprehensiveness: Probability lost without the highest scores, averaged over their number
            (AOPC of DeYoung et al. 2020); higher is better.
        sufficiency: Probability lost with the highest scores alone; lower is better.
        tau: Kendall's rank correlation with leave-one-out, -1 to 1; None where it is not defined.
        random: The first three for random scores of the same shape: the floor.
        soft_comprehensiveness: Soft-NC of Zhao & Aletras (2023), 0 to 1, higher is better; None
            where it is not defined, or not measured.
        soft_sufficiency: Soft-NS, 0 to 1, higher is better.
        deletion: Mean of the outputs without the 0, 10, ... 100 % highest scores.
        insertion: Mean of the outputs with the 0, 10, ... 100 % highest scores alone.
    """

    comprehensiveness: float
    sufficiency: float
    tau: float | None
    random: dict[str, float]
    soft_comprehensiveness: float | None = None
    soft_sufficiency: float | None = None
    deletion: list[float] = []
    insertion: list[float] = []

    def next_to_random(self) -> Iterator[tuple[str, float | None, float | None]]:
        """Yield the first three measures: name, value, and the value of random scores."""
        for name in ("comprehensiveness", "sufficiency", "tau"):
            yield name, getattr(self, name), self.random.get(name)


class WrittenFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a written output looks like next to its source, by tokens without special ones.

    Args:
        length_ratio: Tokens of the output over those of the source.
        copied: Tokens of the output that the source has, too.
        repeats: Tokens that end a run of three that the output had before.
    """

    length_ratio: float
    copied: int
    repeats: int


class MethodResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a method of attribution says.

    Args:
        title: Its name for a reader.
        unit: Unit of its scores.
        is_signed: Whether scores below 0 speak against the output.
        scores: ``[outputs, features]``; None where an output does not depend on a feature.
        error: How far the scores of all features miss the change that they share out, as a fraction
            of it, by integrated gradients; None where a method has no such error.
        faithfulness: None where it was not measured.
        seconds: That the method took.
        steps: Points of the integral; None where there is none.
    """

    title: str
    unit: str
    is_signed: bool
    scores: list[list[float | None]]
    error: float | None = None
    faithfulness: Faithfulness | None = None
    seconds: float = 0.0
    steps: int | None = None

    def largest(self, features: Collection[int], num_outputs: int | None = None) -> float:
        """Return the largest magnitude of the scores of some features; 1 where all are 0.

        Args:
            features: Their indices.
            num_outputs: First outputs whose scores are compared; None is all.
        """
        rows = self.scores[:num_outputs]
        sizes = (abs(row[index] or 0.0) for row in rows for index in features)
        return max(sizes, default=0.0) or 1.0


class AttentionMap(msgspec.Struct, frozen=True, kw_only=True):
    """The weights of one layer, quantized for display.

    Args:
        layer: Its path in the model.
        kind: encoder, decoder or cross.
        pattern: In text form, such as ``local:64``.
        num_queries: Rows.
        num_keys: Columns.
        tile: Positions of a row and of a column, 1 where the map is exact. The row of a tile is the
            mean over its queries, and its columns are sums over their keys.
        heads: For each head its rows: for every query the keys with the most weight and these
            weights, and what the rest of the row sums to.
        effects: For each head the change of the outputs' mean log-probability when it is removed;
            None where it was not measured.
        sinks: For each head the key that gets most attention over all queries although it is a
            special token, and the part of all attention that it gets; None where there is none.
        computed: Runs of keys that the pattern allows, for every row: first, and the one after the
            last; near ones are joined where they are many. What lies outside was never computed.
    """

    layer: str
    kind: str
    pattern: str
    num_queries: int
    num_keys: int
    heads: list[list[AttentionRow]]
    effects: list[float | None]
    sinks: list[AttentionSink | None]
    computed: list[list[tuple[int, int]]]
    tile: int = 1


class AttentionRow(msgspec.Struct, frozen=True, array_like=True):
    """The weights of one query.

    Args:
        keys: With the most weight, rising.
        weights: Theirs, in thousandths of 1.
        rest: What all other keys have together, in thousandths.
    """

    keys: list[int]
    weights: list[int]
    rest: int


class AttentionSink(msgspec.Struct, frozen=True):
    """A key that most queries attend to for want of something better (Xiao et al. 2024).

    Args:
        key: Its index.
        share: Fraction of all attention of a head, 0 to 1.
    """

    key: int
    share: float


class LensRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the model would say if the layers after one were left out.

    Args:
        layer: Its path.
        texts: The most probable output at each position.
        probabilities: Theirs.
        scores: Scores of the outputs that are explained.
    """

    layer: str
    texts: list[str]
    probabilities: list[float]
    scores: list[float]


class InfluentialRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the training data, and what an output owes to it.

    Args:
        location: Where it is in the data, such as ``line 12``.
        text: What the model reads.
        target: What it should say; empty for running text.
        influence: By how much the output's log-probability would fall, by estimate, had training
            left the row out, in nats; below 0 it would rise.
    """

    location: str
    text: str
    target: str
    influence: float


class Retraining(msgspec.Struct, frozen=True, kw_only=True):
    """An output after training again, with all rows and without some of them.

    Args:
        num_left_out: Rows that were left out.
        estimate: Sum of their influence: how far the log-probability should fall, in nats.
        complete: The output's log-probability after training with all rows, one for each seed.
        without_most_influential: Without the rows of the most influence.
        without_random: Without as many rows, drawn at random.
        seconds: That all of it took.
    """

    num_left_out: int
    estimate: float
    complete: list[float]
    without_most_influential: list[float]
    without_random: list[float]
    seconds: float


class TrainingInfluence(msgspec.Struct, frozen=True, kw_only=True):
    """What an output owes to the rows of the training data (Koh & Liang 2017).

    Args:
        data: The training data, as it was named.
        unit: What its rows are, such as ``pairs``.
        num_rows: Of the training data.
        helpful: Rows with the most influence, the first above all others.
        harmful: Rows whose influence is the most below 0, the lowest first.
        total_helpful: Sum of the influence of all rows above 0, in nats.
        total_harmful: Sum of all below 0.
        damping: Added to the eigenvalues of the curvature.
        num_products: Products with the curvature.
        residual: ``|A x - b| / |b|`` of the linear system at the end.
        num_product_rows: Rows of batches that a product is taken over.
        seconds: That all of it took.
        retraining: What training again without the most influential rows gave; None where that
            was not asked for.
    """

    data: str
    unit: str
    num_rows: int
    helpful: list[InfluentialRow]
    harmful: list[InfluentialRow]
    total_helpful: float
    total_harmful: float
    damping: float
    num_products: int
    residual: float
    num_product_rows: int
    seconds: float
    retraining: Retraining | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """An explanation of one prediction.

    Args:
        model: That made it.
        text: The input as it was given.
        input: Features, whose indices the scores use.
        output: Outputs that are explained.
        unit: Unit of the outputs' scores.
        positions: For each output the feature whose last state it reads most; none where this is
            left to the reader.
        contrast: Text of the output that each is compared with; None compares with nothing.
        confidence: Geometric mean of the outputs' probabilities; None where they have none.
        written: Facts about a target that was written for a source; None for other outputs.
        methods: Results by the methods' names.
        first: The method that is shown first: the one that is most faithful for the task.
        attention: Maps of all layers; none where the model has no attention.
        lens: Outputs by layer; none where the family has no residual stream.
        encoder_lens: Outputs when the decoder reads an earlier layer of the encoder (DecoderLens,
            Langedijk et al. 2024).
        control: Scores of `first` for the same model with shuffled weights (Adebayo et al. 2018),
            ``[outputs, features]``; what resembles them says nothing about the model.
        control_similarity: Rank correlation of the two.
        image: The image that is explained, PNG as a data URL; empty where the input is another.
        history: Values of the window that a forecast was made from, oldest first, in its unit; the
            features of the history have equal parts of them. Else empty.
        influence: What the outputs owe to rows of the training data; None where that was not asked
            for.
        notes: Sentences that a reader must know, such as what was cut off.
    """

    model: ExplainedModel
    text: str
    input: list[Feature]
    output: list[Output]
    unit: str
    positions: list[int] = []
    contrast: str | None = None
    confidence: float | None = None
    written: WrittenFacts | None = None
    methods: dict[str, MethodResult] = {}
    first: str = ""
    attention: list[AttentionMap] = []
    lens: list[LensRow] = []
    encoder_lens: list[LensRow] = []
    control: list[list[float | None]] = []
    control_similarity: float | None = None
    image: str = ""
    history: list[float] = []
    influence: TrainingInfluence | None = None
    notes: list[str] = []

    def read_features(self) -> list[int]:
        """Return the features that an alignment has: not those that are outputs, fed back."""
        has_source = any(feature.part == "source" for feature in self.input)
        return [
            index
            for index, feature in enumerate(self.input)
            if not (has_source and feature.is_written)
        ]

    def shown_methods(self) -> list[MethodResult]:
        """Return the methods, the one that is shown first before the others."""
        names = sorted(self.methods, key=lambda name: name != self.first)
        return [self.methods[name] for name in names]


def require_explanation(explanation: object) -> None:
    """Raise TypeError where something is not an explanation."""
    require_kind("explanation", explanation, Explanation, "what `regard.explain.explain` returns")
