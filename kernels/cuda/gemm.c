/* gemm.c - the matrix product, host side: what a product asks for, which candidate takes it, and
 * its launches.
 *
 * Own candidates are tiles, each with parts of depth (split) and stages of its pipeline;
 * then comes the kernel for few rows; then the libraries'. The choice is made once per weight and
 * shape, while planning, and kept in the weight (cuda_pick). x whose rows do not begin on 16 bytes,
 * or that is of another type, is packed first.
 */
#include <stdio.h>
#include <string.h>

#include "gemm.h"

enum {
    SPLITS = 4, /* 1, 2, 4, 8 parts */
    DEPTHS = 3, /* of the pipeline: see stages_of */
    TILES = GEMM_TILES + GEMM_HOPPER,
    TILED = TILES * SPLITS * DEPTHS,
    FEW_ROWS = TILED, /* candidates after tiles */
    FEW_OUTPUTS,
    OWN,             /* how many candidates are ours */
    LEAST_STEPS = 4, /* of depth in a part */
};

typedef struct product {
    const cuda_product *p;
    const cuda_form *form;
    gemm_args a;
    int type;   /* CUDA_F16, CUDA_BF16 */
    int packed; /* x is a copy in scratch, which libraries do not know of */
} product;

/* One way to run it. */
typedef struct way {
    const gemm_tile *tile;
    int hopper; /* its tile is one of gemm_hopper.cu */
    int split, stages;
} way;

/* ---- what a product asks for ------------------------------------------------------------------
 */

static int size_of(int dtype)
{
    return dtype == K_F32 ? 4 : 2;
}

static int aligned(k_tensor t, int bytes)
{
    return !t.dtype ||
           ((uintptr_t)t.data % bytes == 0 && (int64_t)t.ld * size_of(t.dtype) % bytes == 0);
}

/* x can be copied 16 bytes at a time. */
static int in_pieces(const product *g)
{
    const cuda_product *p = g->p;
    int type = g->type == CUDA_F16 ? K_F16 : K_BF16;
    return p->x.dtype == type && p->x.c % 8 == 0 && aligned(p->x, 16);
}

/* Four columns of these are one load or store: 8 bytes of halves, 16 of floats. */
static int in_fours(const product *g)
{
    const k_tensor list[3] = {g->p->y, g->p->row, g->p->residual};
    int geglu = g->p->act == K_GEGLU;
    for (int i = 0; i < 3; i++)
        if (!aligned(list[i], (geglu ? 2 : 4) * size_of(list[i].dtype)))
            return 0;
    return g->p->w->desc.out % 4 == 0 && !(geglu && g->p->residual.dtype);
}

/* y and what is added to it are halves as x is, in whole pieces of 16 bytes, and the activation is
 * one that leave_direct knows. */
static int in_halves(const product *g)
{
    const cuda_product *p = g->p;
    int type = g->type == CUDA_F16 ? K_F16 : K_BF16, geglu = p->act == K_GEGLU;
    return p->w->desc.out % (geglu ? 16 : 8) == 0 && p->y.dtype == type && aligned(p->y, 16) &&
           (!p->row.dtype || (p->row.dtype == type && aligned(p->row, 4) && !geglu)) &&
           (!p->residual.dtype ||
            (p->residual.dtype == type && aligned(p->residual, 16) && !geglu)) &&
           (p->act == K_IDENTITY || p->act == K_RELU || geglu);
}

static int is_phased(const cuda_product *p)
{
    return p->up && p->side == 3 && p->stride == 1 && p->pad == 1;
}

