/* winograd.c - 3 x 3 convolution of stride 1 as (m + 2)^2 small matrix products.
 *
 * Three phases over a pass of tiles: pixels to positions, one product for each position, sums to
 * pixels with the epilogue. A pass is as large as its two arrays fit the last cache.
 *
 *   v  [position][in / 16][...]   A's layout: micro-tiles of up to mr tiles
 *   c  [position][panel][tile][nr]
 */
#include "cpu.h"

#include <string.h>

enum { PASS_FLOATS = 6 << 20, GROUP = 4 }; /* 24 MiB of v and c; panels of one item */

typedef struct shape {
    int m, side, positions;
    int tiles_y, tiles_x, in16, panels, nr, mr;
    int64_t tiles, pass; /* tiles in all, and in one pass */
} shape;

static shape shape_of(const cpu_device *d, const cpu_product *p, int m)
{
    shape s = {.m = m, .side = m + 2, .positions = (m + 2) * (m + 2)};
    s.tiles_y = (p->a.oh + m - 1) / m;
    s.tiles_x = (p->a.ow + m - 1) / m;
    s.in16 = round_up(p->a.c, CHUNK);
    s.nr = d->simd->nr;
    s.mr = d->simd->mr;
    s.panels = cpu_panels(d, p->y.c);
    s.tiles = (int64_t)p->y.n * s.tiles_y * s.tiles_x;
    int64_t most = PASS_FLOATS / ((int64_t)s.positions * (s.in16 + s.panels * s.nr));
    if (most < s.mr)
        most = s.mr;
    int64_t passes = (s.tiles + most - 1) / most;
    s.pass = (s.tiles + passes - 1) / passes;
    return s;
}

/* Micro-tiles of a pass, as even as can be. */
static int micro_tiles(const shape *s, int64_t tiles)
{
    return (int)((tiles + s->mr - 1) / s->mr);
}

static int64_t micro_start(int64_t tiles, int count, int t)
{
    return tiles * t / count;
}

/* All channels of one tile into row `row` of a micro-tile of `rows` that begins at v. */
static void tile_in(const cpu_device *d, const cpu_product *p, const shape *s, int64_t tile,
                    float *v, int64_t stride, int row, int rows)
{
    static const float zeros[CHUNK];
    const float *pixels[36], *in[36];
    float rest[36][CHUNK];
    int64_t image = tile / (s->tiles_y * s->tiles_x);
    int at = (int)(tile % (s->tiles_y * s->tiles_x));
    int y0 = at / s->tiles_x * s->m - 1, x0 = at % s->tiles_x * s->m - 1;
    for (int i = 0; i < s->positions; i++)
        pixels[i] = cpu_pixel(&p->a, image, y0 + i / s->side, x0 + i % s->side);
    for (int c = 0; c < p->a.c; c += CHUNK) {
        int n = p->a.c - c;
        for (int i = 0; i < s->positions; i++) {
            in[i] = pixels[i] ? pixels[i] + c : zeros;
            if (n < CHUNK && pixels[i]) {
                memset(rest[i], 0, sizeof rest[i]);
                memcpy(rest[i], in[i], 4 * (size_t)n);
                in[i] = rest[i];
            }
        }
        d->simd->wino_in(s->m, in, v + (int64_t)c * rows + row * CHUNK, stride);
    }
}

