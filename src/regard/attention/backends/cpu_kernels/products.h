// Products of small matrices, and how numbers enter them.
//
// Numbers stored as S are multiplied as `Element`s, each of which packs PACK numbers that are
// neighbours along the axis of summation: one number as wide as the sums, or, where the processor
// has the instruction, two of bfloat16 (exact in their products, summed in float32).
#pragma once

#include "tiles.h"

template <typename S, typename T> struct Operand {
    using Element = T;
    static constexpr int64_t PACK = 1;

    // `dim` numbers a row, packed along the row.
    static void pack_columns(T *to, int64_t width, const S *from, int64_t stride, int64_t rows,
                             int64_t dim) {
        copy_rows(to, width, from, stride, rows, dim);
    }
    // The same, packed across rows: [padded(rows, PACK) / PACK][width].
    static void pack_rows(T *to, int64_t width, const S *from, int64_t stride, int64_t rows,
                          int64_t dim) {
        copy_rows(to, width, from, stride, rows, dim);
    }
};

template <typename T> inline Vector<T> multiply_add(Vector<T> sum, T left, Vector<T> right) {
    return sum + left * right;
}

#ifdef __AVX512BF16__
template <> struct Operand<BFloat16, float> {
    using Element = uint32_t;
    static constexpr int64_t PACK = 2;

    static void pack_columns(uint32_t *to, int64_t width, const BFloat16 *from, int64_t stride,
                             int64_t rows, int64_t dim) {
        for (int64_t row = 0; row < rows; ++row, to += width, from += stride) {
            std::fill(to + dim / 2, to + width, 0u);
            __builtin_memcpy(to, from, dim * sizeof(BFloat16));
        }
    }
    static void pack_rows(uint32_t *to, int64_t width, const BFloat16 *from, int64_t stride,
                          int64_t rows, int64_t dim) {
        for (int64_t row = 0; row < rows; row += 2, to += width, from += 2 * stride) {
            const bool is_last = row + 1 == rows;
            for (int64_t i = 0; i < dim; ++i)
                to[i] = from[i].bits | (is_last ? 0u : uint32_t(from[stride + i].bits) << 16);
            std::fill(to + dim, to + width, 0u);
        }
    }
    // The same of sums, a whole number of vectors in a row.
    static void pack_columns(uint32_t *to, int64_t width, const float *from, int64_t stride,
                             int64_t rows, int64_t dim) {
        for (int64_t row = 0; row < rows; ++row, to += width, from += stride)
            for (int64_t i = 0; i < dim; i += 16)
                _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + i / 2), narrowed(from + i));
    }
    static void pack_rows(uint32_t *to, int64_t width, const float *from, int64_t stride,
                          int64_t rows, int64_t dim) {
        for (int64_t row = 0; row < rows; row += 2, to += width, from += 2 * stride)
            for (int64_t i = 0; i < dim; i += 16) {
                const __m512i low = _mm512_cvtepu16_epi32(narrowed(from + i));
                const __m512i high = _mm512_cvtepu16_epi32(narrowed(from + stride + i));
                _mm512_storeu_si512(to + i, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
            }
    }

  private:
    static __m256i narrowed(const float *from) {
        return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(from)));
    }
};

inline Vector<float> multiply_add(Vector<float> sum, uint32_t left, Vector<uint32_t> right) {
    const __m512i lefts = _mm512_set1_epi32(static_cast<int>(left));
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(lefts),
                            reinterpret_cast<__m512bh>(right));
}
#endif

// Products C = A B, where entry (m, k) of A is `a[m * a_row + k * a_step]`: A or its transpose.
//
// Arguments are single numbers, and a tile is a call of its own. Inlined, or as a struct, compilers
// copy addresses by vector registers, where they wait for all products before them.

// What becomes of the C that is there: it is replaced, added to, or first multiplied by a factor for
// each row.
enum class Into { NEW, SUM, SCALED };

// C[M][N vectors] = (what becomes of C) + sum over k of A(m, k) B[k][N vectors].
template <Into INTO, int M, int N, typename T, typename E>
__attribute__((noinline)) void tile(T *c, int64_t c_row, const E *a, int64_t a_row, int64_t a_step,
                                    const E *b, int64_t b_row, int64_t depth, const T *factors) {
    Vector<T> sums[M][N];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) {
            const T *at = c + m * c_row + n * LANES<T>;
            if constexpr (INTO == Into::NEW) sums[m][n] = Vector<T>{};
            if constexpr (INTO == Into::SUM) sums[m][n] = load(at);
            if constexpr (INTO == Into::SCALED) sums[m][n] = load(at) * factors[m];
        }
    for (int64_t k = 0; k < depth; ++k, a += a_step, b += b_row) {
        Vector<E> right[N];
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) right[n] = load(b + n * LANES<T>);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            const E left = a[m * a_row];
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) sums[m][n] = multiply_add(sums[m][n], left, right[n]);
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) store(c + m * c_row + n * LANES<T>, sums[m][n]);
}

// The same for the number of rows at hand, ROWS or fewer.
template <Into INTO, int N, int M = ROWS, typename T, typename E>
inline void some_rows(int64_t rows, T *c, int64_t c_row, const E *a, int64_t a_row, int64_t a_step,
                      const E *b, int64_t b_row, int64_t depth, const T *factors = nullptr) {
    if (rows == M) return tile<INTO, M, N>(c, c_row, a, a_row, a_step, b, b_row, depth, factors);
    if constexpr (M > 1)
        some_rows<INTO, N, M - 1>(rows, c, c_row, a, a_row, a_step, b, b_row, depth, factors);
}

// C[rows][N vectors] = A B.
template <int N, typename T, typename E>
void product(int64_t rows, T *c, int64_t c_row, const E *a, int64_t a_row, int64_t a_step,
             const E *b, int64_t b_row, int64_t depth) {
    for (int64_t m = 0; m < rows; m += ROWS)
        some_rows<Into::NEW, N>(std::min<int64_t>(ROWS, rows - m), c + m * c_row, c_row,
                                a + m * a_row, a_row, a_step, b, b_row, depth);
}

// C[rows][columns] = (what becomes of C) + A B, for ROWS rows or fewer, and whole vectors of
// columns.
template <Into INTO, typename T, typename E>
void few_rows(int64_t rows, int64_t columns, T *c, int64_t c_row, const E *a, int64_t a_row,
              int64_t a_step, const E *b, int64_t b_row, int64_t depth,
              const T *factors = nullptr) {
    int64_t column = 0;
    for (; column + CHUNK<T> <= columns; column += CHUNK<T>)
        some_rows<INTO, 2>(rows, c + column, c_row, a, a_row, a_step, b + column, b_row, depth,
                           factors);
    if (column < columns)
        some_rows<INTO, 1>(rows, c + column, c_row, a, a_row, a_step, b + column, b_row, depth,
                           factors);
}
