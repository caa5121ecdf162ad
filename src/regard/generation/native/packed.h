// Products of a few rows with weights that are packed once, and what follows each product.
//
// A panel holds PANEL outputs of a map for all of its inputs, side by side in the order in which
// the product reads them: PACK inputs of an output are neighbours. Every sum runs over the inputs in
// one order, whatever the number of rows: a row has the same bits in any batch.
//
// float32: weights as they are. bf16: weights and rows rounded to bfloat16, summed in float32. int8:
// weights as integers of -127 to 127 times a factor for each output; a row as integers of 0 to 255,
// less the one that is its zero, times its factor. Sums of integers are exact: they are the same on
// every processor.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "vectors.h"

constexpr int64_t WIDTH = LANES<float>;
constexpr int64_t PANEL = 2 * WIDTH;
constexpr int TILE = VECTOR_BYTES == 64 ? 12 : 6;  // rows whose sums fit in the registers
constexpr int64_t MAX_ROWS = 11 * 12;              // of one product: they stay in the second cache
constexpr int64_t DEPTH_BYTES = 1024;              // of each output, so that a panel stays in the first one
constexpr float NOTHING = -1e30f;                  // less than any score, and finite

// Numbers left free after each row: rows that are a power of 2 of bytes apart would share a few places
// of the first cache.
template <typename N> constexpr int64_t APART = 64 / int64_t(sizeof(N));

enum Precision : int64_t { FLOAT32 = 0, INT8 = 1, BF16 = 2 };

inline int64_t padded(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

template <typename T> struct Aligned {
    std::unique_ptr<T, decltype(&std::free)> owner{nullptr, &std::free};

    void allocate(int64_t count, int64_t alignment = 64) {  // what it held is lost
        const size_t bytes = std::max(alignment, padded(count * int64_t(sizeof(T)), alignment));
        owner.reset(static_cast<T *>(std::aligned_alloc(alignment, bytes)));
        if (!owner) throw std::bad_alloc();
    }
    void fill_zero(int64_t count) {
        allocate(count);
        std::fill(owner.get(), owner.get() + count, T(0));
    }
    T *get() const { return owner.get(); }
};

// Memory of a model's weights, in pieces of large pages where the system has them: a step reads all
// weights, and with small pages the processor would look for most of these pages anew.
class Arena {
  public:
    unsigned char *take_zeros(int64_t count) {
        const int64_t bytes = padded(count, 64);
        if (bytes > left) add_piece(bytes);
        unsigned char *taken = next;
        next += bytes, left -= bytes;
        std::fill(taken, taken + bytes, static_cast<unsigned char>(0));
        return taken;
    }

  private:
#ifdef __SANITIZE_ADDRESS__
    static constexpr int64_t PAGE = 64, PIECE = 64;  // one for each map, so that its end is watched
#else
    static constexpr int64_t PAGE = 1 << 21, PIECE = 1 << 24;  // 2 MiB; what is not used costs nothing
#endif
    std::vector<Aligned<unsigned char>> pieces;
    unsigned char *next = nullptr;
    int64_t left = 0;

    void add_piece(int64_t bytes) {
        const int64_t size = padded(std::max(bytes, PIECE), PAGE);
        pieces.emplace_back().allocate(size, PAGE);
        next = pieces.back().get(), left = size;
#ifdef MADV_HUGEPAGE
        if (PAGE > 64) madvise(next, left, MADV_HUGEPAGE);
#endif
    }
};

// ---- lanes ----

template <int64_t S, int64_t... I>
inline Vector<float> rotated(Vector<float> x, std::integer_sequence<int64_t, I...>) {
#ifdef __clang__
    return __builtin_shufflevector(x, x, ((I + S) % WIDTH)...);
#else
    constexpr Integers<float> lanes{int32_t((I + S) % WIDTH)...};
    return __builtin_shuffle(x, lanes);
#endif
}

// All lanes joined in pairs, those that are S apart first.
template <int64_t S = WIDTH / 2, typename Join> inline float join_lanes(Vector<float> x, Join join) {
    if constexpr (S == 0) return x[0];
    else return join_lanes<S / 2>(
            join(x, rotated<S>(x, std::make_integer_sequence<int64_t, WIDTH>())), join);
}

inline float largest_lane(Vector<float> x) { return join_lanes(x, larger<float>); }

inline float sum_lanes(Vector<float> x) {
    return join_lanes(x, [](Vector<float> y, Vector<float> z) { return y + z; });
}

// ---- kinds of numbers ----

using Bits = Types<float>::Bits;

// 32 bits of some neighbours.
inline int32_t word(const void *from) {
    int32_t bits;
    __builtin_memcpy(&bits, from, sizeof bits);
    return bits;
}

inline float as_float(uint32_t bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

// Every kind: rows are `Left`s and weights `Right`s; PACK of them along the inputs are multiplied
// together, in registers with `Loaded` weights of WIDTH outputs, and added to `Sum`s of `Number`s.
struct Floats {
    using Left = float;
    using Right = float;
    using Loaded = Vector<float>;
    using Sum = Vector<float>;
    using Number = float;
    static constexpr int64_t PACK = 1;

    static Loaded load_right(const float *from) { return load(from); }
    static Sum multiply_add(Sum sum, const float *left, Loaded right) { return sum + *left * right; }
};

struct Halves {
    using Left = uint16_t;
    using Right = uint16_t;
    using Sum = Vector<float>;
    using Number = float;
    static constexpr int64_t PACK = 2;

#ifdef __AVX512BF16__
    using Loaded = __m512bh;

    static Loaded load_right(const uint16_t *from) {
        return reinterpret_cast<__m512bh>(_mm512_loadu_si512(from));
    }
    static Sum multiply_add(Sum sum, const uint16_t *left, Loaded right) {
        const __m512i pair = _mm512_set1_epi32(word(left));
        return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(pair), right);
    }
#else
    struct Loaded {
        Vector<float> first, second;
    };

    static Loaded load_right(const uint16_t *from) {
        Bits pairs;
        __builtin_memcpy(&pairs, from, sizeof pairs);
        return {reinterpret_cast<Vector<float>>(pairs << 16),
                reinterpret_cast<Vector<float>>(pairs & 0xffff0000u)};
    }
    static Sum multiply_add(Sum sum, const uint16_t *left, Loaded right) {
        return sum + as_float(uint32_t(left[0]) << 16) * right.first +
               as_float(uint32_t(left[1]) << 16) * right.second;
    }
#endif
};

// Rounds to the nearest bfloat16, to the even one of two.
inline uint16_t to_half(float value) {
    const uint32_t bits = static_cast<uint32_t>(word(&value));
    if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);  // not a number stays so
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

struct Bytes {
    using Right = int8_t;
    using Loaded = Integers<float>;
    using Sum = Integers<float>;
    using Number = int32_t;

#ifdef __AVX512VNNI__
    using Left = uint8_t;
    static constexpr int64_t PACK = 4;

    static Loaded load_right(const int8_t *from) {
        return reinterpret_cast<Loaded>(_mm512_loadu_si512(from));
    }
    static Sum multiply_add(Sum sum, const uint8_t *left, Loaded right) {
        return reinterpret_cast<Sum>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum),
                                                         _mm512_set1_epi32(word(left)),
                                                         reinterpret_cast<__m512i>(right)));
    }
