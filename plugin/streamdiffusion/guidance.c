/* guidance.c - see guidance.h. */
#include "guidance.h"

/* Below this signal, x0 = (x - s eps) / a is rounding noise. */
static const double least_signal = 1e-3;

int guidance_check(guidance g, const scheduler *s, scope_error *err)
{
    if (!guidance_is_residual(g))
        return 0;
    for (int i = 0; i < s->count; i++) {
        if (s->step[i].alpha < least_signal)
            return scope_fail_field(err, SCOPE_EINVAL, "cfg_type",
                                    "cfg_type %s needs some signal in every step, and this "
                                    "checkpoint has none at timestep %d; use full, or begin later: "
                                    "a lower strength, a higher first index.",
                                    g.kind == GUIDE_SELF ? "self" : "initialize",
                                    s->step[i].timestep);
    }
    return 0;
}

/* d clean / d eps, but for its sign. */
static double reach(const scheduler_step *at)
{
    return at->out * at->sigma / at->alpha;
}

void guidance_denoise(guidance g, const scheduler_step *at, double row[3])
{
    double p = g.kind == GUIDE_NONE ? 1 : g.scale, u = 1 - p;
    if (guidance_is_residual(g)) {
        /* out (x - s (p eps + u delta S)) / a + skip x, eps = noise[0] x + noise[1] output */
        double k = reach(at);
        row[0] = at->out / at->alpha - k * p * at->to_noise[0] + at->skip;
        row[1] = -k * p * at->to_noise[1];
        row[2] = -k * u * g.delta;
    } else { /* both outputs are of one x, so the terms of x add up to the unguided one */
        row[0] = at->denoise[0];
        row[1] = at->denoise[1] * p;
        row[2] = at->denoise[1] * u;
    }
}

void guidance_residual(guidance g, const scheduler_step *at, const scheduler_step *next,
                       double row[3])
{
    double k = reach(at), ratio = next->alpha / next->sigma;
    row[0] = ratio * (k + at->skip * at->sigma - k * (1 - g.scale) * g.delta);
    row[1] = -ratio * k * g.scale * at->to_noise[1];
    row[2] = -ratio * k * g.scale * at->to_noise[0];
}
