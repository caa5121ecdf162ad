"""The side of images or of patches set alone: the other is chosen so that it fits."""

from __future__ import annotations

import pytest
from tests.tasks.classification.input_data import draw_bars

from regard.errors import ConfigError
from regard.runs.run import train

SMALL = (
    "preset=tiny",
    "model.dim=16",
    "model.num_heads=2",
    "model.hidden_dim=32",
    "model.num_layers=1",
    "training.epochs=1",
    "task=image-classification",
)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Images of 8 x 8 pixels, one a row."""
    path = tmp_path_factory.mktemp("data") / "bars.csv"
    names = ",".join(f"p{number}" for number in range(64))
    lines = [f"label,{names}"]
    for image, label in zip(*draw_bars(24), strict=True):
        lines.append(f"{label}," + ",".join(map(str, image.ravel().tolist())))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "sides", "patches"),
    [
        (("model.height=4",), (4, 8), (2, 2)),
        (("model.height=4", "model.width=15"), (4, 15), (2, 3)),
        (("model.patch_width=3",), (8, 9), (2, 3)),
    ],
)
def test_a_run_takes_the_rest_from_the_data(settings, sides, patches, rows, tmp_path):
    model = train(rows, tmp_path / "m", settings=(*SMALL, *settings)).config.model
    assert (model.height, model.width) == sides
    assert (model.patch_height, model.patch_width) == patches


def test_two_that_do_not_fit_are_refused(rows, tmp_path):
    with pytest.raises(ConfigError, match=r"height must be a multiple of patch_height \(3\): 28"):
        train(rows, tmp_path / "m", settings=("model.height=28", "model.patch_height=3", *SMALL))