#else
    // 16 bits, for the instructions that multiply pairs of them (pmaddwd) are exact, where those
    // for 8 bits (pmaddubsw) saturate and need a second multiplication to widen the sum.
    using Left = int16_t;
    static constexpr int64_t PACK = 2;

#if VECTOR_BYTES == 64
    static Loaded load_right(const int8_t *from) {
        const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from));
        return reinterpret_cast<Loaded>(_mm512_cvtepi8_epi16(bytes));
    }
    static Sum multiply_add(Sum sum, const int16_t *left, Loaded right) {
        return sum + reinterpret_cast<Sum>(_mm512_madd_epi16(_mm512_set1_epi32(word(left)),
                                                             reinterpret_cast<__m512i>(right)));
    }
#elif VECTOR_BYTES == 32
    static Loaded load_right(const int8_t *from) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(from));
        return reinterpret_cast<Loaded>(_mm256_cvtepi8_epi16(bytes));
    }
    static Sum multiply_add(Sum sum, const int16_t *left, Loaded right) {
        return sum + reinterpret_cast<Sum>(_mm256_madd_epi16(_mm256_set1_epi32(word(left)),
                                                             reinterpret_cast<__m256i>(right)));
    }
#else
    // Pairs of bytes as pairs of 16 bits, in lanes of 32.
    static Loaded load_right(const int8_t *from) {
        Loaded lanes;
        for (int64_t i = 0; i < WIDTH; ++i)
            lanes[i] = int32_t(uint32_t(uint16_t(int16_t(from[2 * i]))) |
                               uint32_t(uint16_t(int16_t(from[2 * i + 1]))) << 16);
        return lanes;
    }
    static Sum multiply_add(Sum sum, const int16_t *left, Loaded right) {
#ifdef __SSE2__
        return sum + reinterpret_cast<Sum>(_mm_madd_epi16(_mm_set1_epi32(word(left)),
                                                          reinterpret_cast<__m128i>(right)));
#else
        const Sum low = Sum(Bits(right) << 16) >> 16, high = right >> 16;
        return sum + low * int32_t(left[0]) + high * int32_t(left[1]);
#endif
    }