static product product_of(const cuda_product *p, const cuda_form *form, int type)
{
    const k_weight_desc *d = &p->w->desc;
    product g = {.p = p, .form = form, .type = type};
    gemm_args *a = &g.a;
    memset(a, 0, sizeof *a); /* padding too: the tape compares bytes */
    a->x = p->x.data;
    a->y = p->y.data;
    a->row = p->row.data;
    a->residual = p->residual.data;
    a->w = form->data;
    a->bias = form->bias;
    a->rows = (int)k_rows(p->y);
    a->out = d->out;
    a->phased = is_phased(p);
    a->side = a->phased ? 2 : p->side;
    a->depth = form->depth;
    a->c = form->depth / (a->side * a->side);
    a->ld = p->x.ld;
    a->height = p->x.h;
    a->width = p->x.w;
    a->pixels = p->y.h * p->y.w;
    a->each = a->phased ? a->rows / 4 : a->rows;
    a->line = a->phased ? p->x.w : p->y.w;
    a->area = a->phased ? p->x.h * p->x.w : a->pixels;
    a->stride = p->stride;
    a->pad = p->pad;
    a->up = p->up && !a->phased;
    a->plain = p->side == 1 && p->stride <= 1 && !p->up;
    a->y_type = p->y.dtype;
    a->row_type = p->row.dtype;
    a->residual_type = p->residual.dtype;
    a->y_ld = p->y.ld;
    a->row_ld = p->row.ld;
    a->residual_ld = p->residual.ld;
    a->act = p->act;
    a->wide = in_fours(&g);
    a->direct = in_halves(&g);
    return g;
}

/* ---- candidates --------------------------------------------------------------------------------
 */

static int shared_of(const way *v)
{
    int bytes = v->stages * (v->tile->m + v->tile->n) * v->tile->k * 2;
    return (bytes > v->tile->spread ? bytes : v->tile->spread) + (v->hopper ? GEMM_ALIGN : 0);
}

static int steps_of(const product *g, const gemm_tile *t)
{
    return (g->a.depth + t->k - 1) / t->k;
}

static int phases_of(const gemm_args *a)
{
    return a->phased ? 4 : 1;
}

/* Blocks that share no output. */
static int64_t blocks_along(const product *g, const gemm_tile *t)
{
    return (int64_t)((g->a.each + t->m - 1) / t->m) * ((g->a.out + t->n - 1) / t->n) *
           phases_of(&g->a);
}

/* Bytes of partial sums. */
static size_t partial_of(const product *g, int split)
{
    return split < 2 ? 0 : (size_t)split * (size_t)g->a.rows * ((g->a.out + 3) / 4 * 4) * 4;
}

/* The parts of a candidate's number: tiles change first, so that the lowest numbers are every tile.
 */
static way parts_of(int type, int c)
{
    static const int stages[2][DEPTHS] = {{3, 4, 6}, {4, 5, 6}};
    int t = c % TILES, hopper = t >= GEMM_TILES;
    return (way){.tile = hopper             ? gemm_hopper(type) + (t - GEMM_TILES)
                         : type == CUDA_F16 ? gemm_tiles_f16 + t
                                            : gemm_tiles_bf16 + t,
                 .hopper = hopper,
                 .split = 1 << c / TILES / DEPTHS,
                 .stages = stages[hopper][c / TILES % DEPTHS]};
}

/* Candidate c as a way; 0 where it does not suit the shape or the device. */
static int way_of(k_ctx *k, const product *g, int c, way *v)
{
    const cuda_device *d = cuda_of(k);
    *v = parts_of(g->type, c);
    if (d->sm < 80)
        v->stages = 2;
    if (!v->tile->kernel || shared_of(v) > d->shared_bytes || (d->sm < 80 && c / TILES % DEPTHS) ||
        (v->hopper && d->sm != 90))
        return 0;
    int64_t blocks = blocks_along(g, v->tile);
    if (v->tile->n / 2 >= g->a.out && v->tile->n > 64)
        return 0; /* more than half would be padding */
    return v->split == 1 || (steps_of(g, v->tile) >= v->split * LEAST_STEPS &&
                             blocks * v->split <= 8 * d->processors);
}

static int takes_few(const product *g)
{
    return g->a.plain && g->a.rows <= GEMM_FEW;
}

static int takes_outputs(const product *g)
{
    const gemm_args *a = &g->a;
    return a->side == 3 && a->stride == 1 && a->pad == 1 && !a->up && a->out <= GEMM_OUTPUTS;
}

/* What a way costs, in products that a multiprocessor could do meanwhile: rounds of blocks, the
 * start of each pipeline, and the detour of partial sums. */
