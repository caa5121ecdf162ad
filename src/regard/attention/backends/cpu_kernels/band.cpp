// Banded attention, value and first derivative, fused: scores exist for one small tile at a time.
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
#include "products.h"

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

inline Range intersection(Range a, Range b) {
    return {std::max(a.begin, b.begin), std::min(a.end, b.end)};
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
    using Packed = Operand<S, T>;
    using Element = typename Packed::Element;
    static constexpr int64_t PACK = Packed::PACK;

    // Rows of a tile, packed along a row, and across rows; the same where an element is a number.
    struct Rows {
        int64_t width;  // numbers in a row, padded to whole chunks
        Element *column_room, *row_room;
        const Element *columns, *rows;  // [BLOCK][width / PACK], [BLOCK / PACK][width]

        Rows(int64_t dim, Scratch<T> &scratch)
            : width(padded(dim, CHUNK<T>)), column_room(room(scratch, width)),
              row_room(PACK > 1 ? room(scratch, width) : column_room), columns(column_room),
              rows(row_room) {}

        static Element *room(Scratch<T> &scratch, int64_t width) {
            return reinterpret_cast<Element *>(scratch.take(BLOCK * width));
        }

        void take(const S *from, int64_t stride, int64_t count, int64_t dim) {
            columns = column_room;
            rows = row_room;
            if constexpr (std::is_same_v<S, Element>)
                if (stride == width && dim == width) {  // read where they are
                    rows = columns = from;
                    return;
                }
            Packed::pack_columns(column_room, width / PACK, from, stride, count, dim);
            if constexpr (PACK > 1) Packed::pack_rows(row_room, width, from, stride, count, dim);
        }

        // Entry (m, k): number k of row first + m.
        Left<Element> by_row(int64_t first) const {
            return {columns + first * (width / PACK), width / PACK, 1};
        }
        // Entry (m, k): number m of row first + k; `first` is a multiple of PACK.
        Left<Element> by_column(int64_t first) const {
            return {rows + first / PACK * width, 1, width};
        }
    };

    const Band &band;
    int64_t row, head, kv_head;
    Rows keys, values, queries;
    Element *query_lanes;  // [dim / PACK][BLOCK]
    Integer *segments;     // [BLOCK]
    const T factor;        // of the scores, that are powers of two

    Head(const Band &band, int64_t row, int64_t head, Scratch<T> &scratch)
        : band(band), row(row), head(head), kv_head(head / (band.heads / band.kv_heads)),
          keys(band.dim, scratch), values(band.value_dim, scratch), queries(band.dim, scratch),
          query_lanes(Rows::room(scratch, queries.width)),
          segments(reinterpret_cast<Integer *>(scratch.take(BLOCK))),
          factor(T(band.scale * LOG2_E)) {}

    static const S *at(const void *base, const int64_t *strides, int64_t row, int64_t head,
                       int64_t index) {
        return static_cast<const S *>(base) + row * strides[0] + head * strides[1] +
               index * strides[2];
    }

    const S *query(int64_t index) const { return at(band.q, band.q_strides, row, head, index); }

    void take_queries(int64_t first, int64_t count) {
        queries.take(query(first), band.q_strides[2], count, band.dim);
        to_lanes(query_lanes, queries, count, band.dim);
        if (!band.query_segments) return;
        const auto *from = static_cast<const Integer *>(band.query_segments);
        for (int64_t i = 0; i < BLOCK; ++i)
            segments[i] = from[row * band.queries + first + std::min(i, count - 1)];
    }

    // [dim / PACK][BLOCK] of rows.
    static void to_lanes(Element *to, const Rows &rows, int64_t count, int64_t dim) {
        transpose(to, rows.columns, rows.width / PACK, count, packs(dim));
    }

    static int64_t packs(int64_t count) { return (count + PACK - 1) / PACK; }

    void take_keys(int64_t first, int64_t count) {
        keys.take(at(band.k, band.k_strides, row, kv_head, first), band.k_strides[2], count,
                  band.dim);
        values.take(at(band.v, band.v_strides, row, kv_head, first), band.v_strides[2], count,
                    band.value_dim);
    }

    // Takes the keys that a block of queries may see, tile by tile. Of each tile `chunk(seen, tile,
    // first lane)` is called for every chunk of queries with what it may see, then `done(tile)`.
    template <typename Chunk, typename Done>
    void visit_tiles(int64_t first, int64_t count, Chunk chunk, Done done) {
        const Range all = keys_of(band, row, first, first + count);
        for (int64_t key = all.begin; key < all.end; key += BLOCK) {
            const Range tile{key, std::min(key + BLOCK, all.end)};
            take_keys(tile.begin, tile.end - tile.begin);
            for (int64_t lane = 0; lane < count; lane += CHUNK<T>) {
                const int64_t last = std::min(lane + CHUNK<T>, count);
                const Range some = keys_of(band, row, first + lane, first + last);
                chunk(intersection(some, tile), tile, lane);
            }
            done(tile);
        }
    }

    Mask<T> mask(int64_t first, int64_t chunk) const {
        const auto *of_keys = static_cast<const Integer *>(band.key_segments);
        return {band, first + chunk + band.offset, of_keys ? segments + chunk : nullptr,
                of_keys ? of_keys + row * band.keys : nullptr};
    }

    // Sums [BLOCK keys][row] of a chunk as a product takes them: packed across rows.
    static const Element *packed(Element *room, const T *sums, int64_t row, int64_t begin,
                                 int64_t end) {
        if constexpr (PACK == 1) {
            (void)room, (void)end;
            return sums + begin * row;
        } else {
            Packed::pack_rows(room, row, sums + begin * row, row, end - begin, CHUNK<T>);
            return room;
        }
    }
};

