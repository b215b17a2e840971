/* test_elementwise.c - activations, sums, mixes, nearest resizing and embeddings. */
#include "bed.h"

enum { N = 2, H = 3, W = 7, C = 21, EXTRA = 5, ROWS = N * H * W };

static void activations(bed *b)
{
    k_tensor x = bed_tensor(b, N, H, W, C, EXTRA), y = bed_tensor(b, N, H, W, C, EXTRA);
    double reference[ROWS * C];
    for (int i = 0; i < ROWS * C; i++) /* -13..13, where every curve has all of its parts */
        bed_at(x, i / C)[i % C] *= 13;
    bed_push(b);
    for (int act = K_IDENTITY; act <= K_QUICK_GELU; act++) {
        for (int i = 0; i < ROWS * C; i++)
            reference[i] = bed_act((double)bed_at(x, i / C)[i % C], act);
        BED_RUN(b, activate, y, x, act);
        bed_compare(b, y, reference, bed_bar(5e-7, 1e-6), "activate");
    }
    for (int i = 0; i < ROWS * C; i++)
        reference[i] = 3 * tanh((double)bed_at(x, i / C)[i % C] / 3);
    BED_RUN(b, soft_clamp, y, x, 3.0f);
    bed_compare(b, y, reference, bed_bar(3e-7, 1e-6), "soft_clamp");
    bed_drop(b, &x);
    bed_drop(b, &y);
}

static void sums(bed *b)
{
    k_tensor x = bed_tensor(b, N, H, W, C, EXTRA), y = bed_tensor(b, N, H, W, C, 0);
    k_tensor z[3] = {bed_tensor(b, N, H, W, C, EXTRA), bed_tensor(b, N, 1, 1, C, EXTRA),
                     bed_tensor(b, 1, 1, 1, C, EXTRA)};
    double reference[ROWS * C];
    for (int kind = 0; kind < 3; kind++) {
        int every = kind == 0 ? 1 : kind == 1 ? H * W : ROWS;
        for (int i = 0; i < ROWS * C; i++)
            reference[i] =
                (double)bed_at(x, i / C)[i % C] + (double)bed_at(z[kind], i / C / every)[i % C];
        BED_RUN(b, add, y, x, z[kind]);
        bed_compare(b, y, reference, 1e-7, "add");
    }
    bed_drop(b, &x);
    bed_drop(b, &y);
    for (int kind = 0; kind < 3; kind++)
        bed_drop(b, &z[kind]);
}

static void mixes(bed *b)
{
    k_tensor coef = bed_floats(b, N, 1, 1, 3), x[3], none = {0};
    double reference[ROWS * C];
    for (int i = 0; i < 3; i++)
        x[i] = bed_tensor(b, N, H, W, C, i);
    for (int used = 1; used <= 4; used++) {
        for (int i = 0; i < ROWS * C; i++) {
            const float *c = bed_at(coef, i / C / (H * W));
            double v[3];
            for (int j = 0; j < 3; j++)
                v[j] = (double)c[j] * (double)bed_at(x[j], i / C)[i % C];
            reference[i] = v[0] + (used == 2 || used == 3 ? v[1] : 0) + (used >= 3 ? v[2] : 0);
        }
        /* The last writes over one of its inputs. */
        k_tensor y = used == 4 ? x[2] : bed_tensor(b, N, H, W, C, 0);
        k_tensor x1 = used == 2 || used == 3 ? x[1] : none;
        BED_RUN(b, mix, y, coef, x[0], x1, used >= 3 ? x[2] : none);
        bed_compare(b, y, reference, 3e-7, "mix");
        if (used < 4)
            bed_drop(b, &y);
    }
    for (int i = 0; i < 3; i++)
        bed_drop(b, &x[i]);
    bed_drop(b, &coef);
}

static void resizes(bed *b)
{
    k_tensor a = bed_tensor(b, N, H, W, 5, 2), z = bed_tensor(b, N, 5, 4, 5, 1);
    double reference[N * 5 * 4 * 5];
    for (int i = 0; i < N * 5 * 4 * 5; i++) {
        int row = i / 5, n = row / 20, sy = row % 20 / 4 * H / 5, sx = row % 4 * W / 4;
        reference[i] = (double)bed_at(a, (n * H + sy) * W + sx)[i % 5];
    }
    BED_RUN(b, resize_nearest, z, a);
    bed_compare(b, z, reference, 0, "resize_nearest");
    bed_drop(b, &a);
    bed_drop(b, &z);
}

static void embeddings(bed *b)
{
    static const int32_t ids[10] = {0, 6, 3, 3, 1, 5, 2, 0, 4, 6};
    bed_weight tokens = bed_weight_of(b, 7, C, 1, 1, 0, K_F16);
    bed_weight positions = bed_weight_of(b, 6, C, 1, 1, 0, K_BF16);
    k_tensor t = k_keep(b->k, K_I32, 2, 1, 5, 1), y = bed_tensor(b, 2, 1, 5, C, 2);
    double reference[10 * C];
    k_put(b->k, t, ids);
    for (int i = 0; i < 10 * C; i++)
        reference[i] =
            tokens.value[ids[i / C] * C + i % C] + positions.value[i / C % 5 * C + i % C];
    BED_RUN(b, embed, y, t, tokens.w, positions.w);
    bed_compare(b, y, reference, 1e-7, "embed");
    if (!bed_gpu()) { /* a GPU does not see the ids when the op is written down */
        ((int32_t *)t.data)[3] = 7;
        K_CALL(b->k, embed, y, t, tokens.w, positions.w);
        ck_assert(b->k->status && strstr(b->k->where, "token 7"));
    }
    k_drop(b->k, &t);
    bed_drop(b, &y);
    bed_weight_free(b, &tokens);
    bed_weight_free(b, &positions);
}

static void timesteps(bed *b)
{
    static const float steps[3] = {0, 499, 999.5f};
    k_tensor t = k_keep(b->k, K_F32, 3, 1, 1, 1), y = bed_tensor(b, 3, 1, 1, 320, 4);
    double reference[3 * 320];
    k_put(b->k, t, steps);
    for (int sin_first = 0; sin_first < 2; sin_first++) {
        for (int i = 0; i < 3 * 320; i++) {
            int half = i % 320 / 160;
            double f = exp(-log(10000) * (i % 160) / (160 - sin_first));
            double angle = (double)steps[i / 320] * f;
            reference[i] = half == sin_first ? cos(angle) : sin(angle);
        }
        BED_RUN(b, sinusoid, y, t, sin_first, (float)sin_first);
        /* The angle of 1000 in fp32, as PyTorch has it, is exact to 3e-5. */
        bed_compare(b, y, reference, bed_bar(1e-7, 5e-5), "sinusoid");
    }
    k_drop(b->k, &t);
    bed_drop(b, &y);
}

static void all(bed *b)
{
    activations(b);
    sums(b);
    mixes(b);
    resizes(b);
    timesteps(b);
    embeddings(b); /* last: it leaves the context failed */
}

START_TEST(test_elementwise)
{
    bed_each(all, BED_ALL);
}
END_TEST

BED_MAIN("elementwise", test_elementwise)
