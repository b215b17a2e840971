/* run.cpp - runs the blocks of a launch, one after another, warp by warp: where lanes go, what
 * touches memory, what lanes do together, and the checks of all that. Lanes that part are run
 * lowest address first, which brings them together again where their paths meet. A warp runs until
 * it waits at a barrier or ends; everything is deterministic. */
#include "sim.h"

#include <stdlib.h>
#include <time.h>

/* What last touched 2 bytes of shared memory, in 32 bits that grow with time:
 * barriers so far (12), flags (2), __syncwarps since (8), warp and lane (10). */
enum : u32 {
    LANE = 31,
    WARP = 31 << 5,
    WARP_EPOCH = 255 << 10,
    SEVERAL_LANES = 1 << 18, /* of readers; of writers: an atomic */
    SEVERAL_WARPS = 1 << 19, /* of readers; of writers: atomics of several threads */
    EPOCH = 1 << 20,
    EPOCHS = 0xffe,
    IN_FLIGHT = 0xfffu << 20, /* of writers: a cp.async of that thread */
};

struct Block {
    const Launch &launch;
    Kernel &k;
    Dim id;
    u32 number; /* as memory remembers it */
    vector<char> smem;
    vector<u32> writer, reader; /* per 2 bytes of shared memory */
    u32 epoch;
    vector<Warp> warps;
    bool fenced, acquired; /* a membar, then an atomic */
};

/* Blocks of this launch that published what they wrote: a fence, then an atomic. */
static vector<bool> released;

static u32 next_id = 1;

u32 run_next_id(void)
{
    return next_id;
}

[[noreturn]] static void fault(const Warp &w, const string &what, int lane = -1)
{
    const Block &b = *w.block;
    const Source &s = b.k.sources[w.pc];
    auto n = [](u32 v) { return std::to_string(v); };
    string t = what + " at " + b.k.module->files[s.file] + ":" + n(s.line) + " in " + b.k.name +
               ", block (" + n(b.id.x) + "," + n(b.id.y) + "," + n(b.id.z) + "), warp " +
               n(w.index);
    if (lane >= 0)
        t += ", thread " + n(w.first + lane);
    throw Fault{t + "\n  " + s.text};
}

void unknown_instruction(Warp &w, const Inst &, u32)
{
    fault(w, "this PTX instruction is not supported");
}

#define EACH(mask) for (u32 m_ = (mask), l; m_ && (l = __builtin_ctz(m_), true); m_ &= m_ - 1)

/* ---- shared memory ---- */

static string thread_of(u32 stamp)
{
    return "thread " + std::to_string(stamp & (WARP | LANE));
}

/* Whether what `stamp` did is not ordered before what `me` does. */
static bool unordered(u32 stamp, u32 me)
{
    if (stamp < (me & ~(EPOCH - 1)))
        return false;
    if ((stamp ^ me) & WARP || stamp & SEVERAL_WARPS)
        return true;
    return !((stamp ^ me) & WARP_EPOCH) && ((stamp ^ me) & LANE || stamp & SEVERAL_LANES);
}

static u32 stamp_of(const Warp &w, int lane)
{
    return w.block->epoch * EPOCH | (w.epoch << 10) | (w.first + lane);
}

enum Touch { READ, WRITE, ATOMIC };

/* Finds out whether a touch of shared memory is a race, and remembers it. */
static void shared_touch(Warp &w, int lane, u32 at, u32 bytes, Touch how)
{
    Block &b = *w.block;
    u32 me = stamp_of(w, lane), now = me & ~(EPOCH - 1), first = at / 2,
        last = (at + bytes - 1) / 2;
    u32 *writer = b.writer.data(), *reader = b.reader.data(), suspect = how != READ;
    if (how == READ)
        for (u32 i = first; i <= last; i++) {
            u32 r = reader[i], diff = r ^ me;
            suspect |= (writer[i] >= now) | (writer[i] == 0);
            u32 mine = me | (r & SEVERAL_WARPS);
            u32 both = r | (diff & LANE ? (u32)SEVERAL_LANES : 0);
            u32 later = diff & WARP ? r | SEVERAL_WARPS : diff & WARP_EPOCH ? mine : both;
            reader[i] = r < now ? me : later;
        }
    for (u32 i = first; suspect && i <= last; i++) {
        u32 by = writer[i];
        if (by >= IN_FLIGHT)
            fault(w,
                  "shared memory is touched while a cp.async of " + thread_of(by) +
                      " to it is in flight",
                  lane);
        if (by == 0 && how != WRITE)
            fault(w, "read of shared memory that was never written", lane);
        if (bytes == 1) { /* neighbours may belong to other threads: no races of bytes */
            writer[i] = how == READ ? by : std::max(by, (u32)EPOCH);
            continue;
        }
        bool atomics = how == ATOMIC && by & SEVERAL_LANES;
        u32 plain = by & ~SEVERAL_LANES; /* an atomic is a write to all but atomics */
        if (unordered(plain, me) && !atomics)
            fault(w,
                  string("race: ") + (how == READ ? "read" : "written") + " after " +
                      thread_of(by) + " wrote the same shared memory, with no barrier between",
                  lane);
        if (how != READ && unordered(reader[i], me))
            fault(w,
                  "race: written after " +
                      (reader[i] & SEVERAL_WARPS ? "several threads" : thread_of(reader[i])) +
                      " read the same shared memory, with no barrier between",
                  lane);
        if (how == WRITE)
            writer[i] = me;
        if (how == ATOMIC)
            writer[i] =
                me | SEVERAL_LANES |
                (atomics && by >= now && (by ^ me) & (WARP | LANE) ? (u32)SEVERAL_WARPS : 0);
    }
}

