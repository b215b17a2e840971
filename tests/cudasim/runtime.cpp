/* runtime.cpp - stands in for libcudart: objects made by nvcc are linked with this instead, and
 * their kernels run from the PTX inside them. Streams hold their work back until something waits
 * for it, so that a forgotten synchronisation shows. One lock guards every call. */
#include <cuda_runtime.h>
#include <cxxabi.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <deque>
#include <functional>
#include <mutex>
#include <set>
#include <thread>

#include "cudasim.h"
#include "sim.h"

/* ---- state ---- */

struct Stream;
typedef std::function<void(Stream &)> Work;
struct Capture {
    vector<Work> nodes;
    std::thread::id thread;
    cudaStreamCaptureMode mode;
    bool invalid;
};
struct Stream {
    std::deque<Work> queue;
    u64 queued, ran;
    bool blocking;
    std::shared_ptr<Capture> capture;
    u32 chain; /* id of the first block of the launches that may still overlap */
};
struct Event {
    std::shared_ptr<Stream> stream;
    u64 ticket;
    std::shared_ptr<double> time; /* ms, when it ran */
    std::shared_ptr<Capture> capture;
};
struct Binary { /* an object's device code */
    const char *ptx;
    size_t size;
    int arch;
    bool parsed;
    Module module;
};
struct Named {
    Binary *binary;
    string name;
};
struct Failure {
    int after;
    cudaError_t error;
};
struct State {
    std::recursive_mutex lock;
    std::map<cudaStream_t, std::shared_ptr<Stream>> streams;
    std::map<const void *, Named> functions, variables; /* by host address */
    std::map<const void *, std::unique_ptr<Kernel>> kernels;
    std::map<string, u64> counts;
    std::map<string, Failure> failures;
    cudaError_t sticky;
    string fault;
    std::set<Capture *> captures;
};
/* Never destroyed, and made by the first registration, which runs before constructors. */
static State &state(void)
{
    static State *s = new State();
    return *s;
}
static thread_local cudaError_t last_error;
static thread_local int device;

static int number_from(const char *variable, int otherwise)
{
    const char *s = getenv(variable);
    return s && *s ? atoi(s) : otherwise;
}

static int arch(void)
{
    static int a = number_from("CUDASIM_ARCH", 80);
    return a;
}

static size_t memory_limit(void)
{
    static size_t mb = number_from("CUDASIM_MEMORY_MB", 8192);
    return mb << 20;
}

static cudaError_t done(cudaError_t e)
{
    if (e)
        last_error = e;
    return e;
}

static bool sticks(cudaError_t e)
{
    return e == cudaErrorLaunchFailure || e == cudaErrorIllegalAddress;
}

