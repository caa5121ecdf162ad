"""A step of decoding: one query over cached keys copies no keys, and a window reads its own."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from regard.attention import Alibi, Causal, DotProduct, Local, Strided, alibi_slopes, attend

BATCH, HEADS, KV_HEADS, KEYS, DIM = 2, 4, 2, 900, 16


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Allocated(TorchDispatchMode):
    """The most numbers that an operator writes."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and not func.is_view:
            self.most = max(self.most, out.numel())
        return out


def step():
    q = draw(BATCH, HEADS, 1, DIM, seed=1)
    return q, *(draw(BATCH, KV_HEADS, KEYS, DIM, seed=seed) for seed in (2, 3))


def test_keys_that_heads_share_are_not_copied():
    q, k, v = step()
    with Allocated() as allocated:
        out = attend(q, k, v, pattern=Causal(), query_offset=KEYS - 1)
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, k, v, enable_gqa=True))
    assert allocated.most <= BATCH * HEADS * KEYS  # the scores


@pytest.mark.parametrize("pattern", [Local(63, 0), Local(40, 9) | Local(63, 0)], ids=repr)
def test_a_window_reads_its_keys_alone(pattern):
    q, k, v = step()
    for x in (k, v):
        x[:, :, : KEYS - 64] = torch.nan
    with Allocated() as allocated:
        out = attend(q, k, v, pattern=pattern, query_offset=KEYS - 1)
    seen = (x[:, :, -64:] for x in (k, v))
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, *seen, enable_gqa=True))
    assert allocated.most <= BATCH * HEADS * 64


@pytest.mark.parametrize("pattern", [Causal(), Local(63, 0), Local(20, 5)], ids=repr)
def test_the_empty_rest_of_a_cache_is_not_read(pattern):
    q, k, v = step()
    for x in (k, v):
        x[:, :, 506:] = torch.nan
    with Allocated() as allocated:
        out = attend(q, k, v, pattern=pattern, query_offset=500, lengths=torch.tensor([501, 480]))
    position = torch.arange(KEYS)
    mask = pattern.allowed(torch.tensor([[500]]), position)
    mask = mask & (position < torch.tensor([501, 480])[:, None])
    k, v = k.nan_to_num(), v.nan_to_num()
    expected = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask[:, None, None], enable_gqa=True
    )
    torch.testing.assert_close(out, expected)
    assert allocated.most <= BATCH * HEADS * int(mask.any(0).nonzero().max() + 1)


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lengths": torch.tensor([900, 850])},
        {"mask": draw(BATCH, 1, 3, KEYS, seed=8) > 0},
        {"mask": draw(BATCH, 1, 1, KEYS, seed=8) > 0, "return_lse": True},
        {"bias": draw(HEADS, 3, KEYS, seed=8)},
        {"bias": Alibi(alibi_slopes(HEADS)), "score": DotProduct(soft_cap=2.0)},
        {"segments": (torch.ones(BATCH, 3).long(), torch.arange(KEYS).expand(BATCH, -1) // 877)},
        {"dropout": 0.5, "generator": 3},
    ],
    ids=lambda options: " ".join(options),
)
@pytest.mark.parametrize("pattern", [Local(63, 0), Local(20, 3) | Local(63, 0)], ids=repr)
def test_the_last_queries_are_those_of_the_whole(pattern, options, queries):
    """Compared with the same pattern in a form that is not narrowed."""
    q, k, v = (x[:, :, -queries:] if i == 0 else x for i, x in enumerate(step()))
    q = q.expand(-1, -1, queries, -1).contiguous()
    options = dict(options)
    for name in ("mask", "bias"):
        if isinstance(options.get(name), torch.Tensor):
            options[name] = options[name][..., -queries:, :]
    if "segments" in options:
        options["segments"] = (options["segments"][0][:, :queries], options["segments"][1])
    found, wanted = (
        attend(q, k, v, pattern=p, query_offset=KEYS - queries, **seeded(options))
        for p in (pattern, pattern | (Local(1, 1) & Strided(500)))
    )
    torch.testing.assert_close(found, wanted)


def seeded(options):
    if "generator" not in options:
        return options
    return {**options, "generator": torch.Generator().manual_seed(options["generator"])}


def test_a_key_that_is_not_finite_reaches_its_query():
    q, k, v = step()
    k[0, 1, 5, 0] = -torch.inf
    out = attend(q.abs(), k, v, pattern=Causal(), query_offset=KEYS - 1)
    assert out[0, 2:].isnan().all()
    assert out[0, :2].isfinite().all()
    assert out[1].isfinite().all()


def test_a_step_has_derivatives_of_its_keys():
    q, k, v = (x.requires_grad_() for x in step())
    out = attend(q, k, v, pattern=Local(63, 0), query_offset=KEYS - 1)
    wanted = F.scaled_dot_product_attention(q, k[:, :, -64:], v[:, :, -64:], enable_gqa=True)
    for found, expected in zip(
        torch.autograd.grad(out.sum(), (q, k, v)),
        torch.autograd.grad(wanted.sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)
