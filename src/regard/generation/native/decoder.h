// What `library.py` and the decoder agree on. Every field is 8 bytes wide.
#pragma once

#include <cstdint>

enum Activation : int64_t { RELU = 0, GELU = 1, GELU_TANH = 2, SILU = 3, SWIGLU = 4 };
enum NormKind : int64_t { LAYER = 0, RMS = 1 };
enum RotaryPairs : int64_t { NO_ROTARY = 0, HALVES = 1, INTERLEAVED = 2 };

// The dimensions of a stack of blocks with its embedding.
struct Sizes {
    int64_t num_layers, dim, num_heads, num_kv_heads, head_dim, hidden_dim, vocab_size;
    int64_t activation;    // an `Activation`
    int64_t norm;          // a `NormKind`
    int64_t is_pre;        // 1: a norm before each sub-layer and one after the last; 0: after each
    int64_t reads_source;  // 1: blocks attend to a source
    int64_t rotary;        // a `RotaryPairs`
    int64_t precision;     // a `Precision` of packed.h
    double epsilon;        // of the norms
    double embedding_scale;
    // Keys that each layer's self-attention sees before its query and, in an encoder, after it; -1
    // is without bound.
    const int64_t *before, *after;
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
    QUERY_NORM = 3,  // of each head of the queries of self-attention, [head_dim]
    KEY_NORM = 4,    // of each head of its keys, the same
    NUM_NORMS = 5,
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
    const float *cosines;  // [num_angles, head_dim / 2], or null
    const float *sines;
    int64_t num_angles;
};
