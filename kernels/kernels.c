/* kernels.c - devices by name, contexts, the arena and sticky errors: all that backends share.
 *
 * Must stay true: outside of k_plan_begin..k_plan_end, k_open and k_keep nothing here allocates.
 */
#include "backend.h"

#include <float.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

static const k_backend *const backends[] = {
    &cpu_backend,
#ifdef K_CUDA
    &cuda_backend,
#endif
};

size_t k_size(int dtype)
{
    switch (dtype) {
    case K_F32:
    case K_I32:
        return 4;
    case K_F16:
    case K_BF16:
        return 2;
    case K_U8:
        return 1;
    default:
        return 0;
    }
}

static size_t align_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* ---- errors ------------------------------------------------------------------------------- */

void k_fail(k_ctx *k, const char *fmt, ...)
{
    if (k->status)
        return;
    k->status = -1;
    va_list args;
    va_start(args, fmt);
    vsnprintf(k->where, sizeof k->where, fmt, args);
    va_end(args);
}

const char *k_shape(char text[K_SHAPE], k_tensor t)
{
    snprintf(text, K_SHAPE, "[%d, %d, %d, %d]", (int)t.n, (int)t.h, (int)t.w, (int)t.c);
    return text;
}

int k_check(k_ctx *k, int holds, const char *op, const char *cause, k_tensor y, k_tensor x,
            k_tensor z)
{
    if (holds)
        return 1;
    char ys[K_SHAPE], xs[K_SHAPE], zs[K_SHAPE];
    k_fail(k, "%s: %s (y %s, x %s%s%s)", op, cause, k_shape(ys, y), k_shape(xs, x),
           z.dtype ? ", z " : "", z.dtype ? k_shape(zs, z) : "");
    return 0;
}

/* ---- devices ------------------------------------------------------------------------------ */

/* The number after "cuda:"; -1: there is none that can be. */
static int index_of(const char *name, size_t length)
{
    if (!name[length])
        return 0;
    const char *digits = name + length + 1;
    size_t count = strspn(digits, "0123456789");
    return count >= 1 && count <= 3 && !digits[count] ? atoi(digits) : -1;
}

k_device *k_device_open(const char *name, const k_device_options *options, char why[K_WHY])
{
    static const k_device_options usual = {0};
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        const char *own = backends[i]->name;
        size_t n = strlen(own);
        int index = !strncmp(own, name, n) && (!name[n] || name[n] == ':') ? index_of(name, n) : -1;
        if (index >= 0)
            return backends[i]->device_open(index, options ? options : &usual, why);
    }
    if (!strncmp(name, "cuda", 4) && sizeof backends == sizeof *backends)
        snprintf(
            why, K_WHY,
            "This build has no CUDA backend; build it where nvcc is installed, or use \"cpu\".");
    else
        snprintf(why, K_WHY, "There is no device \"%s\"; use \"cpu\", \"cuda\" or \"cuda:N\".",
                 name);
    return NULL;
}

const char *k_device_best(char why[K_WHY])
{
#ifdef K_CUDA
    k_device *d = k_device_open("cuda", NULL, why);
    k_device_close(d);
    return d ? "cuda" : "cpu";
#else
    snprintf(why, K_WHY, "This build has no CUDA backend.");
    return "cpu";
#endif
}

const char *k_device_name(const k_device *device)
{
    return device->backend->device_name(device);
}

void k_device_plan(const k_device *device, void (*line)(void *ctx, const char *text), void *ctx)
{
    if (device->backend->device_plan)
        device->backend->device_plan(device, line, ctx);
}

void k_device_close(k_device *device)
{
    if (device)
        device->backend->device_close(device);
}

size_t k_device_bytes(const k_device *device)
{
    return device->backend->device_bytes(device);
}

/* ---- contexts ------------------------------------------------------------------------------ */

k_ctx *k_open(k_device *device, char why[K_WHY])
{
    k_ctx *k = calloc(1, sizeof *k);
    if (k) {
        k->device = device;
        k->ops = device->backend->ops;
        if (!device->backend->open(k))
            return k;
        free(k);
    }
    snprintf(why, K_WHY, "There is not enough memory for a context of device \"%s\".",
             device->backend->name);
    return NULL;
}

