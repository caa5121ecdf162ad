"""The convolutional decoder alone, as a language model."""

from __future__ import annotations

import torch

from regard.models import ConvDecoder, ConvS2SConfig

VOCAB = 20
IDS = torch.tensor([[1, 5, 6, 7, 8, 9, 10, 11], [1, 12, 13, 4, 4, 14, 3, 9]])
CLOSE = {"rtol": 0, "atol": 1e-12}


def test_a_convolution_sees_as_far_back_as_its_kernels_reach():
    torch.manual_seed(0)
    config = ConvS2SConfig(num_decoder_layers=2, dim=8, kernel_width=3)
    model = ConvDecoder(config, VOCAB).double().eval()
    model.compute_dtype = torch.float64
    before = model(IDS)[:, -1]
    for place in range(IDS.shape[1]):
        changed = IDS.clone()
        changed[:, place] = 17
        is_seen = not torch.allclose(model(changed)[:, -1], before, **CLOSE)
        assert is_seen == (place >= 3)  # 1 + 2 (3 - 1) positions


def test_what_a_convolution_keeps_is_bounded():
    model = ConvDecoder(ConvS2SConfig(num_decoder_layers=2, dim=8), VOCAB)
    state = model.init_state()
    for _ in range(5):
        model.decode_step(IDS, state)
    assert len(state) == 40
    assert [cache.inputs.shape for cache in state.caches] == [(2, 2, 8)] * 2
