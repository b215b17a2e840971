/* gpu_ops.c - each op of a frame: its time in place, its floor, and which candidate runs it. */
#include "gpu_bench.h"

#include <math.h>
#include <stdlib.h>

enum { CALLS_MAX = 4096, KINDS_MAX = 512, KEY = 96, NAME = 48 };

typedef struct kind {
    char key[KEY], candidate[NAME];
    int count;           /* in a frame */
    double flops, bytes; /* of one */
    double us;           /* of one, on average */
} kind;

static kind kinds[KINDS_MAX];
static int kind_count;
static int call_kind[CALLS_MAX]; /* of the calls of one frame, in order */
static int calls, noting;
static const k_ops *inner;
static uint64_t *clocks; /* pinned: written by the device behind each call */
static int clocking;
static char chosen[NAME]; /* by cuda_choose, for the op under way */

/* The linker puts this before the backend's own. */
int __real_cuda_choose(k_ctx *k, const cuda_choice *c);
int __wrap_cuda_choose(k_ctx *k, const cuda_choice *c);

int __wrap_cuda_choose(k_ctx *k, const cuda_choice *c)
{
    int n = __real_cuda_choose(k, c);
    const char *name = c->name ? c->name(n) : NULL;
    snprintf(chosen, sizeof chosen, "%.40s", name ? name : "?");
    return n;
}

/* ---- notes ---- */

static double bytes_of(k_tensor t)
{
    return t.dtype ? (double)k_rows(t) * t.c * (t.dtype == K_F32 || t.dtype == K_I32 ? 4 : 2) : 0;
}

static double weight_bytes(const k_weight *w)
{
    const k_weight_desc *d = cuda_weight_desc(w);
    return 2.0 * d->out * d->in * d->kh * d->kw;
}

static kind *kind_of(const char *key)
{
    for (int i = 0; i < kind_count; i++)
        if (!strcmp(kinds[i].key, key))
            return &kinds[i];
    if (kind_count == KINDS_MAX)
        die("there are more kinds of ops than expected.");
    kind *one = &kinds[kind_count++];
    *one = (kind){0};
    snprintf(one->key, sizeof one->key, "%s", key);
    return one;
}

/* Behind each call. */
static void note(k_ctx *k, const char *key, double flops, double bytes)
{
    if (k->planning) {
        kind *one = kind_of(key);
        if (chosen[0])
            memcpy(one->candidate, chosen, sizeof chosen);
    }
    if (!k->planning && noting) {
        if (calls == CALLS_MAX)
            die("there are more ops in a frame than expected.");
        kind *one = kind_of(key);
        one->count++;
        one->flops = flops;
        one->bytes = bytes;
        call_kind[calls++] = (int)(one - kinds);
    }
    if (!k->planning && clocking) {
        if (calls == CALLS_MAX)
            die("there are more ops in a frame than expected.");
        cuda_write_clock(k, &clocks[++calls]);
    }
    chosen[0] = 0;
}

static const char *shape(k_tensor t, char text[32])
{
    snprintf(text, 32, "%dx%dx%dx%d", (int)t.n, (int)t.h, (int)t.w, (int)t.c);
    return text;
}

/* ---- the ops: make the call, then note it ---- */

static void conv(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, const k_conv *o)
{
    char key[KEY], xs[32];
    const k_weight_desc *d = cuda_weight_desc(w);
    inner->conv(k, y, x, w, o);
    snprintf(key, sizeof key, "conv%d %s-%d%s%s%s%s%s", (int)d->kh, shape(x, xs), (int)y.c,
             o->stride == 2 ? " half" : "", o->up ? " up" : "", o->row.dtype ? " row" : "",
             o->residual.dtype ? " res" : "", o->act ? " act" : "");
    note(k, key, 2.0 * (double)k_rows(y) * d->out * d->in * d->kh * d->kw,
         bytes_of(x) + bytes_of(y) + bytes_of(o->residual) + weight_bytes(w));
}

