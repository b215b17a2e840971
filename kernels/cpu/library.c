/* library.c - the matrix product behind linear and conv through oneDNN, for processors that our
 * own loops do not know well; device.c chooses.
 *
 * What is added to the product lies in y before the primitive runs, so bias, sum and activation
 * are part of it; GEGLU leaves through our own epilogue. Primitives belong to one context and one
 * weight; packed weights are shared by all primitives that like the same layout.
 *
 * Running takes its scratch from the plan, but oneDNN allocates inside of each call: nodes for the
 * arguments, and a buffer where a product goes through its GEMM. It keeps none of that.
 *
 * Must stay true: a context reads its own entries without the lock, so none but itself (or the
 * end of the weight) changes them, and every change takes the lock.
 */
#include "cpu.h"
#include "onednn.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXTS = 64 }; /* bits in a mask of users */

typedef struct packed {
    float *data; /* owned */
    size_t bytes;
    int readers;
} packed;

typedef struct entry {
    struct entry *next;
    onednn_shape shape;
    onednn_op *op;  /* owned */
    packed *packed; /* NULL where weights stay as they are: packed whenever op runs */
    int fresh;      /* asked for by the plan that is being made */
} entry;

struct cpu_library {
    entry *of[CONTEXTS]; /* each context's entries */
};

/* Where the pieces of one call lie in its scratch, in bytes. */
typedef struct work {
    size_t x, y, plain, packed, op, bytes;
    int own_x, own_y; /* x is gathered, y is finished afterwards */
} work;

/* ---- shapes
 * --------------------------------------------------------------------------------------- */

static int64_t images_of(const cpu_product *p)
{
    return p->rows / ((int64_t)p->a.oh * p->a.ow);
}

static onednn_shape shape_of(const cpu_product *p)
{
    const cpu_source *a = &p->a;
    int geglu = p->act == K_GEGLU;
    onednn_shape s = {.in = a->c, .out = p->w->desc.out, .bias = !geglu};
    s.sum = !geglu && (p->row.dtype || p->residual.dtype);
    s.act = geglu ? K_IDENTITY : p->act;
    s.h = s.w = s.oh = s.ow = s.stride = 1;
    s.n = (int32_t)p->rows;
    s.ld_x = a->up ? a->c : (int32_t)a->ld;
    s.ld_y = geglu ? s.out : p->y.ld;
    if (a->k == 1 && a->stride == 1)
        return s;
    s.n = (int32_t)images_of(p);
    s.h = a->h << a->up;
    s.w = a->w << a->up;
    s.oh = a->oh;
    s.ow = a->ow;
    s.k = a->k;
    s.stride = a->stride;
    s.pad = a->pad;
    s.ld_x = s.in;
    s.ld_y = s.out;
    return s;
}

static size_t take(work *k, size_t floats)
{
    size_t at = k->bytes;
    k->bytes += (4 * floats + 63) / 64 * 64;
    return at;
}

static size_t plain_floats(const k_weight_desc *w)
{
    return (size_t)w->out * (size_t)w->in * (size_t)(w->kh * w->kw);
}

static work work_of(const cpu_device *d, const cpu_product *p, const entry *e)
{
    const onednn_shape *s = &e->shape;
    work k = {.own_x = p->a.up || s->ld_x != p->a.ld};
    k.own_y = p->act == K_GEGLU || s->ld_y != p->y.ld;
    if (k.own_x)
        k.x = take(&k, (size_t)s->n * (size_t)s->h * (size_t)s->w * (size_t)s->in);
    if (k.own_y) /* the epilogue reads whole panels */
        k.y = take(&k, (size_t)p->rows * (size_t)s->out + (size_t)d->simd->nr);
    if (!e->packed) {
        k.plain = take(&k, plain_floats(&p->w->desc));
        k.packed = take(&k, (onednn_op_packed(e->op) + 3) / 4);
    }
    k.op = take(&k, (onednn_op_scratch(e->op) + 3) / 4);
    return k;
}

static void fail(k_ctx *k, const cpu_product *p, const onednn_shape *s, const char *cause)
{
    k_fail(k, "%s: [%d, %d, %d, %d] to [%d, %d, %d, %d] %s", p->op, (int)s->n, (int)s->h, (int)s->w,
           (int)s->in, (int)s->n, (int)s->oh, (int)s->ow, (int)s->out, cause);
}

/* ---- entries: primitives with their weights
 * --------------------------------------------------------- */

static void entry_free(cpu_device *d, entry *e)
{
    onednn_op_free(e->op);
    if (e->packed && !--e->packed->readers) {
        d->bytes -= e->packed->bytes;
        cpu_free(e->packed->data, e->packed->bytes);
        free(e->packed);
    }
    free(e);
}

struct cpu_library *cpu_library_new(void)
{
    return calloc(1, sizeof(struct cpu_library));
}