/* How often shared memory is read or written for one instruction: 32 banks of 4 bytes, 128 bytes
 * at a time. */
static void count_shared(Warp &w, const u64 *at, u32 mask, u32 bytes)
{
    Counters &c = w.block->k.counters;
    u32 lanes = bytes >= 16 ? 8 : bytes == 8 ? 16 : 32, unit = std::max(bytes, 4u);
    for (u32 first = 0; first < 32; first += lanes) {
        u32 part = mask >> first << first & (u32)((1ull << (first + lanes)) - 1), seen = 0;
        if (!part)
            continue;
        EACH(part) seen |= 1u << at[l] / unit % (128 / unit);
        u32 passes = 1;
        if (__builtin_popcount(seen) != __builtin_popcount(part)) { /* count words per bank */
            u64 words[32][32];
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
        c.passes += passes;
        c.passes_ideal++;
    }
}

/* ---- global memory ---- */

/* Whether another block touched what this one touches, or, before griddepcontrol.wait, an earlier
 * launch; and remembers the touch. A byte mask is in the low bits of the words. */
static const char *blocks_touch(const Warp &w, Allocation *a, size_t at, size_t bytes, Touch how,
                                bool early)
{
    const Block &b = *w.block;
    u32 me = b.number, base = b.launch.base, floor = early ? b.launch.floor : base;
    auto foreign = [&](u32 id) {
        return id >= floor && id != me && !(b.acquired && id > base && released[id - base]);
    };
    for (size_t i = at / 4; i <= (at + bytes - 1) / 4; i++) {
        u32 from = i * 4 < at ? at - i * 4 : 0, to = std::min<size_t>(4, at + bytes - i * 4);
        u32 mask = (1u << to) - (1u << from), wr = a->writer[i], rd = a->reader[i];
        if (wr & mask && foreign(wr >> 4))
            return wr >> 4 < base
                       ? "touched before griddepcontrol.wait, and the launch before writes it"
                       : "race: another block of this launch wrote the same memory";
        if (how == WRITE && rd & mask && foreign(rd >> 4))
            return rd >> 4 < base
                       ? "written before griddepcontrol.wait, and the launch before reads it"
                       : "race: written, and another block of this launch read the same memory";
        if (how == WRITE)
            a->writer[i] = me << 4 | mask | (wr >> 4 == me ? wr & 15 : 0);
        else if (rd >> 4 < base || !(rd & mask))
            a->reader[i] = me << 4 | mask | (rd >> 4 == me ? rd & 15 : 0);
        else if (rd >> 4 == me)
            a->reader[i] = rd | mask;
        else if (rd >> 4 != base) /* several blocks */
            a->reader[i] = base << 4 | (rd & mask);
    }
    return nullptr;
}

static void global_range(Warp &w, const Inst &in, u64 at, size_t bytes, Touch how, int lane)
{
    Allocation *a = in.hint;
    if (!a || at < a->base || at + bytes > a->base + a->size)
        a = in.hint = memory_find(at);
    if (!a || at + bytes > a->base + a->size || !a->size)
        fault(w, string(how == READ ? "read of " : "write to ") + memory_touch(at, bytes, false),
              lane);
    if (how != WRITE && !memory_is_written(a, at - a->base, bytes))
        fault(w, "read of device memory that was never written", lane);
    if (how != READ)
        memory_written(a, at - a->base, bytes);
    bool early = w.block->launch.overlaps && !(w.waited >> lane & 1);
    if (how != ATOMIC)
        if (const char *why = blocks_touch(w, a, at - a->base, bytes, how, early))
            fault(w, why, lane);
}

/* Lanes whose addresses follow one another are one range. */
static void global_touch(Warp &w, const Inst &in, const u64 *at, u32 mask, u32 bytes, Touch how)
{
    Counters &c = w.block->k.counters;
    u64 sectors[64];
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

/* ---- addresses ---- */

/* The host addresses of what the lanes touch, after all checks. */
static void locate(Warp &w, const Inst &in, u32 mask, Space space, u64 *at, u32 bytes, Touch how,
                   char **to)
{
    Block &b = *w.block;
    if (space == GENERIC) { /* by windows; see cvta */
        u32 left = mask;
        EACH(mask) if (at[l] >> 60)
        {
            Space s = at[l] >> 62 ? PARAM : at[l] >> 61 ? LOCAL : SHARED;
            at[l] &= (1ull << 60) - 1;
            locate(w, in, 1u << l, s, at, bytes, how, to);
            left &= ~(1u << l);
        }
        if (!left)
            return;
        mask = left;
        space = GLOBAL;
    }
    u32 align = bytes & -bytes, wrong = 0;
    size_t limit = space == SHARED ? b.smem.size() : space == LOCAL ? b.k.local : b.k.param_bytes;
    EACH(mask) wrong |= (u32)at[l] & (align - 1);
    if (wrong)
        EACH(mask)
    if (at[l] & (align - 1))
        fault(w, "misaligned address for " + std::to_string(bytes) + " bytes", l);
    if (space == GLOBAL) {
        EACH(mask) to[l] = (char *)at[l];
        global_touch(w, in, at, mask, bytes, how);
        return;
    }
    EACH(mask)
    {
        if (at[l] > limit || at[l] + bytes > limit)
            fault(w,
                  string(space == SHARED  ? "shared"
                         : space == LOCAL ? "local"
                                          : "parameter") +
                      " memory: " + std::to_string((s64)at[l]) + " is outside its " +
                      std::to_string(limit) + " bytes",
                  l);
        if (space == SHARED)
            shared_touch(w, l, at[l], bytes, how);
        to[l] = space == SHARED  ? &b.smem[at[l]]
                : space == LOCAL ? &w.local[l * b.k.local + at[l]]
                                 : const_cast<char *>(&b.launch.params[at[l]]);
    }
    if (space == SHARED)
        count_shared(w, at, mask, bytes);
}

static void addresses(const Warp &w, u32 op, bool wide, s64 offset, u64 *at)
{
    const void *row = w.row(op);
    if (wide)
        for (int l = 0; l < 32; l++)
            at[l] = load<u64>(row, l) + offset;
    else
        for (int l = 0; l < 32; l++)
            at[l] = load<u32>(row, l) + (u32)offset;
}

template <class T> static void load_lanes(Warp &w, const Inst &in, u32 mask)
{
    u64 at[32];
    char *from[32];
    addresses(w, in.op[in.dsts], in.wide_address, in.offset[0], at);
    for (int l = 0; l < 32; l++)
        at[l] = in.wide_address ? at[l] : (u32)at[l];
    locate(w, in, mask, in.space, at, sizeof(T) * in.dsts, READ, from);
    for (int i = 0; i < in.dsts; i++) {
        void *d = w.row(in.op[i]);
        if (in.wide_result) /* the register may be wider than what is loaded */
            EACH(mask) store<u64>(d, l, (u64)load<T>(from[l], i));
        else
            EACH(mask) store<u32>(d, l, (u32)load<T>(from[l], i));
    }
}

template <class T> static void store_lanes(Warp &w, const Inst &in, u32 mask)
{
    u64 at[32];
    char *to[32];
    addresses(w, in.op[0], in.wide_address, in.offset[0], at);
    locate(w, in, mask, in.space, at, sizeof(T) * (in.srcs - 1), WRITE, to);
    for (int i = 1; i < in.srcs; i++) {
        const char *s = (const char *)w.row(in.op[i]);
        EACH(mask) memcpy(to[l] + (i - 1) * sizeof(T), s + l * (in.wide_result ? 8 : 4), sizeof(T));
    }
}

/* ---- atomics ---- */

template <class T> static T atomic_result(char mode, T old, T v, T other)
{
    switch (mode) {
    case 'a':
        return old + v;
    case 'i':
        return std::min(old, v);
    case 'x':
        return std::max(old, v);
    case 'e':
        return v;
    case 'c':
        return old == v ? other : old;
    }
    u64 a = 0, b = 0, r;
    memcpy(&a, &old, sizeof(T));
    memcpy(&b, &v, sizeof(T));
    r = mode == '&' ? a & b : mode == '|' ? a | b : a ^ b;
    memcpy(&old, &r, sizeof(T));
    return old;
}

template <class T> static void atomic(Warp &w, const Inst &in, u32 mask)
{
    u64 at[32];
    char *to[32];
    Block &b = *w.block;
    addresses(w, in.op[in.dsts], in.wide_address, in.offset[0], at);
    locate(w, in, mask, in.space, at, sizeof(T), ATOMIC, to);
    b.acquired = true;
    if (b.fenced)
        released[b.number - b.launch.base] = true;
    EACH(mask)
    {
        T old = load<T>(to[l], 0), v = load<T>(w.row(in.op[in.dsts + 1]), l);
        T other = in.mode == 'c' ? load<T>(w.row(in.op[in.dsts + 2]), l) : v;
        store<T>(to[l], 0, atomic_result(in.mode, old, v, other));
        if (in.dsts)
            store<T>(w.row(in.op[0]), l, old);
    }
}

static void fence(Warp &w, const Inst &, u32)
{
    w.block->fenced = true;
}

/* ---- lanes together ---- */

static void need_all(const Warp &w, u32 mask)
{
    if (mask != ~0u)
        fault(w, "this needs all 32 lanes of the warp together");
}

static void need_members(const Warp &w, u32 op, u32 mask)
{
    EACH(mask)
    if (load<u32>(w.row(op), l) & w.alive & ~mask)
        fault(w, "lanes of its mask are elsewhere", l);
}

static void shuffle(Warp &w, const Inst &in, u32 mask)
{
    const u32 *op = in.op + in.dsts;
    u32 v[32], moved = 0;
    memcpy(v, w.row(op[0]), sizeof v);
    need_members(w, op[3], mask);
    EACH(mask)
    {
        int by = load<u32>(w.row(op[1]), l), clamp = load<u32>(w.row(op[2]), l), lane = l;
        int segment = clamp >> 8 & 31, low = l & segment, high = low | (clamp & 31 & ~segment), j;
        j = in.mode == 'b'   ? lane ^ by
            : in.mode == 'd' ? lane + by
            : in.mode == 'u' ? lane - by
                             : low | (by & ~segment & 31);
        bool in_range = in.mode == 'u' ? j >= high : j <= high;
        j = in_range ? j : lane;
        if (!(mask >> j & 1))
            fault(w, "shfl from lane " + std::to_string(j) + ", which does not take part", l);
        moved |= (u32)in_range << l;
        store<u32>(w.row(in.op[0]), l, v[j]);
    }
    if (in.dsts > 1)
        w.pred[in.op[1]] = (w.pred[in.op[1]] & ~mask) | moved;
}

static void vote(Warp &w, const Inst &in, u32 mask)
{
    need_members(w, in.op[2], mask);
    u32 yes = (w.pred[in.op[1]] ^ (in.trans ? ~0u : 0)) & mask;
    if (in.mode == 'b') {
        EACH(mask) store<u32>(w.row(in.op[0]), l, yes);
        return;
    }
    bool r = in.mode == 'n' ? yes != 0 : in.mode == 'l' ? yes == mask : yes == 0 || yes == mask;
    w.pred[in.op[0]] = (w.pred[in.op[0]] & ~mask) | (r ? mask : 0);
}

static void active_mask(Warp &w, const Inst &in, u32 mask)
{
    EACH(mask) store<u32>(w.row(in.op[0]), l, mask);
}

static void match_any(Warp &w, const Inst &in, u32 mask)
{
    u32 v[32], r[32] = {0};
    memcpy(v, w.row(in.op[1]), sizeof v);
    need_members(w, in.op[2], mask);
    EACH(mask) for (int j = 0; j < 32; j++) r[l] |= (u32)(mask >> j & 1 && v[j] == v[l]) << j;
    EACH(mask) store<u32>(w.row(in.op[0]), l, r[l]);
}

template <class T> static void reduce(Warp &w, const Inst &in, u32 mask) /* redux */
{
    const void *a = w.row(in.op[1]);
    need_members(w, in.op[2], mask);
    T r = load<T>(a, __builtin_ctz(mask));
    EACH(mask & (mask - 1)) r = atomic_result<T>(in.mode, r, load<T>(a, l), 0);
    EACH(mask) store<T>(w.row(in.op[0]), l, r);
}

static void sync_warp(Warp &w, const Inst &in, u32 mask)
{
    need_members(w, in.op[0], mask);
    if (++w.epoch == 256) {
        w.epoch = 0;
        w.block->epoch++;
    }
}

/* A register of 16-bit pairs is an 8x8 matrix, row by row. */
static void load_matrix(Warp &w, const Inst &in, u32 mask)
{
    u64 at[32];
    char *from[32];
    need_all(w, mask);
    addresses(w, in.op[in.dsts], in.wide_address, in.offset[0], at);
    u32 rows = in.dsts == 4 ? ~0u : (1u << 8 * in.dsts) - 1;
    locate(w, in, rows, in.space, at, 16, READ, from);
    for (int i = 0; i < in.dsts; i++) {
        u16 *d = (u16 *)w.row(in.op[i]);
        for (int r = 0; r < 8; r++)
            if (in.trans)
                for (int c = 0; c < 8; c++)
                    store<u16>(d, c * 8 + r, load<u16>(from[8 * i + r], c));
            else
                memcpy(d + 8 * r, from[8 * i + r], 16);
    }
}

static void store_matrix(Warp &w, const Inst &in, u32 mask)
{
    u64 at[32];
    char *to[32];
    int n = in.srcs - 1;
    need_all(w, mask);
    addresses(w, in.op[0], in.wide_address, in.offset[0], at);
    locate(w, in, n == 4 ? ~0u : (1u << 8 * n) - 1, in.space, at, 16, WRITE, to);
    for (int i = 0; i < n; i++)
        for (int r = 0; r < 8; r++)
            for (int c = 0; c < 8; c++)
                store<u16>(to[8 * i + r], c,
                           load<u16>(w.row(in.op[1 + i]), in.trans ? c * 8 + r : r * 8 + c));
}

typedef float Row8 __attribute__((vector_size(32), aligned(4)));

/* d = a b + c for a 16 x K, b K x 8: rows of eight floats. K is 8 or 16; sums are in the order of
 * k, in float. mode: 'q' for bfloat16. trans: c and d are halves. */
template <int K> static void multiply(Warp &w, const Inst &in, u32 mask)
{
    float a[K / 4][64], b[K][8], t[64];
    Row8 c[16];
    const u32 *A = in.op + in.dsts, *B = A + K / 4, *C = B + K / 8;
    need_all(w, mask);
    w.block->k.counters.mma++;
    auto widen = [&](const void *row, float *to) {
        if (in.mode == 'q')
            for (int i = 0; i < 64; i++) {
                u32 u = (u32)load<u16>(row, i) << 16;
                memcpy(to + i, &u, 4);
            }
        else
            for (int i = 0; i < 64; i++)
                to[i] = half_to_float(load<u16>(row, i));
    };
    for (int i = 0; i < K / 4; i++)
        widen(w.row(A[i]), a[i]);
    for (int i = 0; i < K / 8; i++) {
        widen(w.row(B[i]), t);
        for (int k = 0; k < 8; k++)
            for (int n = 0; n < 8; n++)
                b[8 * i + k][n] = t[n * 8 + k];
    }
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 8; n++)
            c[m][n] = in.trans ? half_to_float(load<u16>(w.row(C[m / 8]), m % 8 * 8 + n))
                               : load<float>(w.row(C[m / 8 * 2 + n % 2]), m % 8 * 4 + n / 2);
    for (int half = 0; half < 2; half++)
        for (int k = 0; k < K; k++) {
            Row8 row;
            memcpy(&row, b[k], sizeof row);
            for (int m = 0; m < 8; m++)
                c[half * 8 + m] += row * a[k / 8 * 2 + half][m * 8 + k % 8];
        }
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 8; n++)
            if (in.trans)
                store<u16>(w.row(in.op[m / 8]), m % 8 * 8 + n, float_to_half(c[m][n]));
            else
                store<float>(w.row(in.op[m / 8 * 2 + n % 2]), m % 8 * 4 + n / 2, c[m][n]);
}

