"""Hugging Face folders without `transformers`: what is refused, and every tensor in the way."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from regard.errors import ConfigError, RegardError, WeightsError
from regard.hub.hugging_face.published_folder import read_hugging_face, write_hugging_face
from regard.hub.hugging_face.recognize import is_hugging_face
from regard.hub.model_folder import load_weights
from regard.models import CHECKPOINT_FORMATS, INPUT_CHECKPOINT_FORMATS
from regard.models.gpt.model import Gpt, GptConfig
from regard.models.transformer.model import Transformer, TransformerConfig

VOCAB = 11
SUPPORTED = ", ".join(sorted(CHECKPOINT_FORMATS | INPUT_CHECKPOINT_FORMATS))
CONFIG = GptConfig(
    num_layers=1,
    dim=8,
    num_heads=2,
    hidden_dim=12,
    norm_kind="layer",
    activation="gelu_tanh",
    bias=True,
    positions="learned",
    max_positions=6,
)
WIDE = "transformer.h.0.mlp.c_fc.weight"  # [8, 12], the last of the file


@pytest.fixture
def folder(tmp_path) -> Path:
    """A GPT-2 of 16 tensors."""
    torch.manual_seed(0)
    path = tmp_path / "g"
    write_hugging_face(path, Gpt(CONFIG, VOCAB), CONFIG, CHECKPOINT_FORMATS["gpt2"], VOCAB)
    return path


def change_tensors(folder: Path, **changes) -> None:
    """Replace tensors, or leave out those that are None; a double underscore stands for a dot."""
    tensors = load_file(folder / "model.safetensors")
    tensors |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def change_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def shard(folder: Path) -> dict[str, str]:
    """Cut the one file into two shards; return the map of the index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, weight_map = sorted(tensors), {}
    for number, part in enumerate((names[:5], names[5:]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    write_index(folder, weight_map)
    return weight_map


def write_index(folder: Path, weight_map: object) -> None:
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def load(folder: Path) -> Gpt:
    published = read_hugging_face(folder)
    model = Gpt(published.config, published.vocab_size)
    published.load_into(model)
    return model


def refusal(folder: Path, kind: type[RegardError] = WeightsError) -> str:
    """Return the message of reading, with ``g`` for the folder."""
    with pytest.raises(kind) as caught:
        load(folder)
    return str(caught.value).replace(str(folder), "g")


# --- what is read ---------------------------------------------------------------------------------


def test_a_folder_comes_back_as_written(folder):
    torch.manual_seed(0)
    for (name, ours), back in zip(
        Gpt(CONFIG, VOCAB).named_parameters(), load(folder).parameters(), strict=True
    ):
        assert torch.equal(ours, back), name


def test_weights_by_our_names_fit_the_loader_of_own_folders(folder):
    published, model = read_hugging_face(folder), Gpt(CONFIG, VOCAB)
    load_weights(model, published.tensors(), name="g")
    for one, other in zip(model.parameters(), load(folder).parameters(), strict=True):
        assert torch.equal(one, other)


def test_shards_are_read_together(folder):
    whole = load(folder)
    shard(folder)
    for one, other in zip(whole.parameters(), load(folder).parameters(), strict=True):
        assert torch.equal(one, other)


def test_one_file_goes_before_shards_beside_it(folder):
    whole = load(folder)
    write_index(folder, {WIDE: "old.safetensors"})
    for one, other in zip(whole.parameters(), load(folder).parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_folder_is_recognised_by_its_config(folder, tmp_path):
    assert is_hugging_face(folder)
    assert not is_hugging_face(tmp_path)
    (folder / "config.toml").touch()
    assert not is_hugging_face(folder)


def test_masks_of_old_files_are_left_alone(folder):
    name, before = "transformer.h.0.attn.bias", load(folder).state_dict()
    change_tensors(folder, **{name: torch.ones(1, 1, 6, 6, dtype=torch.uint8)})
    torch.testing.assert_close(load(folder).state_dict(), before, rtol=0, atol=0)


def test_a_tied_table_may_stand_there_twice(folder):
    table = load_file(folder / "model.safetensors")["transformer.wte.weight"]
    change_tensors(folder, lm_head__weight=table.double())  # whatever its type
    assert torch.equal(load(folder).embedding.weight, table)


def test_code_that_a_folder_brings_is_never_run(folder):
    (folder / "modeling_evil.py").write_text("raise SystemExit('run!')")
    change_config(folder, auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    assert type(load(folder)) is Gpt


# --- tensors that do not fit ----------------------------------------------------------------------


def test_a_missing_tensor_is_named(folder):
    change_tensors(folder, **{WIDE: None})
    assert refusal(folder) == f"g/: tensor {WIDE} is missing (15 of 16 found)."


def test_every_missing_and_surplus_tensor_is_named(folder):
    change_tensors(
        folder, **{WIDE: None}, transformer__ln_f__bias=None, score__weight=torch.ones(2)
    )
    assert refusal(folder) == (
        f"g/: tensors {WIDE}, transformer.ln_f.bias are missing (14 of 16 found).  "
        "Tensor score.weight does not belong to this model."
    )


def test_names_of_a_bare_model_are_reported_as_its_file_has_them(folder):
    tensors = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file(bare, folder / "model.safetensors")
    load(folder)
    del bare["ln_f.bias"]
    save_file(bare | {"pooler": torch.ones(2)}, folder / "model.safetensors")
    assert refusal(folder) == (
        "g/: tensor ln_f.bias is missing (15 of 16 found).  "
        "Tensor pooler does not belong to this model."
    )


def test_every_mis_shaped_tensor_is_named(folder):
    change_tensors(folder, **{WIDE: torch.ones(12, 8)}, transformer__ln_f__bias=torch.ones(9))
    assert refusal(folder) == (
        f"g/: tensor {WIDE} has shape [12, 8], config.json says [8, 12].  "
        "Tensor transformer.ln_f.bias has shape [9], config.json says [8]."
    )


def test_each_part_of_a_stacked_parameter_is_checked(tmp_path):
    config = GptConfig(num_layers=1, dim=8, num_heads=2, hidden_dim=12)
    write_hugging_face(tmp_path, Gpt(config, VOCAB), config, CHECKPOINT_FORMATS["llama"], VOCAB)
    name = "model.layers.0.self_attn.k_proj.weight"
    change_tensors(tmp_path, **{name: torch.ones(4, 8)})
    message = f"g/: tensor {name} has shape [4, 8], config.json says [8, 8]."
    assert refusal(tmp_path) == message


def test_quantised_weights_are_refused(folder):
    change_tensors(folder, **{WIDE: torch.ones(8, 12, dtype=torch.int8)})
    assert refusal(folder) == (
        f"g/: tensor {WIDE} holds int8, floating-point numbers were expected."
    )


def test_a_table_that_differs_from_the_one_it_is_tied_to_is_refused(folder):
    change_tensors(folder, lm_head__weight=torch.ones(VOCAB, 8))
    assert refusal(folder) == (
        "g/: tensor lm_head.weight differs from transformer.wte.weight, "
        "to which config.json ties it (tie_word_embeddings)."
    )


@pytest.mark.parametrize("wrapper", ["_orig_mod.", "module.", "model.", "module._orig_mod."])
@pytest.mark.parametrize("is_bare", [False, True])
def test_what_a_training_loop_puts_before_all_names_is_left_out(folder, wrapper, is_bare):
    before = read_hugging_face(folder).tensors()
    tensors = load_file(folder / "model.safetensors")
    left_out = "transformer." if is_bare else ""
    wrapped = {wrapper + name.removeprefix(left_out): tensor for name, tensor in tensors.items()}
    save_file(wrapped, folder / "model.safetensors")
    after = read_hugging_face(folder).tensors()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_the_beginning_of_the_own_names_is_left_out_where_it_is_there_twice(tmp_path):
    config = GptConfig(num_layers=1, dim=8, num_heads=2, hidden_dim=12)
    write_hugging_face(tmp_path, Gpt(config, VOCAB), config, CHECKPOINT_FORMATS["llama"], VOCAB)
    before = read_hugging_face(tmp_path).tensors()
    tensors = load_file(tmp_path / "model.safetensors")
    twice = {f"model.{name}": tensor for name, tensor in tensors.items()}
    save_file(twice, tmp_path / "model.safetensors")
    after = read_hugging_face(tmp_path).tensors()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_tied_table_may_be_there_by_its_other_name_alone(folder):
    before = read_hugging_face(folder).tensors()["output_weight"]
    table = load_file(folder / "model.safetensors")["transformer.wte.weight"]
    change_tensors(folder, lm_head__weight=table, transformer__wte__weight=None)
    assert torch.equal(read_hugging_face(folder).tensors()["output_weight"], before)


def test_scales_of_quantized_weights_are_named_for_what_they_are(folder):
    scale = WIDE + "_scale_inv"
    change_tensors(folder, **{scale: torch.ones(1)})
    assert refusal(folder) == (
        f"g/: the tensors {scale} are of quantized weights, which are not computed here.  Take the "
        "original folder, with config.json and .safetensors."
    )


def test_weights_in_a_file_of_another_name_are_named(folder):
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")
    assert refusal(folder) == (
        "g/: has its weights in model.fp16.safetensors.  model.safetensors was expected, or "
        "several files that model.safetensors.index.json lists.  Rename a single file."
    )


def test_a_number_of_tokens_beyond_all_bounds_is_refused(folder):
    change_config(folder, vocab_size=2**70)
    assert refusal(folder, ConfigError) == (
        f"g/config.json: vocab_size={2**70}: a whole number of 1 or more was expected."
    )


def test_a_damaged_number_of_positions_fills_no_memory(tmp_path):
    config = TransformerConfig(num_encoder_layers=1, num_decoder_layers=1, dim=8, num_heads=2)
    config = msgspec.structs.replace(config, norm="pre", tied="all", has_output_bias=True)
    config = msgspec.structs.replace(config, positions="sinusoidal_halves", hidden_dim=12)
    model, path = Transformer(config, VOCAB), tmp_path / "g"
    write_hugging_face(path, model, config, CHECKPOINT_FORMATS["pegasus"], VOCAB)
    change_config(path, max_position_embeddings=10**12)
    assert refusal(path) == "g/config.json: its sizes are far larger than those of the weights."


def test_settings_of_single_layers_are_refused(folder):
    change_config(folder, per_layer_config={"0": {"layer_norm_epsilon": 0.5}})
    assert refusal(folder, ConfigError) == (
        'g/config.json: per_layer_config={"0": {"layer_norm_epsilon": 0.5}}: no such variant here, '
        "per_layer_config={} alone is computed."
    )


def test_a_model_without_its_untied_head_is_refused(folder):
    change_config(folder, tie_word_embeddings=False)
    assert refusal(folder) == "g/: tensor lm_head.weight is missing (16 of 17 found)."


# --- damaged files --------------------------------------------------------------------------------


def cut(path: Path, missing: int) -> tuple[int, int]:
    data = path.read_bytes()
    path.write_bytes(data[:-missing])
    return len(data) - missing, len(data)


def test_a_file_cut_short_names_the_first_tensor_that_is_lost(folder):
    tensors = load_file(folder / "model.safetensors")
    now, before = cut(folder / "model.safetensors", 1)
    assert refusal(folder) == (
        f"g/: tensor {last_of(folder / 'model.safetensors')} is missing "
        f"({len(tensors) - 1} of 16 found).  "
        f"File cut short? {now:,} bytes, header says {before:,} bytes."
    )


def last_of(path: Path) -> str:
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    header.pop("__metadata__", None)
    return max(header, key=lambda name: header[name]["data_offsets"][1])


def test_a_shard_cut_short_is_named(folder):
    shard(folder)
    path = folder / "model-00002-of-00002.safetensors"
    now, before = cut(path, 1)
    assert refusal(folder) == (
        f"g/: tensor {last_of(path)} is missing (10 of 11 found).  "
        f"{path.name} cut short? {now:,} bytes, header says {before:,} bytes."
    )


def test_large_files_are_reported_in_megabytes(folder):
    """The file is sparse: it takes no room on disk."""
    path, count = folder / "model.safetensors", 110_000_000
    entries = {
        "a": {"dtype": "F32", "shape": [count // 2], "data_offsets": [0, 2 * count]},
        "b": {"dtype": "F32", "shape": [count // 2], "data_offsets": [2 * count, 4 * count]},
    }
    header = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(281_000_000)
    assert refusal(folder) == (
        "g/: tensor b is missing (1 of 2 found).  File cut short? 281 MB, header says 440 MB."
    )


@pytest.mark.parametrize("size", [0, 7, 30])
def test_a_file_cut_within_its_header_is_refused(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert refusal(folder).startswith("g/model.safetensors: ")


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    assert refusal(folder) == (
        "g/: holds neither model.safetensors nor model.safetensors.index.json."
    )


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "last.ckpt"])
def test_a_pickle_is_refused_with_the_way_to_convert_it(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    (folder / "training_args.bin").write_bytes(b"")
    assert refusal(folder).startswith(
        f"g/: has its weights in {name} only, a pickle.  Opening one can run any program, so only "
        ".safetensors is read.  Convert a folder that you trust, with all its heads and biases:\n"
        '    python -c "import torch; from safetensors.torch import save_file; '
    )


# --- shards ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "", "a\\b", 3, None]
)
def test_a_shard_may_not_leave_the_folder(folder, name):
    weight_map = shard(folder) | {WIDE: name}
    write_index(folder, weight_map)
    assert refusal(folder) == (
        f"g/model.safetensors.index.json: the shard {json.dumps(name)} leaves the folder.  "
        "Expected the name of a file next to the index."
    )


def test_a_shard_that_is_a_pickle_is_refused(folder):
    write_index(folder, shard(folder) | {WIDE: "x.bin"})
    assert refusal(folder) == (
        'g/model.safetensors.index.json: the shard "x.bin" is not a safetensors file.  '
        "Expected the name of a .safetensors file."
    )


def test_a_missing_shard_is_named(folder):
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert refusal(folder) == (
        "g/: model-00002-of-00002.safetensors missing (1 of 2 shards found)."
    )


def test_a_tensor_in_two_shards_is_refused(folder):
    shard(folder)
    path = folder / "model-00002-of-00002.safetensors"
    twice = "transformer.h.0.attn.c_attn.bias"
    save_file(load_file(path) | {twice: torch.ones(24)}, path)
    assert refusal(folder) == f"g/: tensor {twice} is in two shards."


@pytest.mark.parametrize("weight_map", [None, {}, ["x"]])
def test_an_index_without_a_map_is_refused(folder, weight_map):
    (folder / "model.safetensors").unlink()
    write_index(folder, weight_map)
    assert refusal(folder) == (
        "g/model.safetensors.index.json: holds no weight_map, which names the shard of each tensor."
    )


# --- the configuration ----------------------------------------------------------------------------


def test_an_unknown_model_type_is_refused_with_those_that_are_known(folder):
    change_config(folder, model_type="mamba")
    assert refusal(folder, ConfigError) == (
        f'g/config.json: model_type="mamba" cannot be read.  Supported: {SUPPORTED}.'
    )


def test_the_error_for_a_model_type_with_code_of_its_own_says_that_it_is_not_run(folder):
    change_config(folder, model_type="evil", auto_map={"AutoModel": "modeling_evil.Evil"})
    assert refusal(folder, ConfigError) == (
        'g/config.json: model_type="evil" cannot be read.  '
        f"Supported: {SUPPORTED}.  "
        "Its own code (auto_map) is never run."
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": None}, "vocab_size=null: a whole number of 1 or more was expected."),
        ({"vocab_size": True}, "vocab_size=true: a whole number of 1 or more was expected."),
        ({"n_head": 3}, "dim must be a multiple of num_heads (3), not 8."),
        (
            {"scale_attn_weights": False},
            "scale_attn_weights=false: no such variant here, "
            "scale_attn_weights=true alone is computed.",
        ),
    ],
    ids=str,
)
def test_a_field_that_cannot_be_is_refused(folder, changes, message):
    change_config(folder, **changes)
    assert refusal(folder, ConfigError) == f"g/config.json: {message}"


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000])
def test_a_config_that_is_no_json_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    assert refusal(folder).startswith("g/config.json: not JSON (")


def test_a_config_that_is_no_object_is_refused(folder):
    (folder / "config.json").write_text("[]")
    assert refusal(folder) == "g/config.json: a JSON object was expected."


# --- writing --------------------------------------------------------------------------------------


def test_a_model_folder_of_regard_is_not_written_over(tmp_path):
    (tmp_path / "config.toml").touch()
    with pytest.raises(ConfigError) as caught:
        write_hugging_face(tmp_path, Gpt(CONFIG, VOCAB), CONFIG, CHECKPOINT_FORMATS["gpt2"], VOCAB)
    assert str(caught.value) == (f"{tmp_path}: holds a model of regard.  Export to another folder.")


def test_special_ids_are_written_unless_the_format_has_its_own(tmp_path):
    gpt2 = CHECKPOINT_FORMATS["gpt2"]
    own = gpt2._replace(write=lambda *given: gpt2.write(*given) | {"pad_token_id": 7})
    write_hugging_face(
        tmp_path, Gpt(CONFIG, VOCAB), CONFIG, own, VOCAB, special_ids={"bos": 1, "pad": 0}
    )
    fields = json.loads((tmp_path / "config.json").read_text())
    roles = ("bos", "eos", "pad")
    assert [fields[f"{role}_token_id"] for role in roles] == [1, None, 7]


def test_weights_tell_their_format_as_old_releases_of_transformers_ask(folder):
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_equal_models_make_equal_files(folder, tmp_path):
    again = tmp_path / "again"
    write_hugging_face(again, load(folder), CONFIG, CHECKPOINT_FORMATS["gpt2"], VOCAB)
    for path in folder.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_a_model_of_another_type_is_written_as_float32(folder, tmp_path):
    model = load(folder).double()
    write_hugging_face(tmp_path / "d", model, CONFIG, CHECKPOINT_FORMATS["gpt2"], VOCAB)
    tensors = load_file(tmp_path / "d" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert sum(math.prod(tensor.shape) for tensor in tensors.values()) == sum(
        parameter.numel() for parameter in model.parameters()
    )