void cpu_library_free(cpu_device *d, struct cpu_library *l)
{
    for (int i = 0; i < CONTEXTS; i++)
        for (entry *e = l->of[i], *next; e; e = next) {
            next = e->next;
            entry_free(d, e);
        }
    free(l);
}

void cpu_library_release(cpu_device *d, struct cpu_library *l, uint64_t bit, int all)
{
    entry **at = &l->of[__builtin_ctzll(bit)];
    while (*at) {
        entry *e = *at;
        if (e->fresh && !all) {
            e->fresh = 0;
            at = &e->next;
        } else {
            *at = e->next;
            entry_free(d, e);
        }
    }
}

/* The weight as floats in the file's order. */
static void widen_all(const cpu_device *d, const k_weight_desc *w, float *to)
{
    int each = w->out / w->parts;
    int64_t row = (int64_t)w->in * w->kh * w->kw;
    size_t size = k_size(w->weight[0].dtype);
#pragma omp parallel for num_threads(d->threads)
    for (int i = 0; i < w->out; i++)
        d->simd->widen(to + i * row,
                       (const char *)w->weight[i / each].data +
                           (size_t)(i % each) * (size_t)row * size,
                       w->weight[0].dtype, row);
}

size_t cpu_library_room(const struct cpu_library *l, const k_weight_desc *w)
{
    size_t scratch = 0;
    int any = 0;
    for (int i = 0; i < CONTEXTS; i++)
        for (const entry *e = l->of[i]; e; e = e->next) {
            any |= e->packed != NULL;
            if (e->packed && onednn_op_scratch(e->op) > scratch)
                scratch = onednn_op_scratch(e->op);
        }
    return any ? (4 * plain_floats(w) + 63) / 64 * 64 + scratch + 64 : 0;
}

/* Each packed copy once, whoever reads it. */
void cpu_library_again(cpu_device *d, struct cpu_library *l, const k_weight_desc *w, void *room)
{
    float *plain = room;
    void *scratch = (char *)room + (4 * plain_floats(w) + 63) / 64 * 64;
    const packed *done = NULL;
    int before = omp_get_max_threads();
    omp_set_num_threads(d->threads); /* primitives counted them when they were made */
    widen_all(d, w, plain);
    for (int i = 0; i < CONTEXTS; i++)
        for (entry *e = l->of[i]; e; e = e->next)
            if (e->packed && e->packed != done) {
                onednn_op_pack(e->op, plain, e->packed->data, scratch);
                done = e->packed;
            }
    omp_set_num_threads(before);
}

static packed *pack(cpu_device *d, const k_weight *weight, onednn_op *op)
{
    const k_weight_desc *w = &weight->desc;
    k_weight_desc now;
    size_t plain_bytes = 4 * plain_floats(w), scratch_bytes = onednn_op_scratch(op) + 64;
    float *plain = cpu_alloc(plain_bytes);
    void *scratch = cpu_alloc(scratch_bytes);
    packed *p = calloc(1, sizeof *p);
    int status = -1;
    if (p) {
        p->bytes = onednn_op_packed(op);
        p->data = cpu_alloc(p->bytes);
    }
    if (p && p->data && plain && scratch && !cpu_weight_now(d, weight, &now)) {
        widen_all(d, &now, plain);
        status = onednn_op_pack(op, plain, p->data, scratch);
    }
    if (plain)
        cpu_free(plain, plain_bytes);
    if (scratch)
        cpu_free(scratch, scratch_bytes);
    if (!status) {
        d->bytes += p->bytes;
        return p;
    }
    if (p && p->data)
        cpu_free(p->data, p->bytes);
    free(p);
    return NULL;
}

/* Weights as op likes them: those of another primitive, or packed now. NULL: no memory. */
static packed *packed_for(cpu_device *d, const k_weight *w, onednn_op *op)
{
    for (int i = 0; i < CONTEXTS; i++)
        for (entry *e = w->library->of[i]; e; e = e->next)
            if (onednn_op_alike(e->op, op))
                return e->packed;
    return pack(d, w, op);
}

static entry *entry_new(k_ctx *k, const cpu_product *p, const onednn_shape *s)
{
    cpu_device *d = cpu_of(k);
    entry *e = calloc(1, sizeof *e);
    int status = e ? onednn_op_new(&e->op, d->library, s) : -1;
    if (!status && !cpu_stays(d, &p->w->desc)) {
        packed *shared = packed_for(d, p->w, e->op);
        status = shared ? onednn_op_use(e->op, shared->data) : -1;
        e->packed = shared;
        if (shared)
            shared->readers++;
    }
    if (!status) {
        e->shape = *s;
        return e;
    }
    fail(k, p, s, status < 0 ? "has no memory for its weights." : onednn_text(status));
    if (e)
        entry_free(d, e);
    return NULL;
}

