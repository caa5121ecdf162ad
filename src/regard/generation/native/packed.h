// Products of a few rows with weights that are packed once, and what follows each product.
//
// A panel holds PANEL outputs of a map for all of its inputs, side by side in the order in which
// the product reads them. Every sum runs over the inputs in one order, whatever the number of rows:
// a row has the same bits in any batch.
//
// float32: weights as they are. int8: weights as integers of -127 to 127 times a factor for each
// output; the rows as integers times a factor for each row, up to a limit for which no sum of an
// int32 can overflow. The integers of a row have 16 bits, for the instructions of AVX2 and AVX-512
// multiply pairs of 16 bits exactly (pmaddwd), where those for 8 bits (pmaddubsw) saturate and need
// a second multiplication to widen the sum: they are no faster, and lose digits.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "vectors.h"

constexpr int64_t WIDTH = LANES<float>;
constexpr int64_t PANEL = 2 * WIDTH;
constexpr int TILE = VECTOR_BYTES == 64 ? 12 : 6;  // rows whose sums fit in the registers
constexpr int64_t MAX_ROWS = 11 * 12;              // of one product: they stay in the second cache
constexpr int64_t DEPTH = 256;                     // inputs of a panel that stay in the first one
constexpr float NOTHING = -1e30f;                  // less than any score, and finite

enum Precision : int64_t { FLOAT32 = 0, INT8 = 1 };

inline int64_t padded(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

template <typename T> struct Aligned {
    std::unique_ptr<T, decltype(&std::free)> owner{nullptr, &std::free};

    void allocate(int64_t count) {  // what it held is lost
        const size_t bytes = std::max<int64_t>(64, padded(count * int64_t(sizeof(T)), 64));
        owner.reset(static_cast<T *>(std::aligned_alloc(64, bytes)));
        if (!owner) throw std::bad_alloc();
    }
    void fill_zero(int64_t count) {
        allocate(count);
        std::fill(owner.get(), owner.get() + count, T(0));
    }
    T *get() const { return owner.get(); }
};

// ---- kinds of numbers ----

struct Floats {
    using Left = float;
    using Right = float;
    using Sum = Vector<float>;
    using Number = float;
    static constexpr int64_t PACK = 1;

    static Sum load_right(const float *from) { return load(from); }
    static Sum multiply_add(Sum sum, const float *left, Sum right) { return sum + *left * right; }
};

struct Bytes {
    using Left = int16_t;
    using Right = int8_t;
    using Sum = Integers<float>;
    using Number = int32_t;
    static constexpr int64_t PACK = 2;

#if VECTOR_BYTES == 64
    static Sum load_right(const int8_t *from) {
        const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from));
        return reinterpret_cast<Sum>(_mm512_cvtepi8_epi16(bytes));
    }
    static Sum multiply_add(Sum sum, const int16_t *left, Sum right) {
        return sum + reinterpret_cast<Sum>(_mm512_madd_epi16(
                         _mm512_set1_epi32(pair(left)), reinterpret_cast<__m512i>(right)));
    }
#elif VECTOR_BYTES == 32
    static Sum load_right(const int8_t *from) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(from));
        return reinterpret_cast<Sum>(_mm256_cvtepi8_epi16(bytes));
    }
    static Sum multiply_add(Sum sum, const int16_t *left, Sum right) {
        return sum + reinterpret_cast<Sum>(_mm256_madd_epi16(
                         _mm256_set1_epi32(pair(left)), reinterpret_cast<__m256i>(right)));
    }
#else
    // Pairs of bytes as pairs of 16 bits, in lanes of 32.
    static Sum load_right(const int8_t *from) {
        Sum lanes;
        for (int64_t i = 0; i < WIDTH; ++i)
            lanes[i] = int32_t(uint32_t(uint16_t(int16_t(from[2 * i]))) |
                               uint32_t(uint16_t(int16_t(from[2 * i + 1]))) << 16);
        return lanes;
    }
    static Sum multiply_add(Sum sum, const int16_t *left, Sum right) {
#ifdef __SSE2__
        return sum + reinterpret_cast<Sum>(_mm_madd_epi16(_mm_set1_epi32(pair(left)),
                                                          reinterpret_cast<__m128i>(right)));
#else
        typedef uint32_t Unsigned __attribute__((vector_size(VECTOR_BYTES)));
        const Sum low = Sum(Unsigned(right) << 16) >> 16, high = right >> 16;
        return sum + low * int32_t(left[0]) + high * int32_t(left[1]);
#endif
    }
