"""What published encoder-decoders are tested by, whatever their checkpoint_format."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.published_weights import assert_near, drawn_transformer, read_transformer
from torch import Tensor

from regard.errors import ConfigError
from regard.hub.hugging_face.published_folder import write_hugging_face
from regard.models.base.checkpoint_format import CheckpointFormat
from regard.models.transformer.model import Transformer, TransformerConfig

VOCAB = 31
Ids = tuple[Tensor, Tensor]
"""Of sources and of targets, ``[batch, length]``."""


def imported(library: Any, *names: str) -> SimpleNamespace:
    """Get classes of `transformers`, which imports them on first use."""
    return SimpleNamespace(**{name: getattr(library, name) for name in names})


def drawn_fields(draw: random.Random, activations: Sequence[str]) -> dict[str, Any]:
    """Draw the fields that the configurations of all formats have."""
    heads, hidden_dim = draw.choice([1, 2, 4]), draw.choice([12, 20])
    return {
        "vocab_size": VOCAB,
        "d_model": heads * draw.choice([6, 8]),
        "encoder_layers": draw.choice([1, 2, 3]),
        "decoder_layers": draw.choice([1, 2, 3]),
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": hidden_dim,
        "decoder_ffn_dim": hidden_dim,
        "activation_function": draw.choice(activations),
        "scale_embedding": draw.choice([True, False]),
    }


def drawn_model(config: TransformerConfig, **changes: Any) -> Transformer:
    """Make one of ours with biases and norms that are not those of the beginning."""
    return drawn_transformer(msgspec.structs.replace(config, **changes), VOCAB)


@torch.no_grad()
def both_logits(ours: Transformer, theirs: Any, ids: Ids) -> tuple[Tensor, Tensor]:
    """Compute the logits by ours and by theirs."""
    source, target = ids
    mask = (source != ours.config.pad_id).long()
    logits = theirs(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits
    return ours(source, target), logits


def assert_equal_models(ours: Transformer, theirs: Any, ids: Ids) -> None:
    """Compare the logits at every position."""
    found, wanted = both_logits(ours, theirs, ids)
    assert found.shape == wanted.shape
    assert_near(found, wanted, torch.zeros(found.shape[:2]), pad_id=1)


def assert_equal_states(folder: Path, theirs: Any, ids: Ids) -> None:
    """Compare last states: of weights without a head, read without its bias."""
    theirs.save_pretrained(folder)
    ours, (source, target) = read_transformer(folder), ids
    assert ours.output_bias is None
    with torch.no_grad():
        mask = (source != ours.config.pad_id).long()
        states = theirs(input_ids=source, attention_mask=mask, decoder_input_ids=target)
        found = ours.hidden_states(source, target)
    assert_near(found, states.last_hidden_state, torch.zeros_like(target), pad_id=1)


def write(
    folder: Path, ours: Transformer, checkpoint_format: CheckpointFormat
) -> dict[str, Tensor]:
    """Export a model; return the tensors of the file."""
    write_hugging_face(folder, ours, ours.config, checkpoint_format, VOCAB)
    return load_file(folder / "model.safetensors")


def rewrite(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Put other tensors in the file."""
    save_file(dict(tensors), folder / "model.safetensors", {"format": "pt"})


def opened_by_peer(
    transformers: Any, folder: Path, ours: Transformer, checkpoint_format: CheckpointFormat
) -> Any:
    """Export a model and open it by `transformers`, which finds every tensor and no other."""
    write(folder, ours, checkpoint_format)
    theirs, report = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.config.decoder_start_token_id == ours.config.start_id
    return theirs.eval()


def assert_comes_back(
    folder: Path, ours: Transformer, checkpoint_format: CheckpointFormat, ids: Ids
) -> None:
    """Export a model and read it again: configuration and logits are the same."""
    write(folder, ours, checkpoint_format)
    again = read_transformer(folder)
    assert again.config == ours.config
    assert torch.equal(again(*ids), ours(*ids))


def assert_repeats_are_left_alone(
    folder: Path, ours: Transformer, checkpoint_format: CheckpointFormat, more: dict[str, Tensor]
) -> None:
    """Repeat the shared table under the names that old files have it by, with more of theirs."""
    tensors = write(folder, ours, checkpoint_format)
    for name in ("model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head"):
        tensors[f"{name}.weight"] = tensors["model.shared.weight"].clone()
    rewrite(folder, tensors | more)
    assert torch.equal(read_transformer(folder).output_weight, ours.output_weight)


def assert_every_parameter_has_its_place(
    config: TransformerConfig, checkpoint_format: CheckpointFormat
) -> None:
    """Compare the mapping of a format with the parameters of a model."""
    mapped = [mapping.local for mapping in checkpoint_format.map_parameters(config)]
    names = [name for name, _ in Transformer(config, VOCAB).named_parameters()]
    assert sorted(mapped) == sorted(names)


def assert_not_read(
    checkpoint_format: CheckpointFormat, fields: Mapping[str, Any], message: str
) -> None:
    """Compare the refusal of a ``config.json``."""
    with pytest.raises(ConfigError) as caught:
        checkpoint_format.read(fields)
    assert str(caught.value) == message


def assert_not_written(
    checkpoint_format: CheckpointFormat, config: TransformerConfig, message: str
) -> None:
    """Compare the refusal of one of our configurations."""
    with pytest.raises(ConfigError) as caught:
        checkpoint_format.write(config, VOCAB)
    assert str(caught.value) == message
