"""The confusion matrix and the reliability diagram."""

import pytest

from regard.metrics.classification import confusion_matrix, reliability
from regard.plots.confusion_matrix import ClassificationPicture
from regard.plots.style import SCALE

SCRIPTS = ["新闻", "スポーツ", "경제", "العربية", "हिन्दी", "<b> & $x$", "tab\there", ""]


def picture(labels, counts):
    num_inputs = sum(map(sum, counts))
    num_correct = sum(row[index] for index, row in enumerate(counts))
    return ClassificationPicture(
        labels=labels,
        counts=counts,
        bin_counts=[0, 0, 0, 0, 0, 0, 0, 0, num_inputs, 0],
        bin_confidence=[0.0] * 8 + [0.85, 0.0],
        bin_accuracy=[0.0] * 8 + [num_correct / max(1, num_inputs), 0.0],
        calibration_error=4.25,
    )


def diagonal(size, right=8, wrong=1):
    return [[right if row == column else wrong for column in range(size)] for row in range(size)]


def draw(drawn, labels, counts):
    return drawn(lambda path: picture(labels, counts).draw(path))


@pytest.mark.slow
def test_ten_labels_have_their_numbers_in_the_cells(drawn):
    labels = [f"digit {number}" for number in range(10)]
    counts = diagonal(10)
    counts[3][7], counts[7][3] = 1234, 0
    svg = draw(drawn, labels, counts)
    assert svg.texts.count("8") == 10 and svg.texts.count("1,234") == 1
    assert svg.texts.count("1") == 88  # an empty cell has no number
    assert all(svg.texts.count(label) == 2 for label in labels)
    assert "Confusion (1,402 inputs, 10 labels)" in [" ".join(t.split()) for t in svg.texts]
    assert "Reliability (calibration error 4.2 %)" in [" ".join(t.split()) for t in svg.texts]


def test_colors_are_fractions_of_the_row(drawn):
    svg = draw(drawn, ["rare", "frequent"], [[3, 1], [100, 300]])
    cells = [svg.count_outlines(color.light) - 1 for color in SCALE]  # without the legend
    assert sum(cells) == 4
    assert cells[3] == 2 and cells[9] == 2  # a quarter and three quarters of twelve steps


@pytest.mark.slow
def test_fifty_labels_are_named_without_numbers(drawn):
    labels = [f"section-{number} of the manual" for number in range(50)]
    svg = draw(drawn, labels, diagonal(50, 800))
    assert all(svg.texts.count(label) == 2 for label in labels)
    assert "800" not in svg.texts
    assert svg.width < 1400


@pytest.mark.slow
def test_of_three_hundred_labels_the_frequent_ones_have_their_own_rows(drawn):
    labels = [f"label {number}" for number in range(300)]
    counts = [[0] * 300 for _ in range(300)]
    for number in range(300):
        counts[number][number] = 1000 if 100 <= number < 159 else 1
    svg = draw(drawn, labels, counts)
    assert svg.texts.count("label 100") == 2 and "label 99" not in svg.texts
    assert svg.texts.count("241 others") == 2
    assert "300 labels" in " ".join(svg.texts)


@pytest.mark.parametrize("labels", [["only"], ["neg", "pos"], SCRIPTS, ["x" * 200, "y"]])
def test_every_name_is_drawn_inside_the_page(drawn, labels):
    svg = draw(drawn, labels, diagonal(len(labels)))
    for label in labels:
        shown = "(empty)" if not label else " ".join(label.split())
        assert shown in svg.texts or any(
            text.endswith("…") and shown.startswith(text[:-1]) for text in svg.texts
        )
    for element in svg.elements:
        if "x" in element.attrib:
            assert 0 <= float(element.attrib["x"]) <= svg.width
            assert 0 <= float(element.attrib["y"]) <= svg.height


def test_no_input_is_drawn(drawn):
    assert "0 inputs" in " ".join(draw(drawn, ["a", "b"], [[0, 0], [0, 0]]).texts)


def test_bins_have_what_the_classifier_said_and_what_was_true():
    bins = reliability([0.05, 0.95, 0.91, 1.0], [False, True, True, False])
    assert bins.counts == [1, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    assert bins.confidence[9] == pytest.approx((0.95 + 0.91 + 1.0) / 3)
    assert bins.accuracy[9] == pytest.approx(2 / 3)
    # By hand: (1 * |0 - 0.05| + 3 * |2 / 3 - 0.953|) / 4
    assert bins.calibration_error == pytest.approx(100 * (0.05 + 0.86) / 4)
    assert reliability([], []).calibration_error == 0.0
    assert reliability([float("nan")], [True]).counts[0] == 1


def test_confusion_is_counted_by_true_label_and_prediction():
    assert confusion_matrix([1, 1, 2, 0], [0, 1, 1, 0], 3) == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
