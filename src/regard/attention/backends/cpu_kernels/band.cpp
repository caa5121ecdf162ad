// Banded attention, value and first derivative, fused: scores exist for one small tile at a time.
//
// FlashAttention (Dao et al. 2022, algorithms 1 and 4) with queries along the lanes of a vector:
// scores are computed transposed, S^T = K Q^T, so that the softmax needs no sum across lanes, and
// keys and values are read as they lie. Of a tile only what the band can reach is computed.
//
// Compiled once for each instruction set: VECTOR_BYTES is the width of a register, ROWS how many
// rows of a product are computed side by side.

#include <cmath>
#include <new>
#include <type_traits>

#include "band.h"
#include "threads.h"
#include "products.h"

namespace {

constexpr double NOTHING = -1e30;  // below every score: the largest of a query that has seen no key
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

// Which lanes of a vector, whose first query stands at `position`, may see key j.
template <typename T> struct Mask {
    const Band &band;
    int64_t position;
    const typename Types<T>::Integer *query_segments;  // of the vector, or null
    const typename Types<T>::Integer *key_segments;    // of the row

    // Keys that all lanes see.
    Range whole() const {
        if (query_segments) return {0, 0};
        return {position + LANES<T> - 1 - band.before, position + band.after + 1};
    }

    Integers<T> operator()(int64_t key) const {
        using Integer = typename Types<T>::Integer;
        const auto bound = [](int64_t x) {
            return Integer(std::clamp<int64_t>(x, -1, LANES<T>));
        };
        const Integer lowest = bound(key - band.after - position);
        const Integer highest = bound(key + band.before - position);
        Integers<T> lanes;
        for (int i = 0; i < LANES<T>; ++i) lanes[i] = i;
        Integers<T> allowed = (lanes >= Integers<T>{} + lowest) & (lanes <= Integers<T>{} + highest);
        if (query_segments) {
            Integers<T> segments;
            __builtin_memcpy(&segments, query_segments, sizeof segments);
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
    static constexpr T UNSEEN = -std::numeric_limits<T>::infinity();  // the lse of no key

    // Rows of a tile, packed along a row, and across rows; the same where an element is a number.
    struct Rows {
        int64_t width, filled;  // numbers in a row, padded to whole chunks, and to whole vectors
        Element *column_room, *row_room;
        const Element *columns, *rows;  // [BLOCK][width / PACK], [BLOCK / PACK][width]

        Rows(int64_t dim, Scratch<T> &scratch)
            : width(padded(dim, CHUNK<T>)), filled(padded(dim, LANES<T>)),
              column_room(room(scratch, width)),
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

    };

    const Band &band;
    int64_t row, head, kv_head;
    int64_t first, count;  // queries of a block
    Range tile;            // keys of a tile
    Rows keys, values, queries;
    Element *query_lanes;  // [dim / PACK][STRIDE]
    Integer *segments;     // [BLOCK]
    const T factor;        // of the scores, that are exponents of 2

    Head(const Band &band, int64_t row, int64_t head, Scratch<T> &scratch)
        : band(band), row(row), head(head), kv_head(head / (band.heads / band.kv_heads)),
          first(0), count(0), tile{0, 0}, keys(band.dim, scratch),
          values(band.value_dim, scratch), queries(band.dim, scratch),
          query_lanes(lanes_room(scratch, queries.width)),
          segments(reinterpret_cast<Integer *>(scratch.take(BLOCK))),
          factor(T(band.scale * LOG2_E)) {}

    static const S *at(const void *base, const int64_t *strides, int64_t row, int64_t head,
                       int64_t index) {
        return static_cast<const S *>(base) + row * strides[0] + head * strides[1] +
               index * strides[2];
    }

    const S *query(int64_t index) const { return at(band.q, band.q_strides, row, head, index); }

    void take_queries(int64_t from, int64_t to) {
        first = from;
        count = to - from;
        queries.take(query(first), band.q_strides[2], count, band.dim);
        to_lanes(query_lanes, queries, count, band.dim);
        if (!band.query_segments) return;
        const auto *numbers = static_cast<const Integer *>(band.query_segments);
        for (int64_t i = 0; i < BLOCK; ++i)
            segments[i] = numbers[row * band.queries + first + std::min(i, count - 1)];
    }

    // [dim / PACK][STRIDE] of rows.
    static void to_lanes(Element *to, const Rows &rows, int64_t count, int64_t dim) {
        transpose(to, rows.columns, rows.width / PACK, count, packs(dim));
    }

    static Element *lanes_room(Scratch<T> &scratch, int64_t width) {
        return reinterpret_cast<Element *>(scratch.take(width * STRIDE<T>));
    }

    static int64_t packs(int64_t count) { return (count + PACK - 1) / PACK; }

    void take_keys() {
        const int64_t size = tile.end - tile.begin;
        keys.take(at(band.k, band.k_strides, row, kv_head, tile.begin), band.k_strides[2], size,
                  band.dim);
        values.take(at(band.v, band.v_strides, row, kv_head, tile.begin), band.v_strides[2], size,
                    band.value_dim);
    }

    // Takes the keys that the block may see, tile by tile. For each tile it calls `chunk(first lane)`
    // for every chunk of queries, then `done()`. Meanwhile it fetches the queries and keys that the
    // next block is the first to need, a few at a time.
    template <typename Chunk, typename Done, typename FetchQuery, typename FetchKey>
    void visit_tiles(Chunk chunk, Done done, FetchQuery fetch_query, FetchKey fetch_key) {
        constexpr int64_t few = 8;
        const Range all = keys_of(band, row, first, first + count);
        int64_t fetched = 0;
        for (int64_t key = all.begin; key < all.end; key += BLOCK) {
            tile = {key, std::min(key + BLOCK, all.end)};
            take_keys();
            for (int64_t lane = 0; lane < count; lane += CHUNK<T>) {
                for (int64_t end = std::min(fetched + few, BLOCK); fetched < end; ++fetched) {
                    const int64_t next = first + count + fetched, next_key = all.end + fetched;
                    if (next < band.queries) fetch_query(next);
                    if (next_key < band.keys) fetch_key(next_key);
                }
                chunk(lane);
            }
            done();
        }
    }

    void fetch_key(int64_t key) const {
        fetch(at(band.k, band.k_strides, row, kv_head, key), band.dim);
        fetch(at(band.v, band.v_strides, row, kv_head, key), band.value_dim);
    }

    // Keys of the tile, counted from its first, that queries `lane` to `lane + lanes` - 1 of the block
    // may see: one of them at least.
    Range seen(int64_t lane, int64_t lanes) const {
        const int64_t last = std::min(lane + lanes, count);
        if (lane >= last) return {0, 0};
        const Range keys = intersection(keys_of(band, row, first + lane, first + last), tile);
        if (keys.is_empty()) return {0, 0};
        return {keys.begin - tile.begin, keys.end - tile.begin};
    }

    // to[key][lanes of a chunk] = the products of keys with queries, where either half of a chunk
    // may see the key: of the keys that one half sees, that half alone.
    void multiply(T *to, int64_t to_row, const Rows &left, const Element *right, int64_t depth,
                  Range low, Range high) const {
        const int64_t row = left.width / PACK;
        const auto part = [&](auto vectors, int64_t begin, int64_t end, int64_t lane) {
            if (begin < end)
                product<vectors>(end - begin, to + begin * to_row + lane, to_row,
                                 left.columns + begin * row, row, 1, right + lane, STRIDE<T>,
                                 depth);
        };
        constexpr std::integral_constant<int, 1> one;
        constexpr std::integral_constant<int, 2> two;
        const Range both = intersection(low, high);
        if (both.is_empty()) {
            part(one, low.begin, low.end, 0);
            part(one, high.begin, high.end, LANES<T>);
            return;
        }
        part(one, low.begin, both.begin, 0);
        part(one, high.begin, both.begin, LANES<T>);
        part(two, both.begin, both.end, 0);
        part(one, both.end, low.end, 0);
        part(one, both.end, high.end, LANES<T>);
    }

    // Calls `take(key, keep)` for keys of the tile; `keep(x, other)` is x in the lanes of a vector
    // that see the key.
    template <typename Take> void each_key(Range keys, int64_t lane, Take take) const {
        const auto *of_keys = static_cast<const Integer *>(band.key_segments);
        const Mask<T> mask{band, first + lane + band.offset, of_keys ? segments + lane : nullptr,
                           of_keys ? of_keys + row * band.keys : nullptr};
        Range whole = mask.whole();
        whole = intersection({whole.begin - tile.begin, whole.end - tile.begin}, keys);
        if (whole.is_empty()) whole = {keys.end, keys.end};
        const auto some = [&](int64_t begin, int64_t end) {
            for (int64_t key = begin; key < end; ++key)
                take(key, [&](Vector<T> x, T other) {
                    return mask(tile.begin + key) ? x : every(other);
                });
        };
        some(keys.begin, whole.begin);
        for (int64_t key = whole.begin; key < whole.end; ++key)
            take(key, [](Vector<T> x, T) { return x; });
        some(whole.end, keys.end);
    }

    // Clears a vector of each row from `begin` to `end` - 1, except those of `keys`.
    static void clear(T *column, int64_t stride, int64_t begin, int64_t end, Range keys) {
        const int64_t last = std::clamp(keys.begin, begin, end);
        for (int64_t i = begin; i < last; ++i) store(column + i * stride, Vector<T>{});
        for (int64_t i = std::max(begin, keys.end); i < end; ++i)
            store(column + i * stride, Vector<T>{});
    }

    // Sums [BLOCK keys][stride] of a chunk as a product takes them, packed across keys: rows of
    // `packed_stride(stride)`, the first of which is key `begin`, a multiple of PACK.
    static const Element *packed(Element *room, const T *sums, int64_t stride, int64_t begin,
                                 int64_t end) {
        if constexpr (PACK == 1) {
            (void)room, (void)end;
            return sums + begin * stride;
        } else {
            Packed::pack_rows(room, CHUNK<T>, sums + begin * stride, stride, end - begin, CHUNK<T>);
            return room;
        }
    }
    static int64_t packed_stride(int64_t stride) { return PACK == 1 ? stride : CHUNK<T>; }

    // to[lane][width] = (what becomes of it) + the sum over keys of sums[key][lane] rows[key], of a
    // chunk of lanes, each few lanes over the keys that one of them may see.
    template <Into INTO>
    void add_keys(T *to, const Rows &rows, Element *room, const T *sums, int64_t stride,
                  int64_t chunk, const T *factors) const {
        const Range all = seen(chunk, CHUNK<T>);
        if (all.is_empty()) return;
        const int64_t even = all.begin / PACK * PACK;
        const Element *left = packed(room, sums, stride, even, padded(all.end, PACK));
        const int64_t step = packed_stride(stride);
        const int64_t end = std::min(chunk + CHUNK<T>, count);
        for (int64_t lane = chunk; lane < end; lane += ROWS) {
            const int64_t lanes = std::min<int64_t>(ROWS, end - lane);
            const Range keys = seen(lane, lanes);
            if (keys.is_empty()) continue;
            const int64_t begin = keys.begin / PACK, depth = packs(keys.end) - begin;
            few_rows<INTO>(lanes, rows.filled, to + lane * rows.width, rows.width,
                           left + (begin - even / PACK) * step + (lane - chunk), 1, step,
                           rows.rows + begin * rows.width, rows.width, depth,
                           INTO == Into::SCALED ? factors + lane : nullptr);
        }
    }
};

template <typename S, typename T> struct Forward : Head<S, T> {
    using Base = Head<S, T>;
    using Base::band, Base::PACK;
    using Element = typename Base::Element;
    T *scores;                  // [BLOCK keys][CHUNK]
    Element *weights;           // [BLOCK / PACK][CHUNK]
    T *out;                     // [BLOCK][value_width]
    T *highest, *sum, *shrink;  // [BLOCK]
    T spoilt;                   // 0, or not a number where a key of the head is not finite

    Forward(const Band &band, int64_t row, int64_t head, T spoilt, Scratch<T> scratch)
        : Base(band, row, head, scratch), spoilt(spoilt) {
        scores = scratch.take(BLOCK * CHUNK<T>);
        weights = reinterpret_cast<Element *>(scratch.take(BLOCK * CHUNK<T>));
        out = scratch.take(BLOCK * this->values.width);
        highest = scratch.take(BLOCK);
        sum = scratch.take(BLOCK);
        shrink = scratch.take(BLOCK);
    }

    void block(int64_t first, int64_t last) {
        this->take_queries(first, last);
        std::fill(out, out + BLOCK * this->values.width, T(0));
        std::fill(highest, highest + BLOCK, T(NOTHING));
        std::fill(sum, sum + BLOCK, T(0));
        this->visit_tiles([&](int64_t chunk) { add(chunk); }, [] {},
                          [&](int64_t i) { fetch_query(i); },
                          [&](int64_t j) { this->fetch_key(j); });
        finish();
    }

    void fetch_query(int64_t i) const {
        fetch(this->query(i), band.dim);
        fetch(Base::at(band.out, band.out_strides, this->row, this->head, i), band.value_dim);
    }

    // Takes the keys of the tile into a chunk's sums.
    void add(int64_t chunk) {
        const Range halves[] = {this->seen(chunk, LANES<T>),
                                this->seen(chunk + LANES<T>, LANES<T>)};
        this->multiply(scores, CHUNK<T>, this->keys, this->query_lanes + chunk,
                       this->packs(band.dim), halves[0], halves[1]);
        for (int half = 0; half < 2; ++half) {
            T *column = scores + half * LANES<T>;
            // Products may take keys that the other half alone sees.
            if constexpr (PACK > 1 || ROWS > LANES<T>)
                this->clear(column, CHUNK<T>, 0, BLOCK, halves[half]);
            weigh(halves[half], column, chunk + half * LANES<T>);
        }
        this->template add_keys<Into::SCALED>(out, this->values, weights, scores, CHUNK<T>, chunk,
                                              shrink);
    }

    // Turns scores into weights relative to the largest so far, by which earlier sums shrink.
    void weigh(Range keys, T *column, int64_t lane) {
        const Vector<T> before = load(highest + lane);
        Vector<T> now = before;
        this->each_key(keys, lane, [&](int64_t key, auto keep) {
            now = larger<T>(keep(load(column + key * CHUNK<T>) * this->factor, T(NOTHING)), now);
        });
        Vector<T> added{};
        this->each_key(keys, lane, [&](int64_t key, auto keep) {
            T *at = column + key * CHUNK<T>;
            const Vector<T> weight = keep(exp2<T>(load(at) * this->factor - now), T(0));
            store(at, weight);
            added += weight;
        });
        const Vector<T> factors = exp2<T>(before - now);
        store(shrink + lane, factors);
        store(sum + lane, load(sum + lane) * factors + added);
        store(highest + lane, now);
    }

    void finish() {
        const int64_t first = this->first;
        T *lse = static_cast<T *>(band.lse) + (this->row * band.heads + this->head) * band.queries;
        S *to = const_cast<S *>(
            Base::at(band.out, band.out_strides, this->row, this->head, first));
        for (int64_t i = 0; i < this->count; ++i, to += band.out_strides[2]) {
            const T total = sum[i] + spoilt + spoilt_by(this->query(first + i), band.dim);
            const bool sees = total != T(0);  // also where it is not a number
            lse[first + i] = sees ? T((highest[i] + std::log2(total)) / LOG2_E) : this->UNSEEN;
            const T share = sees ? T(1) / total : T(0);
            const T *sums = out + i * this->values.width;
            for (int64_t e = 0; e < band.value_dim; ++e) narrow(sums[e] * share, to[e]);
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
    Element *dout_lanes;            // [value_dim / PACK][STRIDE]
    T *dq;                          // [BLOCK][width]
    T *weights, *dscores;           // [BLOCK keys][STRIDE]
    Element *weight_room, *ds_room;  // for these, packed along or across rows
    T *shift, *delta;               // [BLOCK]
    T *dout_line, *out_line;        // [value_width]

    Backward(const Band &band, int64_t row, int64_t head, Scratch<T> scratch)
        : Base(band, row, head, scratch), dout(band.value_dim, scratch) {
        dout_lanes = Base::lanes_room(scratch, dout.width);
        dq = scratch.take(BLOCK * this->queries.width);
        weights = scratch.take(BLOCK * STRIDE<T>);
        dscores = scratch.take(BLOCK * STRIDE<T>);
        weight_room = Rows::room(scratch, STRIDE<T>);
        ds_room = Rows::room(scratch, STRIDE<T>);
        shift = scratch.take(BLOCK);
        delta = scratch.take(BLOCK);
        dout_line = scratch.take(dout.width);
        out_line = scratch.take(dout.width);
    }

    void block(int64_t first, int64_t last) {
        this->take_queries(first, last);
        take_cotangents(first, last - first);
        const int64_t width = this->queries.width;
        std::fill(dq, dq + BLOCK * width, T(0));
        this->visit_tiles([&](int64_t chunk) { differentiate(chunk); }, [&] { add_to_keys(); },
                          [&](int64_t i) { fetch_query(i); }, [&](int64_t j) { fetch_key(j); });
        S *to = const_cast<S *>(Base::at(band.dq, band.dq_strides, this->row, this->head, first));
        for (int64_t i = 0; i < this->count; ++i, to += band.dq_strides[2])
            for (int64_t d = 0; d < band.dim; ++d)
                narrow(dq[i * width + d] * T(band.scale), to[d]);
    }

    void fetch_query(int64_t i) const {
        const auto at = [&](const void *base, const int64_t *strides) {
            return Base::at(base, strides, this->row, this->head, i);
        };
        fetch(this->query(i), band.dim);
        fetch(at(band.out, band.out_strides), band.value_dim);
        fetch(at(band.dout, band.dout_strides), band.value_dim);
        fetch(at(band.dq, band.dq_strides), band.dim);
    }

    void fetch_key(int64_t j) const {
        Base::fetch_key(j);
        fetch(cotangent(band.dk, band.dk_strides) + j * band.dk_strides[2], band.dim);
        fetch(cotangent(band.dv, band.dv_strides) + j * band.dv_strides[2], band.value_dim);
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
            if (lse[i] != this->UNSEEN) shift[i] = T(-lse[i] * LOG2_E);
            delta[i] = dlse[i] - dot_rows(from + i * band.dout_strides[2],
                                          out + i * band.out_strides[2]);
        }
    }

    T dot_rows(const S *dout_row, const S *out_row) const {
        const int64_t dim = band.value_dim;
        if constexpr (std::is_same_v<S, T>) {
            const int64_t whole = dim / LANES<T> * LANES<T>;
            T sum = dot(dout_row, out_row, whole);
            for (int64_t i = whole; i < dim; ++i) sum += dout_row[i] * out_row[i];
            return sum;
        } else {
            copy_rows(dout_line, dout.width, dout_row, 0, 1, dim);
            copy_rows(out_line, dout.width, out_row, 0, 1, dim);
            return dot(dout_line, out_line, dout.width);
        }
    }

    // Fills a chunk's columns of weights and dscores, and adds to its dq.
    void differentiate(int64_t chunk) {
        const Range halves[] = {this->seen(chunk, LANES<T>),
                                this->seen(chunk + LANES<T>, LANES<T>)};
        this->multiply(weights + chunk, STRIDE<T>, this->keys, this->query_lanes + chunk,
                       this->packs(band.dim), halves[0], halves[1]);
        this->multiply(dscores + chunk, STRIDE<T>, this->values, dout_lanes + chunk,
                       this->packs(band.value_dim), halves[0], halves[1]);
        const int64_t rows = padded(this->tile.end - this->tile.begin, PACK);
        for (int half = 0; half < 2; ++half) {
            const int64_t lane = chunk + half * LANES<T>;
            this->clear(weights + lane, STRIDE<T>, 0, rows, halves[half]);
            this->clear(dscores + lane, STRIDE<T>, 0, rows, halves[half]);
            slope(halves[half], lane);
        }
        this->template add_keys<Into::SUM>(dq, this->keys, ds_room, dscores + chunk, STRIDE<T>,
                                           chunk, nullptr);
    }

    // Turns scores into weights, and cotangents of weights into those of scores.
    void slope(Range keys, int64_t lane) const {
        const Vector<T> shifts = load(shift + lane), deltas = load(delta + lane);
        this->each_key(keys, lane, [&](int64_t key, auto keep) {
            T *p = weights + key * STRIDE<T> + lane, *ds = dscores + key * STRIDE<T> + lane;
            const Vector<T> weight = keep(exp2<T>(load(p) * this->factor + shifts), T(0));
            store(ds, weight * (load(ds) + deltas));
            store(p, weight);
        });
    }

    // Adds the tile's part of dK and dV; of each few keys only the queries that see one of them.
    void add_to_keys() {
        const int64_t key = this->tile.begin, end = this->tile.end;
        T *dk = cotangent(band.dk, band.dk_strides), *dv = cotangent(band.dv, band.dv_strides);
        const Element *p = along(weight_room, weights, end - key);
        const Element *ds = along(ds_room, dscores, end - key);
        for (int64_t i = key; i < end; i += ROWS) {
            const int64_t rows = std::min<int64_t>(ROWS, end - i);
            const int64_t query = i - band.offset - this->first;
            const int64_t begin = std::clamp<int64_t>(query - band.after, 0, this->count);
            const int64_t last =
                std::clamp<int64_t>(query + rows + band.before, begin, this->count);
            const int64_t pack = begin / PACK, depth = this->packs(last) - pack;
            const int64_t place = (i - key) * (STRIDE<T> / PACK) + pack;
            add_rows(rows, dv + i * band.dv_strides[2], band.dv_strides[2], p + place, dout, pack,
                     band.value_dim, depth);
            add_rows(rows, dk + i * band.dk_strides[2], band.dk_strides[2], ds + place,
                     this->queries, pack, band.dim, depth);
        }
    }

    // Sums [rows][STRIDE] as a product takes them: packed along the rows.
    static const Element *along(Element *room, const T *sums, int64_t rows) {
        if constexpr (PACK == 1) {
            (void)room, (void)rows;
            return sums;
        } else {
            Base::Packed::pack_columns(room, STRIDE<T> / PACK, sums, STRIDE<T>, rows, BLOCK);
            return room;
        }
    }

    T *cotangent(void *base, const int64_t *strides) const {
        return static_cast<T *>(base) + this->row * strides[0] + this->kv_head * strides[1];
    }

    // to[rows][dim] += left[rows][depth] right[pack + depth][dim].
    static void add_rows(int64_t rows, T *to, int64_t stride, const Element *left,
                         const Rows &right, int64_t pack, int64_t dim, int64_t depth) {
        const Element *from = right.rows + pack * right.width;
        constexpr int64_t row = STRIDE<T> / PACK;
        const int64_t whole = dim / LANES<T> * LANES<T>;
        few_rows<Into::SUM>(rows, whole, to, stride, left, row, 1, from, right.width, depth);
        if (whole == dim) return;
        T sums[ROWS * LANES<T>];
        some_rows<Into::NEW, 1>(rows, sums, LANES<T>, left, row, 1, from + whole, right.width,
                                depth);
        for (int64_t m = 0; m < rows; ++m)
            for (int64_t i = whole; i < dim; ++i)
                to[m * stride + i] += sums[m * LANES<T> + i - whole];
    }
};

// ---- what is exported ----

// Queries first to last - 1 of one head.
template <typename S, typename T>
void forward(const Band &band, int64_t row, int64_t head, int64_t first, int64_t last, T spoilt,
             void *room) {
    Forward<S, T> work(band, row, head, spoilt, Scratch<T>(room));
    for (; first < last; first += BLOCK) work.block(first, std::min(first + BLOCK, last));
}

// All queries of the heads that share one head of keys.
template <typename S, typename T>
void backward(const Band &band, int64_t row, int64_t kv_head, void *room) {
    const auto change = [&](void *base, const int64_t *strides, int64_t dim, Range keys, auto to) {
        T *first = static_cast<T *>(base) + row * strides[0] + kv_head * strides[1];
        for (int64_t j = keys.begin; j < keys.end; ++j)
            for (int64_t i = j * strides[2]; i < j * strides[2] + dim; ++i) first[i] = to(first[i]);
    };
    // Rows are cleared before the first block that adds to them, and dK is scaled after the last,
    // while they are in a cache.
    int64_t cleared = 0, scaled = 0;
    const auto clear = [&](int64_t end) {
        const Range keys{cleared, end};
        change(band.dk, band.dk_strides, band.dim, keys, [](T) { return T(0); });
        change(band.dv, band.dv_strides, band.value_dim, keys, [](T) { return T(0); });
        cleared = std::max(cleared, end);
    };
    const auto scale = [&](int64_t end) {
        const auto product = [&](T x) { return x * T(band.scale); };
        change(band.dk, band.dk_strides, band.dim, {scaled, end}, product);
        scaled = std::max(scaled, end);
    };
    const int64_t repeats = band.heads / band.kv_heads;
    for (int64_t head = kv_head * repeats; head < (kv_head + 1) * repeats; ++head) {
        Backward<S, T> work(band, row, head, Scratch<T>(room));
        const bool is_last = head + 1 == (kv_head + 1) * repeats;
        for (int64_t first = 0; first < band.queries; first += BLOCK) {
            const Range keys = keys_of(band, row, first, std::min(first + BLOCK, band.queries));
            clear(keys.end);
            if (is_last) scale(std::min(keys.begin, cleared));
            work.block(first, std::min(first + BLOCK, band.queries));
        }
        clear(band.keys);
    }
    scale(band.keys);
}

// More than any thread's tiles take.
int64_t room_bytes(const Band &band) {
    const int64_t widths = padded(band.dim, 64) + padded(band.value_dim, 64);
    return 8 * STRIDE<float> * (5 * widths + 6 * BLOCK + 64);
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
    try {
        if (band->storage == FLOAT64) return forward_all<double, double>(*band);
        if (band->storage == BFLOAT16) return forward_all<BFloat16, float>(*band);
        return forward_all<float, float>(*band);
    } catch (const std::bad_alloc &) {
        return 1;
    }
}

EXPORTED int regard_band_backward(const Band *band) {
    try {
        if (band->storage == FLOAT64) return backward_all<double, double>(*band);
        if (band->storage == BFLOAT16) return backward_all<BFloat16, float>(*band);
        return backward_all<float, float>(*band);
    } catch (const std::bad_alloc &) {
        return 1;
    }
}