void k_close(k_ctx *k)
{
    if (!k)
        return;
    const k_backend *b = k->device->backend;
    b->close(k);
    if (k->arena.base)
        b->free(k->device, k->arena.base, k->arena.size);
    free(k);
}

void k_plan_begin(k_ctx *k)
{
    const k_backend *b = k->device->backend;
    k->status = 0;
    k->where[0] = 0;
    k->planning = 1;
    k->arena.used = k->arena.peak = 0;
    b->plan_begin(k);
}

static void no_memory(k_ctx *k, const char *what, size_t bytes)
{
    const k_backend *b = k->device->backend;
    if (b->room)
        k_fail(k, "%s of %zu KiB: %zu KiB of the GPU's memory are free; use a smaller picture.",
               what, (bytes + 1023) >> 10, b->room(k->device) >> 10);
    else
        k_fail(k, "%s of %zu KiB: there is no memory; use a smaller picture.", what,
               (bytes + 1023) >> 10);
}

int k_plan_end(k_ctx *k)
{
    const k_backend *b = k->device->backend;
    b->plan_end(k);
    k->planning = 0;
    k->arena.used = 0;
    if (k->status || k->arena.peak <= k->arena.size)
        return k->status;
    if (k->arena.base)
        b->free(k->device, k->arena.base, k->arena.size);
    k->arena.size = 0;
    k->arena.base = b->alloc(k->device, k->arena.peak, 0);
    if (k->arena.base)
        k->arena.size = k->arena.peak;
    else
        no_memory(k, "plan: an arena", k->arena.peak);
    return k->status;
}

/* ---- tensors ------------------------------------------------------------------------------- */

static k_tensor shaped(k_ctx *k, const char *op, int dtype, int n, int h, int w, int c,
                       size_t *bytes)
{
    k_tensor t = {.dtype = dtype, .n = n, .h = h, .w = w, .c = c, .ld = c};
    size_t size = k_size(dtype);
    if (!size || n < 1 || h < 1 || w < 1 || c < 1) {
        char text[K_SHAPE];
        k_fail(k, "%s: a tensor of type %d and shape %s cannot be.", op, dtype, k_shape(text, t));
        return (k_tensor){0};
    }
    /* Rows begin on 64 bytes where that costs little: narrow rows stay dense. */
    if ((size_t)c * size > ALIGN)
        t.ld = (int32_t)(align_up((size_t)c * size, ALIGN) / size);
    *bytes = align_up((size_t)k_rows(t) * (size_t)t.ld * size, ALIGN);
    return t;
}

k_tensor k_temp(k_ctx *k, int dtype, int n, int h, int w, int c)
{
    size_t bytes = 0;
    if (k->status)
        return (k_tensor){0};
    k_tensor t = shaped(k, "temp", dtype, n, h, w, c, &bytes);
    if (k->status)
        return t;
    if (!k->planning) {
        if (k->arena.used + bytes > k->arena.size) {
            char text[K_SHAPE];
            k_fail(k,
                   "temp: %s does not fit the planned arena of %zu bytes; plan this shape first.",
                   k_shape(text, t), k->arena.size);
            return (k_tensor){0};
        }
        t.data = k->arena.base + k->arena.used;
    }
    k->arena.used += bytes;
    if (k->arena.used > k->arena.peak)
        k->arena.peak = k->arena.used;
    return t;
}

size_t k_mark(const k_ctx *k)
{
    return k->arena.used;
}

void k_release(k_ctx *k, size_t mark)
{
    k->arena.used = mark;
}

static size_t kept_bytes(k_tensor t)
{
    return align_up((size_t)k_rows(t) * (size_t)t.ld * k_size(t.dtype), ALIGN);
}

k_tensor k_keep(k_ctx *k, int dtype, int n, int h, int w, int c)
{
    size_t bytes = 0;
    if (k->status)
        return (k_tensor){0};
    k_tensor t = shaped(k, "keep", dtype, n, h, w, c, &bytes);
    if (k->status)
        return t;
    t.data = k->device->backend->alloc(k->device, bytes, 1);
    if (!t.data) {
        no_memory(k, "keep: a tensor", bytes);
        return (k_tensor){0};
    }
    return t;
}

