/* attention.cuh - what the kernels of attention share: their arguments, and tiles in shared memory.
 */
#ifndef KERNELS_CUDA_ATTENTION_CUH
#define KERNELS_CUDA_ATTENTION_CUH

#include <math.h>

#include "ptx.cuh"

enum { TILE = 64 }; /* keys that a block looks at together */

/* Buffers for tiles: where copies run in the background, the next one comes meanwhile. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
enum { BUFFERS = 1 };
#else
enum { BUFFERS = 2 };
#endif

struct attend_args {
    const void *q, *k, *v;
    void *y;
    float *part;   /* [split][image][head][tq][d] where keys are split, else NULL */
    float2 *stats; /* [split][image][head][tq]: the largest score, the sum against it */
    int q_ld, k_ld, v_ld, y_ld;
    int q_type, k_type, v_type, y_type; /* for attend_any */
    int tq, tk, d, kv_images, causal;
    int splits, each; /* tiles of keys in a split */
    float scale;      /* log2(e) / sqrt(d) */
};

/* Where piece p of row r lies, of rows of PITCH pieces (16 bytes): those that 8 lanes read in one
 * column, and those that they write along a row, lie in different banks. PITCH is even. */
template <int PITCH> DEVICE int place(int r, int p)
{
    if (PITCH % 8 == 0)
        return r * PITCH + (p ^ (r & 7));
    if (PITCH % 4 == 0)
        return r * PITCH + (p ^ (r >> 1 & 3));
    return r * PITCH + (p ^ (r >> 2 & 1));
}

DEVICE float exp_2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Heads of up to 512 on tensor cores; anything at all, in fp32; and the sum over splits. */
enum { WIDE_ROWS = 64, HEAD_MOST = 512 };
void cuda_attend_wide(k_ctx *k, const attend_args &a, int heads, int images);
void cuda_attend_any(k_ctx *k, const attend_args &a, int heads, int images);
/* sm_90a's own tensor cores (attention_hopper.cu): nonzero where it takes the shape. */
int cuda_attend_hopper(k_ctx *k, const attend_args &a, int heads, int images);
void cuda_attend_join(k_ctx *k, const attend_args &a, int heads, int images);

#endif