/* Begins each call: counts it, and finds what makes it fail whatever its arguments. */
struct Call {
    std::lock_guard<std::recursive_mutex> guard;
    cudaError_t error;
    explicit Call(const char *name) : guard(state().lock), error(state().sticky)
    {
        state().counts[name]++;
        auto f = state().failures.find(name);
        if (f != state().failures.end() && f->second.after-- == 0) {
            error = f->second.error;
            state().failures.erase(f);
            if (sticks(error))
                state().sticky = error;
        }
        done(error);
    }
};
#define ENTER(name)                                                                                \
    Call call(#name);                                                                              \
    if (call.error)                                                                                \
    return call.error
#define REFUSE(condition, error)                                                                   \
    if (condition)                                                                                 \
    return done(error)

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

static void run_all(bool blocking_only)
{
    for (auto &s : state().streams)
        if (s.second->blocking || !blocking_only)
            run_until(*s.second, s.second->queued);
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
    run_until(*s, s->queued);
    return done(state().sticky);
}

/* ---- device code ---- */

static Module &module_of(Binary *b)
{
    if (!b->parsed)
        ptx_module(b->ptx, b->size, b->module);
    b->parsed = true;
    return b->module;
}

static Kernel *kernel_of(const void *host)
{
    auto f = state().functions.find(host);
    if (f == state().functions.end())
        return nullptr;
    std::unique_ptr<Kernel> &k = state().kernels[host];
    if (!k) {
        k.reset(new Kernel());
        if (!f->second.binary->ptx || !ptx_kernel(module_of(f->second.binary), f->second.name, *k))
            k->module = nullptr;
    }
    return k.get();
}

static string demangled(const string &name)
{
    int status;
    char *s = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
    string r = s ? s : name.c_str();
    free(s);
    r = r.substr(0, r.rfind('('));
    return r.compare(0, 5, "void ") ? r : r.substr(5);
}

static void report(void)
{
    const char *path = getenv("CUDASIM_REPORT");
    FILE *f = path ? fopen(path, "a") : nullptr;
    for (auto &i : state().functions) {
        Kernel *k = f ? kernel_of(i.first) : nullptr;
        if (!k)
            continue;
        const Counters &c = k->counters;
        fprintf(f, "%s\t%d\t%llu\t%llu\t%.3f\t%.3f\n", demangled(i.second.name).c_str(), arch(),
                (unsigned long long)c.launches, (unsigned long long)c.mma,
                c.passes_ideal ? (double)c.passes / c.passes_ideal : 1,
                c.sectors_ideal ? (double)c.sectors / c.sectors_ideal : 1);
    }
    if (f)
        fclose(f);
}

extern "C" void **__cudaRegisterFatBinary(void *fat)
{
    struct Wrapper {
        int magic, version;
        const char *data;
    };
    struct Header {
        u32 magic;
        u16 version, size;
        u64 bytes;
    };
    struct Entry {
        u16 kind, version;
        u32 header;
        u64 bytes;
        u32 compressed, options;
        u16 minor, major;
        u32 arch;
    };
    const Header *h = (const Header *)((const Wrapper *)fat)->data;
    const char *p = (const char *)h + h->size, *end = p + h->bytes;
    Binary *b = new Binary();
    if (state().functions.empty())
        atexit(report);
    while (p < end) { /* the highest that is not above the device */
        const Entry *e = (const Entry *)p;
        if (e->kind == 1 && (int)e->arch <= arch() && (int)e->arch >= b->arch) {
            b->ptx = p + e->header;
            b->size = strnlen(b->ptx, e->bytes);
            b->arch = e->arch;
        }
        p += e->header + e->bytes;
    }
    return (void **)b;
}

extern "C" void __cudaRegisterFatBinaryEnd(void **)
{
}
extern "C" void __cudaUnregisterFatBinary(void **)
{
}
extern "C" char __cudaInitModule(void **)
{
    return 1;
}
extern "C" void __cudaRegisterFunction(void **b, const char *host, char *, const char *name, int,
                                       uint3 *, uint3 *, dim3 *, dim3 *, int *)
{
    state().functions[host] = {(Binary *)b, name};
}
extern "C" void __cudaRegisterVar(void **b, char *host, char *, const char *name, int, size_t, int,
                                  int)
{
    state().variables[host] = {(Binary *)b, name};
}

/* ---- launches ---- */

static size_t shared_limit(void) /* that a block may ask for */
{
    int kb = arch() >= 90 ? 227 : arch() > 80 ? 99 : arch() == 80 ? 163 : 64;
    return (size_t)kb << 10;
}

static cudaError_t launch(const void *f, dim3 grid, dim3 block, void **args, size_t smem,
                          cudaStream_t stream, bool overlaps)
{
    Kernel *k = kernel_of(f);
    REFUSE(!k, cudaErrorInvalidDeviceFunction);
    REFUSE(!k->module, cudaErrorNoKernelImageForDevice);
    if (!k->decoded)
        ptx_decode(*k);
    u64 threads = (u64)block.x * block.y * block.z, blocks = (u64)grid.x * grid.y * grid.z;
    REFUSE(!threads || threads > 1024 || block.z > 64 || !blocks || grid.x > INT32_MAX ||
               grid.y > 65535 || grid.z > 65535,
           cudaErrorInvalidConfiguration);
    REFUSE((int)threads > k->max_threads, cudaErrorLaunchOutOfResources);
    size_t limit = std::max<size_t>(48 << 10, k->max_dynamic + k->shared);
    REFUSE(smem + k->shared > limit, cudaErrorInvalidValue);
    Launch l = {k, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, smem, {}, 0,
                0, overlaps && arch() >= 90};
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

extern "C" {
unsigned __cudaPushCallConfiguration(dim3 g, dim3 b, size_t m, cudaStream_t s)
{
    pushed = {g, b, m, s};
    return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3 *g, dim3 *b, size_t *m, void *s)
{
    *g = pushed.grid;
    *b = pushed.block;
    *m = pushed.smem;
    *(cudaStream_t *)s = pushed.stream;
    return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t *k, const void *f)
{
    *k = (cudaKernel_t)f;
    return cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void *f, dim3 g, dim3 b, void **a, size_t m, cudaStream_t s)
{
    ENTER(cudaLaunchKernel);
    return launch(f, g, b, a, m, s, false);
}
cudaError_t __cudaLaunchKernel(cudaKernel_t k, dim3 g, dim3 b, void **a, size_t m, cudaStream_t s)
{
    return cudaLaunchKernel((const void *)k, g, b, a, m, s);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *c, const void *f, void **a)
{
    ENTER(cudaLaunchKernelExC);
    bool overlaps = false;
    for (unsigned i = 0; i < c->numAttrs; i++) {
        if (c->attrs[i].id == cudaLaunchAttributeProgrammaticStreamSerialization)
            overlaps = c->attrs[i].val.programmaticStreamSerializationAllowed;
        REFUSE(c->attrs[i].id == cudaLaunchAttributeClusterDimension, cudaErrorNotSupported);
    }
    return launch(f, c->gridDim, c->blockDim, a, c->dynamicSmemBytes, c->stream, overlaps);
}
cudaError_t cudaFuncSetAttribute(const void *f, cudaFuncAttribute a, int v)
{
    ENTER(cudaFuncSetAttribute);
    Kernel *k = kernel_of(f);
    REFUSE(!k || !k->module, cudaErrorInvalidDeviceFunction);
    if (a == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        if (!k->decoded)
            ptx_decode(*k);
        REFUSE(v < 0 || v + k->shared > shared_limit(), cudaErrorInvalidValue);
        k->max_dynamic = v;
    }
    return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *a, const void *f)
{
    ENTER(cudaFuncGetAttributes);
    Kernel *k = kernel_of(f);
    REFUSE(!k, cudaErrorInvalidDeviceFunction);
    REFUSE(!k->module, cudaErrorNoKernelImageForDevice);
    if (!k->decoded)
        ptx_decode(*k);
    memset(a, 0, sizeof *a);
    a->sharedSizeBytes = k->shared;
    a->localSizeBytes = k->local;
    a->maxThreadsPerBlock = k->max_threads;
    a->numRegs = 64;
    a->ptxVersion = a->binaryVersion = arch();
    a->maxDynamicSharedSizeBytes = std::max<int>(k->max_dynamic, (48 << 10) - k->shared);
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *f,
                                                                   int threads, size_t smem,
                                                                   unsigned)
{
    ENTER(cudaOccupancyMaxActiveBlocksPerMultiprocessor);
    Kernel *k = kernel_of(f);
    REFUSE(!k || threads <= 0, cudaErrorInvalidValue);
    int by_threads = (arch() == 75 ? 1024 : 2048) / ((threads + 31) / 32 * 32);
    *n = std::min<int>({16, by_threads, (int)(shared_limit() / (smem + k->shared + 1024))});
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *f, int threads,
                                                          size_t smem)
{
    return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(n, f, threads, smem, 0);
}

/* ---- memory ---- */

cudaError_t cudaMalloc(void **p, size_t n)
{
    ENTER(cudaMalloc);
    REFUSE(forbidden(), cudaErrorStreamCaptureUnsupported);
    *p = nullptr;
    if (n == 0)
        return cudaSuccess;
    REFUSE(n > memory_limit() || memory_used() + n > memory_limit(), cudaErrorMemoryAllocation);
    *p = aligned_alloc(256, (n + 1023) / 256 * 256);
    memset(*p, 0xff, n);
    memory_add((u64)*p, n, false, false);
    return cudaSuccess;
}
cudaError_t cudaFree(void *p)
{
    ENTER(cudaFree);
    REFUSE(forbidden(), cudaErrorStreamCaptureUnsupported);
    run_all(false);
    REFUSE(p && !memory_remove((u64)p, false), cudaErrorInvalidValue);
    free(p);
    return done(state().sticky);
}
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned)
{
    ENTER(cudaHostAlloc);
    REFUSE(forbidden(), cudaErrorStreamCaptureUnsupported);
    *p = aligned_alloc(256, (n + 1023) / 256 * 256);
    memset(*p, 0, n);
    memory_add((u64)*p, n, true, true);
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **p, size_t n)
{
    ENTER(cudaMallocHost);
    return cudaHostAlloc(p, n, 0);
}
cudaError_t cudaFreeHost(void *p)
{
    ENTER(cudaFreeHost);
    REFUSE(forbidden(), cudaErrorStreamCaptureUnsupported);
    run_all(false);
    REFUSE(p && !memory_remove((u64)p, true), cudaErrorInvalidValue);
    free(p);
    return cudaSuccess;
}
cudaError_t cudaHostGetDevicePointer(void **d, void *h, unsigned)
{
    ENTER(cudaHostGetDevicePointer);
    Allocation *a = memory_find((u64)h);
    REFUSE(!a || !a->host || (u64)h >= a->base + a->size, cudaErrorInvalidValue);
    *d = h;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    ENTER(cudaMemGetInfo);
    *total = memory_limit();
    *available = *total - memory_used();
    return cudaSuccess;
}
}

enum Where { PAGEABLE, PINNED, ON_DEVICE };
static Where where_is(const void *p)
{
    Allocation *a = memory_find((u64)p);
    return !a || (u64)p >= a->base + a->size ? PAGEABLE : a->host ? PINNED : ON_DEVICE;
}

static void touch_rows(const char *call, const void *p, size_t pitch, size_t width, size_t height,
                       bool write)
{
    for (size_t y = 0; y < height; y++) {
        string why = memory_touch((u64)p + y * pitch, width, write);
        if (!why.empty())
            throw Fault{string(call) + ": " + (write ? "write to " : "read of ") + why};
    }
}

static cudaError_t copy(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                        size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream,
                        bool wait)
{
    Where d = where_is(to), s = where_is(from);
    if (kind == cudaMemcpyDefault)
        kind = d == ON_DEVICE   ? s == ON_DEVICE ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice
               : s == ON_DEVICE ? cudaMemcpyDeviceToHost
                                : cudaMemcpyHostToHost;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    if (width == 0 || height == 0)
        return cudaSuccess;
    REFUSE((height > 1 && (to_pitch < width || from_pitch < width)), cudaErrorInvalidPitchValue);
    REFUSE((d == PAGEABLE) == to_device && d != PINNED, cudaErrorInvalidValue);
    REFUSE((s == PAGEABLE) == from_device && s != PINNED, cudaErrorInvalidValue);
    vector<char> staged; /* what pageable memory holds now is what is copied */
    bool capturing = stream_of(stream) && stream_of(stream)->capture;
    if (s == PAGEABLE && !capturing) {
        staged.resize(width * height);
        for (size_t y = 0; y < height; y++)
            memcpy(&staged[y * width], (const char *)from + y * from_pitch, width);
    }
    cudaError_t e = enqueue_whole(stream, [=] {
        if (s != PAGEABLE)
            touch_rows("copy", from, from_pitch, width, height, false);
        if (d != PAGEABLE)
            touch_rows("copy", to, to_pitch, width, height, true);
        for (size_t y = 0; y < height; y++)
            memmove((char *)to + y * to_pitch,
                    staged.empty() ? (const char *)from + y * from_pitch : &staged[y * width],
                    width);
    });
    bool waits = wait || (d == PAGEABLE && !capturing);
    return e ? e : waits ? finish(stream) : cudaSuccess;
}

static cudaError_t fill(void *p, size_t pitch, int value, size_t width, size_t height,
                        cudaStream_t stream)
{
    REFUSE(where_is(p) == PAGEABLE, cudaErrorInvalidValue);
    return enqueue_whole(stream, [=] {
        touch_rows("memset", p, pitch, width, height, true);
        for (size_t y = 0; y < height; y++)
            memset((char *)p + y * pitch, value, width);
    });
}

extern "C" {
cudaError_t cudaMemcpyAsync(void *d, const void *s, size_t n, cudaMemcpyKind k, cudaStream_t t)
{
    ENTER(cudaMemcpyAsync);
    return copy(d, n, s, n, n, 1, k, t, false);
}
cudaError_t cudaMemcpy(void *d, const void *s, size_t n, cudaMemcpyKind k)
{
    ENTER(cudaMemcpy);
    REFUSE(forbidden(), cudaErrorStreamCaptureUnsupported);
    return copy(d, n, s, n, n, 1, k, nullptr, true);
}
cudaError_t cudaMemcpy2DAsync(void *d, size_t dp, const void *s, size_t sp, size_t w, size_t h,
                              cudaMemcpyKind k, cudaStream_t t)
{
    ENTER(cudaMemcpy2DAsync);
    return copy(d, dp, s, sp, w, h, k, t, false);
}
cudaError_t cudaMemcpy2D(void *d, size_t dp, const void *s, size_t sp, size_t w, size_t h,
                         cudaMemcpyKind k)
{
    ENTER(cudaMemcpy2D);
    REFUSE(forbidden(), cudaErrorStreamCaptureUnsupported);
    return copy(d, dp, s, sp, w, h, k, nullptr, true);
}
cudaError_t cudaMemsetAsync(void *p, int v, size_t n, cudaStream_t s)
{
    ENTER(cudaMemsetAsync);
    return n ? fill(p, n, v, n, 1, s) : cudaSuccess;
}
cudaError_t cudaMemset(void *p, int v, size_t n)
{
    ENTER(cudaMemset);
    return n ? fill(p, n, v, n, 1, nullptr) : cudaSuccess;
}
cudaError_t cudaMemset2DAsync(void *p, size_t pitch, int v, size_t w, size_t h, cudaStream_t s)
{
    ENTER(cudaMemset2DAsync);
    return fill(p, pitch, v, w, h, s);
}
cudaError_t cudaMemcpyToSymbol(const void *symbol, const void *from, size_t n, size_t at,
                               cudaMemcpyKind)
{
    ENTER(cudaMemcpyToSymbol);
    auto v = state().variables.find(symbol);
    REFUSE(v == state().variables.end(), cudaErrorInvalidSymbol);
    auto place = module_of(v->second.binary).variables[v->second.name];
    REFUSE(!place.first || at + n > place.second, cudaErrorInvalidValue);
    return copy(place.first + at, n, from, n, n, 1, cudaMemcpyHostToDevice, nullptr, true);
}

/* ---- streams, events, graphs ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags)
{
    ENTER(cudaStreamCreateWithFlags);
    std::shared_ptr<Stream> made = std::make_shared<Stream>();
    made->blocking = !(flags & cudaStreamNonBlocking);
    *s = (cudaStream_t)made.get();
    state().streams[*s] = made;
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *s)
{
    return cudaStreamCreateWithFlags(s, 0);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned flags, int)
{
    return cudaStreamCreateWithFlags(s, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    ENTER(cudaStreamDestroy);
    REFUSE(!s || !state().streams.count(s), cudaErrorInvalidResourceHandle);
    run_until(*state().streams[s], state().streams[s]->queued);
    state().streams.erase(s);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    ENTER(cudaStreamSynchronize);
    return finish(s);
}
cudaError_t cudaStreamQuery(cudaStream_t s)
{
    ENTER(cudaStreamQuery);
    return finish(s);
}
cudaError_t cudaDeviceSynchronize(void)
{
    ENTER(cudaDeviceSynchronize);
    for (Capture *c : state().captures)
        c->invalid = true;
    REFUSE(!state().captures.empty(), cudaErrorStreamCaptureUnsupported);
    run_all(false);
    return done(state().sticky);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    ENTER(cudaEventCreateWithFlags);
    *e = (cudaEvent_t) new Event();
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    return cudaEventCreateWithFlags(e, 0);
}
cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    ENTER(cudaEventDestroy);
    delete (Event *)e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t s)
{
    ENTER(cudaEventRecord);
    Event *e = (Event *)handle;
    std::shared_ptr<Stream> stream = stream_of(s);
    REFUSE(!stream, cudaErrorInvalidResourceHandle);
    e->capture = stream->capture;
    std::shared_ptr<double> time = e->time = std::make_shared<double>(0);
    cudaError_t error = enqueue(s, [time](Stream &) {
        timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        *time = t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
    });
    e->stream = stream;
    e->ticket = stream->queued;
    return error;
}
cudaError_t cudaEventSynchronize(cudaEvent_t handle)
{
    ENTER(cudaEventSynchronize);
    Event *e = (Event *)handle;
    REFUSE(e->capture && state().captures.count(e->capture.get()), cudaErrorCapturedEvent);
    if (e->stream)
        run_until(*e->stream, e->ticket);
    return done(state().sticky);
}
cudaError_t cudaEventQuery(cudaEvent_t e)
{
    return cudaEventSynchronize(e);
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b)
{
    ENTER(cudaEventElapsedTime);
    Event *from = (Event *)a, *to = (Event *)b;
    REFUSE(!from->time || !to->time, cudaErrorInvalidResourceHandle);
    REFUSE(!*from->time || !*to->time, cudaErrorNotReady);
    *ms = (float)(*to->time - *from->time);
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t handle, unsigned)
{
    ENTER(cudaStreamWaitEvent);
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
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode)
{
    ENTER(cudaStreamBeginCapture);
    std::shared_ptr<Stream> stream = stream_of(s);
    REFUSE(!s, cudaErrorStreamCaptureUnsupported);
    REFUSE(!stream || stream->capture, cudaErrorIllegalState);
    stream->capture = std::make_shared<Capture>();
    stream->capture->thread = std::this_thread::get_id();
    stream->capture->mode = mode;
    state().captures.insert(stream->capture.get());
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus *status)
{
    ENTER(cudaStreamIsCapturing);
    std::shared_ptr<Stream> stream = stream_of(s);
    *status = !stream || !stream->capture ? cudaStreamCaptureStatusNone
              : stream->capture->invalid  ? cudaStreamCaptureStatusInvalidated
                                          : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph)
{
    Call call("cudaStreamEndCapture");
    std::shared_ptr<Stream> stream = stream_of(s);
    *graph = nullptr;
    REFUSE(!stream || !stream->capture, cudaErrorIllegalState);
    std::shared_ptr<Capture> c = stream->capture;
    for (auto &other : state().streams)
        if (other.second->capture == c)
            other.second->capture.reset();
    state().captures.erase(c.get());
    if (call.error)
        return call.error;
    REFUSE(c->invalid, cudaErrorStreamCaptureInvalidated);
    *graph = (cudaGraph_t) new Capture(*c);
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long)
{
    ENTER(cudaGraphInstantiate);
    *e = (cudaGraphExec_t) new Capture(*(Capture *)g);
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s)
{
    ENTER(cudaGraphLaunch);
    cudaError_t error = enqueue_whole(s, [] {});
    for (const Work &w : ((Capture *)e)->nodes)
        error = error ? error : enqueue(s, w);
    return error;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    ENTER(cudaGraphUpload);
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    ENTER(cudaGraphDestroy);
    delete (Capture *)g;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g)
{
    ENTER(cudaGraphExecDestroy);
    delete (Capture *)g;
    return cudaSuccess;
}

/* ---- the device ---- */

cudaError_t cudaGetDeviceCount(int *n)
{
    ENTER(cudaGetDeviceCount);
    *n = 1;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int d)
{
    ENTER(cudaSetDevice);
    REFUSE(d != 0, cudaErrorInvalidDevice);
    device = d;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *d)
{
    ENTER(cudaGetDevice);
    *d = device;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *v)
{
    ENTER(cudaDriverGetVersion);
    *v = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *v)
{
    ENTER(cudaRuntimeGetVersion);
    *v = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *v, cudaDeviceAttr a, int d)
{
    ENTER(cudaDeviceGetAttribute);
    REFUSE(d != 0, cudaErrorInvalidDevice);
    const std::map<int, int> known = {
        {cudaDevAttrComputeCapabilityMajor, arch() / 10},
        {cudaDevAttrComputeCapabilityMinor, arch() % 10},
        {cudaDevAttrMultiProcessorCount, 8},
        {cudaDevAttrMaxThreadsPerBlock, 1024},
        {cudaDevAttrWarpSize, 32},
        {cudaDevAttrMaxSharedMemoryPerBlock, 48 << 10},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, (int)shared_limit()},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, (int)shared_limit() + 1024},
        {cudaDevAttrReservedSharedMemoryPerBlock, 1024},
        {cudaDevAttrMaxThreadsPerMultiProcessor, arch() == 75 ? 1024 : 2048},
        {cudaDevAttrMaxRegistersPerBlock, 65536},
        {cudaDevAttrL2CacheSize, 4 << 20},
        {cudaDevAttrClockRate, 1000000},
        {cudaDevAttrMemoryClockRate, 1000000},
        {cudaDevAttrGlobalMemoryBusWidth, 64},
        {cudaDevAttrCanMapHostMemory, 1},
        {cudaDevAttrUnifiedAddressing, 1},
        {cudaDevAttrAsyncEngineCount, 1},
        {cudaDevAttrConcurrentKernels, 1}};
    auto i = known.find(a);
    *v = i == known.end() ? 0 : i->second;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int d)
{
    ENTER(cudaGetDeviceProperties);
    REFUSE(d != 0, cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "simulated sm_%d", arch());
    p->major = arch() / 10;
    p->minor = arch() % 10;
    p->totalGlobalMem = memory_limit();
    p->multiProcessorCount = 8;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsPerMultiProcessor = arch() == 75 ? 1024 : 2048;
    p->sharedMemPerBlock = 48 << 10;
    p->sharedMemPerBlockOptin = shared_limit();
    p->sharedMemPerMultiprocessor = shared_limit() + 1024;
    p->regsPerBlock = 65536;
    p->l2CacheSize = 4 << 20;
    p->canMapHostMemory = p->unifiedAddressing = 1;
    return cudaSuccess;
}
cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last_error;
    last_error = state().sticky;
    return e;
}
cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

