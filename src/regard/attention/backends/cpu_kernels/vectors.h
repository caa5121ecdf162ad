// Vectors as wide as a register (VECTOR_BYTES), by the extensions that GCC and Clang share.
#pragma once

#include <cstdint>

template <typename T> struct Types;
template <> struct Types<float> {
    typedef float Vector __attribute__((vector_size(VECTOR_BYTES)));
    typedef int32_t Integers __attribute__((vector_size(VECTOR_BYTES)));
    typedef uint32_t Bits __attribute__((vector_size(VECTOR_BYTES)));
    typedef int32_t Integer;
    static constexpr float ROUND = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    static constexpr int MANTISSA = 23, BIAS = 127, TERMS = 8;
};
template <> struct Types<double> {
    typedef double Vector __attribute__((vector_size(VECTOR_BYTES)));
    typedef int64_t Integers __attribute__((vector_size(VECTOR_BYTES)));
    typedef uint64_t Bits __attribute__((vector_size(VECTOR_BYTES)));
    typedef int64_t Integer;
    static constexpr double ROUND = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr int MANTISSA = 52, BIAS = 1023, TERMS = 14;
};
template <> struct Types<uint32_t> {
    typedef uint32_t Vector __attribute__((vector_size(VECTOR_BYTES)));
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

template <typename T> inline Vector<T> every(T value) { return value - Vector<T>{}; }

// (ln 2)^k / k!: the Taylor series of 2^x, whose rest is below 6e-9 for 8 terms and 5e-18 for 14
// where |x| <= 1/2.
constexpr double SERIES[] = {
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

// 2^x for x up to 2^7; 0 below the smallest normal number; not a number stays so.
template <typename T> inline Vector<T> exp2(Vector<T> x) {
    using Type = Types<T>;
    constexpr T lowest = T(1 - Type::BIAS);
    const Integers<T> is_small = x < every(lowest);
    const Vector<T> clamped = is_small ? every(lowest) : x;
    const Vector<T> shifted = clamped + Type::ROUND;
    const Vector<T> rest = clamped - (shifted - Type::ROUND);
    Vector<T> sum = every(T(SERIES[Type::TERMS - 1]));
#pragma GCC unroll 16
    for (int k = Type::TERMS - 2; k >= 0; --k) sum = sum * rest + T(SERIES[k]);
    typename Type::Bits bits;
    __builtin_memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + Type::BIAS) << Type::MANTISSA;  // what is too high falls off
    Vector<T> power;
    __builtin_memcpy(&power, &bits, sizeof power);
    return is_small ? Vector<T>{} : sum * power;
}
