// Runs the compiled decoder over drawn shapes, for the sanitizers: every input lies in memory of
// exactly its size, and memory runs short in some calls. Returns 1 where a result is not finite.
#include "decoder.cpp"

#include <cstdio>
#include <deque>
#include <random>

// Allocations that succeed until one fails; without an end below 0.
std::atomic<int64_t> allocations_left{-1};

void *operator new(size_t size) {
    if (allocations_left >= 0 && allocations_left-- == 0) {
        allocations_left = 0;
        throw std::bad_alloc();
    }
    if (void *memory = std::malloc(size)) return memory;
    throw std::bad_alloc();
}
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t) noexcept { std::free(memory); }

std::mt19937 generator;
std::deque<std::vector<float>> weights;

int64_t draw(int64_t from, int64_t to) {
    return std::uniform_int_distribution<int64_t>(from, to)(generator);
}

// Calls with memory for a drawn number of allocations, at last with enough. A call that had not enough
// says so, and nothing that it left stands in the way of the next.
template <typename Call> int call_short_of_memory(Call call) {
    int result = NO_MEMORY;
    for (int tries = 0; tries < 4 && result == NO_MEMORY; ++tries) {
        allocations_left = tries < 3 ? draw(0, 40) : -1;
        result = call();
    }
    allocations_left = -1;
    return result;
}

constexpr int64_t TABLES = 2;  // of angles and of biases, which the layers draw

const float *numbers(int64_t count) {
    std::vector<float> &drawn = weights.emplace_back(count);
    for (float &x : drawn) x = std::normal_distribution<float>(0, 0.3f)(generator);
    return drawn.data();
}

std::vector<int64_t> integers(int64_t count, int64_t from, int64_t to) {
    std::vector<int64_t> drawn(count);
    for (int64_t &x : drawn) x = draw(from, to);
    return drawn;
}

void fill(void *model, int64_t is_encoder, const Sizes &sizes) {
    const int64_t dim = sizes.dim, width = sizes.num_heads * sizes.head_dim;
    const int64_t shared = sizes.num_kv_heads * sizes.head_dim, hidden = sizes.hidden_dim;
    const int64_t parts = sizes.is_gated ? 2 : 1;
    const bool has_norm = draw(0, 1), has_bias = draw(0, 1), has_head_norms = draw(0, 1);
    const bool is_joint = draw(0, 1);  // norms of all heads together
    // Of pre-norm: norms before sub-layers, of their outputs, or both.
    const bool has_inputs = !sizes.is_pre || draw(0, 2), has_outputs = sizes.is_pre && draw(0, 1);
    const auto bias = [&](int64_t count) { return has_bias ? numbers(count) : nullptr; };
    const auto shift = [&](int64_t count) {
        return sizes.norm == LAYER ? numbers(count) : nullptr;
    };
    regard_set_embedding(model, is_encoder, numbers(sizes.vocab_size * dim),
                         has_norm ? numbers(dim) : nullptr, has_norm ? numbers(dim) : nullptr,
                         1e-5);
    for (int64_t layer = 0; layer < sizes.num_layers; ++layer) {
        const int64_t shapes[NUM_MAPS][2] = {{width + 2 * shared, dim}, {dim, width}, {width, dim},
                                             {2 * width, dim}, {dim, width}, {parts * hidden, dim},
                                             {dim, hidden}};
        for (int64_t name = 0; name < NUM_MAPS; ++name) {
            if (!sizes.reads_source && name >= CROSS_Q && name <= CROSS_OUT) continue;
            const auto [out, in] = shapes[name];
            regard_set_map(model, is_encoder, layer, name, numbers(out * in), bias(out));
        }
        for (int64_t name = 0; name < NUM_NORMS; ++name) {
            const bool is_of_heads = name == QUERY_NORM || name == KEY_NORM;
            const bool is_of_output = name >= SELF_OUTPUT_NORM && name <= FEED_FORWARD_OUTPUT_NORM;
            if (!(is_of_heads ? has_head_norms : is_of_output ? has_outputs : has_inputs)) continue;
            const int64_t all_heads = name == QUERY_NORM ? width : shared;
            const int64_t count = !is_of_heads ? dim : is_joint ? all_heads : sizes.head_dim;
            regard_set_norm(model, is_encoder, layer, name, numbers(count), shift(count), count);
        }
    }
    if (sizes.is_pre) regard_set_norm(model, is_encoder, -1, 0, numbers(dim), shift(dim), dim);
}

