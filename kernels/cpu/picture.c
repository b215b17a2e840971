/* picture.c - ops on whole pictures that lie in tensors: fades, masks, warps, blurs, likeness.
 *
 * Memory-bound loops over dense rows, so they are written for the compiler's vectors and not for
 * the tables of simd/. Must stay true: a sum does not depend on how many threads make it.
 */
#include "cpu.h"

#include <math.h>
#include <string.h>

static int dense(k_ctx *k, const char *op, k_tensor y, k_tensor x, k_tensor z)
{
    return k_check(k, y.dtype == K_F32 && x.dtype == K_F32 && (!z.dtype || z.dtype == K_F32), op,
                   "tensors must be f32", y, x, z) &&
           k_check(k, y.ld == y.c && x.ld == x.c && (!z.dtype || z.ld == z.c), op,
                   "rows must be dense", y, x, z);
}

static int alike(k_ctx *k, const char *op, k_tensor y, k_tensor x, k_tensor z)
{
    return dense(k, op, y, x, z) &&
           k_check(k, k_same_shape(y, x) && (!z.dtype || k_same_shape(y, z)), op, "shapes differ",
                   y, x, z);
}

static int small(k_ctx *k, const char *op, k_tensor coef, int c)
{
    return k_check(k, coef.dtype == K_F32 && k_rows(coef) == 1 && coef.c == c, op,
                   "the coefficients must be one f32 row of the documented length", coef, coef,
                   (k_tensor){0});
}

/* Floats of one line [w, c], and how many lines there are. */
static int64_t line_of(k_tensor t)
{
    return (int64_t)t.w * t.c;
}

static int64_t lines_of(k_tensor t)
{
    return (int64_t)t.n * t.h;
}

/* ---- element by element -----------------------------------------------------------------------
 */

void cpu_affine(k_ctx *k, k_tensor y, k_tensor x, const k_affine *o)
{
    if (!alike(k, "affine", y, x, (k_tensor){0}) || k->planning)
        return;
    const k_affine a = *o;
    int64_t n = line_of(y), lines = lines_of(y);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(k, n *lines))
    for (int64_t r = 0; r < lines; r++) {
        const float *from = (const float *)x.data + r * n;
        float *to = (float *)y.data + r * n;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            float v = a.scale * from[i] + a.bias;
            v = v > a.low ? v : a.low;
            to[i] = v < a.high ? v : a.high;
        }
    }
}

void cpu_affine_if(k_ctx *k, k_tensor y, k_tensor x, k_tensor when, const k_affine *o)
{
    if (!small(k, "affine_if", when, when.c) || !alike(k, "affine_if", y, x, (k_tensor){0}))
        return;
    for (int i = 0; i < when.c && !k->planning; i++)
        if (cpu_row(when, 0)[i] == 0)
            return;
    cpu_affine(k, y, x, o);
}

void cpu_blend(k_ctx *k, k_tensor y, k_tensor mask, k_tensor a, k_tensor b)
{
    if (!alike(k, "blend", y, a, b) || !dense(k, "blend", y, mask, (k_tensor){0}) ||
        !k_check(k, mask.n == y.n && mask.h == y.h && mask.w == y.w && mask.c == 1, "blend",
                 "the mask must be [n, h, w, 1] (x is the mask)", y, mask, (k_tensor){0}) ||
        k->planning)
        return;
    int64_t n = line_of(y), lines = lines_of(y);
    int c = y.c;
#pragma omp parallel for schedule(static) num_threads(cpu_threads(k, n *lines))
    for (int64_t r = 0; r < lines; r++) {
        const float *m = (const float *)mask.data + r * y.w;
        const float *from = (const float *)a.data + r * n, *under = (const float *)b.data + r * n;
        float *to = (float *)y.data + r * n;
        for (int64_t i = 0; i < n; i++)
            to[i] = under[i] + m[i / c] * (from[i] - under[i]);
    }
}

void cpu_ease(k_ctx *k, k_tensor y, k_tensor x, k_tensor past, k_tensor coef)
{
    if (!alike(k, "ease", y, x, past) || !small(k, "ease", coef, 2) || k->planning)
        return;
    float share = cpu_row(coef, 0)[0], limit = cpu_row(coef, 0)[1];
    int64_t n = line_of(y), lines = lines_of(y);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(k, n *lines))
    for (int64_t r = 0; r < lines; r++) {
        const float *from = (const float *)x.data + r * n, *old = (const float *)past.data + r * n;
        float *to = (float *)y.data + r * n;
        for (int64_t i = 0; i < n; i++) {
            float p = old[i] != old[i] ? from[i] : old[i];
            p = p < -limit ? -limit : p > limit ? limit : p;
            to[i] = old[i] != old[i] ? from[i] : from[i] + share * (p - from[i]);
        }
    }
}

