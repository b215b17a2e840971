/* delta.c - low-rank changes of a weight: W' = W + sum of scale * up x down, written into all that
 * was prepared of it.
 *
 * The file's data is never touched, so taking a change away makes every form anew from it, bit by
 * bit what it was. Changed rows are made in the file's type and order, a few at a time, and then go
 * the way that rows of a file go; a weight that stays in its file's place gets a copy instead.
 *
 *   up    [out of the part][rank, padded to CHUNK], scaled
 *   down  [panel of nr columns][rank, padded][nr], over columns in the file's order
 *
 * Must stay true: nothing that ops read changes before all memory is there.
 */
#include "cpu.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 4 }; /* micro-tiles of rows that are made together */

/* What is added to a part. The plain changes of a part are one term: their ranks are stacked. */
typedef struct term {
    int rank;         /* of all its changes together, padded */
    float *up, *down; /* owned */
    float *magnitude; /* owned, [out of the part]; NULL: a plain term */
    size_t up_bytes, down_bytes, magnitude_bytes;
} term;

struct cpu_change {
    struct {
        term *term; /* owned */
        int terms;
        const void *file; /* the part as it lies in the file */
        void *copy;       /* owned: the changed part of a weight that stays; else NULL */
        size_t copy_bytes;
    } part[K_MAX_PARTS];
};

static int depth_of(const k_weight_desc *w)
{
    return w->in * w->kh * w->kw;
}

/* ---- factors ------------------------------------------------------------------------------------
 */

/* Rank rows [at, at + rank) of a term from one change. */
static void put_factors(const cpu_device *d, const k_weight_desc *w, const k_delta *c, term *t,
                        int at, float *line)
{
    int depth = depth_of(w), nr = d->simd->nr, each = w->out / w->parts;
    size_t up_size = k_size(c->up.dtype), down_size = k_size(c->down.dtype);
    for (int r = 0; r < c->rank; r++) {
        d->simd->widen(line, (const char *)c->down.data + (size_t)r * (size_t)depth * down_size,
                       c->down.dtype, depth);
        for (int i = 0; i < depth; i += nr)
            memcpy(t->down + ((int64_t)i / nr * t->rank + at + r) * nr, line + i,
                   4 * (size_t)(depth - i < nr ? depth - i : nr));
    }
    for (int o = 0; o < each; o++) {
        float *to = t->up + (int64_t)o * t->rank + at;
        d->simd->widen(to, (const char *)c->up.data + (size_t)o * (size_t)c->rank * up_size,
                       c->up.dtype, c->rank);
        for (int r = 0; r < c->rank; r++)
            to[r] *= c->scale;
    }
}

static int term_alloc(const cpu_device *d, const k_weight_desc *w, term *t, int rank, int magnitude)
{
    size_t panels = (size_t)cpu_panels(d, depth_of(w)), each = (size_t)(w->out / w->parts);
    t->rank = round_up(rank, CHUNK);
    t->up_bytes = 4 * each * (size_t)t->rank;
    t->down_bytes = 4 * panels * (size_t)t->rank * (size_t)d->simd->nr;
    t->magnitude_bytes = magnitude ? 4 * each : 0;
    t->up = cpu_alloc(t->up_bytes);
    t->down = cpu_alloc(t->down_bytes);
    t->magnitude = magnitude ? cpu_alloc(t->magnitude_bytes) : NULL;
    return t->up && t->down && (!magnitude || t->magnitude) ? 0 : -1;
}

/* All plain changes of a part as one term; then one for each with a magnitude. */
static int part_fill(const cpu_device *d, const k_weight_desc *w, const k_delta *list, int count,
                     int part, struct cpu_change *c, float *line)
{
    int plain = 0, terms = 0, at = 0;
    for (int i = 0; i < count; i++) {
        if (list[i].part != part)
            continue;
        plain += list[i].magnitude.data ? 0 : list[i].rank;
        terms += list[i].magnitude.data != NULL;
    }
    terms += plain > 0;
    c->part[part].term = terms ? calloc((size_t)terms, sizeof(term)) : NULL;
    if (terms && !c->part[part].term)
        return -1;
    term *t = c->part[part].term, *next = t + (plain > 0);
    c->part[part].terms = terms;
    if (plain && term_alloc(d, w, t, plain, 0))
        return -1;
    for (int i = 0; i < count; i++) {
        const k_delta *one = &list[i];
        if (one->part != part)
            continue;
        if (!one->magnitude.data) {
            put_factors(d, w, one, t, at, line);
            at += one->rank;
            continue;
        }
        if (term_alloc(d, w, next, one->rank, 1))
            return -1;
        put_factors(d, w, one, next, 0, line);
        d->simd->widen(next->magnitude, one->magnitude.data, one->magnitude.dtype,
                       w->out / w->parts);
        next++;
    }
    return 0;
}

