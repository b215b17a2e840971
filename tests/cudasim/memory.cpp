/* memory.cpp - what touches memory, and the checks of it. Device memory is host memory whose exact
 * bounds are known; for each byte it is known whether it was ever written, and for each 4 bytes
 * which block touched them last. Shared memory knows which thread touched each 2 bytes and when. */
#include "sim.h"

#include <stdlib.h>

/* ---- device memory ---- */

static std::map<u64, Allocation *> &table(void) /* a function: used before constructors run */
{
    static std::map<u64, Allocation *> *t = new std::map<u64, Allocation *>();
    return *t;
}
static vector<Allocation *> *const gone = new vector<Allocation *>();
static size_t used[2]; /* of the device, of the host */

void memory_add(u64 base, size_t size, bool host)
{
    size_t words = (size + 3) / 4 + 1;
    table()[base] = new Allocation{base,
                                   size,
                                   host ? 0 : size,
                                   host,
                                   vector<u64>(size / 64 + 1),
                                   (u32 *)calloc(words, 4),
                                   (u32 *)calloc(words, 4)};
    used[host] += size;
}

/* The record stays, empty, because instructions remember where they found addresses. */
bool memory_remove(u64 base, bool host)
{
    auto i = table().find(base);
    if (i == table().end() || i->second->host != host)
        return false;
    Allocation *a = i->second;
    used[host] -= a->size;
    free(a->writer);
    free(a->reader);
    vector<u64>().swap(a->written);
    a->base = a->size = 0;
    gone->push_back(a);
    table().erase(i);
    return true;
}

static Allocation *at_or_before(u64 address)
{
    auto i = table().upper_bound(address);
    return i == table().begin() ? nullptr : (--i)->second;
}

Allocation *memory_find(u64 address)
{
    Allocation *a = at_or_before(address);
    return a && address < a->base + a->size ? a : nullptr;
}

size_t memory_used(bool host)
{
    return used[host];
}

void memory_forget_blocks(void)
{
    for (auto &i : table())
        for (u32 *blocks : {i.second->writer, i.second->reader})
            memset(blocks, 0, ((i.second->size + 3) / 4 + 1) * 4);
}

/* Marks bytes as written; or says whether they are. */
static bool written(Allocation *a, size_t at, size_t bytes, bool mark)
{
    for (size_t end = at + bytes; a->missing && at < end;) {
        size_t bit = at % 64, n = std::min(64 - bit, end - at);
        u64 mask = (n == 64 ? ~0ull : (1ull << n) - 1) << bit, &word = a->written[at / 64];
        if (!mark && mask & ~word)
            return false;
        a->missing -= __builtin_popcountll(mask & ~word);
        word |= mask;
        at += n;
    }
    return true;
}

string memory_touch(u64 address, size_t bytes, bool write)
{
    Allocation *a = at_or_before(address);
    if (!a || address >= a->base + a->size + 4096)
        return "memory that is not on the device";
    size_t over = address + bytes - a->base, size = a->size;
    if (over > size)
        return std::to_string(over - size) + " bytes past the end of an allocation of " +
               std::to_string(size) + " bytes";
    return written(a, address - a->base, bytes, write) ? ""
                                                       : "device memory that was never written";
}

/* Blocks of this launch that published what they wrote: a fence, then an atomic. */
static vector<bool> released;

void memory_start_launch(const Launch &l)
{
    released.assign((size_t)l.grid.x * l.grid.y * l.grid.z + 1, false);
}

/* What is wrong if this block touches what another one touched, or, before griddepcontrol.wait,
 * what an earlier launch did. */
