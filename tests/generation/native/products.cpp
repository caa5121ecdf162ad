// Products of 8-bit rows and weights over drawn shapes: compared with sums of 64 bits, and printed as
// one number, which is the same on every instruction set.
#include "packed.h"

#include <cstdio>
#include <random>

int main() {
    std::mt19937 generator(1);
    uint64_t hash = 1469598103934665603u;
    const auto add = [&](const auto &value) {
        const auto *bytes = reinterpret_cast<const unsigned char *>(&value);
        for (size_t i = 0; i < sizeof value; ++i) hash = (hash ^ bytes[i]) * 1099511628211u;
    };
    for (int round = 0; round < 60; ++round) {
        const auto draw = [&](int64_t from, int64_t to) {
            return from + int64_t(generator() % uint64_t(to - from + 1));
        };
        const int64_t num_in = draw(1, round % 8 ? 70 : 3000), out = draw(1, 90), rows = draw(1, 30);
        const bool is_positive = round % 3 == 0;
        const auto numbers = [&](int64_t count, bool has_signs) {
            std::vector<float> drawn(count);  // halves among them, which are rounded to even
            for (float &x : drawn) x = float(int(generator() % 4001) - (has_signs ? 2000 : 0)) / 8;
            return drawn;
        };
        const std::vector<float> weight = numbers(out * num_in, true);
        const std::vector<float> bias = numbers(out, true);
        const auto same = [](int64_t i) { return i; };
        Arena arena;
        Packed map;
        map.pack(weight.data(), bias.data(), out, num_in, out, num_in, INT8, same, same, arena);
        std::vector<float> from = numbers(rows * num_in, !is_positive);
        std::vector<Bytes::Left> integers(rows * map.in);
        std::vector<float> padded_row(map.in), factors(rows);
        std::vector<int32_t> zeros(rows);
        for (int64_t i = 0; i < rows; ++i) {
            std::copy_n(from.data() + i * num_in, num_in, padded_row.data());
            factors[i] = to_integers(integers.data() + i * map.in, zeros[i], padded_row.data(),
                                     map.in, integer_limit(map.in));
            add(factors[i]), add(zeros[i]);
            for (int64_t k = 0; k < num_in; ++k) {
                const int32_t integer = integers[i * map.in + k];
                add(integer);
                const float restored = factors[i] * float(integer - zeros[i]);
                if (!(std::fabs(restored - padded_row[k]) <= 0.501f * factors[i])) return 2;
            }
        }
        const Rows left{integers.data(), map.in, factors.data(), zeros.data()};
        bool is_exact = true;
        const auto check = [&](int64_t row, int64_t column, int32_t sum) {
            int64_t expected = 0;
            for (int64_t k = 0; column < out && k < num_in; ++k) {
                const int8_t *panel = map.panel<Bytes>(column / PANEL);
                const int64_t at = k / Bytes::PACK * PANEL * Bytes::PACK +
                                   column % PANEL * Bytes::PACK + k % Bytes::PACK;
                expected += int64_t(integers[row * map.in + k]) * panel[at];
            }
            is_exact = is_exact && sum == expected;
        };
        std::vector<int32_t> sums(rows * map.out);
        multiply_as<Bytes>(map, left, rows, 0, map.panels(),
                           [&](int64_t row, int64_t column, Bytes::Sum first, Bytes::Sum second) {
                               for (int64_t i = 0; i < WIDTH; ++i) {
                                   sums[row * map.out + column + i] = first[i];
                                   sums[row * map.out + column + WIDTH + i] = second[i];
                               }
                           });
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < out; ++j) check(i, j, sums[i * map.out + j]), add(sums[i * map.out + j]);
        if (!is_exact) return 1;
    }
    std::printf("%llu\n", static_cast<unsigned long long>(hash));
    return 0;
}
