"""The model card says what a model was made from."""

from msgspec.structs import replace

from regard.errors import NextStep
from regard.runs.model_card import model_card
from regard.setup.config import DataConfig, OptimizerConfig, RunConfig, TrainingConfig
from regard.setup.evaluation_report import TestReport
from regard.training.events import Finished

CONFIG = RunConfig(
    training=TrainingConfig(batch_tokens=1024), optimizer=OptimizerConfig(learning_rate=0.004)
)


def card(config: RunConfig, path: str, **options) -> str:
    report = TestReport(
        test={"chrf": 50.0},
        summary="",
        suggested=[],
        kind="A translation model (en-de)",
        rows="90 train / 5 validation / 5 test",
        notes="",
    )
    finished = Finished(
        step=20,
        best_step=10,
        score_name="chrf",
        valid={"chrf": 51.0},
        test={"chrf": 50.0},
        summary="",
        seconds=90.0,
        estimate=80.0,
        folder="ende",
        tries=[NextStep("Try", "translate", ("ende", "Good morning"))],
    )
    return model_card(
        config,
        report,
        finished,
        path=path,
        architecture="transformer tiny",
        num_parameters=1200,
        loss_unit="nats per token",
        **options,
    )


def test_a_card_names_the_data_and_its_hash():
    config = replace(CONFIG, data=DataConfig(path="pairs.tsv", sha256="0123456789abcdef" * 4))
    text = card(config, "pairs.tsv")
    assert "| data | pairs.tsv, sha256 0123456789abcdef |" in text
    assert "| test | chrf | 50.000 |" in text
    assert "regard translate ende 'Good morning'" in text
    assert "Unicode" not in text


def test_the_card_of_the_embedded_corpus_names_its_licence():
    text = card(CONFIG, "CLDR")
    assert "generated from Unicode CLDR (licence Unicode-3.0)" in text


def test_a_card_shows_the_curves_where_there_are_some_and_the_unit_of_the_losses():
    assert "Losses are in nats per token. " in card(CONFIG, "CLDR")
    assert "curves.svg" not in card(CONFIG, "CLDR")
    assert "](curves.svg)\n\n## Use" in card(CONFIG, "CLDR", has_curves=True)