static const char *blocks_touch(const Block &b, Allocation *a, size_t at, size_t bytes, Touch how,
                                u32 floor)
{
    u32 me = b.number, base = b.launch.base;
    auto foreign = [&](u32 id) {
        return id >= floor && id != me && !(b.acquired && id > base && released[id - base]);
    };
    for (size_t i = at / 4; i <= (at + bytes - 1) / 4; i++) {
        u32 from = i * 4 < at ? at - i * 4 : 0, to = std::min<size_t>(4, at + bytes - i * 4);
        u32 mask = (1u << to) - (1u << from), wr = a->writer[i], rd = a->reader[i];
        if (wr & mask && foreign(wr >> 4))
            return wr >> 4 < base
                       ? "touched before griddepcontrol.wait, but the launch before wrote it"
                       : "race: another block of this launch wrote the same memory";
        if (how == WRITE && rd & mask && foreign(rd >> 4))
            return rd >> 4 < base
                       ? "written before griddepcontrol.wait, but the launch before read it"
                       : "race: written, but another block of this launch read the same memory";
        if (how == WRITE)
            a->writer[i] = me << 4 | mask | (wr >> 4 == me ? wr & 15 : 0);
        else if (rd >> 4 < base || !(rd & mask) || rd >> 4 == me)
            a->reader[i] = me << 4 | mask | (rd >> 4 == me ? rd & 15 : 0);
        else if (rd >> 4 != base)
            a->reader[i] = base << 4 | (rd & mask); /* several blocks */
    }
    return nullptr;
}

static void global_range(Warp &w, const Inst &in, u64 at, size_t bytes, Touch how, int lane)
{
    const Launch &launch = w.block->launch;
    Allocation *a = in.hint;
    if (!a || at < a->base || at + bytes > a->base + a->size)
        a = in.hint = memory_find(at);
    if (!a || at + bytes > a->base + a->size)
        fault(w, (how == READ ? "read of " : "write to ") + memory_touch(at, bytes, false), lane);
    if (!written(a, at - a->base, bytes, how == WRITE))
        fault(w, "read of device memory that was never written", lane);
    bool early = launch.overlaps && !(w.waited >> lane & 1);
    const char *why = how == ATOMIC ? nullptr
                                    : blocks_touch(*w.block, a, at - a->base, bytes, how,
                                                   early ? launch.floor : launch.base);
    if (why)
        fault(w, why, lane);
}

/* Lanes whose addresses follow one another are one range. Counts sectors of 32 bytes. */
static void global_touch(Warp &w, const Inst &in, const u64 *at, u32 mask, u32 bytes, Touch how)
{
    Counters &c = w.block->k.counters;
    u64 sectors[128];
    u32 count = 0;
    for (u32 rest = mask; rest;) {
        int first = __builtin_ctz(rest), end = first + 1;
        while (end < 32 && rest >> end & 1 && at[end] == at[end - 1] + bytes && how != ATOMIC)
            end++;
        size_t size = (size_t)bytes * (end - first);
        try {
            global_range(w, in, at[first], size, how, first);
        } catch (Fault &) { /* say which lane it was */
            for (int l = first; l < end; l++)
                global_range(w, in, at[l], bytes, how, l);
            throw;
        }
        for (u64 s = at[first] / 32; s <= (at[first] + size - 1) / 32; s++)
            if (std::find(sectors, sectors + count, s) == sectors + count)
                sectors[count++] = s;
        rest &= end == 32 ? 0 : ~0u << end;
    }
    c.sectors += count;
    c.sectors_ideal += (__builtin_popcount(mask) * bytes + 31) / 32;
}

/* ---- shared memory ---- */

/* Who touched 2 bytes last and when, in a number that grows with time: barriers so far (12 bits),
 * flags (2), __syncwarps since (8), warp and lane (10). */
enum : u32 {
    LANE = 31,
    WARP = 31 << 5,
    WARP_EPOCH = 255 << 10,
    SEVERAL_LANES = 1 << 18, /* readers; of a writer: an atomic */
    SEVERAL_WARPS = 1 << 19, /* readers; of a writer: atomics of several threads */
    EPOCH = 1 << 20,
    IN_FLIGHT = 0xfffu << 20, /* a cp.async of that thread */
};

void memory_start_block(Block &b)
{
    std::fill(b.smem.begin(), b.smem.end(), (char)0xff);
    std::fill(b.writer.begin(), b.writer.end(), 0);
    std::fill(b.reader.begin(), b.reader.end(), 0);
    b.epoch = 2;
}

void memory_next_epoch(Block &b)
{
    if (++b.epoch == IN_FLIGHT / EPOCH) { /* everything until now becomes old */
        for (u32 &x : b.writer)
            x = x == 0 || x >= IN_FLIGHT ? x : (u32)EPOCH;
        std::fill(b.reader.begin(), b.reader.end(), 0);
        b.epoch = 2;
    }
    for (Warp &w : b.warps)
        w.epoch = 0;
}

