/* noise.c - see noise.h. */
#include "noise.h"

#include "alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

noise_seeds noise_seeds_of(const noise_seeds *given)
{
    noise_seeds s;
    double sum = 0;
    memset(&s, 0, sizeof s);
    for (int i = 0; i < given->count; i++)
        sum += given->weight[i];
    for (int i = 0; i < given->count; i++) {
        double weight = sum > 0 ? given->weight[i] / sum : 1.0 / given->count;
        int at = 0;
        while (at < s.count && s.seed[at] != given->seed[i])
            at++;
        if (weight <= 0)
            continue;
        s.count = at < s.count ? s.count : at + 1;
        s.seed[at] = given->seed[i];
        s.weight[at] += weight;
    }
    s.slerp = given->slerp && s.count == 2;
    return s;
}

void noise_resize(k_ctx *k, noise *z, int steps, int repeats, int h, int w, int channels)
{
    if (!z->coef.data)
        z->coef = k_keep(k, K_F32, 1, 1, 1, 3);
    if (z->e.n == steps * repeats && z->repeats == repeats && z->e.h == h && z->e.w == w)
        return;
    k_drop(k, &z->e);
    z->e = k_keep(k, K_F32, steps * repeats, h, w, channels);
    z->repeats = repeats;
    z->drawn = 0;
}

int noise_reserve(noise *z, const noise_seeds *s)
{
    size_t need = 2 * (size_t)z->e.h * (size_t)z->e.w * (size_t)z->e.c;
    if (!s->slerp || z->room >= need)
        return 0;
    free(z->host);
    z->host = sd_malloc(need * sizeof *z->host);
    z->room = z->host ? need : 0;
    return z->host ? 0 : -1;
}

void noise_fini(k_ctx *k, noise *z)
{
    k_drop(k, &z->e);
    k_drop(k, &z->coef);
    free(z->host);
}

/* Factors of a and b along the great circle. */
static void slerp_factors(k_ctx *k, const noise *z, k_tensor a, k_tensor b, double t,
                          float factor[3])
{
    size_t n = (size_t)a.h * (size_t)a.w * (size_t)a.c;
    const float *x = z->host, *y = z->host + n;
    double dot = 0, xx = 0, yy = 0;
    k_get(k, a, z->host);
    k_get(k, b, z->host + n);
    for (size_t i = 0; i < n; i++) {
        dot += (double)x[i] * y[i];
        xx += (double)x[i] * x[i];
        yy += (double)y[i] * y[i];
    }
    double angle = acos(fmax(-1, fmin(1, dot / sqrt(xx * yy)))), s = sin(angle);
    int flat = s < 1e-6;
    factor[0] = (float)(flat ? 1 - t : sin((1 - t) * angle) / s);
    factor[1] = (float)(flat ? t : sin(t * angle) / s);
}

static void draw_step(k_ctx *k, const noise *z, const noise_seeds *s, uint32_t stream, k_tensor y)
{
    const k_tensor none = {0};
    size_t mark = k_mark(k);
    double square = 0;
    K_CALL(k, noise, y, s->seed[0], stream);
    for (int j = 0; j < s->count; j++)
        square += s->weight[j] * s->weight[j];
    for (int j = 1; j < s->count; j++) {
        k_tensor one = k_temp(k, K_F32, 1, y.h, y.w, y.c);
        float by = (float)(1 / sqrt(square));
        float factor[3] = {j == 1 ? by * (float)s->weight[0] : 1, by * (float)s->weight[j]};
        K_CALL(k, noise, one, s->seed[j], stream);
        if (s->slerp)
            slerp_factors(k, z, y, one, s->weight[1], factor);
        k_put(k, z->coef, factor);
        K_CALL(k, mix, y, z->coef, y, one, none);
        k_release(k, mark);
    }
}

int noise_draw(k_ctx *k, noise *z, const noise_seeds *s, uint32_t epoch)
{
    if (z->drawn && z->epoch == epoch && !memcmp(&z->seeds, s, sizeof *s))
        return 0;
    for (int i = 0; i < z->e.n; i++) {
        k_tensor y = net_image(z->e, i), first = net_image(z->e, i / z->repeats * z->repeats);
        uint32_t stream = epoch * NOISE_MAX_STEPS + (uint32_t)(i / z->repeats);
        if (i % z->repeats)
            K_CALL(k, activate, y, first, K_IDENTITY);
        else
            draw_step(k, z, s, stream, y);
    }
    z->seeds = *s;
    z->epoch = epoch;
    z->drawn = 1;
    return 1;
}
