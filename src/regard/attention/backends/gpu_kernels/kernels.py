"""A band of dot-product attention on a GPU, in Triton: value, gradient, and the gradient of that.

Formulas and letters are those of `blockwise/closed_form.py`; the value is FlashAttention's (Dao et
al. 2022, algorithms 1 and 4). Each program holds a tile of queries and goes over the keys of its
band, or holds keys and goes over queries; what it holds are the rows of its tiles of pairs, so that
products of a tile are taken from registers. Scores exist for one tile at a time, so memory is
linear in the length, and time in the pairs of the band.

On a machine without a GPU ``TRITON_INTERPRET=1``, set before Triton is imported, runs them.
"""

# pyright: basic, reportMissingImports=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


class Heads(NamedTuple):
    """``[batch, heads, length, dim]`` in memory; the last axis is contiguous."""

    data: Any
    batch_stride: int
    head_stride: int
    length_stride: int


class Band(NamedTuple):
    """Which pairs may attend.

    Query i sees the keys from ``i + offset - before`` to ``i + offset + after``. Lengths are
    ``[batch]``, segments ``[batch, queries]`` and ``[batch, keys]``, or None. Numbers of queries
    are ``[batch * heads, whole_queries]``: as many as whole tiles have, so that none is masked.
    """

    queries: int
    whole_queries: int
    keys: int
    before: int
    after: int
    offset: int
    lengths: Any
    query_segments: Any
    key_segments: Any


@triton.jit
def _load(x, b, h, rows, num_rows, columns, num_columns: tl.constexpr):
    """Load rows of a head, ``[rows, columns]``; zeros beyond them."""
    start = x.data + b.to(tl.int64) * x.batch_stride + h.to(tl.int64) * x.head_stride
    where = rows.to(tl.int64)[:, None] * x.length_stride + columns[None, :]
    is_inside = (rows < num_rows)[:, None] & (columns < num_columns)[None, :]
    return tl.load(start + where, mask=is_inside, other=0.0)


@triton.jit
def _store(x, b, h, rows, num_rows, columns, num_columns: tl.constexpr, values):
    """Store rows of a head, ``[rows, columns]``."""
    start = x.data + b.to(tl.int64) * x.batch_stride + h.to(tl.int64) * x.head_stride
    where = rows.to(tl.int64)[:, None] * x.length_stride + columns[None, :]
    is_inside = (rows < num_rows)[:, None] & (columns < num_columns)[None, :]
    tl.store(start + where, values.to(x.data.dtype.element_ty), mask=is_inside)


@triton.jit
def _program(num_rows, SIZE: tl.constexpr):
    """Return the first row of a program's tile, and its head, 0 to ``batch * heads`` - 1.

    All programs lie along one axis: the others end at 65,535. Tiles of a head follow each other.
    """
    tiles = tl.cdiv(num_rows, SIZE)
    return tl.program_id(0) % tiles * SIZE, tl.program_id(0) // tiles


@triton.jit
def _count_keys(band, b):
    """Return the number of valid keys of a row."""
    num_keys = band.keys
    if band.lengths is not None:
        num_keys = tl.minimum(num_keys, tl.load(band.lengths + b).to(tl.int32))
    return num_keys


@triton.jit
def _first_key(band, first_query, N: tl.constexpr):
    """Return the first key that a tile of queries sees, or one of the same tile before it."""
    return tl.maximum(first_query + band.offset - band.before, 0) // N * N


@triton.jit
def _last_key(band, first_query, num_keys, M: tl.constexpr):
    """Return the key after the last that a tile of queries sees."""
    last_query = tl.minimum(first_query + M, band.queries) - 1
    return tl.minimum(last_query + band.offset + band.after + 1, num_keys)


@triton.jit
def _allowed(band, b, i, j, num_keys):
    """Return which pairs may attend: of queries and keys along one axis each, of both axes."""
    first = tl.maximum(i + band.offset - band.before, 0)
    num_seen = tl.minimum(i + band.offset + band.after + 1, num_keys) - first
    num_seen = tl.where(i < band.queries, tl.maximum(num_seen, 0), 0)
    # Keys before the first are large numbers without a sign: one comparison a pair.
    allowed = (j - first).to(tl.uint32, bitcast=True) < num_seen.to(tl.uint32, bitcast=True)
    if band.query_segments is not None:
        row = b.to(tl.int64)
        of_queries = tl.load(
            band.query_segments + row * band.queries + i, mask=i < band.queries, other=0
        )
        of_keys = tl.load(band.key_segments + row * band.keys + j, mask=j < num_keys, other=0)
        allowed = allowed & (of_queries == of_keys)
    return allowed


