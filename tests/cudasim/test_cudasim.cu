/* test_cudasim.cu - the simulator's own test: kernels with one planted bug each must be reported
 * with the right words, their twins without it must not, and instructions give what C gives. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cudasim.h"

struct args {
    const float *in;
    float *out;
    int n;
};

static __device__ void copy16(void *to, const void *from)
{
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(to)),
        "l"(from)
        : "memory");
#else
    *(uint4 *)to = *(const uint4 *)from;
#endif
}
static __device__ void copy_wait(void)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;\ncp.async.wait_group 0;" ::: "memory");
#endif
}
static __device__ void grid_wait(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

enum {
    GOOD,
    NO_BARRIER,
    NO_SECOND_BARRIER,
    NO_SYNCWARP,
    GOOD_SYNCWARP,
    READ_PAST,
    WRITE_PAST,
    SHARED_PAST,
    MISALIGNED,
    HOST_POINTER,
    EARLY_EXIT,
    TWO_BARRIERS,
    UNEQUAL_BARRIERS,
    LANES_MISSING,
    UNWRITTEN_SHARED,
    UNWRITTEN_GLOBAL,
    IN_FLIGHT,
    GOOD_COPY,
    BLOCKS_WRITE,
    BLOCKS_READ,
    GOOD_BLOCKS,
    GOOD_LAST_BLOCK,
    NO_FENCE,
    TRAP,
    BUGS
};
static const char *const words[BUGS] = {"",
                                        "race: ",
                                        "race: written after",
                                        "race: read after",
                                        "",
                                        "past the end",
                                        "past the end",
                                        "shared memory",
                                        "misaligned",
                                        "not on the device",
                                        "ended while others wait",
                                        "different barriers",
                                        "ended while others wait",
                                        "does not take part",
                                        "shared memory that was never written",
                                        "never written",
                                        "in flight",
                                        "",
                                        "another block",
                                        "another block",
                                        "",
                                        "",
                                        "another block",
                                        "trap"};

__device__ unsigned tickets;

template <int bug> static __global__ void planted(const __grid_constant__ struct args a)
{
    __shared__ __align__(16) float s[128];
    extern __shared__ float d[];
    int t = threadIdx.x, block = blockIdx.x;
    const float *in = a.in + 128 * block;
    float *out = a.out + 128 * block;
    if (bug == IN_FLIGHT || bug == GOOD_COPY) {
        if (t < 32)
            copy16(s + 4 * t, in + 4 * t);
        if (bug == GOOD_COPY)
            copy_wait();
        __syncthreads();
        out[t] = s[127 - t];
        return;
    }
    if (bug == NO_BARRIER) {
        s[t] = 0;
        __syncthreads();
    }
    if (bug == UNWRITTEN_SHARED ? t < 127 : bug == SHARED_PAST ? (d[t + 1] = in[t]) > -1 : true)
        s[t] = in[t];
    if (bug == NO_SYNCWARP || bug == GOOD_SYNCWARP) {
        if (bug == GOOD_SYNCWARP)
            __syncwarp();
        out[t ^ 1 ^ 127] = s[t ^ 1];
        return;
    }
    if (bug == EARLY_EXIT && t >= 96)
        return;
    if (bug == TWO_BARRIERS && t < 64) {
        s[t] = in[t] + 0 * in[0];
        __syncthreads();
        out[0] = 127;
    } else if (bug != NO_BARRIER) {
        __syncthreads();
    }
    if (bug == UNEQUAL_BARRIERS)
        for (int i = 0; i < (t < 64 ? 1 : 0); i++)
            __syncthreads();
    float v = s[127 - t];
    if (bug == NO_SECOND_BARRIER && t >= 64)
        s[t] = v + 1;
    if (bug == LANES_MISSING && t % 32 < 16)
        v = __shfl_sync(0xffff, v, 20);
    if (bug == READ_PAST)
        v += a.in[a.n + t] * 0;
    if (bug == MISALIGNED)
        v += atan2f(((const float2 *)(in + 1))[t % 32].x, ((const float2 *)(in + 1))[t % 32].y) * 0;
    if (bug == UNWRITTEN_GLOBAL)
        v += a.out[t] * 0;
    if (bug == HOST_POINTER)
        v += *(const float *)(size_t)(0x1000 + 4 * t) * 0;
    if (bug == TRAP && v == 3)
        __trap();
    out[t] = v;
    if (bug == WRITE_PAST)
        a.out[a.n + t] = v;
    if (bug == BLOCKS_WRITE && t == 5)
        a.out[5] = 122;
    if (bug == BLOCKS_READ)
        out[t] = v + (block ? a.out[t] * 0 : 0);
    if (bug == GOOD_LAST_BLOCK || bug == NO_FENCE) {
        if (bug == GOOD_LAST_BLOCK)
            __threadfence();
        __syncthreads();
        if (t == 0)
            s[0] = atomicInc(&tickets, gridDim.x - 1);
        __syncthreads();
        if (s[0] == gridDim.x - 1)
            out[t] = v + (a.out[t] - a.out[127 - t]) * 0;
    }
}

static int failures;

static void expect(bool good, const char *what, const char *detail)
{
    failures += !good;
    if (!good)
        printf("cudasim: %s: FAILED: %s\n", what, detail);
}

/* Two blocks of 128 threads reverse 128 floats each. */
template <int bug> static void run_planted(void)
{
    float in[256], out[256] = {0}, *din, *dout;
    char name[40];
    snprintf(name, sizeof name, "planted bug %d", bug);
    for (int i = 0; i < 256; i++)
        in[i] = i % 128;
    cudaMalloc((void **)&din, sizeof in);
    cudaMalloc((void **)&dout, sizeof out);
    cudaMemcpy(din, in, sizeof in, cudaMemcpyHostToDevice);
    int shared = 512;
    planted<bug><<<2, 128, shared>>>(args{din, dout, 256});
    cudaError_t e = cudaDeviceSynchronize();
    if (*words[bug]) {
        expect(e == cudaErrorLaunchFailure && strstr(cudasim_fault(), words[bug]), name,
               cudasim_fault());
        expect(e == cudaSuccess || strstr(cudasim_fault(), "test_cudasim.cu:"), name,
               cudasim_fault());
        cudasim_reset();
    } else {
        cudaMemcpy(out, dout, sizeof out, cudaMemcpyDeviceToHost);
        expect(e == cudaSuccess, name, cudasim_fault());
        for (int i = 0; i < 256; i++)
            if (out[i] != 127 - i % 128) {
                expect(false, name, "a wrong result");
                break;
            }
    }
    cudaFree(din);
    cudaFree(dout);
}
template <int bug> static void run_all_planted(void)
{
    bool copies = bug == IN_FLIGHT; /* compute 7.5 has no asynchronous copies */
    const char *arch = getenv("CUDASIM_ARCH");
    if (!(copies && arch && atoi(arch) < 80))
        run_planted<bug>();
    if constexpr (bug + 1 < BUGS)
        run_all_planted<bug + 1>();
}

