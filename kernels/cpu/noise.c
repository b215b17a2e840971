/* noise.c - normal noise by philox.h, four elements at a time. */
#include "cpu.h"
#include "../philox.h"

void cpu_noise(k_ctx *k, k_tensor y, uint64_t seed, uint32_t stream)
{
    if (!k_check(k, y.dtype == K_F32, "noise", "y must be f32", y, y, (k_tensor){0}) || k->planning)
        return;
    /* Element i counts without the padding of rows, so the layout does not change the noise. */
    int64_t count = k_rows(y) * y.c, blocks = (count + 3) / 4;
#pragma omp parallel for schedule(static) num_threads(cpu_threads(k, 8 * count))
    for (int64_t b = 0; b < blocks; b++) {
        float normal[4];
        philox_normals(seed, stream, (uint64_t)b, normal);
        for (int64_t i = 4 * b; i < 4 * b + 4 && i < count; i++)
            cpu_row(y, i / y.c)[i % y.c] = normal[i - 4 * b];
    }
}