#endif
#endif
};

// ---- weights ----

// One linear map. The weights of a kind K are [out / PANEL][in / PACK][PANEL][PACK].
struct Packed {
    int64_t in = 0;           // inputs, a multiple of 4
    int64_t out = 0;          // outputs, a multiple of PANEL
    Precision precision = FLOAT32;
    unsigned char *weights = nullptr;  // in an arena
    Aligned<float> bias;      // [out]
    Aligned<float> scales;    // [out], of integers
    Aligned<int32_t> totals;  // [out], sums of their integers

    int64_t panels() const { return out / PANEL; }
    int64_t weight_bytes() const { return precision == FLOAT32 ? 4 : precision == BF16 ? 2 : 1; }

    template <typename K> typename K::Right *panel(int64_t number) const {
        return reinterpret_cast<typename K::Right *>(weights) + number * in * PANEL;
    }

    // Reads weight [num_out][num_in] and bias [num_out] or null; `to_out` and `to_in` give the
    // places of outputs and inputs, below `all_out` and `all_in`. The weights lie in an arena.
    template <typename ToOut, typename ToIn>
    void pack(const float *weight, const float *added, int64_t num_out, int64_t num_in,
              int64_t all_out, int64_t all_in, Precision kind, ToOut to_out, ToIn to_in,
              Arena &arena) {
        in = padded(all_in, 4), out = padded(all_out, PANEL), precision = kind;
        bias.fill_zero(out);
        weights = arena.take_zeros(out * in * weight_bytes());
        if (kind == INT8) scales.fill_zero(out), totals.fill_zero(out);
        for (int64_t row = 0; row < num_out; ++row) {
            const int64_t place = to_out(row);
            const float *from = weight + row * num_in;
            if (added) bias.get()[place] = added[row];
            if (kind == FLOAT32)
                put<Floats>(place, num_in, to_in, [=](int64_t i) { return from[i]; });
            else if (kind == BF16)
                put<Halves>(place, num_in, to_in, [=](int64_t i) { return to_half(from[i]); });
            else
                put_integers(place, from, num_in, to_in);
        }
    }

  private:
    template <typename K, typename ToIn, typename Number>
    void put(int64_t place, int64_t num_in, ToIn to_in, Number number) {
        typename K::Right *to = panel<K>(place / PANEL) + place % PANEL * K::PACK;
        for (int64_t i = 0; i < num_in; ++i) {
            const int64_t at = to_in(i);
            to[at / K::PACK * PANEL * K::PACK + at % K::PACK] = number(i);
        }
    }

    template <typename ToIn>
    void put_integers(int64_t place, const float *from, int64_t num_in, ToIn to_in) {
        float largest = 0, spoilt = 0;
        for (int64_t i = 0; i < num_in; ++i) {
            largest = std::max(largest, std::fabs(from[i]));
            spoilt += from[i] * 0.0f;  // not a number where the weight is not finite
        }
        const bool is_finite = spoilt == 0.0f;
        scales.get()[place] = is_finite ? largest / 127 : spoilt;
        const float factor = is_finite && largest > 0 ? 127 / largest : 0.0f;
        int32_t total = 0;
        put<Bytes>(place, num_in, to_in, [&](int64_t i) {
            const float scaled = is_finite ? std::nearbyint(from[i] * factor) : 0.0f;
            const auto integer = static_cast<int8_t>(std::clamp(scaled, -127.0f, 127.0f));
            total += integer;
            return integer;
        });
        totals.get()[place] = total;
    }
};

// ---- products ----