static u32 stamp_of(const Warp &w, int lane)
{
    return w.block->epoch * EPOCH | w.epoch << 10 | (w.first + lane);
}

/* Whether what `stamp` did is not ordered before what `me` does. */
static bool unordered(u32 stamp, u32 me)
{
    u32 diff = stamp ^ me;
    if (stamp < (me & ~(EPOCH - 1)))
        return false;
    if (diff & WARP || stamp & SEVERAL_WARPS)
        return true;
    return !(diff & WARP_EPOCH) && (diff & LANE || stamp & SEVERAL_LANES);
}

/* The careful half of shared_touch, for 2 bytes. */
static void shared_check(Warp &w, int lane, u32 i, Touch how, bool byte)
{
    u32 me = stamp_of(w, lane), &by = w.block->writer[i], readers = w.block->reader[i];
    auto thread = [](u32 stamp) { return "thread " + std::to_string(stamp & (WARP | LANE)); };
    if (by >= IN_FLIGHT)
        fault(w, "shared memory with a cp.async of " + thread(by) + " in flight is touched", lane);
    if (by == 0 && how != WRITE)
        fault(w, "read of shared memory that was never written", lane);
    if (byte) { /* its neighbour may belong to another thread: not checked */
        by = how == READ ? by : std::max(by, (u32)EPOCH);
        return;
    }
    bool atomics = how == ATOMIC && by & SEVERAL_LANES;
    if (!atomics && unordered(by & ~SEVERAL_LANES, me))
        fault(w,
              string("race: ") + (how == READ ? "read" : "written") + " after " + thread(by) +
                  " wrote the same shared memory, with no barrier between",
              lane);
    if (how != READ && unordered(readers, me))
        fault(w,
              "race: written after " + (readers & SEVERAL_WARPS ? "threads" : thread(readers)) +
                  " read the same shared memory, with no barrier between",
              lane);
    bool others = atomics && by >= (me & ~(EPOCH - 1)) && (by ^ me) & (WARP | LANE);
    if (how != READ)
        by = me | (how == ATOMIC ? SEVERAL_LANES | (others ? (u32)SEVERAL_WARPS : 0) : 0);
}

static void shared_touch(Warp &w, int lane, u32 at, u32 bytes, Touch how)
{
    u32 me = stamp_of(w, lane), now = me & ~(EPOCH - 1), suspect = how != READ;
    u32 *writer = w.block->writer.data(), *reader = w.block->reader.data();
    u32 first = at / 2, last = (at + bytes - 1) / 2;
    if (how == READ)
        for (u32 i = first; i <= last; i++) {
            u32 r = reader[i], diff = r ^ me;
            suspect |= (writer[i] >= now) | (writer[i] == 0);
            u32 both = r | (diff & LANE ? (u32)SEVERAL_LANES : 0);
            u32 same = diff & WARP_EPOCH ? me | (r & SEVERAL_WARPS) : both;
            reader[i] = r < now ? me : diff & WARP ? r | SEVERAL_WARPS : same;
        }
    for (u32 i = first; suspect && i <= last; i++)
        shared_check(w, lane, i, how, bytes == 1);
}

/* How often shared memory is read or written for one instruction: 32 banks of 4 bytes, 128 bytes
 * at a time. */
static void count_shared(Counters &c, const u64 *at, u32 mask, u32 bytes)
{
    u32 lanes = bytes >= 16 ? 8 : bytes == 8 ? 16 : 32, unit = std::max(bytes, 4u);
    for (u32 first = 0; first < 32; first += lanes) {
        u32 part = mask & (u32)(((1ull << lanes) - 1) << first), seen = 0, passes = 1;
        EACH(part) seen |= 1u << at[l] / unit % (128 / unit);
        if (__builtin_popcount(seen) != __builtin_popcount(part)) {
            u64 words[32][33];
            u32 count[32] = {0};
            EACH(part) for (u64 a = at[l] / 4; a <= (at[l] + bytes - 1) / 4; a++)
            {
                u64 *bank = words[a % 32];
                u32 &n = count[a % 32];
                if (std::find(bank, bank + n, a) == bank + n)
                    bank[n++] = a;
                passes = std::max(passes, n);
            }
        }
        c.passes += part ? passes : 0;
        c.passes_ideal += part != 0;
    }
}