/* ---- finite? ----------------------------------------------------------------------------------
 */

/* What is not finite has all bits of its exponent. */
static int all_finite(const float *x, int64_t n)
{
    const uint32_t infinity = 0x7f800000;
    uint32_t found = 0;
#pragma omp simd reduction(| : found)
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        found |= (bits & infinity) == infinity;
    }
    return !found;
}

void cpu_finite(k_ctx *k, k_tensor y, k_tensor x)
{
    if (!dense(k, "finite", x, x, (k_tensor){0}) ||
        !k_check(k, y.dtype == K_F32 && y.c == 1 && y.n == x.n && k_rows(y) == y.n, "finite",
                 "y must be f32 [n, 1, 1, 1]", y, x, (k_tensor){0}) ||
        k->planning)
        return;
    int64_t n = line_of(x);
    for (int image = 0; image < x.n; image++) {
        const float *from = (const float *)x.data + image * n * x.h;
        int finite = 1;
#pragma omp parallel for schedule(static) num_threads(cpu_threads(k, n *x.h)) reduction(& : finite)
        for (int r = 0; r < x.h; r++)
            finite &= all_finite(from + r * n, n);
        *cpu_row(y, image) = (float)finite;
    }
}

/* ---- likeness ---------------------------------------------------------------------------------
 */

enum { PARTS = 64 }; /* sums that are made apart, whoever makes them */

typedef struct products {
    double ab, aa, bb;
} products;

static products products_of(const float *a, const float *b, int64_t n, float middle)
{
    enum { RUN = 256 }; /* floats that are summed in fp32 */
    products sum = {0};
    for (int64_t first = 0; first < n; first += RUN) {
        int64_t end = first + RUN < n ? first + RUN : n;
        float ab = 0, aa = 0, bb = 0;
#pragma omp simd reduction(+ : ab, aa, bb)
        for (int64_t i = first; i < end; i++) {
            float u = a[i] - middle, v = b[i] - middle;
            ab += u * v;
            aa += u * u;
            bb += v * v;
        }
        sum.ab += (double)ab;
        sum.aa += (double)aa;
        sum.bb += (double)bb;
    }
    return sum;
}

void cpu_cosine(k_ctx *k, k_tensor y, k_tensor a, k_tensor b, float middle)
{
    if (!alike(k, "cosine", a, b, (k_tensor){0}) ||
        !k_check(k, y.dtype == K_F32 && y.c == 1 && y.n == a.n && k_rows(y) == y.n, "cosine",
                 "y must be f32 [n, 1, 1, 1]", y, a, b) ||
        k->planning)
        return;
    int64_t n = line_of(a) * a.h;
    for (int image = 0; image < a.n; image++) {
        const float *u = (const float *)a.data + image * n, *v = (const float *)b.data + image * n;
        products part[PARTS], sum = {0};
#pragma omp parallel for schedule(static) num_threads(cpu_threads(k, n))
        for (int p = 0; p < PARTS; p++) {
            int64_t first = n * p / PARTS, end = n * (p + 1) / PARTS;
            part[p] = products_of(u + first, v + first, end - first, middle);
        }
        for (int p = 0; p < PARTS; p++) {
            sum.ab += part[p].ab;
            sum.aa += part[p].aa;
            sum.bb += part[p].bb;
        }
        *cpu_row(y, image) =
            (float)(sum.ab / (fmax(sqrt(sum.aa), 1e-6) * fmax(sqrt(sum.bb), 1e-6)));
    }
}

/* ---- warp -------------------------------------------------------------------------------------
 */

/* Two neighbours along an axis of n pixels and the second one's share, of a point in pixels from
 * the axis' beginning. */
typedef struct pair {
    int first, second;
    float share;
} pair;

static pair neighbours(float at, int n, int mirror)
{
    float most = (float)(n - 1);
    if (mirror && (at < 0 || at > (float)n)) {
        float period = 2 * (float)n, turns;
        at = fabsf(at);
        turns = at / period;
        at = turns < 1e6f ? at - period * (float)(int)turns : 0;
        at = at > (float)n ? period - at : at;
    }
    at -= 0.5f;
    at = at > 0 ? at : 0; /* NaN as well */
    at = at < most ? at : most;
    int first = (int)at;
    return (pair){first, first + (first < n - 1), at - (float)first};
}

