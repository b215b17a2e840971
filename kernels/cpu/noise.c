/* noise.c - normal noise by philox.h, four elements at a time. */
#include "cpu.h"
#include "../philox.h"

enum { BLOCKS = 512 }; /* of an item */

/* Blocks [first, last) of four. Element i counts without the padding of rows, so the layout does
 * not change the noise. */
static void draw(k_tensor y, uint64_t seed, uint32_t stream, int64_t first, int64_t last)
{
    int64_t count = k_rows(y) * y.c, i = 4 * first, at = i % y.c;
    float *row = cpu_row(y, i / y.c);
    for (int64_t b = first; b < last; b++) {
        float normal[4];
        philox_normals(seed, stream, (uint64_t)b, normal);
        for (int j = 0; j < 4 && i < count; j++, i++) {
            row[at++] = normal[j];
            if (at == y.c) {
                at = 0;
                row += y.ld;
            }
        }
    }
}

#if defined(__x86_64__)
/* The same bits: the processor's fma and the library's are both exact, but the latter is a call. */
__attribute__((flatten, target("fma"))) static void
draw_fma(k_tensor y, uint64_t seed, uint32_t stream, int64_t first, int64_t last)
{
    draw(y, seed, stream, first, last);
}
#endif

void cpu_noise(k_ctx *k, k_tensor y, uint64_t seed, uint32_t stream)
{
    if (!k_check(k, y.dtype == K_F32, "noise", "y must be f32", y, y, (k_tensor){0}) || k->planning)
        return;
    int64_t count = k_rows(y) * y.c, blocks = (count + 3) / 4,
            items = (blocks + BLOCKS - 1) / BLOCKS;
    void (*run)(k_tensor, uint64_t, uint32_t, int64_t, int64_t) = draw;
#if defined(__x86_64__)
    if (cpu_of(k)->simd != &simd_base)
        run = draw_fma;
#endif
#pragma omp parallel for schedule(static) num_threads(cpu_threads(k, 8 * count))
    for (int64_t i = 0; i < items; i++)
        run(y, seed, stream, blocks * i / items, blocks * (i + 1) / items);
}
