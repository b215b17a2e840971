/* device.cpp - the device of the stand-in for libcudart: its code, what it says of itself, its
 * errors; and what tests ask. */
#include <cxxabi.h>

#include "runtime.h"

/* ---- device code ---- */

Module &module_of(Binary *b)
{
    if (!b->parsed)
        ptx_module(b->ptx, b->size, b->module);
    b->parsed = true;
    return b->module;
}

Kernel *kernel_of(const void *host)
{
    auto f = state().functions.find(host);
    if (f == state().functions.end() || !f->second.binary->ptx)
        return nullptr;
    std::unique_ptr<Kernel> &k = state().kernels[host];
    if (!k) {
        k.reset(new Kernel());
        if (ptx_kernel(module_of(f->second.binary), f->second.name, *k))
            ptx_decode(*k);
    }
    return k->module ? k.get() : nullptr;
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
    const char *path = skips() ? nullptr : getenv("CUDASIM_REPORT");
    FILE *f = path ? fopen(path, "a") : nullptr;
    for (auto &i : state().functions) {
        auto found = state().kernels.find(i.first); /* others are not decoded any more */
        bool known = found != state().kernels.end() && found->second;
        const Counters c = known ? found->second->counters : Counters{};
        if (!f)
            break;
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

/* ---- the device ---- */

static thread_local int device;

API(cudaGetDeviceCount, (int *n), *n = 1)
API(cudaSetDevice, (int d), REFUSE(d != 0, cudaErrorInvalidDevice); device = d)
API(cudaGetDevice, (int *d), *d = device)
API(cudaDriverGetVersion, (int *v), *v = CUDART_VERSION)
API(cudaRuntimeGetVersion, (int *v), *v = CUDART_VERSION)
API(cudaDeviceGetAttribute, (int *v, cudaDeviceAttr a, int d), {
    int smem = (int)shared_limit();
    const std::map<int, int> known = {
        {cudaDevAttrComputeCapabilityMajor, arch() / 10},
        {cudaDevAttrComputeCapabilityMinor, arch() % 10},
        {cudaDevAttrMultiProcessorCount, 8},
        {cudaDevAttrMaxThreadsPerBlock, 1024},
        {cudaDevAttrWarpSize, 32},
        {cudaDevAttrMaxSharedMemoryPerBlock, 48 << 10},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, smem},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, smem + 1024},
        {cudaDevAttrMaxThreadsPerMultiProcessor, arch() == 75 ? 1024 : 2048},
        {cudaDevAttrMaxRegistersPerBlock, 65536},
        {cudaDevAttrL2CacheSize, 4 << 20},
        {cudaDevAttrClockRate, 1000000},
        {cudaDevAttrCanMapHostMemory, 1},
        {cudaDevAttrUnifiedAddressing, 1}};
    REFUSE(d != 0, cudaErrorInvalidDevice);
    auto i = known.find(a);
    *v = i == known.end() ? 0 : i->second;
})
API(cudaGetDeviceProperties, (cudaDeviceProp * p, int d), {
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
})
extern "C" cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last_error;
    last_error = state().sticky;
    return e;
}
SAME(cudaPeekAtLastError, (void), last_error)

struct ErrorText {
    cudaError_t error;
    const char *name, *text;
};
#define E(name, text)                                                                              \
    {                                                                                              \
        name, #name, text                                                                          \
    }
static const ErrorText &error_text(cudaError_t e)
{
    static const ErrorText known[] = {
        E(cudaSuccess, "no error"),
        E(cudaErrorInvalidValue, "invalid argument"),
        E(cudaErrorMemoryAllocation, "out of memory"),
        E(cudaErrorInvalidConfiguration, "invalid configuration argument"),
        E(cudaErrorInvalidPitchValue, "invalid pitch argument"),
        E(cudaErrorInvalidSymbol, "invalid device symbol"),
        E(cudaErrorInsufficientDriver,
          "CUDA driver version is insufficient for CUDA runtime version"),
        E(cudaErrorInvalidDeviceFunction, "invalid device function"),
        E(cudaErrorNoDevice, "no CUDA-capable device is detected"),
        E(cudaErrorInvalidDevice, "invalid device ordinal"),
        E(cudaErrorNoKernelImageForDevice,
          "no kernel image is available for execution on the device"),
        E(cudaErrorECCUncorrectable, "uncorrectable ECC error encountered"),
        E(cudaErrorInvalidResourceHandle, "invalid resource handle"),
        E(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
        E(cudaErrorNotReady, "device not ready"),
        E(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
        E(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
        E(cudaErrorLaunchFailure, "unspecified launch failure"),
        E(cudaErrorNotSupported, "operation not supported"),
        E(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
        E(cudaErrorStreamCaptureIsolation,
          "dependency created on uncaptured work in another stream"),
    };
    static const ErrorText other = {e, "cudaErrorUnknown", "unknown error"};
    for (const ErrorText &t : known)
        if (t.error == e)
            return t;
    return other;
}
extern "C" const char *cudaGetErrorName(cudaError_t e)
{
    return error_text(e).name;
}
extern "C" const char *cudaGetErrorString(cudaError_t e)
{
    return error_text(e).text;
}

/* ---- what tests ask ---- */

extern "C" {
void cudasim_fail_next(const char *call, int after, int error)
{
    std::lock_guard<std::recursive_mutex> guard(state().lock);
    state().failures[call] = {after, (cudaError_t)error};
}
unsigned long long cudasim_bytes(int host)
{
    std::lock_guard<std::recursive_mutex> guard(state().lock);
    return memory_used(host);
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
        Kernel *kernel = kernel_of(i.first);
        const Counters c = kernel ? kernel->counters : Counters{};
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