static void linear(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, const k_linear *o)
{
    char key[KEY];
    const k_weight_desc *d = cuda_weight_desc(w);
    inner->linear(k, y, x, w, o);
    snprintf(key, sizeof key, "linear %ldx%d-%d%s%s", (long)k_rows(x), (int)d->in, (int)d->out,
             o->residual.dtype ? " res" : "",
             o->act == K_GEGLU ? " geglu"
             : o->act          ? " act"
                               : "");
    note(k, key, 2.0 * (double)k_rows(x) * d->out * d->in,
         bytes_of(x) + bytes_of(y) + bytes_of(o->residual) + weight_bytes(w));
}

static void attention(k_ctx *k, k_tensor y, k_tensor q, k_tensor key, k_tensor value,
                      const k_attention *o)
{
    char text[KEY];
    double tq = (double)q.h * q.w, tk = (double)key.h * key.w;
    inner->attention(k, y, q, key, value, o);
    snprintf(text, sizeof text, "attention %dx%dx%d %.0f:%.0f", (int)q.n, o->heads,
             (int)q.c / o->heads, tq, tk);
    note(k, text, 4.0 * q.n * tq * tk * q.c,
         bytes_of(q) + bytes_of(key) + bytes_of(value) + bytes_of(y));
}

static void plain(k_ctx *k, const char *op, k_tensor y, double bytes)
{
    char key[KEY], ys[32];
    snprintf(key, sizeof key, "%s %s", op, shape(y, ys));
    note(k, key, 0, bytes_of(y) + bytes);
}

static void group_norm(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, int groups, float eps,
                       int act)
{
    inner->group_norm(k, y, x, w, groups, eps, act);
    plain(k, act ? "group_norm act" : "group_norm", y, bytes_of(x));
}

static void layer_norm(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, float eps)
{
    inner->layer_norm(k, y, x, w, eps);
    plain(k, "layer_norm", y, bytes_of(x));
}

static void activate(k_ctx *k, k_tensor y, k_tensor x, int act)
{
    inner->activate(k, y, x, act);
    plain(k, "activate", y, bytes_of(x));
}

static void add(k_ctx *k, k_tensor y, k_tensor x, k_tensor z)
{
    inner->add(k, y, x, z);
    plain(k, "add", y, bytes_of(x) + bytes_of(z));
}

static void soft_clamp(k_ctx *k, k_tensor y, k_tensor x, float limit)
{
    inner->soft_clamp(k, y, x, limit);
    plain(k, "soft_clamp", y, bytes_of(x));
}

static void mix(k_ctx *k, k_tensor y, k_tensor coef, k_tensor x0, k_tensor x1, k_tensor x2)
{
    inner->mix(k, y, coef, x0, x1, x2);
    plain(k, "mix", y, bytes_of(x0) + bytes_of(x1) + bytes_of(x2));
}

static void resize_nearest(k_ctx *k, k_tensor y, k_tensor x)
{
    inner->resize_nearest(k, y, x);
    plain(k, "resize_nearest", y, bytes_of(x));
}

static void affine(k_ctx *k, k_tensor y, k_tensor x, const k_affine *o)
{
    inner->affine(k, y, x, o);
    plain(k, "affine", y, bytes_of(x));
}

static void image_in(k_ctx *k, k_tensor y, const k_image *src, float scale, float bias)
{
    inner->image_in(k, y, src, scale, bias);
    plain(k, "image_in", y, (double)src->stride_t * src->t);
}

static void sinusoid(k_ctx *k, k_tensor y, k_tensor t, int sin_first, float shift)
{
    inner->sinusoid(k, y, t, sin_first, shift);
    plain(k, "sinusoid", y, 0);
}

static void draw_noise(k_ctx *k, k_tensor y, uint64_t seed, uint32_t stream)
{
    inner->noise(k, y, seed, stream);
    plain(k, "noise", y, 0);
}

/* ---- ceilings ---- */

enum { STAMP_A, STAMP_B };

