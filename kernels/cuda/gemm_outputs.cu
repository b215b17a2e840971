/* gemm_outputs.cu - 3 x 3 convolutions with few outputs, a network's last: pixels of a square and
 * its border come to shared memory once for all nine taps, where the matrix product would read each
 * nine times.
 */
#include "gemm.cuh"

enum {
    SQUARE = 16,
    BORDERED = SQUARE + 2,
    THREADS = 256, /* a warp has two lines of the square */
    DEPTH = 64,    /* channels at a time */
    LINES = BORDERED * BORDERED,
    ROOM = (LINES + 9 * GEMM_OUTPUTS) * DEPTH * 2, /* pixels, then weights: [tap][output] */
};

template <class T> DEVICE void bring_weights(const gemm_args &a, unsigned char *room, int c0)
{
    for (int i = threadIdx.x; i < 9 * GEMM_OUTPUTS * 8; i += THREADS) {
        int line = i / 8, piece = i % 8, n = line % GEMM_OUTPUTS, c = c0 + piece * 8;
        bool in = n < a.out && c < a.c;
        const T *from = (const T *)a.w + (in ? n * a.depth + line / GEMM_OUTPUTS * a.c + c : 0);
        copy_16(room + spot<DEPTH>(LINES + line, piece), from, in);
    }
}

template <class T> DEVICE void bring_pixels(const gemm_args &a, unsigned char *room, int c0)
{
    int y0 = blockIdx.y * SQUARE - 1, x0 = blockIdx.x * SQUARE - 1;
    int64_t image = (int64_t)blockIdx.z * a.pixels;
    for (int i = threadIdx.x; i < LINES * 8; i += THREADS) {
        int line = i / 8, piece = i % 8, c = c0 + piece * 8;
        int y = y0 + line / BORDERED, x = x0 + line % BORDERED;
        bool in = (unsigned)y < (unsigned)a.height && (unsigned)x < (unsigned)a.width && c < a.c;
        const T *from = (const T *)a.x;
        copy_16(room + spot<DEPTH>(line, piece),
                in ? from + (image + y * a.width + x) * a.ld + c : from, in);
    }
}

template <class T>
DEVICE void multiply_square(float (&sum)[2][4], const unsigned char *room, int depth)
{
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll 1
    for (int tap = 0; tap < 9; tap++) {
        int line = (2 * warp + tap / 3) * BORDERED + tap % 3 + lane % 16;
        for (int k = 0; k < depth; k += 32) { /* pieces k / 8 to k / 8 + 3 */
            uint32_t b[4], x[4];
            load_matrix(
                b, room + spot<DEPTH>(LINES + tap * GEMM_OUTPUTS + lane % 8, k / 8 + lane / 8));
#pragma unroll
            for (int i = 0; i < 4; i++) { /* lines of the square, halves of the depth */
                load_matrix(
                    x, room + spot<DEPTH>(line + i % 2 * BORDERED, k / 8 + i / 2 * 2 + lane / 16));
                mma(sum[i % 2], x, b[i / 2 * 2], b[i / 2 * 2 + 1], T());
            }
        }
    }
}

/* blockIdx: square along x, along y, image. */
template <class T>
static __global__ void __launch_bounds__(THREADS, 3) outputs(const __grid_constant__ gemm_args a)
{
    unsigned char *room = &shared<unsigned char>();
    float sum[2][4] = {};
    bring_weights<T>(a, room, 0);
    grid_wait();
#pragma unroll 1
    for (int c0 = 0; c0 < a.c; c0 += DEPTH) {
        if (c0) {
            __syncthreads();
            bring_weights<T>(a, room, c0);
        }
        bring_pixels<T>(a, room, c0);
        copy_commit();
        copy_wait<0>();
        __syncthreads();
        multiply_square<T>(sum, room, min(DEPTH, a.c - c0));
    }
    grid_release();
    int lane = threadIdx.x % 32, n = lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int y = blockIdx.y * SQUARE + threadIdx.x / 32 * 2 + i / 2;
        int x = blockIdx.x * SQUARE + lane / 4 + i % 2 * 8;
        if (y >= a.height || x >= a.width)
            continue;
        int m = blockIdx.z * a.pixels + y * a.width + x;
        if (n < a.out)
            finish_one(a, m, n, sum[i / 2][i % 2 * 2], 0.0f);
        if (n + 1 < a.out)
            finish_one(a, m, n + 1, sum[i / 2][i % 2 * 2 + 1], 0.0f);
    }
}

gemm_kernel gemm_outputs(int type, const gemm_args *a, dim3 *grid, int *shared)
{
    *grid = dim3((a->width + SQUARE - 1) / SQUARE, (a->height + SQUARE - 1) / SQUARE,
                 a->rows / a->pixels);
    *shared = ROOM;
    return type == CUDA_F16 ? outputs<__half> : outputs<__nv_bfloat16>;
}