template <typename S, typename T> struct Forward : Head<S, T> {
    using Base = Head<S, T>;
    using Base::band, Base::PACK;
    using Element = typename Base::Element;
    T *scores;         // [BLOCK keys][CHUNK]
    Element *weights;  // [BLOCK / PACK][CHUNK]
    T *out;            // [value_dim][BLOCK]
    T *highest, *sum;  // [BLOCK]
    T spoilt;          // 0, or not a number where a key of the head is not finite

    Forward(const Band &band, int64_t row, int64_t head, T spoilt, Scratch<T> scratch)
        : Base(band, row, head, scratch), spoilt(spoilt) {
        scores = scratch.take(BLOCK * CHUNK<T>);
        weights = reinterpret_cast<Element *>(scratch.take(BLOCK * CHUNK<T>));
        out = scratch.take(band.value_dim * BLOCK);
        highest = scratch.take(BLOCK);
        sum = scratch.take(BLOCK);
    }

    void block(int64_t first, int64_t count) {
        this->take_queries(first, count);
        std::fill(out, out + band.value_dim * BLOCK, T(0));
        std::fill(highest, highest + BLOCK, T(NOTHING));
        std::fill(sum, sum + BLOCK, T(0));
        this->visit_tiles(
            first, count,
            [&](Range seen, Range tile, int64_t chunk) {
                if (!seen.is_empty()) add(seen, tile.begin, first, chunk);
            },
            [](Range) {});
        finish(first, count);
    }

    // Takes keys `seen` of the tile that begins at `key` into a chunk's sums.
    void add(Range seen, int64_t key, int64_t first, int64_t chunk) {
        const int64_t begin = seen.begin - key, end = seen.end - key;
        product<false>(end - begin, scores + begin * CHUNK<T>, CHUNK<T>, this->keys.by_row(begin),
                       this->query_lanes + chunk, BLOCK, this->packs(band.dim));
        const Mask<T> mask = this->mask(first, chunk);
        for (int part = 0; part < 2; ++part) weigh(mask, seen, key, part, chunk + part * LANES<T>);
        const int64_t even = begin / PACK * PACK, last = padded(end, PACK);
        std::fill(scores + even * CHUNK<T>, scores + begin * CHUNK<T>, T(0));
        std::fill(scores + end * CHUNK<T>, scores + last * CHUNK<T>, T(0));
        product<true>(band.value_dim, out + chunk, BLOCK, this->values.by_column(even),
                      this->packed(weights, scores, CHUNK<T>, even, last), CHUNK<T>,
                      (last - even) / PACK);
    }

    // Turns scores into weights relative to the largest so far, and scales what was summed before.
    void weigh(const Mask<T> &mask, Range seen, int64_t first_key, int part, int64_t lane) {
        T *column = scores + (seen.begin - first_key) * CHUNK<T> + part * LANES<T>;
        const Vector<T> before = load(highest + lane);
        Vector<T> now = before;
        const T *score = column;
        for (int64_t key = seen.begin; key < seen.end; ++key, score += CHUNK<T>) {
            Vector<T> x = load(score) * this->factor;
            if (!mask.is_whole(key)) x = mask(key, part) ? x : every(T(NOTHING));
            now = x > now ? x : now;
        }
        const Vector<T> shrink = exp2<T>(before - now);
        Vector<T> added{};
        T *weight = column;
        for (int64_t key = seen.begin; key < seen.end; ++key, weight += CHUNK<T>) {
            Vector<T> x = exp2<T>(load(weight) * this->factor - now);
            if (!mask.is_whole(key)) x = mask(key, part) ? x : Vector<T>{};
            store(weight, x);
            added += x;
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
            const T total = sum[i] + spoilt + spoilt_by(this->query(first + i), band.dim);
            const bool sees = total != T(0);  // also where it is not a number
            lse[first + i] = sees ? T((highest[i] + std::log2(total)) / LOG2_E) : T(NOTHING);
            const T share = sees ? T(1) / total : T(0);
            for (int64_t e = 0; e < band.value_dim; ++e) narrow(out[e * BLOCK + i] * share, to[e]);
        }
    }
};