/* ---- where lanes find their data ---- */

static void addresses(const Warp &w, u32 op, bool wide, s32 offset, u64 *at)
{
    for (int l = 0; l < 32; l++)
        at[l] = wide ? load<u64>(w.row(op), l) + offset : load<u32>(w.row(op), l) + (u32)offset;
}

/* The host addresses of what the lanes touch, after all checks. */
static void locate(Warp &w, const Inst &in, u32 mask, Space space, u64 *at, u32 bytes, Touch how,
                   char **to)
{
    Block &b = *w.block;
    for (u32 all = space == GENERIC ? mask : 0; all; all &= all - 1) { /* by windows; see cvta */
        int l = __builtin_ctz(all);
        Space s = at[l] >> 62 ? PARAM : at[l] >> 61 ? LOCAL : at[l] >> 60 ? SHARED : GLOBAL;
        if (s == GLOBAL)
            continue;
        at[l] &= (1ull << 60) - 1;
        locate(w, in, 1u << l, s, at, bytes, how, to);
        mask &= ~(1u << l);
    }
    EACH(mask)
    if (at[l] & ((bytes & -bytes) - 1))
        fault(w, "misaligned address for " + std::to_string(bytes) + " bytes", l);
    if (space == GLOBAL || space == GENERIC) {
        EACH(mask) to[l] = (char *)at[l];
        global_touch(w, in, at, mask, bytes, how);
        return;
    }
    size_t limit = space == SHARED ? b.smem.size() : space == LOCAL ? b.k.local : b.k.param_bytes;
    EACH(mask)
    {
        if (at[l] > limit || at[l] + bytes > limit)
            fault(w,
                  string(space == SHARED  ? "shared"
                         : space == LOCAL ? "local"
                                          : "parameter") +
                      " memory of " + std::to_string(limit) + " bytes is left: address " +
                      std::to_string((s64)at[l]),
                  l);
        if (space == SHARED)
            shared_touch(w, l, at[l], bytes, how);
        to[l] = space == SHARED  ? &b.smem[at[l]]
                : space == LOCAL ? &w.local[l * limit + at[l]]
                                 : const_cast<char *>(&b.launch.params[at[l]]);
    }
    if (space == SHARED)
        count_shared(b.k.counters, at, mask, bytes);
}

void memory_read_shared(Warp &w, const Inst &in, u32 mask, u64 *at, u32 bytes, char **from)
{
    locate(w, in, mask, SHARED, at, bytes, READ, from);
}

void memory_write_shared(Warp &w, const Inst &in, u32 mask, u64 *at, u32 bytes, char **to)
{
    locate(w, in, mask, SHARED, at, bytes, WRITE, to);
}

/* ---- loads, stores, atomics ---- */

template <class T> static void load_lanes(Warp &w, const Inst &in, u32 mask)
{
    u64 at[32];
    char *from[32];
    addresses(w, in.op[in.dsts], in.wide_address, in.offset[0], at);
    locate(w, in, mask, in.space, at, sizeof(T) * in.dsts, READ, from);
    for (int i = 0; i < in.dsts; i++)
        if (in.wide) /* the register may be wider than what is loaded */
            EACH(mask) store<u64>(w.row(in.op[i]), l, (u64)load<T>(from[l], i));
        else
            EACH(mask) store<u32>(w.row(in.op[i]), l, (u32)load<T>(from[l], i));
}

template <class T> static void store_lanes(Warp &w, const Inst &in, u32 mask)
{
    u64 at[32];
    char *to[32];
    addresses(w, in.op[0], in.wide_address, in.offset[0], at);
    locate(w, in, mask, in.space, at, sizeof(T) * (in.srcs - 1), WRITE, to);
    for (int i = 1; i < in.srcs; i++)
        EACH(mask)
    store<T>(to[l], i - 1,
             (T)(in.wide ? load<u64>(w.row(in.op[i]), l) : load<u32>(w.row(in.op[i]), l)));
}

