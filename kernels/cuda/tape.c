/* tape.c - see cuda.h: contexts, and the tape of calls that becomes a graph.
 *
 * A tape is compared byte for byte with those that came before. New ones run call by call; one
 * that came before is captured, and replayed from then on. So a frame whose settings glide costs
 * plain launches, a steady one costs one launch, and there is no key that could forget a setting.
 * Must stay true: nothing here allocates once a tape has come twice.
 */
#include "tape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PLAIN_SHARED = 48 << 10, GRAPH_CALLS = 8 /* fewer are not worth a graph */ };

/* ---- failures ------------------------------------------------------------------------------- */

int cuda_failed(k_ctx *k, cudaError_t error, const char *what)
{
    if (!error)
        return 0;
    cudaGetLastError();
    if (error == cudaErrorMemoryAllocation)
        k_fail(k, "%s: the GPU has no memory left (%zu MiB are free).", what,
               cuda_room(cuda_of(k)) >> 20);
    else
        k_fail(k, "%s: the GPU failed: %s; load the plugin again, or use device \"cpu\".", what,
               cudaGetErrorString(error));
    return 1;
}

/* ---- writing -------------------------------------------------------------------------------- */

static size_t padded(size_t bytes)
{
    return (bytes + 15) / 16 * 16;
}

static void *tape_add(k_ctx *k, tape *t, const tape_call *call, const void *args)
{
    size_t at = t->used, need = at + padded(sizeof *call) + padded(call->bytes);
    if (need > t->room) {
        size_t room = 2 * need + (64 << 10);
        char *grown = realloc(t->data, room);
        if (!grown) {
            k_fail(k, "cuda: there is no memory for a tape of %zu bytes.", room);
            return NULL;
        }
        t->data = grown;
        t->room = room;
    }
    memset(t->data + at, 0, need - at);
    memcpy(t->data + at, call, sizeof *call);
    memcpy(t->data + at + padded(sizeof *call), args, call->bytes);
    t->used = need;
    t->calls++;
    return t->data + at;
}

/* More than 48 KiB of shared memory must be asked for, once per kernel: all there is, because the
 * limit is the kernel's, and contexts share it. */
static cudaError_t allow_shared(cuda_ctx *c, const void *kernel)
{
    for (int i = 0; i < c->allowances; i++)
        if (c->allowed[i] == kernel)
            return cudaSuccess;
    struct cudaFuncAttributes f;
    cudaError_t e = cudaFuncGetAttributes(&f, kernel);
    if (!e)
        e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 c->shared_bytes - (int)f.sharedSizeBytes);
    if (!e && c->allowances < TAPE_ALLOWED)
        c->allowed[c->allowances++] = kernel;
    return e;
}

static cudaError_t run_call(cuda_ctx *c, const tape_call *call, const void *args)
{
    if (!call->kernel)
        return call->library(c->stream, args);
    c->counts.launches++;
    if (call->shared > PLAIN_SHARED) {
        cudaError_t e = allow_shared(c, call->kernel);
        if (e)
            return e;
    }
    cudaLaunchAttribute overlap = {.id = cudaLaunchAttributeProgrammaticStreamSerialization};
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {
        .gridDim = {call->grid[0], call->grid[1], call->grid[2]},
        .blockDim = {call->threads, 1, 1},
        .dynamicSmemBytes = call->shared,
        .stream = c->stream,
        .attrs = &overlap,
        .numAttrs = (unsigned)c->overlap,
    };
    void *list[1] = {(void *)(uintptr_t)args};
    return cudaLaunchKernelExC(&config, call->kernel, list);
}

static void write_call(k_ctx *k, const tape_call *call, const void *args)
{
    cuda_ctx *c = cuda_ctx_of(k);
    if (k->status)
        return;
    if (c->measuring)
        cuda_failed(k, run_call(c, call, args), "cuda: a launch");
    else
        tape_add(k, &c->tape, call, args);
}

void cuda_launch(k_ctx *k, const void *kernel, dim3 grid, unsigned threads, size_t shared,
                 const void *args, size_t bytes)
{
    tape_call call = {.kernel = kernel,
                      .grid = {grid.x, grid.y, grid.z},
                      .threads = threads,
                      .shared = (uint32_t)shared,
                      .bytes = (uint32_t)bytes};
    write_call(k, &call, args);
}

void cuda_call(k_ctx *k, cudaError_t (*call)(cudaStream_t stream, const void *args),
               const void *args, size_t bytes)
{
    write_call(k, &(tape_call){.library = call, .bytes = (uint32_t)bytes}, args);
}

int cuda_measuring(const k_ctx *k)
{
    return cuda_ctx_of(k)->measuring;
}

void cuda_measure_begin(k_ctx *k)
{
    cuda_ctx_of(k)->measuring = 1;
}

void cuda_measure_end(k_ctx *k)
{
    cuda_ctx_of(k)->measuring = 0;
}

/* ---- running -------------------------------------------------------------------------------- */