// dV = P^T dO, dS = P * (dO V^T - rowsum(dO * O) + dlse), dQ = dS K, dK = dS^T Q, dS times the scale.
template <typename S, typename T> struct Backward : Head<S, T> {
    using Base = Head<S, T>;
    using Base::band, Base::PACK;
    using Element = typename Base::Element;
    using Rows = typename Base::Rows;
    Rows dout;
    Element *dout_lanes;            // [value_dim / PACK][BLOCK]
    T *dq;                          // [dim][BLOCK]
    T *weights, *dscores;           // [BLOCK keys][BLOCK]
    Element *weight_room, *ds_room;  // for these, packed along or across rows
    T *shift, *delta;               // [BLOCK]
    T *dout_line, *out_line;        // [value_width]

    Backward(const Band &band, int64_t row, int64_t head, Scratch<T> scratch)
        : Base(band, row, head, scratch), dout(band.value_dim, scratch) {
        dout_lanes = Rows::room(scratch, dout.width);
        dq = scratch.take(band.dim * BLOCK);
        weights = scratch.take(BLOCK * BLOCK);
        dscores = scratch.take(BLOCK * BLOCK);
        weight_room = Rows::room(scratch, BLOCK);
        ds_room = Rows::room(scratch, BLOCK);
        shift = scratch.take(BLOCK);
        delta = scratch.take(BLOCK);
        dout_line = scratch.take(dout.width);
        out_line = scratch.take(dout.width);
    }

    void block(int64_t first, int64_t count) {
        this->take_queries(first, count);
        take_cotangents(first, count);
        std::fill(dq, dq + band.dim * BLOCK, T(0));
        this->visit_tiles(
            first, count,
            [&](Range seen, Range tile, int64_t chunk) {
                differentiate(seen, tile.begin, tile.end, first, chunk);
            },
            [&](Range tile) { add_to_keys(tile.begin, tile.end, first, count); });
        S *to = const_cast<S *>(Base::at(band.dq, band.dq_strides, this->row, this->head, first));
        for (int64_t i = 0; i < count; ++i, to += band.dq_strides[2])
            for (int64_t d = 0; d < band.dim; ++d)
                narrow(dq[d * BLOCK + i] * T(band.scale), to[d]);
    }

    void take_cotangents(int64_t first, int64_t count) {
        const int64_t dim = band.value_dim;
        const S *from = Base::at(band.dout, band.dout_strides, this->row, this->head, first);
        dout.take(from, band.dout_strides[2], count, dim);
        this->to_lanes(dout_lanes, dout, count, dim);
        const int64_t place = (this->row * band.heads + this->head) * band.queries + first;
        const T *lse = static_cast<const T *>(band.lse) + place;
        const T *dlse = static_cast<const T *>(band.dlse) + place;
        const S *out = Base::at(band.out, band.out_strides, this->row, this->head, first);
        for (int64_t i = 0; i < BLOCK; ++i) {
            shift[i] = delta[i] = T(0);
            if (i >= count) continue;
            if (lse[i] != T(NOTHING)) shift[i] = T(-lse[i] * LOG2_E);
            copy_rows(dout_line, dout.width, from + i * band.dout_strides[2], 0, 1, dim);
            copy_rows(out_line, dout.width, out + i * band.out_strides[2], 0, 1, dim);
            delta[i] = dlse[i] - dot(dout_line, out_line, dout.width);
        }
    }

    // Fills a chunk's columns of weights and dscores, rows key to end, and adds to its dq.
    void differentiate(Range seen, int64_t key, int64_t end, int64_t first, int64_t chunk) {
        const int64_t rows = padded(end - key, PACK);
        const int64_t begin = seen.is_empty() ? rows : seen.begin - key;
        const int64_t last = seen.is_empty() ? rows : seen.end - key;
        T *p = weights + chunk, *ds = dscores + chunk;
        for (int64_t i = 0; i < rows; ++i) {
            if (i >= begin && i < last) continue;
            std::fill(p + i * BLOCK, p + i * BLOCK + CHUNK<T>, T(0));
            std::fill(ds + i * BLOCK, ds + i * BLOCK + CHUNK<T>, T(0));
        }
        if (seen.is_empty()) return;
        product<false>(last - begin, p + begin * BLOCK, BLOCK, this->keys.by_row(begin),
                       this->query_lanes + chunk, BLOCK, this->packs(band.dim));
        product<false>(last - begin, ds + begin * BLOCK, BLOCK, this->values.by_row(begin),
                       dout_lanes + chunk, BLOCK, this->packs(band.value_dim));
        const Mask<T> mask = this->mask(first, chunk);
        for (int64_t i = begin; i < last; ++i)
            for (int part = 0; part < 2; ++part)
                slope(mask, key + i, part, p + i * BLOCK, ds + i * BLOCK, chunk);
        const int64_t even = begin / PACK * PACK, stop = padded(last, PACK);
        product<true>(band.dim, dq + chunk, BLOCK, this->keys.by_column(even),
                      this->packed(ds_room, ds, BLOCK, even, stop), BLOCK, (stop - even) / PACK);
    }

    // Turns scores of a key into weights, and cotangents of weights into those of scores.
    void slope(const Mask<T> &mask, int64_t key, int part, T *p, T *ds, int64_t chunk) const {
        const int64_t lane = part * LANES<T>;
        Vector<T> weight =
            exp2<T>(load(p + lane) * this->factor + load(shift + chunk + lane));
        if (!mask.is_whole(key)) weight = mask(key, part) ? weight : Vector<T>{};
        store(ds + lane, weight * (load(ds + lane) + load(delta + chunk + lane)));
        store(p + lane, weight);
    }

    // Adds the tile's part of dK and dV; of each few keys only the queries that see one of them.
    void add_to_keys(int64_t key, int64_t end, int64_t first, int64_t count) {
        T *dk = cotangent(band.dk, band.dk_strides), *dv = cotangent(band.dv, band.dv_strides);
        const Element *p = along(weight_room, weights, end - key);
        const Element *ds = along(ds_room, dscores, end - key);
        for (int64_t i = key; i < end; i += ROWS) {
            const int64_t rows = std::min<int64_t>(ROWS, end - i);
            const int64_t begin =
                std::clamp<int64_t>(i - band.after - band.offset - first, 0, count);
            const int64_t last =
                std::clamp<int64_t>(i + rows + band.before - band.offset - first, begin, count);
            const int64_t pack = begin / PACK, depth = this->packs(last) - pack;
            const int64_t place = (i - key) * (BLOCK / PACK) + pack;
            add_rows(rows, dv + i * band.dv_strides[2], band.dv_strides[2], p + place,
                     dout.rows + pack * dout.width, dout.width, band.value_dim, depth, T(1));
            add_rows(rows, dk + i * band.dk_strides[2], band.dk_strides[2], ds + place,
                     this->queries.rows + pack * this->queries.width, this->queries.width,
                     band.dim, depth, T(band.scale));
        }
    }

    // Sums [rows][BLOCK] as a product takes them: packed along the rows.
    static const Element *along(Element *room, const T *sums, int64_t rows) {
        if constexpr (PACK == 1) {
            (void)room, (void)rows;
            return sums;
        } else {
            Base::Packed::pack_columns(room, BLOCK / PACK, sums, BLOCK, rows, BLOCK);
            return room;
        }
    }

    T *cotangent(void *base, const int64_t *strides) const {
        return static_cast<T *>(base) + this->row * strides[0] + this->kv_head * strides[1];
    }

    // to[rows][dim] += factor * left[rows][depth] right[depth][dim].
    static void add_rows(int64_t rows, T *to, int64_t stride, const Element *left,
                         const Element *right, int64_t width, int64_t dim, int64_t depth,
                         T factor) {
        T sums[ROWS * CHUNK<T>];
        for (int64_t column = 0; column < dim; column += CHUNK<T>) {
            some_rows<T, Element, false>(rows, sums, CHUNK<T>, {left, BLOCK / PACK, 1},
                                         right + column, width, depth);
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
    return 8 * BLOCK * (5 * widths + 6 * BLOCK + 64);
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
    const auto look = [&](int64_t item, void *) {
        spoilt[item] = spoilt_head<S, T>(band, item / band.kv_heads, item % band.kv_heads);
    };
    if (share(spoilt.size(), band.num_threads, 64, look) != 0) return 1;
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

// Whether the processor has what AVX-512 alone does not promise.
EXPORTED int regard_can_run() {
#ifdef __AVX512BF16__
    return __builtin_cpu_supports("avx512bf16") != 0;
#else
    return 1;
#endif
}

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
