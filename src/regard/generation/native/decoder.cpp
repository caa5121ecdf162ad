// A Transformer that decodes: its encoder in one call, and each step of its decoder in one.
//
// Rows go through all layers in blocks of at most MAX_ROWS, so that what lies between two products
// stays in the second cache, and threads share nothing but blocks.
#include <mutex>

#include "beams.h"
#include "cache.h"
#include "copying.h"
#include "layers.h"
#include "threads.h"
#include "top.h"

namespace {

struct Block {
    Packed maps[NUM_MAPS];
    Norm norms[NUM_NORMS];
    int64_t before, after;   // keys that self-attention sees; -1 is without bound
    int64_t angles, biases;  // its tables in `Positions`
};

// An embedding, blocks, and a norm after the last.
struct Stack {
    Sizes sizes{};
    std::vector<Block> blocks;
    const float *table = nullptr;  // [vocab_size, dim]
    Norm embedding_norm, last_norm;
    double embedding_epsilon = 0;
    int64_t stride;  // distance of two rows of states
    int64_t head;    // width of a head, a whole number of loads of keys
    Arena &arena;

    Stack(const Sizes &from, Arena &arena)
        : sizes(from), blocks(from.num_layers), stride(padded(from.dim, PANEL)),
          head(padded(from.head_dim, from.precision == FLOAT32 ? WIDTH : 2 * WIDTH)), arena(arena) {
        for (int64_t i = 0; i < from.num_layers; ++i) {
            blocks[i].before = from.before[i], blocks[i].after = from.after[i];
            blocks[i].angles = from.angles[i], blocks[i].biases = from.biases[i];
        }
    }

    int64_t query_width() const { return sizes.num_heads * head; }
    int64_t place_width() const { return 2 * sizes.num_kv_heads * head; }
    int64_t source_width() const { return 2 * sizes.num_heads * head; }
    // Bytes of one number of the keys and values.
    int64_t kept_bytes() const { return sizes.precision == FLOAT32 ? 4 : 2; }
    int64_t half_hidden() const { return padded(sizes.hidden_dim, PANEL); }

    void set_map(int64_t layer, int64_t name, const float *weight, const float *bias) {
        const int64_t heads = sizes.num_heads, all = heads + 2 * sizes.num_kv_heads;
        const int64_t dim = sizes.dim, size = sizes.head_dim, hidden = sizes.hidden_dim;
        const auto by_head = [=, this](int64_t i) { return i / size * head + i % size; };
        const auto same = [](int64_t i) { return i; };
        const auto kind = static_cast<Precision>(sizes.precision);
        Packed &map = blocks[layer].maps[name];
        const auto pack_heads = [&](int64_t count) {
            map.pack(weight, bias, count * size, dim, count * head, dim, kind, by_head, same, arena);
        };
        switch (name) {
            case SELF_QKV: pack_heads(all); break;
            case CROSS_Q: pack_heads(heads); break;
            case CROSS_KV: pack_heads(2 * heads); break;
            case SELF_OUT:
            case CROSS_OUT:
                map.pack(weight, bias, dim, heads * size, dim, heads * head, kind, same, by_head,
                         arena);
                break;
            case INNER: {
                const int64_t half = half_hidden();
                const int64_t parts = sizes.is_gated ? 2 : 1;
                const auto by_part = [=](int64_t i) { return i / hidden * half + i % hidden; };
                map.pack(weight, bias, parts * hidden, dim, parts * half, dim, kind, by_part, same,
                         arena);
                break;
            }
            default: map.pack(weight, bias, dim, hidden, dim, hidden, kind, same, same, arena);
        }
    }

    int64_t widest() const {  // row of what a product of a block reads or writes
        int64_t most = stride;
        for (const Block &block : blocks)
            for (const Packed &map : block.maps) most = std::max({most, map.in, map.out});
        return most + APART<uint16_t>;
    }
};

// What one block of rows needs. `wide` and `states` have rows of `width` and of the stack's stride.
struct Scratch {
    int64_t width = 0, stride = 0, num_logits = 0;
    Aligned<float> states, normal, beside, embedded, wide, context, logits;
    Aligned<uint16_t> numbers;  // rows as halves or integers
    Aligned<float> factors;     // of these integers
    Aligned<int32_t> zeros;
    std::vector<float> scores, bonuses;
    std::vector<const void *> places;

    void fit(int64_t new_width, int64_t new_stride) {
        if (new_width <= width && new_stride <= stride) return;
        width = std::max(width, new_width), stride = std::max(stride, new_stride);
        states.fill_zero(MAX_ROWS * stride), normal.fill_zero(MAX_ROWS * stride);
        beside.fill_zero(MAX_ROWS * stride), embedded.fill_zero(MAX_ROWS * stride);
        wide.fill_zero(MAX_ROWS * width), context.fill_zero(MAX_ROWS * width);
        numbers.fill_zero(MAX_ROWS * width);
        factors.fill_zero(MAX_ROWS), zeros.fill_zero(MAX_ROWS);
    }
    void fit_logits(int64_t count) {
        if (num_logits < count) logits.allocate(num_logits = count);
    }
    void fit_places(int64_t count) {
        if (int64_t(places.size()) < count) places.resize(padded(count, 64));
    }
    void fit_scores(int64_t count) {
        if (int64_t(scores.size()) < count) scores.resize(padded(count, 64));
    }
    void fit_bonuses(int64_t count) {
        if (int64_t(bonuses.size()) < count) bonuses.resize(padded(count, 64));
    }
};

// Scratches that wait for a thread.
struct Scratches {
    std::vector<std::unique_ptr<Scratch>> free;
    std::mutex mutex;

    std::unique_ptr<Scratch> take() {
        const std::lock_guard lock(mutex);
        if (free.empty()) return std::make_unique<Scratch>();
        std::unique_ptr<Scratch> last = std::move(free.back());
        free.pop_back();
        return last;
    }
    void give(std::unique_ptr<Scratch> scratch) {
        const std::lock_guard lock(mutex);
        free.push_back(std::move(scratch));
    }
};

struct Model {
    Arena arena;
    std::unique_ptr<Stack> encoder, decoder;
    Packed output;
    std::unique_ptr<CopyHead> copy;
    Scratches scratches;
};

struct State {
    Model &model;
    Cache cache;
};

constexpr int64_t GROUP = 16;  // rows that read keys and values together

// One position of a row.
struct Token {
    int64_t row, position;
};

// The places that a position sees: the first, their number, and the distance from it to the first.
struct Seen {
    int64_t begin, count, distance;
};

// A block of rows on its way through a stack.
struct Pass {
    const Stack &stack;
    const Positions &positions;
    Scratch &scratch;
    const Sizes &sizes;
    int64_t threads;  // that share the outputs of a product; its bits do not depend on them
    int64_t rows = 0;
    Token tokens[MAX_ROWS];

