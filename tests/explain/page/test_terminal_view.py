"""An explanation as text, in a terminal and in a file."""

from __future__ import annotations

import msgspec
import pytest
from rich.cells import cell_len
from tests.explain import sample_explanations as samples

from regard.explain.page import format_text, terminal_text


def test_the_alignment_is_drawn_in_characters():
    lines = format_text(samples.translation(), 100).splitlines()
    assert lines[0] == ("ende · translation · transformer · 12.1 M · explained 2026-11-21 · beam 4")
    assert lines[1] == "source  The bank by the river was closed . </s>"
    assert lines[2].startswith("output  Das .97 Ufer .84")
    row = next(line for line in lines if line.startswith("           Das"))
    scores = samples.translation().methods["ig"].scores
    largest = max(abs(v) for row in scores for v in row[:9] if v is not None)
    shade = " ░▒▓█"[int(scores[0][0] / largest * 4.999)]
    assert row[15:17] == 2 * shade
    assert "Error of integrated gradients: 0.8 % of the total (20 steps)." in lines
    assert "Control with shuffled weights: rank correlation 0.07." in lines


def test_a_single_output_has_a_bar_for_each_word():
    lines = format_text(samples.classification(), 80).splitlines()
    bar = next(line for line in lines if line.startswith("             A"))
    assert bar == "             A " + 32 * "█" + " 1.30"
    assert "        compared with negative" in lines


def test_scores_that_miss_the_change_by_more_than_one_percent_are_named():
    explanation = samples.translation()
    methods = {"ig": msgspec.structs.replace(explanation.methods["ig"], error=0.02)}
    text = format_text(msgspec.structs.replace(explanation, methods=methods), 100)
    assert "2.0 % of the total (20 steps); its scores do not sum to the change" in text
    assert "do not sum" not in format_text(explanation, 100)


def test_a_long_input_lists_the_strongest_words_of_each_output():
    text = format_text(samples.long_text(200, 1, 1, num_outputs=3), 100)
    assert "Largest scores by integrated gradients, nats" in text
    assert "█" not in text


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize(
    "words", [samples.BANK, samples.SCRIPTS, samples.RIGHT_TO_LEFT], ids=["en", "zh", "ar"]
)
def test_rows_of_the_alignment_are_as_wide_as_the_terminal_allows(words, width):
    text = format_text(samples.translation(words, samples.UFER, num_layers=1), width)
    rows = text[text.index("Alignment") :].split("\n\n")[0].splitlines()[1:]
    assert max(map(cell_len, rows)) <= width
    assert len({cell_len(row) for row in rows if "Ufer" in row}) >= 1


def test_random_scores_are_a_row_of_the_table_that_fits_60_columns():
    text = format_text(samples.translation(samples.BANK, samples.UFER, num_layers=1), 60)
    table = text[text.index("comprehensiveness") :].splitlines()
    titles = [row[:21].strip() for row in table[1:]]
    assert max(map(len, table[: titles.index("random scores") + 2])) <= 60


def test_text_is_plain_where_it_is_written_to_a_file():
    assert "\x1b" not in format_text(samples.translation(), 100)
    assert {span.style for span in terminal_text(samples.translation(), 100).spans} >= {
        "slate_blue1",
        "dark_orange3",
    }


def test_control_characters_of_a_text_do_not_reach_the_terminal():
    words = ["\x1b[31mred", "\u202eabc", "line\nbreak"]
    text = format_text(samples.translation(words, words, num_layers=1), 100)
    assert "\x1b" not in text and "\u202e" not in text
    assert "line⏎break" in text


def test_scores_below_a_thousandth_of_the_largest_are_left_out_and_counted():
    explanation = samples.classification()
    scores = [[None, 2.0, 0.0, -0.0019, 0.002, *[0.0] * 8]]
    method = msgspec.structs.replace(explanation.methods["occlusion"], scores=scores)
    changed = msgspec.structs.replace(explanation, methods={"occlusion": method})
    lines = format_text(changed, 80).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("Why"))
    assert lines[start].endswith("without 10 smaller scores")
    assert [line.split()[-1] for line in lines[start + 1 : start + 3]] == ["2.00", "0.002"]
    assert lines[start + 3] == ""


def test_a_method_with_a_large_error_is_said_not_to_have_converged():
    assert "it has not converged" in format_text(samples.unconverged(), 100)
    assert "converged" not in format_text(samples.translation(), 100)


def test_a_forecast_in_the_terminal_has_its_values_and_no_probabilities():
    text = format_text(samples.forecast(), 100)
    assert "output  +1 101 +2 102" in text
    assert "probab" not in text


def test_training_rows_are_listed_with_what_training_again_gave():
    lines = format_text(samples.with_training_rows(), 100).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Training rows"))
    assert lines[start] == (
        "Training rows   pairs.tsv, 20,412 pairs: together +2.71 and −1.93 nats "
        "(15 products with the curvature, 38 s)"
    )
    assert lines[start + 1] == "Without them the output would be less probable"
    assert lines[start + 2] == (
        "   +0.023  line 4,104  Sie ruhten am Ufer.  |  They rested on the bank of the river."
    )
    harmful = next(line for line in lines if "line 577" in line)
    assert harmful.strip().startswith("−0.031  line 577")
    assert harmful.endswith("…")
    assert lines[start + 8] == (
        "Trained again, each 2 times: log-probability −1.00 with all rows, −2.40 without the 200 "
        "of most influence (estimate −1.41), −1.02 without as many random ones."
    )


def test_a_training_row_does_not_write_to_the_terminal_by_itself():
    explanation = samples.with_training_rows()
    row = msgspec.structs.replace(
        explanation.influence.helpful[0], text="a\x1b[2Jb\n\u202ec", location="\x1b[31mrow 5"
    )
    influence = msgspec.structs.replace(explanation.influence, helpful=[row])
    text = format_text(msgspec.structs.replace(explanation, influence=influence), 100)
    line = next(line for line in text.splitlines() if "row 5" in line)
    assert line == "   +0.023  [31mrow 5  Sie ruhten am Ufer.  |  a[2Jb c"


def test_training_again_says_that_a_contrast_is_scored():
    explanation = msgspec.structs.replace(samples.with_training_rows(), contrast="Bank")
    text = format_text(explanation, 100)
    assert "log-probability over contrast −1.00 with all rows" in text


@pytest.mark.parametrize("width", [60, 100])
def test_lines_of_training_rows_are_as_wide_as_the_terminal_allows(width):
    text = format_text(samples.with_training_rows(), width)
    rows = [line for line in text.splitlines() if "line " in line]
    assert len(rows) == 5
    assert max(map(cell_len, rows)) <= width
