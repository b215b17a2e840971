/* attention.c - softmax(q k^T / sqrt d) v: keys and values packed once, then tiles of queries. */
#include "cpu.h"

#include <math.h>
#include <omp.h>
#include <string.h>

typedef struct shape {
    int heads, d, d16, wide; /* wide: d rounded up to whole panels */
    int tq, tk, tk_nr, tk16; /* tk rounded up to panels of keys, and to chunks */
    int nr, mr, tiles;
    int64_t sets;             /* heads of all images of k and v */
    size_t keys, values, own; /* floats: of one set, of one set, of one thread */
} shape;

static shape shape_of(const cpu_device *d, k_tensor q, k_tensor key, int heads)
{
    shape s = {.heads = heads, .d = q.c / heads, .nr = d->simd->nr, .mr = d->simd->mr};
    s.d16 = round_up(s.d, CHUNK);
    s.wide = round_up(s.d, s.nr);
    s.tq = q.h * q.w;
    s.tk = key.h * key.w;
    s.tk_nr = round_up(s.tk, s.nr);
    s.tk16 = round_up(s.tk, CHUNK);
    s.tiles = (s.tq + s.mr - 1) / s.mr;
    s.sets = (int64_t)key.n * heads;
    s.keys = (size_t)s.tk_nr * (size_t)s.d16;
    s.values = (size_t)s.tk16 * (size_t)s.wide;
    s.own = simd_attend_scratch(d->simd, s.d) + (size_t)(s.mr * s.d16);
    s.own = (s.own + 15) / 16 * 16;
    return s;
}

/* One panel of keys: nr keys become columns. */
static void pack_keys(const cpu_device *d, const shape *s, const float *from, int64_t ld, int first,
                      float *keys)
{
    float *to = keys + (int64_t)first * s->d16;
    int count = s->tk - first < s->nr ? s->tk - first : s->nr;
    if (count < s->nr || s->d < s->d16)
        memset(to, 0, 4 * (size_t)(s->d16 * s->nr));
    d->simd->panel(to, from + first * ld, 4, ld, 1, s->d, count);
}

/* CHUNK values, cut into panels of columns. */
static void pack_values(const shape *s, const float *from, int64_t ld, int first, float *values)
{
    for (int i = first; i < first + CHUNK; i++)
        for (int j = 0; j < s->wide; j += s->nr) {
            float *to = values + (int64_t)j * s->tk16 + (int64_t)i * s->nr;
            int n = i >= s->tk ? 0 : s->d - j < s->nr ? s->d - j : s->nr;
            if (n)
                memcpy(to, from + i * ld + j, 4 * (size_t)n);
            memset(to + n, 0, 4 * (size_t)(s->nr - n));
        }
}

static void attend_tile(const cpu_device *d, const shape *s, k_tensor y, k_tensor q, int causal,
                        int64_t item, const float *keys, const float *values, int kv_images,
                        float *own)
{
    int tile = (int)(item % s->tiles), head = (int)(item / s->tiles % s->heads);
    int64_t image = item / s->tiles / s->heads;
    int64_t set = (kv_images == 1 ? 0 : image) * s->heads + head;
    int q0 = (int)((int64_t)s->tq * tile / s->tiles);
    int rows = (int)((int64_t)s->tq * (tile + 1) / s->tiles) - q0;
    float *packed = own, *out[MAX_MR];
    simd_head h = {.keys = keys + (size_t)set * s->keys,
                   .values = values + (size_t)set * s->values,
                   .tk = s->tk,
                   .d = s->d,
                   .scratch = own + s->mr * s->d16};
    for (int i = 0; i < rows; i++) {
        const float *from = cpu_row(q, image * s->tq + q0 + i) + head * s->d;
        d->simd->pack(packed + i * CHUNK, rows * CHUNK, from, s->d, 1.0f / sqrtf((float)s->d));
        out[i] = cpu_row(y, image * s->tq + q0 + i) + head * s->d;
    }
    d->simd->attend(&h, packed, rows, causal ? q0 + 1 : 0, out);
}

static int shapes_hold(k_ctx *k, k_tensor y, k_tensor q, k_tensor key, k_tensor value, int heads)
{
    return k_check(k,
                   y.dtype == K_F32 && q.dtype == K_F32 && key.dtype == K_F32 &&
                       value.dtype == K_F32,
                   "attention", "tensors must be f32", y, q, key) &&
           k_check(k, heads > 0 && q.c % heads == 0, "attention",
                   "heads do not divide the channels", y, q, key) &&
           k_check(k, k_same_shape(y, q) && k_same_shape(key, value) && key.c == q.c, "attention",
                   "shapes differ (z is the key)", y, q, key) &&
           k_check(k, key.n == q.n || key.n == 1, "attention",
                   "keys must be of one image or of as many as the queries (z is the key)", y, q,
                   key);
}

void cpu_attention(k_ctx *k, k_tensor y, k_tensor q, k_tensor key, k_tensor value,
                   const k_attention *o)
{
    if (!shapes_hold(k, y, q, key, value, o->heads))
        return;
    const cpu_device *d = cpu_of(k);
    shape s = shape_of(d, q, key, o->heads);
    size_t packed = (size_t)s.sets * (s.keys + s.values);
    float *keys = cpu_scratch(k, "attention", 4 * (packed + s.own * (size_t)d->threads));
    if (k->planning || k->status)
        return;
    float *values = keys + (size_t)s.sets * s.keys;
    int panels = s.tk_nr / s.nr, chunks = s.tk16 / CHUNK;
    int64_t items = (int64_t)q.n * s.heads * s.tiles;
#pragma omp parallel num_threads(cpu_threads(k, (int64_t)q.n *s.tq *s.tk *q.c / 8))
    {
        float *own = keys + packed + s.own * (size_t)omp_get_thread_num();
#pragma omp for nowait schedule(static)
        for (int64_t i = 0; i < s.sets * panels; i++) {
            int64_t set = i / panels;
            pack_keys(d, &s, cpu_row(key, set / s.heads * s.tk) + set % s.heads * s.d, key.ld,
                      (int)(i % panels) * s.nr, keys + (size_t)set * s.keys);
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < s.sets * chunks; i++) {
            int64_t set = i / chunks;
            pack_values(&s, cpu_row(value, set / s.heads * s.tk) + set % s.heads * s.d, value.ld,
                        (int)(i % chunks) * CHUNK, values + (size_t)set * s.values);
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < items; i++)
            attend_tile(d, &s, y, q, o->causal, i, keys, values, key.n, own);
    }
}