static double copy_rate(void)
{
    const size_t bytes = (size_t)1 << 30;
    void *from = NULL, *to = NULL;
    cudaEvent_t begin, end;
    float best = 1e9f;
    if (cudaMalloc(&from, bytes) || cudaMalloc(&to, bytes) || cudaEventCreate(&begin) ||
        cudaEventCreate(&end))
        die("there is no memory on the device for a copy.");
    for (int i = 0; i < 8; i++) {
        float ms = 0;
        cudaEventRecord(begin, NULL);
        for (int j = 0; j < 4; j++)
            cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, NULL);
        cudaEventRecord(end, NULL);
        cudaEventSynchronize(end);
        cudaEventElapsedTime(&ms, begin, end);
        best = ms < best ? ms : best;
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    cudaFree(from);
    cudaFree(to);
    return 8.0 * (double)bytes / (best * 1e-3);
}

/* The fastest candidate of all, libraries' included, on a large product. */
static double product_rate(k_device *device)
{
    enum { SIDE = 8192, REPEATS = 4 };
    char why[K_WHY] = "";
    uint16_t *ones = malloc((size_t)SIDE * SIDE * sizeof *ones);
    k_ctx *k = k_open(device, why);
    if (!k || !ones)
        die(why);
    for (size_t i = 0; i < (size_t)SIDE * SIDE; i++)
        ones[i] = (uint16_t)(0x2800 + i * 2654435761u % 0x400 + (i % 2) * 0x8000);
    k_weight_desc d = {.out = SIDE, .in = SIDE, .kh = 1, .kw = 1, .parts = 1};
    d.weight[0] = (k_array){ones, K_F16};
    k_weight *w = k_weight_new(device, &d, why);
    k_tensor x = k_keep(k, K_F16, 1, 1, SIDE, SIDE), y = k_keep(k, K_F16, 1, 1, SIDE, SIDE);
    k_put(k, x, ones);
    k_plan_begin(k);
    K_CALL(k, linear, y, x, w, &(k_linear){0});
    k_plan_end(k);
    double best = 1e9;
    for (int i = 0; i < 6 && !k->status; i++) {
        uint16_t one;
        k_tensor corner = y;
        corner.w = corner.c = 1;
        k_stamp(k, STAMP_A);
        for (int j = 0; j < REPEATS; j++)
            K_CALL(k, linear, y, x, w, &(k_linear){0});
        k_stamp(k, STAMP_B);
        k_get(k, corner, &one);
        double ms = k_stamp_ms(k, STAMP_B) - k_stamp_ms(k, STAMP_A);
        best = ms < best ? ms : best;
    }
    if (k->status)
        die(k->where);
    k_drop(k, &x);
    k_drop(k, &y);
    k_close(k);
    k_weight_free(device, w);
    free(ones);
    return REPEATS * 2.0 * SIDE * SIDE * SIDE / (best * 1e-3);
}

/* Between the clocks of a row of them. */
static double clock_cost(k_device *device)
{
    enum { ROW = 200 };
    char why[K_WHY] = "";
    uint64_t *at;
    double best = 1e9;
    k_ctx *k = k_open(device, why);
    if (!k || cudaHostAlloc((void **)&at, (ROW + 1) * sizeof *at, cudaHostAllocMapped))
        die("no context");
    k_tensor t = k_keep(k, K_F32, 1, 1, 1, 1);
    for (int i = 0; i < 6; i++) {
        float one;
        for (int j = 0; j <= ROW; j++)
            cuda_write_clock(k, &at[j]);
        k_get(k, t, &one);
        double us = (double)(at[ROW] - at[0]) * 1e-3 / ROW;
        best = us < best ? us : best;
    }
    k_drop(k, &t);
    k_close(k);
    cudaFreeHost(at);
    return best;
}

ceilings ceilings_measure(void)
{
    char why[K_WHY] = "";
    k_device *device = k_device_open(bench_device, NULL, why);
    if (!device)
        die(why);
    ceilings c = {copy_rate(), product_rate(device), clock_cost(device)};
    printf("%s\n", k_device_name(device));
    k_device_close(device);
    return c;
}

/* ---- the table ---- */

