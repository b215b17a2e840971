/* test_picture.c - ops on pictures in tensors: their formulas in double precision at odd sizes, and
 * what PyTorch makes of the same (tests/oracle/pictures.py). */
#include "bed.h"

static const k_tensor none = {0};

static void check(bed *b, k_tensor y, double (*at)(int n, int j, int i, int c), double relative,
                  const char *what)
{
    double *reference = calloc((size_t)k_rows(y) * (size_t)y.c, sizeof *reference);
    for (int64_t e = 0; e < k_rows(y) * y.c; e++) {
        int r = (int)(e / y.c);
        reference[e] = at(r / (y.h * y.w), r / y.w % y.h, r % y.w, (int)(e % y.c));
    }
    bed_compare(b, y, reference, relative, what);
    free(reference);
}

/* ---- the case under way ---- */

static k_tensor x, z, mask;
static k_affine affine;
static float coef[6], sigma;
static int down, mirror;

static double value(k_tensor t, int n, int j, int i, int c)
{
    return (double)bed_at(t, ((int64_t)n * t.h + j) * t.w + i)[c];
}

/* ---- element by element ---- */

static double affine_at(int n, int j, int i, int c)
{
    double v = (double)affine.scale * value(x, n, j, i, c) + (double)affine.bias;
    return fmin((double)affine.high, fmax((double)affine.low, v));
}

static double blend_at(int n, int j, int i, int c)
{
    double m = value(mask, n, j, i, 0);
    return m * value(x, n, j, i, c) + (1 - m) * value(z, n, j, i, c);
}

static double ease_at(int n, int j, int i, int c)
{
    double p = value(z, n, j, i, c), limit = (double)coef[1], from = value(x, n, j, i, c);
    p = fmin(limit, fmax(-limit, p));
    return (1 - (double)coef[0]) * from + (double)coef[0] * p;
}

static void elementwise(bed *b)
{
    static const int shape[][4] = {{1, 1, 1, 3}, {2, 5, 7, 3}, {1, 33, 129, 3}, {3, 9, 11, 4}};
    for (size_t s = 0; s < sizeof shape / sizeof *shape; s++) {
        const int *d = shape[s];
        k_tensor y = bed_floats(b, d[0], d[1], d[2], d[3]);
        k_tensor row = bed_floats(b, 1, 1, 1, 2);
        x = bed_floats(b, d[0], d[1], d[2], d[3]);
        z = bed_floats(b, d[0], d[1], d[2], d[3]);
        mask = bed_floats(b, d[0], d[1], d[2], 1);
        affine = (k_affine){1.5f, 0.25f, -0.5f, 0.75f};
        BED_RUN(b, affine, y, x, &affine);
        check(b, y, affine_at, 1e-6, "affine");
        BED_RUN(b, blend, y, mask, x, z);
        check(b, y, blend_at, 1e-6, "blend");
        coef[0] = 0.3f;
        coef[1] = 0.6f;
        bed_put(row, coef);
        BED_RUN(b, ease, y, x, z, row);
        check(b, y, ease_at, 1e-6, "ease");
        for (int64_t r = 0; r < k_rows(x); r++) /* y may be b */
            memcpy(bed_at(z, r), bed_at(x, r), 4 * (size_t)x.c);
        BED_RUN(b, blend, z, mask, y, z);
        k_tensor *all[] = {&y, &row, &x, &z, &mask};
        for (int i = 0; i < 5; i++)
            bed_drop(b, all[i]);
    }
}

START_TEST(test_elementwise)
{
    bed_each(elementwise, BED_PICTURE);
}
END_TEST

START_TEST(test_not_a_number)
{
    bed b = bed_open("base", K_MEMORY_NORMAL, 1);
    static const float from[3] = {0.25f, NAN, 3}, past[3] = {NAN, NAN, INFINITY};
    static const float how[2] = {0.5f, 10};
    k_tensor y = bed_floats(&b, 1, 1, 1, 3), row = bed_floats(&b, 1, 1, 1, 2);
    x = bed_floats(&b, 1, 1, 1, 3);
    z = bed_floats(&b, 1, 1, 1, 3);
    bed_put(x, from);
    bed_put(z, past);
    bed_put(row, how);
    BED_RUN(&b, affine, y, x, &(k_affine){1, 0, 0, 1});
    static const float clamped[3] = {0.25f, 0, 1};
    ck_assert_mem_eq(bed_at(y, 0), clamped, sizeof clamped);
    BED_RUN(&b, ease, y, x, z, row);
    ck_assert_float_eq(bed_at(y, 0)[0], 0.25f); /* nothing of a past that is not a number */
    ck_assert_float_eq(bed_at(y, 0)[2], 6.5f);  /* and of an infinite one the limit */
    k_tensor *all[] = {&y, &row, &x, &z};
    for (int i = 0; i < 4; i++)
        bed_drop(&b, all[i]);
    bed_close(&b);
}
END_TEST

