/* test_noise.c - the generator against its published vectors, the normals against theory. */
#include "bed.h"
#include "kernels/philox.h"

/* Known answers of Random123, for philox4x32 with 10 rounds. */
START_TEST(test_known_answers)
{
    static const struct {
        philox_words counter;
        uint32_t key[2];
        uint32_t answer[4];
    } vectors[] = {
        {{{0, 0, 0, 0}}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        philox_words r = philox(vectors[i].counter, vectors[i].key[0], vectors[i].key[1]);
        ck_assert_mem_eq(r.w, vectors[i].answer, sizeof r.w);
    }
}
END_TEST

START_TEST(test_functions)
{
    double worst_log = 0, worst_circle = 0;
    for (uint32_t n = 1; n <= 1u << 24; n += n < 5000 ? 1 : 977) {
        double exact = log(n * 0x1p-24);
        worst_log = fmax(worst_log, fabs((double)philox_log(n) - exact) / fmax(1e-7, fabs(exact)));
    }
    for (uint32_t n = 0; n < 1u << 24; n += 997) {
        float c, s;
        double angle = 2 * 3.14159265358979324 * n * 0x1p-24;
        philox_cos_sin(n, &c, &s);
        worst_circle = fmax(worst_circle, fabs((double)c - cos(angle)));
        worst_circle = fmax(worst_circle, fabs((double)s - sin(angle)));
    }
    ck_assert_msg(worst_log < 5e-7, "ln is off by %g", worst_log);
    ck_assert_msg(worst_circle < 3e-7, "cos or sin is off by %g", worst_circle);
    ck_assert(philox_log(1u << 24) == 0);
}
END_TEST

/* Bits that every backend must draw: seed 1, stream 2, the first of a latent. */
START_TEST(test_pinned_bits)
{
    static const uint32_t bits[8] = {0xbedb93e6, 0xbe1039fd, 0x3fcfd47e, 0x3ed12a76,
                                     0x3f006219, 0xbf245b03, 0x3fc3ce2a, 0x3f0c98b5};
    for (uint64_t block = 0; block < 2; block++) {
        float normal[4];
        philox_normals(1, 2, block, normal);
        ck_assert_mem_eq(normal, bits + 4 * block, sizeof normal);
    }
}
END_TEST

START_TEST(test_moments)
{
    enum { SIDE = 128, C = 16, COUNT = SIDE * SIDE * C };
    bed b = bed_open("base", K_MEMORY_NORMAL, 2);
    k_tensor y = bed_floats(&b, 1, SIDE, SIDE, C);
    double moment[5] = {0}, beside = 0, last = 0;
    BED_RUN(&b, noise, y, 42, 7);
    ck_assert(!b.k->status);
    for (int i = 0; i < COUNT; i++) {
        double v = (double)bed_at(y, i / C)[i % C], power = 1;
        for (int m = 1; m <= 4; m++)
            moment[m] += (power *= v) / COUNT;
        beside += v * last / COUNT;
        last = v;
    }
    /* Five standard errors of 262144 draws: sqrt(1, 2, 15, 96, 1) / 512. */
    ck_assert(fabs(moment[1]) < 0.0098);
    ck_assert(fabs(moment[2] - 1) < 0.0139);
    ck_assert(fabs(moment[3]) < 0.0379);
    ck_assert(fabs(moment[4] - 3) < 0.0957);
    ck_assert(fabs(beside) < 0.0098);
    bed_drop(&b, &y);
    bed_close(&b);
}
END_TEST

/* The same on any number of threads, in any layout; another for another seed or stream. */
START_TEST(test_pure_function)
{
    enum { ROWS = 35, C = 21 };
    static float first[ROWS * C], now[ROWS * C];
    for (int threads = 1; threads <= 3; threads++) {
        bed b = bed_open("base", K_MEMORY_NORMAL, threads);
        k_tensor y = bed_tensor_of(&b, K_F32, 1, 5, 7, C, threads);
        K_CALL(b.k, noise, y, 0x123456789abcdefULL, 3);
        k_get(b.k, y, threads == 1 ? first : now);
        ck_assert(threads == 1 || !memcmp(first, now, sizeof now));
        for (int i = 0; i < ROWS * C; i++) { /* the bits of philox.h on every device */
            float normal[4];
            philox_normals(0x123456789abcdefULL, 3, (uint64_t)i / 4, normal);
            ck_assert_mem_eq(&first[i], &normal[i % 4], sizeof *normal);
        }
        K_CALL(b.k, noise, y, 0x123456789abcdefULL, 4);
        k_get(b.k, y, now);
        ck_assert(memcmp(first, now, sizeof now));
        K_CALL(b.k, noise, y, 0x23456789abcdefULL, 3);
        k_get(b.k, y, now);
        ck_assert(memcmp(first, now, sizeof now));
        bed_drop(&b, &y);
        bed_close(&b);
    }
}
END_TEST

BED_MAIN("noise", test_known_answers, test_functions, test_pinned_bits, test_moments,
         test_pure_function)
