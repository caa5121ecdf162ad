"""The comparison of methods of attribution runs on a model folder."""

import json
import sys

import pytest

from benchmarks import explain


@pytest.mark.slow
def test_methods_are_compared_on_a_model_folder(trained, pairs_file, capsys, monkeypatch):
    words = ["explain.py", str(trained), str(pairs_file), "--rows", "2", "--outputs", "1"]
    monkeypatch.setattr(sys, "argv", [*words, "--methods", "occlusion", "--json"])
    explain.main()
    result = json.loads(capsys.readouterr().out)
    assert result["rows"] == 2
    assert set(result["methods"]) == {"occlusion", "random"}
