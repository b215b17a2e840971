/* weights.c - weights in the forms that ops like, made while planning and shared by contexts.
 *
 * Must stay true: a form that a context uses is neither changed nor freed by another one, so ops
 * read forms without the lock; only making and freeing them takes it.
 */
#include "cpu.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

k_weight *cpu_weight_new(k_device *device, const k_weight_desc *desc, char why[K_WHY])
{
    cpu_device *d = (cpu_device *)device;
    k_weight *w = calloc(1, sizeof *w);
    if (w && d->library && !(w->library = cpu_library_new())) {
        free(w);
        w = NULL;
    }
    if (!w) {
        snprintf(why, K_WHY, "There is not enough memory for one more weight.");
        return NULL;
    }
    w->desc = *desc;
    pthread_mutex_lock(&d->lock);
    w->next = d->weights;
    d->weights = w;
    pthread_mutex_unlock(&d->lock);
    return w;
}

static void form_free(cpu_device *d, cpu_form *f)
{
    if (f->data)
        cpu_free(f->data, f->bytes);
    if (f->bias)
        cpu_free(f->bias, f->bias_bytes);
    d->bytes -= f->bytes + f->bias_bytes;
    memset(f, 0, sizeof *f);
}

void cpu_weight_free(k_device *device, k_weight *weight)
{
    cpu_device *d = (cpu_device *)device;
    pthread_mutex_lock(&d->lock);
    k_weight **at = &d->weights;
    while (*at != weight)
        at = &(*at)->next;
    *at = weight->next;
    for (int i = 0; i < CPU_FORMS; i++)
        form_free(d, &weight->forms[i]);
    if (weight->library)
        cpu_library_free(d, weight->library);
    cpu_change_free(d, weight->change);
    pthread_mutex_unlock(&d->lock);
    free(weight);
}

const k_weight_desc *cpu_weight_desc(const k_weight *weight)
{
    return &weight->desc;
}

static int touched(const k_weight *w, uint64_t bit)
{
    uint64_t fresh = 0;
    for (int i = 0; i < CPU_FORMS; i++)
        fresh |= w->forms[i].fresh & bit;
    return fresh != 0;
}

void cpu_weights_release(k_ctx *k, int all)
{
    cpu_device *d = cpu_of(k);
    uint64_t bit = ((cpu_ctx *)k->impl)->bit;
    pthread_mutex_lock(&d->lock);
    for (k_weight *w = d->weights; w; w = w->next) {
        int drop = all || touched(w, bit);
        for (int i = 0; i < CPU_FORMS; i++) {
            cpu_form *f = &w->forms[i];
            if (drop && (all || !(f->fresh & bit)))
                f->users &= ~bit;
            f->fresh &= ~bit;
            if (!f->users && (f->data || f->bias))
                form_free(d, f);
        }
        if (drop && w->library)
            cpu_library_release(d, w->library, bit, all);
    }
    pthread_mutex_unlock(&d->lock);
}

/* ---- changed weights: where their rows are made
 * -------------------------------------------------- */

/* Rows of a panel. */
static size_t rows_bytes(const cpu_device *d, const k_weight_desc *w)
{
    size_t bytes = (size_t)(w->in * w->kh * w->kw) * k_size(w->weight[0].dtype);
    return (bytes * (size_t)d->simd->nr + 63) / 64 * 64;
}

/* d->work holds, for a changed weight: each thread's spare, then each thread's rows of a panel or,
 * with `whole`, all rows; then `more` bytes. Returns where those begin; -1: no memory. */
static int64_t work_for(cpu_device *d, const k_weight *w, int whole, size_t more)
{
    size_t bytes = 0, threads = (size_t)d->threads, out = (size_t)w->desc.out;
    if (w->change && whole && !cpu_stays(d, &w->desc))
        bytes = (out * rows_bytes(d, &w->desc) / (size_t)d->simd->nr + 63) / 64 * 64;
    if (w->change && bytes < threads * rows_bytes(d, &w->desc))
        bytes = threads * rows_bytes(d, &w->desc);
    if (w->change)
        bytes += threads * cpu_change_spare(d, w);
    if (bytes + more <= d->work_bytes)
        return (int64_t)bytes;
    void *grown = cpu_alloc(bytes + more);
    if (!grown)
        return -1;
    if (d->work)
        cpu_free(d->work, d->work_bytes);
    d->bytes += bytes + more - d->work_bytes;
    d->work = grown;
    d->work_bytes = bytes + more;
    return (int64_t)bytes;
}

