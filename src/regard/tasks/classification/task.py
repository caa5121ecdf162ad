"""Classification as a task: texts with labels -> batches -> a model that tells the label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from regard.data.batching import TokenRows
from regard.data.dropped_rows import DroppedRow, count_reasons
from regard.data.labeled_splits import repeated, split_labeled_texts
from regard.data.labeled_text import (
    COLUMNS,
    LabeledTextBatches,
    LabeledTexts,
    check_known_labels,
    label_names,
)
from regard.data.readers.labeled import read_labeled_texts
from regard.data.splits import check_overlap
from regard.data.tokenizer import Tokenizer, check_tags
from regard.errors import DataError
from regard.hub.model_folder import ModelFolder
from regard.models import BertConfig, Classifier
from regard.setup.base_task import Task, Text
from regard.setup.build import build_model, describe_tokens, report_model, settle_precision
from regard.setup.config import DataConfig, RunConfig
from regard.tasks.classification.predictor import CLASSIFIED_TOKENS, TextClassifier, longest_text
from regard.tasks.classification.setup import PreparedLabels
from regard.tasks.translation.data import describe_lines
from regard.training.events import Data, Report, Warned
from regard.training.training_config import TrainingConfig


class ClassificationData(msgspec.Struct, kw_only=True):
    """The data of a run.

    Args:
        path: File as named.
        train: Rows to learn from.
        valid: Rows that choose the best weights.
        test: Rows held out for the final figures; may be empty.
        dropped: Rows left out, with the reason.
        labels: Names of the labels.
    """

    path: str
    train: LabeledTexts
    valid: LabeledTexts
    test: LabeledTexts
    dropped: list[DroppedRow]
    labels: tuple[str, ...]

    @property
    def num_chars(self) -> int:
        """Characters of the training texts."""
        return sum(map(len, self.train.texts))

    def place(self, rows: Sequence[int]) -> str:
        """Tell where training rows stand in the file."""
        lines = [self.train.lines[row] for row in rows]
        return f"line{'' if len(lines) == 1 else 's'} {describe_lines(lines)}"

    def numbers(self, rows: LabeledTexts) -> list[int]:
        """Turn labels into their numbers."""
        number_of = {label: number for number, label in enumerate(self.labels)}
        return [number_of[label] for label in rows.labels]


class TextClassification(Task):
    """Texts, each with one of several labels."""

    @property
    def defaults(self) -> RunConfig:
        """A BERT."""
        return RunConfig(
            task="classification",
            model=BertConfig(),
            training=TrainingConfig(label_smoothing=0.0),
        )

    def read(self, config: RunConfig) -> ClassificationData:
        """Read the rows of a configuration, and hold out what it does not name."""
        data = config.data
        if data.path is None:
            raise DataError("no data.  Name a file: regard train reviews.jsonl -o FOLDER")
        columns = columns_of(data)
        rows, dropped = read_labeled_texts(data.path, encoding=data.encoding, columns=columns)
        labels = label_names(rows, columns)
        train, valid, test = split_labeled_texts(
            rows,
            seed=config.training.seed,
            valid_rows=0 if data.valid else None,
            test_rows=0 if data.test else None,
        )
        if data.valid:
            valid = _read_held_out(data.valid, data, train, labels)
        if data.test:
            test = _read_held_out(data.test, data, train, labels)
        return ClassificationData(
            path=data.path, train=train, valid=valid, test=test, dropped=dropped, labels=labels
        )

    def describe(self, text: ClassificationData) -> Data:
        """Tell what the data is."""
        return Data(
            path=text.path,
            unit="texts",
            languages=f"{len(text.labels)} labels",
            languages_are_guessed=False,
            num_train=len(text.train),
            num_valid=len(text.valid),
            num_test=len(text.test),
            dropped=count_reasons(text.dropped),
        )

    def note(self, config: RunConfig, text: Text) -> RunConfig:
        """Note the labels."""
        assert isinstance(text, ClassificationData)
        data = msgspec.structs.replace(config.data, labels=text.labels)
        return msgspec.structs.replace(config, data=data)

    def prepare(
        self,
        config: RunConfig,
        text: ClassificationData,
        report: Report,
        *,
        stored: ModelFolder | None = None,
    ) -> PreparedClassification:
        """Train or read the vocabulary, encode the texts, build the model."""
        report(self.describe(text))
        if stored is None:
            check_tags(config.tokenizer)
            tokenizer = Tokenizer.train(text.train.texts, config.tokenizer)
        else:
            tokenizer = stored.read_tokenizer()
        config = settle_precision(config)
        model = build_model(config, len(tokenizer))
        assert isinstance(model, Classifier)
        longest = longest_text(model, config.data.max_length)
        rows = TokenRows(tokenizer.encode_whole(text.train.texts, max_length=longest))
        num_tokens = int(rows.lengths.sum())
        report(describe_tokens(config, len(tokenizer), text.train.texts, num_tokens))
        num_cut = int((rows.lengths == longest).sum())
        if num_cut:
            report(Warned(text=f"{num_cut:,} texts are cut to their first {longest:,} tokens."))
        assert config.training.batch_tokens is not None
        batches = LabeledTextBatches(
            rows,
            text.numbers(text.train),
            batch_tokens=config.training.batch_tokens,
            seed=config.training.seed,
            pad_id=model.encoder.config.pad_id,
        )
        report_model(config, model, report)
        return PreparedClassification(
            config=config, text=text, tokenizer=tokenizer, batches=batches, model=model
        )

    def open(self, folder: str | Path) -> TextClassifier:
        """Open a model folder for classifying."""
        return TextClassifier.open(folder)


class PreparedClassification(PreparedLabels):
    """A run of classification."""

    text: ClassificationData
    model: Classifier

    def example(self) -> str:
        """Return the first words of a validation text, in quotes."""
        words = self.text.valid.texts[0].split()[:8]
        return f'"{" ".join(words).translate({34: None, 123: None, 125: None})}"'

    def held_out(self, inputs: LabeledTexts) -> LabeledTextBatches:
        """Lay held-out texts out in batches."""
        longest = longest_text(self.model, self.config.data.max_length)
        ids = TokenRows(self.tokenizer.encode_whole(inputs.texts, max_length=longest))
        return LabeledTextBatches(
            ids,
            self.text.numbers(inputs),
            batch_tokens=CLASSIFIED_TOKENS,
            pad_id=self.model.encoder.config.pad_id,
        )


def columns_of(data: DataConfig) -> tuple[str, str]:
    """Name the columns of text and label."""
    return (data.columns[0], data.columns[1]) if data.columns else COLUMNS


def _read_held_out(
    path: str, data: DataConfig, train: LabeledTexts, labels: tuple[str, ...]
) -> LabeledTexts:
    rows, _ = read_labeled_texts(path, encoding=data.encoding, columns=columns_of(data))
    check_known_labels(rows, labels, train.path)
    if data.drop_overlap:
        shared = set(repeated(train, rows))
        return rows.select(row for row in range(len(rows)) if row not in shared)
    if not data.allow_overlap:
        check_overlap(train.as_pairs(), rows.as_pairs())
    return rows
