// Vectors as wide as a register (VECTOR_BYTES), by the extensions that GCC and Clang share.
#pragma once

#include <cstdint>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

// 2^x where |x| <= 1/2: of the polynomials of degree 6 that are 1 at 0 the one with the least relative
// error, 2e-9 (a fit by Lawson's algorithm); rounding to float adds 8e-8.
constexpr float FLOAT_SERIES[] = {
    1.0f,
    6.93147202855212030e-1f,
    2.40226479136156273e-1f,
    5.55033247078337288e-2f,
    9.61843735823782360e-3f,
    1.33988745571854352e-3f,
    1.53533620618904082e-4f,
};

// The same in double: (ln 2)^k / k!, the Taylor series, whose rest is below 5e-18.
constexpr double DOUBLE_SERIES[] = {
    1.0,
    6.9314718055994530942e-1,
    2.4022650695910071233e-1,
    5.5504108664821579953e-2,
    9.6181291076284771620e-3,
    1.3333558146428443423e-3,
    1.5403530393381609954e-4,
    1.5252733804059840281e-5,
    1.3215486790144309489e-6,
    1.0178086009239699728e-7,
    7.0549116208011233299e-9,
    4.4455382718708114976e-10,
    2.5678435993488205142e-11,
    1.3691488853904128881e-12,
};

template <typename T> struct Types;
template <> struct Types<float> {
    typedef float Vector __attribute__((vector_size(VECTOR_BYTES)));
    typedef int32_t Integers __attribute__((vector_size(VECTOR_BYTES)));
    typedef uint32_t Bits __attribute__((vector_size(VECTOR_BYTES)));
    typedef int32_t Integer;
    static constexpr float ROUND = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    static constexpr int MANTISSA = 23, BIAS = 127;
    static constexpr const auto &SERIES = FLOAT_SERIES;
};
template <> struct Types<double> {
    typedef double Vector __attribute__((vector_size(VECTOR_BYTES)));
    typedef int64_t Integers __attribute__((vector_size(VECTOR_BYTES)));
    typedef uint64_t Bits __attribute__((vector_size(VECTOR_BYTES)));
    typedef int64_t Integer;
    static constexpr double ROUND = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr int MANTISSA = 52, BIAS = 1023;
    static constexpr const auto &SERIES = DOUBLE_SERIES;
};
template <> struct Types<uint32_t> {
    typedef uint32_t Vector __attribute__((vector_size(VECTOR_BYTES)));
    typedef uint32_t Bits __attribute__((vector_size(VECTOR_BYTES)));
};
template <typename T> using Vector = typename Types<T>::Vector;
template <typename T> using Integers = typename Types<T>::Integers;
template <typename T> constexpr int64_t LANES = VECTOR_BYTES / sizeof(T);
template <typename T> constexpr int64_t CHUNK = 2 * LANES<T>;  // queries computed side by side

template <typename T> inline Vector<T> load(const T *from) {
    Vector<T> found;
    __builtin_memcpy(&found, from, sizeof found);
    return found;
}

template <typename T> inline void store(T *to, Vector<T> value) {
    __builtin_memcpy(to, &value, sizeof value);
}

// a0 b0 a1 b1 ...: its first half and its second.
template <typename T>
inline void interleave(Vector<T> a, Vector<T> b, Vector<T> &first, Vector<T> &second) {
    constexpr int N = LANES<T>;
#ifdef __clang__
    for (int i = 0; i < N; ++i) {
        first[i] = i % 2 ? b[i / 2] : a[i / 2];
        second[i] = i % 2 ? b[(N + i) / 2] : a[(N + i) / 2];
    }
#else
    typename Types<T>::Bits places{};
    for (int i = 0; i < N; ++i) places[i] = i / 2 + i % 2 * N;
    first = __builtin_shuffle(a, b, places);
    second = __builtin_shuffle(a, b, places + N / 2);
#endif
}

// The sum of all lanes, added in pairs.
template <typename T> inline T sum_of_lanes(Vector<T> x) {
    T lanes[LANES<T>];
    store(lanes, x);
#pragma GCC unroll 8
    for (int half = LANES<T> / 2; half > 0; half /= 2)
#pragma GCC unroll 16
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    return lanes[0];
}

template <typename T> inline Vector<T> every(T value) { return value - Vector<T>{}; }

// The larger of each pair; the second where one of them is not a number.
template <typename T> inline Vector<T> larger(Vector<T> a, Vector<T> b) {
#ifdef __AVX512F__  // one instruction, which GCC makes of the other form only sometimes
    if constexpr (sizeof(T) == 4) return _mm512_max_ps(a, b);
    else return _mm512_max_pd(a, b);
#else
    return a > b ? a : b;
#endif
}

// 2^x for x up to 2^7; 0 below half of the smallest normal number; not a number stays so.
template <typename T> inline Vector<T> exp2(Vector<T> x) {
    using Type = Types<T>;
    constexpr int last = sizeof(Type::SERIES) / sizeof(T) - 1;
    const Vector<T> clamped = larger<T>(every(T(-Type::BIAS)), x);
    const Vector<T> shifted = clamped + Type::ROUND;
    const Vector<T> rest = clamped - (shifted - Type::ROUND);
    Vector<T> sum = every(Type::SERIES[last]);
#pragma GCC unroll 16
    for (int k = last - 1; k >= 0; --k) sum = sum * rest + Type::SERIES[k];
    typename Type::Bits bits;
    __builtin_memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + Type::BIAS) << Type::MANTISSA;  // 0 at the lowest; what is too high falls off
    Vector<T> power;
    __builtin_memcpy(&power, &bits, sizeof power);
    return sum * power;
}
