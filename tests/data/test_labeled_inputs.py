"""LabeledTexts inputs: labels, parts, statistics, batches."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regard.data.labeled_inputs import (
    InputBatches,
    InputCollator,
    LabeledInputs,
    feature_statistics,
    label_names,
    precision_of,
)
from regard.data.labeled_text import check_known_labels, join_labels
from regard.data.splits import overlap, split
from regard.errors import DataError


def inputs_of(values, labels=None):
    labels = labels or [str(number % 2) for number in range(len(values))]
    places = [f"line {number}" for number in range(2, 2 + len(values))]
    frames = [1] * len(values)
    return LabeledInputs(
        path="a.csv", values=values, labels=labels, locations=places, num_frames=frames
    )


def rows_of(*lengths, features=2):
    generator = np.random.default_rng(1)
    return [generator.normal(size=(n, features)).astype(np.float32) for n in lengths]


def layout(**changes):
    return InputCollator(**{"mean": (), "std": (), "num_patches": 0, "longest": 100} | changes)


def test_labels_that_are_numbers_are_sorted_by_value():
    assert label_names(inputs_of(rows_of(*[1] * 4), ["10", "9", "9", "10"])) == ("9", "10")
    assert label_names(inputs_of(rows_of(*[1] * 4), ["b", "10", "b", "10"])) == ("10", "b")


def test_one_label_is_refused():
    with pytest.raises(DataError) as caught:
        label_names(inputs_of(rows_of(1, 1), ["x", "x"]))
    assert str(caught.value) == (
        'a.csv: every input has the label "x".  A classifier needs two or more.'
    )


def test_a_label_with_one_input_is_refused():
    with pytest.raises(DataError) as caught:
        label_names(inputs_of(rows_of(1, 1, 1), ["x", "y", "x"]))
    assert str(caught.value) == (
        'a.csv: the label "y" has one input only (line 3).  '
        "Two or more are needed, one of them to test on.  Add some, or leave it out."
    )


def test_an_unknown_label_is_refused_with_its_location():
    with pytest.raises(DataError) as caught:
        check_known_labels(
            inputs_of(rows_of(1, 1, 1, 1), ["cat", "Dogs", "bird", "Dogs"]),
            ("cat", "dog"),
            "the training data",
        )
    assert str(caught.value) == (
        'a.csv: line 3: the label "Dogs" is not in the training data.  Did you mean dog?  '
        "Unknown in 3 of 4 rows: Dogs (2), bird (1).  Known: cat, dog."
    )


@pytest.mark.slow
@given(st.lists(st.integers(0, 12), min_size=20, max_size=60), st.integers(0, 5))
def test_equal_inputs_stay_in_one_part(numbers, seed):
    numbers += list(range(100, 120))  # enough that stand alone
    given_inputs = inputs_of([np.full((3, 1), number, np.float32) for number in numbers])
    splits = split(given_inputs, seed=seed)
    parts = splits.train, splits.valid, splits.test
    seen = [{value.tobytes() for value in part.values} for part in parts]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert sum(map(len, parts)) + len(splits.dropped) == len(numbers)


def test_inputs_that_are_in_training_too_are_found():
    values = rows_of(3, 4, 5)
    assert overlap(inputs_of(values[:2]), inputs_of(values[1:])) == {0: 1}


@pytest.mark.parametrize("kind", ["images", "rows"])
def test_inputs_come_out_with_mean_zero_and_variance_one(kind):
    generator = np.random.default_rng(3)
    if kind == "images":
        values = [generator.integers(0, 255, (3, 4, 5), dtype=np.uint8) for _ in range(20)]
        axes, patches = (0, 2, 3), 5
    else:
        values = [generator.normal(5, 3, (9, 3)).astype(np.float32) for _ in range(20)]
        axes, patches = (0, 1), 0
    mean, std = feature_statistics(inputs_of(values))
    found, _ = layout(mean=mean, std=std, num_patches=patches).lay_out(values)
    assert found.dtype == torch.float32
    assert found.mean(axes).abs().max() < 1e-5
    assert (found.square().mean(axes) - 1).abs().max() < 1e-4


def test_a_feature_that_never_moves_is_zero():
    values = [np.full((4, 1), 7.0, np.float32)] * 3
    mean, std = feature_statistics(inputs_of(values))
    assert (mean, std) == ((7.0,), (1.0,))


def test_rows_are_padded_with_zeros_and_cut():
    values = rows_of(2, 5)
    found, lengths = layout(longest=4, mean=(1.0, 1.0), std=(2.0, 2.0)).lay_out(values)
    assert lengths.tolist() == [2, 4]
    assert found.shape == (2, 4, 2)
    assert found[0, 2:].abs().sum() == 0
    torch.testing.assert_close(found[1], (torch.from_numpy(values[1][:4]) - 1) / 2)


def test_rows_that_are_cut_off_are_counted():
    cut = InputBatches(rows_of(2, 5, 4), [0] * 3, layout(longest=4), batch_tokens=9).truncated
    assert cut == [0, 1, 0]
    images = [np.zeros((1, 8, 8), np.uint8)] * 2
    assert layout(longest=1, num_patches=4).count_truncated(images) == [0, 0]


@pytest.mark.slow
@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(10, 200))
def test_batches_hold_every_input_once_within_the_budget(lengths, budget):
    batches = InputBatches(
        rows_of(*lengths), [0] * len(lengths), layout(), batch_tokens=budget, seed=2
    )
    for found in (batches.order(3), batches.in_sequence()):
        assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
        for rows in found:
            longest = 1 + max(lengths[row] for row in rows)
            assert len(rows) == 1 or longest * len(rows) <= budget


def test_a_batch_has_the_labels_of_its_rows():
    batches = InputBatches(rows_of(3, 1, 2), [5, 6, 7], layout(), batch_tokens=100)
    batch = batches.batch(np.array([2, 0]))
    assert batch.labels.tolist() == [7, 5]
    assert batch.lengths is not None and batch.lengths.tolist() == [2, 3]
    assert batches.size(np.array([2, 0])) == 5
    assert batches.num_tokens == 6
    assert batches.longest == 4


def test_images_have_no_lengths():
    images = [np.full((1, 2, 2), n, np.uint8) for n in range(3)]
    batches = InputBatches(images, [0, 1, 0], layout(num_patches=4), batch_tokens=10)
    batch = batches.batch(batches.in_sequence()[0])
    assert batch.inputs.shape == (2, 1, 2, 2)
    assert batch.lengths is None


@pytest.mark.parametrize(("offset", "dtype"), [(0.0, np.float32), (1e9, np.float64)])
def test_small_differences_of_large_numbers_are_seen(offset, dtype):
    values = [offset + np.array([[0.0], [1.0], [2.0]]), offset + np.array([[2.0], [1.0], [0.0]])]
    assert precision_of(values) is dtype
    rows = inputs_of([value.astype(dtype) for value in values])
    mean, std = feature_statistics(rows)
    tensor, _ = layout(mean=mean, std=std).lay_out(rows.values)
    assert tensor.dtype == torch.float32
    step = 1 / np.sqrt(2 / 3)
    expected = torch.tensor([[-step, 0.0, step], [step, 0.0, -step]], dtype=torch.float32)
    torch.testing.assert_close(tensor[..., 0], expected)


def test_equal_numbers_need_no_precision():
    assert precision_of([np.full((3, 1), 1e9)] * 2) is np.float32


def test_labels_that_are_numbers_keep_their_order_next_to_a_named_part():
    names = label_names(inputs_of(rows_of(*[1] * 4), ["10", "9", "9", "10"]))
    assert join_labels(names, [inputs_of(rows_of(1), ["9"])], "a.csv") == ("9", "10")
    assert join_labels(names, [inputs_of(rows_of(1, 1), ["9", "x"])], "a.csv") == ("10", "9", "x")