/* ---- instructions against C ---- */

struct big { /* parameters of 1 KB, indexed by the thread */
    int table[200];
    const float *x;
    float *y;
    int *i;
};
__constant__ float constants[4];
static __device__ __noinline__ float not_inlined(float x, int n)
{
    float local[8];
    for (int k = 0; k < 8; k++)
        local[k] = x * k;
    return local[n & 7];
}
static __host__ __device__ float reals(float x, float y)
{
    return fmodf(x * 100, 3) + sinf(x * 1e5f) + expf(-x) + logf(y + 2) + sqrtf(y) + x / y +
           tanhf(x) + erff(x) + rintf(x * 9) + floorf(y) + ceilf(x) + fmaf(x, y, 1) +
           powf(y, 1.5f) + fmaxf(x, y) - fminf(x, 0.5f) + copysignf(1, x - 0.5f) +
           (float)(int)(x * 50) + (float)((double)x * y) + truncf(x * 3);
}
static __host__ __device__ long long integers(int a, unsigned b, long long c)
{
    long long r = a / 7 + a % 7 + (long long)a * (int)b + (c >> 3) + (c << 5) + c / 1001 + c % 77;
    r += (unsigned)(((unsigned long long)b * (unsigned)a) >> 32);
    r ^= b >> (a & 31) | (b << (b & 31)) | (unsigned)(unsigned char)a | (short)b;
    switch (b & 7) {
    case 0:
        return r + 3;
    case 1:
        return r * 5;
    case 2:
        return r ^ 7;
    case 3:
        return r - c;
    case 4:
        return r | a;
    case 5:
        return r & b;
    default:
        return -r;
    }
}
static __global__ void features(const __grid_constant__ struct big a)
{
    int t = threadIdx.x;
    float x = a.x[t], y = a.x[t + 64];
    const int *table = a.table;
    a.y[t] = reals(x, y) + sinf(x * 1e9f) * 1e-30f;
    unsigned __int128 product =
        (unsigned __int128)table[t] * table[t] * table[t] * table[t] * table[t];
    a.i[264 + t] = (int)(product >> 64) ^ (int)(product >> 40);
    a.y[64 + t] = not_inlined(x, table[t]) + constants[t & 3];
    a.y[128 + t] = __half2float(__hadd(__float2half(x), __float2half(y)));
    __half2 h = __hfma2(__floats2half2_rn(x, y), __floats2half2_rn(y, x), __float2half2_rn(0.5f));
    a.y[192 + t] =
        __low2float(h) - __high2float(h) + (__hlt(__float2half(x), __float2half(y)) ? 4 : 0);
    a.y[256 + t] = __bfloat162float(__float2bfloat16(x * y));
    ((long long *)a.i)[t] =
        integers(table[t] * 12345 - 99999, table[t + 1] * 2654435761u, table[t] * 987654321ll - 5);
    int v = __popc(table[t]) + __clz(table[t]) + __brev(table[t]) + __ffs(table[t]) +
            __byte_perm(table[t], t, 0x5140) + __funnelshift_l(t, table[t], t);
    a.i[128 + t] = v;
    v = __shfl_xor_sync(~0u, t, 5) + 100 * __shfl_down_sync(~0u, t, 3) +
        10000 * __shfl_up_sync(~0u, t, 2, 8);
    a.i[192 + t] = v + 1000000 * __popc(__ballot_sync(~0u, t & 1)) + __any_sync(~0u, t == 70);
    atomicAdd(a.i + 256, t);
    atomicMax(a.i + 257, t);
    atomicCAS(a.i + 258, t, t + 1);
    atomicAdd((unsigned long long *)(a.i + 260), 1ull << 33);
    atomicExch(a.i + 259, 7);
}

