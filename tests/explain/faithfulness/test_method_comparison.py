"""Methods compared over rows: means with intervals, the winner, what is refused or skipped."""

import msgspec
import pytest
import torch
from tests.explain.tiny_predictions import Linear, randomized, tokenizer, translated

import regard
from regard.errors import ConfigError, DataError
from regard.explain.attribution import METHODS
from regard.explain.faithfulness import compare_methods, open_rows
from regard.metrics import bootstrap
from regard.models import LstmConfig, LstmEncoderDecoder

NAMES = ["occlusion", "ig"]


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    """Draw fewer samples of the bootstrap, which would take most of the time."""
    monkeypatch.setattr(bootstrap, "NUM_SAMPLES", 100)


def linear_rows(count=6, num_features=12):
    generator = torch.Generator().manual_seed(0)
    effects = [torch.rand(2, num_features, generator=generator) for _ in range(count)]
    return [lambda row=row: Linear(row) for row in effects]


def refuse():
    raise ConfigError("the text is empty: there is nothing to explain.")


def test_exact_methods_beat_random_scores_on_a_linear_model():
    result = compare_methods(linear_rows(), NAMES)
    assert list(result.methods) == ["occlusion", "integrated_gradients", "random"]
    assert result.best in ("occlusion", "integrated_gradients")
    best, floor = result.methods[result.best], result.methods["random"]
    assert best.advantage.low > floor.advantage.high
    assert best.above_random.low > 0
    assert best.p_above_random < 0.05
    assert best.behind_best is None
    assert floor.behind_best.low > 0
    assert best.tau.value == pytest.approx(1.0)
    assert best.advantage.value == pytest.approx(
        best.comprehensiveness.value - best.sufficiency.value
    )


def test_the_record_has_rows_methods_and_best_as_json():
    result = msgspec.json.decode(msgspec.json.encode(compare_methods(linear_rows(2), NAMES)))
    assert result["rows"] == 2
    assert result["outputs"] == 4
    assert result["unit"] == "points"
    assert set(result["methods"]["occlusion"]["tau"]) == {"value", "low", "high"}
    assert {"comprehensiveness", "sufficiency"} <= set(result["methods"]["random"])


def test_rows_that_cannot_be_explained_are_skipped_and_counted():
    special = torch.ones(1, 2)
    progress = []
    rows = [refuse, *linear_rows(2), lambda: Linear(special, num_special=2)]
    result = compare_methods(
        rows, NAMES, on_progress=lambda done, total: progress.append((done, total))
    )
    assert (result.rows, result.skipped) == (2, 2)
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_without_a_row_that_can_be_explained_there_is_no_comparison():
    with pytest.raises(DataError, match="no row has an output that can be explained"):
        compare_methods([refuse], NAMES)


def test_a_method_that_refuses_the_model_is_named_with_its_reason(monkeypatch):
    def compute(prediction, budget):
        raise ConfigError("the model has no attention.")

    monkeypatch.setitem(METHODS, "occlusion", METHODS["occlusion"]._replace(compute=compute))
    result = compare_methods(linear_rows(2), NAMES)
    assert result.refused == {"occlusion": "the model has no attention."}
    assert list(result.methods) == ["integrated_gradients", "random"]


def test_rows_of_a_file_are_read_by_the_task_and_drawn_from_all_of_it(trained, pairs_file):
    predictor = regard.load(trained)
    assert len(open_rows(predictor, pairs_file)) == 200
    drawn, again = (open_rows(predictor, pairs_file, num_rows=3) for _ in range(2))
    texts = [row.args[1] for row in drawn]
    assert texts == [row.args[1] for row in again]
    sources = [line.split("\t")[0] for line in pairs_file.read_text("utf-8").splitlines()]
    assert [sources.index(text) for text in texts] == sorted(sources.index(text) for text in texts)
    result = compare_methods(drawn[:1], ["occlusion"], most_outputs=1)
    assert result.unit == "%"
    assert result.outputs == 1


def test_no_rows_are_refused(trained, pairs_file):
    with pytest.raises(ConfigError, match="it must be 1 or more"):
        open_rows(regard.load(trained), pairs_file, num_rows=0)


def test_the_table_has_a_line_for_each_method_and_says_what_was_left_out():
    lines = list(compare_methods([refuse, *linear_rows(2)], ["occlusion"]).lines())
    assert lines[0] == (
        "2 rows, 4 outputs, 1 left out; means with 95 % bootstrap intervals, in points"
    )
    assert lines[1].split() == [
        "method", "comprehensiveness", "sufficiency", "difference", "tau", "behind", "best",
    ]  # fmt: skip
    assert lines[2].startswith("occlusion  ")
    assert lines[2].endswith("best")
    assert lines[3].startswith("random ")
    assert "p = 0." in lines[3]
    assert len(lines) == 4


def test_without_names_all_methods_but_flow_are_compared_and_those_without_attention_refused():
    sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "dim": 8}
    config = LstmConfig(attention="none", input_feeding=False, **sizes)
    lstm = randomized(LstmEncoderDecoder(config, len(tokenizer())))
    result = compare_methods([lambda: translated(lstm, source="the cat", target="a")])
    assert set(result.methods) | set(result.refused) == set(METHODS) - {"flow"}
    assert set(result.refused) == {"attention", "rollout"}
    assert "no attention" in result.refused["attention"]