template <class T> static T combined(char mode, T old, T v, T other)
{
    if (mode == 'p') /* inc */
        return old >= v ? 0 : old + 1;
    if (mode == 'm') /* dec */
        return old == 0 || old > v ? v : old - 1;
    if (mode == '&' || mode == '|' || mode == '^') {
        u64 a = 0, b = 0;
        memcpy(&a, &old, sizeof(T));
        memcpy(&b, &v, sizeof(T));
        u64 r = mode == '&' ? a & b : mode == '|' ? a | b : a ^ b;
        return load<T>(&r, 0);
    }
    return mode == 'a'   ? old + v
           : mode == 'i' ? std::min(old, v)
           : mode == 'x' ? std::max(old, v)
           : mode == 'e' ? v
           : old == v    ? other
                         : old; /* cas */
}

template <class T> static void atomic(Warp &w, const Inst &in, u32 mask)
{
    u64 at[32];
    char *to[32];
    Block &b = *w.block;
    const u32 *s = in.op + in.dsts;
    addresses(w, s[0], in.wide_address, in.offset[0], at);
    locate(w, in, mask, in.space, at, sizeof(T), ATOMIC, to);
    b.acquired = true;
    if (b.fenced)
        released[b.number - b.launch.base] = true;
    EACH(mask)
    {
        T old = load<T>(to[l], 0), v = load<T>(w.row(s[1]), l);
        store<T>(to[l], 0, combined(in.mode, old, v, load<T>(w.row(s[in.mode == 'c' ? 2 : 1]), l)));
        if (in.dsts)
            store<T>(w.row(in.op[0]), l, old);
    }
}

template <class T> static void reduce(Warp &w, const Inst &in, u32 mask) /* redux */
{
    const void *a = w.row(in.op[1]);
    need_members(w, in.op[2], mask);
    T r = load<T>(a, __builtin_ctz(mask));
    EACH(mask & (mask - 1)) r = combined<T>(in.mode, r, load<T>(a, l), 0);
    EACH(mask) store<T>(w.row(in.op[0]), l, r);
}

static void fence(Warp &w, const Inst &, u32)
{
    w.block->fenced = true;
}

/* ldmatrix, stmatrix: a register of 16-bit pairs is an 8x8 matrix, row by row. */
template <Touch how> static void matrix(Warp &w, const Inst &in, u32 mask)
{
    u64 at[32];
    char *rows[32];
    int n = how == READ ? in.dsts : in.srcs - 1;
    const u32 *registers = in.op + (how == READ ? 0 : 1);
    if (mask != ~0u)
        fault(w, "this needs all 32 lanes of the warp together");
    addresses(w, in.op[how == READ ? n : 0], in.wide_address, in.offset[0], at);
    locate(w, in, n == 4 ? ~0u : (1u << 8 * n) - 1, in.space, at, 16, how, rows);
    for (int i = 0; i < n * 8; i++)
        for (int c = 0, r = i % 8; c < 8; c++) {
            void *reg = w.row(registers[i / 8]);
            int place = in.option ? c * 8 + r : r * 8 + c;
            if (how == READ)
                store<u16>(reg, place, load<u16>(rows[i], c));
            else
                store<u16>(rows[i], c, load<u16>(reg, place));
        }
}

/* ---- asynchronous copies: they land when they are waited for ---- */

static void copy_async(Warp &w, const Inst &in, u32 mask)
{
    u64 at[32], source[32];
    char *to[32], *from[32];
    u32 bytes = load<u32>(w.row(in.op[2]), 0), whole = 0, valid[32];
    addresses(w, in.op[0], in.wide_address, in.offset[0], at);
    addresses(w, in.op[1], true, in.offset[1], source);
    locate(w, in, mask, SHARED, at, bytes, WRITE, to);
    EACH(mask)
    {
        valid[l] = in.srcs > 3 ? load<u32>(w.row(in.op[3]), l) : bytes;
        if (valid[l] > bytes)
            fault(w, "cp.async of more bytes than its size", l);
        whole |= (u32)(valid[l] == bytes) << l;
        if (valid[l] && valid[l] < bytes)
            global_range(w, in, source[l], valid[l], READ, l);
    }
    locate(w, in, whole, GLOBAL, source, bytes, READ, from);
    EACH(mask)
    {
        w.copies.push_back(
            {(int)l, w.committed[l], (u32)at[l], bytes, valid[l], (char *)source[l]});
        for (u32 i = at[l] / 2; i < (at[l] + bytes) / 2; i++)
            w.block->writer[i] = IN_FLIGHT | (w.first + l);
    }
}

