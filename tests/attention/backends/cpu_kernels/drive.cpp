// Runs the compiled kernels over drawn bands, for the sanitizers: every tensor lies in memory of
// exactly its size, and memory runs short at every allocation of a call. Returns 1 where a kernel
// fails.
#include "band.cpp"

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

// Calls again and again, with memory for one allocation more each time, until there is enough. A call
// that had not enough says so by 1, and nothing that it left stands in the way of the next.
template <typename Call> int call_short_of_memory(Call call) {
    int result = 1;
    for (int64_t count = 0; result == 1; ++count) {
        allocations_left = count;
        result = call();
        allocations_left = -1;
    }
    return result;
}

std::mt19937 generator;

int64_t draw(int64_t from, int64_t to) {
    return std::uniform_int_distribution<int64_t>(from, to)(generator);
}

template <typename S> std::vector<S> numbers(int64_t count) {
    std::vector<S> drawn(count);
    for (S &x : drawn) {
        if constexpr (std::is_same_v<S, BFloat16>) x.bits = uint16_t(draw(0x3e00, 0x3f80));
        else x = S(draw(-100, 100)) / 50;
    }
    return drawn;
}

template <typename Integer> std::vector<Integer> integers(int64_t count, int64_t to) {
    std::vector<Integer> drawn(count);
    for (Integer &x : drawn) x = Integer(draw(0, to));
    return drawn;
}

Band draw_band(int64_t storage) {
    Band band{};
    band.storage = storage, band.num_threads = draw(1, 2), band.scale = 0.25;
    band.batch = draw(1, 2), band.kv_heads = draw(1, 2), band.heads = band.kv_heads * draw(1, 2);
    band.queries = draw(1, 150), band.keys = draw(1, 150);
    band.dim = draw(0, 1) ? 64 : draw(1, 70), band.value_dim = draw(0, 1) ? 64 : draw(1, 70);
    band.before = draw(0, 3) ? draw(0, 160) : int64_t(1) << 40;
    band.after = draw(0, 160), band.offset = draw(0, 40);
    const bool is_projected = draw(0, 1);
    const auto set = [&](int64_t *strides, int64_t heads, int64_t length, int64_t dim) {
        strides[0] = heads * length * dim;
        strides[1] = is_projected ? dim : length * dim;
        strides[2] = is_projected ? heads * dim : dim;
    };
    for (int64_t *strides : {band.q_strides, band.dq_strides})
        set(strides, band.heads, band.queries, band.dim);
    for (int64_t *strides : {band.k_strides, band.dk_strides})
        set(strides, band.kv_heads, band.keys, band.dim);
    for (int64_t *strides : {band.v_strides, band.dv_strides})
        set(strides, band.kv_heads, band.keys, band.value_dim);
    for (int64_t *strides : {band.out_strides, band.dout_strides})
        set(strides, band.heads, band.queries, band.value_dim);
    return band;
}

template <typename S, typename T> bool runs(int64_t storage) {
    Band band = draw_band(storage);
    const int64_t queries = band.batch * band.heads * band.queries;
    const int64_t keys = band.batch * band.kv_heads * band.keys;
    const auto q = numbers<S>(queries * band.dim), k = numbers<S>(keys * band.dim);
    const auto v = numbers<S>(keys * band.value_dim), dout = numbers<S>(queries * band.value_dim);
    const auto dlse = numbers<T>(queries);
    std::vector<S> out(dout.size()), dq(q.size());
    std::vector<T> lse(queries), dk(k.size()), dv(v.size());
    const auto lengths = integers<int64_t>(band.batch, band.keys);
    using Integer = typename Types<T>::Integer;
    const auto query_segments = integers<Integer>(band.batch * band.queries, 2);
    const auto key_segments = integers<Integer>(band.batch * band.keys, 2);
    band.q = q.data(), band.k = k.data(), band.v = v.data(), band.dout = dout.data();
    band.out = out.data(), band.lse = lse.data(), band.dlse = dlse.data();
    band.dq = dq.data(), band.dk = dk.data(), band.dv = dv.data();
    if (draw(0, 1)) band.lengths = lengths.data();
    if (draw(0, 1)) {
        band.query_segments = query_segments.data();
        band.key_segments = key_segments.data();
    }
    return call_short_of_memory([&] { return regard_band_forward(&band); }) == 0 &&
           call_short_of_memory([&] { return regard_band_backward(&band); }) == 0;
}

int main(int, char **arguments) {
    bool is_good = true;
    for (int64_t count = std::atoll(arguments[1]); count > 0; --count) {
        is_good &= runs<float, float>(FLOAT32);
        is_good &= runs<double, double>(FLOAT64);
        is_good &= runs<BFloat16, float>(BFLOAT16);
    }
    return is_good ? 0 : 1;
}
