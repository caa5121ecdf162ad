"""Random weights of `transformers`, put into our models by their checkpoint formats."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from regard.hub.hugging_face.published_folder import read_hugging_face
from regard.models.base.checkpoint_format import CheckpointFormat
from regard.models.transformer.model import Transformer, TransformerConfig


def spread(theirs: nn.Module, gain: float = 2.0, seed: int = 3) -> None:
    """Draw weights large enough, and norms and biases uneven enough, that every part shows."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if not parameter.requires_grad:  # the sinusoids of Marian
                continue
            is_norm_weight = "norm" in name.lower() and name.endswith("weight")
            size = 0.3 if parameter.dim() == 1 else gain * parameter.shape[-1] ** -0.5
            parameter.normal_(1.0 if is_norm_weight else 0.0, size)


def fill(
    ours: nn.Module, checkpoint_format: CheckpointFormat, config, theirs: nn.Module
) -> set[str]:
    """Copy the weights by the format's mapping; return the names of those left over."""
    tensors = {
        name
        if name.startswith(checkpoint_format.prefix) or not is_bare(theirs)
        else checkpoint_format.prefix + name: t
        for name, t in theirs.state_dict().items()
    }
    parameters, used = dict(ours.named_parameters()), set()
    mappings = checkpoint_format.map_parameters(config)
    assert sorted(mapping.local for mapping in mappings) == sorted(parameters)
    with torch.no_grad():
        for mapping in mappings:
            stacked = torch.cat([tensors[name] for name in mapping.remote])
            assert stacked.shape == parameters[mapping.local].shape, mapping
            parameters[mapping.local].copy_(stacked)
            used |= set(mapping.remote)
    for name in set(tensors) & set(checkpoint_format.tied_names):
        assert torch.equal(tensors[name], tensors[checkpoint_format.tied_names[name]])
    left_over = set(tensors) - used - set(checkpoint_format.tied_names)
    return {name for name in left_over if not name.endswith(checkpoint_format.ignored)}


def is_bare(theirs: nn.Module) -> bool:
    """Tell whether it is an ``AutoModel``, whose names lack the prefix."""
    return theirs.base_model is theirs


def assert_near(ours: Tensor, theirs: Tensor, ids: Tensor, pad_id: int) -> None:
    """Compare the positions that are no padding, by the standard deviation of theirs."""
    is_valid = ids != pad_id
    ours, theirs = ours[is_valid].detach(), theirs[is_valid].detach()
    assert float((ours - theirs).abs().max()) < 1e-4 * float(theirs.std())


def read_transformer(folder: Path) -> Transformer:
    """Read an encoder-decoder of any of its formats."""
    published = read_hugging_face(folder)
    model = Transformer(published.config, published.vocab_size).eval()
    published.load_into(model)
    return model


def drawn_transformer(config: TransformerConfig, vocab_size: int) -> Transformer:
    """Make an encoder-decoder with biases and norms that are not those of the beginning."""
    torch.manual_seed(1)
    model = Transformer(config, vocab_size).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def padded_ids(vocab_size: int, lengths: tuple[int, ...], pad_id: int) -> Tensor:
    """Draw rows of the given lengths, without the padding's id."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(pad_id + 1, vocab_size, (len(lengths), max(lengths)), generator=generator)
    for row, length in enumerate(lengths):
        ids[row, length:] = pad_id
    return ids
