"""Classification of texts: texts with labels -> batches -> a model that predicts the label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from regard.data.labeled_text import COLUMNS
from regard.data.listing import pluralize
from regard.data.readers.label_sets import holds_label_sets
from regard.data.readers.shape import DataShape
from regard.data.readers.source import DataSource
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import ENCODERS, BertConfig, Classifier
from regard.models.base.checkpoint_format import LabelHead
from regard.models.base.classifier_checkpoints import with_label_head
from regard.models.base.encoder import EncoderConfig
from regard.setup.base_task import LABEL_SETS, Task
from regard.setup.build import build_encoder_without_head, summarize_tokens
from regard.setup.config import RunConfig
from regard.setup.dataset import ReadOptions
from regard.setup.training_setup import RunParts
from regard.tasks.classification.classifier_setup import ClassificationSetup
from regard.tasks.classification.data import (
    TextClassificationData,
    read_text_classification_data,
)
from regard.tasks.classification.predictor import TextClassifier
from regard.training.events import Report, Warned
from regard.training.training_config import TrainingConfig

if TYPE_CHECKING:
    from regard.hub.hugging_face.published_folder import Published


class TextClassificationTask(Task):
    """Classification of texts, each with one of several labels."""

    name = "classification"
    purpose = "classify"
    verbs = (("classify", "TEXT"), ("evaluate", "reviews.jsonl"))
    example_data = "reviews.jsonl"
    training_data = "texts with labels"
    loss_unit = "nats per text"
    has_picture = True
    families = ENCODERS
    unread = Task.unread - {*LABEL_SETS}
    preset_table = "ENCODER_PRESETS"
    predictor = TextClassifier
    setup = ClassificationSetup
    evaluation = "regard.tasks.classification.evaluation.evaluate_classifier"

    @property
    def defaults(self) -> RunConfig:
        """A BERT."""
        return RunConfig(
            task=self.name, model=BertConfig(), training=TrainingConfig(label_smoothing=0.0)
        )

    def for_config(self, config: RunConfig) -> Task:
        """Return the task whose texts have one label each, or the one with any number of them."""
        data = config.data
        if not (data.multi_label or data.label_separator or len(data.columns) > len(COLUMNS)):
            return self
        from regard.tasks.multi_label_classification.task import MULTI_LABEL_CLASSIFICATION

        return MULTI_LABEL_CLASSIFICATION

    def for_data(self, config: RunConfig, source: DataSource) -> Task:
        """Return the task by the settings, and by whether the labels of the data are lists."""
        data = config.data
        columns = data.columns or COLUMNS
        if len(columns) == len(COLUMNS) and holds_label_sets(source, columns, data.encoding):
            config = replace(config, data=replace(data, multi_label=True))
        return self.for_config(config)

    def start_encoder(self, model: EncoderConfig, head: LabelHead | None) -> EncoderConfig:
        """Return a trained encoder with the pooler that its published format has."""
        if head is not None and not model.has_pooler:
            model = with_label_head(model, head)
        return model.for_single_texts()

    def claims(self, shape: DataShape) -> bool:
        """Whether there are columns of text and label."""
        return shape.columns.keys() >= set(COLUMNS)

    def claims_published(self, published: Published) -> bool:
        """Whether it is an encoder with labels."""
        return self.has_format_of(published) and bool(published.labels)

    def published_config(self, published: Published) -> RunConfig:
        """Return its settings, with the length that it has positions for; see `Task`."""
        from regard.setup.published_config import encoder_config

        return encoder_config(published, self.name)

    def read(self, options: ReadOptions) -> TextClassificationData:
        """Read the texts and split them."""
        return read_text_classification_data(options)

    def build(self, config: RunConfig, vocab_size: int) -> Classifier:
        """Build an encoder whose head maps to the labels instead of tokens."""
        encoder = build_encoder_without_head(config, vocab_size, self)
        return Classifier(encoder, len(config.data.labels))

    def set_up(
        self,
        parts: RunParts[TextClassificationData, AnyTokenizer, Classifier],
        report: Report,
    ) -> ClassificationSetup:
        """Encode the texts and arrange them in batches."""
        config, train = parts.config, parts.dataset.train
        classifier = self.predictor(parts.model, parts.tokenizer, config)
        batches = classifier.batches(
            train, batch_tokens=parts.batch_tokens, seed=config.training.seed
        )
        num_tokens = int(batches.texts.lengths.sum())
        report(summarize_tokens(config, len(parts.tokenizer), train.texts, num_tokens))
        if num_cut := sum(count > 0 for count in batches.truncated):
            longest, texts = classifier.max_length, pluralize(num_cut, "text is", "texts are")
            report(Warned(text=f"{texts} cut to {longest:,} tokens."))
        return self.setup(parts, batches, classifier)


CLASSIFICATION = TextClassificationTask()