static int by_share(const void *a, const void *b)
{
    const kind *x = a, *y = b;
    double p = x->us * x->count, q = y->us * y->count;
    return (p < q) - (p > q);
}

/* Frames with a clock behind each op, for a while; sums of microseconds per kind. */
static int time_calls(bench *b, double seconds, double *whole_us)
{
    int frames = 0, count = calls;
    double begin = now_ms();
    cudaHostAlloc((void **)&clocks, (CALLS_MAX + 1) * sizeof *clocks, cudaHostAllocMapped);
    clocking = 1;
    for (int i = 0; i < 4 || (now_ms() - begin < 1e3 * seconds && i < 400); i++) {
        calls = 0;
        bench_frame(b);
        if (calls != count)
            die("a frame has another number of ops than the one before.");
        if (i < 3) /* the first two write the graph down */
            continue;
        frames++;
        for (int c = 1; c < count; c++)
            kinds[call_kind[c]].us += (double)(clocks[c + 1] - clocks[c]) * 1e-3;
        *whole_us += (double)(clocks[count] - clocks[1]) * 1e-3;
    }
    clocking = 0;
    cudaFreeHost(clocks);
    return frames;
}

static void print_table(const ceilings *c, int frames, double whole_us, double bare_us)
{
    double total = 0, floors = 0;
    for (int i = 0; i < kind_count; i++) {
        kind *one = &kinds[i];
        if (one->count)
            one->us = fmax(0, one->us / frames / one->count - c->clock_us);
    }
    qsort(kinds, (size_t)kind_count, sizeof *kinds, by_share);
    printf("%-44s %4s %8s %8s %6s %5s  %s\n", "op", "n", "us", "floor", "share", "% all",
           "candidate");
    for (int i = 0; i < kind_count; i++)
        total += kinds[i].us * kinds[i].count;
    for (int i = 0; i < kind_count; i++) {
        const kind *one = &kinds[i];
        if (!one->count)
            continue;
        double least = 1e6 * fmax(one->flops / c->flops, one->bytes / c->bytes);
        floors += least * one->count;
        printf("%-44s %4d %8.2f %8.2f %5.0f%% %5.1f  %s\n", one->key, one->count, one->us, least,
               100 * least / fmax(one->us, 1e-3), 100 * one->us * one->count / total,
               one->candidate);
    }
    printf("ops: %.3f ms, floor %.3f ms (%.0f%%); with clocks %.3f ms, the bare frame %.3f ms\n",
           total * 1e-3, floors * 1e-3, 100 * floors / total, whole_us / frames * 1e-3,
           bare_us * 1e-3);
}

void ops_run(const char *path, int size, int steps, double seconds)
{
    enum { BARE = 30 };
    static double bare[BARE];
    ceilings c = ceilings_measure();
    printf("copy %.0f GB/s, product %.0f TFLOP/s, a clock %.2f us\n", c.bytes * 1e-9,
           c.flops * 1e-12, c.clock_us);
    bench b = bench_open(path, size, steps);
    inner = b.p->k->ops;
    k_ops table = *inner;
    table.conv = conv, table.linear = linear, table.attention = attention;
    table.group_norm = group_norm, table.layer_norm = layer_norm, table.activate = activate;
    table.add = add, table.soft_clamp = soft_clamp, table.mix = mix,
    table.resize_nearest = resize_nearest, table.affine = affine, table.image_in = image_in;
    table.sinusoid = sinusoid, table.noise = draw_noise;
    b.p->k->ops = &table;
    bench_set(&b);
    bench_frame(&b); /* fills the batch */
    noting = 1;
    bench_frame(&b);
    noting = 0;
    double whole_us = 0;
    int frames = time_calls(&b, seconds, &whole_us);
    b.p->k->ops = inner;
    for (int i = -4; i < BARE; i++) {
        double t0 = now_ms();
        bench_frame(&b);
        bare[i < 0 ? 0 : i] = 1e3 * (now_ms() - t0);
    }
    print_table(&c, frames, whole_us, quantile(bare, BARE, 0.5));
    bench_close(&b);
}
