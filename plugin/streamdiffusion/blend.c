/* blend.c - see blend.h. Sums run in double: 77 x 2048 terms cost nothing beside a text encoder. */
#include "blend.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

static double usable(double weight)
{
    return isfinite(weight) && weight > 0 ? weight : 0;
}

/* Weight i of `count`, as a share of all. */
static double share(const double *weight, int count, int i)
{
    double largest = 0, sum = 0;
    for (int j = 0; j < count; j++)
        largest = fmax(largest, usable(weight[j]));
    if (largest == 0)
        return 1.0 / count;
    for (int j = 0; j < count; j++) /* scaled first: a sum of huge weights must stay finite */
        sum += usable(weight[j]) / largest;
    return usable(weight[i]) / largest / sum;
}

static void lerp(float *out, const float *a, const float *b, double t, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (float)((1 - t) * a[i] + t * b[i]);
}

static void slerp(float *out, const float *a, const float *b, double t, size_t n)
{
    double length = sqrt(dot(a, a, n)) * sqrt(dot(b, b, n));
    double cosine = length > 0 ? fmin(1, fmax(-1, dot(a, b, n) / length)) : 1;
    double angle = acos(cosine), sine = sin(angle);
    if (sine < 1e-6) {
        lerp(out, a, b, t, n);
        return;
    }
    double wa = sin((1 - t) * angle) / sine, wb = sin(t * angle) / sine;
    for (size_t i = 0; i < n; i++)
        out[i] = (float)(wa * a[i] + wb * b[i]);
}

static void linear(float *out, const float *const *embedding, const double *weight, int count,
                   size_t n)
{
    double norm = 0;
    memset(out, 0, n * sizeof *out);
    for (int j = 0; j < count; j++) {
        double w = share(weight, count, j);
        norm += w * sqrt(dot(embedding[j], embedding[j], n));
        for (size_t i = 0; i < n; i++)
            out[i] += (float)(w * embedding[j][i]);
    }
    double length = sqrt(dot(out, out, n));
    if (length > 0) { /* opposite embeddings cancel to nothing: there is no direction to keep */
        for (size_t i = 0; i < n; i++)
            out[i] = (float)(out[i] * (norm / length));
    }
}

void blend_embeddings(float *out, const float *const *embedding, const double *weight, int count,
                      int tokens, int width, int method)
{
    size_t n = (size_t)tokens * (size_t)width, w = (size_t)width;
    if (count == 1) {
        memcpy(out, embedding[0], n * sizeof *out);
    } else if (method == BLEND_SLERP && count == 2) {
        double t = share(weight, 2, 1);
        for (size_t i = 0; i < n; i += w)
            slerp(out + i, embedding[0] + i, embedding[1] + i, t, w);
    } else {
        linear(out, embedding, weight, count, n);
    }
}