/* The weight as it is now, all of it, for reading in the file's order. After work_for. */
static k_weight_desc whole_of(const cpu_device *d, const k_weight *w)
{
    k_weight_desc now = w->desc;
    if (!w->change || cpu_stays(d, &now))
        return now; /* the file, or the copies */
    char *to = (char *)d->work + cpu_change_spare(d, w) * (size_t)d->threads;
    size_t part = (size_t)(now.out / now.parts) * (size_t)(now.in * now.kh * now.kw) *
                  k_size(now.weight[0].dtype);
    cpu_change_all(d, w, 0, now.out, to, d->work);
    for (int p = 0; p < now.parts; p++)
        now.weight[p].data = to + (size_t)p * part;
    return now;
}

/* ---- making forms
 * -------------------------------------------------------------------------------- */

void cpu_fill_panel(const cpu_device *d, const k_weight_desc *w, int first, int columns, int k0,
                    int k1, void *panel)
{
    int rows = w->out / w->parts, taps = w->kh * w->kw, nr = d->simd->nr;
    size_t size = k_size(w->weight[0].dtype);
    int64_t stride = (int64_t)w->in * taps;
    for (int k = k0, run; k < k1; k += run) {
        int tap = k / w->in, channel = k % w->in;
        run = w->in - channel < k1 - k ? w->in - channel : k1 - k;
        for (int j = 0, part; j < columns; j += part) {
            int row = (first + j) % rows;
            part = rows - row < columns - j ? rows - row : columns - j;
            int64_t from = row * stride + (int64_t)channel * taps + tap;
            d->simd->panel((char *)panel + ((size_t)(k - k0) * (size_t)nr + (size_t)j) * size,
                           (const char *)w->weight[(first + j) / rows].data + (size_t)from * size,
                           size, stride, taps, run, part);
        }
    }
}

/* First column and count of panel p when out is cut into groups. */
static void panel_columns(const cpu_device *d, const k_weight_desc *w, int groups, int p,
                          int *first, int *columns)
{
    int each = w->out / groups, panels = cpu_panels(d, each), nr = d->simd->nr;
    int at = p % panels * nr;
    *first = p / panels * each + at;
    *columns = each - at < nr ? each - at : nr;
}

/* Columns [first, first + columns) of a changed weight into a panel: its rows are made beside it,
 * where they stay in the cache until they are moved. */
static void changed_panel(const cpu_device *d, const k_weight *weight, int first, int columns,
                          void *panel)
{
    k_weight_desc w = weight->desc;
    int depth = w.in * w.kh * w.kw, thread = omp_get_thread_num();
    char *spare = (char *)d->work + cpu_change_spare(d, weight) * (size_t)thread;
    char *rows = (char *)d->work + cpu_change_spare(d, weight) * (size_t)d->threads +
                 rows_bytes(d, &w) * (size_t)thread;
    cpu_change_rows(d, weight, first, columns, rows, spare);
    w.out = columns;
    w.parts = 1;
    w.weight[0].data = rows;
    cpu_fill_panel(d, &w, 0, columns, 0, depth, panel);
}

static void make_panels(const cpu_device *d, const k_weight *weight, int groups, char *data)
{
    const k_weight_desc *w = &weight->desc;
    int panels = groups * cpu_panels(d, w->out / groups), depth = w->in * w->kh * w->kw;
    size_t bytes =
        (size_t)round_up(depth, CHUNK) * (size_t)d->simd->nr * k_size(w->weight[0].dtype);
#pragma omp parallel for schedule(dynamic, 1) num_threads(d->threads)
    for (int p = 0; p < panels; p++) {
        int first, columns;
        panel_columns(d, w, groups, p, &first, &columns);
        if (weight->change)
            changed_panel(d, weight, first, columns, data + (size_t)p * bytes);
        else
            cpu_fill_panel(d, w, first, columns, 0, depth, data + (size_t)p * bytes);
    }
}

