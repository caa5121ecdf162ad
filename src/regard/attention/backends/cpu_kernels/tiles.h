// Small matrices in the first-level cache: copied in from any layout, and reduced.
#pragma once

#include <algorithm>
#include <limits>

#include "vectors.h"

constexpr int64_t BLOCK = 64;  // queries, and keys, of a tile

// From a row of a tile to the next: one cache line more, so that a chunk's part of all rows falls
// into all sets of the first-level cache.
template <typename T> constexpr int64_t STRIDE = BLOCK + 64 / sizeof(T);

struct BFloat16 {
    uint16_t bits;
};

inline float widen(BFloat16 x) {
    const uint32_t bits = uint32_t(x.bits) << 16;
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}
inline float widen(float x) { return x; }
inline double widen(double x) { return x; }

inline void narrow(float x, float &to) { to = x; }
inline void narrow(double x, double &to) { to = x; }
inline void narrow(float x, BFloat16 &to) {  // to nearest, ties to even
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    const bool is_number = (bits & 0x7fffffffu) <= 0x7f800000u;
    to.bits = is_number ? uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16) : 0x7fc0u;
}

inline int64_t padded(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

// Brings numbers that are soon to be read or written into the second-level cache.
template <typename S> inline void fetch(const S *from, int64_t count) {
    for (int64_t i = 0; i < count; i += 64 / sizeof(S)) {
        __builtin_prefetch(from + i, 0, 2);
        asm volatile("");  // GCC leaves out a loop that does nothing but this
    }
}

// rows x dim numbers, side by side in rows of `width`; zeros beyond.
template <typename S, typename T>
void copy_rows(T *to, int64_t width, const S *from, int64_t stride, int64_t rows, int64_t dim) {
    for (int64_t row = 0; row < rows; ++row, to += width, from += stride) {
        for (int64_t i = 0; i < dim; ++i) to[i] = widen(from[i]);
        for (int64_t i = dim; i < width; ++i) to[i] = T(0);
    }
}

// Transposes a square of as many vectors as a vector has lanes: after as many steps as halve that
// number to 1, each of which interleaves the first half of the vectors with the second.
template <typename E> inline void transpose_square(Vector<E> *square) {
    constexpr int N = LANES<E>;
#pragma GCC unroll 4
    for (int step = 1; step < N; step *= 2) {
        Vector<E> mixed[N];
#pragma GCC unroll 8
        for (int i = 0; i < N / 2; ++i)
            interleave<E>(square[i], square[i + N / 2], mixed[2 * i], mixed[2 * i + 1]);
#pragma GCC unroll 16
        for (int i = 0; i < N; ++i) square[i] = mixed[i];
    }
}

// [rows][width] -> [columns][STRIDE]; zeros beyond the rows. Both widths are whole vectors.
template <typename E>
void transpose(E *to, const E *from, int64_t width, int64_t rows, int64_t columns) {
    constexpr int64_t N = LANES<E>;
    const auto squares = [&](int64_t row, auto load_row) {
        for (int64_t column = 0; column < columns; column += N) {
            Vector<E> square[N];
#pragma GCC unroll 16
            for (int64_t i = 0; i < N; ++i) square[i] = load_row(row + i, column);
            transpose_square<E>(square);
#pragma GCC unroll 16
            for (int64_t i = 0; i < N; ++i) store(to + (column + i) * STRIDE<E> + row, square[i]);
        }
    };
    int64_t row = 0;
    for (; row + N <= rows; row += N)
        squares(row, [&](int64_t i, int64_t column) { return load(from + i * width + column); });
    for (; row < BLOCK; row += N)
        squares(row, [&](int64_t i, int64_t column) {
            return i < rows ? load(from + i * width + column) : Vector<E>{};
        });
}

// The sum over vectors of what `of` gives for each, `count` being a multiple of their width.
template <typename T, typename Of> inline T sum_over(int64_t count, Of of) {
    Vector<T> sums{};
    for (int64_t i = 0; i < count; i += LANES<T>) sums += of(i);
    return sum_of_lanes<T>(sums);
}

template <typename T> inline T dot(const T *left, const T *right, int64_t count) {
    return sum_over<T>(count, [=](int64_t i) { return load(left + i) * load(right + i); });
}

// 0, or not a number where one of the numbers is not finite.
template <typename T> inline T spoilt_by(const T *numbers, int64_t count) {
    const int64_t whole = count / LANES<T> * LANES<T>;
    T sum = sum_over<T>(whole, [=](int64_t i) { return load(numbers + i) * T(0); });
    for (int64_t i = whole; i < count; ++i) sum += numbers[i] * T(0);
    return sum;
}
inline float spoilt_by(const BFloat16 *numbers, int64_t count) {
    constexpr uint16_t exponent = 0x7f80u;  // all of it is set in what is not finite
    uint16_t is_spoilt = 0;
    for (int64_t i = 0; i < count; ++i) is_spoilt |= (numbers[i].bits & exponent) == exponent;
    return is_spoilt ? std::numeric_limits<float>::quiet_NaN() : 0.0f;
}
