/* winograd.c - 3 x 3 convolution of stride 1 as (m + 2)^2 small matrix products.
 *
 * Three phases over a pass of tiles: pixels to positions, one product for each position, sums to
 * pixels with the epilogue. With few weights a pass is a block of tiles that one thread takes
 * through all phases inside of its second cache, weights beside it. With many, all threads share a
 * pass that is as large as its two arrays fit the last cache, so that weights are read rarely.
 *
 *   v  [position][in / 16][...]   A's layout: micro-tiles of up to mr tiles
 *   c  [position][panel][tile][nr]
 *
 * A doubled picture has equal neighbours, so the positions of the point -1 (row or column 2) are
 * zero: they are left out, 11 of 36 products.
 */
#include "cpu.h"

#include <omp.h>
#include <string.h>

enum {
    PASS_FLOATS = 6 << 20,  /* v and c of a shared pass: 24 MiB */
    BLOCK_FLOATS = 1 << 16, /* the same of a block */
    FEW_FLOATS = 1 << 16,   /* weights of a convolution that runs in blocks */
    GROUP = 4,              /* panels of one item */
};

typedef struct shape {
    int m, side, positions, up;
    int tiles_y, tiles_x, in16, panels, nr, mr;
    int blocks;                  /* 1: each thread takes passes of its own */
    int64_t tiles, pass, passes; /* tiles in all, the most in one pass, and how many passes */
    int64_t v_step, c_step;      /* floats from one position to the next */
} shape;

/* One convolution that runs. */
typedef struct job {
    const cpu_device *d;
    const cpu_product *p;
    const shape *s;
    const cpu_form *f;
    const float *zeros; /* a pixel outside of the picture */
} job;

/* An odd number of cache lines: positions a power of two apart would share few sets of a cache. */
static int64_t spread(int64_t floats)
{
    return ((floats + 15) / 16 | 1) * 16;
}

static shape shape_of(const cpu_device *d, const cpu_product *p, int m)
{
    shape s = {.m = m, .side = m + 2, .positions = (m + 2) * (m + 2), .up = p->a.up};
    s.tiles_y = (p->a.oh + m - 1) / m;
    s.tiles_x = (p->a.ow + m - 1) / m;
    s.in16 = round_up(p->a.c, CHUNK);
    s.nr = d->simd->nr;
    s.mr = d->simd->mr;
    s.panels = cpu_panels(d, p->y.c);
    s.tiles = (int64_t)p->y.n * s.tiles_y * s.tiles_x;
    int64_t columns = s.panels * s.nr, weights = s.positions * s.in16 * columns;
    s.blocks = weights <= FEW_FLOATS;
    int64_t most = (s.blocks ? BLOCK_FLOATS : PASS_FLOATS) / (s.positions * (s.in16 + columns));
    if (most < s.mr)
        most = s.mr;
    /* Blocks in a multiple of the threads, so that none waits for long. */
    int64_t even = s.blocks ? d->threads : 1;
    s.passes = (s.tiles + most * even - 1) / (most * even) * even;
    s.passes = s.passes < s.tiles ? s.passes : s.tiles;
    s.pass = (s.tiles + s.passes - 1) / s.passes;
    s.v_step = spread(s.pass * s.in16);
    s.c_step = spread(s.pass * columns);
    return s;
}

/* Micro-tiles of a pass, and the first tile of each: as even as can be. */
static int micro_tiles(const shape *s, int tiles)
{
    return (tiles + s->mr - 1) / s->mr;
}

static int micro_start(int tiles, int count, int t)
{
    int rest = tiles % count;
    return tiles / count * t + (t < rest ? t : rest);
}

/* ---- one tile ----------------------------------------------------------------------------------
 */

typedef struct place {
    int image, y, x; /* of its first pixel in y */
} place;

static place place_of(const shape *s, int64_t tile)
{
    int each = s->tiles_y * s->tiles_x, image = (int)(tile / each), at = (int)(tile % each);
    return (place){image, at / s->tiles_x * s->m, at % s->tiles_x * s->m};
}

