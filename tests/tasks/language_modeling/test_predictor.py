"""Published decoders continue a prompt as ``transformers`` does."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.explain.predictors import text_generator
from tests.models.published_weights import spread
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

import regard
from regard.errors import ConfigError
from regard.tasks.language_modeling.predictor import sampling_config

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
        if kind != "llama":
            sizes |= {"num_key_value_heads": 1, "head_dim": 6}
            sizes |= {"sliding_window": 3, "use_sliding_window": True, "max_window_layers": 1}
        config = transformers.AutoConfig.for_model(kind, intermediate_size=24, **sizes, **common)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    spread(model, seed=seed)
    model.save_pretrained(folder)
    return model


def load(folder: Path) -> Any:
    return regard.load(folder)


def theirs(transformers: Any, folder: Path, prompt: str, **options: Any) -> tuple[int, str]:
    """Continue a prompt greedily by `transformers`: tokens written, special ones left out, text."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    options = {"do_sample": False, "max_new_tokens": NEW_TOKENS} | options
    inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    rows = model.generate(
        **inputs,
        **{name: value for name, value in options.items() if value is not None},
        pad_token_id=tokenizer.eos_token_id,
    )
    new = rows[0, inputs["input_ids"].shape[1] :].tolist()
    num_written = sum(token not in tokenizer.all_special_ids for token in new)
    return num_written, tokenizer.decode(new, skip_special_tokens=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "begins"),
    [
        ("gpt2", False),
        ("llama", True),
        ("llama", False),
        ("qwen2", False),
        ("qwen3", False),
        ("gemma2", True),
        ("gemma3_text", False),
    ],
)
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


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_an_end_of_the_text_is_written_and_a_special_one_is_not(kind, transformers, tmp_path):
    publish(transformers, tmp_path, kind, begins=False)
    plain = load(tmp_path).generate("the cat", max_tokens=NEW_TOKENS, temperature=0)
    tokenizer = load(tmp_path).tokenizer
    ids = tokenizer.encode([plain.text])[0]
    configure(tmp_path, eos_token_id=[1, ids[2]])
    opened = load(tmp_path)
    found = opened.generate("the cat", max_tokens=NEW_TOKENS, temperature=0)
    written = ids[: ids.index(ids[2]) + 1]
    assert (found.num_tokens, found.text) == (len(written), tokenizer.decode_text(written))
    assert (found.num_tokens, found.text) == theirs(transformers, tmp_path, "the cat")
    assert found.is_complete
    pieces = list(opened.stream("the cat", max_tokens=NEW_TOKENS, temperature=0))
    assert "".join(pieces) == found.text
    end = tokenizer.decode_text([ids[2]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stopped = opened.generate("the cat", max_tokens=NEW_TOKENS, temperature=0, stop=end)
        assert stopped.text == found.text.partition(end)[0]
        stopped_pieces = opened.stream("the cat", max_tokens=NEW_TOKENS, temperature=0, stop=end)
        assert "".join(stopped_pieces) == stopped.text
    message = 'nothing is written after "the cat": the text ends there.'
    assert {str(warning.message) for warning in caught} == (set() if stopped.text else {message})


def test_an_empty_prompt_needs_a_token_that_begins_a_text(transformers, tmp_path):
    publish(transformers, tmp_path, "gpt2", begins=False)
    opened = load(tmp_path)
    assert opened.tokenizer.document_start == [0]
    torch.manual_seed(1)
    assert opened.generate("", max_tokens=3, temperature=0).num_tokens <= 3
    tokenizer = opened.tokenizer
    tokenizer.special_ids.clear()
    tokenizer.first_id = None
    tokenizer.bos_id = tokenizer.eos_id = tokenizer.end_id = tokenizer.newline_id = None
    with pytest.raises(ConfigError, match="the prompt is empty"):
        opened.generate("")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (None, "prompts: a text or a list of texts was expected, not NoneType."),
        (3, "prompts: a text or a list of texts was expected, not int."),
        (b"the", "prompts: a text or a list of texts was expected, not bytes."),
        ([["the"]], "prompts[0]: a text was expected, not list."),
        (["the", None], "prompts[1]: a text was expected, not NoneType."),
    ],
)
def test_a_prompt_that_is_no_text_is_refused(prompt, message):
    generator = text_generator()
    with pytest.raises(ConfigError) as error:
        generator.generate(prompt, max_tokens=1)
    assert str(error.value) == message
    with pytest.raises(ConfigError, match=r"prompt\[0\]: a text was expected, not"):
        next(generator.stream(prompt, max_tokens=1))
    with pytest.raises(ConfigError, match="num must be a whole number, 1 to 1,000, not None"):
        generator.generate("the", num=None)


