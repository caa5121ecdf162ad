"""An export for CTranslate2 writes what the model writes, by the lines of its README alone."""

from __future__ import annotations

import errno
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.models.published_weights import spread
from tests.tasks.translation.published_bart import bart_folder
from tests.tasks.translation.published_marian import marian_folder
from tests.tasks.translation.published_pairs import ENGLISH, GERMAN
from tests.tasks.translation.published_pairs import TEXTS as PUBLISHED_TEXTS
from tests.tasks.translation.published_t5 import t5_folder

from regard.cli.wording import message_text
from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.errors import ConfigError, ResourceError
from regard.generation.beam_search_config import BeamSearchConfig
from regard.generation.sampling import SamplingConfig
from regard.hub import storage
from regard.hub.export import ctranslate2
from regard.layers.attention_config import AttentionConfig
from regard.layers.rotary_scaling import LinearScaling
from regard.models import GptConfig, LstmConfig, T5Config, TransformerConfig
from regard.runs.export_check import export_model
from regard.setup.config import DataConfig, RunConfig
from regard.tasks import task_named
from regard.tasks.opening import open_model

pytest.importorskip("ctranslate2")

TEXTS = ["7 red cat sees the tree", "</s> \n old  dog", "the red tree likes " * 5, "<x> Fluß"]
SIZES: dict[str, Any] = {"dim": 16, "num_heads": 4, "hidden_dim": 24}
PAIR = SIZES | {"num_encoder_layers": 2, "num_decoder_layers": 2}
GPT = SIZES | {"num_layers": 2}
SEARCH = BeamSearchConfig(ranking="transformers", stopping="first")
TRANSLATORS = {
    "pre-norm": {},
    "post-norm": {"norm": "post", "positions": "sinusoidal_halves", "has_output_bias": True},
    "bart": {
        "norm": "post",
        "positions": "learned",
        "position_offset": 2,
        "max_positions": 70,
        "has_embedding_norm": True,
        "activation": "gelu",
    },
    "rotary": {"positions": "rotary", "activation": "swiglu", "tied": "none"},
    "unscaled": {"has_embedding_scale": False, "activation": "silu", "tied": "target"},
}
GENERATORS: dict[str, Any] = {
    "llama": GptConfig(**GPT, num_kv_heads=2, epsilon=1e-2),
    "gpt2": GptConfig(
        **GPT,
        norm_kind="layer",
        activation="gelu_tanh",
        bias=True,
        positions="learned",
        max_positions=64,
    ),
    "norms of heads": GptConfig(**GPT, qk_norm=True, qkv_bias=True, num_kv_heads=1),
    "large heads": GptConfig(**GPT, head_dim=6, tied=False, bias=True, rotary_base=500.0),
    "transformer": TransformerConfig(**PAIR, norm="post", has_output_bias=True),
    "opt": GptConfig(
        **GPT,
        norm_kind="layer",
        activation="relu",
        bias=True,
        positions="learned",
        max_positions=64,
        position_offset=2,
    ),
    "neox": GptConfig(
        **GPT,
        norm_kind="layer",
        activation="gelu",
        bias=True,
        parallel_residual=True,
        rotary_fraction=0.5,
    ),
    "parallel": GptConfig(**GPT, parallel_residual=True),
    "gemma2": GptConfig(
        **GPT,
        norm="sandwich",
        norm_kind="zero_centered_rms",
        activation="geglu_tanh",
        has_embedding_scale=True,
        head_dim=6,
        query_pre_attn_scalar=9.0,
        logit_soft_cap=3.0,
    ),
    "gemma3": GptConfig(
        **GPT,
        norm="sandwich",
        qk_norm=True,
        window=(256, 0),
        local_rotary_base=100.0,
        rotary_scaling=LinearScaling(factor=8.0),
    ),
}
T5S: dict[str, Any] = {
    "t5": {"num_buckets": 8, "max_distance": 12, "head_dim": 6},
    "umt5": {"shares_buckets": False, "activation": "geglu_tanh", "tied": "inputs"},
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    config = TokenizerConfig(vocab_size=300, tags=("<x>",))
    return Tokenizer.train(TEXTS * 3, config)


def opened(
    task_name: str, config: Any, tokenizer: Tokenizer, *, num_unused: int = 0, **settings: Any
) -> Any:
    """Make a model of drawn weights with a vocabulary of our own, and rows of no token."""
    task = task_named(task_name)
    values = {"search": task.defaults.search, "data": DataConfig(max_length=60)} | settings
    run = RunConfig(task=task_name, model=config, **values)
    model = task.build(run, len(tokenizer) + num_unused)
    spread(model, gain=1.0)
    return task.predictor(model.eval(), tokenizer, run)


def translator(
    tokenizer: Tokenizer, search: BeamSearchConfig = SEARCH, num_unused: int = 0, **sizes: Any
) -> Any:
    config = TransformerConfig(**PAIR | sizes)
    return opened("translation", config, tokenizer, search=search, num_unused=num_unused)


def run_readme(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the lines of a README in its folder, and return the function that writes a text."""
    monkeypatch.chdir(folder)
    (code,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["write"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRANSLATORS)
def test_a_translator_is_equal_in_its_own_search(kind, tokenizer, tmp_path, monkeypatch):
    model = translator(tokenizer, **TRANSLATORS[kind])
    exported = export_model(model, tmp_path, "ctranslate2", texts=TEXTS)
    assert exported.model_type == "TransformerSpec"
    assert exported.peer_difference == pytest.approx(0, abs=1e-5)
    check = exported.texts
    assert (check.is_equal, check.num_texts, check.beam) == (True, 4, 1), check
    assert 0 < check.difference < 1e-5
    write = run_readme(tmp_path, monkeypatch)
    assert [write(text) for text in TEXTS] == model.translate(TEXTS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", T5S)
def test_biases_by_distance_are_equal(kind, tokenizer, tmp_path, monkeypatch):
    sizes = T5S[kind] | {"has_output_scale": kind == "t5"}
    search = replace(SEARCH, max_length=9)
    model = opened("translation", T5Config(**PAIR, **sizes), tokenizer, search=search)
    exported = export_model(model, tmp_path, "ctranslate2", texts=TEXTS)
    assert exported.peer_difference == pytest.approx(0, abs=1e-5)
    assert exported.texts.is_equal, exported.texts
    write = run_readme(tmp_path, monkeypatch)
    assert [write(text) for text in TEXTS] == model.translate(TEXTS)


@pytest.mark.slow
@pytest.mark.parametrize("has_pieces", [False, True])
def test_a_published_t5_writes_its_task_with_sentinels_in_texts(
    has_pieces, transformers, tmp_path, monkeypatch
):
    folder = t5_folder(transformers, tmp_path / "t5")
    if has_pieces:
        package, stream = pytest.importorskip("sentencepiece"), io.BytesIO()
        package.SentencePieceTrainer.train(
            sentence_iterator=iter([ENGLISH, GERMAN] * 5),
            model_writer=stream,
            vocab_size=36,
            minloglevel=2,
            **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
        )
        (folder / "spiece.model").write_bytes(stream.getvalue())
        (folder / "tokenizer.json").unlink()
    model: Any = open_model(folder, "cpu", task="summarization")
    texts = ["the <extra_id_0> sees <extra_id_1>.", "a red house: <extra_id_4>", "a </s> dog"]
    check = export_model(model, tmp_path / "new", "ctranslate2", texts=texts).texts
    assert (check.is_equal, check.num_texts) == (True, 3), check
    write = run_readme(tmp_path / "new", monkeypatch)
    same = [write(text) == own for text, own in zip(texts, model.summarize(texts), strict=True)]
    assert sum(same) == check.num_equal_beams


def test_texts_end_where_a_window_would_begin(tokenizer, tmp_path, monkeypatch):
    model = opened("language-modeling", GENERATORS["gemma3"], tokenizer)
    export_model(model, tmp_path, "ctranslate2")
    write = run_readme(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match="the prompt has 256 tokens or more"):
        write("the red tree likes " * 100)


@pytest.mark.slow
@pytest.mark.parametrize("kind", GENERATORS)
def test_a_language_model_is_equal(kind, tokenizer, tmp_path, monkeypatch):
    sampling = SamplingConfig(min_tokens=4)
    model = opened("language-modeling", GENERATORS[kind], tokenizer, sampling=sampling)
    exported = export_model(model, tmp_path, "ctranslate2", texts=TEXTS)
    assert exported.model_type == "TransformerDecoderSpec"
    assert exported.peer_difference == pytest.approx(0, abs=1e-5)
    assert exported.texts.is_equal, exported.texts
    write = run_readme(tmp_path, monkeypatch)
    for prompt in ("7 red", "a\n\n old", ""):
        own = model.generate(prompt, temperature=0, max_tokens=9).text
        assert write(prompt, max_tokens=9) == own
    assert write("7 red", max_tokens=9, sampling_topk=0, sampling_temperature=2.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "num_unused", "difference"),
    [
        ({"stopping": "certain"}, 0, ""),
        ({"stopping": "likely"}, 0, "ends a search by another rule"),
        ({"length_penalty": 0.0}, 0, "ends a search by another rule"),
        ({"ranking": "wu"}, 0, "ranks outputs by another function of their length"),
        ({"min_length": 3}, 0, "renormalises probabilities where tokens are not allowed"),
        ({}, 2, "renormalises probabilities where tokens are not allowed"),
    ],
)
def test_where_a_search_is_another_greedy_outputs_are_compared(
    changes, num_unused, difference, tokenizer, tmp_path
):
    model = translator(tokenizer, replace(SEARCH, **changes), num_unused)
    check = export_model(model, tmp_path, "ctranslate2", texts=TEXTS).texts
    assert (check.is_equal, check.search_difference) == (True, difference)
    assert check.beam == (4 if difference else 1)


@pytest.mark.slow
def test_rules_of_a_search_hold_in_the_lines_of_the_readme(tokenizer, tmp_path, monkeypatch):
    rules = {"no_repeat_size": 2, "repetition_penalty": 1.3, "min_length": 5, "max_length": 8}
    forbidden = tuple(range(40, 90))
    search = replace(SEARCH, beam=1, forbidden=forbidden, forced_first=95, **rules)
    model = translator(tokenizer, search, num_unused=12)
    assert export_model(model, tmp_path, "ctranslate2", texts=TEXTS).texts.is_equal
    write = run_readme(tmp_path, monkeypatch)
    assert [write(text) for text in TEXTS] == model.translate(TEXTS)
    first = len(tokenizer)
    unused = f'*([f"<unused {{n}}>"] for n in range({first}, {first + 12}))],'
    assert unused in Path("README.md").read_text()
    assert write("") == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["marian", "bart"])
def test_published_translators_are_equal(name, transformers, tmp_path, monkeypatch):
    folder = tmp_path / "hf"
    if name == "marian":
        marian_folder(transformers, pytest.importorskip("sentencepiece"), folder)
    else:  # whose outputs begin with a token, and are ended at their limits
        bart_folder(transformers, folder, forced_eos_token_id=2)
    model: Any = open_model(folder, "cpu")
    texts = [*PUBLISHED_TEXTS, ">>deu<< the  cat", ">>fra<< dog </s>"]
    check = export_model(model, tmp_path / "new", "ctranslate2", texts=texts).texts
    assert (check.is_equal, check.num_texts) == (True, 6), check
    write = run_readme(tmp_path / "new", monkeypatch)
    same = [write(text) == own for text, own in zip(texts, model.translate(texts), strict=True)]
    assert sum(same) == check.num_equal_beams


@pytest.mark.slow
def test_a_vocabulary_of_sentencepiece_alone_is_read(transformers, tmp_path, monkeypatch):
    package = pytest.importorskip("sentencepiece")
    stream = io.BytesIO()
    package.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 5),
        model_writer=stream,
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    vocab_size = len(package.SentencePieceProcessor(model_proto=stream.getvalue()))
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    config = transformers.LlamaConfig(vocab_size=vocab_size, num_attention_heads=4, **sizes)
    llama = transformers.LlamaForCausalLM(config)
    spread(llama, gain=1.0)
    llama.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "tokenizer.model").write_bytes(stream.getvalue())
    model: Any = open_model(tmp_path / "hf", "cpu")
    check = export_model(model, tmp_path / "new", "ctranslate2", texts=[*TEXTS, "a 北京"]).texts
    assert (check.is_equal, check.num_texts) == (True, 5), check
    write = run_readme(tmp_path / "new", monkeypatch)
    assert write("7 red", max_tokens=9) == model.generate("7 red", temperature=0, max_tokens=9).text


def test_every_id_has_a_token_of_its_own(tokenizer, tmp_path):
    export_model(translator(tokenizer, num_unused=3), tmp_path, "ctranslate2")
    tokens = json.loads((tmp_path / "shared_vocabulary.json").read_text())
    assert len(set(tokens)) == len(tokens) == len(tokenizer) + 3
    assert tokens[:3] == ["<pad>", "<s>", "</s>"]
    assert tokens[-1] == f"<unused {len(tokens) - 1}>"
    config = json.loads((tmp_path / "config.json").read_text())
    names = ("bos_token", "eos_token", "unk_token", "decoder_start_token")
    assert [config[name] for name in names] == ["<s>", "</s>", "<pad>", "<s>"]


@pytest.mark.slow
def test_tied_tables_are_written_once(tokenizer, tmp_path):
    sizes = []
    for tied in ("all", "none"):
        export_model(translator(tokenizer, tied=tied), tmp_path / tied, "ctranslate2")
        sizes.append((tmp_path / tied / "model.bin").stat().st_size)
    assert sizes[1] - sizes[0] == pytest.approx(2 * 4 * len(tokenizer) * 16, abs=200)


@pytest.mark.slow
def test_a_source_is_cut_where_positions_end(tokenizer, tmp_path, monkeypatch):
    learned = TRANSLATORS["bart"] | {"max_positions": 30}
    export_model(translator(tokenizer, **learned), tmp_path, "ctranslate2")
    write = run_readme(tmp_path, monkeypatch)
    assert isinstance(write("the red tree likes " * 100), str)


@pytest.mark.slow
@pytest.mark.parametrize(("ratio", "rows"), [(2.0, 1_024), (20.0, 1_230), (1e9, 32_768)])
def test_positions_are_enough_for_the_longest_outputs(ratio, rows, tokenizer, tmp_path):
    model = translator(tokenizer, replace(SEARCH, max_length_ratio=ratio))
    export_model(model, tmp_path, "ctranslate2")
    readme = (tmp_path / "README.md").read_text()
    assert f"There are {rows:,} positions: more tokens are refused." in readme
    assert ("32768)," in readme) == (ratio == 1e9)


REFUSED = [
    (
        "translation",
        TransformerConfig(**PAIR, has_copy=True),
        {},
        "model.has_copy=true: CTranslate2 has no copy mechanism.  A model that can be written is "
        "trained with `model.has_copy=false`.",
    ),
    (
        "translation",
        TransformerConfig(**PAIR),
        {"attention": AttentionConfig(encoder="local:3")},
        "attention encoder local:3, decoder full, cross full: CTranslate2 has no patterns, so "
        "others would compute full attention.  A model that can be written is trained with "
        "`attention.encoder=none`.",
    ),
    (
        "language-modeling",
        GptConfig(**GPT, window=7),
        {},
        "model.window=7: CTranslate2 reads a prompt without windows, so texts end where one would "
        "begin, at 256 tokens or more.  A model that can be written is trained with "
        "`model.window=0`.",
    ),
    (
        "language-modeling",
        GptConfig(**GPT, attention_soft_cap=2.0),
        {},
        "model.attention_soft_cap=2.0: CTranslate2 has no bound of scores; its own converter "
        "leaves it out.  A model that can be written is trained with "
        "`model.attention_soft_cap=none`.",
    ),
    (
        "translation",
        LstmConfig(dim=8, num_encoder_layers=1, num_decoder_layers=1),
        {},
        "model.family=lstm: CTranslate2 has Transformers alone.  A model that can be written is "
        "trained with `model.family=transformer` `model.has_copy=false`.",
    ),
    (
        "language-modeling",
        LstmConfig(dim=8, num_encoder_layers=1, num_decoder_layers=1),
        {},
        "model.family=lstm: CTranslate2 has Transformers alone.  A model that can be written is "
        "trained with `model.family=gpt`.",
    ),
    (
        "masked-language-modeling",
        TransformerConfig(**PAIR),
        {},
        "export: a model of texts that writes no texts, and here CTranslate2 has only models that "
        "do.",
    ),
]


@pytest.mark.parametrize(("task_name", "config", "settings", "message"), REFUSED)
def test_what_it_does_not_compute_is_refused_with_what_helps(
    task_name, config, settings, message, tokenizer, tmp_path
):
    model = opened(task_name, config, tokenizer, **settings)
    with pytest.raises(ConfigError) as caught:
        export_model(model, tmp_path / "new", "ctranslate2")
    assert str(caught.value) == message
    assert not (tmp_path / "new").exists()


def test_a_format_that_cannot_take_a_model_names_one_that_can(tokenizer, tmp_path):
    model = translator(tokenizer)
    model.folder = Path("ende")
    with pytest.raises(ConfigError, match=r"model\.positions=sinusoidal_halves") as caught:
        export_model(model, tmp_path)
    assert message_text("", caught.value.next_steps) == (
        "  For CTranslate2: regard export ende -o ende-ctranslate2 --to ctranslate2"
        "  For onnxruntime: regard export ende -o ende-onnx --to onnx"
        "  For PyTorch: regard export ende -o ende-torch --to torch"
    )
    with pytest.raises(ConfigError) as caught:
        export_model(translator(tokenizer, has_copy=True), tmp_path)
    assert [dict(step.settings)["to"] for step in caught.value.next_steps] == ["onnx", "torch"]
    assert str(caught.value).endswith(
        "`model.positions=sinusoidal_halves`.  For CTranslate2 (`to=ctranslate2`) it is enough: "
        "`model.has_copy=false`."
    )


def test_without_the_package_the_command_that_installs_it_is_named(
    tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(ConfigError, match=r"Install it: pip install 'regard\[ctranslate2\]'"):
        export_model(translator(tokenizer), tmp_path, "ctranslate2")
    assert not list(tmp_path.iterdir())


def fail(_: Path) -> None:
    raise OSError(errno.EIO, "failed")


@pytest.mark.slow
def test_a_full_disk_leaves_no_folder_that_looks_complete(tokenizer, tmp_path, monkeypatch):
    model = translator(tokenizer)
    export_model(model, tmp_path, "ctranslate2")
    with monkeypatch.context() as patch, pytest.raises(ResourceError, match="the disk is full"):
        patch.setattr(storage, "free_bytes", lambda _: 10.0)
        export_model(model, tmp_path / "new", "ctranslate2")
    assert not (tmp_path / "new" / "model.bin").exists()
    monkeypatch.setattr(ctranslate2, "force_to_disk", fail)
    with pytest.raises(ResourceError, match=r"model\.bin: cannot be written"):
        export_model(model, tmp_path, "ctranslate2")
    assert not (tmp_path / "model.bin").exists()
    assert not list(tmp_path.glob(".*"))
