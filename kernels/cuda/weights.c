/* weights.c - weights in the forms that ops like, made while planning and shared by contexts.
 *
 * As in cpu/: a form that a context uses is neither freed nor moved by another one, so ops read
 * forms without the lock; only making and freeing them takes it. Memory modes and `rare` change
 * nothing here: a GPU reads its own memory alone, and halves are the smallest form there is.
 */
#include "prepare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 256, MEBI = 20 };

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static size_t form_depth(const k_weight_desc *w, int kind)
{
    size_t in = (size_t)w->in, taps = (size_t)(w->kh * w->kw);
    if (kind == CUDA_VECTOR || kind == CUDA_TABLE)
        return in * taps;
    return (in + 7) / 8 * 8 * (kind == CUDA_FILTER_UP ? 4 : taps);
}

static size_t form_bytes(const k_weight_desc *w, int kind)
{
    size_t size = kind == CUDA_VECTOR ? 4 : kind == CUDA_TABLE ? k_size(w->weight[0].dtype) : 2;
    return (size_t)w->out * form_depth(w, kind) * size * (kind == CUDA_FILTER_UP ? 4 : 1);
}

/* ---- registration --------------------------------------------------------------------------- */

/* The check before loading: a model that cannot fit is refused while nothing of it is there yet. */
static int promise(cuda_device *d, const k_weight *w, char why[K_WHY])
{
    size_t need = d->promised + w->promised, room = cuda_room(d);
    if (need <= room) {
        d->promised = need;
        return 0;
    }
    snprintf(why, K_WHY,
             "The model needs at least %zu MiB of GPU memory and %.60s has %zu MiB free; use a "
             "smaller model, or --device cpu.",
             need >> MEBI, d->name, room >> MEBI);
    return -1;
}

k_weight *cuda_weight_new(k_device *device, const k_weight_desc *desc, char why[K_WHY])
{
    cuda_device *d = (cuda_device *)device;
    k_weight *w = calloc(1, sizeof *w);
    if (!w) {
        snprintf(why, K_WHY, "There is not enough memory for one more weight.");
        return NULL;
    }
    w->desc = *desc;
    w->promised = aligned(form_bytes(desc, CUDA_FILTER)) + 4 * (size_t)desc->out;
    pthread_mutex_lock(&d->lock);
    int failed = promise(d, w, why);
    if (!failed) {
        w->next = d->weights;
        d->weights = w;
    }
    pthread_mutex_unlock(&d->lock);
    if (!failed)
        return w;
    free(w);
    return NULL;
}

const k_weight_desc *cuda_weight_desc(const k_weight *weight)
{
    return &weight->desc;
}

static void form_free(cuda_device *d, cuda_form *f)
{
    if (f->data) {
        cudaFree(f->data); /* waits for work that may use it */
        d->bytes -= aligned(f->bytes) + f->bias_bytes;
    }
    memset(f, 0, sizeof *f);
}

void cuda_weight_free(k_device *device, k_weight *weight)
{
    cuda_device *d = (cuda_device *)device;
    cuda_enter(d);
    pthread_mutex_lock(&d->lock);
    k_weight **at = &d->weights;
    while (*at != weight)
        at = &(*at)->next;
    *at = weight->next;
    for (int i = 0; i < CUDA_KINDS * CUDA_TYPES; i++)
        form_free(d, &weight->forms[i / CUDA_TYPES][i % CUDA_TYPES]);
    d->promised -= weight->promised;
    if (!d->weights)
        cuda_loader_close(d);
    pthread_mutex_unlock(&d->lock);
    free(weight->change);
    free(weight);
}

/* ---- users ---------------------------------------------------------------------------------- */

static int touched(const k_weight *w, uint64_t bit)
{
    uint64_t fresh = 0;
    for (int i = 0; i < CUDA_KINDS * CUDA_TYPES; i++)
        fresh |= w->forms[i / CUDA_TYPES][i % CUDA_TYPES].fresh & bit;
    return fresh != 0;
}

