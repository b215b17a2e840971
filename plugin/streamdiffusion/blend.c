/* blend.c - see blend.h. Sums run in double: 77 x 2048 terms cost nothing beside a text encoder. */
#include "blend.h"

#include <math.h>
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

/* out may be a. */
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

/* Floats [from, from + n) of all. */
static void linear(float *out, const float *const *embedding, const double *weight, int count,
                   size_t from, size_t n)
{
    double norm = 0;
    out += from;
    memset(out, 0, n * sizeof *out);
    for (int j = 0; j < count; j++) {
        const float *e = embedding[j] + from;
        double w = share(weight, count, j);
        norm += w * sqrt(dot(e, e, n));
        for (size_t i = 0; i < n; i++)
            out[i] += (float)(w * e[i]);
    }
    double length = sqrt(dot(out, out, n));
    if (length > 0) { /* opposite embeddings cancel to nothing: there is no direction to keep */
        for (size_t i = 0; i < n; i++)
            out[i] = (float)(out[i] * (norm / length));
    }
}

/* out, the blend of the first j, takes in e as a share t of what is then there. */
static void take_in(float *out, const float *e, double t, blend_shape shape)
{
    size_t rows = (size_t)shape.tokens * (size_t)shape.width, w = (size_t)shape.width;
    if (t <= 0)
        return;
    for (size_t i = 0; i < rows; i += w)
        slerp(out + i, out + i, e + i, t, w);
    if (shape.tail)
        slerp(out + rows, out + rows, e + rows, t, (size_t)shape.tail);
}

void blend_embeddings(float *out, const float *const *embedding, const double *weight, int count,
                      blend_shape shape, int method)
{
    size_t rows = (size_t)shape.tokens * (size_t)shape.width;
    if (count > 1 && method == BLEND_LINEAR) {
        linear(out, embedding, weight, count, 0, rows);
        if (shape.tail)
            linear(out, embedding, weight, count, rows, (size_t)shape.tail);
        return;
    }
    memcpy(out, embedding[0], blend_size(shape) * sizeof *out);
    double sum = share(weight, count, 0);
    for (int j = 1; j < count; j++) {
        double w = share(weight, count, j);
        sum += w;
        take_in(out, embedding[j], sum > 0 ? w / sum : 0, shape);
    }
}

double blend_weight(const double *weight, int count)
{
    double sum = 0;
    for (int j = 0; j < count; j++)
        sum += usable(weight[j]);
    return sum;
}

void blend_scale(float *e, double by, blend_shape shape)
{
    for (size_t i = 0; i < blend_size(shape); i++)
        e[i] = (float)(e[i] * by);
}

void blend_emphasise(float *e, const float *empty, const float *weight, blend_shape shape)
{
    for (int t = 0; t < shape.tokens; t++) {
        size_t at = (size_t)t * (size_t)shape.width;
        for (size_t i = at; weight[t] != 1 && i < at + (size_t)shape.width; i++)
            e[i] = (float)(empty[i] + (double)weight[t] * ((double)e[i] - empty[i]));
    }
}

/* One row of n. */
static void away(float *e, const float *negative, const float *empty, double scale, size_t n)
{
    double before = sqrt(dot(e, e, n)), squares = 0;
    for (size_t i = 0; i < n; i++) {
        double d = e[i] - scale * ((double)negative[i] - empty[i]);
        squares += d * d;
    }
    for (size_t i = 0; squares > 0 && i < n; i++) {
        double d = e[i] - scale * ((double)negative[i] - empty[i]);
        e[i] = (float)(d * (before / sqrt(squares)));
    }
}

void blend_away(float *e, const float *negative, const float *empty, double scale,
                blend_shape shape)
{
    size_t rows = (size_t)shape.tokens * (size_t)shape.width, w = (size_t)shape.width;
    for (size_t i = 0; i < rows; i += w)
        away(e + i, negative + i, empty + i, scale, w);
    if (shape.tail)
        away(e + rows, negative + rows, empty + rows, scale, (size_t)shape.tail);
}
