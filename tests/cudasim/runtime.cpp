/* runtime.cpp - stands in for libcudart: objects made by nvcc are linked with this instead, and
 * their kernels run from the PTX inside them. Streams hold their work back until something waits
 * for it, so that a forgotten synchronisation shows. One lock guards every call. */
#include <time.h>

#include "runtime.h"

#define FORBIDDEN REFUSE(forbidden(), cudaErrorStreamCaptureUnsupported)

/* ---- streams ---- */

static void failed(const string &what)
{
    State &s = state();
    s.fault = what;
    s.sticky = cudaErrorLaunchFailure;
    fprintf(stderr, "cudasim: %s\n", what.c_str());
    if (number_from("CUDASIM_ABORT", 0))
        abort();
}

static void run_until(Stream &s, u64 ticket)
{
    while (s.ran < ticket && !s.queue.empty()) {
        Work work = std::move(s.queue.front());
        s.queue.pop_front();
        s.ran++;
        if (state().sticky)
            continue;
        try {
            work(s);
        } catch (Fault &f) {
            failed(f.what);
        }
    }
}

/* The host waits: launches that come after do not overlap what was there. */
static void wait_until(Stream &s, u64 ticket)
{
    run_until(s, ticket);
    s.chain = s.ran == s.queued ? 0 : s.chain;
}

static void run_all(bool blocking_only)
{
    for (auto &s : state().streams)
        if (s.second->blocking || !blocking_only)
            wait_until(*s.second, s.second->queued);
}

static std::shared_ptr<Stream> stream_of(cudaStream_t s)
{
    if (s == cudaStreamLegacy || s == cudaStreamPerThread)
        s = nullptr;
    std::shared_ptr<Stream> &found = state().streams[s];
    if (!s && !found) {
        found = std::make_shared<Stream>();
        found->blocking = true;
    }
    return found;
}

/* Whether a call that a capture forbids (it waits or allocates) was made during one. */
static bool forbidden(void)
{
    bool r = false;
    for (Capture *c : state().captures)
        if (c->mode == cudaStreamCaptureModeGlobal ||
            (c->mode == cudaStreamCaptureModeThreadLocal &&
             c->thread == std::this_thread::get_id()))
            r = c->invalid = true;
    return r;
}

static cudaError_t enqueue(cudaStream_t handle, Work work)
{
    std::shared_ptr<Stream> s = stream_of(handle);
    REFUSE(!s, cudaErrorInvalidResourceHandle);
    if (s->capture) {
        s->capture->nodes.push_back(std::move(work));
        return cudaSuccess;
    }
    if (!handle) { /* the legacy stream waits for the others and the others for it */
        for (auto &other : state().streams)
            if (other.second->blocking && other.second->capture) {
                other.second->capture->invalid = true;
                return done(cudaErrorStreamCaptureImplicit);
            }
        run_all(true);
    }
    s->queue.push_back(std::move(work));
    s->queued++;
    if (!handle)
        run_until(*s, s->queued);
    return cudaSuccess;
}

static cudaError_t finish(cudaStream_t handle)
{
    std::shared_ptr<Stream> s = stream_of(handle);
    REFUSE(!s, cudaErrorInvalidResourceHandle);
    if (s->capture) {
        s->capture->invalid = true;
        return done(cudaErrorStreamCaptureUnsupported);
    }
    if (!handle)
        run_all(true);
    wait_until(*s, s->queued);
    return done(state().sticky);
}

/* ---- launches ---- */