/* ---- finite? ---- */

/* One element of one image is not: the first, one within, the last. */
static void finites(bed *b)
{
    static const int shape[][4] = {{1, 1, 1, 1}, {3, 7, 9, 3}, {2, 131, 255, 3}};
    static const float odd[] = {NAN, -NAN, INFINITY, -INFINITY, 3.4e38f, -1e-45f};
    for (size_t s = 0; s < sizeof shape / sizeof *shape; s++) {
        const int *d = shape[s];
        k_tensor all = bed_floats(b, d[0], 1, 1, 2), y = k_slice(all, 1, 1);
        x = bed_floats(b, d[0], d[1], d[2], d[3]);
        int64_t image = (int64_t)d[1] * d[2] * d[3];
        const int64_t at[] = {0, image / 2, image - 1};
        for (int i = 0; i < 18; i++) {
            int64_t element = (d[0] - 1) * image + at[i % 3];
            float *one = bed_at(x, element / d[3]) + element % d[3], was = *one;
            *one = odd[i / 3];
            for (int n = 0; n < d[0]; n++)
                *bed_at(all, n) = 5;
            BED_RUN(b, finite, y, x);
            for (int n = 0; n < d[0]; n++) {
                ck_assert_float_eq(*bed_at(y, n), n < d[0] - 1 || i >= 12);
                ck_assert_float_eq(*bed_at(all, n), 5);
            }
            *one = was;
        }
        bed_drop(b, &all);
        bed_drop(b, &x);
    }
}

START_TEST(test_finite)
{
    bed_each(finites, BED_PICTURE);
}
END_TEST

static void conditions(bed *b)
{
    enum { ROWS = 2 * 5 * 7 };
    const k_affine how = {0.5f, 0.25f, 0, 1};
    k_tensor y = bed_floats(b, 2, 5, 7, 3), other = bed_floats(b, 2, 5, 7, 3);
    k_tensor when = bed_floats(b, 1, 1, 1, 3);
    float was[ROWS][3];
    x = bed_floats(b, 2, 5, 7, 3);
    bed_at(x, 3)[0] = NAN;
    for (int i = 0; i < ROWS; i++)
        memcpy(was[i], bed_at(y, i), sizeof was[i]);
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++)
            bed_at(when, 0)[j] = i == j ? -0.0f : 2;
        BED_RUN(b, affine_if, y, x, when, &how);
        for (int r = 0; r < ROWS; r++)
            ck_assert_mem_eq(bed_at(y, r), was[r], sizeof was[r]);
    }
    for (int j = 0; j < 3; j++)
        bed_at(when, 0)[j] = 1;
    BED_RUN(b, affine_if, y, x, when, &how);
    BED_RUN(b, affine, other, x, &how);
    for (int r = 0; r < ROWS; r++)
        ck_assert_mem_eq(bed_at(y, r), bed_at(other, r), sizeof was[r]);
    k_tensor *all[] = {&y, &other, &when, &x};
    for (int i = 0; i < 4; i++)
        bed_drop(b, all[i]);
}

START_TEST(test_conditions)
{
    bed_each(conditions, BED_PICTURE);
}
END_TEST

/* ---- warp ---- */

static double place(double at, int n)
{
    if (mirror) {
        at = fmod(fabs(at), 2.0 * n);
        at = at > n ? 2.0 * n - at : at;
    }
    return fmin(n - 1, fmax(0, at - 0.5));
}

static double warp_at(int n, int j, int i, int c)
{
    double mi = i + 0.5, mj = j + 0.5, m[6];
    for (int e = 0; e < 6; e++)
        m[e] = (double)coef[e];
    double u = place(m[0] * mi + m[1] * mj + m[2], x.w);
    double v = place(m[3] * mi + m[4] * mj + m[5], x.h), sum = 0;
    for (int e = 0; e < 4; e++) {
        int su = (int)u + e % 2, sv = (int)v + e / 2;
        double share =
            (e % 2 ? u - (int)u : 1 - (u - (int)u)) * (e / 2 ? v - (int)v : 1 - (v - (int)v));
        if (share > 0)
            sum += share * value(x, n, sv, su, c);
    }
    return sum;
}