#endif

  private:
    static int32_t pair(const int16_t *from) {
        int32_t two;
        __builtin_memcpy(&two, from, sizeof two);
        return two;
    }
};

// ---- weights ----

// One linear map.
struct Packed {
    int64_t in = 0;           // inputs, a multiple of 2
    int64_t out = 0;          // outputs, a multiple of PANEL
    Precision precision = FLOAT32;
    Aligned<float> floats;    // [out / PANEL][in][PANEL]
    Aligned<int8_t> bytes;    // [out / PANEL][in / 2][PANEL][2]
    Aligned<float> scales;    // [out]
    Aligned<float> bias;      // [out]

    int64_t panels() const { return out / PANEL; }

    // Reads weight [num_out][num_in] and bias [num_out] or null; `to_out` and `to_in` give the
    // places of outputs and inputs, below `all_out` and `all_in`.
    template <typename ToOut, typename ToIn>
    void pack(const float *weight, const float *added, int64_t num_out, int64_t num_in,
              int64_t all_out, int64_t all_in, Precision kind, ToOut to_out, ToIn to_in) {
        in = padded(all_in, 2), out = padded(all_out, PANEL), precision = kind;
        scales.fill_zero(out), bias.fill_zero(out);
        if (kind == FLOAT32) floats.fill_zero(out * in);
        else bytes.fill_zero(out * in);
        for (int64_t row = 0; row < num_out; ++row) {
            const int64_t place = to_out(row);
            const float *from = weight + row * num_in;
            if (added) bias.get()[place] = added[row];
            if (kind == FLOAT32) {
                float *to = floats.get() + place / PANEL * in * PANEL + place % PANEL;
                for (int64_t i = 0; i < num_in; ++i) to[to_in(i) * PANEL] = from[i];
                continue;
            }
            float largest = 0, spoilt = 0;
            for (int64_t i = 0; i < num_in; ++i) {
                largest = std::max(largest, std::fabs(from[i]));
                spoilt += from[i] * 0.0f;  // not a number where the weight is not finite
            }
            const bool is_finite = spoilt == 0.0f;
            scales.get()[place] = is_finite ? largest / 127 : spoilt;
            const float factor = is_finite && largest > 0 ? 127 / largest : 0.0f;
            int8_t *to = bytes.get() + place / PANEL * in * PANEL + place % PANEL * 2;
            for (int64_t i = 0; is_finite && i < num_in; ++i) {
                const int64_t at = to_in(i);
                const float rounded = std::clamp(std::nearbyint(from[i] * factor), -127.f, 127.f);
                to[at / 2 * PANEL * 2 + at % 2] = static_cast<int8_t>(rounded);
            }
        }
    }
};

// ---- products ----

