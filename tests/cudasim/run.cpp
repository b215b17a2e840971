/* run.cpp - runs the blocks of a launch, one after another, warp by warp: where lanes go, and what
 * they do together. Lanes that part are run lowest address first, which brings them together again
 * where their paths meet. A warp runs until a barrier or its end. Everything is deterministic. */
#include "sim.h"

#include <time.h>

static u32 next_id = 1; /* of blocks, over all launches */

u32 run_next_id(void)
{
    return next_id;
}

void fault(const Warp &w, const string &what, int lane)
{
    const Block &b = *w.block;
    const Source &s = b.k.sources[w.pc];
    auto n = [](u32 v) { return std::to_string(v); };
    auto place = [&](int file, int line) { return b.k.module->files[file] + ":" + n(line); };
    string by = s.by_file ? ", inlined at " + place(s.by_file, s.by_line) : "";
    string t = what + " at " + place(s.file, s.line) + by + " in " + b.k.name + ", block (" +
               n(b.id.x) + "," + n(b.id.y) + "," + n(b.id.z) + ")" +
               (lane >= 0 ? ", thread " + n(w.first + lane) : ", warp " + n(w.index));
    throw Fault{t + "\n  " + s.text};
}

void unknown_instruction(Warp &w, const Inst &, u32)
{
    fault(w, "this PTX instruction is not supported");
}

/* ---- lanes together ---- */

void need_members(const Warp &w, u32 op, u32 mask)
{
    EACH(mask)
    if (load<u32>(w.row(op), l) & w.alive & ~mask)
        fault(w, "lanes of the mask of this instruction are elsewhere", l);
}

static void put_predicate(Warp &w, u32 to, u32 value, u32 mask)
{
    w.pred[to] = (w.pred[to] & ~mask) | (value & mask);
}

static void shuffle(Warp &w, const Inst &in, u32 mask)
{
    const u32 *s = in.op + in.dsts;
    u32 v[32], moved = 0;
    memcpy(v, w.row(s[0]), sizeof v);
    need_members(w, s[3], mask);
    EACH(mask)
    {
        int by = load<u32>(w.row(s[1]), l), clamp = load<u32>(w.row(s[2]), l), me = l;
        int segment = clamp >> 8 & 31, low = me & segment, last = low | (clamp & 31 & ~segment);
        int j = in.mode == 'b'   ? me ^ by
                : in.mode == 'd' ? me + by
                : in.mode == 'u' ? me - by
                                 : low | (by & ~segment & 31);
        bool moves = in.mode == 'u' ? j >= last : j <= last;
        j = moves ? j : me;
        if (!(mask >> j & 1))
            fault(w, "shfl from lane " + std::to_string(j) + ", which does not take part", l);
        moved |= (u32)moves << l;
        store<u32>(w.row(in.op[0]), l, v[j]);
    }
    if (in.dsts > 1)
        put_predicate(w, in.op[1], moved, mask);
}

static void vote(Warp &w, const Inst &in, u32 mask)
{
    need_members(w, in.op[2], mask);
    u32 yes = (w.pred[in.op[1]] ^ (in.option ? ~0u : 0)) & mask;
    bool any = yes != 0, every = yes == mask;
    if (in.mode == 'b')
        EACH(mask) store<u32>(w.row(in.op[0]), l, yes);
    else
        put_predicate(w, in.op[0],
                      (in.mode == 'y'   ? any
                       : in.mode == 'l' ? every
                                        : !any || every)
                          ? ~0u
                          : 0,
                      mask);
}

static void match(Warp &w, const Inst &in, u32 mask) /* match.any; and activemask */
{
    u32 v[32] = {0}, same[32] = {0};
    if (in.srcs) {
        memcpy(v, w.row(in.op[1]), sizeof v);
        need_members(w, in.op[2], mask);
    }
    EACH(mask) for (int j = 0; j < 32; j++) same[l] |= (mask >> j & 1 && v[j] == v[l]) << j;
    EACH(mask) store<u32>(w.row(in.op[0]), l, same[l]);
}

static void sync_warp(Warp &w, const Inst &in, u32 mask)
{
    need_members(w, in.op[0], mask);
    if (++w.epoch == 256)
        memory_next_epoch(*w.block);
}

typedef float Row8 __attribute__((vector_size(32), aligned(4)));

/* d = a b + c for a 16 x K, b K x 8: rows of eight floats. Sums are in the order of k, in float.
 * mode: q for bfloat16. option: c and d are halves. */