static void term_free(term *t)
{
    if (t->up)
        cpu_free(t->up, t->up_bytes);
    if (t->down)
        cpu_free(t->down, t->down_bytes);
    if (t->magnitude)
        cpu_free(t->magnitude, t->magnitude_bytes);
}

static size_t change_bytes(const struct cpu_change *c)
{
    size_t bytes = 0;
    for (int p = 0; c && p < K_MAX_PARTS; p++) {
        bytes += c->part[p].copy_bytes;
        for (int i = 0; i < c->part[p].terms; i++) {
            const term *t = &c->part[p].term[i];
            bytes += t->up_bytes + t->down_bytes + t->magnitude_bytes;
        }
    }
    return bytes;
}

void cpu_change_free(cpu_device *d, struct cpu_change *c)
{
    if (!c)
        return;
    d->bytes -= change_bytes(c);
    d->changes--;
    for (int p = 0; p < K_MAX_PARTS; p++) {
        for (int i = 0; i < c->part[p].terms; i++)
            term_free(&c->part[p].term[i]);
        free(c->part[p].term);
        if (c->part[p].copy)
            cpu_free(c->part[p].copy, c->part[p].copy_bytes);
    }
    free(c);
}

/* What the changes of `list` make of w; NULL: no memory. */
static struct cpu_change *change_new(cpu_device *d, const k_weight *w, const k_delta *list,
                                     int count)
{
    const k_weight_desc *desc = &w->desc;
    int depth = depth_of(desc);
    struct cpu_change *c = calloc(1, sizeof *c);
    float *line = malloc(4 * (size_t)round_up(depth, MAX_NR));
    int failed = !c || !line;
    for (int p = 0; p < desc->parts && !failed; p++) {
        failed = part_fill(d, desc, list, count, p, c, line);
        c->part[p].file = w->change ? w->change->part[p].file : desc->weight[p].data;
        if (failed || !c->part[p].terms || !cpu_stays(d, desc) ||
            (w->change && w->change->part[p].copy)) /* replace hands it on */
            continue;
        c->part[p].copy_bytes =
            (size_t)(desc->out / desc->parts) * (size_t)depth * k_size(desc->weight[0].dtype);
        c->part[p].copy = cpu_alloc(c->part[p].copy_bytes);
        failed = !c->part[p].copy;
    }
    free(line);
    if (c) {
        d->bytes += change_bytes(c);
        d->changes++;
    }
    if (!failed)
        return c;
    cpu_change_free(d, c);
    return NULL;
}

/* ---- changed rows -------------------------------------------------------------------------------
 */

/* Floats that the making of rows needs of its own: up's rows, a tile of sums, and with magnitudes
 * three times some rows: of the file, with a change, and the result. */
static size_t spare_floats(const cpu_device *d, const k_weight *w)
{
    size_t most = 0, mr = (size_t)d->simd->mr, nr = (size_t)d->simd->nr;
    int magnitude = 0;
    for (int p = 0; p < w->desc.parts; p++)
        for (int i = 0; i < w->change->part[p].terms; i++) {
            const term *t = &w->change->part[p].term[i];
            most = most < (size_t)t->rank ? (size_t)t->rank : most;
            magnitude |= t->magnitude != NULL;
        }
    size_t row = (size_t)cpu_panels(d, depth_of(&w->desc)) * nr;
    return mr * (ROWS * most + nr) + (magnitude ? 3 * mr * row : 0);
}

size_t cpu_change_spare(const cpu_device *d, const k_weight *w)
{
    return (4 * spare_floats(d, w) + 63) / 64 * 64;
}

/* Rows of up as the micro-tile takes them: [rank / CHUNK][rows][CHUNK]. */
static void pack_up(const term *t, int first, int rows, float *to)
{
    for (int k = 0; k < t->rank; k += CHUNK)
        for (int r = 0; r < rows; r++, to += CHUNK)
            memcpy(to, t->up + (int64_t)(first + r) * t->rank + k, 4 * CHUNK);
}