    float *states;  // [rows][stride]

    Pass(const Stack &stack, const Positions &positions, Scratch &scratch, int64_t threads)
        : stack(stack), positions(positions), scratch(scratch), sizes(stack.sizes),
          threads(threads), states(scratch.states.get()) {}

    float *state(int64_t i) const { return states + i * stack.stride; }

    void embed(const int64_t *ids) {
        const int64_t dim = sizes.dim;
        const float scale = static_cast<float>(sizes.embedding_scale);
        for (int64_t i = 0; i < rows; ++i) {
            float *to = state(i);
            const float *from = stack.table + ids[i] * dim;
            for (int64_t d = 0; d < dim; ++d) to[d] = from[d] * scale;
            std::fill(to + dim, to + stack.stride, 0.0f);
            if (positions.rows) {
                const int64_t row =
                    std::min(positions.offset + tokens[i].position, positions.num_rows - 1);
                const float *added = positions.rows + row * dim;
                for (int64_t d = 0; d < dim; ++d) to[d] += added[d];
            }
        }
        if (stack.embedding_norm.is_there())
            for (int64_t i = 0; i < rows; ++i)
                normalize(state(i), state(i), stack.embedding_norm, LAYER,
                          stack.embedding_epsilon, dim, stack.stride);
    }

    // Rows of `width` numbers as the product with a map reads them.
    Rows enter(const Packed &map, const float *from, int64_t row) const {
        if (map.precision == FLOAT32) return {from, row};
        uint16_t *halves = scratch.numbers.get();
        if (map.precision == BF16) {
            const int64_t apart = map.in + APART<uint16_t>;
            for (int64_t i = 0; i < rows; ++i) to_halves(halves + i * apart, from + i * row, map.in);
            return {halves, apart};
        }
        auto *integers = reinterpret_cast<Bytes::Left *>(halves);
        const int64_t apart = map.in + APART<Bytes::Left>;
        const int32_t limit = integer_limit(map.in);
        for (int64_t i = 0; i < rows; ++i)
            scratch.factors.get()[i] = to_integers(integers + i * apart, scratch.zeros.get()[i],
                                                   from + i * row, map.in, limit);
        return {integers, apart, scratch.factors.get(), scratch.zeros.get()};
    }

    // Calls finish for all outputs of every row: see `multiply`. Threads share what takes longer
    // than it takes to start them.
    template <typename Finish>
    void multiply_all(const Packed &map, const Rows &left, Finish finish) const {
        constexpr int64_t LARGE = 1 << 19, MANY = 1 << 21;  // bytes of weights; multiplications
        const int64_t panels = map.panels(), weights = map.in * map.out;
        const bool is_long = weights * map.weight_bytes() >= LARGE || weights * rows >= MANY;
        if (threads == 1 || !is_long) return multiply(map, left, rows, 0, panels, finish);
        const Compute part = [&](int64_t number, void *) {
            multiply(map, left, rows, panels * number / threads, panels * (number + 1) / threads,
                     finish);
        };
        if (share(threads, threads, 64, part) != 0) throw std::bad_alloc();
    }

    // to = activation(left W^T + b).
    void map_to(float *to, int64_t to_row, const Packed &map, const Rows &left,
                int64_t activation = -1) const {
        const float *bias = map.bias.get();
        multiply_all(
            map, left,
            [=](int64_t i, int64_t column, Vector<float> first, Vector<float> second) {
                first += load(bias + column), second += load(bias + column + WIDTH);
                if (activation >= 0) {
                    first = activate(activation, first);
                    second = activate(activation, second);
                }
                float *at = to + i * to_row + column;
                store(at, first), store(at + WIDTH, second);
            });
    }

    // states += left W^T + b: what is added is normalised where it has a norm, and in post-norm the
    // sum is.
    void add_to_states(const Packed &map, const Rows &left, const Norm &norm,
                       const Norm &output_norm) const {
        if (output_norm.is_there()) return add_normalized(map, left, output_norm);
        float *to = states;
        const int64_t to_row = stack.stride;
        const float *bias = map.bias.get();
        multiply_all(
            map, left,
            [=](int64_t i, int64_t column, Vector<float> first, Vector<float> second) {
                float *at = to + i * to_row + column;
                store(at, load(at) + (first + load(bias + column)));
                store(at + WIDTH, load(at + WIDTH) + (second + load(bias + column + WIDTH)));
            });
        if (!sizes.is_pre) normalize_all(to, norm);
    }

    // states += norm(left W^T + b), by way of the room for a sub-layer's input, which was read.
    void add_normalized(const Packed &map, const Rows &left, const Norm &norm) const {
        float *added = scratch.normal.get();
        map_to(added, stack.stride, map, left);
        for (int64_t i = 0; i < rows; ++i, added += stack.stride) {
            normalize(added, added, norm, sizes.norm, sizes.epsilon, sizes.dim, stack.stride);
            for (int64_t d = 0; d < stack.stride; ++d) state(i)[d] += added[d];
        }
    }

    void normalize_all(float *to, const Norm &norm) const {
        for (int64_t i = 0; i < rows; ++i)
            normalize(to + i * stack.stride, state(i), norm, sizes.norm, sizes.epsilon, sizes.dim,
                      stack.stride);
    }

    // What a sub-layer reads: the states, normalised in pre-norm.
    const float *input(const Norm &norm) const {
        if (!sizes.is_pre || !norm.is_there()) return states;
        normalize_all(scratch.normal.get(), norm);
        return scratch.normal.get();
    }

    // Computes queries, keys and values; place(i, queries) stores those of row i: its queries, and
    // then its keys and values.
    template <typename Place> void project(const Block &block, Place place) const {
        const Packed &map = block.maps[SELF_QKV];
        if (sizes.is_parallel)  // before attention changes the states
            std::copy_n(input(block.norms[FEED_FORWARD_NORM]), rows * stack.stride,
                        scratch.beside.get());
        const float *read = input(block.norms[SELF_NORM]);
        map_to(scratch.wide.get(), map.out, map, enter(map, read, stack.stride));
        for (int64_t i = 0; i < rows; ++i) {
            float *from = scratch.wide.get() + i * map.out;
            const int64_t keys = sizes.num_heads * stack.head;
            normalize_heads(from, sizes.num_heads, block.norms[QUERY_NORM]);
            normalize_heads(from + keys, sizes.num_kv_heads, block.norms[KEY_NORM]);
            if (sizes.rotary) turn(from, tokens[i].position, block.angles);
            place(i, from);
        }
    }