Positions positions_of(const Sizes &sizes) {
    const int64_t rows = draw(1, 40), half = sizes.head_dim / 2;
    Positions positions{};
    if (draw(0, 1)) {
        positions.num_rows = rows, positions.offset = draw(0, 2);
        positions.rows = numbers(rows * sizes.dim);
    }
    positions.num_angles = rows;
    positions.cosines = numbers(TABLES * rows * half);
    positions.sines = numbers(TABLES * rows * half);
    if (draw(0, 1)) {  // of the positions of eight steps
        positions.bias_zero = 8 * 300, positions.bias_row = 2 * positions.bias_zero + WIDTH;
        positions.biases = numbers(TABLES * sizes.num_heads * positions.bias_row);
    }
    return positions;
}

bool decode(void *model, const Sizes *encoder, const Sizes &sizes) {
    void *state = regard_state_new(model);
    const Positions source = encoder ? positions_of(*encoder) : Positions{};
    const Positions positions = positions_of(sizes);
    int64_t rows = 0;
    const bool is_short = draw(0, 3) == 0;  // of memory
    const auto call = [&](auto work) { return is_short ? call_short_of_memory(work) : work(); };
    const auto add = [&] {
        const int64_t batch = draw(1, 6), length = draw(1, draw(0, 5) ? 12 : 300);
        const std::vector<int64_t> lengths = integers(batch, 0, length);
        rows += batch;
        const auto ids = integers(batch * length, 0, sizes.vocab_size - 1);
        const float *states = encoder ? nullptr : numbers(batch * length * sizes.dim);
        const int64_t num_threads = draw(1, 3);
        return call([&] {
            if (!sizes.reads_source) return regard_state_add_rows(state, batch);
            if (encoder)
                return regard_state_read(state, &source, ids.data(), batch, length, lengths.data(),
                                         num_threads);
            return regard_state_add_sources(state, ids.data(), states, batch, length,
                                            lengths.data(), num_threads);
        });
    };
    bool is_finite = add() == DONE;
    for (int step = 0; step < 8; ++step) {
        if (draw(0, 4) == 0) is_finite = is_finite && add() == DONE;
        const int64_t count = draw(1, draw(0, 3) ? 9 : 300), vocab = sizes.vocab_size;
        const auto selected = integers(count, 0, rows - 1);
        call([&] { return regard_state_select(state, selected.data(), count); });
        rows = count;
        if (rows < 200 && draw(0, 4) == 0) {  // twice the rows, over a state in between
            void *other = regard_state_new(model);
            for (void *to : {other, state}) {
                void *from = to == state ? other : state;
                is_finite = call([&] { return regard_state_join(to, from); }) == DONE && is_finite;
            }
            regard_state_free(other);
            rows *= 2;
        }
        const int64_t num_new = draw(0, 2) ? 1 : draw(1, rows < 4 ? 300 : 4);
        const int64_t k = draw(0, std::min<int64_t>(vocab, 400));
        std::vector<float> logits(rows * vocab), values(rows * k), sums(rows);
        std::vector<int64_t> indices(rows * k);
        const auto ids = integers(rows * num_new, 0, vocab - 1);
        float *to = draw(0, 1) ? logits.data() : nullptr;
        const int64_t num_threads = draw(1, 3);
        const int result = call([&] {
            return regard_state_step(state, &positions, ids.data(), num_new, to, k, values.data(),
                                     indices.data(), sums.data(), num_threads);
        });
        is_finite = is_finite && result == DONE && are_below(indices.data(), rows * k, vocab);
        for (const auto *some : {&logits, &values, &sums})
            for (const float x : *some) is_finite = is_finite && std::isfinite(x);
    }
    const int64_t outside = rows, token = sizes.vocab_size;
    is_finite = is_finite && regard_state_select(state, &outside, 1) == OUT_OF_RANGE;
    const std::vector<int64_t> tokens(rows, token);
    is_finite = is_finite && regard_state_step(state, &positions, tokens.data(), 1, nullptr, 0,
                                               nullptr, nullptr, nullptr, 1) == OUT_OF_RANGE;
    regard_state_free(state);
    return is_finite;
}