template <int K> static void multiply(Warp &w, const Inst &in, u32 mask)
{
    float a[K / 4][64], b[K][8], t[64], c[2][64];
    const u32 *A = in.op + in.dsts, *B = A + K / 4, *C = B + K / 8;
    if (mask != ~0u)
        fault(w, "mma needs all 32 lanes of the warp together");
    w.block->k.counters.mma++;
    auto widen = [&](u32 op, float *to) {
        u16 v[64];
        memcpy(v, w.row(op), sizeof v);
        if (in.mode == 'q')
            for (int i = 0; i < 64; i++)
                to[i] = bf16_to_float(v[i]);
        else
            for (int i = 0; i < 64; i++)
                to[i] = half_to_float(v[i]);
    };
    for (int i = 0; i < K / 4; i++)
        widen(A[i], a[i]);
    for (int i = 0; i < K / 8; i++) {
        widen(B[i], t);
        for (int e = 0; e < 64; e++)
            b[8 * i + e % 8][e / 8] = t[e];
    }
    /* Of c and d: rows 0 to 7, then 8 to 15; a register has even columns and one the odd ones. */
    for (int half = 0; half < 2; half++) {
        for (int l = 0; l < 64 && in.option; l++)
            c[half][l] = half_to_float(load<u16>(w.row(C[half]), l));
        for (int l = 0; l < 64 && !in.option; l++)
            c[half][l] = load<float>(w.row(C[half * 2 + l % 2]), l / 2);
        Row8 sum[8];
        memcpy(sum, c[half], sizeof sum);
        for (int k = 0; k < K; k++) {
            Row8 row;
            memcpy(&row, b[k], sizeof row);
            for (int m = 0; m < 8; m++)
                sum[m] += row * a[k / 8 * 2 + half][m * 8 + k % 8];
        }
        memcpy(c[half], sum, sizeof sum);
    }
    for (int half = 0; half < 2; half++) {
        for (int l = 0; l < 64 && in.option; l++)
            store<u16>(w.row(in.op[half]), l, float_to_half(c[half][l]));
        for (int l = 0; l < 64 && !in.option; l++)
            store<float>(w.row(in.op[half * 2 + l % 2]), l / 2, c[half][l]);
    }
}

/* ---- the rest ---- */

static void special(Warp &w, const Inst &in, u32 mask) /* in the order of parse.cpp's list */
{
    const Block &b = *w.block;
    const Dim &n = b.launch.block, &g = b.launch.grid, &id = b.id;
    timespec now = {0, 0};
    if (in.mode > 20)
        clock_gettime(CLOCK_MONOTONIC, &now);
    u64 time = (u64)now.tv_sec * 1000000000 + now.tv_nsec;
    EACH(mask)
    {
        u32 t = w.first + l, x = t % n.x, y = t / n.x % n.y, z = t / (n.x * n.y),
            lt = (1u << l) - 1;
        u64 v[] = {x,
                   y,
                   z,
                   n.x,
                   n.y,
                   n.z,
                   id.x,
                   id.y,
                   id.z,
                   g.x,
                   g.y,
                   g.z,
                   l,
                   (u64)w.index,
                   32,
                   b.launch.dynamic_shared,
                   lt,
                   lt * 2 + 1,
                   ~(lt * 2 + 1),
                   ~lt,
                   1u << l,
                   time,
                   time,
                   time};
        if (in.wide)
            store<u64>(w.row(in.op[0]), l, v[(int)in.mode]);
        else
            store<u32>(w.row(in.op[0]), l, (u32)v[(int)in.mode]);
    }
}

static void part(Warp &w, const Inst &in, u32 mask) /* mov.b32 {a, b}, s */
{
    int bits = in.type.bits / in.dsts;
    u64 s[32];
    EACH(mask)
    s[l] = in.type.bits == 64 ? load<u64>(w.row(in.op[in.dsts]), l)
                              : load<u32>(w.row(in.op[in.dsts]), l);
    for (int i = 0; i < in.dsts; i++)
        EACH(mask) store<u32>(w.row(in.op[i]), l, s[l] >> i * bits & ((1ull << bits) - 1));
}

/* add.cc, subc, madc.hi and so on. mode: a, s, l or h; option: takes a carry; target: leaves one.
 */