/* [out][taps][in] */
static void make_dots(const cpu_device *d, const k_weight_desc *w, float *data)
{
    enum { SLICE = 64 };
    int taps = w->kh * w->kw, each = w->out / w->parts;
    size_t size = k_size(w->weight[0].dtype);
    float wide[SLICE * 9];
    for (int o = 0; o < w->out; o++)
        for (int c = 0, n; c < w->in; c += n) {
            n = w->in - c < SLICE ? w->in - c : SLICE;
            const char *from = w->weight[o / each].data;
            from += ((size_t)(o % each) * (size_t)w->in + (size_t)c) * (size_t)taps * size;
            d->simd->widen(wide, from, w->weight[0].dtype, (int64_t)n * taps);
            for (int i = 0; i < n * taps; i++)
                data[((int64_t)o * taps + i % taps) * w->in + c + i / taps] = wide[i];
        }
}

/* [position][panel][in padded][nr] */
static void make_winograd(const cpu_device *d, const k_weight_desc *w, int m, float *data)
{
    enum { SLICE = 32 };
    int nr = d->simd->nr, panels = cpu_panels(d, w->out), in16 = round_up(w->in, CHUNK);
    int slices = (w->in + SLICE - 1) / SLICE;
    int64_t stride = (int64_t)panels * in16 * nr;
#pragma omp parallel for collapse(2) schedule(dynamic, 4) num_threads(d->threads)
    for (int p = 0; p < panels; p++)
        for (int s = 0; s < slices; s++) {
            _Alignas(64) float moved[SLICE * MAX_NR], wide[9][SLICE * MAX_NR], taps[9 * MAX_NR];
            int i0 = s * SLICE, n = w->in - i0 < SLICE ? w->in - i0 : SLICE;
            int first, columns;
            panel_columns(d, w, 1, p, &first, &columns);
            memset(moved, 0, sizeof moved);
            for (int t = 0; t < 9; t++) {
                cpu_fill_panel(d, w, first, columns, t * w->in + i0, t * w->in + i0 + n, moved);
                d->simd->widen(wide[t], moved, w->weight[0].dtype, (int64_t)n * nr);
            }
            for (int i = 0; i < n; i++) {
                for (int t = 0; t < 9; t++)
                    memcpy(taps + t * nr, wide[t] + i * nr, 4 * (size_t)nr);
                d->simd->wino_weight(m, taps, data + ((int64_t)p * in16 + i0 + i) * nr, stride);
            }
        }
}

static size_t form_bytes(const cpu_device *d, const k_weight_desc *w, int kind)
{
    size_t nr = (size_t)d->simd->nr, size = k_size(w->weight[0].dtype);
    size_t depth = (size_t)round_up(w->in * w->kh * w->kw, CHUNK);
    size_t in16 = (size_t)round_up(w->in, CHUNK);
    switch (kind) {
    case CPU_VECTOR:
        return 4 * (size_t)w->out * (size_t)w->in;
    case CPU_PANELS:
        return (size_t)cpu_panels(d, w->out) * nr * depth * size;
    case CPU_PANELS_PAIR:
        return 2 * (size_t)cpu_panels(d, w->out / 2) * nr * depth * size;
    case CPU_DOTS:
        return 4 * (size_t)w->out * (size_t)(w->in * w->kh * w->kw);
    case CPU_WINOGRAD_2:
        return 16 * (size_t)cpu_panels(d, w->out) * nr * in16 * 4;
    case CPU_WINOGRAD_4:
        return 36 * (size_t)cpu_panels(d, w->out) * nr * in16 * 4;
    default:
        return 0;
    }
}

static void widen_parts(const cpu_device *d, const k_array *parts, int count, int each, float *to)
{
    for (int i = 0; i < count; i++)
        if (parts[i].data)
            d->simd->widen(to + (int64_t)i * each, parts[i].data, parts[i].dtype, each);
}

/* The bias is cut and padded as the columns are. */
static void make_bias(const cpu_device *d, const k_weight_desc *w, int groups, float *bias)
{
    int each = w->out / groups, padded = cpu_panels(d, each) * d->simd->nr;
    widen_parts(d, w->bias, w->parts, w->out / w->parts, bias);
    if (groups > 1) /* the last group moves up, past the padding of the first */
        memmove(bias + padded, bias + each, 4 * (size_t)each);
    memset(bias + each, 0, 4 * (size_t)(padded - each));
}