// sums[M][PANEL] = or += left[M][depth] panel[depth][PANEL]. If AHEAD, half as many bytes from
// `ahead` on as those of the panel are brought to the second cache.
template <typename K, bool ADD, int M, bool AHEAD = false>
inline void tile(typename K::Number *to, const typename K::Left *left, int64_t left_row,
                 const typename K::Right *panel, int64_t depth,
                 const typename K::Right *ahead = nullptr) {
    typename K::Sum sums[M][2];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
        for (int n = 0; n < 2; ++n) {
            if constexpr (ADD) __builtin_memcpy(&sums[m][n], to + m * PANEL + n * WIDTH, VECTOR_BYTES);
            else sums[m][n] = typename K::Sum{};
        }
    for (int64_t k = 0; k < depth; k += K::PACK, left += K::PACK, panel += K::PACK * PANEL) {
        const typename K::Loaded first = K::load_right(panel);
        const typename K::Loaded second = K::load_right(panel + K::PACK * WIDTH);
        if constexpr (AHEAD) {
            __builtin_prefetch(ahead, 0, 2);
            ahead += K::PACK * WIDTH;
        }
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            sums[m][0] = K::multiply_add(sums[m][0], left + m * left_row, first);
            sums[m][1] = K::multiply_add(sums[m][1], left + m * left_row, second);
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
        for (int n = 0; n < 2; ++n)
            __builtin_memcpy(to + m * PANEL + n * WIDTH, &sums[m][n], VECTOR_BYTES);
}

// The same for the number of rows at hand, TILE or fewer.
template <typename K, bool ADD, int M = TILE>
inline void some_rows(int64_t rows, typename K::Number *to, const typename K::Left *left,
                      int64_t left_row, const typename K::Right *panel, int64_t depth) {
    if (rows >= M) return tile<K, ADD, M>(to, left, left_row, panel, depth);
    if constexpr (M > 1) some_rows<K, ADD, M - 1>(rows, to, left, left_row, panel, depth);
}

// The sums of one panel, [rows][PANEL]. While the first two tiles are computed, what is multiplied
// next is brought nearer, by half each: processors do not look that far ahead by themselves.
template <typename K>
inline void multiply_panel(typename K::Number *sums, const typename K::Left *left,
                           int64_t left_row, int64_t rows, const typename K::Right *panel,
                           int64_t in) {
    constexpr int64_t DEPTH = DEPTH_BYTES / sizeof(typename K::Right);
    for (int64_t k = 0; k < in; k += DEPTH) {
        const int64_t depth = std::min(DEPTH, in - k);
        for (int64_t m = 0; m < rows; m += TILE) {
            const auto *at = left + m * left_row + k;
            if (m < 2 * TILE && rows - m >= TILE) {
                const auto *ahead = panel + (k + depth) * PANEL + m / TILE * depth * WIDTH;
                if (k) tile<K, true, TILE, true>(sums + m * PANEL, at, left_row, panel + k * PANEL, depth, ahead);
                else tile<K, false, TILE, true>(sums + m * PANEL, at, left_row, panel, depth, ahead);
            } else if (k) some_rows<K, true>(rows - m, sums + m * PANEL, at, left_row, panel + k * PANEL, depth);
            else some_rows<K, false>(rows - m, sums + m * PANEL, at, left_row, panel, depth);
        }
    }
}

// The rows that enter a product.
struct Rows {
    const void *numbers;  // of the kind that is multiplied
    int64_t row;          // distance of two rows
    const float *factors = nullptr;   // of integers
    const int32_t *zeros = nullptr;   // the integers that are 0
};

// Calls finish(row, column, sums of WIDTH columns, sums of WIDTH more).
template <typename K, typename Finish>
inline void multiply_as(const Packed &map, const Rows &left, int64_t rows, int64_t first_panel,
                        int64_t last_panel, Finish finish) {
    alignas(64) typename K::Number sums[MAX_ROWS * PANEL];
    const auto *numbers = static_cast<const typename K::Left *>(left.numbers);
    for (int64_t p = first_panel; p < last_panel; ++p) {
        multiply_panel<K>(sums, numbers, left.row, rows, map.panel<K>(p), map.in);
        for (int64_t m = 0; m < rows; ++m) {
            typename K::Sum two[2];
            __builtin_memcpy(two, sums + m * PANEL, sizeof two);
            finish(m, p * PANEL, two[0], two[1]);
        }
    }
}

// Calls finish(row, column, Vector<float> first, Vector<float> second) for the outputs
// column to column + PANEL - 1 of every row; the bias is not added yet.
template <typename Finish>
inline void multiply(const Packed &map, const Rows &left, int64_t rows, int64_t first_panel,
                     int64_t last_panel, Finish finish) {
    if (map.precision == FLOAT32)
        return multiply_as<Floats>(map, left, rows, first_panel, last_panel, finish);
    if (map.precision == BF16)
        return multiply_as<Halves>(map, left, rows, first_panel, last_panel, finish);
    const auto scaled = [&](int64_t m, int64_t column, Integers<float> sums) {
        Integers<float> totals;
        __builtin_memcpy(&totals, map.totals.get() + column, sizeof totals);
        return __builtin_convertvector(sums - totals * left.zeros[m], Vector<float>) *
               (load(map.scales.get() + column) * left.factors[m]);
    };
    multiply_as<Bytes>(map, left, rows, first_panel, last_panel,
                       [&](int64_t m, int64_t column, Integers<float> first, Integers<float> second) {
                           finish(m, column, scaled(m, column, first),
                                  scaled(m, column + WIDTH, second));
                       });
}

// ---- rows ----

// Rounds a row to bfloat16.
inline void to_halves(uint16_t *to, const float *from, int64_t count) {
    int64_t i = 0;
#ifdef __AVX512BF16__
    for (; i + 16 <= count; i += 16)
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + i),
                            reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(from + i))));
