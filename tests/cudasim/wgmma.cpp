/* wgmma.cpp - products of a warp group on sm_90a (PTX: wgmma.mma_async). Each warp does its own 16
 * rows, and only when it waits for them: what was overwritten too early, or read too early, shows.
 * Sides in shared memory have the 128-byte swizzle and rows along depth; the right one may have
 * rows of columns, and the left one may be in registers. */
#include "sim.h"

static float widen(const Inst &in, u16 x)
{
    return in.mode == 'q' ? bf16_to_float(x) : half_to_float(x);
}

/* 32 bytes of each of `rows` rows of a tile, as floats, eight rows of 16 bytes at a time. The
 * swizzle xors bits 4 to 6 of an address with bits 7 to 9. */
static void bring(Warp &w, const Inst &in, u64 tile, int first, int rows, float (*to)[16])
{
    u64 base = (tile & 0x3fff) << 4, stride = (tile >> 32 & 0x3fff) << 4, at[32];
    char *from[32];
    for (int r = 0; r < rows; r += 16) {
        for (int l = 0; l < 32; l++) {
            int row = first + r + l / 16 * 8;
            u64 a = base + row / 8 * stride + l % 8 * 128 + l / 8 % 2 * 16;
            at[l] = a ^ (a >> 7 & 7) << 4;
        }
        memory_read_shared(w, in, r + 16 <= rows ? ~0u : 0xffff, at, 16, from);
        for (int l = 0; l < 32 && r + l / 16 * 8 < rows; l++)
            for (int i = 0; i < 8; i++)
                to[r + l / 16 * 8 + l % 8][l / 8 % 2 * 8 + i] = widen(in, load<u16>(from[l], i));
    }
}

/* The right side from rows of columns: 64 of them in a row, the next 64 one leading dimension on.
 */
static void bring_turned(Warp &w, const Inst &in, u64 tile, int n, float (*to)[16])
{
    u64 base = (tile & 0x3fff) << 4, lead = (tile >> 16 & 0x3fff) << 4, at[32];
    u64 stride = (tile >> 32 & 0x3fff) << 4;
    char *from[32];
    for (int piece = 0; piece < n / 8; piece++) {
        for (int k = 0; k < 16; k++) {
            u64 a = base + piece / 8 * lead + k / 8 * stride + k % 8 * 128 + piece % 8 * 16;
            at[k] = a ^ (a >> 7 & 7) << 4;
        }
        memory_read_shared(w, in, 0xffff, at, 16, from);
        for (int k = 0; k < 16; k++)
            for (int i = 0; i < 8; i++)
                to[piece * 8 + i][k] = widen(in, load<u16>(from[k], i));
    }
}

/* The left side from registers, as mma has it. */
static void take(Warp &w, const Inst &in, float (*to)[16])
{
    for (int i = 0; i < 4; i++)
        for (int l = 0; l < 64; l++) {
            int row = l / 8 + i % 2 * 8, k = l % 8 + i / 2 * 8;
            to[row][k] = widen(in, load<u16>(w.row(in.op[in.dsts + i]), l));
        }
}

static void run(Warp &w, const Product &p)
{
    const Inst &in = *p.in;
    int n = in.dsts * 2; /* columns */
    float a[16][16], b[256][16];
    if (in.srcs > 7)
        take(w, in, a);
    else
        bring(w, in, p.a, w.index % 4 * 16, 16, a);
    if (in.option)
        bring_turned(w, in, p.b, n, b);
    else
        bring(w, in, p.b, 0, n, b);
    w.block->k.counters.mma++;
    for (int i = 0; i < in.dsts; i++)
        for (int l = 0; l < 32; l++) {
            int row = l / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + l % 4 * 2 + i % 2;
            float sum = p.add ? load<float>(w.row(in.op[i]), l) : 0;
            for (int k = 0; k < 16; k++)
                sum += a[row][k] * b[column][k];
            store<float>(w.row(in.op[i]), l, sum);
        }
}

static void start(Warp &w, const Inst &in, u32 mask)
{
    const u32 *s = in.op + in.dsts;
    if (mask != ~0u)
        fault(w, "wgmma needs all 32 lanes of the warp together");
    s += in.srcs > 7 ? 4 : 1; /* the right side */
    u64 b = load<u64>(w.row(s[0]), 0), a = in.srcs > 7 ? b : load<u64>(w.row(s[-1]), 0);
    if (a >> 62 != 1 || b >> 62 != 1)
        fault(w, "this layout of shared memory is not supported");
    w.products.push_back({&in, a, b, (w.pred[s[1]] & 1) != 0, w.product_groups});
}

static void commit(Warp &w, const Inst &, u32)
{
    w.product_groups++;
}

static void wait(Warp &w, const Inst &in, u32)
{
    size_t done = 0;
    while (done < w.products.size() &&
           (s64)w.products[done].group < (s64)w.product_groups - (s64)in.op[0])
        run(w, w.products[done++]);
    w.products.erase(w.products.begin(), w.products.begin() + done);
}

static void fence(Warp &, const Inst &, u32)
{
}

Action pick_wgmma(Draft &d)
{
    size_t n = d.src.size(); /* 7: both sides in shared memory; 9: four registers and one side */
    bool known = (n == 7 || n == 9) && d.types.size() == 3 && d.types[1].bits == 16;
    if (d.has("mma_async") && known && (n == 9 || d.src[5].value == 0)) {
        d.in.mode = d.types[1].kind;
        d.in.option = d.src[n - 1].value & 1; /* turned */
        return start;
    }
    return d.has("commit_group") ? commit
           : d.has("wait_group") ? wait
           : d.has("fence")      ? fence
                                 : nullptr;
}