// sums[M][PANEL] = or += left[M][depth] panel[depth][PANEL].
template <typename K, bool ADD, int M>
inline void tile(typename K::Number *to, const typename K::Left *left, int64_t left_row,
                 const typename K::Right *panel, int64_t depth) {
    typename K::Sum sums[M][2];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
        for (int n = 0; n < 2; ++n) {
            if constexpr (ADD) __builtin_memcpy(&sums[m][n], to + m * PANEL + n * WIDTH, VECTOR_BYTES);
            else sums[m][n] = typename K::Sum{};
        }
    for (int64_t k = 0; k < depth; k += K::PACK, left += K::PACK, panel += K::PACK * PANEL) {
        const typename K::Sum first = K::load_right(panel);
        const typename K::Sum second = K::load_right(panel + K::PACK * WIDTH);
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

// The sums of one panel, [rows][PANEL].
template <typename K>
inline void multiply_panel(typename K::Number *sums, const typename K::Left *left,
                           int64_t left_row, int64_t rows, const typename K::Right *panel,
                           int64_t in) {
    for (int64_t k = 0; k < in; k += DEPTH) {
        const int64_t depth = std::min(DEPTH, in - k);
        for (int64_t m = 0; m < rows; m += TILE) {
            const auto *at = left + m * left_row + k;
            if (k) some_rows<K, true>(rows - m, sums + m * PANEL, at, left_row, panel + k * PANEL, depth);
            else some_rows<K, false>(rows - m, sums + m * PANEL, at, left_row, panel, depth);
        }
    }
}

// The rows that enter a product: floats, and integers with their factors where they are taken.
struct Rows {
    const float *floats;
    int64_t row;          // distance of two rows
    const int16_t *integers = nullptr;
    int64_t integer_row = 0;
    const float *factors = nullptr;
};

// Calls finish(row, column, Vector<float> first, Vector<float> second) for the outputs
// column to column + PANEL - 1 of every row; the bias is not added yet.
template <typename Finish>
inline void multiply(const Packed &map, const Rows &left, int64_t rows, int64_t first_panel,
                     int64_t last_panel, Finish finish) {
    if (map.precision == FLOAT32) {
        alignas(64) float sums[MAX_ROWS * PANEL];
        for (int64_t p = first_panel; p < last_panel; ++p) {
            multiply_panel<Floats>(sums, left.floats, left.row, rows,
                                   map.floats.get() + p * map.in * PANEL, map.in);
            for (int64_t m = 0; m < rows; ++m)
                finish(m, p * PANEL, load(sums + m * PANEL), load(sums + m * PANEL + WIDTH));
        }
        return;
    }
    alignas(64) int32_t sums[MAX_ROWS * PANEL];
    for (int64_t p = first_panel; p < last_panel; ++p) {
        multiply_panel<Bytes>(sums, left.integers, left.integer_row, rows,
                              map.bytes.get() + p * map.in * PANEL, map.in);
        const Vector<float> scale[2] = {load(map.scales.get() + p * PANEL),
                                        load(map.scales.get() + p * PANEL + WIDTH)};
        for (int64_t m = 0; m < rows; ++m) {
            Integers<float> whole[2];
            __builtin_memcpy(whole, sums + m * PANEL, sizeof whole);
            finish(m, p * PANEL,
                   __builtin_convertvector(whole[0], Vector<float>) * scale[0] * left.factors[m],
                   __builtin_convertvector(whole[1], Vector<float>) * scale[1] * left.factors[m]);
        }
    }
}

// The largest integer of a row for which no sum of `in` products with weights overflows.
inline float integer_limit(int64_t in) {
    const int64_t most = std::numeric_limits<int32_t>::max() / (127 * std::max<int64_t>(1, in));
    return static_cast<float>(std::min<int64_t>(32767, most));
}

// Rounds a row to integers up to `limit`; returns their factor, not a number where the row has one
// that is not finite.
inline float to_integers(int16_t *to, const float *from, int64_t count, float limit) {
    Vector<float> largest{}, spoilt{};
    const int64_t whole = count / WIDTH * WIDTH;
    for (int64_t i = 0; i < whole; i += WIDTH) {
        const Vector<float> x = load(from + i), size = x < Vector<float>{} ? -x : x;
        largest = size > largest ? size : largest;
        spoilt += x * 0.0f;
    }
    float most = 0, rest = 0;
    for (int64_t i = 0; i < WIDTH; ++i) most = std::max(most, largest[i]), rest += spoilt[i];
    for (int64_t i = whole; i < count; ++i) {
        most = std::max(most, std::fabs(from[i]));
        rest += from[i] * 0.0f;
    }
    const float factor = most > 0 && rest == 0.0f ? limit / most : 0.0f;
    constexpr float ROUND = Types<float>::ROUND;
    for (int64_t i = 0; i < count; ++i) {
        const float shifted = (rest == 0.0f ? from[i] : 0.0f) * factor + ROUND;
        int32_t bits;
        __builtin_memcpy(&bits, &shifted, sizeof bits);
        to[i] = static_cast<int16_t>(bits - 0x4b400000);  // the bits of ROUND
    }
    return most / limit + rest;
}