static void warps(bed *b)
{
    static const float maps[][6] = {{1, 0, 0, 0, 1, 0},
                                    {0.9f, -0.7f, 2, 0.6f, 1.3f, -3},
                                    {3, 0.1f, -40, -0.2f, 2.5f, 31},
                                    {0, 0, 1.25f, 0, 0, 1}};
    static const int shape[][6] = {{1, 1, 1, 3, 4, 5}, {2, 7, 9, 3, 5, 11}, {1, 40, 31, 4, 77, 63}};
    k_tensor row = bed_floats(b, 1, 1, 1, 6);
    for (size_t s = 0; s < sizeof shape / sizeof *shape; s++) {
        const int *d = shape[s];
        x = bed_floats(b, d[0], d[1], d[2], d[3]);
        k_tensor y = bed_floats(b, d[0], d[4], d[5], d[3]);
        for (int i = 0; i < 8; i++) {
            mirror = i % 2;
            memcpy(coef, maps[i / 2], sizeof coef);
            bed_put(row, coef);
            BED_RUN(b, warp, y, x, row, mirror);
            /* A place of up to 250 pixels has an fp32 error of 2^-16, and neighbours differ by 2.
             */
            check(b, y, warp_at, 1e-4, "warp");
        }
        bed_drop(b, &x);
        bed_drop(b, &y);
    }
    bed_drop(b, &row);
}

START_TEST(test_warp)
{
    bed_each(warps, BED_PICTURE);
}
END_TEST

/* ---- blur ---- */

static double blur_at(int n, int j, int i, int c)
{
    double sum = 0, total = 0, s = (double)sigma;
    int reach = (int)ceil(3 * s);
    for (int d = -reach; d <= reach; d++) {
        int sj = down ? j + d : j, si = down ? i : i + d;
        if (sj < 0 || si < 0 || sj >= x.h || si >= x.w)
            continue;
        double g = s > 0 ? exp(-d * d / (2 * s * s)) : 1;
        sum += g * value(x, n, sj, si, c);
        total += g;
    }
    return sum / total;
}

static void blurs(bed *b)
{
    static const float sigmas[] = {0, 0.3f, 1, 4.25f, K_BLUR_MAX};
    static const int shape[][4] = {{1, 1, 1, 1}, {2, 7, 9, 3}, {1, 130, 67, 1}};
    for (size_t s = 0; s < sizeof shape / sizeof *shape; s++) {
        const int *d = shape[s];
        x = bed_floats(b, d[0], d[1], d[2], d[3]);
        k_tensor y = bed_floats(b, d[0], d[1], d[2], d[3]);
        for (int i = 0; i < 10; i++) {
            sigma = sigmas[i / 2];
            down = i % 2;
            BED_RUN(b, blur, y, x, sigma, down);
            check(b, y, blur_at, 2e-6, "blur");
        }
        bed_drop(b, &x);
        bed_drop(b, &y);
    }
}

START_TEST(test_blur)
{
    bed_each(blurs, BED_PICTURE);
}
END_TEST

/* ---- likeness ---- */

static double cosine_at(int n, int j, int i, int c)
{
    (void)i, (void)c, (void)j;
    double ab = 0, aa = 0, bb = 0;
    for (int64_t r = 0; r < (int64_t)x.h * x.w; r++)
        for (int e = 0; e < x.c; e++) {
            int64_t at = (int64_t)n * x.h * x.w + r;
            double u = (double)bed_at(x, at)[e] - 0.5, v = (double)bed_at(z, at)[e] - 0.5;
            ab += u * v;
            aa += u * u;
            bb += v * v;
        }
    return ab / (fmax(1e-6, sqrt(aa)) * fmax(1e-6, sqrt(bb)));
}

static void cosines(bed *b)
{
    static const int shape[][4] = {{1, 1, 1, 1}, {3, 7, 9, 3}, {1, 131, 255, 3}};
    for (size_t s = 0; s < sizeof shape / sizeof *shape; s++) {
        const int *d = shape[s];
        k_tensor y = bed_floats(b, d[0], 1, 1, 1);
        x = bed_floats(b, d[0], d[1], d[2], d[3]);
        z = bed_floats(b, d[0], d[1], d[2], d[3]);
        BED_RUN(b, cosine, y, x, z, 0.5f);
        check(b, y, cosine_at, 1e-6, "cosine");
        BED_RUN(b, cosine, y, x, x, 0.5f);
        ck_assert_double_eq_tol((double)*bed_at(y, 0), 1, 1e-6);
        k_tensor *all[] = {&y, &x, &z};
        for (int i = 0; i < 3; i++)
            bed_drop(b, all[i]);
    }
}

START_TEST(test_cosine)
{
    bed_each(cosines, BED_PICTURE);
}
END_TEST

START_TEST(test_threads_change_nothing)
{
    float got[2];
    for (int threads = 1; threads <= 2; threads++) {
        bed b = bed_open("base", K_MEMORY_NORMAL, threads);
        bed_state = 5;
        k_tensor y = bed_floats(&b, 1, 1, 1, 1);
        x = bed_floats(&b, 1, 131, 255, 3);
        z = bed_floats(&b, 1, 131, 255, 3);
        BED_RUN(&b, cosine, y, x, z, 0.5f);
        got[threads - 1] = *bed_at(y, 0);
        k_tensor *all[] = {&y, &x, &z};
        for (int i = 0; i < 3; i++)
            bed_drop(&b, all[i]);
        bed_close(&b);
    }
    ck_assert_mem_eq(&got[0], &got[1], sizeof *got);
}
END_TEST

