"""Folders of `transformers` read, and folders written for it: equal logits in both directions."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from regard.errors import ConfigError
from regard.hub.hugging_face.published_folder import read_hugging_face, write_hugging_face
from regard.models import CHECKPOINT_FORMATS
from regard.models.gpt.model import Gpt, GptConfig

VOCAB = 40
GPT2 = {"norm_kind": "layer", "activation": "gelu", "bias": True, "positions": "learned"}
SEEDS = range(8)


@pytest.fixture(scope="module")
def transformers(transformers):
    return SimpleNamespace(
        GPT2Config=transformers.GPT2Config,
        GPT2LMHeadModel=transformers.GPT2LMHeadModel,
        LlamaConfig=transformers.LlamaConfig,
        LlamaForCausalLM=transformers.LlamaForCausalLM,
        MistralConfig=transformers.MistralConfig,
        Qwen2Config=transformers.Qwen2Config,
        Qwen3Config=transformers.Qwen3Config,
        GPTNeoXConfig=transformers.GPTNeoXConfig,
        GPTNeoConfig=transformers.GPTNeoConfig,
        OPTConfig=transformers.OPTConfig,
        Olmo2Config=transformers.Olmo2Config,
        Phi3Config=transformers.Phi3Config,
        GemmaConfig=transformers.GemmaConfig,
        Gemma2Config=transformers.Gemma2Config,
        Gemma3TextConfig=transformers.Gemma3TextConfig,
        AutoModelForCausalLM=transformers.AutoModelForCausalLM,
        AutoTokenizer=transformers.AutoTokenizer,
    )


def enlarge(model: torch.nn.Module, seed: int) -> None:
    """Give weights and norms such sizes that a wrong activation or norm shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.add_(0.5 * noise)  # norms about 1, biases about 0
            else:
                parameter.copy_(1.5 * noise / min(parameter.shape) ** 0.5)


def gpt2(transformers, seed: int, **changes):
    draw = random.Random(seed)
    heads = draw.choice([1, 2, 4])
    sizes = {
        "vocab_size": VOCAB,
        "n_positions": 32,
        "n_embd": heads * draw.choice([6, 8]),
        "n_layer": draw.choice([1, 2, 3]),
        "n_head": heads,
        "n_inner": draw.choice([None, 20]),
        "activation_function": draw.choice(["gelu_new", "gelu", "relu", "gelu_pytorch_tanh"]),
        "layer_norm_epsilon": draw.choice([1e-5, 1e-2]),
        "tie_word_embeddings": draw.choice([True, False]),
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes | changes)).eval()
    enlarge(model, seed)
    return model


def llama_sizes(draw: random.Random) -> dict:
    heads = draw.choice([2, 4, 6])
    return {
        "vocab_size": VOCAB,
        "hidden_size": heads * draw.choice([4, 8]),
        "num_hidden_layers": draw.choice([1, 2, 3]),
        "num_attention_heads": heads,
        "num_key_value_heads": draw.choice([1, 2, heads]),
        "intermediate_size": draw.choice([20, 32]),
        "rms_norm_eps": draw.choice([1e-6, 1e-2]),
        "tie_word_embeddings": draw.choice([True, False]),
        "rope_parameters": {"rope_type": "default", "rope_theta": draw.choice([100.0, 1e4, 1e6])},
    }


def decoder(transformers, config, seed: int):
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    enlarge(model, seed)
    return model


def llama(transformers, seed: int, **changes):
    draw = random.Random(seed)
    sizes = llama_sizes(draw) | {
        "head_dim": draw.choice([None, 6]),
        "attention_bias": draw.choice([True, False]),
        "mlp_bias": draw.choice([True, False]),
    }
    return decoder(transformers, transformers.LlamaConfig(**sizes | changes), seed)


def mistral(transformers, seed: int, **changes):
    draw = random.Random(seed)
    sizes = llama_sizes(draw) | {
        "head_dim": draw.choice([None, 6, 10]),
        "sliding_window": draw.choice([None, 1, 3, 7, 40]),
    }
    return decoder(transformers, transformers.MistralConfig(**sizes | changes), seed)


def windows(draw: random.Random, num_layers: int) -> dict:
    kinds = ["full_attention", "sliding_attention"]
    return {
        "use_sliding_window": draw.choice([True, False]),
        "sliding_window": draw.choice([1, 2, 5, 8]),
        "max_window_layers": draw.choice([0, 1, 2]),
    } | draw.choice(
        [
            {},
            {"use_sliding_window": True, "layer_types": draw.choices(kinds, k=num_layers)},
        ]
    )


def qwen2(transformers, seed: int, **changes):
    draw = random.Random(seed)
    sizes = llama_sizes(draw)
    sizes |= windows(draw, sizes["num_hidden_layers"])
    return decoder(transformers, transformers.Qwen2Config(**sizes | changes), seed)