def test_an_empty_stop_text_is_refused():
    generator = text_generator()
    with pytest.raises(ConfigError, match="`stop` must have a character at least"):
        generator.generate("the", stop="")
    with pytest.raises(ConfigError, match="`stop` must have a character at least"):
        next(generator.stream("the", stop=""))


def configure(folder: Path, **fields: Any) -> None:
    """Change ``generation_config.json``."""
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.fixture(scope="module")
def published(transformers, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gpt2")
    publish(transformers, folder, "gpt2", begins=False)
    return folder


@pytest.fixture
def gpt2(published, tmp_path) -> Path:
    """A GPT-2 whose settings of generation a test may change."""
    shutil.copytree(published, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize(
    "fields",
    [
        {"repetition_penalty": 3.0},
        {"repetition_penalty": 0.4},
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2, "repetition_penalty": 1.3},
        {"suppress_tokens": "those of the plain text"},
        {"bad_words_ids": [[number] for number in range(20, 40)]},
        {"eos_token_id": "those of the plain text", "min_new_tokens": 4},
        {"max_new_tokens": 3},
    ],
)
def test_a_greedy_continuation_follows_the_settings_of_generation(fields, gpt2, transformers):
    plain = load(gpt2).generate("the cat", max_tokens=NEW_TOKENS, temperature=0)
    used = sorted(set(load(gpt2).tokenizer.encode([plain.text])[0]))
    fields = {name: used if isinstance(value, str) else value for name, value in fields.items()}
    configure(gpt2, do_sample=False, **{"max_new_tokens": NEW_TOKENS} | fields)
    found = load(gpt2).generate("the cat")
    own = dict.fromkeys(("do_sample", "max_new_tokens"))
    assert (found.num_tokens, found.text) == theirs(transformers, gpt2, "the cat", **own)
    assert found.text != plain.text


def test_the_longest_text_counts_the_prompt_as_in_transformers(gpt2, transformers):
    configure(gpt2, do_sample=False, max_length=9, eos_token_id=None)
    own = {"do_sample": None, "max_new_tokens": None}
    found = load(gpt2).generate("the cat")
    assert (found.num_tokens, found.text) == theirs(transformers, gpt2, "the cat", **own)
    assert load(gpt2).generate("the cat", max_tokens=20).num_tokens == 20
    with pytest.raises(ConfigError, match="9 at most"):
        load(gpt2).generate("the red cat sees the old dog by the river" * 2)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (1.0, 0, 1.0, 200)),
        ({"do_sample": True}, (1.0, 50, 1.0, 200)),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9}, (0.6, 50, 0.9, 200)),
        ({"do_sample": True, "top_k": 0, "max_new_tokens": 7}, (1.0, 0, 1.0, 7)),
        ({"do_sample": False, "temperature": 0.6}, (0.0, 0, 1.0, 200)),
        ({"temperature": 0.6, "top_k": 3}, (0.6, 3, 1.0, 200)),
    ],
)
def test_sampling_is_that_of_the_folder_unless_asked_otherwise(fields, expected, gpt2):
    configure(gpt2, **fields)
    sampling = load(gpt2).config.sampling
    named = (sampling.temperature, sampling.top_k, sampling.top_p, sampling.max_tokens)
    assert named == expected
    changed = sampling_config({"temperature": 2.0, "top_p": None}, sampling)
    assert (changed.temperature, changed.top_p) == (2.0, expected[2])


