/* plan.h - inside of plan.c, for its tests: how a candidate is timed, and who wins. */
#ifndef KERNELS_CUDA_PLAN_H
#define KERNELS_CUDA_PLAN_H

#include "cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* us[i]: the time of one candidate, negative where there is none. The winner, or -1; *second: the
 * best beside it, or -1. Lower numbers, our own kernels, win unless they are 2 % slower. */
int cuda_plan_winner(const double *us, int count, int *second);

/* Microseconds of one run of each candidate as graphs replay it; negative: it does not fit, or was
 * so far behind at first sight that it was not measured to the end. */
void cuda_plan_times(k_ctx *k, const cuda_choice *c, double *us);

#ifdef __cplusplus
}
#endif
#endif
