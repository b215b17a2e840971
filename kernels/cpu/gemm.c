/* gemm.c - the matrix product behind linear and conv: blocks, threads and packing of rows.
 *
 * The product is cut into items of some rows and some panels. A thread packs the rows of its
 * item for one block of the reduction, runs all its panels over them, and goes on to the next
 * block; finished tiles leave through the epilogue while they are in the first cache.
 */
#include "cpu.h"

#include <omp.h>
#include <string.h>

enum {
    DEPTH = 512,      /* reduction in one block: a panel of it fits half of a small L2 */
    ROWS = 96,        /* rows of an item */
    ROWS_RAW = 1024,  /* the same where each item widens its weights */
    SUMS = 96 * 1024, /* floats of unfinished tiles that one item may hold */
};

typedef struct plan {
    int depth, depth16, blocks, block; /* reduction: in all, padded, blocks, size of each */
    int groups, panels;                /* panels: of one group */
    int row_items, panel_items;        /* items each way */
    int64_t rows_each;                 /* rows of an item */
    int panels_each;
    int raw, size;                              /* weights: from the file; bytes of an element */
    size_t a_floats, sums_floats, panel_floats; /* scratch of one thread */
} plan;

static int divide_up(int64_t n, int64_t by)
{
    return (int)((n + by - 1) / by);
}

static plan plan_of(const cpu_device *d, const cpu_product *p)
{
    const k_weight_desc *w = &p->w->desc;
    plan l = {.groups = p->act == K_GEGLU ? 2 : 1, .raw = d->memory == K_MEMORY_LOW};
    l.size = (int)k_size(w->weight[0].dtype);
    l.depth = w->in * w->kh * w->kw;
    l.depth16 = round_up(l.depth, CHUNK);
    l.blocks = divide_up(l.depth16, DEPTH);
    l.block = round_up(divide_up(l.depth16, l.blocks), CHUNK);
    l.blocks = divide_up(l.depth16, l.block);
    l.panels = cpu_panels(d, w->out / l.groups);
    l.row_items = divide_up(p->rows, l.raw ? ROWS_RAW : ROWS);
    l.rows_each = divide_up(p->rows, l.row_items);
    int64_t tile = l.rows_each * d->simd->nr * l.groups;
    l.panel_items = l.blocks > 1 ? divide_up(l.panels * tile, SUMS) : 1;
    while (l.row_items * l.panel_items < 4 * d->threads && l.panel_items * 2 <= l.panels)
        l.panel_items *= 2;
    if (l.panel_items > l.panels)
        l.panel_items = l.panels;
    l.panels_each = divide_up(l.panels, l.panel_items);
    l.panel_items = divide_up(l.panels, l.panels_each);
    l.a_floats = (size_t)l.rows_each * (size_t)l.block;
    l.sums_floats = (size_t)(l.blocks > 1 ? l.panels_each * tile : tile);
    l.panel_floats = (size_t)l.block * (size_t)d->simd->nr;
    return l;
}

