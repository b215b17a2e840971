/* standin.c - see standin.h. */
#include "standin.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

standin the;

void standin_spend(double us)
{
    if (the.capturing)
        the.captured_us += us;
    else
        the.clock_us += us;
}

void desk_open(desk *d)
{
    memset(d, 0, sizeof *d);
    strcpy(d->device.name, "cuda:0 (NVIDIA Test/1)");
    d->device.sm = 90;
    pthread_mutex_init(&d->device.lock, NULL);
    d->device.library = cuda_library_open(&d->device);
    d->device.plans = cuda_plans_open(&d->device);
    d->k.device = &d->device.base;
    d->k.planning = 1;
}

void desk_close(desk *d)
{
    cuda_plans_close(d->device.plans);
    cuda_library_close(d->device.library);
    pthread_mutex_destroy(&d->device.lock);
}

/* ---- of kernels.c, device.c, tape.c and library_bias.cu -------------------------------------- */

void k_fail(k_ctx *k, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(k->where, sizeof k->where, fmt, args);
    va_end(args);
    k->status = -1;
}

int cuda_failed(k_ctx *k, cudaError_t error, const char *what)
{
    if (error)
        k_fail(k, "%s: error %d", what, (int)error);
    return error != 0;
}

cudaStream_t cuda_stream(const k_ctx *k)
{
    (void)k;
    return (cudaStream_t)(uintptr_t)0x57;
}

int cuda_measuring(const k_ctx *k)
{
    (void)k;
    return the.measuring;
}

void cuda_measure_begin(k_ctx *k)
{
    (void)k;
    the.measuring = 1;
}

void cuda_measure_end(k_ctx *k)
{
    (void)k;
    the.measuring = 0;
}

void *cuda_alloc(k_device *device, size_t bytes, int zeroed)
{
    (void)device, (void)zeroed;
    void *data = the.alloc_fails ? NULL : calloc(1, bytes);
    the.bytes += data ? bytes : 0;
    return data;
}

void cuda_free(k_device *device, void *data, size_t bytes)
{
    (void)device;
    free(data);
    the.bytes -= bytes;
}

void *cuda_scratch(k_ctx *k, const char *op, size_t bytes)
{
    (void)op;
    if (k->planning && bytes > the.scratch_need)
        the.scratch_need = bytes;
    return k->planning || the.scratch_absent ? NULL : the.scratch;
}

void cuda_call(k_ctx *k, cudaError_t (*call)(cudaStream_t stream, const void *args),
               const void *args, size_t bytes)
{
    char copy[256];
    memcpy(copy, args, bytes);
    the.called++;
    the.call_error = call(cuda_stream(k), copy);
}

void cuda_bias_row(k_ctx *k, void *out, int dtype, const float *bias, k_tensor row, int count)
{
    (void)k, (void)dtype, (void)bias, (void)row;
    the.rows++;
    memset(out, 1, 2 * (size_t)count);
}

cudaError_t cuda_bias_now(cudaStream_t stream, void *out, int dtype, const float *bias, int count)
{
    (void)stream, (void)dtype, (void)bias;
    the.biases++;
    memset(out, 1, 2 * (size_t)count);
    return cudaSuccess;
}

/* ---- of the runtime -------------------------------------------------------------------------- */

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    return the.lost ? cudaErrorIllegalAddress : cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    *event = calloc(1, sizeof(double));
    the.events++;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    free(event);
    the.events--;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    (void)stream;
    *(double *)(void *)event = the.clock_us;
    return the.lost ? cudaErrorIllegalAddress : cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    (void)event;
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    *ms = (float)((*(double *)(void *)end - *(double *)(void *)start) / 1000);
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    (void)stream, (void)mode;
    the.capturing = 1;
    the.captured_us = 0;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    (void)stream;
    the.capturing = 0;
    if (the.captures_fail)
        return cudaErrorStreamCaptureInvalidated;
    the.graphs++;
    *graph = malloc(sizeof(double));
    *(double *)(void *)*graph = the.captured_us;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    (void)flags;
    the.graphs++;
    *exec = malloc(sizeof(double));
    *(double *)(void *)*exec = *(double *)(void *)graph;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    free(graph);
    the.graphs--;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    free(exec);
    the.graphs--;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    (void)stream;
    the.clock_us += *(double *)(void *)exec;
    return cudaSuccess;
}