static double cost_of(const cuda_device *d, const product *g, const way *v)
{
    const gemm_tile *t = v->tile;
    int64_t blocks = blocks_along(g, t) * v->split;
    int steps = (steps_of(g, t) + v->split - 1) / v->split;
    int room = (d->sm == 75 ? 64 : d->sm == 80 || d->sm == 90 || d->sm == 100 ? 160 : 100) << 10;
    int beside = room / (shared_of(v) + 1024),
        most = t->m * t->n >= 128 * 128 || t->warps > 4 ? 2 : 4;
    if (t->warps > 4 && t->m * t->n > 128 * 160)
        most = 1;
    beside = beside > most ? most : beside < 1 ? 1 : beside;
    int64_t rounds =
        (blocks + (int64_t)d->processors * beside - 1) / ((int64_t)d->processors * beside);
    int64_t busy = (blocks + d->processors - 1) / d->processors; /* blocks of the busiest */
    double warps = t->warps * (double)(busy < beside ? busy : beside);
    double rate = 1.0 / (1.0 / t->m + 1.0 / t->n) / 64.0; /* of products to bytes of L2 */
    rate = rate > 1 ? 1 : rate;
    rate *= warps >= 8 ? 1 : warps / (warps + 2.0) * 1.25;
    if (v->hopper) /* its tensor cores do twice as much a cycle */
        rate *= 1.7;
    double work = (double)busy * steps * t->m * t->n * t->k / rate;
    double start = 1.5e6 * (double)rounds;
    double sums = v->split > 1
                      ? 3e6 + 2.0 * 4 * v->split * g->a.rows * (double)g->a.out / d->processors * 40
                      : 0;
    return work + start + sums;
}

static int guess_of(k_ctx *k, const product *g)
{
    int best = -1;
    double least = 0;
    if (takes_few(g))
        return FEW_ROWS;
    if (takes_outputs(g))
        return FEW_OUTPUTS;
    for (int c = 0; c < TILED; c++) {
        way v;
        if (!way_of(k, g, c, &v))
            continue;
        double cost = cost_of(cuda_of(k), g, &v) * (v.stages == 4 || v.stages == 2 ? 1 : 1.01);
        if (best < 0 || cost < least)
            best = c, least = cost;
    }
    return best;
}

/* ---- launches ----------------------------------------------------------------------------------
 */

static void write(k_ctx *k, gemm_kernel kernel, dim3 grid, int threads, int shared,
                  const gemm_args *a)
{
    cuda_launch(k, (const void *)(uintptr_t)kernel, grid, (unsigned)threads, (size_t)shared, a,
                sizeof *a);
}

static void run_way(k_ctx *k, const product *g, const way *v, void *partial)
{
    const gemm_tile *t = v->tile;
    gemm_args a = g->a;
    int steps = steps_of(g, t);
    a.steps = (steps + v->split - 1) / v->split;
    int split = (steps + a.steps - 1) / a.steps; /* parts that have any depth */
    a.stages = v->stages;
    a.tiles = (a.out + t->n - 1) / t->n;
    a.partial = (float *)partial;
    a.direct = a.direct && !partial;
    unsigned phases = (unsigned)phases_of(&a);
    dim3 grid = {(unsigned)blocks_along(g, t) / phases, (unsigned)split, phases};
    write(k, t->kernel, grid, 32 * t->warps, shared_of(v), &a);
    if (!partial)
        return;
    a.stages = split;
    grid = (dim3){(unsigned)(((int64_t)a.rows * ((a.out + 3) / 4) + 127) / 128), 1, 1};
    write(k, gemm_sum(), grid, 128, 0, &a);
}

/* Own candidate c; partial: memory for its partial sums. Nonzero: it does not take the product. */
static int run_own(k_ctx *k, const product *g, int c, void *partial)
{
    way v;
    if (c == FEW_ROWS) {
        if (!takes_few(g))
            return -1;
        dim3 grid = {(unsigned)((g->a.out + GEMM_COLUMNS - 1) / GEMM_COLUMNS), 1, 1};
        write(k, gemm_few(g->type, g->a.rows), grid, 128, 0, &g->a);
        return 0;
    }
    if (c == FEW_OUTPUTS) {
        if (!takes_outputs(g))
            return -1;
        dim3 grid;
        int shared;
        gemm_kernel kernel = gemm_outputs(g->type, &g->a, &grid, &shared);
        write(k, kernel, grid, 256, shared, &g->a);
        return 0;
    }
    if (!way_of(k, g, c, &v))
        return -1;
    run_way(k, g, &v, v.split > 1 ? partial : NULL);
    return 0;
}

