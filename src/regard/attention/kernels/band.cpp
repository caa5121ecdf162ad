// Banded attention, value and first derivative, fused: scores never leave the first-level cache.
//
// FlashAttention (Dao et al. 2022, algorithms 1 and 4) with queries along the lanes of a vector:
// scores are computed transposed, S^T = K Q^T, so that the softmax needs no sum across lanes, and
// keys and values are read as they lie. Of a tile only what the band can reach is computed.
//
// Compiled once for each instruction set: VECTOR_BYTES is the width of a register, ROWS how many
// rows of a product are computed side by side.

#include <cmath>
#include <type_traits>

#include "band.h"
#include "threads.h"
#include "tiles.h"

namespace {

constexpr double NOTHING = -1e30;  // the lse of a query that sees no key, as in block.py
constexpr double LOG2_E = 1.44269504088896340736;

// ---- which pairs ----

struct Range {
    int64_t begin, end;
    bool is_empty() const { return begin >= end; }
};

// Keys that one of the queries first to last - 1 may see.
inline Range keys_of(const Band &band, int64_t row, int64_t first, int64_t last) {
    const int64_t length = band.lengths ? std::min(band.lengths[row], band.keys) : band.keys;
    return {std::max<int64_t>(0, first + band.offset - band.before),
            std::min(length, last + band.offset + band.after)};
}

inline Range intersection(Range a, int64_t begin, int64_t end) {
    return {std::max(a.begin, begin), std::min(a.end, end)};
}

// Which lanes of a chunk, whose first query stands at `position`, may see key j.
template <typename T> struct Mask {
    const Band &band;
    int64_t position;
    const typename Types<T>::Integer *query_segments;  // of the chunk, or null
    const typename Types<T>::Integer *key_segments;    // of the row

    // Whether all lanes see it.
    bool is_whole(int64_t key) const {
        return !query_segments && key >= position + CHUNK<T> - 1 - band.before &&
               key <= position + band.after;
    }

    Integers<T> operator()(int64_t key, int part) const {
        using Integer = typename Types<T>::Integer;
        const int64_t lane = part * LANES<T>;
        const auto bound = [](int64_t x) {
            return Integer(std::clamp<int64_t>(x, -1, LANES<T>));
        };
        const Integer lowest = bound(key - band.after - position - lane);
        const Integer highest = bound(key + band.before - position - lane);
        Integers<T> lanes;
        for (int i = 0; i < LANES<T>; ++i) lanes[i] = i;
        Integers<T> allowed = (lanes >= Integers<T>{} + lowest) & (lanes <= Integers<T>{} + highest);
        if (query_segments) {
            Integers<T> segments;
            __builtin_memcpy(&segments, query_segments + lane, sizeof segments);
            allowed &= segments == Integers<T>{} + key_segments[key];
        }
        return allowed;
    }
};

// ---- one head ----

// Room for tiles; every array is aligned to a cache line.
template <typename T> struct Scratch {
    T *at;
    explicit Scratch(void *memory) : at(static_cast<T *>(memory)) {}
    T *take(int64_t count) {
        T *found = at;
        at += padded(count, 64 / sizeof(T));
        return found;
    }
};

template <typename S, typename T> struct Head {
    using Integer = typename Types<T>::Integer;

    const Band &band;
    int64_t row, head, kv_head;
    int64_t width, value_width;  // of a key's and of a value's row, padded to whole chunks
    const T *keys, *values;      // of a tile: [BLOCK][width], [BLOCK][value_width]
    T *key_room, *value_room;    // for copies of them
    T *q, *q_lanes;              // [BLOCK][width], [dim][BLOCK]
    Integer *segments;           // [BLOCK]

    Head(const Band &band, int64_t row, int64_t head, Scratch<T> &scratch)
        : band(band), row(row), head(head), kv_head(head / (band.heads / band.kv_heads)),
          width(padded(band.dim, CHUNK<T>)), value_width(padded(band.value_dim, CHUNK<T>)) {
        key_room = scratch.take(BLOCK * width);
        value_room = scratch.take(BLOCK * value_width);
        q = scratch.take(BLOCK * width);
        q_lanes = scratch.take(band.dim * BLOCK);
        segments = reinterpret_cast<Integer *>(scratch.take(BLOCK));
    }

    static const S *at(const void *base, const int64_t *strides, int64_t row, int64_t head,
                       int64_t index) {
        return static_cast<const S *>(base) + row * strides[0] + head * strides[1] +
               index * strides[2];
    }

    void take_queries(int64_t first, int64_t count) {
        copy_rows(q, width, at(band.q, band.q_strides, row, head, first), band.q_strides[2], count,
                  band.dim, T(1));
        transpose(q_lanes, q, width, count, band.dim, T(band.scale * LOG2_E));
        if (!band.query_segments) return;
        const auto *from = static_cast<const Integer *>(band.query_segments);
        for (int64_t i = 0; i < BLOCK; ++i)
            segments[i] = from[row * band.queries + first + std::min(i, count - 1)];
    }

    void take_keys(int64_t first, int64_t count) {
        keys = rows(at(band.k, band.k_strides, row, kv_head, first), band.k_strides[2], key_room,
                    width, count, band.dim);
        values = rows(at(band.v, band.v_strides, row, kv_head, first), band.v_strides[2],
                      value_room, value_width, count, band.value_dim);
    }

    // Rows of numbers to compute with: where they are, or copied close together.
    static const T *rows(const S *from, int64_t stride, T *room, int64_t width, int64_t count,
                         int64_t dim) {
        if constexpr (std::is_same_v<S, T>)
            if (stride == width) return from;
        copy_rows(room, width, from, stride, count, dim, T(1));
        return room;
    }

    Mask<T> mask(int64_t first, int64_t chunk) const {
        const auto *of_keys = static_cast<const Integer *>(band.key_segments);
        return {band, first + chunk + band.offset, of_keys ? segments + chunk : nullptr,
                of_keys ? of_keys + row * band.keys : nullptr};
    }

};

template <typename S, typename T> struct Forward : Head<S, T> {
    using Base = Head<S, T>;
    using Base::band;
    T *scores;         // [BLOCK keys][CHUNK]
    T *out;            // [value_dim][BLOCK]
    T *highest, *sum;  // [BLOCK]
    T spoilt;          // 0, or not a number where a key of the head is not finite

    Forward(const Band &band, int64_t row, int64_t head, T spoilt, Scratch<T> scratch)
        : Base(band, row, head, scratch), spoilt(spoilt) {
        scores = scratch.take(BLOCK * CHUNK<T>);
        out = scratch.take(band.value_dim * BLOCK);
        highest = scratch.take(BLOCK);
        sum = scratch.take(BLOCK);
    }

    void block(int64_t first, int64_t count) {
        this->take_queries(first, count);
        std::fill(out, out + band.value_dim * BLOCK, T(0));
        std::fill(highest, highest + BLOCK, T(NOTHING));
        std::fill(sum, sum + BLOCK, T(0));
        const Range all = keys_of(band, this->row, first, first + count);
        for (int64_t key = all.begin; key < all.end; key += BLOCK) {
            const int64_t end = std::min(key + BLOCK, all.end);
            this->take_keys(key, end - key);
            for (int64_t chunk = 0; chunk < count; chunk += CHUNK<T>) {
                const int64_t last = std::min(chunk + CHUNK<T>, count);
                const Range seen =
                    intersection(keys_of(band, this->row, first + chunk, first + last), key, end);
                if (!seen.is_empty()) add(seen, key, first, chunk);
            }
        }
        finish(first, count);
    }

    // Takes keys `seen` of the tile that begins at `key` into a chunk's sums.
    void add(Range seen, int64_t key, int64_t first, int64_t chunk) {
        const int64_t count = seen.end - seen.begin;
        const T *of_keys = this->keys + (seen.begin - key) * this->width;
        const T *of_values = this->values + (seen.begin - key) * this->value_width;
        product<T, false>(count, scores, CHUNK<T>, of_keys, this->width, 1, this->q_lanes + chunk,
                          BLOCK, band.dim);
        const Mask<T> mask = this->mask(first, chunk);
        for (int part = 0; part < 2; ++part) weigh(mask, seen, part, chunk + part * LANES<T>);
        product<T, true>(band.value_dim, out + chunk, BLOCK, of_values, 1, this->value_width,
                         scores, CHUNK<T>, count);
    }

    // Turns scores into weights relative to the largest so far, and scales what was summed before.
    void weigh(const Mask<T> &mask, Range seen, int part, int64_t lane) {
        T *column = scores + part * LANES<T>;
        const Vector<T> before = load(highest + lane);
        Vector<T> now = before;
        T *score = column;
        for (int64_t key = seen.begin; key < seen.end; ++key, score += CHUNK<T>) {
            Vector<T> x = load(score);
            if (!mask.is_whole(key)) {
                x = mask(key, part) ? x : every(T(NOTHING));
                store(score, x);
            }
            now = x > now ? x : now;
        }
        const Vector<T> shrink = exp2<T>(before - now);
        Vector<T> added{};
        score = column;
        for (int64_t key = seen.begin; key < seen.end; ++key, score += CHUNK<T>) {
            const Vector<T> x = load(score);
            Vector<T> weight = exp2<T>(x - now);
            // While a query has seen nothing the largest is NOTHING itself.
            if (!mask.is_whole(key)) weight = mask(key, part) ? weight : Vector<T>{};
            store(score, weight);
            added += weight;
        }
        store(sum + lane, load(sum + lane) * shrink + added);
        store(highest + lane, now);
        T *sums = out + lane;
        for (int64_t i = 0; i < band.value_dim; ++i, sums += BLOCK) store(sums, load(sums) * shrink);
    }

    void finish(int64_t first, int64_t count) {
        T *lse = static_cast<T *>(band.lse) + (this->row * band.heads + this->head) * band.queries;
        S *to = const_cast<S *>(
            Base::at(band.out, band.out_strides, this->row, this->head, first));
        for (int64_t i = 0; i < count; ++i, to += band.out_strides[2]) {
            const T total = sum[i] + spoilt + spoilt_by(this->q + i * this->width, this->width);
            const bool sees = total != T(0);  // also where it is not a number
            lse[first + i] = sees ? T((highest[i] + std::log2(total)) / LOG2_E) : T(NOTHING);
            const T factor = sees ? T(1) / total : T(0);
            for (int64_t e = 0; e < band.value_dim; ++e) narrow(out[e * BLOCK + i] * factor, to[e]);
        }
    }
};

// dV = P^T dO, dS = P * (dO V^T - rowsum(dO * O) + dlse), dQ = dS K, dK = dS^T Q, dS times the scale.
template <typename S, typename T> struct Backward : Head<S, T> {
    using Base = Head<S, T>;
    using Base::band;
    T *dout, *dout_lanes;  // [BLOCK][value_width], [value_dim][BLOCK]
    T *dq;                 // [dim][BLOCK]
    T *weights, *dscores;  // [BLOCK keys][BLOCK]
    T *shift, *delta;      // [BLOCK]
    T *line;               // [value_width]

    Backward(const Band &band, int64_t row, int64_t head, Scratch<T> scratch)
        : Base(band, row, head, scratch) {
        dout = scratch.take(BLOCK * this->value_width);
        dout_lanes = scratch.take(band.value_dim * BLOCK);
        dq = scratch.take(band.dim * BLOCK);
        weights = scratch.take(BLOCK * BLOCK);
        dscores = scratch.take(BLOCK * BLOCK);
        shift = scratch.take(BLOCK);
        delta = scratch.take(BLOCK);
        line = scratch.take(this->value_width);
    }

    void block(int64_t first, int64_t count) {
        this->take_queries(first, count);
        take_cotangents(first, count);
        std::fill(dq, dq + band.dim * BLOCK, T(0));
        const Range all = keys_of(band, this->row, first, first + count);
        for (int64_t key = all.begin; key < all.end; key += BLOCK) {
            const int64_t end = std::min(key + BLOCK, all.end);
            this->take_keys(key, end - key);
            for (int64_t chunk = 0; chunk < count; chunk += CHUNK<T>) {
                const int64_t last = std::min(chunk + CHUNK<T>, count);
                const Range seen =
                    intersection(keys_of(band, this->row, first + chunk, first + last), key, end);
                differentiate(seen, key, end, first, chunk);
            }
            add_to_keys(key, end, first, count);
        }
        S *to = const_cast<S *>(Base::at(band.dq, band.dq_strides, this->row, this->head, first));
        for (int64_t i = 0; i < count; ++i, to += band.dq_strides[2])
            for (int64_t d = 0; d < band.dim; ++d)
                narrow(dq[d * BLOCK + i] * T(band.scale), to[d]);
    }

    void take_cotangents(int64_t first, int64_t count) {
        const int64_t width = this->value_width;
        copy_rows(dout, width, Base::at(band.dout, band.dout_strides, this->row, this->head, first),
                  band.dout_strides[2], count, band.value_dim, T(1));
        transpose(dout_lanes, dout, width, count, band.value_dim, T(1));
        const int64_t place = (this->row * band.heads + this->head) * band.queries + first;
        const T *lse = static_cast<const T *>(band.lse) + place;
        const T *dlse = static_cast<const T *>(band.dlse) + place;
        const S *out = Base::at(band.out, band.out_strides, this->row, this->head, first);
        for (int64_t i = 0; i < BLOCK; ++i) {
            shift[i] = delta[i] = T(0);
            if (i >= count) continue;
            if (lse[i] != T(NOTHING)) shift[i] = T(-lse[i] * LOG2_E);
            copy_rows(line, width, out + i * band.out_strides[2], 0, 1, band.value_dim, T(1));
            delta[i] = dlse[i] - dot(dout + i * width, line, width);
        }
    }

    // Fills a chunk's columns of weights and dscores, rows key to end, and adds to its dq.
    void differentiate(Range seen, int64_t key, int64_t end, int64_t first, int64_t chunk) {
        if (seen.is_empty()) seen = {end, end};
        T *p = weights + chunk, *ds = dscores + chunk;
        for (int64_t i = key; i < end; ++i) {
            if (i >= seen.begin && i < seen.end) continue;
            std::fill(p + (i - key) * BLOCK, p + (i - key) * BLOCK + CHUNK<T>, T(0));
            std::fill(ds + (i - key) * BLOCK, ds + (i - key) * BLOCK + CHUNK<T>, T(0));
        }
        const int64_t begin = seen.begin - key, count = seen.end - seen.begin;
        if (count == 0) return;
        p += begin * BLOCK;
        ds += begin * BLOCK;
        const T *of_keys = this->keys + begin * this->width;
        const T *of_values = this->values + begin * this->value_width;
        product<T, false>(count, p, BLOCK, of_keys, this->width, 1, this->q_lanes + chunk, BLOCK,
                          band.dim);
        product<T, false>(count, ds, BLOCK, of_values, this->value_width, 1, dout_lanes + chunk,
                          BLOCK, band.value_dim);
        const Mask<T> mask = this->mask(first, chunk);
        for (int64_t i = 0; i < count; ++i) {
            for (int part = 0; part < 2; ++part) {
                const int64_t lane = part * LANES<T>;
                Vector<T> weight =
                    exp2<T>(load(p + i * BLOCK + lane) + load(shift + chunk + lane));
                if (!mask.is_whole(seen.begin + i))
                    weight = mask(seen.begin + i, part) ? weight : Vector<T>{};
                const Vector<T> slope = load(ds + i * BLOCK + lane) + load(delta + chunk + lane);
                store(p + i * BLOCK + lane, weight);
                store(ds + i * BLOCK + lane, weight * slope);
            }
        }
        product<T, true>(band.dim, dq + chunk, BLOCK, of_keys, 1, this->width, ds, BLOCK, count);
    }

    // Adds the tile's part of dK and dV; of each few keys only the queries that see one of them.
    void add_to_keys(int64_t key, int64_t end, int64_t first, int64_t count) {
        T *dk = cotangent(band.dk, band.dk_strides), *dv = cotangent(band.dv, band.dv_strides);
        for (int64_t i = key; i < end; i += ROWS) {
            const int64_t rows = std::min<int64_t>(ROWS, end - i);
            const int64_t begin =
                std::clamp<int64_t>(i - band.after - band.offset - first, 0, count);
            const int64_t last =
                std::clamp<int64_t>(i + rows + band.before - band.offset - first, begin, count);
            const T *p = weights + (i - key) * BLOCK + begin;
            const T *ds = dscores + (i - key) * BLOCK + begin;
            add_rows(rows, dv + i * band.dv_strides[2], band.dv_strides[2], p,
                     dout + begin * this->value_width, this->value_width, band.value_dim,
                     last - begin, T(1));
            add_rows(rows, dk + i * band.dk_strides[2], band.dk_strides[2], ds,
                     this->q + begin * this->width, this->width, band.dim, last - begin,
                     T(band.scale));
        }
    }

    T *cotangent(void *base, const int64_t *strides) const {
        return static_cast<T *>(base) + this->row * strides[0] + this->kv_head * strides[1];
    }

    // to[rows][dim] += factor * left[rows][depth] right[depth][dim].
    static void add_rows(int64_t rows, T *to, int64_t stride, const T *left, const T *right,
                         int64_t width, int64_t dim, int64_t depth, T factor) {
        T sums[ROWS * CHUNK<T>];
        for (int64_t column = 0; column < dim; column += CHUNK<T>) {
            some_rows<T, 2, false>(rows, sums, CHUNK<T>, left, BLOCK, 1, right + column, width,
                                   depth);
            const int64_t some = std::min(CHUNK<T>, dim - column);
            for (int64_t row = 0; row < rows; ++row)
                for (int64_t i = 0; i < some; ++i)
                    to[row * stride + column + i] += factor * sums[row * CHUNK<T> + i];
        }
    }
};

// ---- what is exported ----

// Queries first to last - 1 of one head.
template <typename S, typename T>
void forward(const Band &band, int64_t row, int64_t head, int64_t first, int64_t last, T spoilt,
             void *room) {
    Forward<S, T> work(band, row, head, spoilt, Scratch<T>(room));
    for (; first < last; first += BLOCK) work.block(first, std::min(BLOCK, last - first));
}

// All queries of the heads that share one head of keys.
template <typename S, typename T>
void backward(const Band &band, int64_t row, int64_t kv_head, void *room) {
    const auto clear = [&](void *base, const int64_t *strides, int64_t dim) {
        T *to = static_cast<T *>(base) + row * strides[0] + kv_head * strides[1];
        for (int64_t j = 0; j < band.keys; ++j) std::fill_n(to + j * strides[2], dim, T(0));
    };
    clear(band.dk, band.dk_strides, band.dim);
    clear(band.dv, band.dv_strides, band.value_dim);
    const int64_t repeats = band.heads / band.kv_heads;
    for (int64_t head = kv_head * repeats; head < (kv_head + 1) * repeats; ++head) {
        Backward<S, T> work(band, row, head, Scratch<T>(room));
        for (int64_t first = 0; first < band.queries; first += BLOCK)
            work.block(first, std::min(BLOCK, band.queries - first));
    }
}

// More than any thread's tiles take.
int64_t room_bytes(const Band &band) {
    const int64_t widths = padded(band.dim, 64) + padded(band.value_dim, 64);
    return 8 * BLOCK * (4 * widths + 2 * BLOCK + 64);
}

// 0, or not a number where a key of the head is not finite: an infinite one could weigh nothing and
// go unnoticed.
template <typename S, typename T> T spoilt_head(const Band &band, int64_t row, int64_t kv_head) {
    const S *key = Head<S, T>::at(band.k, band.k_strides, row, kv_head, 0);
    T sum(0);
    for (int64_t j = 0; j < band.keys; ++j, key += band.k_strides[2])
        sum += spoilt_by(key, band.dim);
    return sum;
}

template <typename S, typename T> int forward_all(const Band &band) {
    std::vector<T> spoilt(band.batch * band.kv_heads);
    share(spoilt.size(), band.num_threads, 0, [&](int64_t item, void *) {
        spoilt[item] = spoilt_head<S, T>(band, item / band.kv_heads, item % band.kv_heads);
    });
    const int64_t repeats = band.heads / band.kv_heads;
    constexpr int64_t run = 512;  // queries one after the other share most of their keys
    const int64_t heads = band.batch * band.heads;
    const int64_t even = padded(heads * band.queries / (4 * band.num_threads), BLOCK);
    const int64_t length = std::clamp<int64_t>(even, BLOCK, run);
    const int64_t pieces = (band.queries + length - 1) / length;
    return share(heads * pieces, band.num_threads, room_bytes(band), [&](int64_t item, void *room) {
        const int64_t head = item / pieces, first = item % pieces * length;
        forward<S, T>(band, head / band.heads, head % band.heads, first,
                      std::min(first + length, band.queries), spoilt[head / repeats], room);
    });
}

template <typename S, typename T> int backward_all(const Band &band) {
    return share(band.batch * band.kv_heads, band.num_threads, room_bytes(band),
                 [&](int64_t item, void *room) {
                     backward<S, T>(band, item / band.kv_heads, item % band.kv_heads, room);
                 });
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Of the sources that this was compiled from.
EXPORTED const char *regard_digest() { return DIGEST; }

// Both return 0, or 1 where memory is short.
EXPORTED int regard_band_forward(const Band *band) {
    if (band->storage == FLOAT64) return forward_all<double, double>(*band);
    if (band->storage == BFLOAT16) return forward_all<BFloat16, float>(*band);
    return forward_all<float, float>(*band);
}

EXPORTED int regard_band_backward(const Band *band) {
    if (band->storage == FLOAT64) return backward_all<double, double>(*band);
    if (band->storage == BFLOAT16) return backward_all<BFloat16, float>(*band);
    return backward_all<float, float>(*band);
}
