"""The search in ``config.toml``: that of new models, and of those that were trained before."""

from regard.generation.beam_search_config import BeamSearchConfig
from regard.settings.binding import from_toml, to_toml
from regard.setup.config import RunConfig
from regard.tasks import TASKS


def test_settings_that_name_no_ranking_keep_that_of_earlier_models():
    text = 'task = "translation"\n[search]\nbeam = 4\nlength_penalty = 1.0\n'
    config = from_toml(text, RunConfig, name="config.toml")
    assert (config.search.ranking, config.search.stopping) == ("wu", "certain")
    assert config.search.summary() == (
        "beam 4, log-probability / ((5 + length) / 6)^1, at most 2 x source + 10"
    )


def test_a_new_model_names_its_ranking():
    defaults = TASKS["translation"].defaults
    text = to_toml(defaults)
    assert 'ranking = "transformers"\nstopping = "likely"\n' in text
    assert from_toml(text, RunConfig, name="config.toml").search == defaults.search
    assert to_toml(BeamSearchConfig()).count('ranking = "wu"\nstopping = "certain"\n') == 1
