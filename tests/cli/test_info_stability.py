"""``regard info --stability``: verdict and table, JSON, a picture, and folders without a record."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from regard.__main__ import main
from regard.hub.model_folder import ModelFolder
from regard.runs.stability import format_stability
from regard.training.stability_verdicts import StabilityRecord


@pytest.fixture
def info(capsys, trained):
    """Run ``regard info`` on a folder; return exit code, output and errors."""

    def run(*words, folder=trained):
        code = main(["info", str(folder), *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_healthy_run_has_no_verdict_and_a_table_of_layers_by_steps(info):
    code, out, err = info("--stability")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0] == "Stability   No gradient vanished or exploded, the loss did not oscillate."
    assert lines[1].startswith("Record      ") and lines[1].endswith(" 9 layers")
    assert lines[3] == "Gradient norm, before clipping"
    assert lines[4].split()[:2] == ["step", "1"]
    assert [line.split()[0] for line in lines[5:10]] == [
        *("output_weight", "encoder.0", "decoder.0", "encoder_norm", "decoder_norm")
    ]
    assert "Norm of the update / norm of the weights" in lines


def test_json_has_the_whole_record(info):
    code, out, _ = info("--stability", "--json")
    record = json.loads(out)
    assert (code, record["verdicts"], record["is_mean"]) == (0, [], False)
    assert record["steps"][0] == 1
    assert list(record["gradient_norms"]) == list(record["update_ratios"]) == record["layers"]
    assert {len(values) for values in record["gradient_norms"].values()} == {len(record["steps"])}


def test_a_picture_of_it_goes_to_the_file_named(info, tmp_path):
    path = tmp_path / "stability.png"
    code, out, _ = info("--stability", "-o", path)
    assert code == 0 and out.startswith("Stability   ")
    image = Image.open(path).convert("RGB")
    assert len(image.getcolors(1 << 20)) > 16


def test_a_folder_without_a_record_gets_one_clear_sentence(info, tmp_path, trained):
    folder = tmp_path / "old"
    shutil.copytree(trained, folder)
    lines = ModelFolder(folder).read_metrics()
    for line in lines:
        line.pop("stability", None)
    ModelFolder(folder).write_metrics(lines)
    code, out, err = info("--stability", folder=folder)
    assert (code, out) == (4, "")
    assert err == (
        f"regard: {folder}: no record of gradients by layer in metrics.jsonl: the run was made by "
        "a version that wrote none, or has no evaluation yet.\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--diagram", "svg"), "--stability goes with -o and --json only."),
        (("--length", 4), "--stability goes with -o and --json only."),
        (("-o", "x.txt"), "x.txt: a picture ends in one of .svg, .png, .pdf."),
        (("-o", "no/x.svg"), "no/x.svg: cannot be written (No such file or directory)."),
    ],
)
def test_what_does_not_go_with_it_is_refused(info, words, message):
    assert info("--stability", *words) == (2, "", f"regard: {message}\n")


def test_a_run_of_too_few_steps_has_no_verdict_at_all():
    record = StabilityRecord(
        verdicts=[],
        steps=[1],
        layers=["norm"],
        gradient_norms={"norm": [1.0]},
        update_ratios={"norm": [0.1]},
    )
    first, *_ = format_stability(record)
    assert first == "Stability   Not known: 3 recorded steps or more are needed."
