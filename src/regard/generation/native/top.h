// The best of many numbers, and their log-sum-exp, in one pass over them.
#pragma once

#include "layers.h"

inline bool is_any(Integers<float> lanes) {
#if VECTOR_BYTES == 64
    return _mm512_movepi32_mask(reinterpret_cast<__m512i>(lanes)) != 0;
#elif VECTOR_BYTES == 32
    return _mm256_movemask_ps(reinterpret_cast<__m256>(lanes)) != 0;
#else
    int32_t any = 0;
    for (int64_t i = 0; i < WIDTH; ++i) any |= lanes[i];
    return any != 0;
#endif
}

constexpr int64_t PORTION = 256;  // numbers that are added at once

// The logarithm of the sum of e^x.
struct LogSum {
    float highest = NOTHING;
    double sum = 0;  // of e^(x - highest); not a number where one is not

    // Adds x[count], which ends in NOTHING up to whole vectors; returns the largest.
    float add(const float *x, int64_t count) {
        Vector<float> most = every(NOTHING);
        for (int64_t i = 0; i < count; i += WIDTH) most = larger<float>(load(x + i), most);
        const float before = highest, largest = largest_lane(most);
        highest = std::max(highest, largest);
        if (sum != 0) sum *= std::exp(double(before) - highest);
        Vector<float> sums{};
        for (int64_t i = 0; i < count; i += WIDTH) sums += exponential(load(x + i) - highest);
        sum += sum_lanes(sums);
        return largest;
    }

    float value() const {
        if (highest == NOTHING && sum == sum) return -std::numeric_limits<float>::infinity();
        return static_cast<float>(highest + std::log(sum));
    }
};

// The best numbers of one row. Equal ones are in the order of their indices.
struct Top {
    int64_t k;
    float *values;     // [k], highest first
    int64_t *indices;  // [k]
    LogSum sum{};

    Top(int64_t k, float *values, int64_t *indices) : k(k), values(values), indices(indices) {
        std::fill(values, values + k, -std::numeric_limits<float>::infinity());
        std::fill(indices, indices + k, 0);
    }

    // Reads x[count], whose first index is `start`; there is room for whole vectors.
    void add(float *x, int64_t start, int64_t count) {
        std::fill(x + count, x + padded(count, WIDTH), NOTHING);
        if (!(sum.add(x, count) > values[k - 1])) return;
        for (int64_t i = 0; i < count; i += WIDTH)
            if (is_any(load(x + i) > values[k - 1]))
                for (int64_t j = i; j < std::min(i + WIDTH, count); ++j)
                    if (x[j] > values[k - 1]) insert(x[j], start + j);
    }

  private:
    void insert(float value, int64_t index) {
        int64_t at = k - 1;
        for (; at > 0 && values[at - 1] < value; --at) {
            values[at] = values[at - 1];
            indices[at] = indices[at - 1];
        }
        values[at] = value;
        indices[at] = index;
    }
};
