/* test_counters.c - how the kernels that take a frame's time touch memory, as the simulator counts
 * it: on shapes whose rows are whole, shared memory is read without conflicts and global memory in
 * whole sectors.
 */
#include "tests/cudasim/cudasim.h"
#include "tests/kernels/bed.h"

/* A kernel may read a little twice: halos of filters, and the last sectors of a tile (a head of 40
 * is two and a half). */
static const double passes_bar = 1.15, sectors_bar = 1.5;

static int bad;

static void check(const struct cudasim_kernel *k, void *user)
{
    (void)user;
    if (!k->launches || !strncmp(k->name, "place", 5)) /* weights move once, while loading */
        return;
    double passes = k->passes_ideal ? (double)k->passes / (double)k->passes_ideal : 1;
    double sectors = k->sectors_ideal ? (double)k->sectors / (double)k->sectors_ideal : 1;
    printf("%5.2f %5.2f  %s\n", passes, sectors, k->name);
    if (passes > passes_bar || sectors > sectors_bar) {
        printf("             above the bars of %.1f and %.1f\n", passes_bar, sectors_bar);
        bad++;
    }
}

static void products(bed *b)
{
    static const int shapes[][3] = {{128, 320, 320}, {77, 1024, 128}, {2, 320, 128}};
    bed_weight filter = bed_weight_of(b, 64, 64, 3, 1, 1, K_F16);
    k_tensor x = bed_tensor(b, 1, 16, 16, 64, 0), y = bed_tensor(b, 1, 16, 16, 64, 0);
    k_tensor small = bed_tensor(b, 1, 8, 8, 64, 0);
    BED_RUN(b, conv, y, x, filter.w, &(k_conv){.act = K_RELU, .residual = x});
    BED_RUN(b, conv, small, x, filter.w, &(k_conv){.stride = 2});
    BED_RUN(b, conv, x, small, filter.w, &(k_conv){.up = 1});
    ck_assert_msg(!b->k->status, "%s", b->k->where);
    bed_drop(b, &x);
    bed_drop(b, &y);
    bed_drop(b, &small);
    bed_weight_free(b, &filter);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int *s = shapes[i];
        bed_weight w = bed_weight_of(b, s[2], s[1], 1, 1, 1, K_F16);
        x = bed_tensor(b, 1, 1, s[0], s[1], 0);
        y = bed_tensor(b, 1, 1, s[0], s[2], 0);
        BED_RUN(b, linear, y, x, w.w, &(k_linear){0});
        ck_assert_msg(!b->k->status, "%s", b->k->where);
        bed_drop(b, &x);
        bed_drop(b, &y);
        bed_weight_free(b, &w);
    }
}

static void attentions(bed *b)
{
    static const int shapes[][4] = {{2, 64, 128, 128}, {2, 64, 128, 77}, {2, 40, 128, 128},
                                    {1, 80, 64, 128},  {1, 160, 64, 64}, {1, 512, 64, 64}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int *s = shapes[i];
        k_tensor q = bed_tensor(b, 1, 1, s[2], s[0] * s[1], 0);
        k_tensor y = bed_tensor(b, 1, 1, s[2], s[0] * s[1], 0);
        k_tensor kv = bed_tensor(b, 1, 1, s[3], 2 * s[0] * s[1], 0);
        BED_RUN(b, attention, y, q, k_slice(kv, 0, s[0] * s[1]),
                k_slice(kv, s[0] * s[1], s[0] * s[1]), &(k_attention){.heads = s[0]});
        ck_assert_msg(!b->k->status, "%s", b->k->where);
        bed_drop(b, &q);
        bed_drop(b, &y);
        bed_drop(b, &kv);
    }
}

static void norms(bed *b)
{
    static const int shapes[][4] = {{1, 16, 16, 320}, {2, 8, 8, 640}, {1, 4, 4, 1280}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int *s = shapes[i];
        bed_weight w = bed_weight_of(b, s[3], 1, 1, 1, 1, K_F32);
        k_tensor x = bed_tensor(b, s[0], s[1], s[2], s[3], 0);
        k_tensor y = bed_tensor(b, s[0], s[1], s[2], s[3], 0);
        BED_RUN(b, group_norm, y, x, w.w, 32, 1e-5f, K_SILU);
        BED_RUN(b, layer_norm, y, x, w.w, 1e-5f);
        ck_assert_msg(!b->k->status, "%s", b->k->where);
        bed_drop(b, &x);
        bed_drop(b, &y);
        bed_weight_free(b, &w);
    }
}

START_TEST(test_counters)
{
    bed_each(products, BED_NETWORK);
    bed_each(attentions, BED_NETWORK);
    bed_each(norms, BED_NETWORK);
    cudasim_kernels(check, NULL);
    ck_assert_msg(!bad, "%d kernels are above their bars", bad);
}
END_TEST

BED_MAIN("counters", test_counters)
