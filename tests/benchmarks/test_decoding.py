"""The benchmark of decoding compares the same weights, and its engines write the same tokens."""

from __future__ import annotations

import time

import pytest
import torch

from benchmarks import decoding


@pytest.mark.slow
def test_engines_write_the_same_tokens(transformers, tmp_path):
    model = decoding.make_model(64, 1)
    model.save_pretrained(tmp_path / "hf")
    engines = decoding.regard_engines(tmp_path / "hf")
    engines = {name: run for name, run in engines.items() if name[1] == "float32"}
    engines["transformers", "float32"] = decoding.transformers_engine(model)
    generator = torch.Generator().manual_seed(0)
    sources = [
        [*torch.randint(3, decoding.VOCAB, (length,), generator=generator).tolist(), decoding.END]
        for length in (3, 7, 5)
    ]
    results = decoding.measure(engines, sources, [1, 2], 6, 1, time.perf_counter)
    assert [result.equal for result in results] == [1.0] * 4
    assert all(result.tokens_per_second > 0 for result in results)


def test_an_engine_computes_on_the_threads_that_were_asked_for():
    before = torch.get_num_threads()

    def count(sources, beam, length):
        return [[torch.get_num_threads()]]

    try:
        engine = decoding.on_threads(count, 3)
        torch.set_num_threads(1)  # as CTranslate2 does
        assert engine([], 1, 1) == [[3]]
    finally:
        torch.set_num_threads(before)