@triton.jit
def _mask(scores, band, b, i, j, num_keys, first_pair, TILE: tl.constexpr, SKIPS: tl.constexpr):
    """Return scores of a tile, minus infinity for pairs that may not attend.

    With `SKIPS` a tile without such pairs skips the mask, a third of its instructions.
    `first_pair` are its first query and key.
    """
    first_query, first_key = first_pair
    distance = first_key - first_query - band.offset
    is_whole = (distance - TILE[0] + 1 >= -band.before) & (distance + TILE[1] - 1 <= band.after)
    is_whole = is_whole & (first_key + TILE[1] <= num_keys)
    is_whole = is_whole & (first_query + TILE[0] <= band.queries)
    if SKIPS and band.query_segments is None:
        if not is_whole:
            scores = tl.where(_allowed(band, b, i, j, num_keys), scores, float("-inf"))
    else:
        scores = tl.where(_allowed(band, b, i, j, num_keys), scores, float("-inf"))
    return scores


@triton.jit
def _dot(left, right, PRECISION: tl.constexpr):
    """Multiply ``[n, k]`` by ``[k, m]`` in the narrower type, into float32."""
    return tl.dot(left.to(right.dtype), right, input_precision=PRECISION)


@triton.jit
def _products(left, right, PRECISION: tl.constexpr):
    """Multiply the rows of ``[n, dim]`` and ``[m, dim]``."""
    return _dot(left, tl.trans(right), PRECISION)