    // Attends with queries in rows of `row` numbers. find(first) fills the scratch's places with those
    // that `first` and some rows after it see, and returns the number of these rows; see(i) returns
    // what row i sees of them.
    template <typename N, typename Find, typename See>
    void self_attention(const Block &block, const float *queries, int64_t row, Find find,
                        See see) const {
        const int64_t values = sizes.num_kv_heads * stack.head, width = stack.query_width();
        const float scale = 1.0f / std::sqrt(float(sizes.head_dim));
        const float *biases = positions.biases;  // from distance 0 on
        if (biases)
            biases += block.biases * sizes.num_heads * positions.bias_row + positions.bias_zero;
        Attending<Places<N>> group[GROUP];
        for (int64_t first = 0, size; first < rows; first += size) {
            size = find(first);
            const auto *places = reinterpret_cast<const N *const *>(scratch.places.data());
            int64_t room = 0;
            for (int64_t i = 0; i < size; ++i) room += padded(see(first + i).count, WIDTH);
            scratch.fit_scores(room);
            float *scores = scratch.scores.data();
            for (int64_t i = 0; i < size; ++i) {
                const auto [begin, count, distance] = see(first + i);
                group[i] = {scratch.context.get() + (first + i) * width, queries + (first + i) * row,
                            {places + begin, stack.head, values}, count, scores};
                if (biases)
                    group[i].bonuses = biases + distance, group[i].bonus_row = positions.bias_row;
                scores += padded(count, WIDTH);
            }
            attend(group, size, sizes.num_heads, sizes.num_heads / sizes.num_kv_heads, stack.head,
                   scale, static_cast<float>(sizes.score_cap));
        }
        const Packed &map = block.maps[SELF_OUT];
        add_to_states(map, enter(map, scratch.context.get(), width), block.norms[SELF_NORM],
                      block.norms[SELF_OUTPUT_NORM]);
    }

    // find(i) returns the memory that row i sees. Neighbours that see the same read it together.
    template <typename N, typename Find>
    void cross_attention(const Block &block, Find find) const {
        const Packed &map = block.maps[CROSS_Q];
        const float scale = 1.0f / std::sqrt(float(sizes.head_dim));
        map_to(scratch.wide.get(), map.out, map,
               enter(map, input(block.norms[CROSS_NORM]), stack.stride));
        Attending<Memory<N>> group[GROUP];
        for (int64_t first = 0, size; first < rows; first += size) {
            const Memory<N> memory = find(first);
            const int64_t room = padded(memory.length, WIDTH);
            scratch.fit_scores(GROUP * room);
            for (size = 0; size < std::min(GROUP, rows - first); ++size) {
                const int64_t i = first + size;
                if (size && find(i).memory != memory.memory) break;
                group[size] = {scratch.context.get() + i * stack.query_width(),
                               scratch.wide.get() + i * map.out, memory, memory.length,
                               scratch.scores.data() + size * room};
            }
            attend(group, size, sizes.num_heads, 1, stack.head, scale);
        }
        const Packed &out = block.maps[CROSS_OUT];
        add_to_states(out, enter(out, scratch.context.get(), stack.query_width()),
                      block.norms[CROSS_NORM], block.norms[CROSS_OUTPUT_NORM]);
    }

    void feed_forward(const Block &block) const {
        const Packed &inner = block.maps[INNER], &outer = block.maps[OUTER];
        const Norm &norm = block.norms[FEED_FORWARD_NORM];
        const float *read = sizes.is_parallel ? scratch.beside.get() : input(norm);
        const Rows left = enter(inner, read, stack.stride);
        const bool is_rounded = inner.precision == BF16 && !sizes.is_gated;
        const Rows hidden =
            is_rounded ? hidden_halves(inner, left) : hidden_numbers(inner, left, outer);
        add_to_states(outer, hidden, norm, block.norms[FEED_FORWARD_OUTPUT_NORM]);
    }

    // The hidden numbers of a feed-forward layer, as its outer map reads them.
    Rows hidden_numbers(const Packed &inner, const Rows &left, const Packed &outer) const {
        float *wide = scratch.wide.get();
        const int64_t row = inner.out + APART<float>, half = stack.half_hidden();
        map_to(wide, row, inner, left, sizes.is_gated ? -1 : sizes.activation);
        for (int64_t i = 0; sizes.is_gated && i < rows; ++i)
            gate(sizes.activation, wide + i * row, wide + i * row + half, half);
        return enter(outer, wide, row);
    }

    // The same, rounded as soon as they are known: as float32 they would not stay in the second
    // cache.
    Rows hidden_halves(const Packed &inner, const Rows &left) const {
        const int64_t apart = inner.out + APART<uint16_t>, activation = sizes.activation;
        const float *bias = inner.bias.get();
        uint16_t *halves = reinterpret_cast<uint16_t *>(scratch.wide.get());
        multiply_all(
            inner, left,
            [=](int64_t i, int64_t column, Vector<float> first, Vector<float> second) {
                float both[PANEL];
                store(both, activate(activation, first + load(bias + column)));
                store(both + WIDTH, activate(activation, second + load(bias + column + WIDTH)));
                to_halves(halves + i * apart + column, both, PANEL);
            });
        return {halves, apart};
    }

    // Normalises each head of a row, or all of them together, where there is a norm.
    void normalize_heads(float *heads, int64_t count, const Norm &norm) const {
        if (!norm.is_there()) return;
        const int64_t parts = int64_t(norm.weight.size()) / sizes.head_dim;  // 1, or all
        for (int64_t h = 0; h < count; h += parts, heads += parts * stack.head)
            normalize(heads, heads, norm, sizes.norm, sizes.epsilon, sizes.head_dim, stack.head,
                      parts);
    }