/* One panel of one tile to pixels. */
static void tile_out(const cpu_device *d, const cpu_product *p, const shape *s, const cpu_form *f,
                     int64_t tile, int panel, const float *c, int64_t stride)
{
    _Alignas(64) float sums[16 * MAX_NR];
    int64_t image = tile / (s->tiles_y * s->tiles_x);
    int at = (int)(tile % (s->tiles_y * s->tiles_x));
    int y0 = at / s->tiles_x * s->m, x0 = at % s->tiles_x * s->m;
    int first = panel * s->nr, wide = p->a.ow - x0 < s->m ? p->a.ow - x0 : s->m;
    simd_out o = {.bias = f->bias + first, .act = p->act};
    o.cols = p->y.c - first < s->nr ? p->y.c - first : s->nr;
    d->simd->wino_out(s->m, c, stride, sums);
    for (int y = 0; y < s->m && y0 + y < p->a.oh; y++) {
        int64_t row = (image * p->a.oh + y0 + y) * p->a.ow + x0;
        for (int x = 0; x < wide; x++) {
            o.y[x] = cpu_row(p->y, row + x) + first;
            if (p->residual.dtype)
                o.residual[x] = cpu_row(p->residual, row + x) + first;
            if (p->row.dtype)
                o.row[x] = cpu_row(p->row, image) + first;
        }
        d->simd->epilogue(sums + y * s->m * s->nr, wide, &o);
    }
}

static void products(const cpu_device *d, const shape *s, const float *weights, int item,
                     int64_t tiles, const float *v, float *c)
{
    int groups = (s->panels + GROUP - 1) / GROUP, position = item / groups;
    int p0 = item % groups * GROUP, p1 = p0 + GROUP < s->panels ? p0 + GROUP : s->panels;
    int count = micro_tiles(s, tiles);
    int64_t w_panel = (int64_t)s->in16 * s->nr;
    for (int panel = p0; panel < p1; panel++) {
        const float *w = weights + ((int64_t)position * s->panels + panel) * w_panel;
        float *to = c + ((int64_t)position * s->panels + panel) * s->pass * s->nr;
        for (int t = 0; t < count; t++) {
            int64_t t0 = micro_start(tiles, count, t), t1 = micro_start(tiles, count, t + 1);
            d->simd->tile((int)(t1 - t0), s->in16 / CHUNK, v + (position * s->pass + t0) * s->in16,
                          w, to + t0 * s->nr, 0);
        }
    }
}

/* Runs inside of a parallel region: each loop is shared by its threads. */
static void run_pass(const cpu_device *d, const cpu_product *p, const shape *s, const cpu_form *f,
                     int64_t first, int64_t tiles, float *v, float *c)
{
    int count = micro_tiles(s, tiles), groups = (s->panels + GROUP - 1) / GROUP;
    int64_t v_stride = s->pass * s->in16, c_stride = s->panels * s->pass * s->nr;
#pragma omp for schedule(dynamic, 1)
    for (int t = 0; t < count; t++) {
        int64_t t0 = micro_start(tiles, count, t), t1 = micro_start(tiles, count, t + 1);
        for (int64_t i = t0; i < t1; i++)
            tile_in(d, p, s, first + i, v + t0 * s->in16, v_stride, (int)(i - t0), (int)(t1 - t0));
    }
#pragma omp for schedule(dynamic, 1)
    for (int i = 0; i < s->positions * groups; i++)
        products(d, s, f->data, i, tiles, v, c);
#pragma omp for schedule(dynamic, 4)
    for (int64_t i = 0; i < tiles; i++)
        for (int panel = 0; panel < s->panels; panel++)
            tile_out(d, p, s, f, first + i, panel, c + (panel * s->pass + i) * s->nr, c_stride);
}

void cpu_winograd(k_ctx *k, const cpu_product *p, int m)
{
    const cpu_device *d = cpu_of(k);
    shape s = shape_of(d, p, m);
    const cpu_form *f = cpu_form_of(k, p->op, p->w, m == 2 ? CPU_WINOGRAD_2 : CPU_WINOGRAD_4);
    size_t v_floats = (size_t)(s.positions * s.pass * s.in16);
    size_t c_floats = (size_t)(s.positions * s.pass * s.panels * s.nr);
    float *v = cpu_scratch(k, p->op, 4 * (v_floats + c_floats));
    if (k->planning || k->status)
        return;
#pragma omp parallel num_threads(d->threads)
    for (int64_t first = 0; first < s.tiles; first += s.pass) {
        int64_t tiles = s.tiles - first < s.pass ? s.tiles - first : s.pass;
        run_pass(d, p, &s, f, first, tiles, v, v + v_floats);
    }
}
