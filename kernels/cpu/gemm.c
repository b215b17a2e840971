/* gemm.c - the matrix product behind linear and conv: packing of rows, blocks, threads.
 *
 * Two phases over a pass of rows: all threads pack them, then share items of some rows and some
 * panels. An item runs its panels over its rows for one block of the reduction after the other;
 * finished tiles leave through the epilogue while they are in the first cache.
 */
#include "cpu.h"

#include <omp.h>
#include <string.h>

enum {
    PASS_FLOATS = 1 << 18, /* of packed rows, for each thread: most of a second cache */
    DEPTH = 512,           /* reduction in one block: a panel of it fits half of a small L2 */
    ROWS = 384,            /* rows of an item; many, so that widening weights costs little */
    ROWS_RAW = 1024,       /* the same where weights are also taken from their file's order */
    SUMS = 192 * 1024,     /* floats of unfinished tiles that one item may hold */
    SMALL = 1 << 18,       /* multiplications that are not worth waking a thread for */
};

typedef struct plan {
    int depth, depth16, blocks, block; /* reduction: in all, padded, blocks, size of each */
    int groups, panels;                /* panels: of one group */
    int64_t pass;                      /* rows of a pass */
    int tiles, row_items, tiles_each;  /* of a pass: micro-tiles; items; micro-tiles of one */
    int panel_items, panels_each;
    int threads, raw, size; /* raw: weights from the file; size: of an element */
    size_t a_floats, sums_floats, panel_floats; /* scratch: shared; of one thread */
} plan;

static int divide_up(int64_t n, int64_t by)
{
    return (int)((n + by - 1) / by);
}

static void plan_reduction(plan *l, const k_weight_desc *w)
{
    l->depth = w->in * w->kh * w->kw;
    l->depth16 = round_up(l->depth, CHUNK);
    l->blocks = divide_up(l->depth16, DEPTH);
    l->block = round_up(divide_up(l->depth16, l->blocks), CHUNK);
    l->blocks = divide_up(l->depth16, l->block);
}

/* Panels of an item, `most` or fewer: as many as keep the busiest thread's share smallest. */
static int even_panels(const plan *l, int64_t most)
{
    int best = 1, least = l->row_items * l->panels;
    for (int each = 1; each <= most; each++) {
        int items = l->row_items * divide_up(l->panels, each);
        if (divide_up(items, l->threads) * each <= least) {
            least = divide_up(items, l->threads) * each;
            best = each;
        }
    }
    return best;
}

static plan plan_of(const cpu_device *d, const cpu_product *p)
{
    const k_weight_desc *w = &p->w->desc;
    plan l = {.groups = p->act == K_GEGLU ? 2 : 1};
    int mr = d->simd->mr, nr = d->simd->nr;
    l.raw = cpu_stays(d, w);
    l.size = (int)k_size(w->weight[0].dtype);
    plan_reduction(&l, w);
    l.threads = p->rows * l.depth * w->out < SMALL ? 1 : d->threads;
    l.panels = cpu_panels(d, w->out / l.groups);
    int64_t most = (int64_t)PASS_FLOATS * l.threads / l.depth16, rows = l.raw ? ROWS_RAW : ROWS;
    l.pass = divide_up(p->rows, divide_up(p->rows, most < rows ? rows : most));
    l.tiles = divide_up(l.pass, mr);
    l.row_items = divide_up(l.pass, rows);
    l.tiles_each = divide_up(l.tiles, l.row_items);
    l.row_items = divide_up(l.tiles, l.tiles_each);
    int64_t tile = (int64_t)l.tiles_each * mr * nr * l.groups;
    int64_t each = divide_up(l.panels, divide_up(4 * l.threads, l.row_items));
    if (l.blocks > 1 && each > SUMS / tile)
        each = SUMS / tile;
    l.panels_each = even_panels(&l, each);
    l.panel_items = divide_up(l.panels, l.panels_each);
    l.a_floats = (size_t)l.pass * (size_t)l.depth16;
    l.sums_floats = (size_t)(l.blocks > 1 ? l.panels_each * tile : tile);
    l.panel_floats = (size_t)l.block * (size_t)nr;
    return l;
}

static size_t thread_floats(const plan *l)
{
    return l->sums_floats + 2 * l->panel_floats;
}