    // Rotates the queries and keys of a row by the angles of a table.
    void turn(float *heads, int64_t position, int64_t table) const {
        const int64_t half = sizes.head_dim / 2, last = positions.num_angles - 1;
        const int64_t angle = (table * positions.num_angles + std::min(position, last)) * half;
        for (int64_t h = 0; h < sizes.num_heads + sizes.num_kv_heads; ++h)
            rotate(heads + h * stack.head, positions.cosines + angle, positions.sines + angle,
                   sizes.head_dim, sizes.rotary);
    }
};

// Computes the items, each in a scratch of its own; returns 0, or 1 where memory is short.
template <typename Item>
int for_each(Model &model, int64_t count, int64_t num_threads, Item item) {
    std::atomic<int> failed{0};
    const Compute compute = [&](int64_t number, void *) {
        try {
            std::unique_ptr<Scratch> scratch = model.scratches.take();
            item(number, *scratch);
            model.scratches.give(std::move(scratch));
        } catch (const std::bad_alloc &) {
            failed = 1;
        }
    };
    if (count == 1 || num_threads == 1)
        for (int64_t i = 0; i < count; ++i) compute(i, nullptr);
    else if (share(count, num_threads, 64, compute) != 0)
        return 1;
    return failed;
}

// Items of about equal numbers of rows, MAX_ROWS or fewer each. A few rows cost as much as one, for
// each thread reads all weights: they are not divided.
int64_t num_items(int64_t rows, int64_t num_threads) {
    constexpr int64_t FEW = 16;
    const int64_t blocks = (rows + MAX_ROWS - 1) / MAX_ROWS;
    const int64_t threads = std::clamp<int64_t>(num_threads, 1, std::max<int64_t>(1, rows / FEW));
    return padded(std::max<int64_t>(1, blocks), threads);
}

// ---- the source ----

// One position of a source.
struct SourceToken {
    Source *source;
    int64_t position;
};

// Keys and values of every decoder layer, and what is copied from, for a block of rows of the
// encoder's states.
template <typename N>
void remember_as(const Model &model, const SourceToken *tokens, int64_t count, const float *states,
                 int64_t row, Scratch &scratch, int64_t threads) {
    const Stack &decoder = *model.decoder;
    const int64_t width = decoder.source_width(), stride = decoder.stride;
    const Positions none{};
    Pass pass(decoder, none, scratch, threads);
    pass.rows = count;
    for (int64_t layer = 0; layer < decoder.sizes.num_layers; ++layer) {
        const Packed &map = decoder.blocks[layer].maps[CROSS_KV];
        pass.map_to(scratch.wide.get(), map.out, map, pass.enter(map, states, row));
        for (int64_t i = 0; i < count; ++i) {
            const auto [source, position] = tokens[i];
            const int64_t length = source->length;
            const float *from = scratch.wide.get() + i * map.out;
            N *to = reinterpret_cast<N *>(source->memory.get()) + layer * length * width +
                    position * decoder.head;
            for (int64_t head = 0; head < decoder.sizes.num_heads; ++head, from += decoder.head) {
                N *key = to + head * 2 * length * decoder.head;
                keep(key, from, decoder.head);
                keep(key + length * decoder.head, from + width / 2, decoder.head);
            }
        }
    }
    if (!model.copy) return;
    const Packed &key = model.copy->key;
    pass.map_to(scratch.wide.get(), stride, key, pass.enter(key, states, row));
    for (int64_t i = 0; i < count; ++i) {
        const auto [source, position] = tokens[i];
        float *to = source->copied.get() + position * stride;
        std::copy_n(scratch.wide.get() + i * stride, stride, to);
        std::copy_n(states + i * row, stride, to + source->length * stride);
    }
}

void remember(const Model &model, const SourceToken *tokens, int64_t count, const float *states,
              int64_t row, Scratch &scratch, int64_t threads) {
    const bool is_float = model.decoder->sizes.precision == FLOAT32;
    (is_float ? remember_as<float> : remember_as<uint16_t>)(model, tokens, count, states, row,
                                                            scratch, threads);
}

std::shared_ptr<Source> new_source(const Model &model, const int64_t *ids, int64_t length) {
    const Stack &decoder = *model.decoder;
    auto source = std::make_shared<Source>();
    source->length = length;
    source->memory.allocate(decoder.sizes.num_layers * length * decoder.source_width() *
                            decoder.kept_bytes());
    if (model.copy) {
        source->copied.allocate(2 * length * decoder.stride);
        source->list_tokens(ids);
    }
    return source;
}

// Some consecutive sources on their way through the encoder, in blocks of rows. What other rows
// read of a row, its keys and values, is computed for all of them before the first one attends.
struct Reading {
    Model &model;
    const Positions &positions;
    const int64_t *ids;      // [sources, length]
    const int64_t *lengths;  // [sources]
    int64_t length;
    const std::vector<std::shared_ptr<Source>> &sources;
    int64_t threads;  // of each product

    void run(int64_t first, int64_t last, Scratch &scratch) const {
        const Stack &stack = *model.encoder;
        std::vector<int64_t> tokens, starts;  // ids; first row of the source of each row
        std::vector<SourceToken> rows;
        for (int64_t number = first; number < last; ++number)
            for (int64_t i = 0, start = int64_t(rows.size()); i < lengths[number]; ++i) {
                tokens.push_back(ids[number * length + i]);
                starts.push_back(start);
                rows.push_back({sources[number].get(), i});
            }
        const int64_t count = int64_t(rows.size()), width = stack.query_width();
        const int64_t place = stack.place_width() + APART<float>;
        scratch.fit(std::max(stack.widest(), model.decoder->widest()),
                    std::max(stack.stride, model.decoder->stride));
        Aligned<float> states, queries, places;
        states.allocate(count * stack.stride);
        queries.allocate(count * width), places.allocate(count * place);
        Pass pass(stack, positions, scratch, threads);
        const auto each_block = [&](auto work) {
            for (int64_t start = 0; start < count; start += MAX_ROWS) {
                pass.rows = std::min(MAX_ROWS, count - start);
                pass.states = states.get() + start * stack.stride;
                for (int64_t i = 0; i < pass.rows; ++i)
                    pass.tokens[i] = {start + i, rows[start + i].position};
                work(start);
            }
        };
        each_block([&](int64_t start) { pass.embed(tokens.data() + start); });
        for (const Block &block : stack.blocks) {
            each_block([&](int64_t start) {
                pass.project(block, [&](int64_t i, const float *from) {
                    std::copy_n(from, width, queries.get() + (start + i) * width);
                    std::copy_n(from + width, stack.place_width(), places.get() + (start + i) * place);
                });
            });
            each_block([&](int64_t start) {
                pass.self_attention<float>(
                    block, queries.get() + start * width, width,
                    [&](int64_t i) {  // all keys of the source of some rows
                        const int64_t row = start + i, end = start + pass.rows;
                        const int64_t length = rows[row].source->length;
                        scratch.fit_places(length);
                        for (int64_t j = 0; j < length; ++j)
                            scratch.places[j] = places.get() + (starts[row] + j) * place;
                        return std::min({GROUP, end - row, starts[row] + length - row});
                    },
                    [&](int64_t i) {
                        const auto [row, position] = pass.tokens[i];
                        const int64_t length = rows[row].source->length;
                        const int64_t from =
                            block.before < 0 ? 0 : std::max<int64_t>(0, position - block.before);
                        const int64_t to =
                            block.after < 0 ? length : std::min(length, position + block.after + 1);
                        return Seen{from, to - from, from - position};
                    });
                pass.feed_forward(block);
            });
        }
        each_block([&](int64_t start) {
            if (stack.sizes.is_pre) pass.normalize_all(pass.states, stack.last_norm);
            remember(model, rows.data() + start, pass.rows, pass.states, stack.stride, scratch,
                     threads);
        });
    }
};

// ---- a step ----

struct Output {
    float *logits;      // [rows, vocab], or null
    int64_t k;          // for the k best of each row
    float *values;      // [rows, k]
    int64_t *indices;   // [rows, k]
    float *normalizer;  // [rows], log-sum-exp of the logits

