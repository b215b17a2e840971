/* delta.c - low-rank changes of weights (LoRA, DoRA): what is kept of them, and putting them in
 * force.
 *
 * A changed form is made as a fresh one is, from the file's data, with the change added on the way
 * (prepare.cu), and written over the old one. So its address stays, graphs that were captured stay
 * good, and without changes a form is bit by bit what it was. What was in the file comes over the
 * bus again: memory that keeps it on the device would cost a second model.
 */
#include "prepare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t put_array(struct cuda_change *c, size_t at, const k_array *a, size_t count)
{
    size_t bytes = count * k_size(a->dtype);
    if (c)
        memcpy(c->image + at, a->data, bytes);
    return at + (bytes + 15) / 16 * 16;
}

/* Terms and factors into the image; returns its size. With c NULL it only measures. */
static size_t lay_out(const k_weight_desc *w, const k_delta *list, int count, struct cuda_change *c)
{
    size_t each = (size_t)(w->out / w->parts), depth = (size_t)(w->in * w->kh * w->kw);
    size_t at = (sizeof(cuda_term) * (size_t)count + 15) / 16 * 16;
    for (int i = 0; i < count; i++) {
        const k_delta *s = &list[i];
        cuda_term t = {.part = s->part,
                       .rank = s->rank,
                       .scale = s->scale,
                       .up_type = s->up.dtype,
                       .down_type = s->down.dtype};
        t.up = at;
        at = put_array(c, at, &s->up, each * (size_t)s->rank);
        t.down = at;
        at = put_array(c, at, &s->down, depth * (size_t)s->rank);
        if (s->magnitude.data) {
            t.magnitude_type = s->magnitude.dtype;
            t.magnitude = at;
            at = put_array(c, at, &s->magnitude, each);
        }
        if (c) {
            memcpy(c->image + sizeof t * (size_t)i, &t, sizeof t);
            c->parts |= 1u << s->part;
        }
    }
    return at;
}

/* NULL: no memory. */
static struct cuda_change *change_new(const k_weight_desc *w, const k_delta *list, int count)
{
    size_t bytes = lay_out(w, list, count, NULL), each = (size_t)(w->out / w->parts);
    struct cuda_change *c = calloc(1, sizeof *c + bytes);
    if (!c)
        return NULL;
    c->terms = count;
    c->image_bytes = c->bytes = bytes;
    lay_out(w, list, count, c);
    for (int i = 0; i < count; i++) {
        if (!list[i].magnitude.data)
            continue;
        uint64_t gain = c->bytes;
        memcpy(c->image + sizeof(cuda_term) * (size_t)i + offsetof(cuda_term, gain), &gain,
               sizeof gain);
        c->bytes += 4 * each;
    }
    return c;
}

static int is_made(const k_weight *w)
{
    for (int i = 0; i < CUDA_KINDS * CUDA_TYPES; i++)
        if (w->forms[i / CUDA_TYPES][i % CUDA_TYPES].data)
            return 1;
    return 0;
}

/* Every filter anew, where it is. */
static cudaError_t fill_again(cuda_device *d, const k_weight *w, unsigned parts)
{
    cudaError_t e = cudaSuccess;
    for (int kind = CUDA_FILTER; kind < CUDA_KINDS; kind++)
        for (int type = 0; type < CUDA_TYPES && !e; type++)
            if (w->forms[kind][type].data)
                e = cuda_form_fill(d, w, kind, type, &w->forms[kind][type], parts);
    return e ? e : cudaStreamSynchronize(d->loader->stream);
}

static int changed(const cuda_device *d)
{
    for (const k_weight *w = d->weights; w; w = w->next)
        if (w->change)
            return 1;
    return 0;
}

/* Takes `next`. Whatever can fail for want of memory comes first. */
static cudaError_t replace(cuda_device *d, k_weight *w, struct cuda_change *next)
{
    struct cuda_change *before = w->change;
    unsigned parts = (before ? before->parts : 0) | (next ? next->parts : 0);
    cudaError_t e = cudaSuccess;
    if (is_made(w)) {
        if (next)
            e = cuda_loader_factors(d, next->bytes);
        if (e) {
            free(next);
            return e;
        }
        w->change = next;
        e = fill_again(d, w, parts);
    }
    w->change = next;
    free(before);
    if (!next && d->loader && !changed(d))
        cuda_loader_factors(d, 0);
    return e;
}

int cuda_weight_delta(k_device *device, k_weight *w, const k_delta *list, int count,
                      char why[K_WHY])
{
    cuda_device *d = (cuda_device *)device;
    const k_weight_desc *s = &w->desc;
    struct cuda_change *next = count ? change_new(s, list, count) : NULL;
    cudaError_t e = cudaSuccess;
    int failed = count && !next;
    cuda_settle(d); /* ops before this call see the weight as it was */
    cuda_enter(d);
    pthread_mutex_lock(&d->lock);
    if (!failed && (next || w->change))
        e = replace(d, w, next);
    pthread_mutex_unlock(&d->lock);
    cudaGetLastError();
    if (failed || e == cudaErrorMemoryAllocation)
        snprintf(why, K_WHY, "There is no memory to change the weight [%d, %d, %d, %d].",
                 (int)s->out, (int)s->in, (int)s->kh, (int)s->kw);
    else if (e)
        snprintf(why, K_WHY, "The GPU failed to change the weight [%d, %d, %d, %d]: %s.",
                 (int)s->out, (int)s->in, (int)s->kh, (int)s->kw, cudaGetErrorString(e));
    return failed || e ? -1 : 0;
}
