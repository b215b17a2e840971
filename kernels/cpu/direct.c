/* direct.c - 3 x 3 convolutions with few weights, as products that read pixels where they lie.
 *
 * A line of the filter over dense pixels is one run of floats, so a row of A is three runs of x,
 * and a micro-tile, some neighbours in a line of y, needs no packing, which with a short reduction
 * costs as much as the product. Only micro-tiles that see beyond the picture are packed first.
 *
 * Up to SIMD_FEW outputs would leave a panel's columns empty: those are dot products instead, with
 * vectors along the reduction.
 */
#include "cpu.h"

#include <omp.h>

enum {
    DEPTH = 512,      /* reduction at most: a panel of it leaves room in the first cache */
    FLOATS = 1 << 16, /* of all panels, which each thread widens for itself */
    ITEMS = 8,        /* for each thread */
};

/* What a thread has: weights as floats, one packed micro-tile, and its sums. */
typedef struct own {
    const float *b;
    float *packed, *sums;
} own;

typedef struct job {
    const cpu_device *d;
    const cpu_product *p;
    const cpu_form *f;
    int few;           /* dot products */
    int depth, panels; /* depth: with few, as it is; else padded to CHUNK */
    int rows, tiles;   /* of a micro-tile at most; micro-tiles of a line */
    size_t a_floats, b_floats, c_floats;
} job;

static job job_of(const cpu_device *d, const cpu_product *p)
{
    const k_weight_desc *w = &p->w->desc;
    job j = {.d = d, .p = p, .few = w->out <= SIMD_FEW && w->in % CHUNK == 0};
    j.depth = round_up(w->in * w->kh * w->kw, CHUNK);
    j.panels = cpu_panels(d, w->out);
    j.rows = j.few ? simd_dots_rows(w->out) : d->simd->mr;
    j.tiles = (p->a.ow + j.rows - 1) / j.rows;
    j.a_floats = (size_t)(j.depth * j.rows);
    j.b_floats = j.few ? 0 : (size_t)(j.depth * j.panels * d->simd->nr);
    j.c_floats = (size_t)(j.rows * d->simd->nr);
    return j;
}

int cpu_direct_fits(const cpu_device *d, const cpu_product *p)
{
    job j = job_of(d, p);
    return p->a.k == 3 && !p->a.up && p->a.ld == p->a.c && !cpu_stays(d, &p->w->desc) &&
           p->a.ow >= 2 * j.rows && (j.few || (j.depth <= DEPTH && j.b_floats <= FLOATS));
}

/* Does the filter at this pixel of y see nothing but the picture? */
static int inside(const cpu_source *s, int oy, int ox)
{
    int y = oy * s->stride - s->pad, x = ox * s->stride - s->pad;
    return y >= 0 && x >= 0 && y + s->k <= s->h && x + s->k <= s->w;
}

/* Rows of A for the pixels [x0, x0 + count) of a line (of all images) of y. */
static simd_runs rows_of(const job *j, const own *o, int64_t line, int x0, int count)
{
    const cpu_source *a = &j->p->a;
    int oy = (int)(line % a->oh);
    if (inside(a, oy, x0) && inside(a, oy, x0 + count - 1)) {
        int y = oy * a->stride - a->pad, x = x0 * a->stride - a->pad;
        return (simd_runs){.a = cpu_pixel(a, line / a->oh, y, x),
                           .step = a->stride * a->ld,
                           .jump = a->w * a->ld,
                           .runs = a->k,
                           .run = a->k * a->c};
    }
    for (int i = 0; i < count; i++)
        cpu_pack_row(j->d, a, line * a->ow + x0 + i, o->packed + i * j->depth, CHUNK);
    return (simd_runs){.a = o->packed, .step = j->depth, .runs = 1, .run = j->depth};
}

/* All panels of the pixels [x0, x1) of a line. `dots` takes whole micro-tiles alone, so the last
 * one of a line begins before x0 and its first sums are left. */
static void run_tile(const job *j, const own *o, int64_t line, int x0, int x1)
{
    int nr = j->d->simd->nr, ow = j->p->a.ow, rows = x1 - x0;
    int from = j->few && ow - x0 < j->rows ? ow - j->rows : x0;
    simd_runs a = rows_of(j, o, line, from, j->few ? j->rows : rows);
    simd_out out;
    cpu_rows_out(j->p, line * ow + x0, rows, &out);
    for (int panel = 0; panel < j->panels; panel++) {
        if (j->few)
            j->d->simd->dots(j->p->y.c, &a, o->b, o->sums);
        else
            j->d->simd->tile_runs(rows, &a, o->b + (int64_t)panel * j->depth * nr, o->sums);
        cpu_finish(j->d, j->p, j->f, panel, rows, o->sums + (x0 - from) * nr, NULL, &out);
    }
}

static void run_line(const job *j, const own *o, int64_t line)
{
    int ow = j->p->a.ow;
    for (int t = 0; t < j->tiles; t++)
        run_tile(j, o, line, ow * t / j->tiles, ow * (t + 1) / j->tiles);
}

void cpu_direct(k_ctx *k, const cpu_product *p)
{
    const cpu_device *d = cpu_of(k);
    int dtype = p->w->desc.weight[0].dtype;
    job j = job_of(d, p);
    j.f = cpu_form_of(k, p->op, p->w, j.few ? CPU_DOTS : CPU_PANELS);
    size_t each = j.a_floats + j.b_floats + j.c_floats;
    float *scratch = cpu_scratch(k, p->op, 4 * each * (size_t)d->threads);
    if (k->planning || k->status)
        return;
    int64_t lines = p->rows / p->a.ow, items = ITEMS * d->threads;
    items = lines < items ? lines : items;
#pragma omp parallel num_threads(d->threads)
    {
        float *b = scratch + each * (size_t)omp_get_thread_num();
        own o = {j.f->data, b + j.b_floats, b + j.b_floats + j.a_floats};
        if (!j.few && dtype != K_F32) {
            d->simd->widen(b, j.f->data, dtype, (int64_t)j.b_floats);
            o.b = b;
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < items; i++)
            for (int64_t line = lines * i / items; line < lines * (i + 1) / items; line++)
                run_line(&j, &o, line);
    }
}
