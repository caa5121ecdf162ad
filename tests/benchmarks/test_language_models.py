"""The comparison of decoders on running text runs from training to its figures."""

import json

import pytest

from benchmarks import language_models


@pytest.mark.slow
def test_a_decoder_is_trained_and_tested_on_text(tmp_path, monkeypatch, capsys):
    files = [tmp_path / name for name in ("train.txt", "dev.txt", "test.txt")]
    for number, file in enumerate(files):
        rows = (f"text {number}: {row * row} is {row} times {row}" for row in range(99))
        file.write_text("\n".join(rows), encoding="utf-8")
    small = ("preset=tiny", "tokenizer.vocab_size=300", "data.max_length=32", "training.epochs=1")
    monkeypatch.setattr(language_models, "COMMON", small)
    monkeypatch.setattr(language_models, "SIZES", ("model.num_layers=1", "model.dim=16"))
    monkeypatch.setattr(language_models, "CONTENDERS", {"gpt": ("model.hidden_dim=16",)})
    language_models.main([*map(str, files), "--only", "gpt", "--json"])
    (result,) = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["name"] == "gpt"
    assert result["steps"] > 0
    assert 1 < result["perplexity"] < 400  # tokens, of which there are 300 at most
    assert 0 < result["bits_per_byte"] < 8
