/* noise.cu - normal noise by philox.h, four elements to a thread.
 *
 * The bits are the CPU's. What the compiler may join to a fused multiply-add in philox.h is only
 * multiplied by powers of two, which rounds nothing; the rest says how it rounds.
 */
#include "launch.cuh"
#include "../philox.h"

enum { THREADS = 256 };

struct noise_args {
    float *y;
    uint64_t seed;
    int64_t count;
    int32_t c, ld;
    uint32_t stream;
};

/* Element i counts without the padding of rows, so the layout does not change the noise. */
static __global__ void noise(const __grid_constant__ noise_args a)
{
    grid_wait();
    grid_release();
    int64_t block = (int64_t)blockIdx.x * THREADS + threadIdx.x, i = 4 * block;
    if (i >= a.count)
        return;
    float normal[4];
    philox_normals(a.seed, a.stream, (uint64_t)block, normal);
    float *row = a.y + i / a.c * a.ld;
    int at = (int)(i % a.c);
    for (int j = 0; j < 4 && i + j < a.count; j++) {
        row[at++] = normal[j];
        if (at == a.c) {
            at = 0;
            row += a.ld;
        }
    }
}

/* Seeds and streams change from frame to frame and lie on the tape: by itself, so that what is
 * before and behind comes again. */
void cuda_noise(k_ctx *k, k_tensor y, uint64_t seed, uint32_t stream)
{
    k_tensor none = {};
    if (!k_check(k, y.dtype == K_F32, "noise", "y must be f32", y, y, none) || k->planning)
        return;
    noise_args a = zeroed<noise_args>();
    a.y = (float *)y.data;
    a.seed = seed;
    a.count = k_rows(y) * y.c;
    a.c = y.c;
    a.ld = y.ld;
    a.stream = stream;
    cuda_submit(k);
    launch(k, noise, dim3(blocks_of((a.count + 3) / 4, THREADS)), THREADS, 0, a);
    cuda_submit(k);
}