// Steps of a beam search, also after its sentences have come to different lengths.
bool search(void *model, const Sizes *encoder, const Sizes &sizes) {
    if (!encoder) return true;
    void *state = regard_state_new(model);
    const Positions source = positions_of(*encoder), positions = positions_of(sizes);
    const int64_t num = draw(1, 5), beam = draw(1, 4), room = draw(4, 30), rows = num * beam;
    const int64_t length = draw(1, 9), vocab = sizes.vocab_size;
    const std::vector<int64_t> lengths = integers(num, 0, length);
    regard_state_read(state, &source, integers(num * length, 0, encoder->vocab_size - 1).data(), num,
                      length, lengths.data(), draw(1, 3));
    std::vector<int64_t> repeated;
    for (int64_t row = 0; row < rows; ++row) repeated.push_back(row / beam);
    regard_state_select(state, repeated.data(), rows);
    std::vector<float> scores(rows, -std::numeric_limits<float>::infinity()), best(2 * beam * num);
    for (int64_t i = 0; i < num; ++i) scores[i * beam] = 0;
    std::vector<int64_t> tokens = integers(rows * room, 0, vocab - 1), written = integers(num, 1, 3);
    const std::vector<int64_t> limits = integers(num, 1, room + 5);
    const std::vector<double> bars(num, draw(0, 1) ? -9.0 : -HUGE_VAL), divisors(num, 2.0);
    const std::vector<double> by_length(room, 1.5);
    std::vector<int64_t> origins(2 * beam * num), candidates(2 * beam * num);
    const int64_t most = room - *std::max_element(written.begin(), written.end());
    const Beams beams{num, beam, room, draw(0, vocab - 1), draw(0, 1), draw(0, room), scores.data(),
                      tokens.data(), written.data(), limits.data(), bars.data(), divisors.data(),
                      draw(0, 1) ? by_length.data() : nullptr, best.data(), origins.data(),
                      candidates.data()};
    int64_t num_steps = 0, stop = -1;
    bool is_right = regard_state_search(state, &positions, &beams, most, draw(1, 3), &num_steps,
                                        &stop) == DONE;
    is_right = is_right && num_steps >= 1 && num_steps <= most && stop >= ALL_STEPS &&
               stop <= SOME_DONE && are_below(candidates.data(), 2 * beam * num, vocab) &&
               are_below(origins.data(), 2 * beam * num, 2 * beam * beam);
    regard_state_free(state);
    return is_right;
}

int main(int, char **arguments) {
    for (int seed = 0; seed < std::atoi(arguments[1]); ++seed) {
        generator.seed(seed);
        const int64_t rotary = draw(0, 2), heads = draw(1, 4);
        std::vector<int64_t> before(3), after(3, -1), limits(3, 0);
        const auto angles = integers(3, 0, TABLES - 1), biases = integers(3, 0, TABLES - 1);
        for (int64_t &reach : before) reach = draw(0, 1) ? -1 : draw(0, 9);
        for (int64_t &reach : after) reach = draw(0, 1) ? -1 : draw(0, 9);
        Sizes sizes{};
        sizes.num_layers = draw(1, 3), sizes.dim = draw(1, 70), sizes.num_heads = heads;
        sizes.num_kv_heads = draw(0, 1) ? heads : 1;
        sizes.head_dim = rotary ? 2 * draw(1, 10) : draw(1, 20);
        sizes.hidden_dim = draw(1, 300), sizes.vocab_size = draw(1, draw(0, 3) ? 400 : 9000);
        sizes.activation = draw(0, 3), sizes.is_gated = draw(0, 1), sizes.norm = draw(0, 1);
        sizes.is_pre = draw(0, 1), sizes.is_parallel = sizes.is_pre && draw(0, 1);
        sizes.reads_source = draw(0, 1), sizes.rotary = rotary, sizes.precision = draw(0, 2);
        sizes.epsilon = 1e-5, sizes.embedding_scale = 2.0;
        sizes.score_cap = draw(0, 1) * 0.7, sizes.logit_cap = draw(0, 1) * 0.7;
        sizes.before = before.data(), sizes.after = limits.data();
        sizes.angles = angles.data(), sizes.biases = biases.data();
        Sizes encoder = sizes;
        encoder.reads_source = encoder.is_parallel = 0, encoder.after = after.data();
        encoder.num_layers = draw(1, 3), encoder.vocab_size = sizes.vocab_size;
        const bool has_encoder = sizes.reads_source && draw(0, 1);
        void *model = regard_model_new(has_encoder ? &encoder : nullptr, &sizes);
        fill(model, 0, sizes);
        if (has_encoder) fill(model, 1, encoder);
        const bool has_bias = draw(0, 1);
        regard_set_output(model, numbers(sizes.vocab_size * sizes.dim),
                          has_bias ? numbers(sizes.vocab_size) : nullptr);
        if (sizes.reads_source && draw(0, 1)) {
            const int64_t dim = sizes.dim;
            regard_set_copy(model, numbers(dim * dim), numbers(dim * dim), numbers(3 * dim), 1.0,
                            3.0, 1);
        }
        const bool is_finite = decode(model, has_encoder ? &encoder : nullptr, sizes) &&
                               search(model, has_encoder ? &encoder : nullptr, sizes);
        regard_model_free(model);
        weights.clear();
        if (!is_finite) {
            std::printf("seed %d\n", seed);
            return 1;
        }
    }
    return 0;
}