/* ---- rows ---------------------------------------------------------------------------------------
 */

const float *cpu_pixel(const cpu_source *s, int64_t image, int y, int x)
{
    int h = s->h << s->up, w = s->w << s->up;
    if (y < 0 || x < 0 || y >= h || x >= w)
        return NULL;
    return s->x + ((image * s->h + (y >> s->up)) * s->w + (x >> s->up)) * s->ld;
}

void cpu_pack_row(const cpu_device *d, const cpu_source *s, int64_t row, float *to, int64_t step)
{
    int64_t image = row / ((int64_t)s->oh * s->ow);
    int at = (int)(row % ((int64_t)s->oh * s->ow)), oy = at / s->ow, ox = at % s->ow;
    int taps = s->k * s->k, whole = s->c % CHUNK == 0;
    for (int tap = 0, k = 0; tap < taps; tap++) {
        const float *from = cpu_pixel(s, image, oy * s->stride + tap / s->k - s->pad,
                                      ox * s->stride + tap % s->k - s->pad);
        if ((whole || taps == 1) && from) {
            d->simd->pack(to + k / CHUNK * step, step, from, s->c, 1.0f);
            k += s->c;
            continue;
        }
        for (int c = 0; c < s->c; c++, k++)
            to[k / CHUNK * step + k % CHUNK] = from ? from[c] : 0;
    }
    for (int k = taps * s->c; !whole && k % CHUNK; k++)
        to[k / CHUNK * step + k % CHUNK] = 0;
}

/* Tiles of rows as even as can be: tile t of `tiles` begins at row t * rows / tiles. */
static int64_t tile_start(int64_t rows, int tiles, int t)
{
    return rows * t / tiles;
}

/* ---- columns
 * -------------------------------------------------------------------------------------- */

/* Panel p (of all groups), depths [k0, k1), as floats. */
static const float *panel_floats(const cpu_device *d, const plan *l, const cpu_product *p,
                                 const cpu_form *f, int panel, int k0, int k1, float *spare)
{
    const k_weight_desc *w = &p->w->desc;
    int dtype = w->weight[0].dtype, nr = d->simd->nr;
    int64_t count = (int64_t)(k1 - k0) * nr;
    const char *from;
    if (l->raw) {
        int each = w->out / l->groups, at = panel % l->panels * nr;
        int end = k1 < l->depth ? k1 : l->depth;
        float *moved = spare + l->panel_floats;
        memset(moved, 0, (size_t)count * (size_t)l->size);
        cpu_fill_panel(d, w, panel / l->panels * each + at, each - at < nr ? each - at : nr, k0,
                       end, moved);
        from = (const char *)moved;
    } else {
        from = (const char *)f->data +
               ((size_t)panel * (size_t)l->depth16 + (size_t)k0) * (size_t)nr * (size_t)l->size;
    }
    if (dtype == K_F32)
        return (const float *)from;
    d->simd->widen(spare, from, dtype, count);
    return spare;
}

/* ---- items
 * ----------------------------------------------------------------------------------------- */

void cpu_finish(const cpu_device *d, const cpu_product *p, const cpu_form *f, int panel, int rows,
                const float *sums, const float *gates, simd_out *o)
{
    int nr = d->simd->nr;
    o->first = panel * nr;
    o->cols = p->y.c - o->first < nr ? p->y.c - o->first : nr;
    o->bias = f->bias + o->first;
    o->act = p->act;
    if (gates)
        d->simd->epilogue_geglu(sums, gates, o->bias + cpu_panels(d, p->y.c) * nr, rows, o);
    else
        d->simd->epilogue(sums, rows, o);
}

void cpu_rows_out(const cpu_product *p, int64_t row, int rows, simd_out *o)
{
    o->row[0] = o->residual[0] = NULL;
    for (int i = 0; i < rows; i++) {
        o->y[i] = cpu_row(p->y, row + i);
        if (p->residual.dtype)
            o->residual[i] = cpu_row(p->residual, row + i);
        if (p->row.dtype)
            o->row[i] = cpu_row(p->row, (row + i) / ((int64_t)p->a.oh * p->a.ow));
    }
}