def qwen3(transformers, seed: int, **changes):
    draw = random.Random(seed)
    sizes = llama_sizes(draw)
    sizes |= windows(draw, sizes["num_hidden_layers"])
    sizes |= {"head_dim": draw.choice([6, 10]), "attention_bias": draw.choice([True, False])}
    return decoder(transformers, transformers.Qwen3Config(**sizes | changes), seed)


def gpt_neox(transformers, seed: int, **changes):
    draw = random.Random(seed)
    heads, fraction = draw.choice([(2, 0.25), (3, 0.5), (4, 1.0)])
    sizes = {
        "vocab_size": VOCAB,
        "hidden_size": 8 * heads,
        "num_hidden_layers": draw.choice([1, 2, 3]),
        "num_attention_heads": heads,
        "intermediate_size": draw.choice([20, 32]),
        "hidden_act": draw.choice(["gelu", "gelu_new", "relu"]),
        "layer_norm_eps": draw.choice([1e-5, 1e-2]),
        "tie_word_embeddings": draw.choice([True, False]),
        "use_parallel_residual": draw.choice([True, True, False]),
        "attention_bias": draw.choice([True, True, False]),
        "rotary_pct": fraction,
        "rotary_emb_base": draw.choice([100, 10000]),
    }
    return decoder(transformers, transformers.GPTNeoXConfig(**sizes | changes), seed)


def gpt_neo(transformers, seed: int, **changes):
    draw = random.Random(seed)
    heads = draw.choice([1, 2, 3])
    kinds = draw.choice([[["global", "local"], 1], [["local"], 3], [["global"], 2]])
    sizes = {
        "vocab_size": VOCAB,
        "max_position_embeddings": 32,
        "hidden_size": 6 * heads,
        "num_layers": len(kinds[0]) * kinds[1],
        "num_heads": heads,
        "intermediate_size": draw.choice([None, 20]),
        "attention_types": [kinds],
        "window_size": draw.choice([1, 3, 8]),
        "activation_function": draw.choice(["gelu_new", "relu"]),
        "layer_norm_epsilon": draw.choice([1e-5, 1e-2]),
        "tie_word_embeddings": draw.choice([True, False]),
    }
    return decoder(transformers, transformers.GPTNeoConfig(**sizes | changes), seed)


def opt(transformers, seed: int, **changes):
    draw = random.Random(seed)
    heads = draw.choice([1, 2, 4])
    sizes = {
        "vocab_size": VOCAB,
        "max_position_embeddings": 32,
        "hidden_size": 6 * heads,
        "ffn_dim": draw.choice([12, 20]),
        "num_hidden_layers": draw.choice([1, 2, 3]),
        "num_attention_heads": heads,
        "activation_function": draw.choice(["relu", "gelu"]),
        "enable_bias": draw.choice([True, True, False]),
        "tie_word_embeddings": draw.choice([True, False]),
    }
    return decoder(transformers, transformers.OPTConfig(**sizes | changes), seed)


def olmo2(transformers, seed: int, **changes):
    draw = random.Random(seed)
    sizes = llama_sizes(draw) | {"attention_bias": draw.choice([True, False])}
    return decoder(transformers, transformers.Olmo2Config(**sizes | changes), seed)


def phi3(transformers, seed: int, **changes):
    draw = random.Random(seed)
    sizes = llama_sizes(draw) | {
        "sliding_window": draw.choice([None, 1, 3, 7, 40]),
        "pad_token_id": None,
    }
    sizes["rope_parameters"]["partial_rotary_factor"] = draw.choice([0.5, 1.0])
    return decoder(transformers, transformers.Phi3Config(**sizes | changes), seed)


def gemma(transformers, seed: int, **changes):
    draw = random.Random(seed)
    sizes = llama_sizes(draw) | {
        "head_dim": draw.choice([6, 10]),
        "attention_bias": draw.choice([True, False]),
        "hidden_act": draw.choice(["gelu_pytorch_tanh", "gelu"]),
    }
    return decoder(transformers, transformers.GemmaConfig(**sizes | changes), seed)


def gemma2_sizes(draw: random.Random) -> dict:
    sizes = llama_sizes(draw)
    kinds = ["full_attention", "sliding_attention"]
    return sizes | {
        "head_dim": draw.choice([6, 10]),
        "attention_bias": draw.choice([True, False]),
        "hidden_activation": draw.choice(["gelu_pytorch_tanh", "gelu"]),
        "query_pre_attn_scalar": draw.choice([3, 24]),
        "final_logit_softcapping": draw.choice([None, 0.5, 2.0]),
        "sliding_window": draw.choice([1, 2, 5, 8]),
        "layer_types": draw.choice([None, draw.choices(kinds, k=sizes["num_hidden_layers"])]),
    }