static cudaError_t launch(const void *f, dim3 grid, dim3 block, void **args, size_t smem,
                          cudaStream_t stream, bool overlaps)
{
    Kernel *k = kernel_of(f);
    REFUSE(!state().functions.count(f), cudaErrorInvalidDeviceFunction);
    REFUSE(!k, cudaErrorNoKernelImageForDevice);
    u64 threads = (u64)block.x * block.y * block.z, blocks = (u64)grid.x * grid.y * grid.z;
    REFUSE(!threads || threads > 1024 || block.z > 64 || !blocks || grid.x > INT32_MAX ||
               grid.y > 65535 || grid.z > 65535,
           cudaErrorInvalidConfiguration);
    REFUSE((int)threads > k->max_threads, cudaErrorLaunchOutOfResources);
    size_t limit = std::max<size_t>(48 << 10, k->max_dynamic + k->shared);
    REFUSE(smem + k->shared > limit, cudaErrorInvalidValue);
    bool captured = stream_of(stream) && stream_of(stream)->capture;
    if (skips() && !captured) {
        k->counters.launches++;
        return cudaSuccess;
    }
    Launch l = {k,
                {grid.x, grid.y, grid.z},
                {block.x, block.y, block.z},
                smem,
                {},
                overlaps && arch() >= 90,
                0,
                0};
    l.params.resize(k->param_bytes);
    for (size_t p = 0; p < k->params.size(); p++)
        memcpy(&l.params[k->params[p].offset], args[p], k->params[p].size);
    return enqueue(stream, [l](Stream &s) mutable {
        l.floor = s.chain;
        if (!l.overlaps || !s.chain)
            s.chain = l.floor = run_next_id();
        run_launch(l);
    });
}

/* Work that is no launch: nothing after it overlaps what is before it. */
static cudaError_t enqueue_whole(cudaStream_t stream, std::function<void()> work)
{
    return enqueue(stream, [work](Stream &s) {
        s.chain = 0;
        work();
    });
}

static thread_local struct {
    dim3 grid, block;
    size_t smem;
    cudaStream_t stream;
} pushed;

extern "C" unsigned __cudaPushCallConfiguration(dim3 g, dim3 b, size_t m, cudaStream_t s)
{
    pushed = {g, b, m, s};
    return 0;
}
SAME(__cudaPopCallConfiguration, (dim3 * g, dim3 *b, size_t *m, void *s),
     (*g = pushed.grid, *b = pushed.block, *m = pushed.smem, *(cudaStream_t *)s = pushed.stream,
      cudaSuccess))
SAME(__cudaGetKernel, (cudaKernel_t * k, const void *f), (*k = (cudaKernel_t)f, cudaSuccess))
API(cudaLaunchKernel, (const void *f, dim3 g, dim3 b, void **a, size_t m, cudaStream_t s),
    return launch(f, g, b, a, m, s, false))
SAME(__cudaLaunchKernel, (cudaKernel_t k, dim3 g, dim3 b, void **a, size_t m, cudaStream_t s),
     cudaLaunchKernel((const void *)k, g, b, a, m, s))
API(cudaLaunchKernelExC, (const cudaLaunchConfig_t *c, const void *f, void **a), {
    bool overlaps = false;
    for (unsigned i = 0; i < c->numAttrs; i++) {
        if (c->attrs[i].id == cudaLaunchAttributeProgrammaticStreamSerialization)
            overlaps = c->attrs[i].val.programmaticStreamSerializationAllowed;
        REFUSE(c->attrs[i].id == cudaLaunchAttributeClusterDimension, cudaErrorNotSupported);
    }
    return launch(f, c->gridDim, c->blockDim, a, c->dynamicSmemBytes, c->stream, overlaps);
})
API(cudaFuncSetAttribute, (const void *f, cudaFuncAttribute a, int v), {
    Kernel *k = kernel_of(f);
    REFUSE(!k, cudaErrorInvalidDeviceFunction);
    if (a == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        REFUSE(v < 0 || v + k->shared > shared_limit(), cudaErrorInvalidValue);
        k->max_dynamic = v;
    }
})
API(cudaFuncGetAttributes, (cudaFuncAttributes * a, const void *f), {
    Kernel *k = kernel_of(f);
    REFUSE(!k, cudaErrorInvalidDeviceFunction);
    memset(a, 0, sizeof *a);
    a->sharedSizeBytes = k->shared;
    a->localSizeBytes = k->local;
    a->maxThreadsPerBlock = k->max_threads;
    a->numRegs = 64;
    a->ptxVersion = a->binaryVersion = arch();
    a->maxDynamicSharedSizeBytes = std::max<int>(k->max_dynamic, (48 << 10) - k->shared);
})
API(cudaOccupancyMaxActiveBlocksPerMultiprocessor,
    (int *n, const void *f, int threads, size_t smem), {
        Kernel *k = kernel_of(f);
        REFUSE(!k || threads <= 0, cudaErrorInvalidValue);
        int by_threads = (arch() == 75 ? 1024 : 2048) / ((threads + 31) / 32 * 32);
        *n = std::min({16, by_threads, (int)(shared_limit() / (smem + k->shared + 1024))});
    })