/* The pixels of x that one tile reads, `reach` a side. */
static void tile_pixels(const job *j, int64_t tile, int reach, const float **pixels)
{
    const cpu_source *a = &j->p->a;
    place at = place_of(j->s, tile);
    int y0 = (at.y >> a->up) - 1, x0 = (at.x >> a->up) - 1;
    int inside = y0 >= 0 && x0 >= 0 && y0 + reach <= a->h && x0 + reach <= a->w;
    const float *first = a->x + (((int64_t)at.image * a->h + y0) * a->w + x0) * a->ld;
    for (int y = 0; y < reach; y++, first += a->w * a->ld)
        for (int x = 0; x < reach; x++, pixels++) {
            *pixels = first + x * a->ld;
            if (!inside && (y0 + y < 0 || y0 + y >= a->h || x0 + x < 0 || x0 + x >= a->w))
                *pixels = j->zeros;
        }
}

/* All channels of one tile into row `row` of a micro-tile of `rows` that begins at v. */
static void tile_in(const job *j, int64_t tile, float *v, int row, int rows)
{
    const shape *s = j->s;
    const float *pixels[36];
    float rest[36][CHUNK];
    int reach = s->up ? s->m / 2 + 2 : s->side, c = j->p->a.c, whole = c / CHUNK;
    tile_pixels(j, tile, reach, pixels);
    j->d->simd->wino_in(s->m, s->up, pixels, whole, v + row * CHUNK, rows * CHUNK, s->v_step);
    if (c % CHUNK == 0)
        return;
    memset(rest, 0, sizeof rest);
    for (int i = 0; i < reach * reach; i++) {
        memcpy(rest[i], pixels[i] + whole * CHUNK, 4 * (size_t)(c % CHUNK));
        pixels[i] = rest[i];
    }
    j->d->simd->wino_in(s->m, s->up, pixels, 1, v + (whole * rows + row) * CHUNK, 0, s->v_step);
}

/* All panels of one tile to pixels. */
static void tile_out(const job *j, int64_t tile, const float *c)
{
    _Alignas(64) float sums[16 * MAX_NR];
    const cpu_product *p = j->p;
    const shape *s = j->s;
    place at = place_of(s, tile);
    int high = p->a.oh - at.y < s->m ? p->a.oh - at.y : s->m, rows = 0;
    int wide = p->a.ow - at.x < s->m ? p->a.ow - at.x : s->m;
    simd_out o;
    o.row[0] = o.residual[0] = NULL;
    for (int y = 0; y < high; y++) {
        int64_t first = ((int64_t)at.image * p->a.oh + at.y + y) * p->a.ow + at.x;
        for (int x = 0; x < wide; x++, rows++) {
            o.y[rows] = cpu_row(p->y, first + x);
            if (p->residual.dtype)
                o.residual[rows] = cpu_row(p->residual, first + x);
            if (p->row.dtype)
                o.row[rows] = cpu_row(p->row, at.image);
        }
    }
    for (int panel = 0; panel < s->panels; panel++, c += s->pass * s->nr) {
        j->d->simd->wino_out(s->m, s->up, c, s->c_step, sums);
        for (int y = 1; wide < s->m && y < high; y++) /* at an edge: close the gaps */
            memmove(sums + y * wide * s->nr, sums + y * s->m * s->nr, 4 * (size_t)(wide * s->nr));
        cpu_finish(j->d, p, j->f, panel, rows, sums, NULL, &o);
    }
}

/* ---- phases: item i of each, for a pass of `tiles` from tile `first` on ------------------------
 */

static void phase_in(const job *j, int64_t first, int tiles, int i, float *v)
{
    int count = micro_tiles(j->s, tiles);
    int t0 = micro_start(tiles, count, i), t1 = micro_start(tiles, count, i + 1);
    for (int t = t0; t < t1; t++)
        tile_in(j, first + t, v + (int64_t)t0 * j->s->in16, t - t0, t1 - t0);
}

