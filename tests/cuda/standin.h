/* standin.h - a device for the tests of plan.c and library.c: no CUDA runtime, a clock that goes on
 * when it is told to, launches and scratch that are written down.
 */
#ifndef TESTS_CUDA_STANDIN_H
#define TESTS_CUDA_STANDIN_H

#include "kernels/cuda/library.h"
#include "kernels/cuda/plan.h"

typedef struct standin {
    double clock_us, captured_us;
    int capturing, measuring;
    int captures_fail, lost; /* from now on */
    int graphs, events;      /* that live */
    size_t scratch_need;     /* noted while planning */
    char scratch[1 << 16];   /* what cuda_scratch gives otherwise */
    int scratch_absent;
    int called;             /* cuda_call */
    cudaError_t call_error; /* of the newest */
    int biases, rows;       /* cuda_bias_now, cuda_bias_row */
    int alloc_fails;
    size_t bytes; /* of device memory that is held */
} standin;
extern standin the;

/* A device with its plans and libraries, and a context of it that plans. */
typedef struct desk {
    cuda_device device;
    k_ctx k;
} desk;
void desk_open(desk *d);
void desk_close(desk *d);

/* Work of this many us, on the stream or into the graph that is captured. */
void standin_spend(double us);

#endif
