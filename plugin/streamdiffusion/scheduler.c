/* scheduler.c - see scheduler.h. Source of the formulas: Luo et al. 2023 (latent consistency
 * models) and diffusers' LCMScheduler; zero terminal SNR: Lin et al. 2023, algorithm 1. */
#include "scheduler.h"

#include <math.h>

enum { MAX_TRAIN = 10000 };
static const double SIGMA_DATA = 0.5; /* of the boundary condition c_skip(0) = 1, c_out(0) = 0 */

void scheduler_defaults(scheduler_config *c)
{
    *c = (scheduler_config){
        .beta_start = 0.00085,
        .beta_end = 0.012,
        .scaled_linear = 1,
        .train_timesteps = 1000,
        .prediction = PREDICT_EPSILON,
        .original_steps = 50,
        .timestep_scaling = 10,
    };
}

/* sqrt of the product of 1 - beta_s over s <= t. */
static double signal(const scheduler_config *c, int t)
{
    double lo = c->scaled_linear ? sqrt(c->beta_start) : c->beta_start;
    double hi = c->scaled_linear ? sqrt(c->beta_end) : c->beta_end;
    double abar = 1;
    for (int s = 0; s <= t; s++) {
        double b = c->train_timesteps > 1 ? lo + (hi - lo) * s / (c->train_timesteps - 1) : lo;
        abar *= 1 - (c->scaled_linear ? b * b : b);
    }
    return sqrt(abar);
}

static scheduler_step step_at(const scheduler_config *c, int t)
{
    double alpha = signal(c, t);
    if (c->zero_terminal_snr) { /* shift and stretch so that the last timestep is pure noise */
        double first = signal(c, 0), last = signal(c, c->train_timesteps - 1);
        alpha = (alpha - last) * first / (first - last);
    }
    double sigma = sqrt(1 - alpha * alpha);
    double tau = t * c->timestep_scaling, d = SIGMA_DATA * SIGMA_DATA;
    double c_skip = d / (tau * tau + d), c_out = tau / sqrt(tau * tau + d);

    /* x0 = a x_t + b output, by what the network predicts */
    double a = 0, b = 1, to_noise[2] = {1 / sigma, -alpha / sigma};
    if (c->prediction == PREDICT_EPSILON) {
        a = 1 / alpha;
        b = -sigma / alpha;
        to_noise[0] = 0;
        to_noise[1] = 1;
    } else if (c->prediction == PREDICT_V) {
        a = alpha;
        b = -sigma;
        to_noise[0] = sigma;
        to_noise[1] = alpha;
    }
    return (scheduler_step){
        .timestep = t,
        .alpha = alpha,
        .sigma = sigma,
        .skip = c_skip,
        .out = c_out,
        .to_noise = {to_noise[0], to_noise[1]},
        .noise = {(float)alpha, (float)sigma, 0},
        .denoise = {(float)(c_out * a + c_skip), (float)(c_out * b), 0},
    };
}

static int add(scheduler *s, const scheduler_config *c, int t, const char *field, scope_error *err)
{
    if (c->zero_terminal_snr && c->prediction == PREDICT_EPSILON && t == c->train_timesteps - 1)
        return scope_fail_field(
            err, SCOPE_EINVAL, field,
            "this checkpoint predicts noise and has no signal at timestep %d; "
            "begin later: a lower strength, or a higher first t_index_list entry",
            t);
    s->step[s->count++] = step_at(c, t);
    return 0;
}

static int checked(const scheduler_config *c, scope_error *err)
{
    if (c->train_timesteps < 2 || c->train_timesteps > MAX_TRAIN || c->original_steps < 1 ||
        c->original_steps > c->train_timesteps || !(c->beta_start > 0 && c->beta_start < 1) ||
        !(c->beta_end > 0 && c->beta_end < 1))
        return scope_fail(err, SCOPE_EIO,
                          "the scheduler config is out of range: %d timesteps, "
                          "%d original steps, beta %g to %g",
                          c->train_timesteps, c->original_steps, c->beta_start, c->beta_end);
    return 0;
}

