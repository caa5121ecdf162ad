"""``regard info``: the parts, the layer table, the diagram, and what does not go together."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image
from tests.cli.commands import run
from tests.plots.read_svg import Svg

from regard.__main__ import main
from regard.explain.layer_table import layer_table, training_flops_per_token
from regard.runs.information import inspect_folder


@pytest.fixture
def info(capsys, trained):
    """Run ``regard info`` on the finished run; return exit code, output and errors."""

    def run(*words):
        code = main(["info", str(trained), *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_the_cost_is_that_of_the_layer_table_at_the_set_length(info, trained):
    code, out, _ = info("--length", 40)
    flops = training_flops_per_token(layer_table(inspect_folder(trained)[1], 40))
    assert code == 0
    assert (
        f"Cost    {flops / 1e6:.1f} MFLOP a token in training "
        "(forward and backward, length 40), 0.0 MB of weights\n"
        "Run     finished"
    ) in out
    assert "Parts   FLOP of a forward pass at length 40\n        part " in out


def test_longer_rows_cost_more_a_token(trained):
    information, model = inspect_folder(trained)
    assert information.length == 256
    costs = [training_flops_per_token(layer_table(model, length)) for length in (10, 20, 256)]
    assert costs == sorted(set(costs))


def test_json_has_the_layers_and_the_tensors(info):
    code, out, _ = info("--json")
    found = json.loads(out)
    assert code == 0
    assert found["layers"][0]["name"] == "source_embedding"
    assert ["output_weight", "351 x 16", 5616] in found["tensors"]


def test_a_diagram_goes_to_standard_output(info):
    code, out, err = info("--diagram", "mermaid")
    assert (code, err) == (0, "")
    assert out.splitlines()[1] == "flowchart TB"
    assert 'subgraph g0["encoder.0: block<br/>' in out


def test_a_diagram_goes_to_a_file(info, tmp_path):
    path = tmp_path / "model.mmd"
    code, out, _ = info("--diagram", "mermaid", "-o", path)
    assert (code, out) == (0, "")
    _, shown, _ = info("--diagram", "mermaid")
    assert path.read_text(encoding="utf-8") == shown


@pytest.mark.slow
def test_a_picture_goes_to_a_file_or_as_svg_to_standard_output(info, tmp_path):
    code, out, err = info("--diagram", "svg")
    assert (code, err) == (0, "")
    assert info("--diagram", "svg", "-o", tmp_path / "model.svg") == (0, "", "")
    assert (tmp_path / "model.svg").read_text(encoding="utf-8") == out
    assert {"source tokens", "keys, values"} <= set(Svg(tmp_path / "model.svg").texts)
    assert info("--diagram", "png", "-o", tmp_path / "model.png") == (0, "", "")
    image = Image.open(tmp_path / "model.png").convert("RGB")
    assert min(image.size) > 600 and len(image.getcolors(1 << 20)) > 16


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-o", "x.svg"), "-o x.svg: is the file of a diagram.  Add --diagram svg."),
        (("--diagram", "png"), "--diagram png: is not text.  Name its file: -o FILE.png"),
        (
            ("--diagram", "svg", "-o", "x.png"),
            "-o x.png: not the suffix of svg.  Take --diagram png.",
        ),
        (
            ("--diagram", "mermaid", "-o", "x.PNG"),
            "-o x.PNG: not the suffix of mermaid.  Take --diagram png.",
        ),
        (
            ("--diagram", "png", "-o", "x.jpg"),
            "x.jpg: a picture ends in one of .svg, .png, .pdf.",
        ),
        (
            ("--diagram", "svg", "-o", "no/such/place.svg"),
            "no/such/place.svg: cannot be written (No such file or directory).",
        ),
        (("-o", "x.mmd"), "-o x.mmd: is the file of a diagram.  Add --diagram mermaid."),
        (
            ("--diagram", "mermaid", "--json"),
            "--diagram goes with -o only.  Leave --json and --length out.",
        ),
        (("--length", 0), "--length 0: must be 1 to 1,000,000,000."),
        (
            ("--diagram", "mermaid", "-o", "no/such/place.mmd"),
            "no/such/place.mmd: cannot be written (No such file or directory).",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(info, words, message):
    code, out, err = info(*words)
    assert (code, out) == (2, "")
    assert err == f"regard: {message}\n"


def test_another_kind_of_diagram_is_refused(info):
    code, _, err = info("--diagram", "dot")
    assert code == 2
    assert 'Invalid value "dot" for --diagram. Choose from: "mermaid", "svg", "png", "pdf".' in err


def test_info_says_what_writes_the_outputs(capsys, trained):
    _, out, _ = run(capsys, "info", trained)
    (line,) = [line for line in out.splitlines() if line.startswith("Writes")]
    assert re.fullmatch(
        r"Writes  by (compiled decoder, (bf16|float32)|PyTorch's operators: .+)", line
    )


def test_info_tells_the_parts(capsys, trained):
    code, out, _ = run(capsys, "info", trained)
    assert code == 0
    assert "encoder.0 " in out
    assert "self-attention, 2 heads of 8, pattern full" in out
    code, out, _ = run(capsys, "info", trained, "--json")
    assert json.loads(out)["is_finished"] is True
