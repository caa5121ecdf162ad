from __future__ import annotations

import pytest
import torch

from regard.layers.exported_angles import exported_angles
from regard.layers.positions import sinusoids
from regard.layers.rotary import rotate


def test_far_positions_have_the_angles_of_float64():
    positions = torch.tensor([0, 1, 511, 512, 513, 70_000, 262_143])
    cosines, sines = exported_angles(positions, 8, 10000.0, torch.float32)
    angles = positions.double()[:, None] * 10000.0 ** (-torch.arange(0, 8, 2).double() / 8)
    torch.testing.assert_close(cosines, angles.cos().float(), rtol=0, atol=3e-7)
    torch.testing.assert_close(sines, angles.sin().float(), rtol=0, atol=3e-7)


@pytest.mark.parametrize("order", ["interleaved", "halves", "fairseq"])
def test_sinusoids_of_an_exported_graph_are_those_of_the_table(order, monkeypatch):
    from regard.layers import positions

    monkeypatch.setattr(positions, "is_exporting", lambda: True)
    layer = positions.SinusoidalPositions(8, order)
    torch.testing.assert_close(layer(3, 600), sinusoids(600, 8, order, start=3), rtol=0, atol=3e-7)


@pytest.mark.parametrize("shape", [(600,), (2, 600)])
def test_rotations_of_an_exported_graph_are_those_of_the_formula(shape, monkeypatch):
    x = torch.randn(2, 3, 600, 8, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(600).expand(shape)
    expected = rotate(x, positions)
    monkeypatch.setattr("regard.layers.rotary.is_exporting", lambda: True)
    torch.testing.assert_close(rotate(x, positions), expected, rtol=0, atol=3e-6)