    void copy_row(int64_t from, int64_t to, int64_t vocab) const {
        if (logits) std::copy_n(logits + from * vocab, vocab, logits + to * vocab);
        if (k == 0) return;
        std::copy_n(values + from * k, k, values + to * k);
        std::copy_n(indices + from * k, k, indices + to * k);
        normalizer[to] = normalizer[from];
    }
};

struct Step {
    Model &model;
    Cache &cache;
    const Positions &positions;
    const int64_t *rows;  // those that are computed
    const int64_t *ids;   // [rows, num_new]
    int64_t num_new;
    const int32_t *slots;  // [rows, num_new]
    Output output;
    int64_t threads;  // of each product

    // All new positions of some neighbours in `rows`.
    void run(int64_t first_row, int64_t last_row, Scratch &scratch) const {
        const Stack &stack = *model.decoder;
        scratch.fit(std::max(stack.widest(), PORTION), stack.stride);
        Pass pass(stack, positions, scratch, threads);
        const int64_t end = last_row * num_new;
        for (int64_t token = first_row * num_new; token < end; token += pass.rows) {
            pass.rows = std::min(MAX_ROWS, end - token);
            for (int64_t i = 0; i < pass.rows; ++i) {
                const int64_t row = rows[(token + i) / num_new];
                const int64_t position = cache.lengths[row] + (token + i) % num_new;
                pass.tokens[i] = {row, position};
                cache.at(row, position) = slots[token + i];
            }
            pass.embed(ids + token);
            if (model.copy)
                std::copy_n(pass.states, pass.rows * stack.stride, scratch.embedded.get());
            const bool is_float = stack.sizes.precision == FLOAT32;
            for (int64_t layer = 0; layer < stack.sizes.num_layers; ++layer)
                is_float ? run_block<float>(pass, layer) : run_block<uint16_t>(pass, layer);
            write(pass, token);
        }
    }

    // `N` is the type of the keys and values.
    template <typename N> void run_block(const Pass &pass, int64_t layer) const {
        const Stack &stack = pass.stack;
        const Block &block = stack.blocks[layer];
        Scratch &scratch = pass.scratch;
        pass.project(block, [&](int64_t i, const float *queries) {
            const auto [row, position] = pass.tokens[i];
            keep(reinterpret_cast<N *>(cache.slot(layer, cache.at(row, position))),
                 queries + stack.query_width(), stack.place_width());
        });
        const auto first_seen = [&](int64_t position) {
            return block.before < 0 ? 0 : std::max<int64_t>(0, position - block.before);
        };
        int64_t begin = 0;  // position of the first place
        pass.self_attention<N>(
            block, scratch.wide.get(), block.maps[SELF_QKV].out,
            [&](int64_t i) {
                int64_t last = i;
                while (last + 1 < std::min(pass.rows, i + GROUP) &&
                       pass.tokens[last + 1].row == pass.tokens[i].row)
                    ++last;
                begin = first_seen(pass.tokens[i].position);
                const int64_t count = pass.tokens[last].position + 1 - begin;
                scratch.fit_places(count);
                for (int64_t j = 0; j < count; ++j)
                    scratch.places[j] =
                        cache.slot(layer, cache.at(pass.tokens[i].row, begin + j));
                return last + 1 - i;
            },
            [&](int64_t i) {
                const int64_t position = pass.tokens[i].position, first = first_seen(position);
                return Seen{first - begin, position + 1 - first, first - position};
            });
        if (stack.sizes.reads_source)
            pass.cross_attention<N>(block, [&](int64_t i) {
                const Source &source = *cache.sources[pass.tokens[i].row];
                const auto *memory = reinterpret_cast<const N *>(source.memory.get());
                const int64_t size = source.length * stack.source_width();
                return Memory<N>{memory + layer * size, stack.head, source.length};
            });
        pass.feed_forward(block);
    }

    // Logits, or the best of them, after the last position of each row in the block.
    void write(Pass &pass, int64_t token) const {
        const Stack &stack = pass.stack;
        Scratch &scratch = pass.scratch;
        int64_t last[MAX_ROWS], written[MAX_ROWS], count = 0;
        for (int64_t i = 0; i < pass.rows; ++i) {
            if ((token + i + 1) % num_new) continue;
            last[count] = pass.tokens[i].row;
            written[count] = ids[token + i];
            std::copy_n(pass.state(i), stack.stride, pass.state(count));
            if (model.copy)
                std::copy_n(scratch.embedded.get() + i * stack.stride, stack.stride,
                            scratch.embedded.get() + count * stack.stride);
            ++count;
        }
        const int64_t all_rows = pass.rows;
        pass.rows = count;
        const float *hidden = pass.states;
        if (stack.sizes.is_pre) {
            pass.normalize_all(scratch.normal.get(), stack.last_norm);
            hidden = scratch.normal.get();
        }
        std::vector<Copies> copies;
        if (model.copy) copies = copy(pass, hidden, last, written, count);
        const Rows left = pass.enter(model.output, hidden, stack.stride);
        if (output.logits) write_logits(pass, left, last, copies);
        if (output.k) write_top(pass, left, last, copies);
        pass.rows = all_rows;
    }