/* c [rows][nr] = the term in column panel `panel` */
static void term_tile(const cpu_device *d, const term *t, const float *up, int rows, int panel,
                      float *c)
{
    d->simd->tile(rows, t->rank / CHUNK, up, t->down + (int64_t)panel * t->rank * d->simd->nr, c,
                  0);
}

/* Rows of a part with plain changes alone, up to ROWS micro-tiles: all of them for one panel of
 * columns after the other, which stays in the first cache. */
static void rows_plain(const cpu_device *d, const k_weight_desc *w, const term *t, const char *file,
                       int first, int rows, char *to, float *spare)
{
    int depth = depth_of(w), nr = d->simd->nr, mr = d->simd->mr, dtype = w->weight[0].dtype;
    size_t size = k_size(dtype);
    float *sums = spare + (int64_t)ROWS * mr * t->rank;
    for (int r = 0; r < rows; r += mr)
        pack_up(t, first + r, rows - r < mr ? rows - r : mr, spare + (int64_t)r * t->rank);
    for (int i = 0; i < depth; i += nr)
        for (int r = 0; r < rows; r += mr) {
            int n = rows - r < mr ? rows - r : mr;
            size_t at = ((size_t)r * (size_t)depth + (size_t)i) * size;
            term_tile(d, t, spare + (int64_t)r * t->rank, n, i / nr, sums);
            d->simd->merge(to + at, file + at, dtype, depth, sums, n,
                           depth - i < nr ? depth - i : nr);
        }
}

/* sum [rows][row] = file + t */
static void rows_sum(const cpu_device *d, const term *t, const float *file, int first, int rows,
                     int row, float *sum, float *spare)
{
    int nr = d->simd->nr;
    float *c = spare + (int64_t)d->simd->mr * t->rank;
    pack_up(t, first, rows, spare);
    for (int i = 0; i < row; i += nr) {
        term_tile(d, t, spare, rows, i / nr, c);
        for (int r = 0; r < rows; r++)
            d->simd->add(sum + (int64_t)r * row + i, file + (int64_t)r * row + i, c + r * nr, nr);
    }
}

/* total += magnitude * sum / |sum| - file, for one row */
static void row_magnitude(float magnitude, const float *file, const float *sum, int depth,
                          float *total)
{
    double square = 0;
    for (int i = 0; i < depth; i++)
        square += (double)sum[i] * sum[i];
    float scale = square > 0 ? (float)((double)magnitude / sqrt(square)) : 0;
    for (int i = 0; i < depth; i++)
        total[i] += sum[i] * scale - file[i];
}

/* The same as rows_plain with any terms. */
static void rows_any(const cpu_device *d, const k_weight_desc *w, const term *t, int terms,
                     const char *file, int first, int rows, char *to, float *spare)
{
    int depth = depth_of(w), row = round_up(depth, d->simd->nr), dtype = w->weight[0].dtype,
        most = 0;
    size_t size = k_size(dtype);
    for (int i = 0; i < terms; i++)
        most = most < t[i].rank ? t[i].rank : most;
    float *from = spare + (int64_t)d->simd->mr * (most + d->simd->nr);
    float *sum = from + (int64_t)d->simd->mr * row, *total = sum + (int64_t)d->simd->mr * row;
    for (int r = 0; r < rows; r++) {
        memset(from + (int64_t)r * row + depth, 0, 4 * (size_t)(row - depth));
        d->simd->widen(from + (int64_t)r * row, file + (size_t)r * (size_t)depth * size, dtype,
                       depth);
    }
    if (t[0].magnitude)
        memcpy(total, from, 4 * (size_t)rows * (size_t)row);
    for (int i = 0; i < terms; i++) {
        rows_sum(d, &t[i], from, first, rows, row, t[i].magnitude ? sum : total, spare);
        for (int r = 0; r < rows && t[i].magnitude; r++)
            row_magnitude(t[i].magnitude[first + r], from + (int64_t)r * row,
                          sum + (int64_t)r * row, depth, total + (int64_t)r * row);
    }
    for (int r = 0; r < rows; r++)
        d->simd->narrow(to + (size_t)r * (size_t)depth * size, total + (int64_t)r * row, dtype,
                        depth);
}