/* ---- asynchronous copies: they land when they are waited for ---- */

static void copy_async(Warp &w, const Inst &in, u32 mask)
{
    u64 at[32], source[32];
    char *to[32], *from[32];
    u32 bytes = load<u32>(w.row(in.op[2]), 0), copied = 0;
    addresses(w, in.op[0], in.wide_address, in.offset[0], at);
    addresses(w, in.op[1], true, in.offset[1], source);
    locate(w, in, mask, SHARED, at, bytes, WRITE, to);
    u32 valid[32];
    EACH(mask)
    {
        valid[l] = in.srcs > 3 ? load<u32>(w.row(in.op[3]), l) : bytes;
        if (valid[l] > bytes)
            fault(w, "cp.async of more bytes than its size", l);
        copied |= (u32)(valid[l] == bytes) << l;
    }
    if (copied)
        locate(w, in, copied, GLOBAL, source, bytes, READ, from);
    EACH(mask)
    {
        if (valid[l] && valid[l] < bytes)
            global_range(w, in, source[l], valid[l], READ, l);
        w.copies.push_back(
            {(int)l, w.committed[l], (u32)at[l], bytes, valid[l], (const char *)source[l]});
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
    u32 keep = in.mode == 'a' ? 0 : load<u32>(w.row(in.op[0]), 0), left = 0;
    for (const Copy &c : w.copies) {
        bool done = in.mode == 'a' || c.group + keep < w.committed[c.lane];
        if (!(mask >> c.lane & 1) || !done) {
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

/* ---- the rest ---- */

static void special(Warp &w, const Inst &in, u32 mask) /* in the order of parse.cpp's list */
{
    const Block &b = *w.block;
    const Dim &n = b.launch.block, &g = b.launch.grid;
    timespec now = {0, 0};
    if (in.mode >= 16 && in.mode <= 18)
        clock_gettime(CLOCK_MONOTONIC, &now);
    EACH(mask)
    {
        u32 t = w.first + l, low = (1u << l) - 1;
        u64 time = (u64)now.tv_sec * 1000000000 + now.tv_nsec;
        u64 v[] = {t % n.x,
                   t / n.x % n.y,
                   t / (n.x * n.y),
                   n.x,
                   n.y,
                   n.z,
                   b.id.x,
                   b.id.y,
                   b.id.z,
                   g.x,
                   g.y,
                   g.z,
                   l,
                   (u64)w.index,
                   32,
                   b.launch.dynamic_shared,
                   time,
                   time,
                   time,
                   low,
                   low * 2 + 1,
                   ~(low * 2 + 1),
                   ~low,
                   1u << l};
        if (in.wide_result)
            store<u64>(w.row(in.op[0]), l, v[(int)in.mode]);
        else
            store<u32>(w.row(in.op[0]), l, (u32)v[(int)in.mode]);
    }
}

static void unpack(Warp &w, const Inst &in, u32 mask) /* mov.b32 {a, b}, s */
{
    int part = in.type.bits / in.dsts;
    EACH(mask)
    {
        const void *s = w.row(in.op[in.dsts]);
        u64 v = in.type.bits == 64 ? load<u64>(s, l) : load<u32>(s, l);
        for (int i = 0; i < in.dsts; i++)
            store<u32>(w.row(in.op[i]), l, (u32)(v >> i * part & ((1ull << part) - 1)));
    }
}

static void grid_wait(Warp &w, const Inst &, u32 mask)
{
    w.waited |= mask;
}

static void trap(Warp &w, const Inst &, u32)
{
    fault(w, "trap");
}

static void nothing(Warp &, const Inst &, u32)
{
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
    return t.bits == 64   ? store_lanes<u64>
           : t.bits == 32 ? store_lanes<u32>
           : t.bits == 16 ? store_lanes<u16>
                          : store_lanes<u8>;
}

static char atomic_mode(const Draft &d)
{
    static const char *const names[] = {"add", "min", "max", "exch", "cas", "and", "or", "xor"};
    for (int i = 0; i < 8; i++)
        if (d.has(names[i]))
            return "aixec&|^"[i];
    return 0;
}

static Action pick_atomic(Draft &d)
{
    Type t = d.in.type;
    bool real = t.kind == 'f', s = t.kind == 's';
    d.in.mode = atomic_mode(d);
    if (!d.in.mode || t.lanes == 2 || t.kind == 'q' || t.bits < 32)
        return nullptr;
    if (d.name == "redux")
        return s ? reduce<s32> : reduce<u32>;
    if (t.bits == 64)
        return real ? atomic<double> : s ? atomic<s64> : atomic<u64>;
    return real ? atomic<float> : s ? atomic<s32> : atomic<u32>;
}

static Action pick_copy(Draft &d)
{
    if (d.has("commit_group"))
        return copy_commit;
    if (d.has("wait_group") || d.has("wait_all")) {
        d.in.mode = d.has("wait_all") ? 'a' : 'g';
        return copy_wait;
    }
    return d.has("async") && !d.has("bulk") && !d.has("mbarrier") ? copy_async : nullptr;
}

static Action pick_multiply(Draft &d)
{
    bool known = d.types.size() == 4 && d.types[1].bits == 16 && d.types[2].bits == 16;
    if (!known || d.in.type.kind != 'f' || d.has("sp"))
        return nullptr;
    d.in.mode = d.types[1].kind;
    d.in.trans = d.in.type.bits == 16;
    return d.has("m16n8k16") ? multiply<16> : d.has("m16n8k8") ? multiply<8> : nullptr;
}

static Action pick_lanes(Draft &d)
{
    const string &n = d.name;
    if (n == "shfl") {
        for (const char *m : {"bfly", "down", "up", "idx"})
            if (d.has(m))
                d.in.mode = m[0];
        return d.src.size() == 4 ? shuffle : nullptr;
    }
    if (n == "vote") {
        d.in.mode = d.has("ballot") ? 'b' : d.has("any") ? 'n' : d.has("all") ? 'l' : 'u';
        return vote;
    }
    if (n == "ldmatrix" || n == "stmatrix") {
        d.in.trans = d.has("trans");
        bool load = n == "ldmatrix";
        return !d.has("m8n8") || !d.has("b16") ? nullptr : load ? load_matrix : store_matrix;
    }
    return n == "match" && d.has("any") && d.in.type.bits == 32 ? match_any
           : n == "activemask"                                  ? active_mask
           : n == "redux"                                       ? pick_atomic(d)
           : n == "mma"                                         ? pick_multiply(d)
                                                                : nullptr;
}

bool pick_action(Draft &d)
{
    const string &n = d.name;
    Action a = nullptr;
    d.in.flow = ACTION;
    if (pick_compare(d))
        return true;
    if (n == "bar" || n == "barrier") {
        bool plain = !d.has("red") && !d.has("arrive") && !d.has("cluster") && d.src.size() == 1;
        if (d.has("warp"))
            a = sync_warp;
        else if (plain && d.src[0].kind == CONST) {
            d.in.flow = BARRIER;
            d.src.clear();
            return true;
        }
    } else if (n == "ld" || n == "ldu") {
        d.in.wide_result = d.dst[0].kind == LONG;
        d.in.nc = d.has("nc");
        a = d.in.type.bits > 64 || d.in.type.lanes == 2 ? nullptr : pick_load(d.in.type);
    } else if (n == "st") {
        bool wide = d.src[1].kind == CONST ? d.in.type.bits == 64 : d.src[1].kind == LONG;
        d.in.wide_result = wide;
        a = d.in.type.bits > 64 ? nullptr : pick_store(d.in.type);
    } else if (n == "atom" || n == "red")
        a = pick_atomic(d);
    else if (n == "cp")
        a = pick_copy(d);
    else if (n == "mov")
        a = d.dst.size() > 1 ? unpack : nullptr;
    else if (n == "special") {
        d.in.wide_result = d.dst[0].kind == LONG;
        a = special;
    } else if (n == "membar" || n == "fence")
        a = fence;
    else if (n == "griddepcontrol")
        a = d.has("wait") ? grid_wait : nothing;
    else if (n == "prefetch" || n == "prefetchu" || n == "nanosleep" || n == "discard")
        a = nothing;
    else if (n == "trap")
        a = trap;
    else
        a = pick_lanes(d);
    d.in.act = a;
    return a != nullptr;
}

/* ---- warps and blocks ---- */

/* Puts lanes of the same address together, the lowest last, and says where the next ones are. */
static s32 order_groups(Warp &w)
{
    std::sort(w.groups, w.groups + w.count,
              [](const Group &a, const Group &b) { return a.pc > b.pc; });
    while (w.count > 1 && w.groups[w.count - 2].pc == w.groups[w.count - 1].pc) {
        w.groups[w.count - 2].mask |= w.groups[w.count - 1].mask;
        w.count--;
    }
    return w.count > 1 ? w.groups[w.count - 2].pc : INT32_MAX;
}

static void run_pure(Warp &w, const Inst &in, u32 on) /* when some lanes must keep their value */
{
    u64 result[32];
    in.pure(w, in, result);
    void *d = w.row(in.op[0]);
    if (in.wide_result)
        EACH(on) store<u64>(d, l, result[l]);
    else
        EACH(on) store<u32>(d, l, load<u32>(result, l));
}

static void branch_table(Warp &w, const Inst &in, u32 on)
{
    const vector<s32> &table = w.block->k.tables[in.target];
    EACH(on)
    {
        u32 i = load<u32>(w.row(in.op[0]), l);
        if (i >= table.size())
            fault(w, "brx.idx past its table", l);
        w.groups[w.count++] = {table[i], 1u << l};
    }
}

/* Runs a warp to its next barrier (true) or its end. */
static bool advance(Warp &w)
{
    const Inst *code = w.block->k.code.data();
    u64 instructions = 0;
    bool waits = false;
    while (w.alive && !waits) {
        s32 limit = order_groups(w);
        Group now = w.groups[--w.count];
        s32 pc = now.pc;
        bool together = true; /* until lanes part or meet others */
        while (together && pc < limit) {
            const Inst &in = code[pc];
            u32 on = now.mask;
            if (in.pred >= 0)
                on &= w.pred[in.pred] ^ in.negate;
            w.pc = pc++;
            if (!on)
                continue;
            instructions++;
            switch (in.flow) {
            case PURE:
                if (on == w.alive)
                    in.pure(w, in, w.row(in.op[0]));
                else
                    run_pure(w, in, on);
                continue;
            case ACTION:
                in.act(w, in, on);
                continue;
            case BRANCH:
                if (on == now.mask) {
                    pc = in.target;
                    together = pc > w.pc || w.count == 0;
                    continue;
                }
                w.groups[w.count++] = {in.target, on};
                break;
            case TABLE:
                branch_table(w, in, on);
                break;
            case EXIT:
                w.alive &= ~on;
                break;
            case BARRIER:
                if (on != w.alive)
                    fault(w, "the lanes of a warp are apart at a block barrier");
                w.barrier = w.pc;
                waits = true;
                on = 0;
                break;
            }
            now.mask &= ~on;
            together = false;
        }
        if (now.mask)
            w.groups[w.count++] = {pc, now.mask};
    }
    w.block->k.counters.instructions += instructions;
    return waits;
}

static void start_warp(Block &b, Warp &w, int index)
{
    int threads = b.launch.block.x * b.launch.block.y * b.launch.block.z, first = index * 32;
    int n = std::min(32, threads - first);
    w.block = &b;
    w.regs.assign(b.k.reg_bytes / 8, 0xcdcdcdcdcdcdcdcdull);
    w.bank[0] = (char *)w.regs.data();
    w.bank[1] = (char *)b.k.consts.data() - 0;
    w.pred.assign(b.k.preds, 0);
    w.pred[1] = ~0u;
    w.local.assign(b.k.local * 32, (char)0xff);
    w.alive = n == 32 ? ~0u : (1u << n) - 1;
    w.groups[0] = {0, w.alive};
    w.count = 1;
    w.waited = w.epoch = 0;
    w.first = first;
    w.index = index;
    w.copies.clear();
    memset(w.committed, 0, sizeof w.committed);
}

static void next_epoch(Block &b)
{
    if (++b.epoch >= EPOCHS) { /* 12 bits: everything until now becomes old */
        for (u32 &x : b.writer)
            x = x == 0 || x >= IN_FLIGHT ? x : (u32)EPOCH;
        std::fill(b.reader.begin(), b.reader.end(), 0);
        b.epoch = 2;
    }
    for (Warp &w : b.warps)
        w.epoch = 0;
}

static void run_block(Block &b)
{
    std::fill(b.smem.begin(), b.smem.end(), (char)0xff);
    std::fill(b.writer.begin(), b.writer.end(), 0);
    std::fill(b.reader.begin(), b.reader.end(), 0);
    b.epoch = 2;
    b.fenced = b.acquired = false;
    for (size_t i = 0; i < b.warps.size(); i++)
        start_warp(b, b.warps[i], i);
    for (bool more = true; more;) {
        Warp *waiting = nullptr, *ended = nullptr;
        for (Warp &w : b.warps) {
            if (!advance(w)) {
                ended = &w;
                continue;
            }
            if (waiting && waiting->barrier != w.barrier)
                fault(w, "warps wait at different barriers");
            waiting = &w;
        }
        if (waiting && ended)
            fault(*waiting, "some warps have ended while others wait at a barrier");
        more = waiting != nullptr;
        next_epoch(b);
    }
}

void run_launch(Launch &l)
{
    Kernel &k = *l.kernel;
    u64 blocks = (u64)l.grid.x * l.grid.y * l.grid.z;
    size_t threads = l.block.x * l.block.y * l.block.z, smem = k.shared + l.dynamic_shared;
    if (next_id + blocks + 1 >= 1u << 28) {
        memory_forget_blocks();
        next_id = 1;
        l.floor = 0;
    }
    l.base = next_id;
    if (!l.overlaps)
        l.floor = l.base;
    next_id += blocks + 1;
    released.assign(blocks + 1, false);
    k.counters.launches++;
    Block b = {l,
               k,
               {0, 0, 0},
               l.base,
               vector<char>(smem),
               vector<u32>(smem / 2 + 1),
               vector<u32>(smem / 2 + 1),
               2,
               vector<Warp>((threads + 31) / 32),
               false,
               false};
    for (b.id.z = 0; b.id.z < l.grid.z; b.id.z++)
        for (b.id.y = 0; b.id.y < l.grid.y; b.id.y++)
            for (b.id.x = 0; b.id.x < l.grid.x; b.id.x++) {
                b.number++;
                run_block(b);
            }
}
