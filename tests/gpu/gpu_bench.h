/* gpu_bench.h - what the files of the benchmark share. */
#ifndef TESTS_GPU_BENCH_H
#define TESTS_GPU_BENCH_H

#include "kernels/cuda/cuda.h"
#include "plugin/streamdiffusion/pipeline_state.h"

#include <stdio.h>
#include <string.h>

typedef struct bench {
    const model *m;
    pipeline *p;
    pipeline_settings settings;
    int size;
    unsigned char *in, *out; /* owned: pictures */
    double load_ms, plan_ms;
} bench;

extern const char *bench_device;

__attribute__((noreturn)) void die(const char *why);
double now_ms(void);
double quantile(double *v, int count, double share); /* sorts v */

/* Load the model; then plan, with weights prepared; then frames. */
bench bench_open(const char *path, int size, int steps);
void bench_set(bench *b);
void bench_frame(bench *b);
void bench_close(bench *b);

typedef struct ceilings {
    double bytes, flops; /* a second: of a large copy (read and written), of a large product */
    double clock_us;     /* that an op takes longer because a clock is written behind it */
} ceilings;
ceilings ceilings_measure(void);

/* The table of ops of one frame, timed for some seconds. */
void ops_run(const char *path, int size, int steps, double seconds);

#endif