SAME(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags,
     (int *n, const void *f, int threads, size_t smem, unsigned),
     cudaOccupancyMaxActiveBlocksPerMultiprocessor(n, f, threads, smem))

/* ---- memory ---- */

static void *allocate(size_t n, bool host)
{
    void *p = aligned_alloc(256, (n + 1023) / 256 * 256);
    memset(p, host || skips() ? 0 : 0xff, n);
    memory_add((u64)p, n, host);
    return p;
}

/* Memory of a device that is lost is gone, too, though the call says that it failed. */
static cudaError_t release(const char *name, void *p, bool host)
{
    Call call(name);
    FORBIDDEN;
    REFUSE(call.error && !sticks(call.error), call.error);
    run_all(false);
    REFUSE(p && !memory_remove((u64)p, host), cudaErrorInvalidValue);
    free(p);
    return done(state().sticky);
}

API(cudaMalloc, (void **p, size_t n), {
    FORBIDDEN;
    *p = nullptr;
    REFUSE(n > memory_limit() - memory_used(false), cudaErrorMemoryAllocation);
    *p = n ? allocate(n, false) : nullptr;
})
SAME(cudaFree, (void *p), release("cudaFree", p, false))
API(cudaHostAlloc, (void **p, size_t n, unsigned), FORBIDDEN; *p = allocate(n, true))
API(cudaMallocHost, (void **p, size_t n), FORBIDDEN; *p = allocate(n, true))
SAME(cudaFreeHost, (void *p), release("cudaFreeHost", p, true))
API(cudaHostGetDevicePointer, (void **d, void *h, unsigned), {
    Allocation *a = memory_find((u64)h);
    REFUSE(!a || !a->host, cudaErrorInvalidValue);
    *d = h;
})
API(cudaMemGetInfo, (size_t * available, size_t *total), *total = memory_limit();
    *available = *total - memory_used(false))

enum Where { PAGEABLE, PINNED, ON_DEVICE };
static Where where_is(const void *p)
{
    Allocation *a = memory_find((u64)p);
    return !a ? PAGEABLE : a->host ? PINNED : ON_DEVICE;
}

struct Rows { /* of memory: of a copy or a fill */
    char *at;
    size_t pitch;
};

static void touch_rows(const char *call, Rows r, size_t width, size_t height, bool write)
{
    for (size_t y = 0; y < height && !skips(); y++) {
        string why = memory_touch((u64)r.at + y * r.pitch, width, write);
        if (!why.empty())
            throw Fault{string(call) + ": " + (write ? "write to " : "read of ") + why};
    }
}

static cudaError_t copy(Rows to, Rows from, size_t width, size_t height, cudaMemcpyKind kind,
                        cudaStream_t stream, bool wait)
{
    Where d = where_is(to.at), s = where_is(from.at);
    bool any = kind == cudaMemcpyDefault;
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (width == 0 || height == 0)
        return cudaSuccess;
    REFUSE(height > 1 && (to.pitch < width || from.pitch < width), cudaErrorInvalidPitchValue);
    REFUSE(!any && d != PINNED && (d == ON_DEVICE) != to_device, cudaErrorInvalidValue);
    REFUSE(!any && s != PINNED && (s == ON_DEVICE) != from_device, cudaErrorInvalidValue);
    bool capturing = stream_of(stream) && stream_of(stream)->capture;
    auto staged = std::make_shared<vector<char>>(); /* pageable memory is read at the call */
    if (s == PAGEABLE && !capturing) {
        staged->resize(width * height);
        for (size_t y = 0; y < height; y++)
            memcpy(&(*staged)[y * width], from.at + y * from.pitch, width);
        from = {staged->data(), width};
    }
    cudaError_t e = enqueue_whole(stream, [=, keep = staged] {
        if (s != PAGEABLE)
            touch_rows("copy", from, width, height, false);
        if (d != PAGEABLE)
            touch_rows("copy", to, width, height, true);
        for (size_t y = 0; y < height; y++)
            memmove(to.at + y * to.pitch, from.at + y * from.pitch, width);
    });
    return e ? e : wait || (d == PAGEABLE && !capturing) ? finish(stream) : cudaSuccess;
}

