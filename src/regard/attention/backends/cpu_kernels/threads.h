// Work shared among threads, item by item.
#pragma once

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

using Room = std::unique_ptr<void, decltype(&std::free)>;
using Compute = std::function<void(int64_t item, void *room)>;

// What the threads of one call share: each takes a room, then item after item.
struct Work {
    const Compute &compute;
    int64_t num_items;
    std::vector<Room> rooms;
    std::atomic<int64_t> next_item{0};
    std::atomic<size_t> next_room{0};

    static void take_part(void *of) {
        Work &work = *static_cast<Work *>(of);
        const size_t room = work.next_room++;
        if (room >= work.rooms.size()) return;
        for (int64_t item = work.next_item++; item < work.num_items; item = work.next_item++)
            work.compute(item, work.rooms[room].get());
    }
};

static const pid_t loading_process = getpid();

// Computes every item in a room of that many bytes. Returns 0, or 1 where memory is short.
inline int share(int64_t num_items, int64_t num_threads, int64_t room_bytes,
                 const Compute &compute) {
    Work work{compute, num_items, {}, {}, {}};
    const int64_t count = std::clamp<int64_t>(num_threads, 1, std::max<int64_t>(1, num_items));
    work.rooms.reserve(count);
    for (int64_t i = 0; i < count; ++i) {
        work.rooms.emplace_back(std::aligned_alloc(64, (room_bytes + 63) / 64 * 64), &std::free);
        if (!work.rooms.back()) return 1;
    }
    // The pool of the OpenMP runtime that PyTorch has loaded, where there is one: threads of our
    // own would compete with its threads, which wait actively for a while after every operation.
    using OpenMP = void (*)(void (*)(void *), void *, unsigned num_threads, unsigned flags);
    static const auto openmp = reinterpret_cast<OpenMP>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    // A process that was forked has not the threads of its parent's pool, for which the runtime would
    // wait forever.
    if (count > 1 && openmp && getpid() == loading_process) {
        openmp(&Work::take_part, &work, static_cast<unsigned>(count), 0);
        return 0;
    }
    std::vector<std::thread> others;
    others.reserve(count);
    try {
        for (int64_t i = 1; i < count; ++i) others.emplace_back(&Work::take_part, &work);
    } catch (const std::exception &) {
        // There are no more threads, or no memory for one: those that there are take all items.
    }
    Work::take_part(&work);
    for (std::thread &other : others) other.join();
    return 0;
}
