// The steps of a search between two outputs: what `beam_search.py` does in `advance`, in the same
// arithmetic, where no rule but a least length leaves tokens out. A beam of 1 is greedy.
#pragma once

#include "decoder.h"
#include "packed.h"

// Why the search stopped.
enum Stop : int64_t {
    ALL_STEPS = 0,   // after as many steps as were asked for
    CLOSED = 1,      // outputs closed: the candidates of a step are found, nothing was kept of them
    SOME_DONE = 2,   // sentences are done: the last step is complete but for the order of the rows
    NO_NUMBERS = 3,  // the model gave not a number
};

// Candidates of one sentence, the best first; equal ones in the order of their places.
struct Candidates {
    const Beams &beams;
    std::vector<float> totals;
    std::vector<int64_t> ids, order;

    explicit Candidates(const Beams &beams)
        : beams(beams), totals(beams.beam * 2 * beams.beam), ids(totals.size()),
          order(totals.size()) {}

    // From the k best tokens of each row, [beam][k]; false where one is not a number.
    bool find(int64_t sentence, int64_t k, const float *values, const int64_t *tokens,
              const float *normalizers) {
        const int64_t beam = beams.beam, some = 2 * beam;
        const bool may_end = beams.lengths[sentence] >= beams.min_length;
        for (int64_t row = 0; row < beam; ++row) {
            const float before = beams.scores[sentence * beam + row];
            int64_t count = 0;
            for (int64_t i = 0; i < k; ++i) {
                const float score = values[row * k + i] - normalizers[row];
                if (score != score) return false;
                const int64_t token = tokens[row * k + i];
                if (count == some || (token == beams.end_token && !may_end)) continue;
                totals[row * some + count] = before + score;
                ids[row * some + count++] = token;
            }
            // Fewer are left where the end fills the places of tokens without a probability.
            for (; count < some; ++count) {
                totals[row * some + count] = -std::numeric_limits<float>::infinity();
                ids[row * some + count] = beams.end_token;
            }
        }
        for (size_t i = 0; i < order.size(); ++i) order[i] = int64_t(i);
        std::partial_sort(order.begin(), order.begin() + some, order.end(),
                          [&](int64_t x, int64_t y) {
                              return totals[x] != totals[y] ? totals[x] > totals[y] : x < y;
                          });
        for (int64_t i = 0; i < some; ++i) {
            const int64_t at = sentence * some + i;
            beams.best[at] = totals[order[i]];
            beams.origins[at] = order[i] / some;
            beams.written[at] = ids[order[i]];
        }
        return true;
    }
};

// Whether a candidate of the best closes in a sentence, or fewer than the beam continue.
inline bool has_output(const Beams &beams, int64_t sentence) {
    const int64_t beam = beams.beam, some = 2 * beam;
    if (beams.closes_at_limit && beams.lengths[sentence] >= beams.limits[sentence]) return true;
    int64_t open = 0;
    for (int64_t i = 0; i < some; ++i) {
        const int64_t at = sentence * some + i;
        const bool is_closed = beams.written[at] == beams.end_token;
        if (is_closed && i < beam && beams.best[at] > -std::numeric_limits<float>::infinity())
            return true;
        open += !is_closed;
    }
    return open < beam;
}

// Lets the best candidates that do not close continue; rows [beam] are those that they continue.
inline void keep_best(const Beams &beams, int64_t sentence, int64_t *rows) {
    const int64_t beam = beams.beam, room = beams.room, length = beams.lengths[sentence];
    std::vector<int64_t> before(beams.tokens + sentence * beam * room,
                                beams.tokens + (sentence + 1) * beam * room);
    int64_t at = sentence * 2 * beam;
    for (int64_t i = 0; i < beam; ++i, ++at) {
        while (beams.written[at] == beams.end_token) ++at;
        int64_t *to = beams.tokens + (sentence * beam + i) * room;
        std::copy_n(before.begin() + beams.origins[at] * room, length, to);
        to[length] = beams.written[at];
        beams.scores[sentence * beam + i] = beams.best[at];
        rows[i] = sentence * beam + beams.origins[at];
    }
    beams.lengths[sentence] = length + 1;
}

// Whether no hypothesis of a sentence can still beat those that ended.
inline bool is_done(const Beams &beams, int64_t sentence) {
    constexpr double nothing = -std::numeric_limits<double>::infinity();
    const float *scores = beams.scores + sentence * beams.beam;
    const double best = *std::max_element(scores, scores + beams.beam);
    const int64_t length = beams.lengths[sentence] - 1;  // without the begin
    if (best == nothing || length >= beams.limits[sentence]) return true;
    const double divisor =
        beams.by_length ? beams.by_length[length - 1] : beams.divisors[sentence];
    return beams.bars[sentence] > nothing && beams.bars[sentence] >= best / divisor;
}