static cudaError_t fill(Rows to, int value, size_t width, size_t height, cudaStream_t stream)
{
    REFUSE(where_is(to.at) == PAGEABLE, cudaErrorInvalidValue);
    return enqueue_whole(stream, [=] {
        touch_rows("memset", to, width, height, true);
        for (size_t y = 0; y < height; y++)
            memset(to.at + y * to.pitch, value, width);
    });
}

API(cudaMemcpyAsync, (void *d, const void *s, size_t n, cudaMemcpyKind k, cudaStream_t t),
    return copy({(char *)d, n}, {(char *)s, n}, n, 1, k, t, false))
API(cudaMemcpy, (void *d, const void *s, size_t n, cudaMemcpyKind k), FORBIDDEN;
    return copy({(char *)d, n}, {(char *)s, n}, n, 1, k, nullptr, true))
API(cudaMemcpy2DAsync,
    (void *d, size_t dp, const void *s, size_t sp, size_t w, size_t h, cudaMemcpyKind k,
     cudaStream_t t),
    return copy({(char *)d, dp}, {(char *)s, sp}, w, h, k, t, false))
API(cudaMemcpy2D,
    (void *d, size_t dp, const void *s, size_t sp, size_t w, size_t h, cudaMemcpyKind k), FORBIDDEN;
    return copy({(char *)d, dp}, {(char *)s, sp}, w, h, k, nullptr, true))
API(cudaMemsetAsync, (void *p, int v, size_t n, cudaStream_t s),
    return n ? fill({(char *)p, n}, v, n, 1, s) : cudaSuccess)
API(cudaMemset, (void *p, int v, size_t n),
    return n ? fill({(char *)p, n}, v, n, 1, nullptr) : cudaSuccess)
API(cudaMemset2DAsync, (void *p, size_t pitch, int v, size_t w, size_t h, cudaStream_t s),
    return fill({(char *)p, pitch}, v, w, h, s))
API(cudaMemcpyToSymbol, (const void *symbol, const void *s, size_t n, size_t at, cudaMemcpyKind), {
    auto v = state().variables.find(symbol);
    REFUSE(v == state().variables.end(), cudaErrorInvalidSymbol);
    auto place = module_of(v->second.binary).variables[v->second.name];
    REFUSE(!place.first || at + n > place.second, cudaErrorInvalidValue);
    return copy({place.first + at, n}, {(char *)s, n}, n, 1, cudaMemcpyHostToDevice, nullptr, true);
})

/* ---- streams, events, graphs ---- */

API(cudaStreamCreateWithFlags, (cudaStream_t * s, unsigned flags), {
    std::shared_ptr<Stream> made = std::make_shared<Stream>();
    made->blocking = !(flags & cudaStreamNonBlocking);
    *s = (cudaStream_t)made.get();
    state().streams[*s] = made;
})
SAME(cudaStreamCreate, (cudaStream_t * s), cudaStreamCreateWithFlags(s, 0))
SAME(cudaStreamCreateWithPriority, (cudaStream_t * s, unsigned flags, int),
     cudaStreamCreateWithFlags(s, flags))
