"""Published decoders continue a prompt as ``transformers`` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.published_weights import spread
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

import regard
from regard.errors import ConfigError

TEXTS = ["the red cat sees the old dog by the river"] * 3
NEW_TOKENS = 12


def write_vocabulary(folder: Path, *, begins: bool) -> int:
    """Write a byte-level vocabulary; return the number of its tokens."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=60, special_tokens=["<s>", "</s>"], show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    if begins:
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    folder.mkdir(exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}
    settings |= {"bos_token": "<s>"} if begins else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return backend.get_vocab_size()


def publish(transformers: Any, folder: Path, kind: str, *, begins: bool, seed: int = 1) -> Any:
    """Write a decoder with weights so large that every part shows."""
    rows = write_vocabulary(folder, begins=begins)
    common = {"vocab_size": rows, "bos_token_id": 0, "eos_token_id": 1}
    if kind == "gpt2":
        config = transformers.GPT2Config(n_embd=16, n_head=2, n_layer=2, **common)
        model = transformers.GPT2LMHeadModel(config).eval()
    else:
        sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
        config = transformers.LlamaConfig(intermediate_size=24, **sizes, **common)
        model = transformers.LlamaForCausalLM(config).eval()
    spread(model, seed=seed)
    model.save_pretrained(folder)
    return model


def load(folder: Path) -> Any:
    return regard.load(folder)


def theirs(transformers: Any, folder: Path, prompt: str) -> tuple[int, str]:
    """Continue a prompt greedily by `transformers`: tokens written, ends left out, and text."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    rows = model.generate(
        **inputs, do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=tokenizer.eos_token_id
    )
    new = rows[0, inputs["input_ids"].shape[1] :].tolist()
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    written = [token for token in new if token not in ends]
    return len(written), tokenizer.decode(written, skip_special_tokens=True)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "begins"), [("gpt2", False), ("llama", True), ("llama", False)])
@pytest.mark.parametrize("seed", range(3))
def test_a_greedy_continuation_is_that_of_transformers(kind, begins, seed, transformers, tmp_path):
    publish(transformers, tmp_path, kind, begins=begins, seed=seed)
    for prompt in ("the cat", " dog by", "river"):
        found = load(tmp_path).generate(prompt, max_tokens=NEW_TOKENS, temperature=0)
        expected = theirs(transformers, tmp_path, prompt)
        assert (found.num_tokens, found.text) == expected


def test_each_of_several_ends_stops(transformers, tmp_path):
    publish(transformers, tmp_path, "gpt2", begins=False)
    first = load(tmp_path).generate("the cat", max_tokens=NEW_TOKENS, temperature=0)
    ids = load(tmp_path).tokenizer.encode([first.text])[0]
    path = tmp_path / "generation_config.json"
    fields = json.loads(path.read_text()) | {"eos_token_id": [1, ids[4]]}
    path.write_text(json.dumps(fields))
    found = load(tmp_path).generate("the cat", max_tokens=NEW_TOKENS, temperature=0)
    assert found.is_complete
    assert (found.num_tokens, found.text) == theirs(transformers, tmp_path, "the cat")
    assert found.num_tokens < first.num_tokens


def test_an_empty_prompt_needs_a_token_that_begins_a_text(transformers, tmp_path):
    publish(transformers, tmp_path, "gpt2", begins=False)
    opened = load(tmp_path)
    assert opened.tokenizer.document_start == [0]
    torch.manual_seed(1)
    assert opened.generate("", max_tokens=3, temperature=0).num_tokens <= 3
    tokenizer = opened.tokenizer
    tokenizer.special_ids.clear()
    tokenizer.bos_id = tokenizer.eos_id = tokenizer.end_id = tokenizer.newline_id = None
    with pytest.raises(ConfigError, match="the prompt is empty"):
        opened.generate("")