#endif
    for (; i < count; ++i) to[i] = to_half(from[i]);
}

// To the nearest integer, to the even one of two: the same on every processor, as a sum in which a
// product may be fused would not be.
inline Integers<float> rounded(Vector<float> x) {
#if VECTOR_BYTES == 64
    return reinterpret_cast<Integers<float>>(_mm512_cvtps_epi32(x));
#elif VECTOR_BYTES == 32
    return reinterpret_cast<Integers<float>>(_mm256_cvtps_epi32(x));
#elif defined(__SSE2__)
    return reinterpret_cast<Integers<float>>(_mm_cvtps_epi32(x));
#else
    Integers<float> integers;
    for (int64_t i = 0; i < WIDTH; ++i) integers[i] = int32_t(std::nearbyint(x[i]));
    return integers;
#endif
}

// The largest integer of a row for which no sum of `in` products with weights overflows.
inline int32_t integer_limit(int64_t in) {
    const int64_t most = std::numeric_limits<int32_t>::max() / (127 * std::max<int64_t>(1, in));
    return static_cast<int32_t>(std::min<int64_t>(255, most));
}

// Rounds a row to integers of 0 to `limit`, from its least number, or 0, to its largest; returns
// their factor, not a number where the row has one that is not finite, and sets the integer of 0.
inline float to_integers(Bytes::Left *to, int32_t &zero, const float *from, int64_t count,
                         int32_t limit) {
    Vector<float> largest{}, least{}, spoilt{};
    const int64_t whole = count / WIDTH * WIDTH;
    for (int64_t i = 0; i < whole; i += WIDTH) {
        const Vector<float> x = load(from + i);
        largest = x > largest ? x : largest;
        least = x < least ? x : least;
        spoilt += x * 0.0f;
    }
    float high = largest_lane(largest), low = -largest_lane(-least), rest = sum_lanes(spoilt);
    for (int64_t i = whole; i < count; ++i) {
        high = std::max(high, from[i]), low = std::min(low, from[i]);
        rest += from[i] * 0.0f;
    }
    const float range = rest == 0.0f ? high / limit - low / limit : 0.0f;  // of one integer
    const float factor = range >= std::numeric_limits<float>::min() ? 1 / range : 0.0f;
    if (factor == 0.0f) {
        zero = 0;
        std::fill_n(to, count, Bytes::Left(0));
        return rest;
    }
    zero = std::min(limit, static_cast<int32_t>(std::nearbyint(-low * factor)));
    for (int64_t i = 0; i < whole; i += WIDTH) {
        Integers<float> integers = rounded(load(from + i) * factor) + zero;
        integers = integers < 0 ? Integers<float>{} : integers;
        integers = integers > limit ? Integers<float>{} + limit : integers;
#ifdef __AVX512VNNI__
        _mm_storeu_si128(reinterpret_cast<__m128i *>(to + i),
                         _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(integers)));
#else
        for (int64_t j = 0; j < WIDTH; ++j) to[i + j] = static_cast<Bytes::Left>(integers[j]);
#endif
    }
    for (int64_t i = whole; i < count; ++i) {
        const auto nearest = static_cast<int32_t>(std::nearbyint(from[i] * factor));
        to[i] = static_cast<Bytes::Left>(std::clamp(nearest + zero, 0, limit));
    }
    return range;
}