static size_t thread_floats(const plan *l)
{
    size_t floats = l->a_floats + l->sums_floats + 2 * l->panel_floats;
    return (floats + 15) / 16 * 16;
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

/* Depths [k0, k1) of one row to chunks that lie `step` floats apart; zero up to a whole chunk. */
static void pack_row(const cpu_source *s, int64_t row, int k0, int k1, float *to, int64_t step)
{
    int64_t image = row / ((int64_t)s->oh * s->ow);
    int at = (int)(row % ((int64_t)s->oh * s->ow)), oy = at / s->ow, ox = at % s->ow;
    int depth = s->k * s->k * s->c, end = k1 < depth ? k1 : depth, k = k0;
    while (k < end) {
        int tap = k / s->c, channel = k % s->c;
        int run = s->c - channel < end - k ? s->c - channel : end - k;
        const float *from = cpu_pixel(s, image, oy * s->stride + tap / s->k - s->pad,
                                      ox * s->stride + tap % s->k - s->pad);
        for (int part; run; run -= part, k += part, channel += part) {
            int lane = (k - k0) % CHUNK;
            float *chunk = to + (k - k0) / CHUNK * step + lane;
            part = CHUNK - lane < run ? CHUNK - lane : run;
            if (!from)
                memset(chunk, 0, 4 * (size_t)part);
            else if (part == CHUNK)
                memcpy(chunk, from + channel, 4 * CHUNK);
            else
                memcpy(chunk, from + channel, 4 * (size_t)part);
        }
    }
    for (; k < k1; k++)
        to[(k - k0) / CHUNK * step + (k - k0) % CHUNK] = 0;
}

/* Tiles of rows as even as can be: tile t of `tiles` begins at row t * rows / tiles. */
static int64_t tile_start(int64_t rows, int tiles, int t)
{
    return rows * t / tiles;
}

static void pack_rows(const plan *l, const cpu_source *s, int64_t first, int64_t rows, int tiles,
                      int k0, int k1, float *a)
{
    for (int t = 0; t < tiles; t++) {
        int64_t r0 = tile_start(rows, tiles, t), r1 = tile_start(rows, tiles, t + 1);
        for (int64_t r = r0; r < r1; r++)
            pack_row(s, first + r, k0, k1, a + r0 * l->block + (r - r0) * CHUNK, (r1 - r0) * CHUNK);
    }
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

static void finish_tile(const cpu_device *d, const plan *l, const cpu_product *p, const cpu_form *f,
                        int64_t row, int rows, int panel, const float *sums, int64_t group_stride)
{
    int nr = d->simd->nr, first = panel * nr;
    simd_out o = {.bias = f->bias + first, .act = p->act};
    o.cols = p->y.c - first < nr ? p->y.c - first : nr;
    for (int i = 0; i < rows; i++) {
        o.y[i] = cpu_row(p->y, row + i) + first;
        if (p->residual.dtype)
            o.residual[i] = cpu_row(p->residual, row + i) + first;
        if (p->row.dtype)
            o.row[i] = cpu_row(p->row, (row + i) / ((int64_t)p->a.oh * p->a.ow)) + first;
    }
    if (p->act == K_GEGLU)
        d->simd->epilogue_geglu(sums, sums + group_stride, o.bias + l->panels * nr, rows, &o);
    else
        d->simd->epilogue(sums, rows, &o);
}

static void run_item(const cpu_device *d, const plan *l, const cpu_product *p, const cpu_form *f,
                     int item, float *scratch)
{
    int nr = d->simd->nr;
    int64_t first = item % l->row_items * l->rows_each;
    int64_t rows = p->rows - first < l->rows_each ? p->rows - first : l->rows_each;
    int p0 = item / l->row_items * l->panels_each;
    int p1 = l->panels < p0 + l->panels_each ? l->panels : p0 + l->panels_each;
    int tiles = divide_up(rows, d->simd->mr);
    float *a = scratch, *sums = a + l->a_floats, *spare = sums + l->sums_floats;
    int64_t group = l->rows_each * nr;
    for (int b = 0; b < l->blocks; b++) {
        int k0 = b * l->block, k1 = l->depth16 < k0 + l->block ? l->depth16 : k0 + l->block;
        pack_rows(l, &p->a, first, rows, tiles, k0, k1, a);
        for (int panel = p0; panel < p1; panel++) {
            float *c = sums + (l->blocks > 1 ? (panel - p0) * group * l->groups : 0);
            for (int g = 0; g < l->groups; g++) {
                const float *w = panel_floats(d, l, p, f, panel + g * l->panels, k0, k1, spare);
                for (int t = 0; t < tiles; t++) {
                    int64_t r0 = tile_start(rows, tiles, t), r1 = tile_start(rows, tiles, t + 1);
                    float *tile = c + g * group + r0 * nr;
                    d->simd->tile((int)(r1 - r0), (k1 - k0) / CHUNK, a + r0 * l->block, w, tile,
                                  b > 0);
                    if (b == l->blocks - 1 && g == l->groups - 1)
                        finish_tile(d, l, p, f, first + r0, (int)(r1 - r0), panel, c + r0 * nr,
                                    group);
                }
            }
        }
    }
}

void cpu_gemm(k_ctx *k, const cpu_product *p)
{
    const cpu_device *d = cpu_of(k);
    plan l = plan_of(d, p);
    int kind = l.raw           ? l.groups == 2 ? CPU_BIAS_PAIR : CPU_BIAS
               : l.groups == 2 ? CPU_PANELS_PAIR
                               : CPU_PANELS;
    const cpu_form *f = cpu_form_of(k, p->op, p->w, kind);
    size_t each = thread_floats(&l);
    float *scratch = cpu_scratch(k, p->op, 4 * each * (size_t)d->threads);
    if (k->planning || k->status)
        return;
    int items = l.row_items * l.panel_items;
#pragma omp parallel for schedule(dynamic, 1) num_threads(d->threads)
    for (int i = 0; i < items; i++)
        run_item(d, &l, p, f, i, scratch + each * (size_t)omp_get_thread_num());
}
