/* device.c - the GPU: whether there is one that can be used, and its memory. */
#include "cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OLDEST_SM = 75 };

void cuda_enter(const cuda_device *d)
{
    cudaSetDevice(d->index);
}

/* ---- is there one? -------------------------------------------------------------------------- */

/* Nonzero, and why, where no GPU answers. */
static int count_devices(int *count, char why[K_WHY])
{
    int version = 0;
    *count = 0;
    cudaDriverGetVersion(&version);
    cudaError_t e = version ? cudaGetDeviceCount(count) : cudaErrorInsufficientDriver;
    cudaGetLastError(); /* what is reported here is not for the next call */
    if (!version)
        snprintf(why, K_WHY,
                 "No NVIDIA driver is installed here; install version 580 or newer, or use "
                 "device \"cpu\".");
    else if (e == cudaErrorInsufficientDriver)
        snprintf(why, K_WHY,
                 "The NVIDIA driver here knows CUDA %d.%d and this build needs %d.%d; install "
                 "driver 580 or newer, or use device \"cpu\".",
                 version / 1000, version % 1000 / 10, CUDART_VERSION / 1000,
                 CUDART_VERSION % 1000 / 10);
    else if (e == cudaErrorNoDevice || (!e && !*count))
        snprintf(why, K_WHY, "The NVIDIA driver sees no GPU here; use device \"cpu\".");
    else if (e)
        snprintf(why, K_WHY, "The NVIDIA driver does not answer (%s); use device \"cpu\".",
                 cudaGetErrorString(e));
    return !version || e || !*count;
}

static int attribute(int index, enum cudaDeviceAttr which)
{
    int value = 0;
    cudaDeviceGetAttribute(&value, which, index);
    return value;
}

static int check_device(int index, const struct cudaDeviceProp *p, char why[K_WHY])
{
    int sm = 10 * p->major + p->minor;
    if (sm >= OLDEST_SM)
        return 0;
    snprintf(why, K_WHY,
             "GPU %d, %.60s, has compute capability %d.%d; 7.5 (2018) or newer is needed; use "
             "device \"cpu\".",
             index, p->name, p->major, p->minor);
    return -1;
}

/* A fresh device that holds nothing but its properties. */
static cuda_device *describe(int index, const struct cudaDeviceProp *p)
{
    cuda_device *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    d->base.backend = &cuda_backend;
    d->index = index;
    d->sm = 10 * p->major + p->minor;
    d->processors = attribute(index, cudaDevAttrMultiProcessorCount);
    d->shared_bytes = attribute(index, cudaDevAttrMaxSharedMemoryPerBlockOptin);
    snprintf(d->name, sizeof d->name, "cuda:%d (%.64s)", index, p->name);
    pthread_mutex_init(&d->lock, NULL);
    return d;
}

k_device *cuda_device_open(int index, const k_device_options *options, char why[K_WHY])
{
    (void)options; /* memory modes and threads are the CPU's */
    int count;
    if (count_devices(&count, why))
        return NULL;
    if (index >= count) {
        snprintf(why, K_WHY, "There is no GPU %d; this machine has %d, cuda:0%s.", index, count,
                 count > 1 ? " and up" : "");
        return NULL;
    }
    struct cudaDeviceProp p;
    cudaError_t e = cudaGetDeviceProperties(&p, index);
    if (!e && check_device(index, &p, why))
        return NULL;
    if (e || (e = cudaSetDevice(index)) || (e = cudaFree(NULL))) {
        snprintf(why, K_WHY, "GPU %d cannot be used: %s.", index, cudaGetErrorString(e));
        cudaGetLastError();
        return NULL;
    }
    cuda_device *d = describe(index, &p);
    if (d)
        d->library = cuda_library_open(d);
    if (d)
        d->plans = cuda_plans_open(d);
    if (d && d->plans)
        return &d->base;
    snprintf(why, K_WHY, "There is not enough memory to open device \"cuda:%d\".", index);
    if (d)
        cuda_device_close(&d->base);
    return NULL;
}

void cuda_device_close(k_device *device)
{
    cuda_device *d = (cuda_device *)device;
    cuda_enter(d);
    cuda_plans_close(d->plans);
    cuda_library_close(d->library);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

size_t cuda_device_bytes(const k_device *device)
{
    return ((const cuda_device *)device)->bytes;
}

const char *cuda_device_name(const k_device *device)
{
    return ((const cuda_device *)device)->name;
}

/* ---- memory --------------------------------------------------------------------------------- */

size_t cuda_room(const cuda_device *d)
{
    size_t room = 0, total = 0;
    cuda_enter(d);
    cudaMemGetInfo(&room, &total);
    return room;
}

void *cuda_alloc(k_device *device, size_t bytes, int zeroed)
{
    cuda_device *d = (cuda_device *)device;
    void *data = NULL;
    cuda_enter(d);
    if (cudaMalloc(&data, bytes)) {
        cudaGetLastError();
        return NULL;
    }
    /* Complete before any stream of ours, none of which waits for the default one, can look. */
    if (zeroed && (cudaMemset(data, 0, bytes) || cudaStreamSynchronize(NULL))) {
        cudaFree(data);
        cudaGetLastError();
        return NULL;
    }
    pthread_mutex_lock(&d->lock);
    d->bytes += bytes;
    pthread_mutex_unlock(&d->lock);
    return data;
}

void cuda_free(k_device *device, void *data, size_t bytes)
{
    cuda_device *d = (cuda_device *)device;
    cuda_enter(d);
    cudaFree(data); /* waits for work that may use it */
    pthread_mutex_lock(&d->lock);
    d->bytes -= bytes;
    pthread_mutex_unlock(&d->lock);
}