void cuda_weights_release(k_ctx *k, int all)
{
    cuda_device *d = cuda_of(k);
    uint64_t bit = cuda_bit(k);
    pthread_mutex_lock(&d->lock);
    for (k_weight *w = d->weights; w; w = w->next) {
        int drop = all || touched(w, bit);
        for (int i = 0; i < CUDA_KINDS * CUDA_TYPES; i++) {
            cuda_form *f = &w->forms[i / CUDA_TYPES][i % CUDA_TYPES];
            if (drop && (all || !(f->fresh & bit)))
                __atomic_and_fetch(&f->users, ~bit, __ATOMIC_RELAXED);
            f->fresh &= ~bit;
            if (!f->users && f->data)
                form_free(d, f);
        }
    }
    pthread_mutex_unlock(&d->lock);
}

/* ---- making forms --------------------------------------------------------------------------- */

static cudaError_t form_make(cuda_device *d, k_weight *w, int kind, int type, cuda_form *f)
{
    cudaError_t e = cuda_loader_open(d);
    f->bytes = form_bytes(&w->desc, kind);
    f->bias_bytes = kind == CUDA_TABLE ? 0 : 4 * (size_t)w->desc.out;
    f->depth = (int)form_depth(&w->desc, kind);
    if (!e)
        e = cudaMalloc(&f->data, aligned(f->bytes) + f->bias_bytes);
    if (e) {
        f->data = NULL;
        form_free(d, f);
        return e;
    }
    d->bytes += aligned(f->bytes) + f->bias_bytes;
    f->bias = f->bias_bytes ? (float *)((char *)f->data + aligned(f->bytes)) : NULL;
    e = cudaMemsetAsync(f->data, 0, aligned(f->bytes) + f->bias_bytes, d->loader->stream);
    if (!e)
        e = cuda_form_fill(d, w, kind, type, f, ~0u);
    if (!e)
        e = cuda_form_bias(d, w, kind, f);
    if (e) {
        form_free(d, f);
        return e;
    }
    d->promised -= w->promised;
    w->promised = 0;
    return cudaSuccess;
}

static void say_why(k_ctx *k, const char *op, const k_weight *w, int kind, cudaError_t e)
{
    const k_weight_desc *s = &w->desc;
    cudaGetLastError(); /* what is reported here is not for the next call */
    if (e == cudaErrorMemoryAllocation)
        k_fail(k,
               "%s: the weight [%d, %d, %d, %d] needs %zu KiB of GPU memory and %zu KiB are free; "
               "use a smaller model or picture, or --device cpu.",
               op, (int)s->out, (int)s->in, (int)s->kh, (int)s->kw, form_bytes(s, kind) >> 10,
               cuda_room(cuda_of(k)) >> 10);
    else
        cuda_failed(k, e, op);
}

/* While planning. The context's stream waits for the form, not the host. */
static const cuda_form *form_ask(k_ctx *k, const char *op, k_weight *w, int kind, int type)
{
    cuda_device *d = cuda_of(k);
    uint64_t bit = cuda_bit(k);
    cuda_form *f = &w->forms[kind][type];
    cudaError_t e = cudaSuccess;
    pthread_mutex_lock(&d->lock);
    if (!f->data)
        e = form_make(d, w, kind, type, f);
    if (!e)
        e = cudaStreamWaitEvent(cuda_stream(k), d->loader->done, 0);
    if (!e) {
        __atomic_or_fetch(&f->users, bit, __ATOMIC_RELAXED);
        f->fresh |= bit;
    }
    pthread_mutex_unlock(&d->lock);
    if (!e)
        return f;
    say_why(k, op, w, kind, e);
    return NULL;
}

const cuda_form *cuda_form_of(k_ctx *k, const char *op, const k_weight *weight, int kind, int dtype)
{
    k_weight *w = (k_weight *)weight; /* ops see weights as const; their forms are a cache */
    int type = kind >= CUDA_FILTER && dtype == K_BF16 ? CUDA_BF16 : CUDA_F16;
    if (k->planning)
        return form_ask(k, op, w, kind, type);
    cuda_form *f = &w->forms[kind][type];
    if (__atomic_load_n(&f->users, __ATOMIC_RELAXED) & cuda_bit(k))
        return f;
    k_fail(k, "%s: this use of the weight [%d, %d, %d, %d] was not planned; plan the shape first.",
           op, (int)w->desc.out, (int)w->desc.in, (int)w->desc.kh, (int)w->desc.kw);
    return NULL;
}
