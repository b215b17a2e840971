/* attention.c - one tile of queries against all keys, a block of keys at a time.
 *
 * Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018): a running maximum
 * and sum per row; what was summed before a new maximum is scaled down. Only one block of scores
 * is ever held.
 */
#include "loops.h"

static const float HIDDEN = -1e30f; /* a score that adds nothing */

/* scores of keys [first, first + count): s is [panel][rows][NR] */
static void scores(const simd_head *h, const float *q, int rows, int first, int count, float *s)
{
    int d16 = round_up(h->d, CHUNK);
    for (int j = 0; j < count; j += NR, s += rows * NR)
        SIMD(tile)(rows, d16 / CHUNK, q, h->keys + (int64_t)(first + j) * d16, s, 0);
}

/* Hide columns from `seen` on. */
static void hide(float *s, int rows, int row, int seen, int padded)
{
    for (int j = seen < 0 ? 0 : seen; j < padded; j++)
        s[(j / NR * rows + row) * NR + j % NR] = HIDDEN;
}

/* One row of scores to weights in A's layout; returns the factor for what came before. */
static float soften(const float *s, float *p, int rows, int row, int padded, float *top, vf *sum)
{
    vf best = vset(*top);
    for (int j = 0; j < padded; j += VL)
        best = vmax(best, vload(s + (j / NR * rows + row) * NR + j % NR));
    float high = vtop(best);
    float factor = high > *top ? vexp(vset(*top - high))[0] : 1.0f;
    vf total = *sum * factor;
    for (int j = 0; j < padded; j += VL) {
        vf e = vexp(vload(s + (j / NR * rows + row) * NR + j % NR) - high);
        total += e;
        vstore(p + (j / CHUNK * rows + row) * CHUNK + j % CHUNK, e);
    }
    *top = high;
    *sum = total;
    return factor;
}

static void rescale(float *o, const float *factor, int rows, int width)
{
    for (int j = 0; j < width; j += NR, o += rows * NR)
        for (int i = 0; i < rows; i++) {
            vstore(o + i * NR, vload(o + i * NR) * factor[i]);
            vstore(o + i * NR + VL, vload(o + i * NR + VL) * factor[i]);
        }
}

static void finish(const simd_head *h, const float *o, int rows, const vf *sum, float *const *y)
{
    for (int i = 0; i < rows; i++) {
        float scale = 1.0f / vsum(sum[i]);
        for (int j = 0; j < h->d; j += VL) {
            vf v = vload(o + (j / NR * rows + i) * NR + j % NR) * scale;
            if (j + VL <= h->d)
                vstore(y[i] + j, v);
            else
                vstore_n(y[i] + j, v, h->d - j);
        }
    }
}

void SIMD(attend)(const simd_head *h, const float *q, int rows, int limit, float *const *y)
{
    float *s = h->scratch, *p = s + MR * SIMD_KEYS, *o = p + MR * SIMD_KEYS;
    int width = round_up(h->d, NR), tk16 = round_up(h->tk, CHUNK);
    int end = limit > 0 && limit + rows - 1 < h->tk ? limit + rows - 1 : h->tk;
    float top[MR], factor[MR];
    vf sum[MR];
    for (int i = 0; i < rows; i++) {
        top[i] = HIDDEN;
        sum[i] = vset(0);
    }
    for (int first = 0; first < end; first += SIMD_KEYS) {
        int count = end - first < SIMD_KEYS ? end - first : SIMD_KEYS, moved = 0;
        int padded = round_up(count, CHUNK);
        scores(h, q, rows, first, round_up(count, NR), s);
        for (int i = 0; i < rows; i++) {
            int seen = limit > 0 && limit + i < h->tk ? limit + i - first : h->tk - first;
            if (seen < padded)
                hide(s, rows, i, seen, padded);
            factor[i] = soften(s, p, rows, i, padded, &top[i], &sum[i]);
            moved |= factor[i] != 1.0f;
        }
        if (moved && first)
            rescale(o, factor, rows, width);
        for (int j = 0; j < width; j += NR)
            SIMD(tile)
        (rows, round_up(count, CHUNK) / CHUNK, p,
         h->values + (int64_t)j * tk16 + (int64_t)first * NR, o + j * rows, first > 0);
    }
    finish(h, o, rows, sum, y);
}