/* With the tile that takes everything. */
static void run_any(k_ctx *k, const product *g)
{
    const gemm_tile *tiles = g->type == CUDA_F16 ? gemm_tiles_f16 : gemm_tiles_bf16;
    way v = {tiles + GEMM_SMALL, 0, 1, cuda_of(k)->sm < 80 ? 2 : 3};
    run_way(k, g, &v, NULL);
}

/* ---- measuring ---------------------------------------------------------------------------------
 */

typedef struct trial {
    const product *g;
    product stand_in;
    cuda_product p;
    void *data, *partial;
    size_t bytes, partial_bytes;
    int failed;
} trial;

static size_t bytes_of(k_tensor t)
{
    return t.dtype ? ((size_t)k_rows(t) * (size_t)t.ld * size_of(t.dtype) + 255) / 256 * 256 : 0;
}

static void trial_begin(k_ctx *k, trial *t)
{
    t->p = *t->g->p;
    k_tensor *list[] = {&t->p.x, &t->p.y, &t->p.row, &t->p.residual};
    for (int i = 0; i < 4; i++)
        t->bytes += bytes_of(*list[i]);
    t->partial_bytes = 256;
    for (int c = 0; c < TILED; c++) {
        way v;
        size_t need = way_of(k, t->g, c, &v) ? partial_of(t->g, v.split) : 0;
        t->partial_bytes = need > t->partial_bytes ? need : t->partial_bytes;
    }
    t->data = cuda_alloc(k->device, t->bytes, 0);
    t->partial = cuda_alloc(k->device, t->partial_bytes, 0);
    t->failed = !t->data || !t->partial;
    if (t->failed)
        return;
    gemm_fill(k, t->data, t->bytes);
    char *at = (char *)t->data;
    for (int i = 0; i < 4; i++) {
        list[i]->data = list[i]->dtype ? at : NULL;
        at += bytes_of(*list[i]);
    }
    t->stand_in = product_of(&t->p, t->g->form, t->g->type);
}

static void trial_end(k_ctx *k, trial *t)
{
    if (t->data)
        cuda_free(k->device, t->data, t->bytes);
    if (t->partial)
        cuda_free(k->device, t->partial, t->partial_bytes);
}

static int trial_run(k_ctx *k, int candidate, void *ctx)
{
    trial *t = (trial *)ctx;
    if (!t->data && !t->failed)
        trial_begin(k, t);
    if (t->failed)
        return -1;
    if (candidate < OWN)
        return run_own(k, &t->stand_in, candidate, t->partial);
    return cuda_library_run(k, candidate - OWN, &t->p, t->g->form);
}

static const char *name_of(int candidate)
{
    static _Thread_local char name[48];
    if (candidate >= OWN)
        return cuda_library_name(candidate - OWN);
    if (candidate >= FEW_ROWS)
        return candidate == FEW_ROWS ? "rows" : "outputs";
    way v = parts_of(CUDA_F16, candidate);
    snprintf(name, sizeof name, "%s%dx%dx%d split %d stages %d", v.hopper ? "wgmma " : "",
             v.tile->m, v.tile->n, v.tile->k, v.split, v.stages);
    return name;
}

/* Libraries copy slices first, so their times are their own. */
static const char *is_slice(k_tensor t)
{
    return t.dtype && t.ld > t.c ? " slice" : "";
}

static int choose(k_ctx *k, const product *g)
{
    const cuda_product *p = g->p;
    char key[160];
    snprintf(key, sizeof key, "%s %s %dx%dx%dx%d%s %dx%d s%d%s%s -> %s%s %d%s%s%s act %d", p->op,
             g->type == CUDA_F16 ? "f16" : "bf16", p->x.n, p->x.h, p->x.w, p->x.c,
             g->packed ? " packed" : is_slice(p->x), p->side, p->side, p->stride,
             g->a.phased ? " phases"
             : p->up     ? " up"
                         : "",
             p->pad || p->side == 1 ? "" : " end", p->y.dtype == K_F32 ? "f32" : "half",
             is_slice(p->y), g->a.out, p->row.dtype ? " row" : "",
             p->residual.dtype ? " residual" : "", is_slice(p->residual), p->act);
    trial t = {.g = g};
    cuda_choice c = {.key = key,
                     .candidates = OWN + (g->packed ? 0 : cuda_library_candidates(cuda_of(k))),
                     .guess = guess_of(k, g),
                     .libraries = OWN,
                     .run = trial_run,
                     .name = name_of,
                     .ctx = &t};
    int chosen = cuda_choose(k, &c);
    trial_end(k, &t);
    return chosen;
}