static void close_to(float a, float b, const char *what, int i)
{
    char text[80];
    snprintf(text, sizeof text, "lane %d: %g, should be %g", i, a, b);
    expect(fabsf(a - b) <= 2e-5f * (1 + fabsf(b)), what, text);
}

static void run_features(void)
{
    float x[128], y[320], c[4] = {1, 2, 3, 4};
    int i[328];
    struct big a = {};
    for (int k = 0; k < 128; k++)
        x[k] = (k * 37 % 128) / 128.0f + 0.01f;
    for (int k = 0; k < 200; k++)
        a.table[k] = k * 7919 + 1;
    cudaMalloc((void **)&a.x, sizeof x);
    cudaMalloc((void **)&a.y, sizeof y);
    cudaMalloc((void **)&a.i, sizeof i);
    cudaMemcpy((void *)a.x, x, sizeof x, cudaMemcpyHostToDevice);
    cudaMemset(a.i, 0, sizeof i);
    cudaMemcpyToSymbol(constants, c, sizeof c);
    features<<<1, 64>>>(a);
    cudaMemcpy(y, a.y, sizeof y, cudaMemcpyDeviceToHost);
    expect(cudaMemcpy(i, a.i, sizeof i, cudaMemcpyDeviceToHost) == cudaSuccess, "features",
           cudasim_fault());
    for (int t = 0; t < 64; t++) {
        float u = x[t], v = x[t + 64];
        close_to(y[t], reals(u, v), "floats", t);
        close_to(y[64 + t], u * (a.table[t] & 7) + c[t & 3], "call, local and constant memory", t);
        close_to(y[128 + t],
                 __half2float(
                     __float2half(__half2float(__float2half(u)) + __half2float(__float2half(v)))),
                 "half", t);
        bool less = __half2float(__float2half(u)) < __half2float(__float2half(v));
        close_to(y[192 + t], less ? 4 : 0, "half2", t);
        close_to(y[256 + t], __bfloat162float(__float2bfloat16(u * v)), "bfloat16", t);
        long long r = integers(a.table[t] * 12345 - 99999, a.table[t + 1] * 2654435761u,
                               a.table[t] * 987654321ll - 5);
        unsigned __int128 five =
            (unsigned __int128)a.table[t] * a.table[t] * a.table[t] * a.table[t] * a.table[t];
        expect(i[264 + t] == ((int)(five >> 64) ^ (int)(five >> 40)), "carries", "a wrong result");
        expect(((long long *)i)[t] == r, "integers", "a wrong result");
        unsigned w = a.table[t], rev = 0,
                 p = (w & 255) | (t & 255) << 8 | (w >> 8 & 255) << 16 | (t >> 8 & 255) << 24;
        for (int k = 0; k < 32; k++)
            rev |= (w >> k & 1) << (31 - k);
        unsigned bits = __builtin_popcount(w) + __builtin_clz(w) + rev + __builtin_ffs(w) + p +
                        (unsigned)((((unsigned long long)w << 32 | t) << (t & 31)) >> 32);
        expect((unsigned)i[128 + t] == bits, "bits", "a wrong result");
        int up = t % 8 >= 2 ? t - 2 : t, down = (t & 31) + 3 < 32 ? t + 3 : t;
        expect(i[192 + t] == (t ^ 5) + 100 * down + 10000 * up + 16000000, "shfl and vote",
               "a wrong result");
    }
    expect(i[256] == 2016 && i[257] == 63 && i[258] == 64 && i[259] == 7 && i[261] == 128,
           "atomics", "a wrong result");
    cudaFree((void *)a.x);
    cudaFree(a.y);
    cudaFree(a.i);
}

