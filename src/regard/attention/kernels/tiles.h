// Small matrices in the first-level cache: copied in from any layout, and multiplied.
#pragma once

#include <algorithm>
#include <limits>

#include "vectors.h"

constexpr int64_t BLOCK = 64;  // queries, and keys, of a tile

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

// rows x dim numbers, side by side in rows of `width`, times a factor; zeros beyond.
template <typename S, typename T>
void copy_rows(T *to, int64_t width, const S *from, int64_t stride, int64_t rows, int64_t dim,
               T factor) {
    for (int64_t row = 0; row < rows; ++row, to += width, from += stride) {
        for (int64_t i = 0; i < dim; ++i) to[i] = widen(from[i]) * factor;
        for (int64_t i = dim; i < width; ++i) to[i] = T(0);
    }
}

// [rows][width] -> [dim][BLOCK], times a factor; zeros beyond the rows.
template <typename T>
void transpose(T *to, const T *from, int64_t width, int64_t rows, int64_t dim, T factor) {
    constexpr int64_t STEP = 8;
    for (int64_t i = 0; i < dim; i += STEP) {
        const int64_t end = std::min(i + STEP, dim);
        for (int64_t row = 0; row < rows; ++row)
            for (int64_t j = i; j < end; ++j) to[j * BLOCK + row] = from[row * width + j] * factor;
        for (int64_t j = i; j < end; ++j)
            for (int64_t row = rows; row < BLOCK; ++row) to[j * BLOCK + row] = T(0);
    }
}

// The sum over vectors of what `of` gives for each, `count` being a multiple of their width.
template <typename T, typename Of> inline T sum_over(int64_t count, Of of) {
    Vector<T> sums{};
    for (int64_t i = 0; i < count; i += LANES<T>) sums += of(i);
    T sum(0);
    for (int lane = 0; lane < LANES<T>; ++lane) sum += sums[lane];
    return sum;
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

// C[M][N vectors] = or += sum over k of A(m, k) B[k][N vectors].
template <typename T, int M, int N, bool ADD>
inline void tile(T *c, int64_t c_row, const T *a, int64_t a_row, int64_t a_step, const T *b,
                 int64_t b_row, int64_t depth) {
    Vector<T> sums[M][N];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n)
            sums[m][n] = ADD ? load(c + m * c_row + n * LANES<T>) : Vector<T>{};
    for (int64_t k = 0; k < depth; ++k, a += a_step, b += b_row) {
        Vector<T> right[N];
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) right[n] = load(b + n * LANES<T>);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            const T left = a[m * a_row];
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) sums[m][n] += left * right[n];
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) store(c + m * c_row + n * LANES<T>, sums[m][n]);
}

// The same for the number of rows at hand, ROWS or fewer.
template <typename T, int N, bool ADD, int M = ROWS>
inline void some_rows(int64_t rows, T *c, int64_t c_row, const T *a, int64_t a_row, int64_t a_step,
                      const T *b, int64_t b_row, int64_t depth) {
    if (rows == M) return tile<T, M, N, ADD>(c, c_row, a, a_row, a_step, b, b_row, depth);
    if constexpr (M > 1)
        some_rows<T, N, ADD, M - 1>(rows, c, c_row, a, a_row, a_step, b, b_row, depth);
}

// C[rows][CHUNK] = or += A B.
template <typename T, bool ADD>
void product(int64_t rows, T *c, int64_t c_row, const T *a, int64_t a_row, int64_t a_step,
             const T *b, int64_t b_row, int64_t depth) {
    for (int64_t m = 0; m < rows; m += ROWS)
        some_rows<T, 2, ADD>(std::min<int64_t>(ROWS, rows - m), c + m * c_row, c_row,
                             a + m * a_row, a_row, a_step, b, b_row, depth);
}
