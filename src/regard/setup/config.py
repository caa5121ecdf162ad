"""All settings of a run, the content of ``config.toml``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from regard.data.listing import spell_number
from regard.data.readers.audio import LogMelConfig
from regard.data.split_rules import EARLIER_SPLIT, SPLIT_RULE
from regard.data.tokenizer import TokenizerConfig
from regard.errors import ConfigError
from regard.generation.beam_search_config import BeamSearchConfig
from regard.generation.sampling import SamplingConfig
from regard.layers.attention_config import AttentionConfig
from regard.models import CHECKPOINT_FORMATS, ModelConfig, TransformerConfig
from regard.settings.binding import check_types
from regard.settings.validation import require_at_least, require_positive
from regard.training.training_config import OptimizerConfig, TrainingConfig

_PERCENT = re.compile(r"\s*(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)\s*%\s*")
PresetName = Literal["auto", "tiny", "small", "base"]
SOURCES = ("path", "targets", "valid", "test")
"""Settings of the data that name files or folders."""
HELD_OUT = ("valid", "test")
"""Those of the data that is not trained on, which may name a fraction instead."""


class DataConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the data comes from.

    Args:
        path: File of sentence pairs, of documents with summaries, of texts or rows of numbers with
            labels, of questions on texts, of series of numbers with times, or of running text, or
            folder of images or recordings; none uses the embedded corpus.
        targets: File of target sentences, line by line with `path`.
        valid: File or folder of validation data, or a fraction to hold out, such as 10%; none
            holds out 2.5 %, and more of small data.
        test: File or folder of test data, or a fraction; none holds out as much as of `valid`.
        encoding: Encoding of all files.
        columns: Names of the columns in CSV and JSONL (source and target, document and summary,
            text and label, text and a column of 0 and 1 for each of several labels, context,
            question and answers, text alone, the label of rows of numbers, or time, value and
            series); empty detects them.
        languages: Codes such as en-de; empty guesses.
        max_length: Longest sentence to train on, in tokens; running text is cut into pieces of this
            length, longer texts with labels, recordings and series are truncated to it.
        max_source_length: Longest document to summarize, or question with its text to write an
            answer to, in tokens; the rest of a longer one is cut off. None takes whole the longest
            of the training data, up to 8,192 tokens; a summarizer with a time budget takes as much
            as several passes have time for, 64 or more.
        source_prefix: Text that every source begins with where it does not already, such as
            "summarize: ", which says to T5 what is to be written.
        allow_overlap: Keep test sources that are also in the training data.
        drop_overlap: Drop test sources that are also in the training data.
        labels: Names of the labels of a classifier, written by the run.
        multi_label: Whether a text may have several labels, or none; known by columns of 0 and 1,
            lists of labels, or `label_separator`, and written by the run.
        label_separator: What is between several labels in one cell, such as |; none takes a cell
            for one label, and a list for several.
        mean: Mean of each channel or feature of the training data, written by the run.
        std: Standard deviation of each channel or feature, written by the run.
        sha256: Hash of the file `path`, written by the run.
        split_rule: How many rows are held out, written by the run: 1 is 2.5 %, as in earlier
            versions, 2 is more of small data.
    """

    path: str | None = None
    targets: str | None = None
    valid: str | None = None
    test: str | None = None
    encoding: str = "utf-8"
    columns: tuple[str, ...] = ()
    languages: str = ""
    max_length: int = 256
    max_source_length: int | None = None
    source_prefix: str = ""
    allow_overlap: bool = False
    drop_overlap: bool = False
    labels: tuple[str, ...] = ()
    multi_label: bool = False
    label_separator: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    sha256: str = ""
    split_rule: int = EARLIER_SPLIT

    def __post_init__(self) -> None:
        check_types(self)
        for name in SOURCES:
            if getattr(self, name) == "":
                raise ValueError(f"{name} must be the name of a file or folder, or none")
        for name in HELD_OUT:
            self.held_out_fraction(name)
        if self.split_rule not in (EARLIER_SPLIT, SPLIT_RULE):
            raise ValueError(
                f"split_rule must be {EARLIER_SPLIT} or {SPLIT_RULE}, not {self.split_rule}"
            )
        require_at_least(2, self, "max_length", "max_source_length")

    @property
    def target_language(self) -> str | None:
        """Code of the language that is written, where known."""
        return self.languages.partition("-")[2] or None

    def with_prefix(self, texts: Sequence[str]) -> list[str]:
        """Return sources as a model reads them, each with `source_prefix`.

        A text that is empty, or begins with it, stays as it is.

        >>> DataConfig(source_prefix="to Greek: ").with_prefix(["a", "to Greek: b", ""])
        ['to Greek: a', 'to Greek: b', '']
        """
        prefix = self.source_prefix
        return [
            text if not text.strip() or text.startswith(prefix) else prefix + text for text in texts
        ]

    def held_out_fraction(self, name: str) -> float | None:
        """Return the fraction of the data to hold out as ``valid`` or ``test``, above 0, below 1.

        Returns:
            None where no fraction is set.

        Raises:
            ValueError: It is 0 or less, or 1 or more.
        """
        match = _PERCENT.fullmatch(getattr(self, name) or "")
        if match is None:
            return None
        percent = float(match[1])
        if not 0 < percent < 100:
            raise ValueError(f"{name} must be above 0 % and below 100 %, not {match[0]}")
        return percent / 100