/* ---- choices, kept in the weight ---------------------------------------------------------------
 */

static uint64_t shape_of(const product *g)
{
    const gemm_args *a = &g->a;
    const uint32_t list[] = {
        (uint32_t)a->rows,
        (uint32_t)a->height << 16 ^ (uint32_t)a->width,
        (uint32_t)g->p->y.h << 16 ^ (uint32_t)g->p->y.w,
        (uint32_t)g->p->x.c,
        (uint32_t)(a->y_type | a->row_type << 4 | a->residual_type << 8 | a->act << 12 |
                   a->stride << 16 | a->pad << 20 | (g->p->up != 0) << 24 | g->type << 28),
        (uint32_t)(a->wide | a->direct << 4 | g->packed << 5 | (a->ld > g->p->x.c) << 1 |
                   (a->y_ld > g->p->y.c) << 2 | (a->residual_ld > g->p->residual.c) << 3),
    };
    uint64_t h = 1469598103934665603ull;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        h = (h ^ list[i] ^ h >> 29) * 0x9e3779b97f4a7c15ull;
    return h;
}

/* The candidate for this product. Picks are only ever added, so what a plan saw is what its frames
 * see; a weight whose list is full takes the guess for further shapes. */
static int pick(k_ctx *k, const product *g)
{
    k_weight *w = (k_weight *)g->p->w;
    uint64_t shape = shape_of(g);
    int count = __atomic_load_n(&w->pick_count, __ATOMIC_ACQUIRE);
    for (int i = 0; i < count; i++)
        if (w->picks[i].shape == shape)
            return w->picks[i].candidate;
    if (!k->planning || count == CUDA_PICKS)
        return guess_of(k, g);
    int chosen = choose(k, g);
    pthread_mutex_lock(&cuda_of(k)->lock);
    count = w->pick_count;
    if (count < CUDA_PICKS) {
        w->picks[count].shape = shape;
        w->picks[count].candidate = chosen;
        __atomic_store_n(&w->pick_count, count + 1, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&cuda_of(k)->lock);
    return chosen;
}

/* The type of halves that the product is computed in. */
static int half_of(const k_ctx *k, const cuda_product *p)
{
    if (p->x.dtype == K_F16 || p->x.dtype == K_BF16)
        return p->x.dtype;
    return p->y.dtype == K_F16 || p->y.dtype == K_BF16 ? p->y.dtype : k->real;
}

/* x of q as a dense tensor of halves, which is still to be made; returns its bytes. */
static size_t pack_of(const product *g, cuda_product *q, int dtype)
{
    q->x.c = q->x.ld = g->a.c;
    q->x.dtype = dtype;
    q->x.data = NULL;
    return bytes_of(q->x);
}

static void run(k_ctx *k, const product *g, int c, void *partial)
{
    if (c >= OWN) {
        if (cuda_library_run(k, c - OWN, g->p, g->form) && !k->planning)
            run_any(k, g);
    } else if (!k->planning && !k->status && run_own(k, g, c, partial))
        run_any(k, g);
}

void cuda_gemm(k_ctx *k, const cuda_product *p)
{
    int dtype = half_of(k, p);
    int kind = p->act == K_GEGLU ? CUDA_FILTER_PAIR : is_phased(p) ? CUDA_FILTER_UP : CUDA_FILTER;
    const cuda_form *form = cuda_form_of(k, p->op, p->w, kind, dtype);
    if (!form)
        return;
    product g = product_of(p, form, dtype == K_F16 ? CUDA_F16 : CUDA_BF16);
    cuda_product q = *p;
    size_t room = 0;
    if (!in_pieces(&g)) {
        room = pack_of(&g, &q, dtype);
        g = product_of(&q, form, g.type);
        g.packed = 1;
    }
    int c = pick(k, &g);
    if (k->status)
        return;
    way v;
    size_t need = c < FEW_ROWS && way_of(k, &g, c, &v) ? partial_of(&g, v.split) : 0;
    char *scratch = room + need ? (char *)cuda_scratch(k, p->op, room + need) : NULL;
    if (g.packed && scratch) {
        gemm_pack(k, scratch, dtype, p->x);
        g.a.x = scratch;
    }
    run(k, &g, c, need && scratch ? scratch + room : NULL);
}