static void carry(Warp &w, const Inst &in, u32 mask)
{
    u32 left = 0;
    EACH(mask)
    {
        bool product = in.mode == 'l' || in.mode == 'h';
        u64 a = load<u32>(w.row(in.op[1]), l), b = load<u32>(w.row(in.op[2]), l);
        u64 ab = in.type.kind == 's' ? (u64)((s64)(s32)a * (s32)b) : a * b;
        u64 c = in.option ? w.carry >> l & 1 : 0;
        u64 r = in.mode == 's'   ? a - b - c
                : in.mode == 'a' ? a + b + c
                                 : (u32)(in.mode == 'h' ? ab >> 32 : ab) + c;
        r += product ? load<u32>(w.row(in.op[3]), l) : 0;
        left |= (u32)(r >> 32 & 1) << l;
        store<u32>(w.row(in.op[0]), l, (u32)r);
    }
    if (in.target)
        w.carry = (w.carry & ~mask) | left;
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

static Action pick_multiply(Draft &d)
{
    bool known = d.types.size() == 4 && d.types[1].bits == 16 && d.in.type.kind == 'f';
    if (!known || d.has("sp"))
        return nullptr;
    d.in.mode = d.types[1].kind;
    d.in.option = d.in.type.bits == 16;
    return d.has("m16n8k16") ? multiply<16> : d.has("m16n8k8") ? multiply<8> : nullptr;
}

bool pick_action(Draft &d)
{
    const string &n = d.name;
    static const std::map<string, Action> simple = {
        {"special", special}, {"shfl", shuffle},      {"vote", vote},        {"activemask", match},
        {"trap", trap},       {"mov", part},          {"prefetch", nothing}, {"prefetchu", nothing},
        {"match", match},     {"nanosleep", nothing}, {"discard", nothing}};
    auto a = simple.find(n);
    d.in.act = a == simple.end() ? nullptr : a->second;
    if (n == "shfl" || n == "vote")
        for (const char *m : {"bfly", "down", "up", "idx", "ballot", "any", "all", "uni"})
            if (d.has(m))
                d.in.mode = n == "shfl" || *m != 'a' ? m[0] : m[2]; /* any: y, all: l */
    if ((d.has("cc") || n == "addc" || n == "subc" || n == "madc") && d.in.type.bits == 32) {
        d.in.mode = n[0] == 'm' ? d.has("hi") ? 'h' : 'l' : n[0];
        d.in.option = n.back() == 'c';
        d.in.target = d.has("cc");
        d.in.act = carry;
    }
    if (n == "mma")
        d.in.act = pick_multiply(d);
    if (n == "wgmma")
        d.in.act = pick_wgmma(d);
    if (n == "mbarrier")
        d.in.act = pick_mbarrier(d);
    if (n == "griddepcontrol")
        d.in.act = d.has("wait") ? grid_wait : nothing;
    if (n == "bar" || n == "barrier") {
        bool plain = d.src.size() == 1 && d.src[0].kind == CONST && d.mods[1] != "arrive";
        d.in.act = d.has("warp") ? sync_warp : nullptr;
        if (!d.in.act && plain && !d.has("cluster"))
            d.in.flow = BARRIER;
    }
    return d.in.act || d.in.flow == BARRIER;
}

/* ---- warps and blocks ---- */

/* Puts lanes of the same address together, the lowest last, and says where the next ones are. */
static s32 order_groups(Warp &w)
{
    Group *g = w.groups;
    std::sort(g, g + w.count, [](const Group &a, const Group &b) { return a.pc > b.pc; });
    for (; w.count > 1 && g[w.count - 2].pc == g[w.count - 1].pc; w.count--)
        g[w.count - 2].mask |= g[w.count - 1].mask;
    return w.count > 1 ? g[w.count - 2].pc : INT32_MAX;
}

static void run_pure(Warp &w, const Inst &in, u32 on) /* when some lanes must keep their value */
{
    u64 result[32];
    in.pure(w, in, result);
    if (in.wide)
        EACH(on) store<u64>(w.row(in.op[0]), l, result[l]);
    else
        EACH(on) store<u32>(w.row(in.op[0]), l, load<u32>(result, l));
}

/* An instruction that decides where lanes go next. Those that stay together are left in `now`. */
static bool run_flow(Warp &w, const Inst &in, u32 on, Group &now)
{
    const vector<vector<s32>> &tables = w.block->k.tables;
    if (in.flow == BARRIER) {
        if (on != w.alive)
            fault(w, "the lanes of a warp are apart at a block barrier");
        w.barrier = w.pc;
        return true;
    }
    now.mask &= ~on;
    if (in.flow == EXIT)
        w.alive &= ~on;
    if (in.flow == BRANCH)
        w.groups[w.count++] = {in.target, on};
    EACH(in.flow == TABLE ? on : 0)
    {
        u32 i = load<u32>(w.row(in.op[0]), l);
        if (i >= tables[in.target].size())
            fault(w, "brx.idx past its table", l);
        w.groups[w.count++] = {tables[in.target][i], 1u << l};
    }
    return false;
}

/* Runs a warp to its next barrier (true) or its end; or until it waits for an mbarrier. */
static bool advance(Warp &w)
{
    const Inst *code = w.block->k.code.data();
    u64 &instructions = w.block->k.counters.instructions;
    bool waits = false;
    while (w.alive && !waits) {
        s32 limit = order_groups(w);
        Group now = w.groups[--w.count];
        for (bool together = true; together && now.pc < limit;) {
            const Inst &in = code[w.pc = now.pc++];
            u32 on = in.pred < 0 ? now.mask : now.mask & (w.pred[in.pred] ^ in.negate);
            instructions += on != 0;
            if (!on)
                continue;
            if (in.flow == PURE && on == w.alive)
                in.pure(w, in, w.row(in.op[0]));
            else if (in.flow == PURE)
                run_pure(w, in, on);
            else if (in.flow == ACTION) {
                in.act(w, in, on);
                together = !w.spins;
                waits = w.spins;
            } else if (in.flow == BRANCH && on == now.mask && (w.count == 0 || in.target > w.pc))
                now.pc = in.target;
            else {
                waits = run_flow(w, in, on, now);
                together = false;
            }
        }
        if (now.mask)
            w.groups[w.count++] = now;
    }
    return waits;
}

static void start_warp(Block &b, Warp &w, int index)
{
    u32 threads = b.launch.block.x * b.launch.block.y * b.launch.block.z, n = threads - index * 32;
    w.block = &b;
    w.regs.resize(b.k.reg_bytes / 8);
    w.bank[0] = (char *)w.regs.data();
    w.bank[1] = (char *)b.k.consts.data();
    w.pred.assign(b.k.preds, 0);
    w.pred[1] = ~0u;
    w.local.assign(b.k.local * 32, (char)0xff);
    w.alive = n >= 32 ? ~0u : (1u << n) - 1;
    w.groups[0] = {0, w.alive};
    w.count = 1;
    w.waited = w.epoch = 0;
    w.first = index * 32;
    w.index = index;
    w.copies.clear();
    w.products.clear();
    w.product_groups = 0;
    memset(w.committed, 0, sizeof w.committed);
}

/* Runs all warps to their next barrier of the block or their end. */
static void advance_all(Block &b)
{
    for (Warp &w : b.warps)
        w.spins = true;
    for (bool again = true; again;) {
        u64 steps = b.steps;
        bool moved = again = false;
        Warp *stuck = nullptr;
        for (Warp &w : b.warps)
            if (w.spins) {
                w.spins = false;
                w.stops = advance(w);
                again |= w.spins;
                moved |= !w.spins;
                stuck = w.spins ? &w : stuck;
            }
        if (stuck && !moved && steps == b.steps)
            fault(*stuck, "all warps wait for an mbarrier or have ended");
    }
}

static void run_block(Block &b)
{
    memory_start_block(b);
    b.fenced = b.acquired = false;
    for (size_t i = 0; i < b.warps.size(); i++)
        start_warp(b, b.warps[i], i);
    for (Warp *waiting = &b.warps[0]; waiting; memory_next_epoch(b)) {
        bool ended = false;
        waiting = nullptr;
        advance_all(b);
        for (Warp &w : b.warps)
            if (!w.stops)
                ended = true;
            else if (waiting && waiting->barrier != w.barrier)
                fault(w, "warps wait at different barriers");
            else
                waiting = &w;
        if (waiting && ended)
            fault(*waiting, "some warps have ended while others wait at a barrier");
    }
}

void run_launch(Launch &l)
{
    Kernel &k = *l.kernel;
    u32 blocks = l.grid.x * l.grid.y * l.grid.z;
    size_t threads = l.block.x * l.block.y * l.block.z, smem = k.shared + l.dynamic_shared;
    if (next_id + (u64)blocks + 1 >= 1u << 28) { /* an id has 28 bits */
        memory_forget_blocks();
        next_id = 1;
        l.floor = 0;
    }
    l.base = next_id;
    next_id += blocks + 1;
    memory_start_launch(l);
    k.counters.launches++;
    Block b = {l, k,     {0, 0, 0}, 0, {}, {}, {}, vector<Warp>((threads + 31) / 32),
               0, false, false,     0};
    b.smem.resize(smem);
    b.writer.resize(smem / 2 + 1);
    b.reader.resize(smem / 2 + 1);
    for (u32 i = 0; i < blocks; i++) {
        b.id = {i % l.grid.x, i / l.grid.x % l.grid.y, i / l.grid.x / l.grid.y};
        b.number = l.base + 1 + i;
        run_block(b);
    }
}
