"""Classification as a task: texts with labels -> batches -> a model that predicts the label."""

from __future__ import annotations

from typing import Any

from regard.data.batching import TokenRows
from regard.data.labeled_text import COLUMNS, LabeledTextBatches, LabeledTexts
from regard.data.readers.shape import DataShape
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import ENCODERS, BertConfig, Classifier, Encoder, Model
from regard.setup.base_task import ReadOptions, Task
from regard.setup.build import summarize_tokens
from regard.setup.config import RunConfig
from regard.setup.presets import ENCODER_PRESETS
from regard.tasks.classification.data import ClassificationData, read_classification_data
from regard.tasks.classification.predictor import CLASSIFIED_TOKENS, TextClassifier, longest_text
from regard.tasks.classification.setup import LabelSetup
from regard.training.events import Report, Warned
from regard.training.training_config import TrainingConfig


class TextClassificationTask(Task):
    """Texts, each with one of several labels."""

    name = "classification"
    purpose = "classify"
    families = ENCODERS
    presets = ENCODER_PRESETS

    @property
    def defaults(self) -> RunConfig:
        """A BERT."""
        return RunConfig(
            task=self.name, model=BertConfig(), training=TrainingConfig(label_smoothing=0.0)
        )

    def claims(self, shape: DataShape) -> bool:
        """Whether there are columns of text and label."""
        return shape.columns.keys() >= set(COLUMNS)

    def read(self, options: ReadOptions) -> ClassificationData:
        """Read the rows, and hold out what the options do not name."""
        return read_classification_data(options)

    def build(self, config: RunConfig, vocab_size: int) -> Classifier:
        """Build an encoder with a map to the labels in place of its own head."""
        encoder = super().build(config, vocab_size)
        assert isinstance(encoder, Encoder)
        encoder.drop_head()
        return Classifier(encoder, len(config.data.labels))

    def set_up(
        self,
        config: RunConfig,
        dataset: ClassificationData,
        tokenizer: AnyTokenizer | None,
        model: Model,
        report: Report,
    ) -> TextClassificationSetup:
        """Encode the texts, and lay them out in batches."""
        assert tokenizer is not None
        assert isinstance(model, Classifier)
        longest = longest_text(model, config.data.max_length)
        rows = TokenRows(tokenizer.encode_whole(dataset.train.texts, max_length=longest))
        num_tokens = int(rows.lengths.sum())
        report(summarize_tokens(config, len(tokenizer), dataset.train.texts, num_tokens))
        num_cut = int((rows.lengths == longest).sum())
        if num_cut:
            report(Warned(text=f"{num_cut:,} texts are cut to their first {longest:,} tokens."))
        assert config.training.batch_tokens is not None
        batches = LabeledTextBatches(
            rows,
            dataset.numbers(dataset.train),
            batch_tokens=config.training.batch_tokens,
            seed=config.training.seed,
            pad_id=model.encoder.config.pad_id,
        )
        return TextClassificationSetup(
            config=config, dataset=dataset, tokenizer=tokenizer, batches=batches, model=model
        )

    def predictor(self, model: Any, tokenizer: Any, config: RunConfig) -> TextClassifier:
        """Return what classifies texts with a trained model."""
        return TextClassifier(model, tokenizer, config)


class TextClassificationSetup(LabelSetup):
    """A run of classification."""

    dataset: ClassificationData
    tokenizer: AnyTokenizer
    model: Classifier

    def example(self) -> str:
        """Return the first words of a validation text."""
        words = self.dataset.valid.texts[0].split()[:8]
        return " ".join(words).replace('"', "")

    def held_out(self, inputs: LabeledTexts) -> LabeledTextBatches:
        """Lay held-out texts out in batches."""
        longest = longest_text(self.model, self.config.data.max_length)
        ids = TokenRows(self.tokenizer.encode_whole(inputs.texts, max_length=longest))
        return LabeledTextBatches(
            ids,
            self.dataset.numbers(inputs),
            batch_tokens=CLASSIFIED_TOKENS,
            pad_id=self.model.encoder.config.pad_id,
        )