@triton.jit(do_not_specialize=["heads", "repeats"])
def value(
    inputs,
    out,
    lse,
    band,
    scale,
    heads,
    repeats,
    DIMS: tl.constexpr,
    TILE: tl.constexpr,
    SKIPS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute o and the log-sum-exp, one program for a tile of queries of a head.

    `inputs` are q, k and v.
    """
    M: tl.constexpr = TILE[0]
    N: tl.constexpr = TILE[1]
    D: tl.constexpr = DIMS[2]
    E: tl.constexpr = DIMS[3]
    q, k, v = inputs
    first, head = _program(band.queries, M)
    b, h = head // heads, head % heads
    i = first + tl.arange(0, M)
    d, e = tl.arange(0, D), tl.arange(0, E)
    num_keys = _count_keys(band, b)
    q_rows = _load(q, b, h, i, band.queries, d, DIMS[0])
    highest = tl.full([M], float("-inf"), tl.float32)
    total = tl.zeros([M], tl.float32)
    o = tl.zeros([M, E], tl.float32)
    for begin in range(_first_key(band, first, N), _last_key(band, first, num_keys, M), N):
        j = begin + tl.arange(0, N)
        k_rows = _load(k, b, h // repeats, j, num_keys, d, DIMS[0])
        v_rows = _load(v, b, h // repeats, j, num_keys, e, DIMS[1])
        scores = _products(q_rows, k_rows, PRECISION) * (scale * LOG2_E)
        pair = first, begin
        scores = _mask(scores, band, b, i[:, None], j[None, :], num_keys, pair, TILE, SKIPS)
        new = tl.maximum(highest, tl.max(scores, 1))
        shift = tl.where(new == float("-inf"), 0.0, new)  # of a query that sees nothing
        weights = tl.exp2(scores - shift[:, None])
        factor = tl.exp2(highest - shift)
        total = total * factor + tl.sum(weights, 1)
        o = o * factor[:, None] + _dot(weights, v_rows, PRECISION)
        highest = new
    sees = total != 0.0  # also where it is not a number
    total = tl.where(sees, total, 1.0)
    _store(out, b, h, i, band.queries, e, DIMS[1], o / total[:, None])
    log_sum = tl.where(sees, (highest + tl.log2(total)) / LOG2_E, float("-inf"))
    where = head.to(tl.int64) * band.queries + i
    tl.store(lse + where, log_sum, mask=i < band.queries)


@triton.jit
def _row(x, band, h, i):
    """Load numbers of the queries of a head."""
    return tl.load(x + h.to(tl.int64) * band.whole_queries + i)


@triton.jit
def _store_row(x, band, h, i, values):
    """Store numbers of the queries of a head."""
    tl.store(x + h.to(tl.int64) * band.whole_queries + i, values)


@triton.jit(do_not_specialize=["heads", "repeats"])
def gradient_of_queries(
    inputs,
    rows,
    dq,
    band,
    scale,
    heads,
    repeats,
    DIMS: tl.constexpr,
    TILE: tl.constexpr,
    SKIPS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute dq. `inputs` are q, k, v, g; `rows` the log-sum-exp to base 2, and ``c - g . o``."""
    M: tl.constexpr = TILE[0]
    N: tl.constexpr = TILE[1]
    D: tl.constexpr = DIMS[2]
    E: tl.constexpr = DIMS[3]
    q, k, v, g = inputs
    first, head = _program(band.queries, M)
    b, h = head // heads, head % heads
    i = first + tl.arange(0, M)
    d, e = tl.arange(0, D), tl.arange(0, E)
    num_keys = _count_keys(band, b)
    q_rows = _load(q, b, h, i, band.queries, d, DIMS[0])
    g_rows = _load(g, b, h, i, band.queries, e, DIMS[1])
    lse = _row(rows[0], band, head, i)
    shift = _row(rows[1], band, head, i)
    total = tl.zeros([M, D], tl.float32)
    for begin in range(_first_key(band, first, N), _last_key(band, first, num_keys, M), N):
        j = begin + tl.arange(0, N)
        k_rows = _load(k, b, h // repeats, j, num_keys, d, DIMS[0])
        v_rows = _load(v, b, h // repeats, j, num_keys, e, DIMS[1])
        scores = _products(q_rows, k_rows, PRECISION) * (scale * LOG2_E) - lse[:, None]
        pair = first, begin
        scores = _mask(scores, band, b, i[:, None], j[None, :], num_keys, pair, TILE, SKIPS)
        p = tl.exp2(scores)
        d_p = _products(g_rows, v_rows, PRECISION)
        d_s = p * (d_p + shift[:, None])
        total += _dot(d_s, k_rows, PRECISION)
    _store(dq, b, h, i, band.queries, d, DIMS[0], total * scale)


@triton.jit
def _first_query(band, first_key, M: tl.constexpr):
    """Return the first query that sees a tile of keys, or one of the same tile before it."""
    return tl.maximum(first_key - band.after - band.offset, 0) // M * M


@triton.jit
def _last_query(band, first_key, num_keys, N: tl.constexpr):
    """Return the query after the last that sees a tile of keys; 0 where no key is valid."""
    last_key = tl.minimum(first_key + N, num_keys) - 1
    last = tl.minimum(last_key + band.before - band.offset + 1, band.queries)
    return tl.where(first_key < num_keys, last, 0)


@triton.jit(do_not_specialize=["heads", "repeats"])
def gradient_of_keys(
    inputs,
    rows,
    dk,
    dv,
    band,
    scale,
    heads,
    repeats,
    DIMS: tl.constexpr,
    TILE: tl.constexpr,
    SKIPS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute dk and dv, one program for a tile of keys. All else is as in the other kernel."""
    M: tl.constexpr = TILE[0]
    N: tl.constexpr = TILE[1]
    D: tl.constexpr = DIMS[2]
    E: tl.constexpr = DIMS[3]
    q, k, v, g = inputs
    first, head_of_keys = _program(band.keys, N)
    kv_heads = heads // repeats
    b, kv_head = head_of_keys // kv_heads, head_of_keys % kv_heads
    j = first + tl.arange(0, N)
    d, e = tl.arange(0, D), tl.arange(0, E)
    num_keys = _count_keys(band, b)
    k_rows = _load(k, b, kv_head, j, num_keys, d, DIMS[0])
    v_rows = _load(v, b, kv_head, j, num_keys, e, DIMS[1])
    total_k = tl.zeros([N, D], tl.float32)
    total_v = tl.zeros([N, E], tl.float32)
    for h in range(kv_head * repeats, (kv_head + 1) * repeats):
        head = b * heads + h
        for begin in range(_first_query(band, first, M), _last_query(band, first, num_keys, N), M):
            i = begin + tl.arange(0, M)
            q_rows = _load(q, b, head % heads, i, band.queries, d, DIMS[0])
            g_rows = _load(g, b, head % heads, i, band.queries, e, DIMS[1])
            lse = _row(rows[0], band, head, i)
            shift = _row(rows[1], band, head, i)
            scores = _products(k_rows, q_rows, PRECISION) * (scale * LOG2_E) - lse[None, :]
            pair = begin, first
            scores = _mask(scores, band, b, i[None, :], j[:, None], num_keys, pair, TILE, SKIPS)
            p = tl.exp2(scores)  # [keys, queries]
            d_p = _products(v_rows, g_rows, PRECISION)
            d_s = p * (d_p + shift[None, :])
            total_k += _dot(d_s, q_rows, PRECISION)
            total_v += _dot(p, g_rows, PRECISION)
    _store(dk, b, kv_head, j, band.keys, d, DIMS[0], total_k * scale)
    _store(dv, b, kv_head, j, band.keys, e, DIMS[1], total_v)


@triton.jit
def _load_keys(inputs, b, h, j, num_keys, DIMS: tl.constexpr):
    """Load the rows of k, y, v and z of some keys, ``[keys, dim]`` each."""
    _, k, v, _, _, y, z = inputs
    d, e = tl.arange(0, DIMS[2]), tl.arange(0, DIMS[3])
    k_rows = _load(k, b, h, j, num_keys, d, DIMS[0])
    y_rows = _load(y, b, h, j, num_keys, d, DIMS[0])
    v_rows = _load(v, b, h, j, num_keys, e, DIMS[1])
    z_rows = _load(z, b, h, j, num_keys, e, DIMS[1])
    return k_rows, y_rows, v_rows, z_rows


@triton.jit(do_not_specialize=["heads", "repeats"])
def second_of_queries(
    inputs,
    rows,
    outputs,
    band,
    scale,
    heads,
    repeats,
    DIMS: tl.constexpr,
    TILE: tl.constexpr,
    SKIPS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute the cotangents of q and g, and of each query the sums a and ``rowsum(P * F)``.

    `inputs` are q, k, v, g, and the cotangents x, y, z of their gradient; `rows` the log-sum-exp to
    base 2, ``c - g . o`` and ``g . o``; `outputs` the cotangents and the sums. A first pass over
    the keys makes the sums, a second one the cotangents.
    """
    M: tl.constexpr = TILE[0]
    N: tl.constexpr = TILE[1]
    D: tl.constexpr = DIMS[2]
    E: tl.constexpr = DIMS[3]
    q, _, _, g, x, _, _ = inputs
    first, head = _program(band.queries, M)
    b, h = head // heads, head % heads
    i = first + tl.arange(0, M)
    d, e = tl.arange(0, D), tl.arange(0, E)
    num_keys = _count_keys(band, b)
    q_rows = _load(q, b, h, i, band.queries, d, DIMS[0])
    x_rows = _load(x, b, h, i, band.queries, d, DIMS[0])
    g_rows = _load(g, b, h, i, band.queries, e, DIMS[1])
    lse = _row(rows[0], band, head, i)
    shift = _row(rows[1], band, head, i)
    a = tl.zeros([M], tl.float32)
    f = tl.zeros([M], tl.float32)
    for begin in range(_first_key(band, first, N), _last_key(band, first, num_keys, M), N):
        j = begin + tl.arange(0, N)
        k_rows, y_rows, v_rows, z_rows = _load_keys(inputs, b, h // repeats, j, num_keys, DIMS)
        scores = _products(q_rows, k_rows, PRECISION) * (scale * LOG2_E) - lse[:, None]
        pair = first, begin
        scores = _mask(scores, band, b, i[:, None], j[None, :], num_keys, pair, TILE, SKIPS)
        p = tl.exp2(scores)
        d_p, gz = _products(g_rows, v_rows, PRECISION), _products(g_rows, z_rows, PRECISION)
        a_tile = _products(x_rows, k_rows, PRECISION) + _products(q_rows, y_rows, PRECISION)
        a_tile *= scale
        a += tl.sum(p * a_tile, 1)
        f += tl.sum(p * (gz + a_tile * d_p), 1)
    # rowsum(P * F) with F = g z^T + A * T - a * D_P and T = D_P + shift
    f += a * (shift - _row(rows[2], band, head, i))
    _store_row(outputs[2], band, head, i, a)
    _store_row(outputs[3], band, head, i, f)
    of_q = tl.zeros([M, D], tl.float32)
    of_g = tl.zeros([M, E], tl.float32)
    for begin in range(_first_key(band, first, N), _last_key(band, first, num_keys, M), N):
        j = begin + tl.arange(0, N)
        k_rows, y_rows, v_rows, z_rows = _load_keys(inputs, b, h // repeats, j, num_keys, DIMS)
        scores = _products(q_rows, k_rows, PRECISION) * (scale * LOG2_E) - lse[:, None]
        pair = first, begin
        scores = _mask(scores, band, b, i[:, None], j[None, :], num_keys, pair, TILE, SKIPS)
        p = tl.exp2(scores)
        d_p, gz = _products(g_rows, v_rows, PRECISION), _products(g_rows, z_rows, PRECISION)
        a_tile = _products(x_rows, k_rows, PRECISION) + _products(q_rows, y_rows, PRECISION)
        a_tile *= scale
        t = d_p + shift[:, None]
        g_tile = p * (gz + a_tile * t - a[:, None] * d_p - f[:, None])
        of_q += _dot(g_tile, k_rows, PRECISION) + _dot(p * t, y_rows, PRECISION)
        of_g += _dot(p * (a_tile - a[:, None]), v_rows, PRECISION) + _dot(p, z_rows, PRECISION)
    _store(outputs[0], b, h, i, band.queries, d, DIMS[0], of_q * scale)
    _store(outputs[1], b, h, i, band.queries, e, DIMS[1], of_g)


@triton.jit(do_not_specialize=["heads", "repeats"])
def second_of_keys(
    inputs,
    rows,
    outputs,
    band,
    scale,
    heads,
    repeats,
    DIMS: tl.constexpr,
    TILE: tl.constexpr,
    SKIPS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute the cotangents of k and v, one program for a tile of keys.

    `rows` are the log-sum-exp to base 2, ``c - g . o``, a and ``rowsum(P * F)``.
    """
    M: tl.constexpr = TILE[0]
    N: tl.constexpr = TILE[1]
    D: tl.constexpr = DIMS[2]
    E: tl.constexpr = DIMS[3]
    q, _, _, g, x, _, _ = inputs
    first, head_of_keys = _program(band.keys, N)
    kv_heads = heads // repeats
    b, kv_head = head_of_keys // kv_heads, head_of_keys % kv_heads
    j = first + tl.arange(0, N)
    d, e = tl.arange(0, D), tl.arange(0, E)
    num_keys = _count_keys(band, b)
    k_rows, y_rows, v_rows, z_rows = _load_keys(inputs, b, kv_head, j, num_keys, DIMS)
    of_k = tl.zeros([N, D], tl.float32)
    of_v = tl.zeros([N, E], tl.float32)
    for h in range(kv_head * repeats, (kv_head + 1) * repeats):
        head = b * heads + h
        for begin in range(_first_query(band, first, M), _last_query(band, first, num_keys, N), M):
            i = begin + tl.arange(0, M)
            q_rows = _load(q, b, head % heads, i, band.queries, d, DIMS[0])
            x_rows = _load(x, b, head % heads, i, band.queries, d, DIMS[0])
            g_rows = _load(g, b, head % heads, i, band.queries, e, DIMS[1])
            lse = _row(rows[0], band, head, i)
            shift = _row(rows[1], band, head, i)
            a = _row(rows[2], band, head, i)
            f = _row(rows[3], band, head, i)
            scores = _products(k_rows, q_rows, PRECISION) * (scale * LOG2_E) - lse[None, :]
            pair = begin, first
            scores = _mask(scores, band, b, i[None, :], j[:, None], num_keys, pair, TILE, SKIPS)
            p = tl.exp2(scores)  # [keys, queries]
            d_p, gz = _products(v_rows, g_rows, PRECISION), _products(z_rows, g_rows, PRECISION)
            a_tile = _products(k_rows, x_rows, PRECISION) + _products(y_rows, q_rows, PRECISION)
            a_tile *= scale
            t = d_p + shift[None, :]
            g_tile = p * (gz + a_tile * t - a[None, :] * d_p - f[None, :])
            of_k += _dot(g_tile, q_rows, PRECISION) + _dot(p * t, x_rows, PRECISION)
            of_v += _dot(p * (a_tile - a[None, :]), g_rows, PRECISION)
    _store(outputs[0], b, kv_head, j, band.keys, d, DIMS[0], of_k * scale)
    _store(outputs[1], b, kv_head, j, band.keys, e, DIMS[1], of_v)
