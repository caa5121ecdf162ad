// The copy mechanism (See, Liu & Manning 2017, equations 8 and 9): one head of attention over the
// source, with a bonus for positions that continue the token written last, and a gate that divides
// the probability between the vocabulary and what is copied.
#pragma once

#include "cache.h"
#include "layers.h"

struct CopyHead {
    Packed query, key;        // [dim, dim]
    std::vector<float> gate;  // [3 dim]: of the state, the context and the embedded input
    float bias = 0;
    float continuation = 0;   // the bonus
    int64_t start_token = 0;  // which the first token of a source continues
};

inline float log_sigmoid(float x) { return std::min(x, 0.0f) - std::log1p(std::exp(-std::fabs(x))); }

inline float log_add(float x, float y) {
    return std::max(x, y) + std::log1p(std::exp(-std::fabs(x - y)));
}

// What one row copies at one position. The logits of the source's tokens are collected while the
// vocabulary passes by.
struct Copies {
    const Source *source = nullptr;
    float log_generate = 0, log_copy = NOTHING;
    std::vector<float> attention, logits;  // of the source's tokens
    size_t next = 0;                       // the token whose logit is awaited

    // Reads the logits x[count] of the tokens from `start` on.
    void collect(const float *x, int64_t start, int64_t count) {
        const std::vector<int64_t> &tokens = source->tokens;
        for (; next < tokens.size() && tokens[next] < start + count; ++next)
            logits[next] = x[tokens[next] - start];
    }

    // The log-probability of a token that is not copied.
    float generated(float logit, float log_sum) const { return log_generate + (logit - log_sum); }

    // The log-probability of the source's i-th token.
    float mixed(size_t i, float log_sum) const {
        const float made = generated(logits[i], log_sum);
        return attention[i] > 0 ? log_add(made, log_copy + std::log(attention[i])) : made;
    }

    // Turns the best logits into the best log-probabilities. A copied token is never less probable
    // than without copies, so that no token beyond these and the source's can be among the best.
    // Logits that are infinitely low, or not numbers, have no place among the best: there are fewer
    // than k tokens then, and the sum says where a logit is not a number.
    void mix(int64_t k, float *values, int64_t *indices, float log_sum) const {
        constexpr float LOWEST = -std::numeric_limits<float>::infinity();
        const std::vector<int64_t> &tokens = source->tokens;
        std::vector<std::pair<float, int64_t>> best;
        const auto add = [&](float value, int64_t token) {
            if (value == value) best.emplace_back(value, token);  // numbers, which can be sorted
        };
        for (int64_t i = 0; i < k && values[i] > LOWEST; ++i)
            if (!std::binary_search(tokens.begin(), tokens.end(), indices[i]))
                add(generated(values[i], log_sum), indices[i]);
        for (size_t i = 0; i < tokens.size(); ++i) add(mixed(i, log_sum), tokens[i]);
        const auto is_before = [](const auto &x, const auto &y) {
            return x.first > y.first || (x.first == y.first && x.second < y.second);
        };
        const int64_t found = std::min(k, int64_t(best.size()));
        std::partial_sort(best.begin(), best.begin() + found, best.end(), is_before);
        for (int64_t i = 0; i < found; ++i) values[i] = best[i].first, indices[i] = best[i].second;
        std::fill(values + found, values + k, LOWEST), std::fill(indices + found, indices + k, 0);
    }
};
