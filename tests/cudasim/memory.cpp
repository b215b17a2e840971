/* memory.cpp - device memory is host memory whose exact bounds are known. For each byte it is
 * known whether it was ever written, and for each 4 bytes which block touched them last. */
#include "sim.h"

#include <stdlib.h>

/* Allocations by address; a function, because registration runs before constructors of globals. */
static std::map<u64, Allocation *> &table(void)
{
    static std::map<u64, Allocation *> t;
    return t;
}
static size_t used;

void memory_add(u64 base, size_t size, bool host, bool written)
{
    Allocation *a = new Allocation();
    size_t words = (size + 3) / 4 + 1;
    a->base = base;
    a->size = size;
    a->host = host;
    a->missing = written ? 0 : size;
    a->written.resize(written ? 0 : (size + 63) / 64 + 1);
    a->writer = (u32 *)calloc(words, sizeof(u32));
    a->reader = (u32 *)calloc(words, sizeof(u32));
    table()[base] = a;
    used += host ? 0 : size;
}

/* The record of the allocation stays, empty: instructions remember where they found addresses. */
bool memory_remove(u64 base, bool host)
{
    auto i = table().find(base);
    if (i == table().end() || i->second->host != host)
        return false;
    Allocation *a = i->second;
    used -= host ? 0 : a->size;
    free(a->writer);
    free(a->reader);
    vector<u64>().swap(a->written);
    a->base = a->size = 0;
    table().erase(i);
    return true;
}

/* The allocation at or before an address, or null. */
Allocation *memory_find(u64 address)
{
    auto i = table().upper_bound(address);
    return i == table().begin() ? nullptr : (--i)->second;
}

size_t memory_used(void)
{
    return used;
}

void memory_forget_blocks(void)
{
    for (auto &i : table()) {
        size_t words = (i.second->size + 3) / 4 + 1;
        memset(i.second->writer, 0, words * sizeof(u32));
        memset(i.second->reader, 0, words * sizeof(u32));
    }
}

/* Calls f(word of the bit map, mask) for the bytes of a range, until it is false. */
template <class F> static bool each_word(size_t at, size_t bytes, F f)
{
    for (size_t end = at + bytes; at < end;) {
        size_t bit = at % 64, n = std::min(64 - bit, end - at);
        if (!f(at / 64, (n == 64 ? ~0ull : (1ull << n) - 1) << bit))
            return false;
        at += n;
    }
    return true;
}

void memory_written(Allocation *a, size_t at, size_t bytes)
{
    if (a->missing == 0)
        return;
    each_word(at, bytes, [&](size_t word, u64 mask) {
        a->missing -= __builtin_popcountll(mask & ~a->written[word]);
        a->written[word] |= mask;
        return true;
    });
}

bool memory_is_written(const Allocation *a, size_t at, size_t bytes)
{
    return a->missing == 0 || each_word(at, bytes, [&](size_t word, u64 mask) {
               return (a->written[word] & mask) == mask;
           });
}

string memory_touch(u64 address, size_t bytes, bool write)
{
    Allocation *a = memory_find(address);
    if (!a || address >= a->base + a->size + 4096)
        return "memory that is not on the device";
    if (address + bytes > a->base + a->size)
        return std::to_string(address + bytes - a->base - a->size) +
               " bytes past the end of an allocation of " + std::to_string(a->size) + " bytes";
    if (write)
        memory_written(a, address - a->base, bytes);
    else if (!memory_is_written(a, address - a->base, bytes))
        return "device memory that was never written";
    return "";
}
