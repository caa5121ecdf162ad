"""Models written as programs of PyTorch, which run without regard."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest
import torch
from tests.hub.export.onnx_models import ENCODER, TEXTS, text_classifier, train_tokenizer

from regard.errors import ConfigError
from regard.hub.export import torch_program
from regard.hub.export.graph import Graph
from regard.models import BertConfig
from regard.runs.export_check import export_model


@pytest.fixture(scope="module")
def classifier():
    config = BertConfig(**ENCODER, pooling="mean")
    return text_classifier(config, train_tokenizer(), "local:2|global:0")


@pytest.fixture(scope="module")
def written(classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("torch") / "labels"
    return folder, export_model(classifier, folder, "torch", texts=TEXTS)


@pytest.mark.slow
def test_real_texts_have_the_same_labels_in_the_program(written):
    _, exported = written
    assert exported.texts.is_equal
    assert (exported.texts.num_texts, exported.texts.peer) == (5, "torch.export")
    assert exported.texts.difference < 1e-6


@pytest.mark.slow
def test_a_program_serves_every_batch_and_length(written, classifier):
    program = torch.export.load(written[0] / "model.pt2").module()
    generator = torch.Generator().manual_seed(0)
    for rows in (1, 2, 5):
        for length in (1, 2, 3, 32, 40):
            ids = torch.randint(0, 250, (rows, length), generator=generator)
            lengths = torch.randint(0, length + 1, (rows,), generator=generator)
            mask = (torch.arange(length) < lengths[:, None]).long()
            with torch.inference_mode():
                expected = classifier.model(ids, lengths=lengths)
                logits = program(input_ids=ids, attention_mask=mask)["logits"]
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_lines_of_the_readme_run_where_regard_is_not(written, classifier):
    folder, _ = written
    lines = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    script = f"import sys\nsys.modules['regard'] = None\n{lines}"
    script = script.replace("from __future__ import annotations\n", "")
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True
    )
    texts = ["One text.", "Another text, which is longer."]
    for line, own in zip(run.stdout.splitlines(), classifier.classify_rows(texts), strict=True):
        label, probability = line.split()
        assert label == own.label
        assert float(probability) == pytest.approx(own.probabilities[label], abs=1e-6)


@pytest.mark.slow
def test_a_program_has_nothing_of_the_machine(written):
    with zipfile.ZipFile(written[0] / "model.pt2") as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert b".py" not in content and b"/regard/" not in content


def test_operators_that_pytorch_has_not_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_program, "_OPERATORS", ())
    inputs = {"input": {0: "batch_size"}}
    graph = Graph(
        torch.nn.Linear(2, 2), lambda g, rows, _: {"input": torch.ones(rows, 2)}, inputs, inputs
    )
    with pytest.raises(ConfigError, match=r"needs operators of regard: .*aten.linear"):
        torch_program.TORCH.write(graph, tmp_path / "model.pt2", {})