void cpu_change_rows(const cpu_device *d, const k_weight *w, int first, int count, void *to,
                     void *spare)
{
    const k_weight_desc *desc = &w->desc;
    int each = desc->out / desc->parts;
    size_t bytes = (size_t)depth_of(desc) * k_size(desc->weight[0].dtype);
    char *at = to;
    for (int row = first, n; row < first + count; row += n, at += (size_t)n * bytes) {
        int part = row / each, in = row % each, terms = w->change->part[part].terms;
        const term *t = w->change->part[part].term;
        const char *file = (const char *)w->change->part[part].file + (size_t)in * bytes;
        n = each - in < first + count - row ? each - in : first + count - row;
        int most = terms == 1 && !t->magnitude ? ROWS * d->simd->mr : d->simd->mr;
        n = terms && n > most ? most : n;
        if (!terms)
            memcpy(at, file, (size_t)n * bytes);
        else if (terms == 1 && !t->magnitude)
            rows_plain(d, desc, t, file, in, n, at, spare);
        else
            rows_any(d, desc, t, terms, file, in, n, at, spare);
    }
}

void cpu_change_all(const cpu_device *d, const k_weight *w, int first, int count, void *to,
                    void *spares)
{
    size_t bytes = (size_t)depth_of(&w->desc) * k_size(w->desc.weight[0].dtype);
    size_t spare = cpu_change_spare(d, w);
    int step = ROWS * d->simd->mr, steps = (count + step - 1) / step;
#pragma omp parallel for schedule(dynamic, 1) num_threads(d->threads)
    for (int i = 0; i < steps; i++)
        cpu_change_rows(d, w, first + i * step, count - i * step < step ? count - i * step : step,
                        (char *)to + (size_t)(i * step) * bytes,
                        (char *)spares + spare * (size_t)omp_get_thread_num());
}

/* ---- putting it in force ------------------------------------------------------------------------
 */

/* The copies of a weight that stays become what ops read. */
static void fill_copies(cpu_device *d, k_weight *w)
{
    int each = w->desc.out / w->desc.parts;
    for (int p = 0; p < w->desc.parts; p++) {
        w->desc.weight[p].data = w->change->part[p].file;
        if (!w->change->part[p].copy)
            continue;
        cpu_change_all(d, w, p * each, each, w->change->part[p].copy, d->work);
        w->desc.weight[p].data = w->change->part[p].copy;
    }
}

/* Takes `next`. With no memory all stays as it was. */
static int replace(cpu_device *d, k_weight *w, struct cpu_change *next)
{
    struct cpu_change *before = w->change;
    const k_weight_desc desc = w->desc;
    for (int p = 0; before && p < desc.parts; p++)
        w->desc.weight[p].data = before->part[p].file;
    w->change = next;
    if (cpu_forms_room(d, w)) {
        w->change = before;
        w->desc = desc;
        cpu_change_free(d, next);
        return -1;
    }
    for (int p = 0; next && before && p < desc.parts; p++) {
        if (!before->part[p].copy || !next->part[p].terms)
            continue;
        next->part[p].copy = before->part[p].copy;
        next->part[p].copy_bytes = before->part[p].copy_bytes;
        before->part[p].copy = NULL;
        before->part[p].copy_bytes = 0;
    }
    if (next)
        fill_copies(d, w);
    cpu_change_free(d, before);
    cpu_forms_again(d, w);
    return 0;
}

int cpu_weight_delta(k_device *device, k_weight *w, const k_delta *list, int count, char why[K_WHY])
{
    cpu_device *d = (cpu_device *)device;
    pthread_mutex_lock(&d->lock);
    struct cpu_change *next = count ? change_new(d, w, list, count) : NULL;
    int failed = (count && !next) || ((next || w->change) && replace(d, w, next));
    if (!d->changes && d->work) {
        cpu_free(d->work, d->work_bytes);
        d->bytes -= d->work_bytes;
        d->work = NULL;
        d->work_bytes = 0;
    }
    pthread_mutex_unlock(&d->lock);
    if (failed)
        snprintf(why, K_WHY, "There is no memory to change the weight [%d, %d, %d, %d].",
                 (int)w->desc.out, (int)w->desc.in, (int)w->desc.kh, (int)w->desc.kw);
    return failed ? -1 : 0;
}