def gemma2(transformers, seed: int, **changes):
    draw = random.Random(seed)
    sizes = gemma2_sizes(draw) | {"attn_logit_softcapping": draw.choice([None, 0.5, 2.0])}
    return decoder(transformers, transformers.Gemma2Config(**sizes | changes), seed)


def gemma3_text(transformers, seed: int, **changes):
    draw = random.Random(seed)
    rope = {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000.0}
    sizes = gemma2_sizes(draw) | {
        "rope_parameters": {
            "full_attention": draw.choice([rope, {"rope_type": "default", "rope_theta": 1e5}]),
            "sliding_attention": {"rope_type": "default", "rope_theta": draw.choice([50.0, 1e4])},
        }
    }
    return decoder(transformers, transformers.Gemma3TextConfig(**sizes | changes), seed)


MAKERS = {
    "gpt2": gpt2,
    "llama": llama,
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gpt_neox": gpt_neox,
    "gpt_neo": gpt_neo,
    "opt": opt,
    "olmo2": olmo2,
    "phi3": phi3,
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3_text": gemma3_text,
}


@pytest.fixture(params=MAKERS)
def make(request, transformers):
    return lambda seed, **changes: MAKERS[request.param](transformers, seed, **changes)


def drawn_ids(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCAB, (2, random.Random(seed).randint(1, 30)), generator=generator)


def read(folder: Path) -> Gpt:
    published = read_hugging_face(folder)
    model = Gpt(published.config, published.vocab_size).eval()
    published.load_into(model)
    return model