/* Made while planning if it is not there; afterwards NULL and a failure unless it was planned. */
static entry *entry_of(k_ctx *k, const cpu_product *p)
{
    cpu_device *d = cpu_of(k);
    onednn_shape s = shape_of(p);
    entry **list = &p->w->library->of[__builtin_ctzll(((cpu_ctx *)k->impl)->bit)];
    entry *e = *list;
    while (e && memcmp(&e->shape, &s, sizeof s))
        e = e->next;
    if (!k->planning) {
        if (!e)
            fail(k, p, &s, "was not planned; plan the shape first.");
        return e;
    }
    if (!e) {
        pthread_mutex_lock(&d->lock);
        e = entry_new(k, p, &s);
        if (e) {
            e->next = *list;
            *list = e;
        }
        pthread_mutex_unlock(&d->lock);
    }
    if (e)
        e->fresh = 1;
    return e;
}

/* ---- running
 * ------------------------------------------------------------------------------------------ */

/* The pixels that x holds, doubled where they are to be, as dense rows. */
static void gather(const cpu_device *d, const cpu_source *a, int64_t images, float *to)
{
    int h = a->h << a->up, w = a->w << a->up;
    int64_t lines = images * h;
#pragma omp parallel for num_threads(d->threads)
    for (int64_t i = 0; i < lines; i++)
        for (int x = 0; x < w; x++)
            memcpy(to + (i * w + x) * a->c, cpu_pixel(a, i / h, (int)(i % h), x), 4 * (size_t)a->c);
}

/* y = row + residual; the residual may be y itself. */
static void prefill(const cpu_device *d, const cpu_product *p, float *y, int64_t ld)
{
    int64_t pixels = (int64_t)p->a.oh * p->a.ow;
#pragma omp parallel for num_threads(d->threads)
    for (int64_t i = 0; i < p->rows; i++) {
        const float *row = p->row.dtype ? cpu_row(p->row, i / pixels) : NULL;
        const float *residual = p->residual.dtype ? cpu_row(p->residual, i) : NULL;
        if (row && residual)
            d->simd->add(y + i * ld, residual, row, p->y.c);
        else
            memmove(y + i * ld, row ? row : residual, 4 * (size_t)p->y.c);
    }
}

/* The product in dense rows becomes y. */
static void finish(const cpu_device *d, const cpu_product *p, const cpu_form *bias, const float *c)
{
    int nr = d->simd->nr, columns = p->y.c, gates = cpu_panels(d, columns) * nr;
#pragma omp parallel for num_threads(d->threads)
    for (int64_t i = 0; i < p->rows; i++) {
        float *y = cpu_row(p->y, i);
        if (p->act != K_GEGLU) {
            memcpy(y, c + i * columns, 4 * (size_t)columns);
            continue;
        }
        const float *value = c + i * 2 * columns;
        for (int j = 0; j < columns; j += nr) {
            simd_out o = {.y = {y}, .bias = bias->bias + j, .first = j, .act = K_GEGLU};
            o.cols = columns - j < nr ? columns - j : nr;
            if (p->residual.dtype)
                o.residual[0] = cpu_row(p->residual, i);
            d->simd->epilogue_geglu(value + j, value + columns + j, o.bias + gates, 1, &o);
        }
    }
}

static void run(k_ctx *k, const cpu_product *p, const entry *e, const work *u, const cpu_form *bias,
                char *scratch)
{
    const cpu_device *d = cpu_of(k);
    const float *x = u->own_x ? (float *)(scratch + u->x) : p->a.x;
    float *y = u->own_y ? (float *)(scratch + u->y) : p->y.data;
    int status = 0;
    if (u->own_x)
        gather(d, &p->a, images_of(p), (float *)(scratch + u->x));
    if (e->shape.sum)
        prefill(d, p, y, e->shape.ld_y);
    if (!e->packed) {
        float *plain = (float *)(scratch + u->plain);
        widen_all(d, &p->w->desc, plain);
        status = onednn_op_pack(e->op, plain, (float *)(scratch + u->packed), scratch + u->op);
    }
    if (!status)
        status = onednn_op_run(e->op, x, bias->bias, y, scratch + u->op);
    if (status)
        fail(k, p, &e->shape, onednn_text(status));
    else if (u->own_y)
        finish(d, p, bias, y);
}

void cpu_library(k_ctx *k, const cpu_product *p)
{
    const cpu_device *d = cpu_of(k);
    int before = omp_get_max_threads();
    omp_set_num_threads(d->threads); /* of this thread alone: primitives count them when made */
    const entry *e = entry_of(k, p);
    const cpu_form *bias =
        e ? cpu_form_of(k, p->op, p->w, p->act == K_GEGLU ? CPU_BIAS_PAIR : CPU_BIAS) : NULL;
    if (e && bias) {
        work u = work_of(d, p, e);
        char *scratch = cpu_scratch(k, p->op, u.bytes);
        if (!k->planning && !k->status)
            run(k, p, e, &u, bias, scratch);
    }
    omp_set_num_threads(before);
}
