"""Translation as a task: pairs of sentences -> batches -> a model that translates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regard.errors import ConfigError
from regard.generation.beam_search_config import NEW_SEARCH
from regard.hub.any_tokenizer import vocabulary_of_languages
from regard.models import ENCODER_DECODERS, EncoderDecoder
from regard.setup.base_task import LABEL_SETS, Task
from regard.setup.config import RunConfig
from regard.tasks.translation.languages import find_direction
from regard.tasks.translation.predictor import Translator

if TYPE_CHECKING:
    from regard.hub.any_tokenizer import AnyTokenizer
    from regard.hub.hugging_face.published_folder import Published
    from regard.setup.dataset import ReadOptions
    from regard.setup.training_setup import RunParts
    from regard.tasks.translation.data import TranslationData
    from regard.tasks.translation.setup import TranslationSetup
    from regard.training.events import Report


class TranslationTask(Task):
    """Translation of sentences from one language to another."""

    name = "translation"
    purpose = "translate"
    verbs = (("translate", "TEXT"), ("evaluate", "pairs.tsv"))
    example_data = "pairs.tsv"
    training_data = "sentence pairs"
    has_picture = True
    sections = frozenset({"tokenizer", "search"})
    unread = frozenset(LABEL_SETS)
    families = ENCODER_DECODERS
    preset_table = "SEQ2SEQ_PRESETS"
    predictor = Translator
    evaluation = "regard.tasks.translation.evaluation.evaluate_translator"

    @property
    def defaults(self) -> RunConfig:
        """The Transformer."""
        return RunConfig(task=self.name, search=NEW_SEARCH)

    def claims_published(self, published: Published) -> bool:
        """Whether it is an encoder-decoder: its files do not say what its targets are."""
        return self.has_format_of(published)

    def published_config(self, published: Published) -> RunConfig:
        """Return its settings, with the search of its folder; see `Task`."""
        from regard.setup.published_config import encoder_decoder_config

        return encoder_decoder_config(published, self.name)

    def fit_vocabulary(self, tokenizer: AnyTokenizer, dataset: TranslationData) -> AnyTokenizer:
        """Return a vocabulary of many languages for those of the data; others as they are.

        Raises:
            ConfigError: The languages of the data are not known, or not among those of the model.
        """
        published = vocabulary_of_languages(tokenizer)
        if published is None or (languages := published.languages) is None:
            return tokenizer
        source, _, target = dataset.languages.partition("-")
        is_known = bool(target) and not (dataset.languages_are_guessed and source == target)
        if is_known:
            return published.between(*find_direction(languages, dataset.languages))
        if languages.target is None:
            raise ConfigError(
                f"{dataset.path}: the languages of the pairs are not known, and the weights are "
                "of a model of many.  Name them: `data.languages=en-fr`"
            )
        return tokenizer

    def read(self, options: ReadOptions) -> TranslationData:
        """Read the pairs of a file, or of the embedded corpus where no file is named."""
        from regard.tasks.translation.data import read_translation_data

        return read_translation_data(options)

    def set_up(
        self, parts: RunParts[TranslationData, AnyTokenizer, EncoderDecoder[Any]], report: Report
    ) -> TranslationSetup:
        """Encode the pairs and arrange them in batches; pairs that are too long are dropped."""
        from regard.tasks.translation.setup import TranslationSetup

        return TranslationSetup(parts, report)


TRANSLATION = TranslationTask()
