/* scheduler.h - noise levels and the coefficients of each denoising step. Pure arithmetic.
 *
 * Every step of every mode is y = a x + b z + c w (k_ops.mix); this file computes the numbers, in
 * double, rounded once to fp32.
 */
#ifndef SD_SCHEDULER_H
#define SD_SCHEDULER_H

#include "scope_plugin.h"

enum { SCHEDULER_MAX_STEPS = 50 };
enum prediction { PREDICT_EPSILON = 1, PREDICT_V, PREDICT_SAMPLE };

/* From scheduler_config.json. */
typedef struct scheduler_config {
    double beta_start, beta_end; /* 0.00085, 0.012 */
    int scaled_linear;           /* else linear */
    int train_timesteps;         /* 1000 */
    int prediction;              /* enum prediction */
    int original_steps;          /* LCM: 50 */
    double timestep_scaling;     /* LCM: 10 */
    int zero_terminal_snr;       /* rescale_betas_zero_snr: the last timestep is pure noise */
} scheduler_config;

typedef struct scheduler_step {
    int timestep;
    double alpha, sigma; /* sqrt of abar_t and of 1 - abar_t */
    double skip, out;    /* denoised = out x0 + skip x_t */
    double to_noise[2];  /* eps = to_noise[0] x_t + to_noise[1] model output */
    float noise[3];      /* x_t = noise[0] x0 + noise[1] eps */
    float denoise[3];    /* denoised = denoise[0] x_t + denoise[1] model output */
} scheduler_step;

typedef struct scheduler {
    int count;
    scheduler_step step[SCHEDULER_MAX_STEPS];
} scheduler;

void scheduler_defaults(scheduler_config *c);
/* count == 0: the LCM grid of `steps` timesteps within `strength` (diffusers' LCM img2img: all of
 * them are run), both clamped so that at least one step at t = 19 remains.
 * count > 0: the given non-decreasing indices into the full-strength grid of `steps`, which is
 * raised to original_steps when an index does not fit it. Errors name the schema field. */
int scheduler_plan(scheduler *s, const scheduler_config *c, int steps, double strength,
                   const int *index, int count, scope_error *err);
/* Just these timesteps, 1.. of them, which must not rise: any grid, such as 999, 749, 499, 249 of
 * checkpoints that are distilled to four steps. Errors name "timesteps". */
int scheduler_plan_timesteps(scheduler *s, const scheduler_config *c, const int *timestep,
                             int count, scope_error *err);
/* Are the timesteps of both the same? */
int scheduler_same(const scheduler *a, const scheduler *b);

#endif
