// What `library.py` and the decoder agree on. Every field is 8 bytes wide.
#pragma once

#include <cstdint>

enum Activation : int64_t { RELU = 0, GELU = 1, GELU_TANH = 2, SILU = 3 };
enum NormKind : int64_t { LAYER = 0, RMS = 1 };
enum RotaryPairs : int64_t { NO_ROTARY = 0, HALVES = 1, INTERLEAVED = 2 };

// A stack of blocks with its embedding. These fields and the norms that a block has say what it
// computes: nothing depends on the family of a model.
struct Sizes {
    int64_t num_layers, dim, num_heads, num_kv_heads, head_dim, hidden_dim, vocab_size;
    int64_t activation;    // an `Activation`
    int64_t is_gated;      // 1: it is taken of one half of the inner map, times the other half
    int64_t norm;          // a `NormKind`
    int64_t is_pre;        // 1: a norm before each sub-layer and one after the last; 0: after each
    int64_t is_parallel;   // 1: both sub-layers of a block read what it reads; not in an encoder
    int64_t reads_source;  // 1: blocks attend to a source
    int64_t rotary;        // a `RotaryPairs`
    int64_t precision;     // a `Precision` of packed.h
    double epsilon;        // of the norms
    double embedding_scale;
    double score_cap, logit_cap;  // bounds c of c tanh(x / c), scores of self-attention; 0: none
    // Keys that each layer's self-attention sees before its query and, in an encoder, after it; -1
    // is without bound.
    const int64_t *before, *after;
    const int64_t *angles, *biases;  // each layer's tables in `Positions`
};

// The linear maps and norms of a block.
enum MapName : int64_t {
    SELF_QKV = 0,   // [(heads + 2 kv_heads) head_dim, dim]: queries, keys, values
    SELF_OUT = 1,   // [dim, heads head_dim]
    CROSS_Q = 2,    // [heads head_dim, dim]
    CROSS_KV = 3,   // [2 heads head_dim, dim]: keys, values
    CROSS_OUT = 4,  // [dim, heads head_dim]
    INNER = 5,      // [hidden_dim, dim], twice as many rows where it is gated
    OUTER = 6,      // [dim, hidden_dim]
    NUM_MAPS = 7,
};
enum NormName : int64_t {
    SELF_NORM = 0,
    CROSS_NORM = 1,
    FEED_FORWARD_NORM = 2,
    SELF_OUTPUT_NORM = 3,  // of what the sub-layer adds to the states
    CROSS_OUTPUT_NORM = 4,
    FEED_FORWARD_OUTPUT_NORM = 5,
    QUERY_NORM = 6,  // of self-attention: each head, [head_dim], or all, [heads head_dim], together
    KEY_NORM = 7,    // the same of its keys
    NUM_NORMS = 8,
};

// The sentences of a beam search, [num] or [num][beam].
struct Beams {
    int64_t num, beam, room;
    int64_t end_token;
    int64_t closes_at_limit;  // 1: hypotheses at the limit of their sentence are outputs
    int64_t min_length;       // tokens with the begin before which none ends
    float *scores;
    int64_t *tokens;          // [num][beam][room]
    int64_t *lengths;
    const int64_t *limits;
    const double *bars;
    const double *divisors;   // at the limit of each sentence
    const double *by_length;  // or of 1, 2, ... tokens, [room], where hypotheses are judged by
                              // their present length; null where they are judged by the limit
    float *best;              // candidates of a step, [num][2 beam]
    int64_t *origins, *written;
};

// The positions of a stack's tokens: those past the end of a table take its last row.
struct Positions {
    const float *rows;     // [num_rows, dim] to be added to embeddings, or null
    int64_t num_rows;
    int64_t offset;        // row of position 0
    const float *cosines;  // [tables, num_angles, head_dim / 2], or null
    const float *sines;
    int64_t num_angles;
    // What is added to scores, or null: [tables, heads, bias_row], ordered by the distance from the
    // query to the key, which is 0 at `bias_zero`. Vectors are read from any of them on.
    const float *biases;
    int64_t bias_row, bias_zero;
};
