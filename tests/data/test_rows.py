"""Rows in columns: their hash."""

import numpy as np
from msgspec.structs import replace

from regard.data.labeled_inputs import LabeledInputs
from regard.data.labeled_text import LabeledTexts

ROWS = LabeledTexts(path="a.csv", texts=["ab", "c"], labels=["x", "y"], lines=[2, 3])


def test_the_hash_of_rows_is_that_of_their_columns_and_not_of_their_path():
    assert ROWS.sha256 == replace(ROWS, path="/elsewhere/a.csv").sha256
    assert ROWS.sha256 != replace(ROWS, texts=["a", "bc"]).sha256
    assert ROWS.sha256 != replace(ROWS, lines=[2, 4]).sha256
    assert ROWS.sha256 != ROWS.select([1, 0]).sha256
    assert ROWS.sha256 != ROWS.select([0]).sha256


def test_the_hash_of_rows_takes_half_of_a_character():
    assert replace(ROWS, texts=["\ud83d", "c"]).sha256 != ROWS.sha256


def test_the_hash_of_frames_is_that_of_their_shapes_and_labels():
    rows = LabeledInputs(
        path="f", values=[np.zeros((3, 2))], labels=["x"], locations=["a.wav"], num_frames=[1]
    )
    assert rows.sha256 == replace(rows, values=[np.ones((3, 2))]).sha256
    assert rows.sha256 != replace(rows, values=[np.zeros((2, 2))]).sha256