static cudaError_t run_tape(cuda_ctx *c, const tape *t)
{
    cudaError_t e = cudaSuccess;
    for (size_t at = 0; at < t->used && !e;) {
        const tape_call *call = (const tape_call *)(t->data + at);
        const char *args = t->data + at + padded(sizeof *call);
        e = run_call(c, call, args);
        at += padded(sizeof *call) + padded(call->bytes);
    }
    return e;
}

static int same_tape(const tape *a, const tape *b)
{
    return a->used == b->used && !memcmp(a->data, b->data, a->used);
}

/* The tape as a graph; NULL where it cannot be captured, and then it runs call by call. */
static cudaGraphExec_t capture(cuda_ctx *c, const tape *t)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    if (cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal))
        return NULL;
    cudaError_t e = run_tape(c, t), end = cudaStreamEndCapture(c->stream, &graph);
    if (!e && !end && cudaGraphInstantiate(&exec, graph, 0))
        exec = NULL;
    if (graph)
        cudaGraphDestroy(graph);
    cudaGetLastError();
    c->counts.captures += exec != NULL;
    return exec;
}

static void copy_tape(k_ctx *k, tape *to, const tape *from)
{
    if (to->room < from->used) {
        free(to->data);
        to->room = from->room;
        to->data = malloc(to->room);
        if (!to->data) {
            k_fail(k, "cuda: there is no memory for a tape of %zu bytes.", to->room);
            *to = (tape){0};
            return;
        }
    }
    memcpy(to->data, from->data, from->used);
    to->used = from->used;
    to->calls = from->calls;
}

static tape_graph *find(tape_graph *list, int count, const tape *t)
{
    for (int i = 0; i < count; i++)
        if (list[i].was.used && same_tape(&list[i].was, t))
            return &list[i];
    return NULL;
}

/* The one that was not used for longest. */
static tape_graph *oldest(tape_graph *list, int count)
{
    tape_graph *g = list;
    for (int i = 1; i < count; i++)
        if (list[i].used_at < g->used_at)
            g = &list[i];
    return g;
}

/* A tape that was seen once becomes a graph, in place of the oldest one. */
static tape_graph *promote(cuda_ctx *c, tape_graph *seen)
{
    tape_graph *to = oldest(c->graph, TAPE_GRAPHS);
    cudaGraphExec_t exec = capture(c, &seen->was);
    if (!exec)
        return NULL;
    if (to->exec) {
        cudaStreamSynchronize(c->stream);
        cudaGraphExecDestroy(to->exec);
    }
    tape spare = to->was;
    to->was = seen->was;
    to->exec = exec;
    seen->was = spare;
    seen->was.used = 0;
    return to;
}

void cuda_submit(k_ctx *k)
{
    cuda_ctx *c = cuda_ctx_of(k);
    tape *t = &c->tape;
    if (!t->used)
        return;
    if (!k->status) {
        cuda_enter(cuda_of(k));
        tape_graph *g = NULL, *seen = NULL;
        if (c->graphs && t->calls >= GRAPH_CALLS) {
            g = find(c->graph, TAPE_GRAPHS, t);
            if (!g && (seen = find(c->seen, TAPE_SEEN, t)))
                g = promote(c, seen);
            if (!g && !seen) {
                seen = oldest(c->seen, TAPE_SEEN);
                seen->used_at = ++c->clock;
                copy_tape(k, &seen->was, t);
            }
        }
        c->counts.submits++;
        c->counts.graphs += g != NULL;
        if (g)
            g->used_at = ++c->clock;
        cuda_failed(k, g ? cudaGraphLaunch(g->exec, c->stream) : run_tape(c, t), "cuda: a frame");
    }
    t->used = 0;
    t->calls = 0;
}

void cuda_wait(k_ctx *k)
{
    cuda_ctx *c = cuda_ctx_of(k);
    cuda_submit(k);
    cuda_enter(cuda_of(k));
    cuda_failed(k, cudaStreamSynchronize(c->stream), "cuda: a frame");
    stage_reset(k);
}

void cuda_stamp(k_ctx *k, int i)
{
    cuda_write_clock(k, cuda_ctx_of(k)->stamps_device + i);
}

double cuda_stamp_ms(const k_ctx *k, int i)
{
    return (double)cuda_ctx_of(k)->stamps[i] * 1e-6;
}

cuda_counts cuda_counted(const k_ctx *k)
{
    return cuda_ctx_of(k)->counts;
}

void cuda_settle(cuda_device *d)
{
    k_ctx *list[64];
    pthread_mutex_lock(&d->lock);
    memcpy(list, d->context, sizeof list);
    pthread_mutex_unlock(&d->lock);
    for (int i = 0; i < 64; i++)
        if (list[i])
            cuda_wait(list[i]);
}

/* ---- scratch -------------------------------------------------------------------------------- */