    // What each row copies, by its last state, its embedded input, and the token of this input.
    std::vector<Copies> copy(const Pass &pass, const float *hidden, const int64_t *rows,
                             const int64_t *written, int64_t count) const {
        const CopyHead &head = *model.copy;
        Scratch &scratch = pass.scratch;
        const int64_t dim = pass.sizes.dim, stride = pass.stack.stride;
        pass.map_to(scratch.wide.get(), stride, head.query, pass.enter(head.query, hidden, stride));
        std::vector<Copies> copies(count);
        for (int64_t i = 0; i < count; ++i) {
            const Source &source = *cache.sources[rows[i]];
            Copies &own = copies[i];
            own.source = &source;
            own.attention.assign(source.tokens.size(), 0.0f);
            own.logits.assign(source.tokens.size(), 0.0f);
            if (source.length == 0) continue;
            scratch.fit_scores(source.length), scratch.fit_bonuses(source.length);
            for (int64_t j = 0; j < source.length; ++j) {
                const int64_t before = j ? source.token_at(j - 1) : head.start_token;
                scratch.bonuses[j] = before == written[i] ? head.continuation : 0.0f;
            }
            float *context = scratch.context.get();
            Attending<Memory<float>> one{context, scratch.wide.get() + i * stride,
                                  {source.copied.get(), stride, source.length}, source.length,
                                  scratch.scores.data(), scratch.bonuses.data()};
            attend(&one, 1, 1, 1, stride, 1.0f / std::sqrt(float(dim)));
            for (int64_t j = 0; j < source.length; ++j)
                own.attention[source.places[j]] += one.scores[j] * one.factor;
            float gate = head.bias;
            const float *parts[] = {hidden + i * stride, context,
                                    scratch.embedded.get() + i * stride};
            for (int64_t part = 0; part < 3; ++part)
                for (int64_t d = 0; d < dim; ++d) gate += parts[part][d] * head.gate[part * dim + d];
            own.log_generate = log_sigmoid(gate), own.log_copy = log_sigmoid(-gate);
        }
        return copies;
    }

    // Turns the logits of a row into log-probabilities.
    static void mix(Copies &copies, float *logits, int64_t vocab) {
        LogSum sum;
        float portion[PORTION];
        for (int64_t start = 0; start < vocab; start += PORTION) {
            const int64_t some = std::min(PORTION, vocab - start);
            std::copy_n(logits + start, some, portion);
            std::fill(portion + some, portion + PORTION, NOTHING);
            sum.add(portion, some);
        }
        const float log_sum = sum.value();
        copies.next = 0;
        copies.collect(logits, 0, vocab);
        for (int64_t i = 0; i < vocab; ++i) logits[i] = copies.generated(logits[i], log_sum);
        for (size_t i = 0; i < copies.logits.size(); ++i)
            logits[copies.source->tokens[i]] = copies.mixed(i, log_sum);
    }

    float logit_cap() const { return static_cast<float>(model.decoder->sizes.logit_cap); }

    void write_logits(const Pass &pass, const Rows &left, const int64_t *rows,
                      std::vector<Copies> &copies) const {
        const int64_t vocab = model.decoder->sizes.vocab_size;
        const float *bias = model.output.bias.get();
        pass.multiply_all(
            model.output, left,
            [&](int64_t i, int64_t column, Vector<float> first, Vector<float> second) {
                first += load(bias + column), second += load(bias + column + WIDTH);
                float *to = output.logits + rows[i] * vocab + column;
                if (column + PANEL <= vocab) {
                    store(to, first), store(to + WIDTH, second);
                    return;
                }
                for (int64_t j = 0; j < vocab - column; ++j)
                    to[j] = j < WIDTH ? first[j] : second[j - WIDTH];
            });
        for (int64_t i = 0; i < pass.rows; ++i)
            bound(output.logits + rows[i] * vocab, vocab, logit_cap());
        for (size_t i = 0; i < copies.size(); ++i)
            mix(copies[i], output.logits + rows[i] * vocab, vocab);
    }

