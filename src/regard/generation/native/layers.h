// What a block computes between its products: norms, activations, rotary positions, attention.
#pragma once

#include <utility>

#include "decoder.h"
#include "packed.h"

inline Vector<float> exponential(Vector<float> x) { return exp2<float>(x * 1.44269504f); }

// x / (1 + e^-x), whose exponential is bounded so that it stays finite.
inline Vector<float> sigmoid(Vector<float> x) {
    const Vector<float> bounded = x < -80.0f ? every(-80.0f) : x;
    return 1.0f / (1.0f + exponential(-bounded));
}

// Abramowitz & Stegun 7.1.26: within 1.5e-7.
inline Vector<float> error_function(Vector<float> x) {
    const Vector<float> size = x < Vector<float>{} ? -x : x;
    const Vector<float> t = 1.0f / (1.0f + 0.3275911f * size);
    const Vector<float> series =
        t * (0.254829592f +
             t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    const Vector<float> value = 1.0f - series * exponential(-(size * size));
    return x < Vector<float>{} ? -value : value;
}

// Cephes (Moshier 1992): near 0 a polynomial, where the other form would lose digits.
inline Vector<float> hyperbolic_tangent(Vector<float> x) {
    const Vector<float> size = x < Vector<float>{} ? -x : x, square = x * x;
    const Vector<float> bounded = size > 10.0f ? every(10.0f) : size;  // not a number stays so
    const Vector<float> far = 1.0f - 2.0f / (exponential(2.0f * bounded) + 1.0f);
    const Vector<float> series =
        -3.33332819422e-1f +
        square * (1.33314422036e-1f +
                  square * (-5.37397155531e-2f +
                            square * (2.06390887954e-2f - square * 5.70498872745e-3f)));
    const Vector<float> near = x + x * square * series;
    return size < 0.625f ? near : x < Vector<float>{} ? -far : far;
}

// cap tanh(x / cap). Models without bounds have no use for it: in place it would take registers.
__attribute__((noinline)) inline Vector<float> bounded(Vector<float> x, float cap) {
    return cap * hyperbolic_tangent(x / cap);
}

// Bounds some numbers by `cap`, where it is not 0.
inline void bound(float *x, int64_t count, float cap) {
    for (int64_t i = 0; cap != 0.0f && i < count; i += WIDTH) {
        const size_t bytes = sizeof(float) * std::min(WIDTH, count - i);
        Vector<float> some{};
        __builtin_memcpy(&some, x + i, bytes);
        some = bounded(some, cap);
        __builtin_memcpy(x + i, &some, bytes);
    }
}

inline Vector<float> activate(int64_t activation, Vector<float> x) {
    switch (activation) {
        case RELU: return x < Vector<float>{} ? Vector<float>{} : x;  // not a number stays so
        case GELU: return 0.5f * x * (1.0f + error_function(x * 0.70710678f));
        case GELU_TANH:  // tanh(y) = 2 sigmoid(2 y) - 1
            return x * sigmoid(1.5957691216f * (x + 0.044715f * (x * x * x)));
        default: return x * sigmoid(x);
    }
}

template <int64_t ACTIVATION> inline void gate_by(float *x, const float *gates, int64_t count) {
    for (int64_t i = 0; i < count; i += WIDTH)
        store(x + i, activate(ACTIVATION, load(x + i)) * load(gates + i));
}

// x = activation(x) gates, in whole vectors.
inline void gate(int64_t activation, float *x, const float *gates, int64_t count) {
    switch (activation) {
        case RELU: return gate_by<RELU>(x, gates, count);
        case GELU: return gate_by<GELU>(x, gates, count);
        case GELU_TANH: return gate_by<GELU_TANH>(x, gates, count);
        default: return gate_by<SILU>(x, gates, count);
    }
}

struct Norm {
    std::vector<float> weight, bias;  // [dim]; no bias in RMS norms

    bool is_there() const { return !weight.empty(); }

    void set(const float *scale, const float *shift, int64_t dim) {
        weight.assign(scale, scale + dim);
        if (shift) bias.assign(shift, shift + dim);
    }
};

inline float sum_of(const float *x, int64_t count, float shift, bool is_square) {
    Vector<float> sums{};
    const int64_t whole = count / WIDTH * WIDTH;
    for (int64_t i = 0; i < whole; i += WIDTH) {
        const Vector<float> y = load(x + i) - shift;
        sums += is_square ? y * y : y;
    }
    float sum = sum_lanes(sums);
    for (int64_t i = whole; i < count; ++i) {
        const float y = x[i] - shift;
        sum += is_square ? y * y : y;
    }
    return sum;
}

// Normalises a row of `parts` of `dim` numbers each, together; parts are `width` apart, and zero
// behind their numbers.
inline void normalize(float *to, const float *x, const Norm &norm, int64_t kind, double epsilon,
                      int64_t dim, int64_t width, int64_t parts = 1) {
    const auto mean_of = [=](float shift, bool is_square) {
        float sum = 0;
        for (int64_t p = 0; p < parts; ++p) sum += sum_of(x + p * width, dim, shift, is_square);
        return sum / float(parts * dim);
    };
    const float mean = kind == LAYER ? mean_of(0.0f, false) : 0.0f;
    const float factor = 1.0f / std::sqrt(mean_of(mean, true) + float(epsilon));
    for (int64_t p = 0; p < parts; ++p, to += width, x += width) {
        const float *weight = norm.weight.data() + p * dim;
        if (kind == LAYER) {
            const float *bias = norm.bias.data() + p * dim;
            for (int64_t i = 0; i < dim; ++i) to[i] = (x[i] - mean) * factor * weight[i] + bias[i];
        } else
            for (int64_t i = 0; i < dim; ++i) to[i] = x[i] * factor * weight[i];
        std::fill(to + dim, to + width, 0.0f);
    }
}

// Rotates a head by the angles of its position, `dim / 2` cosines and sines.
inline void rotate(float *head, const float *cosine, const float *sine, int64_t dim, int64_t pairs) {
    const int64_t half = dim / 2;
    for (int64_t i = 0; i < half; ++i) {
        float &first = head[pairs == HALVES ? i : 2 * i];
        float &second = head[pairs == HALVES ? i + half : 2 * i + 1];
        const float x = first, y = second;
        first = x * cosine[i] - y * sine[i];
        second = x * sine[i] + y * cosine[i];
    }
}

// The sums of neighbours of S lanes, those of a before those of b.
template <int64_t S, int64_t... I>
inline Vector<float> add_pairs(Vector<float> a, Vector<float> b,
                               std::integer_sequence<int64_t, I...>) {
#ifdef __clang__
    return __builtin_shufflevector(a, b, (I / S % 2 ? WIDTH + I - S : I)...) +
           __builtin_shufflevector(a, b, (I / S % 2 ? WIDTH + I : I + S)...);
#else
    constexpr Integers<float> left{int32_t(I / S % 2 ? WIDTH + I - S : I)...};
    constexpr Integers<float> right{int32_t(I / S % 2 ? WIDTH + I : I + S)...};
    return __builtin_shuffle(a, b, left) + __builtin_shuffle(a, b, right);
#endif
}

// The sum of the lanes of each of WIDTH vectors; what they held is lost.
template <int64_t S = 1> inline Vector<float> sum_each(Vector<float> *sums) {
    if constexpr (S == WIDTH) return sums[0];
    else {
        for (int64_t i = 0; i < WIDTH / S; i += 2)
            sums[i / 2] = add_pairs<S>(sums[i], sums[i + 1],
                                       std::make_integer_sequence<int64_t, WIDTH>());
        return sum_each<2 * S>(sums);
    }
}

// ---- keys and values ----

// They are kept as float32, or as bfloat16: then the numbers i and i + WIDTH of 2 WIDTH neighbours
// share 32 bits, so that they become two vectors without being moved.
template <typename N> constexpr int64_t PARTS = sizeof(float) / sizeof(N);  // vectors loaded at once

inline void load_parts(const float *from, Vector<float> *parts) { parts[0] = load(from); }

inline void load_parts(const uint16_t *from, Vector<float> *parts) {
    Bits pairs;
    __builtin_memcpy(&pairs, from, sizeof pairs);
    parts[0] = reinterpret_cast<Vector<float>>(pairs << 16);
    parts[1] = reinterpret_cast<Vector<float>>(pairs & 0xffff0000u);
}

// Keeps `width` numbers, which are a whole number of loads.
inline void keep(float *to, const float *from, int64_t width) { std::copy_n(from, width, to); }

// To the nearest bfloat16, in the upper 16 bits of a lane; not a number stays so.
inline Bits upper_halves(Vector<float> x) {
    const Bits bits = reinterpret_cast<Bits>(x);
    const Bits rounded = bits + 0x7fffu + (bits >> 16 & 1u);
    return (x == x ? rounded : bits | 0x400000u) & 0xffff0000u;
}

inline void keep(uint16_t *to, const float *from, int64_t width) {
    for (int64_t i = 0; i < width; i += 2 * WIDTH) {
        const Bits pairs =
            upper_halves(load(from + i)) >> 16 | upper_halves(load(from + i + WIDTH));
        __builtin_memcpy(to + i, &pairs, sizeof pairs);
    }
}

// The dot products of a query with WIDTH keys.
template <typename N>
inline Vector<float> dots(const float *query, const N *const *keys, int64_t width) {
    constexpr int64_t P = PARTS<N>;
    Vector<float> sums[WIDTH] = {};
    for (int64_t i = 0; i < width; i += P * WIDTH) {
        Vector<float> part[P], key[P];
        for (int64_t p = 0; p < P; ++p) part[p] = load(query + i + p * WIDTH);
#pragma GCC unroll 16
        for (int64_t j = 0; j < WIDTH; ++j) {
            load_parts(keys[j] + i, key);
            for (int64_t p = 0; p < P; ++p) sums[j] += part[p] * key[p];
        }
    }
    return sum_each(sums);
}

// to[R loads] += the sum over keys of weight * value.
template <typename N, int R, typename Value>
inline void sum_values(float *to, const float *weights, Value value, int64_t first, int64_t last) {
    constexpr int64_t P = PARTS<N>;
    Vector<float> sums[R * P], parts[P];
    for (int64_t n = 0; n < R * P; ++n) sums[n] = load(to + n * WIDTH);
    for (int64_t j = first; j < last; ++j) {
        const N *from = value(j);
#pragma GCC unroll 4
        for (int64_t r = 0; r < R; ++r) {
            load_parts(from + r * P * WIDTH, parts);
            for (int64_t p = 0; p < P; ++p) sums[r * P + p] += weights[j] * parts[p];
        }
    }
    for (int64_t n = 0; n < R * P; ++n) store(to + n * WIDTH, sums[n]);
}

// Keys and values that lie anywhere: a place has the keys of each head and then the values.
template <typename N> struct Places {
    using Number = N;
    const N *const *places;
    int64_t width;   // of a head
    int64_t values;  // distance from a key to its value

    const N *key(int64_t head, int64_t j) const { return places[j] + head * width; }
    const N *value(int64_t head, int64_t j) const { return key(head, j) + values; }
};

// Keys and values of a source: [heads][2][length][width].
template <typename N> struct Memory {
    using Number = N;
    const N *memory;
    int64_t width, length;

    const N *key(int64_t head, int64_t j) const { return memory + (head * 2 * length + j) * width; }
    const N *value(int64_t head, int64_t j) const { return key(head, j + length); }
};

// Turns scores into weights, which lack a factor; returns it. There is room for whole vectors.
inline float weigh_scores(float *scores, int64_t count) {
    const int64_t room = padded(count, WIDTH);
    std::fill(scores + count, scores + room, NOTHING);
    Vector<float> most = every(NOTHING);
    for (int64_t j = 0; j < room; j += WIDTH) most = larger<float>(load(scores + j), most);
    const float highest = largest_lane(most);
    Vector<float> sums{};
    for (int64_t j = 0; j < room; j += WIDTH) {
        const Vector<float> weight = exponential(load(scores + j) - highest);
        store(scores + j, weight);
        sums += weight;
    }
    return count ? 1.0f / sum_lanes(sums) : 0.0f;
}

// One position that attends: its queries, where its output goes, what it sees, and room for as many
// scores, rounded up to vectors; `bonuses`, as many of each head, `bonus_row` apart, are added to them.
template <typename From> struct Attending {
    float *out;
    const float *queries;
    From from;
    int64_t count;
    float *scores;
    const float *bonuses = nullptr;
    int64_t bonus_row = 0;
    float factor = 0;  // makes weights of the scores that the last head leaves
};

// Attention of some positions, whose scores are bounded by `cap`, where it is not 0, before bonuses are
// added. Heads are as wide as whole loads. Positions that see about the
// same keys read them together, a few keys at a time, which stay in the first cache; the numbers of
// each do not depend on the others.
template <typename From>
inline void attend(Attending<From> *group, int64_t size, int64_t num_heads, int64_t repeats,
                   int64_t width, float scale, float cap = 0) {
    using N = typename From::Number;
    constexpr int64_t STEP = 32;  // keys
    constexpr int64_t P = PARTS<N>;
    int64_t longest = 0;
    for (int64_t i = 0; i < size; ++i) longest = std::max(longest, group[i].count);
    for (int64_t h = 0; h < num_heads; ++h) {
        const int64_t head = h / repeats;
        for (int64_t first = 0; first < longest; first += STEP)
            for (Attending<From> *one = group; one < group + size; ++one) {
                const float *query = one->queries + h * width;
                for (int64_t j = first; j < std::min(first + STEP, one->count); j += WIDTH) {
                    const N *keys[WIDTH];
                    for (int64_t i = 0; i < WIDTH; ++i)
                        keys[i] = one->from.key(head, std::min(j + i, one->count - 1));
                    Vector<float> products = dots(query, keys, width) * scale;
                    if (cap != 0.0f) products = bounded(products, cap);
                    if (one->bonuses) products += load(one->bonuses + h * one->bonus_row + j);
                    store(one->scores + j, products);
                }
            }
        for (Attending<From> *one = group; one < group + size; ++one) {
            one->factor = weigh_scores(one->scores, one->count);
            std::fill_n(one->out + h * width, width, 0.0f);
        }
        for (int64_t first = 0; first < longest; first += STEP)
            for (Attending<From> *one = group; one < group + size; ++one) {
                const int64_t last = std::min(first + STEP, one->count);
                float *out = one->out + h * width;
                int64_t i = 0;
                const auto value = [&](int64_t j) { return one->from.value(head, j) + i; };
                for (; i + 4 * WIDTH <= width; i += 4 * WIDTH)
                    sum_values<N, 4 / P>(out + i, one->scores, value, first, last);
                for (; i < width; i += P * WIDTH)
                    sum_values<N, 1>(out + i, one->scores, value, first, last);
            }
        for (Attending<From> *one = group; one < group + size; ++one)
            for (float *at = one->out + h * width, *end = at + width; at < end; at += WIDTH)
                store(at, load(at) * one->factor);
    }
}
