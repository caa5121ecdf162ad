"""Classification as a task: texts with labels -> batches -> a model that tells the label."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import torch

from regard.data.batching import TokenRows
from regard.data.labelled import (
    COLUMNS,
    Labelled,
    LabelledBatches,
    label_names,
    majority_share,
    read_labelled,
    repeated,
    require_known,
    split_labelled,
)
from regard.data.splits import Drop, check_overlap, count_reasons
from regard.data.tokenizer import Tokenizer, check_tags
from regard.errors import DataError
from regard.interchange.folder import ModelFolder
from regard.metrics.classification import wilson_interval
from regard.models import BertConfig, Classifier
from regard.models.text_model import TextModel
from regard.tasks.classification import (
    ClassificationLoss,
    label_measures,
)
from regard.tasks.classifier import CLASSIFIED_TOKENS, TextClassifier, longest_text
from regard.tasks.corpus import describe_lines
from regard.tasks.held_out import LossEvaluator
from regard.tasks.preparation import build_model, describe_tokens, report_model, settle_precision
from regard.tasks.run_config import DataConfig, RunConfig
from regard.tasks.task import Outcome, Prepared, Task, Text
from regard.training.config import TrainingConfig
from regard.training.events import Data, Report, Warned

_SAMPLED_BATCHES = 2


class LabelledTexts(msgspec.Struct, kw_only=True):
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
    train: Labelled
    valid: Labelled
    test: Labelled
    dropped: list[Drop]
    labels: tuple[str, ...]

    @property
    def num_chars(self) -> int:
        """Characters of the training texts."""
        return sum(map(len, self.train.texts))

    def place(self, rows: Sequence[int]) -> str:
        """Tell where training rows stand in the file."""
        lines = [self.train.lines[row] for row in rows]
        return f"line{'' if len(lines) == 1 else 's'} {describe_lines(lines)}"

    def numbers(self, rows: Labelled) -> list[int]:
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

    def read(self, config: RunConfig) -> LabelledTexts:
        """Read the rows of a configuration, and hold out what it does not name."""
        data = config.data
        if data.path is None:
            raise DataError("no data.  Name a file: regard train reviews.jsonl -o FOLDER")
        columns = columns_of(data)
        rows, dropped = read_labelled(data.path, encoding=data.encoding, columns=columns)
        labels = label_names(rows, columns)
        train, valid, test = split_labelled(
            rows,
            seed=config.training.seed,
            valid_rows=0 if data.valid else None,
            test_rows=0 if data.test else None,
        )
        if data.valid:
            valid = _read_held_out(data.valid, data, train, labels)
        if data.test:
            test = _read_held_out(data.test, data, train, labels)
        return LabelledTexts(
            path=data.path, train=train, valid=valid, test=test, dropped=dropped, labels=labels
        )

    def describe(self, text: LabelledTexts) -> Data:
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
        assert isinstance(text, LabelledTexts)
        data = msgspec.structs.replace(config.data, labels=text.labels)
        return msgspec.structs.replace(config, data=data)

    def prepare(
        self,
        config: RunConfig,
        text: LabelledTexts,
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
        batches = LabelledBatches(
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


class PreparedClassification(Prepared):
    """A run of classification."""

    text: LabelledTexts
    model: Classifier

    def objective(self) -> ClassificationLoss:
        """Make the cross-entropy of the label."""
        return ClassificationLoss(self.config.training.label_smoothing)

    def evaluator(self) -> LossEvaluator:
        """Make what computes loss and accuracy.

        The loss decides: accuracy moves in steps of a row, and on few rows would end runs that
        still improve.
        """
        batches = self._held_out(self.text.valid)
        return LossEvaluator(self.model, partial(label_measures, batches=batches))

    @torch.no_grad()
    def evaluation_seconds(self, model: TextModel) -> float:
        """Time a few batches of the validation rows, and scale up."""
        evaluated = copy.deepcopy(model).to(model.compute_dtype).eval()
        batches = self._held_out(self.text.valid)
        all_rows = batches.in_sequence()
        sample = all_rows[:: max(1, len(all_rows) // _SAMPLED_BATCHES)]
        evaluated(batches.batch(sample[0]).ids)  # the first pass is slower
        begun = time.perf_counter()
        for rows in sample:
            evaluated(batches.batch(rows).ids)
        return (time.perf_counter() - begun) / len(sample) * len(all_rows)

    def finish(self, opened: TextClassifier, valid: dict[str, float]) -> Outcome:
        """Measure the accuracy on the test rows."""
        text, test = self.text, {}
        shown = f"valid accuracy {valid['accuracy']:.1f} %"
        if len(text.test):
            test = label_measures(opened.model, self._held_out(text.test))
            low, high = wilson_interval(test["accuracy"], len(text.test))
            test |= {"accuracy_low": low, "accuracy_high": high}
            test["majority"] = 100 * majority_share(text.train, text.test)
            shown += (
                f"   test accuracy {test['accuracy']:.1f} % [{low:.1f}, {high:.1f}], "
                f"macro F1 {test['macro_f1']:.1f} (most frequent label {test['majority']:.1f} %)"
            )
        example = " ".join(text.valid.texts[0].split()[:8]).translate(
            {34: None, 123: None, 125: None}
        )
        return Outcome(
            test=test,
            summary=shown,
            tries=[f'classify {{folder}} "{example}"'],
            kind=f"A classifier of {len(text.labels)} labels",
            rows=f"{len(text.train):,} train / {len(text.valid):,} validation / "
            f"{len(text.test):,} test",
            notes="`majority` is the accuracy of always answering the most frequent label; the "
            "interval of the test accuracy is Wilson's, 95 %.",
        )

    def _held_out(self, rows: Labelled) -> LabelledBatches:
        longest = longest_text(self.model, self.config.data.max_length)
        ids = TokenRows(self.tokenizer.encode_whole(rows.texts, max_length=longest))
        return LabelledBatches(
            ids,
            self.text.numbers(rows),
            batch_tokens=CLASSIFIED_TOKENS,
            pad_id=self.model.encoder.config.pad_id,
        )


def columns_of(data: DataConfig) -> tuple[str, str]:
    """Name the columns of text and label."""
    return (data.columns[0], data.columns[1]) if data.columns else COLUMNS


def _read_held_out(
    path: str, data: DataConfig, train: Labelled, labels: tuple[str, ...]
) -> Labelled:
    rows, _ = read_labelled(path, encoding=data.encoding, columns=columns_of(data))
    require_known(rows, labels, train.path)
    if data.drop_overlap:
        shared = set(repeated(train, rows))
        return rows.select(row for row in range(len(rows)) if row not in shared)
    if not data.allow_overlap:
        check_overlap(train.as_pairs(), rows.as_pairs())
    return rows