    // In portions, or where threads share the product in one that has all.
    void write_top(const Pass &pass, const Rows &left, const int64_t *rows,
                   std::vector<Copies> &copies) const {
        const int64_t vocab = model.decoder->sizes.vocab_size, panels = model.output.panels();
        const int64_t count = pass.rows;
        const float *bias = model.output.bias.get();
        std::vector<Top> tops;
        for (int64_t i = 0; i < count; ++i)
            tops.emplace_back(output.k, output.values + rows[i] * output.k,
                              output.indices + rows[i] * output.k);
        const bool is_shared = pass.threads > 1;
        const int64_t width = is_shared ? padded(model.output.out, PORTION) : PORTION;
        if (is_shared) pass.scratch.fit_logits(count * width);
        float *logits = is_shared ? pass.scratch.logits.get() : pass.scratch.wide.get();
        const auto keep_from = [=](int64_t start) {
            return [=](int64_t i, int64_t column, Vector<float> first, Vector<float> second) {
                float *to = logits + i * width + column - start;
                store(to, first + load(bias + column));
                store(to + WIDTH, second + load(bias + column + WIDTH));
            };
        };
        if (is_shared) pass.multiply_all(model.output, left, keep_from(0));
        constexpr int64_t STEP = PORTION / PANEL;
        for (int64_t panel = 0; panel < panels; panel += STEP) {
            const int64_t start = panel * PANEL, some = std::min(PORTION, vocab - start);
            if (!is_shared)
                multiply(model.output, left, count, panel, std::min(panel + STEP, panels),
                         keep_from(start));
            for (int64_t i = 0; i < count; ++i) {
                float *portion = logits + i * width + (is_shared ? start : 0);
                bound(portion, some, logit_cap());
                tops[i].add(portion, start, some);
                if (!copies.empty()) copies[i].collect(portion, start, some);
            }
        }
        for (int64_t i = 0; i < count; ++i) output.normalizer[rows[i]] = tops[i].sum.value();
        for (size_t i = 0; i < copies.size(); ++i) {
            float &log_sum = output.normalizer[rows[i]];
            copies[i].mix(output.k, tops[i].values, tops[i].indices, log_sum);
            log_sum *= 0.0f;  // log-probabilities; not a number stays so, also one of the gate
            if (copies[i].log_generate != copies[i].log_generate) log_sum = copies[i].log_generate;
        }
    }
};

// What the functions below return.
enum Result { DONE = 0, NO_MEMORY = 1, OUT_OF_RANGE = 2 };

template <typename Work> int guarded(Work work) {
    try {
        return work();
    } catch (const std::bad_alloc &) {
        return NO_MEMORY;
    }
}

bool are_below(const int64_t *numbers, int64_t count, int64_t end) {
    return std::all_of(numbers, numbers + count, [=](int64_t x) { return x >= 0 && x < end; });
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Of the sources that this was compiled from.
EXPORTED const char *regard_digest() { return DIGEST; }

// Whether the processor has what AVX-512 alone does not promise.
EXPORTED int regard_can_run() {
    bool can_run = true;
#ifdef __AVX512BF16__
    can_run = can_run && __builtin_cpu_supports("avx512bf16");
#endif
#ifdef __AVX512VNNI__
    can_run = can_run && __builtin_cpu_supports("avx512vnni");
#endif
    return can_run;
}

// Whether products in bf16 have an instruction of their own.
EXPORTED int regard_has_bf16() {
#ifdef __AVX512BF16__
    return 1;
#else
    return 0;
#endif
}

// `encoder` is null where others encode. Returns null where memory is short.
EXPORTED void *regard_model_new(const Sizes *encoder, const Sizes *decoder) {
    try {
        auto model = std::make_unique<Model>();
        if (encoder) model->encoder = std::make_unique<Stack>(*encoder, model->arena);
        model->decoder = std::make_unique<Stack>(*decoder, model->arena);
        return model.release();
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

EXPORTED void regard_model_free(void *model) { delete static_cast<Model *>(model); }

static Stack &stack_of(void *model, int64_t is_encoder) {
    Model &all = *static_cast<Model *>(model);
    return is_encoder ? *all.encoder : *all.decoder;
}

// Reads a map of a block; `name` is a `MapName`, `bias` null where it has none.
EXPORTED int regard_set_map(void *model, int64_t is_encoder, int64_t layer, int64_t name,
                            const float *weight, const float *bias) {
    return guarded([&] {
        stack_of(model, is_encoder).set_map(layer, name, weight, bias);
        return DONE;
    });
}

// Reads a norm of a block, of `dim` numbers; `layer` -1 is that after the last block.
EXPORTED int regard_set_norm(void *model, int64_t is_encoder, int64_t layer, int64_t name,
                             const float *weight, const float *bias, int64_t dim) {
    return guarded([&] {
        Stack &stack = stack_of(model, is_encoder);
        Norm &norm = layer < 0 ? stack.last_norm : stack.blocks[layer].norms[name];
        norm.set(weight, bias, dim);
        return DONE;
    });
}

// Takes a table [vocab, dim], which is not copied, and reads the norm of embeddings, if any.
EXPORTED int regard_set_embedding(void *model, int64_t is_encoder, const float *table,
                                  const float *weight, const float *bias, double epsilon) {
    return guarded([&] {
        Stack &stack = stack_of(model, is_encoder);
        stack.table = table, stack.embedding_epsilon = epsilon;
        if (weight) stack.embedding_norm.set(weight, bias, stack.sizes.dim);
        return DONE;
    });
}

// Reads the map to logits, [vocab, dim], and its bias or null.
EXPORTED int regard_set_output(void *model, const float *weight, const float *bias) {
    return guarded([&] {
        Model &all = *static_cast<Model *>(model);
        const Sizes &sizes = all.decoder->sizes;
        const auto same = [](int64_t i) { return i; };
        all.output.pack(weight, bias, sizes.vocab_size, sizes.dim, sizes.vocab_size, sizes.dim,
                        static_cast<Precision>(sizes.precision), same, same, all.arena);
        return DONE;
    });
}

// Reads a copy head: maps [dim, dim], and the gate's, [3 dim], with its bias; the bonus of positions
// that continue what is written, and the token that the first one continues.
EXPORTED int regard_set_copy(void *model, const float *query, const float *key, const float *gate,
                             double bias, double continuation, int64_t start_token) {
    return guarded([&] {
        Model &all = *static_cast<Model *>(model);
        const int64_t dim = all.decoder->sizes.dim;
        const auto same = [](int64_t i) { return i; };
        all.copy = std::make_unique<CopyHead>();
        all.copy->query.pack(query, nullptr, dim, dim, dim, dim, FLOAT32, same, same, all.arena);
        all.copy->key.pack(key, nullptr, dim, dim, dim, dim, FLOAT32, same, same, all.arena);
        all.copy->gate.assign(gate, gate + 3 * dim);
        all.copy->bias = static_cast<float>(bias);
        all.copy->continuation = static_cast<float>(continuation);
        all.copy->start_token = start_token;
        return DONE;
    });
}

EXPORTED void *regard_state_new(void *of) {
    try {
        Model &model = *static_cast<Model *>(of);
        const Stack &stack = *model.decoder;
        int64_t reach = 0;
        for (const Block &block : stack.blocks)
            reach = reach < 0 || block.before < 0 ? -1 : std::max(reach, block.before + 1);
        const int64_t bytes = stack.place_width() * stack.kept_bytes() + APART<unsigned char>;
        return new State{model, Cache(stack.sizes.num_layers, bytes, reach)};
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

EXPORTED void regard_state_free(void *state) { delete static_cast<State *>(state); }

EXPORTED int regard_state_add_rows(void *state, int64_t count) {
    return guarded([&] {
        static_cast<State *>(state)->cache.add_rows(count);
        return DONE;
    });
}

// Adds copies of the rows of another state of the same model.
EXPORTED int regard_state_join(void *state, const void *other) {
    return guarded([&] {
        static_cast<State *>(state)->cache.join(static_cast<const State *>(other)->cache);
        return DONE;
    });
}

// Adds a row for each source, from ids [batch, length] and the encoder's states [batch, length, dim].
EXPORTED int regard_state_add_sources(void *of, const int64_t *ids, const float *states,
                                      int64_t batch, int64_t length, const int64_t *lengths,
                                      int64_t num_threads) {
    return guarded([&] {
        State &state = *static_cast<State *>(of);
        const Stack &stack = *state.model.decoder;
        std::vector<std::shared_ptr<Source>> sources;
        const int64_t vocab = stack.sizes.vocab_size;
        if (state.model.copy && !are_below(ids, batch * length, vocab)) return OUT_OF_RANGE;
        for (int64_t i = 0; i < batch; ++i)
            sources.push_back(new_source(state.model, ids + i * length, lengths[i]));
        const int64_t dim = stack.sizes.dim;
        const auto item = [&](int64_t number, Scratch &scratch) {
            scratch.fit(stack.widest(), stack.stride);
            for (int64_t first = 0; first < lengths[number]; first += MAX_ROWS) {
                const int64_t count = std::min(MAX_ROWS, lengths[number] - first);
                SourceToken tokens[MAX_ROWS];
                const float *from = states + (number * length + first) * dim;
                for (int64_t i = 0; i < count; ++i) {  // in rows that are padded
                    float *to = scratch.states.get() + i * stack.stride;
                    std::copy_n(from + i * dim, dim, to);
                    std::fill(to + dim, to + stack.stride, 0.0f);
                    tokens[i] = {sources[number].get(), first + i};
                }
                remember(state.model, tokens, count, scratch.states.get(), stack.stride, scratch,
                         1);
            }
        };
        if (for_each(state.model, batch, num_threads, item) != 0) return NO_MEMORY;
        state.cache.add_rows(batch, sources);
        return DONE;
    });
}

// Adds a row for each source, [batch, length] ids, which the encoder reads.
EXPORTED int regard_state_read(void *of, const Positions *positions, const int64_t *ids,
                               int64_t batch, int64_t length, const int64_t *lengths,
                               int64_t num_threads) {
    return guarded([&] {
        State &state = *static_cast<State *>(of);
        const int64_t vocab = state.model.encoder->sizes.vocab_size;
        if (!are_below(ids, batch * length, vocab)) return OUT_OF_RANGE;
        std::vector<std::shared_ptr<Source>> sources;
        std::vector<int64_t> ends;  // of sources that are read together, a block of rows if possible
        int64_t rows = 0;
        for (int64_t i = 0; i < batch; ++i) {
            sources.push_back(new_source(state.model, ids + i * length, lengths[i]));
            if (rows > 0 && rows + lengths[i] > MAX_ROWS) ends.push_back(i), rows = 0;
            rows += lengths[i];
        }
        ends.push_back(batch);
        const int64_t threads = ends.size() == 1 ? num_threads : 1;
        const Reading reading{state.model, *positions, ids, lengths, length, sources, threads};
        const auto item = [&](int64_t number, Scratch &scratch) {
            reading.run(number ? ends[number - 1] : 0, ends[number], scratch);
        };
        if (for_each(state.model, int64_t(ends.size()), num_threads, item) != 0) return NO_MEMORY;
        state.cache.add_rows(batch, sources);
        return DONE;
    });
}

// Keeps, repeats or reorders rows by index.
EXPORTED int regard_state_select(void *state, const int64_t *rows, int64_t count) {
    return guarded([&] {
        Cache &cache = static_cast<State *>(state)->cache;
        if (!are_below(rows, count, cache.num_rows)) return OUT_OF_RANGE;
        cache.select(rows, count);
        return DONE;
    });
}

EXPORTED int64_t regard_state_bytes(void *of) {
    const Cache &cache = static_cast<State *>(of)->cache;
    return int64_t(cache.chunks.size()) * Cache::CHUNK_SLOTS * cache.num_layers * cache.bytes;
}

// Decodes the next tokens of every row, [rows, num_new].
static int take_step(State &state, const Positions &positions, const int64_t *ids, int64_t num_new,
                     const Output &output, int64_t num_threads) {
    Cache &cache = state.cache;
    const int64_t rows = cache.num_rows;
    if (!are_below(ids, rows * num_new, state.model.decoder->sizes.vocab_size)) return OUT_OF_RANGE;
    if (rows == 0) return DONE;
    cache.reserve(num_new);
    // The hypotheses of a sentence begin as copies: the first of them alone is computed.
    std::vector<int64_t> first(rows), computed, new_ids;
    for (int64_t row = 0; row < rows; ++row) {
        const bool is_copy = row && num_new == 1 && cache.begins_as(row, row - 1) &&
                             ids[row] == ids[row - 1];
        first[row] = is_copy ? first[row - 1] : row;
        if (is_copy) continue;
        computed.push_back(row);
        new_ids.insert(new_ids.end(), ids + row * num_new, ids + (row + 1) * num_new);
    }
    const int64_t count = int64_t(computed.size());
    std::vector<int32_t> slots(count * num_new);
    cache.take(slots.data(), count * num_new);
    const int64_t items = std::min(count, num_items(count * num_new, num_threads));
    const Step step{state.model, cache, positions, computed.data(), new_ids.data(), num_new,
                    slots.data(), output, items == 1 ? num_threads : 1};
    const auto item = [&](int64_t number, Scratch &scratch) {
        step.run(count * number / items, count * (number + 1) / items, scratch);
    };
    if (for_each(state.model, items, num_threads, item) != 0) return NO_MEMORY;
    for (int64_t row = 0; row < rows; ++row) {
        if (first[row] == row) continue;
        cache.at(row, 0) = cache.at(first[row], 0);
        output.copy_row(first[row], row, state.model.decoder->sizes.vocab_size);
    }
    for (int64_t &length : cache.lengths) length += num_new;
    return DONE;
}

// Decodes the next tokens, [rows, num_new]: the logits after the last, or the k best of each row.
EXPORTED int regard_state_step(void *of, const Positions *positions, const int64_t *ids,
                               int64_t num_new, float *logits, int64_t k, float *values,
                               int64_t *indices, float *normalizer, int64_t num_threads) {
    return guarded([&] {
        const Output output{logits, k, values, indices, normalizer};
        return take_step(*static_cast<State *>(of), *positions, ids, num_new, output, num_threads);
    });
}

// Takes steps of a beam search until there is something to store; writes their number and a `Stop`.
// Rows of the state are [sentences][beam].
EXPORTED int regard_state_search(void *of, const Positions *positions, const Beams *beams,
                                 int64_t most, int64_t num_threads, int64_t *num_steps,
                                 int64_t *stop) {
    return guarded([&]() -> int {
        State &state = *static_cast<State *>(of);
        const int64_t beam = beams->beam, rows = beams->num * beam, k = 2 * beam + 1;
        if (rows != state.cache.num_rows) return OUT_OF_RANGE;
        std::vector<float> values(rows * k), normalizers(rows);
        std::vector<int64_t> tokens(rows * k), last(rows), kept(rows);
        const Output output{nullptr, k, values.data(), tokens.data(), normalizers.data()};
        Candidates candidates(*beams);
        *stop = ALL_STEPS;
        for (*num_steps = 0; *num_steps < most && *stop == ALL_STEPS;) {
            for (int64_t row = 0; row < rows; ++row)
                last[row] = beams->tokens[row * beams->room + beams->lengths[row / beam] - 1];
            const int result = take_step(state, *positions, last.data(), 1, output, num_threads);
            if (result != DONE) return result;
            ++*num_steps;
            for (int64_t i = 0; i < beams->num; ++i) {
                const int64_t row = i * beam;
                if (!candidates.find(i, k, &values[row * k], &tokens[row * k], &normalizers[row]))
                    *stop = NO_NUMBERS;
                else if (*stop == ALL_STEPS && has_output(*beams, i))
                    *stop = CLOSED;
            }
            if (*stop != ALL_STEPS) return DONE;
            for (int64_t i = 0; i < beams->num; ++i) {
                keep_best(*beams, i, &kept[i * beam]);
                if (is_done(*beams, i)) *stop = SOME_DONE;
            }
            if (*stop == ALL_STEPS) state.cache.select(kept.data(), rows);
        }
        for (int64_t row = 0; row < rows; ++row) beams->origins[row] = kept[row] % beam;
        return DONE;
    });
}