/* Forms that are made of the whole weight; panels are made of a few rows at a time. */
static int needs_whole(int kind)
{
    return kind == CPU_VECTOR || kind == CPU_DOTS || kind == CPU_WINOGRAD_2 ||
           kind == CPU_WINOGRAD_4;
}

static void form_fill(const cpu_device *d, const k_weight *weight, int kind, cpu_form *f)
{
    if (kind == CPU_PANELS || kind == CPU_PANELS_PAIR) {
        make_panels(d, weight, kind == CPU_PANELS_PAIR ? 2 : 1, f->data);
    } else if (needs_whole(kind)) {
        k_weight_desc w = whole_of(d, weight);
        if (kind == CPU_VECTOR)
            widen_parts(d, w.weight, w.parts, w.out / w.parts * w.in, f->data);
        else if (kind == CPU_DOTS)
            make_dots(d, &w, f->data);
        else
            make_winograd(d, &w, kind == CPU_WINOGRAD_2 ? 2 : 4, f->data);
    }
}

static int form_make(cpu_device *d, const k_weight *weight, int kind, cpu_form *f)
{
    const k_weight_desc *w = &weight->desc;
    int groups = kind == CPU_PANELS_PAIR || kind == CPU_BIAS_PAIR ? 2 : 1;
    f->bytes = form_bytes(d, w, kind);
    f->bias_bytes = 4 * (size_t)(groups * cpu_panels(d, w->out / groups) * d->simd->nr);
    f->data = f->bytes ? cpu_alloc(f->bytes) : NULL;
    f->bias = cpu_alloc(f->bias_bytes);
    d->bytes += f->bytes + f->bias_bytes;
    if ((f->bytes && !f->data) || !f->bias || work_for(d, weight, needs_whole(kind), 0) < 0) {
        form_free(d, f);
        return -1;
    }
    make_bias(d, w, groups, f->bias);
    form_fill(d, weight, kind, f);
    return 0;
}

/* ---- making them again, when a change comes or goes
 * ----------------------------------------------- */

/* Where scratch of the library begins in d->work. */
static int64_t again_room(cpu_device *d, const k_weight *w)
{
    size_t more = w->library ? cpu_library_room(w->library, &w->desc) : 0;
    int whole = more != 0;
    for (int i = 0; i < CPU_FORMS; i++)
        whole |= w->forms[i].data && needs_whole(i);
    return work_for(d, w, whole, more);
}

int cpu_forms_room(cpu_device *d, k_weight *w)
{
    return again_room(d, w) < 0;
}

void cpu_forms_again(cpu_device *d, k_weight *w)
{
    for (int i = 0; i < CPU_FORMS; i++)
        if (w->forms[i].data)
            form_fill(d, w, i, &w->forms[i]);
    if (w->library && cpu_library_room(w->library, &w->desc)) {
        k_weight_desc now = whole_of(d, w);
        cpu_library_again(d, w->library, &now, (char *)d->work + again_room(d, w));
    }
}

int cpu_weight_now(cpu_device *d, const k_weight *w, k_weight_desc *now)
{
    if (work_for(d, w, 1, 0) < 0)
        return -1;
    *now = whole_of(d, w);
    return 0;
}

const cpu_form *cpu_form_of(k_ctx *k, const char *op, const k_weight *weight, int kind)
{
    cpu_device *d = cpu_of(k);
    uint64_t bit = ((cpu_ctx *)k->impl)->bit;
    k_weight *w = (k_weight *)weight; /* ops see weights as const; their forms are a cache */
    cpu_form *f = &w->forms[kind];
    if (!k->planning) {
        if (f->users & bit)
            return f;
        k_fail(k,
               "%s: this use of the weight [%d, %d, %d, %d] was not planned; plan the shape "
               "first.",
               op, (int)w->desc.out, (int)w->desc.in, (int)w->desc.kh, (int)w->desc.kw);
        return NULL;
    }
    pthread_mutex_lock(&d->lock);
    if (f->bias || !form_make(d, w, kind, f)) {
        f->users |= bit;
        f->fresh |= bit;
    } else {
        k_fail(k, "%s: there is no memory to prepare the weight [%d, %d, %d, %d].", op,
               (int)w->desc.out, (int)w->desc.in, (int)w->desc.kh, (int)w->desc.kw);
        f = NULL;
    }
    pthread_mutex_unlock(&d->lock);
    return f;
}