static void copy_commit(Warp &w, const Inst &, u32 mask)
{
    EACH(mask) w.committed[l]++;
}

static void copy_wait(Warp &w, const Inst &in, u32 mask)
{
    bool all = in.mode == 'a';
    u32 keep = all ? 0 : load<u32>(w.row(in.op[0]), 0), left = 0;
    for (const Copy &c : w.copies) {
        if (!(mask >> c.lane & 1) || !(all || c.group + keep < w.committed[c.lane])) {
            w.copies[left++] = c;
            continue;
        }
        char *to = &w.block->smem[c.to];
        memcpy(to, c.from, c.valid);
        memset(to + c.valid, 0, c.bytes - c.valid);
        for (u32 i = c.to / 2; i < (c.to + c.bytes) / 2; i++)
            w.block->writer[i] = stamp_of(w, c.lane);
    }
    w.copies.resize(left);
}

/* ---- which instruction is which ---- */

static Action pick_load(Type t)
{
    bool s = t.kind == 's';
    if (t.bits >= 32)
        return t.bits == 64 ? load_lanes<u64> : s ? load_lanes<s32> : load_lanes<u32>;
    if (t.bits == 16)
        return s ? load_lanes<s16> : load_lanes<u16>;
    return s ? load_lanes<s8> : load_lanes<u8>;
}

static Action pick_store(Type t)
{
    if (t.bits >= 32)
        return t.bits == 64 ? store_lanes<u64> : store_lanes<u32>;
    return t.bits == 16 ? store_lanes<u16> : store_lanes<u8>;
}

static Action pick_atomic(Draft &d)
{
    static const char *const names[] = {"add", "min", "max", "exch", "cas",
                                        "and", "or",  "xor", "inc",  "dec"};
    bool real = d.in.type.kind == 'f', s = d.in.type.kind == 's';
    for (int i = 0; i < 10; i++)
        if (d.has(names[i]))
            d.in.mode = "aixec&|^pm"[i];
    if (!d.in.mode || d.in.type.bits < 32)
        return nullptr;
    if (d.name == "redux")
        return s ? reduce<s32> : reduce<u32>;
    if (d.in.type.bits == 64)
        return real ? atomic<double> : s ? atomic<s64> : atomic<u64>;
    return real ? atomic<float> : s ? atomic<s32> : atomic<u32>;
}

static Action pick_copy(Draft &d)
{
    d.in.mode = d.has("wait_all") ? 'a' : 'g';
    if (d.has("wait_all") || d.has("wait_group"))
        return copy_wait;
    return d.has("commit_group")                ? copy_commit
           : d.src.size() > 2 && !d.has("bulk") ? copy_async
                                                : nullptr;
}

bool pick_memory(Draft &d)
{
    const string &n = d.name;
    Action a = nullptr;
    d.in.flow = ACTION;
    if (n == "ld") {
        a = d.in.type.bits <= 64 ? pick_load(d.in.type) : nullptr;
    } else if (n == "st") {
        d.in.wide = d.src[1].kind == LONG || (d.src[1].kind == CONST && d.in.type.bits == 64);
        a = d.in.type.bits <= 64 ? pick_store(d.in.type) : nullptr;
    } else if (n == "atom" || n == "red" || n == "redux") {
        a = pick_atomic(d);
    } else if (n == "cp") {
        a = pick_copy(d);
    } else if (n == "membar" || n == "fence") {
        a = fence;
    } else if ((n == "ldmatrix" || n == "stmatrix") && d.has("m8n8")) {
        d.in.option = d.has("trans");
        a = n == "ldmatrix" ? matrix<READ> : matrix<WRITE>;
    }
    d.in.act = a;
    return a;
}