#define ERRORS(X)                                                                                  \
    X(cudaSuccess, "no error")                                                                     \
    X(cudaErrorInvalidValue, "invalid argument")                                                   \
    X(cudaErrorMemoryAllocation, "out of memory")                                                  \
    X(cudaErrorInvalidConfiguration, "invalid configuration argument")                             \
    X(cudaErrorInvalidPitchValue, "invalid pitch argument")                                        \
    X(cudaErrorInvalidSymbol, "invalid device symbol")                                             \
    X(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version") \
    X(cudaErrorInvalidDeviceFunction, "invalid device function")                                   \
    X(cudaErrorNoDevice, "no CUDA-capable device is detected")                                     \
    X(cudaErrorInvalidDevice, "invalid device ordinal")                                            \
    X(cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the device") \
    X(cudaErrorECCUncorrectable, "uncorrectable ECC error encountered")                            \
    X(cudaErrorInvalidResourceHandle, "invalid resource handle")                                   \
    X(cudaErrorIllegalState, "the operation cannot be performed in the present state")             \
    X(cudaErrorNotReady, "device not ready")                                                       \
    X(cudaErrorIllegalAddress, "an illegal memory access was encountered")                         \
    X(cudaErrorLaunchOutOfResources, "too many resources requested for launch")                    \
    X(cudaErrorLaunchFailure, "unspecified launch failure")                                        \
    X(cudaErrorNotSupported, "operation not supported")                                            \
    X(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing")       \
    X(cudaErrorStreamCaptureInvalidated,                                                           \
      "operation failed due to a previous error during capture")                                   \
    X(cudaErrorStreamCaptureImplicit,                                                              \
      "operation would make the legacy stream depend on a capturing blocking stream")              \
    X(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream")  \
    X(cudaErrorCapturedEvent,                                                                      \
      "operation not permitted on an event last recorded in a capturing stream")