static void warp_pixel(float *to, const float *x, int w, int c, const pair *u, const pair *v)
{
    const float *top = x + (int64_t)v->first * w * c, *low = x + (int64_t)v->second * w * c;
    for (int i = 0; i < c; i++) {
        float a = top[u->first * c + i], b = top[u->second * c + i];
        float d = low[u->first * c + i], e = low[u->second * c + i];
        a += u->share * (b - a);
        d += u->share * (e - d);
        to[i] = a + v->share * (d - a);
    }
}

void cpu_warp(k_ctx *k, k_tensor y, k_tensor x, k_tensor coef, int mirror)
{
    if (!dense(k, "warp", y, x, (k_tensor){0}) || !small(k, "warp", coef, 6) ||
        !k_check(k, y.n == x.n && y.c == x.c, "warp", "images or channels differ", y, x,
                 (k_tensor){0}) ||
        k->planning)
        return;
    const float *m = cpu_row(coef, 0);
    int64_t lines = lines_of(y), image = line_of(x) * x.h;
#pragma omp parallel for schedule(static) num_threads(cpu_threads(k, lines *line_of(y)))
    for (int64_t r = 0; r < lines; r++) {
        const float *from = (const float *)x.data + r / y.h * image;
        float j = (float)(r % y.h) + 0.5f;
        for (int i = 0; i < y.w; i++) {
            float mid = (float)i + 0.5f;
            pair u = neighbours(m[0] * mid + m[1] * j + m[2], x.w, mirror);
            pair v = neighbours(m[3] * mid + m[4] * j + m[5], x.h, mirror);
            warp_pixel(cpu_row(y, r * y.w + i), from, x.w, x.c, &u, &v);
        }
    }
}

/* ---- blur -------------------------------------------------------------------------------------
 */

enum { REACH_MAX = 3 * K_BLUR_MAX };

typedef struct bell {
    int reach;
    float weight[2 * REACH_MAX + 1]; /* of distance -reach.. */
    double below[2 * REACH_MAX + 2]; /* sum of the weights before each */
} bell;

static void bell_of(bell *b, float sigma)
{
    b->reach = (int)ceilf(3 * sigma);
    b->below[0] = 0;
    for (int i = 0; i <= 2 * b->reach; i++) {
        double d = i - b->reach, s = sigma > 0 ? (double)sigma : 1;
        b->weight[i] = (float)exp(-d * d / (2 * s * s));
        b->below[i + 1] = b->below[i] + (double)b->weight[i];
    }
}

/* 1 / the weights that fall on an axis of n pixels around pixel i */
static float bell_norm(const bell *b, int i, int n)
{
    int low = i < b->reach ? b->reach - i : 0;
    int high = n - 1 - i < b->reach ? b->reach + n - i : 2 * b->reach + 1;
    return (float)(1 / (b->below[high] - b->below[low]));
}

static void blur_across(float *to, const float *from, int w, int c, const bell *b)
{
    memset(to, 0, sizeof *to * (size_t)w * (size_t)c);
    for (int d = -b->reach; d <= b->reach; d++) {
        float weight = b->weight[d + b->reach];
        int first = (d < 0 ? -d : 0) * c, end = (d > 0 ? w - d : w) * c, by = d * c;
#pragma omp simd
        for (int i = first; i < end; i++)
            to[i] += weight * from[i + by];
    }
    for (int x = 0; x < w; x++) {
        float norm = bell_norm(b, x, w);
        for (int i = 0; i < c; i++)
            to[x * c + i] *= norm;
    }
}

/* from: the image; line: the one of its h lines that is made, of n floats */
static void blur_down(float *to, const float *from, int line, int h, int64_t n, const bell *b)
{
    memset(to, 0, sizeof *to * (size_t)n);
    float norm = bell_norm(b, line, h);
    for (int d = -b->reach; d <= b->reach; d++) {
        if (line + d < 0 || line + d >= h)
            continue;
        float weight = b->weight[d + b->reach] * norm;
        const float *other = from + (line + d) * n;
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            to[i] += weight * other[i];
    }
}

void cpu_blur(k_ctx *k, k_tensor y, k_tensor x, float sigma, int down)
{
    if (!alike(k, "blur", y, x, (k_tensor){0}) ||
        !k_check(k, sigma >= 0 && sigma <= K_BLUR_MAX, "blur", "sigma is out of range", y, x,
                 (k_tensor){0}) ||
        k->planning)
        return;
    bell b;
    bell_of(&b, sigma);
    int64_t n = line_of(y), lines = lines_of(y);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(k, n *lines))
    for (int64_t r = 0; r < lines; r++) {
        float *to = (float *)y.data + r * n;
        const float *from = (const float *)x.data;
        if (down)
            blur_down(to, from + r / y.h * y.h * n, (int)(r % y.h), y.h, n, &b);
        else
            blur_across(to, from + r * n, y.w, y.c, &b);
    }
}
