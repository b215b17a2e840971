/* pack.c - weights from their file's order into panels, and from their file's type to floats.
 *
 * A panel is [k][NR]: NR columns of B side by side. A panel that keeps the file's type is
 * packed by moving elements alone; `widen` reads it back.
 */
#include "loops.h"

INLINE void widen_as(float *to, const void *from, int64_t n, const int dtype)
{
    size_t size = dtype == K_F32 ? 4 : 2;
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vstore(to + i, vwiden((const char *)from + (size_t)i * size, dtype));
    if (i < n) {
        char rest[VL * 4] = {0};
        memcpy(rest, (const char *)from + (size_t)i * size, (size_t)(n - i) * size);
        vstore_n(to + i, vwiden(rest, dtype), (int)(n - i));
    }
}

static void widen_bytes(float *to, const uint8_t *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = (float)from[i] / 255.0f;
}

void SIMD(widen)(float *to, const void *from, int dtype, int64_t n)
{
    if (dtype == K_F16)
        widen_as(to, from, n, K_F16);
    else if (dtype == K_BF16)
        widen_as(to, from, n, K_BF16);
    else if (dtype == K_U8)
        widen_bytes(to, from, n);
    else
        memcpy(to, from, 4 * (size_t)n);
}

/* n < VL elements: through a whole vector of them. */
INLINE void narrow_rest(void *to, vf v, int n, const int dtype)
{
    char rest[VL * 4];
    vnarrow(rest, v, dtype);
    memcpy(to, rest, (size_t)n * (dtype == K_F32 ? 4 : 2));
}

INLINE void narrow_as(char *to, const float *from, int64_t n, const int dtype)
{
    size_t size = dtype == K_F32 ? 4 : 2;
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vnarrow(to + (size_t)i * size, vload(from + i), dtype);
    if (i < n)
        narrow_rest(to + (size_t)i * size, vload_n(from + i, (int)(n - i)), (int)(n - i), dtype);
}

void SIMD(narrow)(void *to, const float *from, int dtype, int64_t n)
{
    if (dtype == K_F16)
        narrow_as(to, from, n, K_F16);
    else if (dtype == K_BF16)
        narrow_as(to, from, n, K_BF16);
    else
        memcpy(to, from, 4 * (size_t)n);
}

/* Bytes: rows are read a little at a time in turn, more of them than the processor foresees. */
enum { AHEAD = 256 };

INLINE void merge_as(char *to, const char *from, int64_t stride, const float *c, int rows, int cols,
                     const int dtype)
{
    size_t size = dtype == K_F32 ? 4 : 2;
    for (int r = 0; r < rows;
         r++, c += NR, to += (size_t)stride * size, from += (size_t)stride * size) {
        int i = 0;
        __builtin_prefetch(from + AHEAD);
        for (; i + VL <= cols; i += VL)
            vnarrow(to + (size_t)i * size, vwiden(from + (size_t)i * size, dtype) + vload(c + i),
                    dtype);
        if (i < cols) {
            char rest[VL * 4] = {0};
            memcpy(rest, from + (size_t)i * size, (size_t)(cols - i) * size);
            narrow_rest(to + (size_t)i * size, vwiden(rest, dtype) + vload(c + i), cols - i, dtype);
        }
    }
}

void SIMD(merge)(void *to, const void *from, int dtype, int64_t stride, const float *c, int rows,
                 int cols)
{
    if (dtype == K_F16)
        merge_as(to, from, stride, c, rows, cols, K_F16);
    else if (dtype == K_BF16)
        merge_as(to, from, stride, c, rows, cols, K_BF16);
    else
        merge_as(to, from, stride, c, rows, cols, K_F32);
}

void SIMD(pack)(float *to, int64_t step, const float *from, int n, float scale)
{
    int i = 0;
    for (; i + CHUNK <= n; i += CHUNK, to += step)
        for (int j = 0; j < CHUNK; j += VL)
            vstore(to + j, vload(from + i + j) * scale);
    if (i < n) {
        for (int j = 0; j < CHUNK; j++)
            to[j] = i + j < n ? from[i + j] * scale : 0;
    }
}

/* A square of the file at a time, so that both sides move whole cache lines. */
enum { SQUARE = 32 };