void *cuda_scratch(k_ctx *k, const char *op, size_t bytes)
{
    cuda_ctx *c = cuda_ctx_of(k);
    if (k->planning && bytes > c->scratch_need)
        c->scratch_need = bytes;
    if (k->planning || bytes <= c->scratch_size)
        return k->planning ? NULL : c->scratch;
    k_fail(k, "%s: this shape was not planned (it needs %zu bytes of scratch, there are %zu).", op,
           bytes, c->scratch_size);
    return NULL;
}

void cuda_plan_begin(k_ctx *k)
{
    cuda_ctx *c = cuda_ctx_of(k);
    cuda_wait(k);
    k->status = 0; /* what failed before is over; a lost device fails again at once */
    k->where[0] = 0;
    c->tape.used = 0;
    c->tape.calls = 0;
    c->scratch_need = 0;
    c->fetches = 0;
}

void cuda_plan_end(k_ctx *k)
{
    cuda_ctx *c = cuda_ctx_of(k);
    cuda_wait(k);
    cuda_weights_release(k, 0);
    cuda_plans_save(cuda_of(k)->plans);
    if (k->status || c->scratch_need <= c->scratch_size)
        return;
    if (c->scratch)
        cuda_free(k->device, c->scratch, c->scratch_size);
    c->scratch_size = 0;
    c->scratch = cuda_alloc(k->device, c->scratch_need, 0);
    if (c->scratch)
        c->scratch_size = c->scratch_need;
    else
        k_fail(k, "plan: the GPU has no memory for %zu MiB of scratch (%zu MiB are free).",
               c->scratch_need >> 20, cuda_room(cuda_of(k)) >> 20);
}

/* ---- contexts ------------------------------------------------------------------------------- */

uint64_t cuda_bit(const k_ctx *k)
{
    return cuda_ctx_of(k)->bit;
}

cudaStream_t cuda_stream(const k_ctx *k)
{
    return cuda_ctx_of(k)->stream;
}

static int off(const char *variable)
{
    const char *value = getenv(variable);
    return value && !strcmp(value, "off");
}

/* SCOPE_CUDA_GRAPHS=off and SCOPE_CUDA_OVERLAP=off are for who looks for a fault. */
int cuda_open(k_ctx *k)
{
    cuda_device *d = cuda_of(k);
    cuda_ctx *c = calloc(1, sizeof *c);
    if (!c)
        return -1;
    k->impl = c;
    k->real = K_F16;
    k->wide = d->sm >= 80 ? K_BF16 : K_F16;
    c->overlap = d->sm >= 90 && !off("SCOPE_CUDA_OVERLAP");
    c->graphs = !off("SCOPE_CUDA_GRAPHS");
    c->shared_bytes = d->shared_bytes;
    pthread_mutex_lock(&d->lock);
    c->bit = ~d->contexts & (d->contexts + 1); /* the lowest free bit; 0 when all are taken */
    d->contexts |= c->bit;
    if (c->bit)
        d->context[__builtin_ctzll(c->bit)] = k;
    pthread_mutex_unlock(&d->lock);
    cuda_enter(d);
    void *stamps = NULL, *there = NULL;
    int events = 0;
    while (events < PIECES &&
           !cudaEventCreateWithFlags(&c->arrived[events], cudaEventDisableTiming))
        events++;
    if (c->bit && events == PIECES &&
        !cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking) &&
        !cudaHostAlloc(&stamps, K_STAMPS * sizeof *c->stamps, cudaHostAllocMapped) &&
        !cudaHostGetDevicePointer(&there, stamps, 0)) {
        c->stamps = stamps;
        c->stamps_device = there;
        return 0;
    }
    c->stamps = stamps;
    cudaGetLastError();
    cuda_close(k);
    return -1;
}

static void free_graphs(tape_graph *list, int count)
{
    for (int i = 0; i < count; i++) {
        if (list[i].exec)
            cudaGraphExecDestroy(list[i].exec);
        free(list[i].was.data);
    }
}

void cuda_close(k_ctx *k)
{
    cuda_device *d = cuda_of(k);
    cuda_ctx *c = cuda_ctx_of(k);
    cuda_enter(d);
    if (c->stream)
        cudaStreamSynchronize(c->stream);
    cuda_weights_release(k, 1);
    free_graphs(c->seen, TAPE_SEEN);
    free_graphs(c->graph, TAPE_GRAPHS);
    stage_fini(k);
    if (c->scratch)
        cuda_free(k->device, c->scratch, c->scratch_size);
    if (c->stamps)
        cudaFreeHost(c->stamps);
    for (int i = 0; i < PIECES; i++)
        if (c->arrived[i])
            cudaEventDestroy(c->arrived[i]);
    if (c->stream)
        cudaStreamDestroy(c->stream);
    pthread_mutex_lock(&d->lock);
    d->contexts &= ~c->bit;
    if (c->bit)
        d->context[__builtin_ctzll(c->bit)] = NULL;
    pthread_mutex_unlock(&d->lock);
    free(c->tape.data);
    free(c);
}