def two_columns(data: DataConfig, first: str, second: str) -> tuple[str, str] | None:
    """Return the two columns that settings name; None where they name none.

    Args:
        data: The settings.
        first: What the first column holds, for the message.
        second: What the second column holds.

    Raises:
        ConfigError: They name one, or more than two.
    """
    if not data.columns:
        return None
    names = list(data.columns)
    if len(names) == 1:
        raise ConfigError(
            f"data.columns={names[0]}: one column, two expected, {first} and {second}: "
            f"`data.columns={names[0]},NAME`"
        )
    if len(names) > 2:
        raise ConfigError(
            f"data.columns={','.join(names)}: {spell_number(len(names))} columns, two expected, "
            f"{first} and {second}."
        )
    return names[0], names[1]


class FineTuningConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is trained of the weights that a run starts from.

    Args:
        method: all, last (the last layers), or lora (low-rank adapters of every linear layer,
            merged into the saved weights); a classifier's output layer and a copy mechanism are
            always trained.
        layers: Number of last layers.
        rank: Rank of the adapters.
        alpha: Scale of the adapters, times the rank.
        encoder: Model folder with the initial encoder weights of a new encoder-decoder; none for
            random weights.
        decoder: Model folder with the initial decoder weights of a new encoder-decoder.
        model_type: Checkpoint format of published weights that training began with, such as
            xlm-roberta, in which an export writes the model again; written by the run.
    """

    method: Literal["all", "last", "lora"] = "all"
    layers: int = 1
    rank: int = 8
    alpha: float = 16.0
    encoder: str | None = None
    decoder: str | None = None
    model_type: str = ""

    def __post_init__(self) -> None:
        check_types(self)
        require_at_least(1, self, "layers", "rank")
        require_positive(self, "alpha")
        if self.model_type and self.model_type not in CHECKPOINT_FORMATS:
            formats = ", ".join(CHECKPOINT_FORMATS)
            raise ValueError(
                f"model_type must be one of {formats}, or empty, not {self.model_type}"
            )
        if self.method != "all" and (self.encoder is not None or self.decoder is not None):
            raise ValueError(
                f"method must be all, not {self.method}: the attention between encoder and decoder "
                "starts at random"
            )


class QuestionAnsweringConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """How questions are answered.

    Extractive models find an answer in a text, which they read in windows of `data.max_length`
    tokens, question included. Generative models write it, and read `data.max_source_length` tokens,
    question included; of the settings here `context_prefix` is for them, the others are not.

    Args:
        kind: extractive, or generative.
        overlap: Tokens that two neighbouring windows of a text share, 0 or more; where a window has
            no room for twice as many, half of its room.
        max_answer_tokens: Longest answer that is given, in tokens.
        negatives: Windows without the answer of each question that are trained on, at most; drawn
            by the seed.
        match_words: Whether the model reads which words of a text are in the question; it learns
            from few rows then. Published models do not.
        context_prefix: What is between a question and its text where an answer is written, such as
            " context: " of T5; empty is the token that ends a text.
    """

    kind: Literal["extractive", "generative"] = "extractive"
    overlap: int = 128
    max_answer_tokens: int = 128
    negatives: int = 4
    match_words: bool = True
    context_prefix: str = ""

    def __post_init__(self) -> None:
        check_types(self)
        if self.kind == "extractive" and self.context_prefix:
            raise ValueError(
                f"context_prefix must be empty with qa.kind=extractive, not {self.context_prefix!r}"
            )
        for name in self.__struct_fields__ if self.kind == "generative" else ():
            value, default = getattr(self, name), getattr(type(self)(), name)
            if name not in ("kind", "context_prefix") and value != default:
                raise ValueError(
                    f"{name} must be {default} with qa.kind=generative, which has no windows, "
                    f"not {value}"
                )
        require_at_least(0, self, "overlap")
        require_at_least(1, self, "max_answer_tokens", "negatives")


class ForecastConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is forecast, and from what.

    Args:
        horizon: Steps ahead; None takes the shortest season, or 48 without one, and at most a tenth
            of the longest series.
        seasons: Lengths of the seasons in steps, shortest first, such as 48,336 for half hours;
            None finds them in the training data.
        targets: Columns to be forecast; empty takes all columns of numbers that are not named
            below.
        known: Columns of numbers that are known ahead, such as holidays; the rows of the future
            have them.
        observed: Columns of numbers that are known as far as the targets.
        step: Distance of two rows, such as 30 minutes, written by the run.
        cycles: Cycles of the calendar that the model reads, such as day,week, written by the run.
    """

    horizon: int | None = None
    seasons: tuple[int, ...] | None = None
    targets: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    observed: tuple[str, ...] = ()
    step: str = ""
    cycles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_types(self)
        require_at_least(1, self, "horizon")
        seasons = self.seasons or ()
        if min(seasons, default=2) < 2 or list(seasons) != sorted(set(seasons)):
            raise ValueError(
                f"seasons must be 2 or more steps long, shortest first, not "
                f"{','.join(map(str, seasons))}"
            )
        columns = [*self.targets, *self.known, *self.observed]
        repeated = next((name for name in columns if columns.count(name) > 1), None)
        if repeated is not None:
            raise ValueError(f'targets, known and observed must differ; "{repeated}" is in two')


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run.

    Args:
        task: What is learned; empty leaves it to the data.
        preset: Size of the model: tiny, small, base, or auto by the amount of data.
        data: Where the data comes from.
        tokenizer: How text becomes tokens.
        audio: How recordings become frames.
        model: Family and dimensions of the model.
        attention: Attention patterns and scores.
        training: Duration, precision, evaluations.
        optimizer: How one step changes the weights.
        search: Beam search.
        sampling: Continuations of a language model.
        qa: How questions are answered.
        forecast: What is forecast, and from what.
        start_from: Model folder whose weights and vocabulary a run starts from; none for random
            weights.
        fine_tuning: What of these weights is trained.
        settings: What the user set, as typed; written by the run.
    """

    task: str = ""
    preset: PresetName = "auto"
    data: DataConfig = DataConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    audio: LogMelConfig = LogMelConfig()
    model: ModelConfig = TransformerConfig()
    attention: AttentionConfig = AttentionConfig()
    training: TrainingConfig = TrainingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    search: BeamSearchConfig = BeamSearchConfig()
    sampling: SamplingConfig = SamplingConfig()
    qa: QuestionAnsweringConfig = QuestionAnsweringConfig()
    forecast: ForecastConfig = ForecastConfig()
    start_from: str | None = None
    fine_tuning: FineTuningConfig = FineTuningConfig()
    settings: tuple[str, ...] = ()
