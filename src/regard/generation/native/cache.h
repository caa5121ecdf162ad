// Keys and values of the positions decoded so far, and which of them each row has.
//
// Each position of a row takes one slot, which holds the keys and values of all layers. A row is a
// list of slots: rows that are kept, repeated or reordered copy their lists, and rows that came
// from one share the slots before. Slots that no row lists are found when all are taken.
#pragma once

#include <cstring>

#include "packed.h"

// The keys and values of a source for every layer, shared by the rows that translate it.
struct Source {
    int64_t length = 0;
    Aligned<unsigned char> memory;  // [layers][heads][2][length][width of a head]
    // Of a source that is copied from: keys and states, and its tokens.
    Aligned<float> copied;        // [2][length][stride]
    std::vector<int64_t> tokens;  // without repetition, the smallest first
    std::vector<int32_t> places;  // [length], the place in `tokens` of each position

    void list_tokens(const int64_t *ids) {
        tokens.assign(ids, ids + length);
        std::sort(tokens.begin(), tokens.end());
        tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
        for (int64_t i = 0; i < length; ++i) {
            const auto at = std::lower_bound(tokens.begin(), tokens.end(), ids[i]);
            places.push_back(static_cast<int32_t>(at - tokens.begin()));
        }
    }
    int64_t token_at(int64_t position) const { return tokens[places[position]]; }
};

struct Cache {
    static constexpr int64_t CHUNK_SLOTS = 64;

    int64_t num_layers, bytes;     // bytes: of the keys and values of a layer
    int64_t reach;                 // positions that a row keeps; -1 is all
    int64_t num_rows = 0, room = 0;
    std::vector<Aligned<unsigned char>> chunks;  // each [layers][CHUNK_SLOTS][bytes]
    std::vector<int32_t> table, other;          // [rows][room]; position p at p % room
    std::vector<int64_t> lengths;               // [rows]
    std::vector<std::shared_ptr<Source>> sources;  // [rows], or empty
    std::vector<int32_t> unused;

    Cache(int64_t num_layers, int64_t bytes, int64_t reach)
        : num_layers(num_layers), bytes(bytes), reach(reach) {}

    unsigned char *slot(int64_t layer, int32_t number) const {
        return chunks[number / CHUNK_SLOTS].get() +
               (layer * CHUNK_SLOTS + number % CHUNK_SLOTS) * bytes;
    }
    int32_t &at(int64_t row, int64_t position) { return table[row * room + position % room]; }
    int32_t at(int64_t row, int64_t position) const { return table[row * room + position % room]; }

    // Whether two rows have no positions yet and the same source.
    bool begins_as(int64_t row, int64_t other) const {
        return lengths[row] == 0 && lengths[other] == 0 && !sources.empty() &&
               sources[row] == sources[other];
    }

    // Adds rows without positions, with a source each or with none. Where memory is short it throws,
    // and no row is added.
    void add_rows(int64_t count, const std::vector<std::shared_ptr<Source>> &added = {}) {
        const int64_t all = num_rows + count;
        lengths.reserve(all), table.reserve(all * room);
        sources.reserve(sources.size() + added.size());
        lengths.resize(all, 0), table.resize(all * room);
        sources.insert(sources.end(), added.begin(), added.end());
        num_rows = all;
    }

    // Adds copies of the rows of another cache of the same model. Where memory is short it throws,
    // and no row is added.
    void join(const Cache &from) {
        const int64_t before = num_rows;
        fit(from.longest());
        add_rows(from.num_rows, from.sources);
        try {
            for (int64_t row = 0; row < from.num_rows; ++row) copy_row(from, row, before + row);
        } catch (...) {
            num_rows = before;
            lengths.resize(before), table.resize(before * room);
            if (!sources.empty()) sources.resize(before);
            throw;
        }
    }

    // Makes room for `count` more positions of every row.
    void reserve(int64_t count) { fit(longest() + count); }

    // Makes room for the positions of a row. A ring holds `reach` positions and those of one block,
    // which enter it together.
    void fit(int64_t wanted) {
        const int64_t ring = reach < 0 ? wanted : reach + MAX_ROWS;
        wanted = std::min(wanted, ring);
        if (wanted <= room) return;
        const int64_t larger = std::min(std::max(wanted, std::max<int64_t>(32, 2 * room)),
                                        reach < 0 ? std::numeric_limits<int64_t>::max() : ring);
        other.assign(num_rows * larger, 0);
        for (int64_t row = 0; row < num_rows; ++row)  // nothing has gone around yet
            std::copy_n(table.begin() + row * room, std::min(lengths[row], room),
                        other.begin() + row * larger);
        table.swap(other);
        room = larger;
    }

    // Takes slots that no row lists.
    void take(int32_t *slots, int64_t count) {
        if (int64_t(unused.size()) < count) collect(count);
        for (int64_t i = 0; i < count; ++i) {
            slots[i] = unused.back();
            unused.pop_back();
        }
    }

    void select(const int64_t *rows, int64_t count) {
        other.resize(count * room);
        std::vector<int64_t> kept(count);
        std::vector<std::shared_ptr<Source>> shared(sources.empty() ? 0 : count);
        for (int64_t i = 0; i < count; ++i) {
            kept[i] = lengths[rows[i]];
            std::copy_n(table.begin() + rows[i] * room, std::min(kept[i], room),
                        other.begin() + i * room);
            if (!sources.empty()) shared[i] = sources[rows[i]];
        }
        table.swap(other), lengths.swap(kept), sources.swap(shared);
        num_rows = count;
    }

  private:
    int64_t longest() const {
        int64_t most = 0;
        for (const int64_t length : lengths) most = std::max(most, length);
        return most;
    }

    // Copies the keys and values of a row of another cache to a row without positions.
    void copy_row(const Cache &from, int64_t other_row, int64_t row) {
        const int64_t end = from.lengths[other_row];
        const int64_t first = std::max<int64_t>(0, end - from.room);
        std::vector<int32_t> slots(end - first);
        take(slots.data(), end - first);
        for (int64_t p = first; p < end; ++p) {
            const int32_t number = at(row, p) = slots[p - first];
            for (int64_t layer = 0; layer < num_layers; ++layer)
                std::memcpy(slot(layer, number), from.slot(layer, from.at(other_row, p)), bytes);
        }
        lengths[row] = end;
    }

    void collect(int64_t wanted) {
        std::vector<bool> is_used(chunks.size() * CHUNK_SLOTS);
        int64_t num_used = 0;
        for (int64_t row = 0; row < num_rows; ++row)
            for (int64_t p = std::max<int64_t>(0, lengths[row] - room); p < lengths[row]; ++p) {
                const int32_t number = at(row, p);
                num_used += !is_used[number];
                is_used[number] = true;
            }
        // At least a quarter is free then, so that the next search is far away.
        const int64_t size = num_used + std::max(wanted, num_used / 2);
        while (int64_t(chunks.size()) * CHUNK_SLOTS < size) {
            Aligned<unsigned char> chunk;
            chunk.allocate(num_layers * CHUNK_SLOTS * bytes);
            chunks.push_back(std::move(chunk));
        }
        is_used.resize(chunks.size() * CHUNK_SLOTS);
        unused.clear();
        for (int64_t number = int64_t(is_used.size()) - 1; number >= 0; --number)
            if (!is_used[number]) unused.push_back(static_cast<int32_t>(number));
    }
};