/* ---- PyTorch's ---- */

enum { H = 7, W = 9, OH = 5, OW = 11 };

static void check_golden(bed *b, k_tensor y, const char *name)
{
    char path[512];
    size_t n = (size_t)(k_rows(y) * y.c);
    float *file = calloc(n + 1, sizeof *file);
    double *reference = calloc(n, sizeof *reference);
    snprintf(path, sizeof path, SOURCE_DIR "/tests/golden/pictures/%s.f32", name);
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s", path);
    ck_assert_uint_eq(fread(file, sizeof *file, n + 1, f), n);
    fclose(f);
    for (size_t i = 0; i < n; i++)
        reference[i] = (double)file[i];
    bed_compare(b, y, reference, 1e-5, name);
    free(file);
    free(reference);
}

static void goldens(bed *b)
{
    static const float map[6] = {0.9f, -0.7f, 2, 0.6f, 1.3f, -3};
    const float size[6] = {(float)W / OW, 0, 0, 0, (float)H / OH, 0};
    k_tensor y = bed_floats(b, 1, OH, OW, 3), row = bed_floats(b, 1, 1, 1, 6);
    k_tensor across = bed_floats(b, 1, H, W, 3), both = bed_floats(b, 1, H, W, 3);
    k_tensor like = bed_floats(b, 1, 1, 1, 1);
    x = bed_floats(b, 1, H, W, 3);
    for (int i = 0; i < H * W * 3; i++)
        bed_at(x, i / 3)[i % 3] = (float)(37 * i % 101) / 101;
    bed_put(row, map);
    BED_RUN(b, warp, y, x, row, 0);
    check_golden(b, y, "warp_border");
    BED_RUN(b, warp, y, x, row, 1);
    check_golden(b, y, "warp_mirror");
    bed_put(row, size);
    BED_RUN(b, warp, y, x, row, 0);
    check_golden(b, y, "resize");
    BED_RUN(b, blur, across, x, 1.5f, 0);
    BED_RUN(b, blur, both, across, 1.5f, 1);
    check_golden(b, both, "blur");
    for (int i = 0; i < H * W; i++)
        memcpy(bed_at(both, i), bed_at(x, (H - 1 - i / W) * W + i % W), 12);
    BED_RUN(b, cosine, like, x, both, 0.5f);
    check_golden(b, like, "cosine");
    k_tensor *all[] = {&y, &row, &across, &both, &like, &x};
    for (int i = 0; i < 6; i++)
        bed_drop(b, all[i]);
}

START_TEST(test_golden)
{
    bed_each(goldens, BED_PICTURE);
}
END_TEST

/* ---- what is refused ---- */

START_TEST(test_refusals)
{
    bed b = bed_open("base", K_MEMORY_NORMAL, 1);
    k_tensor y = bed_floats(&b, 1, 4, 5, 3), other = bed_floats(&b, 1, 4, 6, 3);
    k_tensor row = bed_floats(&b, 1, 1, 1, 6);
#define REFUSED(text, op, ...)                                                                     \
    K_CALL(b.k, op, __VA_ARGS__);                                                                  \
    ck_assert_msg(b.k->status &&strstr(b.k->where, text), "%s", b.k->where);                       \
    b.k->status = 0
    REFUSED("shapes differ", affine, y, other, &(k_affine){1, 0, 0, 1});
    REFUSED("mask must be", blend, y, y, y, y);
    REFUSED("shapes differ", ease, y, y, other, k_slice(row, 0, 2));
    REFUSED("documented length", ease, y, y, y, row);
    REFUSED("documented length", warp, y, other, k_slice(row, 0, 3), 0);
    REFUSED("sigma", blur, y, y, 21.0f, 0);
    REFUSED("y must be", cosine, y, y, y, 0.5f);
    REFUSED("y must be", finite, y, y);
    REFUSED("shapes differ", affine_if, y, other, k_slice(row, 0, 1), &(k_affine){1, 0, 0, 1});
    REFUSED("must be f32", affine, y, none, &(k_affine){1, 0, 0, 1});
#undef REFUSED
    bed_drop(&b, &y);
    bed_drop(&b, &other);
    bed_drop(&b, &row);
    bed_close(&b);
}
END_TEST

BED_MAIN("picture", test_elementwise, test_not_a_number, test_finite, test_conditions, test_warp,
         test_blur, test_cosine, test_threads_change_nothing, test_golden, test_refusals)
