// What `band.py` and the kernels agree on. Every field is 8 bytes wide.
#pragma once

#include <cstdint>

// Attention of every query i, at position p = i + offset, over the keys j of one band:
// p - before <= j <= p + after, j < lengths[row], and equal segments where there are any.
struct Band {
    int64_t batch, heads, kv_heads, queries, keys, dim, value_dim;
    int64_t before, after, offset;  // without bound: a number no position reaches
    int64_t storage;                // of q, k, v, out, dout and dq: a `Storage`
    int64_t num_threads;            // 1 or more
    double scale;                   // factor on the dot products
    // Distances of batch, head and row in numbers; the last axis lies side by side.
    int64_t q_strides[3], k_strides[3], v_strides[3], out_strides[3];
    int64_t dout_strides[3], dq_strides[3], dk_strides[3], dv_strides[3];
    const void *q, *k, *v;
    void *out;
    void *lse;                   // [batch, heads, queries], as wide as sums are
    const int64_t *lengths;      // [batch], or null
    const void *query_segments;  // [batch, queries] integers as wide as a sum, or null
    const void *key_segments;    // [batch, keys], or null
    // Of the first derivative only.
    const void *dout;
    const void *dlse;  // as lse
    void *dq;
    void *dk, *dv;  // as wide as sums are
};

enum Storage : int64_t { FLOAT32 = 0, FLOAT64 = 1, BFLOAT16 = 2 };