static int product_items(const shape *s)
{
    return s->positions * ((s->panels + GROUP - 1) / GROUP);
}

static void phase_product(const job *j, int tiles, int i, const float *v, float *c)
{
    const shape *s = j->s;
    int position = i % s->positions, p0 = i / s->positions * GROUP;
    int p1 = p0 + GROUP < s->panels ? p0 + GROUP : s->panels, count = micro_tiles(s, tiles);
    int64_t w_panel = (int64_t)s->in16 * s->nr;
    if (s->up && (position / s->side == 2 || position % s->side == 2))
        return;
    for (int panel = p0; panel < p1; panel++) {
        const float *w = (float *)j->f->data + ((int64_t)position * s->panels + panel) * w_panel;
        const float *a = v + position * s->v_step;
        float *to = c + position * s->c_step + panel * s->pass * s->nr;
        for (int t = 0; t < count; t++) {
            int rows = micro_start(tiles, count, t + 1) - micro_start(tiles, count, t);
            j->d->simd->tile(rows, s->in16 / CHUNK, a, w, to, 0);
            a += (int64_t)rows * s->in16;
            to += rows * s->nr;
        }
    }
}

static void phase_out(const job *j, int64_t first, int64_t i, const float *c)
{
    tile_out(j, first + i, c + i * j->s->nr);
}

/* ---- passes ------------------------------------------------------------------------------------
 */

/* A pass of one thread. */
static void run_block(const job *j, int64_t first, int tiles, float *v, float *c)
{
    for (int i = 0; i < micro_tiles(j->s, tiles); i++)
        phase_in(j, first, tiles, i, v);
    for (int i = 0; i < product_items(j->s); i++)
        phase_product(j, tiles, i, v, c);
    for (int i = 0; i < tiles; i++)
        phase_out(j, first, i, c);
}

/* Runs inside of a parallel region: each loop is shared by its threads. */
static void run_shared(const job *j, int64_t first, int tiles, float *v, float *c)
{
#pragma omp for schedule(dynamic, 1)
    for (int i = 0; i < micro_tiles(j->s, tiles); i++)
        phase_in(j, first, tiles, i, v);
#pragma omp for schedule(dynamic, 1)
    for (int i = 0; i < product_items(j->s); i++)
        phase_product(j, tiles, i, v, c);
#pragma omp for schedule(dynamic, 4)
    for (int i = 0; i < tiles; i++)
        phase_out(j, first, i, c);
}

void cpu_winograd(k_ctx *k, const cpu_product *p, int m)
{
    const cpu_device *d = cpu_of(k);
    shape s = shape_of(d, p, m);
    const cpu_form *f = cpu_form_of(k, p->op, p->w, m == 2 ? CPU_WINOGRAD_2 : CPU_WINOGRAD_4);
    size_t v_floats = (size_t)(s.positions * s.v_step), c_floats = (size_t)(s.positions * s.c_step);
    size_t owners = s.blocks ? (size_t)d->threads : 1;
    float *zeros = cpu_scratch(k, p->op, 4 * ((size_t)s.in16 + owners * (v_floats + c_floats)));
    if (k->planning || k->status)
        return;
    memset(zeros, 0, 4 * (size_t)s.in16);
    job j = {d, p, &s, f, zeros};
#pragma omp parallel num_threads(d->threads)
    if (s.blocks) {
        float *v = zeros + s.in16 + (size_t)omp_get_thread_num() * (v_floats + c_floats);
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < s.passes; i++) {
            int64_t t0 = s.tiles * i / s.passes, t1 = s.tiles * (i + 1) / s.passes;
            run_block(&j, t0, (int)(t1 - t0), v, v + v_floats);
        }
    } else {
        for (int64_t first = 0; first < s.tiles; first += s.pass) {
            int tiles = (int)(s.tiles - first < s.pass ? s.tiles - first : s.pass);
            run_shared(&j, first, tiles, zeros + s.in16, zeros + s.in16 + v_floats);
        }
    }
}
