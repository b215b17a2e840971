/* wgmma.cpp - products of a warp group on sm_90a (PTX: wgmma.mma_async). Each warp does its own 16
 * rows, and only when it waits for them: what was overwritten too early, or read too early, shows.
 * Both sides in shared memory, rows along depth, with the 128-byte swizzle. */
#include "sim.h"

/* 32 bytes of each of `rows` rows of a tile, as floats. The swizzle xors bits 4 to 6 of an address
 * with bits 7 to 9. */
static void bring(Warp &w, const Inst &in, u64 tile, int first, int rows, float (*to)[16])
{
    u64 base = (tile & 0x3fff) << 4, stride = (tile >> 32 & 0x3fff) << 4, at[32];
    char *from[32];
    for (int r = 0; r < rows; r += 16) {
        for (int l = 0; l < 32; l++) {
            int row = first + r + l / 2;
            u64 a = base + row / 8 * stride + row % 8 * 128 + l % 2 * 16;
            at[l] = a ^ (a >> 7 & 7) << 4;
        }
        memory_read_shared(w, in, r + 16 <= rows ? ~0u : 0xffff, at, 16, from);
        for (int l = 0; l < 32 && r + l / 2 < rows; l++)
            for (int i = 0; i < 8; i++)
                to[r + l / 2][l % 2 * 8 + i] = in.mode == 'q' ? bf16_to_float(load<u16>(from[l], i))
                                                              : half_to_float(load<u16>(from[l], i));
    }
}

static void run(Warp &w, const Product &p)
{
    const Inst &in = *p.in;
    int n = in.dsts * 2; /* columns */
    float a[16][16], b[256][16];
    bring(w, in, p.a, w.index % 4 * 16, 16, a);
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
    u64 a = load<u64>(w.row(s[0]), 0), b = load<u64>(w.row(s[1]), 0);
    if (a >> 62 != 1 || b >> 62 != 1)
        fault(w, "this layout of shared memory is not supported");
    w.products.push_back({&in, a, b, (w.pred[s[2]] & 1) != 0, w.product_groups});
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
    bool both = d.src.size() == 7 && d.types.size() == 3 && d.types[1].bits == 16;
    if (d.has("mma_async") && both && d.src[5].value == 0 && d.src[6].value == 0) {
        d.in.mode = d.types[1].kind;
        return start;
    }
    return d.has("commit_group") ? commit
           : d.has("wait_group") ? wait
           : d.has("fence")      ? fence
                                 : nullptr;
}