API(cudaStreamDestroy, (cudaStream_t s), {
    REFUSE(!s || !state().streams.count(s), cudaErrorInvalidResourceHandle);
    run_until(*state().streams[s], state().streams[s]->queued);
    state().streams.erase(s);
})
API(cudaStreamSynchronize, (cudaStream_t s), return finish(s))
API(cudaStreamQuery, (cudaStream_t s), return finish(s))
API(cudaDeviceSynchronize, (void), {
    for (Capture *c : state().captures)
        c->invalid = true;
    REFUSE(!state().captures.empty(), cudaErrorStreamCaptureUnsupported);
    run_all(false);
    return done(state().sticky);
})
API(cudaEventCreateWithFlags, (cudaEvent_t * e, unsigned), *e = (cudaEvent_t) new Event())
SAME(cudaEventCreate, (cudaEvent_t * e), cudaEventCreateWithFlags(e, 0))
GIVE_BACK(cudaEventDestroy, (cudaEvent_t e), delete (Event *)e)
API(cudaEventRecord, (cudaEvent_t handle, cudaStream_t s), {
    Event *e = (Event *)handle;
    std::shared_ptr<Stream> stream = stream_of(s);
    REFUSE(!stream, cudaErrorInvalidResourceHandle);
    std::shared_ptr<double> time = e->time = std::make_shared<double>(0);
    cudaError_t error = enqueue(s, [time](Stream &) {
        timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        *time = t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
    });
    e->capture = stream->capture;
    e->stream = stream;
    e->ticket = stream->queued;
    return error;
})
API(cudaEventSynchronize, (cudaEvent_t handle), {
    Event *e = (Event *)handle;
    REFUSE(e->capture && state().captures.count(e->capture.get()), cudaErrorCapturedEvent);
    if (e->stream)
        wait_until(*e->stream, e->ticket);
    return done(state().sticky);
})
SAME(cudaEventQuery, (cudaEvent_t e), cudaEventSynchronize(e))
API(cudaEventElapsedTime, (float *ms, cudaEvent_t a, cudaEvent_t b), {
    std::shared_ptr<double> from = ((Event *)a)->time, to = ((Event *)b)->time;
    REFUSE(!from || !to, cudaErrorInvalidResourceHandle);
    REFUSE(!*from || !*to, cudaErrorNotReady);
    *ms = (float)(*to - *from);
})
API(cudaStreamWaitEvent, (cudaStream_t s, cudaEvent_t handle, unsigned), {
    Event *e = (Event *)handle;
    std::shared_ptr<Stream> on = e->stream, mine = stream_of(s);
    REFUSE(!mine, cudaErrorInvalidResourceHandle);
    u64 ticket = e->ticket;
    if (e->capture && state().captures.count(e->capture.get())) { /* joins the capture */
        mine->capture = e->capture;
        return cudaSuccess;
    }
    REFUSE(mine->capture && on, cudaErrorStreamCaptureIsolation);
    return on ? enqueue_whole(s, [=] { run_until(*on, ticket); }) : cudaSuccess;
})
API(cudaStreamBeginCapture, (cudaStream_t s, cudaStreamCaptureMode mode), {
    std::shared_ptr<Stream> stream = stream_of(s);
    REFUSE(!s, cudaErrorStreamCaptureUnsupported);
    REFUSE(!stream || stream->capture, cudaErrorIllegalState);
    stream->capture.reset(new Capture{{}, std::this_thread::get_id(), mode, false});
    state().captures.insert(stream->capture.get());
})
API(cudaStreamIsCapturing, (cudaStream_t s, cudaStreamCaptureStatus *status), {
    std::shared_ptr<Stream> stream = stream_of(s);
    *status = !stream || !stream->capture ? cudaStreamCaptureStatusNone
              : stream->capture->invalid  ? cudaStreamCaptureStatusInvalidated
                                          : cudaStreamCaptureStatusActive;
})
static cudaError_t end_capture(cudaStream_t s, cudaGraph_t *graph, cudaError_t error)
{
    std::shared_ptr<Stream> stream = stream_of(s);
    *graph = nullptr;
    REFUSE(!stream || !stream->capture, cudaErrorIllegalState);
    std::shared_ptr<Capture> c = stream->capture;
    for (auto &other : state().streams)
        if (other.second->capture == c)
            other.second->capture.reset();
    state().captures.erase(c.get());
    REFUSE(error || c->invalid, error ? error : cudaErrorStreamCaptureInvalidated);
    *graph = (cudaGraph_t) new Capture(*c);
    return cudaSuccess;
}
extern "C" cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph)
{
    Call call("cudaStreamEndCapture"); /* ends it also if it fails */
    return end_capture(s, graph, call.error);
}
API(cudaGraphInstantiate, (cudaGraphExec_t * e, cudaGraph_t g, unsigned long long),
    *e = (cudaGraphExec_t) new Capture(*(Capture *)g))
API(cudaGraphLaunch, (cudaGraphExec_t e, cudaStream_t s), {
    if (skips())
        return cudaSuccess;
    cudaError_t error = enqueue_whole(s, [] {});
    for (const Work &w : ((Capture *)e)->nodes)
        error = error ? error : enqueue(s, w);
    return error;
})
API(cudaGraphUpload, (cudaGraphExec_t, cudaStream_t), )
GIVE_BACK(cudaGraphDestroy, (cudaGraph_t g), delete (Capture *)g)
GIVE_BACK(cudaGraphExecDestroy, (cudaGraphExec_t g), delete (Capture *)g)