def assert_equal_logits(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 1e-4 * float(theirs.std())


@torch.no_grad()
def assert_equal_models(ours: Gpt, theirs, seed: int) -> None:
    ids = drawn_ids(seed)
    assert_equal_logits(ours(ids), theirs(ids).logits)


@torch.no_grad()
def steps(model: Gpt, ids: torch.Tensor, num_prompt: int) -> torch.Tensor:
    """Return the logits from the last position of a prompt on, one token after the other."""
    state = model.init_state()
    logits = [model.decode_step(ids[:, :num_prompt], state)]
    rest = ids[:, num_prompt:].split(1, dim=1)
    logits += [model.decode_step(token, state) for token in rest]
    return torch.stack(logits, dim=1)


@torch.no_grad()
@pytest.mark.parametrize("num_keys", [4, 5, 6])
@pytest.mark.parametrize("model_type", ["mistral", "qwen2", "qwen3"])
def test_a_window_lets_a_token_see_as_many_as_in_transformers(
    model_type, num_keys, transformers, tmp_path
):
    # The first token matters to the last one of a layer as long as the window reaches it.
    variant = {"use_sliding_window": True, "max_window_layers": 0, "layer_types": None}
    theirs = MAKERS[model_type](
        transformers,
        0,
        sliding_window=5,
        num_hidden_layers=1,
        **(variant if model_type != "mistral" else {}),
    )
    theirs.save_pretrained(tmp_path)
    ours, ids = read(tmp_path), torch.arange(2 * num_keys).view(2, -1) % VOCAB
    others = ids.clone()
    others[:, 0] = 30
    expected = theirs(ids).logits
    is_seen = not torch.equal(ours(ids)[:, -1], ours(others)[:, -1])
    assert_equal_logits(ours(ids), expected)
    assert_equal_logits(steps(ours, ids, 2), expected[:, 1:])
    assert is_seen == (num_keys <= 5)


@torch.no_grad()
@pytest.mark.parametrize("model_type", ["mistral", "qwen2", "qwen3"])
def test_a_padded_batch_has_its_logits(model_type, transformers, tmp_path):
    theirs = MAKERS[model_type](transformers, 1, sliding_window=3)
    theirs.save_pretrained(tmp_path)
    ids, lengths = torch.randint(VOCAB, (3, 9)), torch.tensor([9, 4, 1])
    is_token = torch.arange(9) < lengths[:, None]
    expected = theirs(ids, attention_mask=is_token.long()).logits
    assert_equal_logits(read(tmp_path)(ids, lengths=lengths)[is_token], expected[is_token])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_published_model_has_its_logits_here(make, seed, tmp_path):
    theirs = make(seed)
    theirs.save_pretrained(tmp_path)
    assert_equal_models(read(tmp_path), theirs, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_exported_model_has_its_logits_in_transformers(make, seed, tmp_path, transformers):
    make(seed).save_pretrained(tmp_path / "first")
    published = read_hugging_face(tmp_path / "first")
    ours = read(tmp_path / "first")
    written_format, out = CHECKPOINT_FORMATS[published.model_type], tmp_path / "second"
    write_hugging_face(out, ours, published.config, written_format, VOCAB)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        out, output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_equal_models(ours, theirs.eval(), seed)


def test_what_is_exported_comes_back_exactly(make, tmp_path):
    make(3).save_pretrained(tmp_path / "first")
    published = read_hugging_face(tmp_path / "first")
    written_format, ours = CHECKPOINT_FORMATS[published.model_type], read(tmp_path / "first")
    write_hugging_face(tmp_path / "second", ours, published.config, written_format, VOCAB)
    again = read_hugging_face(tmp_path / "second")
    assert again.config == published.config
    assert torch.equal(read(tmp_path / "second")(drawn_ids(3)), ours(drawn_ids(3)))


def test_shards_are_read_together(make, tmp_path):
    theirs = make(1)
    theirs.save_pretrained(tmp_path, max_shard_size=4000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_equal_models(read(tmp_path), theirs, 1)


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_a_bare_model_is_read_without_its_head(make, seed, tmp_path):
    theirs = make(seed, tie_word_embeddings=True)
    theirs.base_model.save_pretrained(tmp_path)
    assert_equal_models(read(tmp_path), theirs, seed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_read_as_float32(make, dtype, tmp_path, transformers):
    make(2).to(dtype).save_pretrained(tmp_path)
    ours = read(tmp_path)
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert_equal_models(ours, opened.eval(), 2)


def test_weights_of_eight_bits_are_read_as_their_numbers(make, tmp_path):
    make(2).save_pretrained(tmp_path)
    before = read(tmp_path).state_dict()
    path = tmp_path / "model.safetensors"
    tensors = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    after = read(tmp_path).state_dict()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor.to(torch.float8_e4m3fn).float())


def test_the_old_form_of_rotary_settings_is_read(transformers, tmp_path):
    theirs = llama(transformers, 4)
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text())
    fields |= {"rope_theta": fields.pop("rope_parameters")["rope_theta"], "rope_scaling": None}
    path.write_text(json.dumps(fields))
    assert_equal_models(read(tmp_path), theirs, 4)


@pytest.mark.parametrize(
    ("seed", "name", "value"),
    [(0, "activation_function", "gelu"), (0, "layer_norm_epsilon", 1e-3)],
)
def test_a_wrong_activation_or_norm_would_show(transformers, seed, name, value, tmp_path):
    theirs = gpt2(transformers, seed, activation_function="gelu_new")
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(AssertionError):
        assert_equal_models(read(tmp_path), theirs, seed)


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_a_new_model_of_ours_opens_in_transformers(model_type, tmp_path, transformers):
    variant = {} if model_type == "llama" else GPT2
    config = GptConfig(num_layers=2, dim=16, num_heads=2, hidden_dim=24, dropout=0.0, **variant)
    model = Gpt(config, VOCAB).eval()
    enlarge(model, 5)
    write_hugging_face(tmp_path, model, config, CHECKPOINT_FORMATS[model_type], VOCAB)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert_equal_models(model, theirs, 5)


def test_the_conversion_that_is_advised_works(transformers, tmp_path):
    theirs = llama(transformers, 6)
    theirs.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    opened = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    opened.save_pretrained(tmp_path, safe_serialization=True)
    assert_equal_models(read(tmp_path), theirs, 6)


def test_an_exported_tokenizer_opens_in_transformers(transformers, tmp_path):
    from regard.data.tokenizer import Tokenizer, TokenizerConfig
    from regard.hub.hugging_face.published_tokenizer import (
        read_tokenizer,
        vocabulary_files,
    )

    tokenizer = Tokenizer.train(["the red cat sees the old dog"] * 3, TokenizerConfig(kind="byte"))
    config = GptConfig(num_layers=1, dim=8, num_heads=2, hidden_dim=8)
    model, ids = Gpt(config, len(tokenizer)), tokenizer.special_ids
    written_format, files = CHECKPOINT_FORMATS["llama"], vocabulary_files(tokenizer)
    write_hugging_face(
        tmp_path, model, config, written_format, len(tokenizer), files=files, special_ids=ids
    )
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    expected = tokenizer.encode(["the naïve cat"])[0]
    assert theirs("the naïve cat", add_special_tokens=False).input_ids == expected
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (1, 2, 0)
    ours = read_tokenizer(tmp_path)
    assert ours.encode(["the naïve cat"]) == [expected]
    assert ours.special_ids == ids


def test_a_format_refuses_what_it_cannot_express(tmp_path):
    config = GptConfig(num_layers=1, dim=8, num_heads=2, hidden_dim=8)
    with pytest.raises(ConfigError) as caught:
        write_hugging_face(tmp_path, Gpt(config, 9), config, CHECKPOINT_FORMATS["gpt2"], 9)
    assert str(caught.value) == "model.positions=rotary: gpt2 checkpoints have learned only."
    assert not list(tmp_path.iterdir())
