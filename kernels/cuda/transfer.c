/* transfer.c - data to and from the host, through pinned memory, on the context's stream.
 *
 * Staging memory is handed out from its front and is free again after a wait; it grows when a
 * frame needs more than any before it.
 */
#include "tape.h"

#include <stdlib.h>
#include <string.h>

enum { STAGE_LEAST = 1 << 20, STAGE_ALIGN = 256, PIECE_LEAST = 128 << 10 };

/* ---- staging -------------------------------------------------------------------------------- */

static void *stage_alloc(k_ctx *k, int kind, size_t bytes)
{
    void *data = NULL;
    if (kind != STAGE_HOST)
        return cuda_alloc(k->device, bytes, 0);
    cuda_enter(cuda_of(k));
    return cudaMallocHost(&data, bytes) ? NULL : data;
}

static void stage_free(k_ctx *k, int kind, stage *s)
{
    if (s->base && kind != STAGE_HOST)
        cuda_free(k->device, s->base, s->size);
    else if (s->base)
        cudaFreeHost(s->base);
    *s = (stage){0};
}

/* A larger one in place of s, which stays until the next wait: what was handed out is in use. */
static int stage_grow(k_ctx *k, int kind, size_t bytes)
{
    cuda_ctx *c = cuda_ctx_of(k);
    stage *s = &c->stage[kind];
    size_t size = 2 * s->size > bytes ? 2 * s->size : bytes;
    stage grown = {.size = size > STAGE_LEAST ? size : STAGE_LEAST};
    if (c->retirees < TAPE_RETIRED)
        grown.base = stage_alloc(k, kind, grown.size);
    if (!grown.base) {
        cudaGetLastError();
        k_fail(k, "cuda: there is no memory to stage %zu KiB (%zu KiB of the GPU's are free).",
               grown.size >> 10, cuda_room(cuda_of(k)) >> 10);
        return -1;
    }
    if (s->base) {
        c->retired[c->retirees].kind = kind;
        c->retired[c->retirees++].memory = *s;
    }
    *s = grown;
    return 0;
}

static void *stage_take(k_ctx *k, int kind, size_t bytes)
{
    stage *s = &cuda_ctx_of(k)->stage[kind];
    bytes = (bytes + STAGE_ALIGN - 1) / STAGE_ALIGN * STAGE_ALIGN;
    if (k->status || (s->used + bytes > s->size && stage_grow(k, kind, bytes)))
        return NULL;
    void *data = s->base + s->used;
    s->used += bytes;
    return data;
}

void stage_reset(k_ctx *k)
{
    cuda_ctx *c = cuda_ctx_of(k);
    for (int i = 0; i < STAGES; i++)
        c->stage[i].used = 0;
    for (int i = 0; i < c->retirees; i++)
        stage_free(k, c->retired[i].kind, &c->retired[i].memory);
    c->retirees = 0;
}

void stage_fini(k_ctx *k)
{
    stage_reset(k);
    for (int i = 0; i < STAGES; i++)
        stage_free(k, i, &cuda_ctx_of(k)->stage[i]);
}

/* ---- copies ------------------------------------------------------------------------------------
 *
 * Large ones go in pieces, so that the GPU moves one while the processor copies another.
 */

/* Rows of a piece of `rows` rows of `bytes` bytes. */
static int64_t piece_rows(size_t bytes, int64_t rows)
{
    int64_t part = (rows + PIECES - 1) / PIECES;
    return bytes * (size_t)part < PIECE_LEAST ? rows : part;
}

static void copy_rows(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t bytes,
                      int64_t rows)
{
    if (to_pitch == bytes && from_pitch == bytes) {
        memcpy(to, from, bytes * (size_t)rows);
        return;
    }
    for (int64_t i = 0; i < rows; i++)
        memcpy((char *)to + (size_t)i * to_pitch, (const char *)from + (size_t)i * from_pitch,
               bytes);
}

void *cuda_upload(k_ctx *k, const void *from, size_t pitch, size_t bytes, int64_t rows)
{
    size_t all = bytes * (size_t)rows;
    char *there = stage_take(k, STAGE_INBOX, all), *here = stage_take(k, STAGE_HOST, all);
    if (!there || !here)
        return NULL;
    cuda_enter(cuda_of(k));
    cudaError_t e = cudaSuccess;
    /* Ahead of what is on the tape, which does not know of this memory yet. */
    for (int64_t i = 0, part = piece_rows(bytes, rows); i < rows && !e; i += part) {
        int64_t count = rows - i < part ? rows - i : part;
        size_t at = bytes * (size_t)i;
        copy_rows(here + at, bytes, (const char *)from + (size_t)i * pitch, pitch, bytes, count);
        e = cudaMemcpyAsync(there + at, here + at, bytes * (size_t)count, cudaMemcpyHostToDevice,
                            cuda_stream(k));
    }
    return cuda_failed(k, e, "cuda: an upload") ? NULL : there;
}