/* The lines of y that a tile will be written to, fetched while the tile is computed. */
static void expect_tile(const cpu_product *p, int64_t row, int rows, int first, int nr)
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < nr && first + j < p->y.c; j += 16)
            __builtin_prefetch(cpu_row(p->y, row + i) + first + j, 1);
}

/* rows, tiles: of this pass, which begins at row `first` */
static void run_item(const cpu_device *d, const plan *l, const cpu_product *p, const cpu_form *f,
                     int item, int64_t first, int64_t rows, int tiles, const float *a, float *own)
{
    int nr = d->simd->nr, t0 = item % l->row_items * l->tiles_each;
    int t1 = tiles < t0 + l->tiles_each ? tiles : t0 + l->tiles_each;
    int p0 = item / l->row_items * l->panels_each;
    int p1 = l->panels < p0 + l->panels_each ? l->panels : p0 + l->panels_each;
    float *sums = own, *spare = own + l->sums_floats;
    simd_out o;
    int64_t group = (int64_t)l->tiles_each * d->simd->mr * nr, start = tile_start(rows, tiles, t0);
    for (int b = 0; b < l->blocks; b++) {
        int k0 = b * l->block, k1 = l->depth16 < k0 + l->block ? l->depth16 : k0 + l->block;
        for (int i = 0; i < (p1 - p0) * l->groups; i++) {
            int panel = p0 + i / l->groups, g = i % l->groups;
            int last = b == l->blocks - 1 && g == l->groups - 1;
            float *c = sums + (l->blocks > 1 ? (panel - p0) * group * l->groups : 0);
            const float *w = panel_floats(d, l, p, f, panel + g * l->panels, k0, k1, spare);
            for (int t = t0; t < t1; t++) {
                int64_t r0 = tile_start(rows, tiles, t);
                int count = (int)(tile_start(rows, tiles, t + 1) - r0);
                float *tile = c + (r0 - start) * nr;
                if (last)
                    expect_tile(p, first + r0, count, panel * nr, nr);
                d->simd->tile(count, (k1 - k0) / CHUNK, a + r0 * l->depth16 + (int64_t)k0 * count,
                              w, tile + g * group, b > 0);
                if (last) {
                    cpu_rows_out(p, first + r0, count, &o);
                    cpu_finish(d, p, f, panel, count, tile, l->groups == 2 ? tile + group : NULL,
                               &o);
                }
            }
        }
    }
}

/* Runs inside of a parallel region: each loop is shared by its threads. */
static void run_pass(const cpu_device *d, const plan *l, const cpu_product *p, const cpu_form *f,
                     int64_t first, float *a, float *own)
{
    int64_t rows = p->rows - first < l->pass ? p->rows - first : l->pass;
    int tiles = divide_up(rows, d->simd->mr), items = l->row_items * l->panel_items;
#pragma omp for schedule(static)
    for (int t = 0; t < tiles; t++) {
        int64_t r0 = tile_start(rows, tiles, t), r1 = tile_start(rows, tiles, t + 1);
        for (int64_t r = r0; r < r1; r++)
            cpu_pack_row(d, &p->a, first + r, a + r0 * l->depth16 + (r - r0) * CHUNK,
                         (r1 - r0) * CHUNK);
    }
#pragma omp for schedule(dynamic, 1)
    for (int i = 0; i < items; i++)
        run_item(d, l, p, f, i, first, rows, tiles, a, own);
}

void cpu_gemm(k_ctx *k, const cpu_product *p)
{
    const cpu_device *d = cpu_of(k);
    plan l = plan_of(d, p);
    int kind = l.raw ? CPU_BIAS : CPU_PANELS;
    if (l.groups == 2)
        kind = l.raw ? CPU_BIAS_PAIR : CPU_PANELS_PAIR;
    const cpu_form *f = cpu_form_of(k, p->op, p->w, kind);
    size_t each = thread_floats(&l);
    float *a = cpu_scratch(k, p->op, 4 * (l.a_floats + each * (size_t)l.threads));
    if (k->planning || k->status)
        return;
#pragma omp parallel num_threads(l.threads)
    {
        float *own = a + l.a_floats + each * (size_t)omp_get_thread_num();
        for (int64_t first = 0; first < p->rows; first += l.pass)
            run_pass(d, &l, p, f, first, a, own);
    }
}