static int in_range(int steps, double strength, scope_error *err)
{
    if (steps < 1 || steps > SCHEDULER_MAX_STEPS)
        return scope_fail_field(err, SCOPE_EINVAL, "num_inference_steps",
                                "num_inference_steps is %d; it must be 1 to %d", steps,
                                SCHEDULER_MAX_STEPS);
    if (!(strength >= 0 && strength <= 1))
        return scope_fail_field(err, SCOPE_EINVAL, "strength", "strength is %g; it must be 0 to 1",
                                strength);
    return 0;
}

/* Entry i of `steps` on the LCM grid whose first `length` of original_steps timesteps are used. */
static int grid(const scheduler_config *c, int length, int steps, int i)
{
    int k = c->train_timesteps / c->original_steps;
    /* as numpy rounds floor(linspace(0, length, steps, endpoint=False)[i]) */
    int at = (int)floor(i * ((double)length / steps));
    return k * (length - at) - 1;
}

static int plan_strength(scheduler *s, const scheduler_config *c, int steps, double strength,
                         scope_error *err)
{
    int length = (int)(c->original_steps * strength); /* truncated in IEEE double, as diffusers */
    if (length < 1)
        length = 1;
    if (steps > length)
        steps = length;
    for (int i = 0; i < steps; i++) {
        if (add(s, c, grid(c, length, steps, i), "strength", err))
            return err->status;
    }
    return 0;
}

static int plan_indices(scheduler *s, const scheduler_config *c, int steps, const int *index,
                        int count, scope_error *err)
{
    int last = 0;
    for (int i = 0; i < count; i++) {
        if (index[i] < 0 || index[i] >= c->original_steps)
            return scope_fail_field(err, SCOPE_EINVAL, "t_index_list",
                                    "t_index_list entry %d is %d; use 0 to %d", i, index[i],
                                    c->original_steps - 1);
        if (index[i] < last)
            return scope_fail_field(err, SCOPE_EINVAL, "t_index_list",
                                    "t_index_list entry %d is %d, after %d; indices must not "
                                    "decrease, so put them in rising order",
                                    i, index[i], last);
        last = index[i];
    }
    if (last >= steps || steps > c->original_steps)
        steps = c->original_steps;
    for (int i = 0; i < count; i++) {
        if (add(s, c, grid(c, c->original_steps, steps, index[i]), "t_index_list", err))
            return err->status;
    }
    return 0;
}

int scheduler_plan(scheduler *s, const scheduler_config *c, int steps, double strength,
                   const int *index, int count, scope_error *err)
{
    memset(s, 0, sizeof *s);
    if (checked(c, err) || in_range(steps, strength, err))
        return err->status;
    if (count < 0 || count > SCHEDULER_MAX_STEPS)
        return scope_fail_field(err, SCOPE_EINVAL, "t_index_list",
                                "t_index_list has %d entries; at most %d are possible", count,
                                SCHEDULER_MAX_STEPS);
    int rc = count ? plan_indices(s, c, steps, index, count, err)
                   : plan_strength(s, c, steps, strength, err);
    return rc;
}

int scheduler_plan_timesteps(scheduler *s, const scheduler_config *c, const int *timestep,
                             int count, scope_error *err)
{
    memset(s, 0, sizeof *s);
    if (checked(c, err))
        return err->status;
    if (count < 1 || count > SCHEDULER_MAX_STEPS)
        return scope_fail_field(err, SCOPE_EINVAL, "timesteps",
                                "timesteps has %d entries; give 1 to %d", count,
                                SCHEDULER_MAX_STEPS);
    for (int i = 0; i < count; i++) {
        if (timestep[i] < 0 || timestep[i] >= c->train_timesteps)
            return scope_fail_field(err, SCOPE_EINVAL, "timesteps",
                                    "timesteps entry %d is %d; use 0 to %d", i, timestep[i],
                                    c->train_timesteps - 1);
        if (i && timestep[i] > timestep[i - 1])
            return scope_fail_field(err, SCOPE_EINVAL, "timesteps",
                                    "timesteps entry %d is %d, after %d; noise must not grow, so "
                                    "put them in falling order",
                                    i, timestep[i], timestep[i - 1]);
        if (add(s, c, timestep[i], "timesteps", err))
            return err->status;
    }
    return 0;
}

int scheduler_same(const scheduler *a, const scheduler *b)
{
    for (int i = 0; i < a->count && i < b->count; i++) {
        if (a->step[i].timestep != b->step[i].timestep)
            return 0;
    }
    return a->count == b->count;
}