void *cuda_outbox(k_ctx *k, size_t bytes)
{
    return stage_take(k, STAGE_OUTBOX, bytes);
}

void cuda_download(k_ctx *k, void *to, size_t pitch, const void *outbox, size_t bytes, int64_t rows)
{
    cuda_get(k, to, pitch, outbox, bytes, bytes, rows);
}

void cuda_put(k_ctx *k, void *to, size_t to_pitch, const void *from, size_t from_pitch,
              size_t bytes, int64_t rows)
{
    void *here = stage_take(k, STAGE_HOST, bytes * (size_t)rows);
    cuda_submit(k); /* ops that were written before still see what was */
    if (!here)
        return;
    copy_rows(here, bytes, from, from_pitch, bytes, rows);
    cuda_enter(cuda_of(k));
    cuda_failed(k,
                cudaMemcpy2DAsync(to, to_pitch, here, bytes, bytes, (size_t)rows,
                                  cudaMemcpyHostToDevice, cuda_stream(k)),
                "cuda: an upload");
}

static cudaError_t fetch_rows(k_ctx *k, const fetch *f, int64_t first, int64_t rows)
{
    return cudaMemcpy2DAsync(f->here + (size_t)first * f->bytes, f->bytes,
                             (const char *)f->from + (size_t)first * f->from_pitch, f->from_pitch,
                             f->bytes, (size_t)rows, cudaMemcpyDeviceToHost, cuda_stream(k));
}

static void hand_over(const fetch *f, int64_t first, int64_t rows)
{
    copy_rows((char *)f->to + (size_t)first * f->to_pitch, f->to_pitch,
              f->here + (size_t)first * f->bytes, f->bytes, f->bytes, rows);
}

/* Those that wait, and then `last` in pieces. */
static cudaError_t fetch_all(k_ctx *k, const fetch *last)
{
    cuda_ctx *c = cuda_ctx_of(k);
    int64_t part = piece_rows(last->bytes, last->rows), at = 0;
    int pieces = 0;
    cudaError_t e = cudaSuccess;
    for (int i = 0; i < c->fetches && !e; i++)
        e = fetch_rows(k, &c->fetch[i], 0, c->fetch[i].rows);
    for (; at < last->rows && !e; at += part) {
        e = fetch_rows(k, last, at, last->rows - at < part ? last->rows - at : part);
        if (!e)
            e = cudaEventRecord(c->arrived[pieces++], c->stream);
    }
    for (int i = 0; i < pieces && !e; i++) {
        e = cudaEventSynchronize(c->arrived[i]);
        at = i * part;
        if (!e)
            hand_over(last, at, last->rows - at < part ? last->rows - at : part);
    }
    for (int i = 0; i < c->fetches && !e; i++)
        hand_over(&c->fetch[i], 0, c->fetch[i].rows);
    return e;
}

void cuda_get(k_ctx *k, void *to, size_t to_pitch, const void *from, size_t from_pitch,
              size_t bytes, int64_t rows)
{
    cuda_ctx *c = cuda_ctx_of(k);
    fetch last = {to, from, NULL, to_pitch, from_pitch, bytes, rows};
    last.here = stage_take(k, STAGE_HOST, bytes * (size_t)rows);
    for (int i = 0; i < c->fetches; i++)
        c->fetch[i].here = stage_take(k, STAGE_HOST, c->fetch[i].bytes * (size_t)c->fetch[i].rows);
    cuda_submit(k);
    cuda_enter(cuda_of(k));
    if (!k->status)
        cuda_failed(k, fetch_all(k, &last), "cuda: a download");
    c->fetches = 0;
    if (!k->status)
        stage_reset(k);
}

void cuda_get_with(k_ctx *k, void *to, size_t to_pitch, const void *from, size_t from_pitch,
                   size_t bytes, int64_t rows)
{
    cuda_ctx *c = cuda_ctx_of(k);
    if (c->fetches == FETCHES)
        cuda_get(k, to, to_pitch, from, from_pitch, bytes, rows);
    else
        c->fetch[c->fetches++] = (fetch){to, from, NULL, to_pitch, from_pitch, bytes, rows};
}