const char *cudaGetErrorName(cudaError_t e)
{
#define X(name, text)                                                                              \
    if (e == name)                                                                                 \
        return #name;
    ERRORS(X)
#undef X
    return "cudaErrorUnknown";
}
const char *cudaGetErrorString(cudaError_t e)
{
#define X(name, text)                                                                              \
    if (e == name)                                                                                 \
        return text;
    ERRORS(X)
#undef X
    return "unknown error";
}

/* ---- what tests ask ---- */

void cudasim_fail_next(const char *call, int after, int error)
{
    std::lock_guard<std::recursive_mutex> guard(state().lock);
    state().failures[call] = {after, (cudaError_t)error};
}
unsigned long long cudasim_count(const char *call)
{
    std::lock_guard<std::recursive_mutex> guard(state().lock);
    return state().counts[call];
}
void cudasim_kernels(void (*each)(const cudasim_kernel *, void *), void *user)
{
    std::lock_guard<std::recursive_mutex> guard(state().lock);
    for (auto &i : state().functions) {
        const Counters c = kernel_of(i.first)->counters;
        string name = demangled(i.second.name);
        cudasim_kernel k = {name.c_str(), c.launches,     c.instructions, c.mma,
                            c.passes,     c.passes_ideal, c.sectors,      c.sectors_ideal};
        each(&k, user);
    }
}
const char *cudasim_fault(void)
{
    return state().fault.c_str();
}
void cudasim_reset(void)
{
    State &s = state();
    std::lock_guard<std::recursive_mutex> guard(s.lock);
    s.sticky = last_error = cudaSuccess;
    s.fault.clear();
    s.failures.clear();
    for (auto &i : s.streams) {
        i.second->queue.clear();
        i.second->ran = i.second->queued;
    }
}
}