void k_drop(k_ctx *k, k_tensor *t)
{
    if (t->data) {
        k->device->backend->settle(k);
        k->device->backend->free(k->device, t->data, kept_bytes(*t));
    }
    *t = (k_tensor){0};
}

void k_put(k_ctx *k, k_tensor dst, const void *src)
{
    if (k->status || k->planning)
        return;
    size_t size = k_size(dst.dtype), row = size * (size_t)dst.c;
    k->device->backend->put(k, dst.data, size * (size_t)dst.ld, src, row, row, k_rows(dst));
}

void k_get(k_ctx *k, k_tensor src, void *dst)
{
    if (k->status || k->planning)
        return;
    size_t size = k_size(src.dtype), row = size * (size_t)src.c;
    k->device->backend->get(k, dst, row, src.data, size * (size_t)src.ld, row, k_rows(src));
}

void k_get_with(k_ctx *k, k_tensor src, void *dst)
{
    if (k->status || k->planning)
        return;
    size_t size = k_size(src.dtype), row = size * (size_t)src.c;
    k->device->backend->get_with(k, dst, row, src.data, size * (size_t)src.ld, row, k_rows(src));
}

void k_stamp(k_ctx *k, int i)
{
    if (!k->status && !k->planning)
        k->device->backend->stamp(k, i);
}

double k_stamp_ms(const k_ctx *k, int i)
{
    return k->device->backend->stamp_ms(k, i);
}

/* ---- weights -------------------------------------------------------------------------------- */

static const char *weight_fault(const k_weight_desc *d)
{
    if (d->out < 1 || d->in < 1 || d->kh < 1 || d->kw < 1)
        return "every size must be at least 1";
    if (d->parts < 1 || d->parts > K_MAX_PARTS)
        return "there must be 1 to 3 parts";
    if (d->out % d->parts)
        return "the parts must be of equal size";
    for (int i = 0; i < d->parts; i++) {
        const k_array *w = &d->weight[i], *b = &d->bias[i];
        if (!w->data || !k_is_float(w->dtype))
            return "the data must be f32, f16 or bf16";
        if (w->dtype != d->weight[0].dtype)
            return "the parts must be of one type";
        if (!b->data != !d->bias[0].data)
            return "all parts need a bias, or none";
        if (b->data && !k_is_float(b->dtype))
            return "the bias must be f32, f16 or bf16";
    }
    return NULL;
}

k_weight *k_weight_new(k_device *device, const k_weight_desc *desc, char why[K_WHY])
{
    const char *fault = weight_fault(desc);
    if (!fault)
        return device->backend->weight_new(device, desc, why);
    snprintf(why, K_WHY, "A weight of [%d, %d, %d, %d] in %d parts cannot be used: %s.",
             (int)desc->out, (int)desc->in, (int)desc->kh, (int)desc->kw, (int)desc->parts, fault);
    return NULL;
}

void k_weight_free(k_device *device, k_weight *weight)
{
    if (weight)
        device->backend->weight_free(device, weight);
}

static const char *delta_fault(const k_weight_desc *w, const k_delta *c)
{
    const k_array *arrays[] = {&c->up, &c->down, &c->magnitude};
    if (c->part < 0 || c->part >= w->parts)
        return "the weight has no such part";
    if (c->rank < 1)
        return "its rank must be at least 1";
    if (!(c->scale >= -FLT_MAX && c->scale <= FLT_MAX))
        return "its scale is not a number";
    for (int i = 0; i < 3; i++) {
        if (arrays[i]->data ? !k_is_float(arrays[i]->dtype) : i < 2)
            return "its factors must be f32, f16 or bf16";
    }
    return NULL;
}

int k_weight_delta(k_device *device, k_weight *weight, const k_delta *list, int count,
                   char why[K_WHY])
{
    const k_weight_desc *w = device->backend->weight_desc(weight);
    for (int i = 0; i < count; i++) {
        const char *fault = delta_fault(w, &list[i]);
        if (!fault)
            continue;
        snprintf(why, K_WHY, "Change %d of the weight [%d, %d, %d, %d] cannot be used: %s.", i,
                 (int)w->out, (int)w->in, (int)w->kh, (int)w->kw, fault);
        return -1;
    }
    return device->backend->weight_delta(device, weight, list, count, why);
}
