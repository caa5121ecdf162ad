from __future__ import annotations

import torch

from regard.attention.patterns import mask_algebra


def test_members_of_a_graph_for_export_are_those_of_a_search(monkeypatch):
    positions = torch.arange(6).view(6, 1)
    expected = mask_algebra.is_member(positions, (1, 4))
    assert expected.flatten().tolist() == [False, True, False, False, True, False]
    monkeypatch.setattr(mask_algebra, "is_exporting", lambda: True)
    assert torch.equal(mask_algebra.is_member(positions, (1, 4)), expected)
    assert not mask_algebra.is_member(positions, ()).any()
