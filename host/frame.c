/* frame.c - the frame pool: counted buffers, handed out by shape and kept for the next one.
 *
 * Sits under instance and media. Must stay true: a frame's bytes are never moved or freed while it
 * is referenced; a stream of one shape takes memory only until its first frames have come back.
 */
#include "frame.h"
#include "error.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

enum {
    ALIGN = 64,
    IDLE_MAX = 32, /* idle buffers a pool keeps; beyond that the oldest is given back */
    SIDE_MAX = 32768,
    TIME_MAX = 4096,
};
#define BYTES_MAX ((uint64_t)4 << 30)

struct frame_pool {
    pthread_mutex_t lock;
    frame_memory memory;
    frame *idle[IDLE_MAX]; /* owned; oldest first */
    int idle_count;
    int lent; /* frames that are out */
};

static void *heap_take(void *ctx, size_t bytes)
{
    (void)ctx;
    return aligned_alloc(ALIGN, (bytes + ALIGN - 1) / ALIGN * ALIGN);
}

static void heap_give(void *ctx, void *data, size_t bytes)
{
    (void)ctx, (void)bytes;
    free(data);
}

size_t frame_dtype_size(int dtype)
{
    switch (dtype) {
    case SCOPE_U8:
        return 1;
    case SCOPE_F16:
        return 2;
    case SCOPE_F32:
        return 4;
    default:
        return 0;
    }
}

/* Bytes of a sane shape, or 0 with *err filled. */
static size_t shape_bytes(const scope_video *v, scope_error *err)
{
    size_t element = frame_dtype_size(v->dtype);
    if (v->t < 1 || v->t > TIME_MAX || v->h < 1 || v->h > SIDE_MAX || v->w < 1 || v->w > SIDE_MAX) {
        error_set(err, SCOPE_EINVAL, "",
                  "a frame of %d x %d x %d (time, height, width) is not possible; time goes to %d, "
                  "height and width go to %d",
                  v->t, v->h, v->w, TIME_MAX, SIDE_MAX);
        return 0;
    }
    if (v->c != 1 && v->c != 3 && v->c != 4) {
        error_set(err, SCOPE_EINVAL, "", "a frame of %d channels is not possible; use 1, 3 or 4",
                  v->c);
        return 0;
    }
    if (!element) {
        error_set(err, SCOPE_EINVAL, "",
                  "%d is no element type; use SCOPE_U8, SCOPE_F16 or SCOPE_F32", v->dtype);
        return 0;
    }
    uint64_t bytes = (uint64_t)v->t * (uint64_t)v->h * (uint64_t)v->w * (uint64_t)v->c * element;
    if (bytes > BYTES_MAX) {
        error_set(err, SCOPE_EINVAL, "", "a frame of %.1f GiB is too large; the limit is %.0f GiB",
                  (double)bytes / (1 << 30), (double)BYTES_MAX / (1 << 30));
        return 0;
    }
    return bytes;
}

frame_pool *frame_pool_new(void)
{
    return frame_pool_new_in(&(frame_memory){0, heap_take, heap_give, false});
}

frame_pool *frame_pool_new_in(const frame_memory *memory)
{
    frame_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pool->memory = *memory;
    return pool;
}

static void destroy(frame *f)
{
    const frame_memory *m = &f->pool->memory;
    m->give(m->ctx, f->v.data, f->capacity);
    free(f);
}

void frame_pool_free(frame_pool *pool)
{
    if (!pool)
        return;
    assert(pool->lent == 0);
    for (int i = 0; i < pool->idle_count; i++)
        destroy(pool->idle[i]);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* Take idle frame i out of the list. Lock held. */
static frame *unlist(frame_pool *pool, int i)
{
    frame *f = pool->idle[i];
    pool->idle_count--;
    for (; i < pool->idle_count; i++)
        pool->idle[i] = pool->idle[i + 1];
    return f;
}

/* The tightest idle buffer that holds `bytes` without wasting more than half of it. */
static frame *reuse(frame_pool *pool, size_t bytes)
{
    int best = -1;
    pthread_mutex_lock(&pool->lock);
    for (int i = 0; i < pool->idle_count; i++) {
        size_t capacity = pool->idle[i]->capacity;
        if (capacity >= bytes && capacity / 2 <= bytes &&
            (best < 0 || capacity < pool->idle[best]->capacity))
            best = i;
    }
    frame *f = best < 0 ? NULL : unlist(pool, best);
    if (f)
        pool->lent++;
    pthread_mutex_unlock(&pool->lock);
    return f;
}

static frame *create(frame_pool *pool, size_t bytes)
{
    frame *f = calloc(1, sizeof *f);
    void *data = f ? pool->memory.take(pool->memory.ctx, bytes) : NULL;
    if (!data) {
        free(f);
        return NULL;
    }
    f->v.data = data;
    f->capacity = bytes;
    f->pool = pool;
    pthread_mutex_lock(&pool->lock);
    pool->lent++;
    pthread_mutex_unlock(&pool->lock);
    return f;
}

frame *frame_new(frame_pool *pool, const scope_video *shape, scope_error *err)
{
    size_t bytes = shape_bytes(shape, err);
    if (!bytes)
        return NULL;
    frame *f = reuse(pool, bytes);
    if (!f)
        f = create(pool, bytes);
    if (!f) {
        error_set(err, SCOPE_ENOMEM, "", "no memory for a frame of %d x %d pixels (%.1f MiB)",
                  shape->w, shape->h, (double)bytes / (1 << 20));
        return NULL;
    }
    void *data = f->v.data;
    int64_t stride_h = (int64_t)shape->w * shape->c * (int64_t)frame_dtype_size(shape->dtype);
    f->v = (scope_video){.t = shape->t,
                         .h = shape->h,
                         .w = shape->w,
                         .c = shape->c,
                         .dtype = shape->dtype,
                         .device = SCOPE_CPU,
                         .stride_t = stride_h * shape->h,
                         .stride_h = stride_h,
                         .data = data};
    f->duration_us = 0;
    __atomic_store_n(&f->refs, 1, __ATOMIC_RELEASE);
    return f;
}

frame *frame_ref(frame *f)
{
    __atomic_add_fetch(&f->refs, 1, __ATOMIC_RELAXED);
    return f;
}

void frame_unref(frame *f)
{
    if (!f)
        return;
    int left = __atomic_sub_fetch(&f->refs, 1, __ATOMIC_ACQ_REL);
    assert(left >= 0);
    if (left > 0)
        return;
    frame_pool *pool = f->pool;
    frame *surplus = f;
    pthread_mutex_lock(&pool->lock);
    pool->lent--;
    if (!pool->memory.exact) {
        surplus = pool->idle_count == IDLE_MAX ? unlist(pool, 0) : NULL;
        pool->idle[pool->idle_count++] = f;
    }
    pthread_mutex_unlock(&pool->lock);
    if (surplus)
        destroy(surplus);
}