/* ---- the runtime ---- */

static __global__ void scale(const __grid_constant__ struct args a)
{
    grid_wait();
    a.out[threadIdx.x] = a.in[threadIdx.x] * 2;
}
static __global__ void scale_early(const __grid_constant__ struct args a)
{
    float v = a.in[threadIdx.x];
    grid_wait();
    a.out[threadIdx.x] = v * 2;
}

static void launch_overlapping(void (*kernel)(struct args), struct args a, cudaStream_t s)
{
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t c = {};
    c.gridDim = 1;
    c.blockDim = 32;
    c.stream = s;
    c.attrs = &attribute;
    c.numAttrs = 1;
    cudaLaunchKernelEx(&c, kernel, a);
}

static void run_runtime(void)
{
    float *d, *pinned;
    cudaStream_t s, s2;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaEvent_t event;
    cudaDeviceProp properties;
    cudaMalloc((void **)&d, 3 * 128);
    cudaMallocHost((void **)&pinned, 128);
    cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&s2, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    for (int i = 0; i < 32; i++)
        pinned[i] = i;
    cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal);
    cudaMemcpyAsync(d, pinned, 128, cudaMemcpyHostToDevice, s);
    scale<<<1, 32, 0, s>>>(args{d, d + 32, 32});
    launch_overlapping(scale, args{d + 32, d + 64, 32}, s);
    cudaMemcpyAsync(pinned, d + 64, 128, cudaMemcpyDeviceToHost, s);
    expect(cudaStreamEndCapture(s, &graph) == cudaSuccess, "capture", "");
    expect(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess, "graph", "");
    cudaGraphLaunch(exec, s);
    cudaGraphLaunch(exec, s);
    expect(pinned[3] == 3, "streams", "work was done before anything waited for it");
    cudaEventRecord(event, s);
    cudaStreamWaitEvent(s2, event, 0);
    expect(cudaStreamSynchronize(s2) == cudaSuccess && pinned[3] == 48, "graph", cudasim_fault());
    cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal);
    void *p;
    expect(cudaMalloc(&p, 16) == cudaErrorStreamCaptureUnsupported, "malloc in a capture",
           "allowed");
    expect(cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureInvalidated, "capture",
           "valid");
    expect(cudaMalloc(&p, 1ull << 40) == cudaErrorMemoryAllocation, "malloc", "no limit");
    expect(cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess,
           "last error", "");
    expect(!strcmp(cudaGetErrorName(cudaErrorMemoryAllocation), "cudaErrorMemoryAllocation"),
           "name", "");
    scale<<<1, 1025>>>(args{d, d, 1});
    expect(cudaGetLastError() == cudaErrorInvalidConfiguration, "1025 threads", "allowed");
    scale<<<1, 32, 60 << 10>>>(args{d, d, 1});
    expect(cudaGetLastError() == cudaErrorInvalidValue, "60 KB without the attribute", "allowed");
    cudaFuncSetAttribute((const void *)scale, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         60 << 10);
    scale<<<1, 32, 60 << 10, s>>>(args{d, d + 32, 1});
    expect(cudaStreamSynchronize(s) == cudaSuccess, "60 KB with the attribute", cudasim_fault());
    cudaGetDeviceProperties(&properties, 0);
    if (properties.major >= 9) {
        scale<<<1, 32, 0, s>>>(args{d, d + 32, 32});
        launch_overlapping(scale_early, args{d + 32, d + 64, 32}, s);
        expect(cudaStreamSynchronize(s) == cudaErrorLaunchFailure &&
                   strstr(cudasim_fault(), "griddepcontrol"),
               "read before griddepcontrol.wait", cudasim_fault());
        cudasim_reset();
    }
    cudasim_fail_next("cudaMalloc", 1, cudaErrorMemoryAllocation);
    unsigned long long before = cudasim_count("cudaMalloc");
    expect(cudaMalloc(&p, 16) == cudaSuccess && cudaMalloc(&p, 16) == cudaErrorMemoryAllocation,
           "fail_next", "");
    expect(cudasim_count("cudaMalloc") == before + 2, "count", "");
    cudasim_fail_next("cudaStreamSynchronize", 0, cudaErrorLaunchFailure);
    expect(cudaStreamSynchronize(s) == cudaErrorLaunchFailure, "device loss", "");
    expect(cudaMalloc(&p, 16) == cudaErrorLaunchFailure, "device loss", "does not stick");
    cudasim_reset();
    cudaGraphExecDestroy(exec);
    cudaStreamDestroy(s);
    cudaStreamDestroy(s2);
    cudaFree(d);
    cudaFreeHost(pinned);
}

static void count_kernel(const struct cudasim_kernel *k, void *user)
{
    *(int *)user += k->launches > 0;
}

int main(void)
{
    int launched = 0;
    run_all_planted<0>();
    run_features();
    run_runtime();
    cudasim_kernels(count_kernel, &launched);
    expect(launched >= BUGS, "kernels", "not all were counted");
    printf("cudasim: %d of its kernels ran, %d failures\n", launched, failures);
    return failures != 0;
}