def test_a_number_of_tokens_to_choose_from_makes_a_greedy_folder_sample(gpt2):
    configure(gpt2, do_sample=False)
    sampling = load(gpt2).config.sampling
    assert sampling_config({"top_k": 5}, sampling).temperature == 1.0
    assert sampling_config({"top_k": 5, "temperature": 0.0}, sampling).temperature == 0.0


@pytest.mark.parametrize(
    "fields",
    [
        {"num_beams": 4},
        {"min_length": 3},
        {"typical_p": 0.5},
        {"min_p": 0.1},
        {"token_healing": True},
        {"forced_eos_token_id": 1},
        {"stop_strings": ["x"]},
        {"penalty_alpha": 0.6},
        {"bad_words_ids": [[1, 2]]},
        {"suppress_tokens": ["x"]},
        {"temperature": "hot"},
        {"temperature": 1e9},
        {"top_p": 1.5},
    ],
)
def test_what_no_sampling_here_does_is_refused_by_its_name(fields, gpt2):
    configure(gpt2, **fields)
    with pytest.raises(ConfigError, match=f"generation_config.json: .*{next(iter(fields))}"):
        load(gpt2)


def test_forbidden_and_special_tokens_without_a_row_are_left_out_with_a_warning(gpt2):
    configure(gpt2, eos_token_id=[1, 50256], suppress_tokens=[3, 70_000])
    with pytest.warns(UserWarning) as caught:
        opened = load(gpt2)
    texts = [str(entry.message) for entry in caught]
    assert sum("forbidden tokens 70000 left out" in text for text in texts) == 1
    assert sum("eos_token_id=50256 left out" in text for text in texts) == 1
    assert opened.tokenizer.stop_ids == {1}
    assert opened.config.sampling.forbidden == (3,)


def test_a_text_without_a_prompt_begins_as_the_settings_of_generation_say(gpt2):
    configure(gpt2, bos_token_id=5)
    assert load(gpt2).tokenizer.document_start == [5]
    configure(gpt2, bos_token_id=None)
    assert load(gpt2).tokenizer.document_start == [0]


def test_what_follows_a_prompt_is_what_transformers_puts_there(gpt2, transformers):
    path = gpt2 / "tokenizer.json"
    backend = Backend.from_file(str(path))
    ends = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    backend.post_processor = ends
    backend.save(str(path))
    configure(gpt2, eos_token_id=2)
    found = load(gpt2).generate("the cat", max_tokens=NEW_TOKENS, temperature=0)
    assert (found.num_tokens, found.text) == theirs(transformers, gpt2, "the cat")


def test_a_text_ends_where_the_table_of_positions_ends(transformers, tmp_path):
    rows = write_vocabulary(tmp_path, begins=False)
    config = transformers.GPT2Config(
        n_embd=16,
        n_head=2,
        n_layer=1,
        n_positions=8,
        vocab_size=rows,
        bos_token_id=0,
        eos_token_id=None,
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    opened = load(tmp_path)
    assert opened.config.data.max_length == 8
    num_prompt = len(opened.tokenizer.encode_prompt("the cat"))
    tokens = opened.generate("the cat", temperature=0).num_tokens
    assert tokens == 9 - num_prompt
    assert opened.generate("the cat", temperature=0, max_tokens=tokens).num_tokens == tokens
    with pytest.raises(ConfigError, match=f"8 positions.  Set `max_tokens` to {tokens} or less"):
        opened.generate("the cat", max_tokens=tokens + 1)
    with pytest.raises(ConfigError, match=r"this model has 8 positions\.$"):
        opened.generate("dodo" * 9)


def test_a_rotary_text_beyond_the_length_of_training_is_warned_of_once(transformers, tmp_path):
    publish(transformers, tmp_path, "llama", begins=True)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": 6}))
    configure(tmp_path, eos_token_id=None)
    opened = load(tmp_path)
    length = len(opened.tokenizer.encode_prompt("the"))
    assert opened.generate("the", max_tokens=6 - length).num_tokens == 6 - length
    with pytest.warns(UserWarning, match="longer than the 6 tokens of max_position_embeddings"):
        assert opened.generate("the", max_tokens=9).num_tokens == 9