INLINE void panel_of(char *to, const char *from, int64_t stride, int step, int k, int cols,
                     const size_t size)
{
    for (int q = 0; q < k; q += SQUARE) {
        int depth = k - q < SQUARE ? k - q : SQUARE;
        for (int j = 0; j < cols; j++) {
            const char *row = from + ((int64_t)j * stride + (int64_t)q * step) * (int64_t)size;
            char *column = to + ((int64_t)q * NR + j) * (int64_t)size;
            for (int i = 0; i < depth; i++, column += NR * size, row += (size_t)step * size)
                memcpy(column, row, size);
        }
    }
}

/* Neighbours of a row, EDGE a vector: as many rows become columns in registers, by rounds that
 * interleave the upper half of the rows with the lower one. */
typedef uint16_t half8 __attribute__((vector_size(16)));
typedef uint32_t word4 __attribute__((vector_size(16)));

#define TRANSPOSE(name, vec, EDGE, ROUNDS, LOW, HIGH)                                              \
    INLINE void name(char *to, const char *from, int64_t to_pitch, int64_t from_pitch)             \
    {                                                                                              \
        vec a[EDGE], b[EDGE];                                                                      \
        for (int i = 0; i < EDGE; i++)                                                             \
            memcpy(&a[i], from + i * from_pitch, sizeof a[i]);                                     \
        for (int r = 0; r < ROUNDS; r++) {                                                         \
            for (int i = 0; i < EDGE / 2; i++) {                                                   \
                b[2 * i] = __builtin_shuffle(a[i], a[i + EDGE / 2], (vec)LOW);                     \
                b[2 * i + 1] = __builtin_shuffle(a[i], a[i + EDGE / 2], (vec)HIGH);                \
            }                                                                                      \
            memcpy(a, b, sizeof a);                                                                \
        }                                                                                          \
        for (int i = 0; i < EDGE; i++)                                                             \
            memcpy(to + i * to_pitch, &a[i], sizeof a[i]);                                         \
    }

#define LOW8                                                                                       \
    {                                                                                              \
        0, 8, 1, 9, 2, 10, 3, 11                                                                   \
    }
#define HIGH8                                                                                      \
    {                                                                                              \
        4, 12, 5, 13, 6, 14, 7, 15                                                                 \
    }
#define LOW4                                                                                       \
    {                                                                                              \
        0, 4, 1, 5                                                                                 \
    }
#define HIGH4                                                                                      \
    {                                                                                              \
        2, 6, 3, 7                                                                                 \
    }
TRANSPOSE(transpose8, half8, 8, 3, LOW8, HIGH8)
TRANSPOSE(transpose4, word4, 4, 2, LOW4, HIGH4)

/* panel_of for step 1; what is left over at the edges goes one by one. */
INLINE void panel_dense(char *to, const char *from, int64_t stride, int k, int cols,
                        const size_t size)
{
    const int edge = size == 2 ? 8 : 4;
    int whole = cols / edge * edge, deep = k / edge * edge;
    int64_t to_pitch = NR * (int64_t)size, from_pitch = stride * (int64_t)size;
    for (int q = 0; q < deep; q += SQUARE)
        for (int j = 0; j < whole; j += edge)
            for (int i = q; i < q + SQUARE && i < deep; i += edge) {
                char *x = to + i * to_pitch + j * (int64_t)size;
                const char *y = from + j * from_pitch + i * (int64_t)size;
                if (size == 2)
                    transpose8(x, y, to_pitch, from_pitch);
                else
                    transpose4(x, y, to_pitch, from_pitch);
            }
    if (deep < k)
        panel_of(to + deep * to_pitch, from + deep * (int64_t)size, stride, 1, k - deep, whole,
                 size);
    if (whole < cols)
        panel_of(to + whole * (int64_t)size, from + whole * from_pitch, stride, 1, k, cols - whole,
                 size);
}

void SIMD(panel)(void *to, const void *from, size_t size, int64_t stride, int step, int k, int cols)
{
    if (step == 1 && size == 2)
        panel_dense(to, from, stride, k, cols, 2);
    else if (step == 1)
        panel_dense(to, from, stride, k, cols, 4);
    else if (size == 2)
        panel_of(to, from, stride, step, k, cols, 2);
    else
        panel_of(to, from, stride, step, k, cols, 4);
}
