/* test_chain.c - plugins that lag: in an aligned chain every frame that goes in comes out once,
 * with its own time and its own picture. */
#include "faulty.h"
#include "host/chain.h"

#include <check.h>

enum { LATE = 3, STEP_US = 40000, FRAMES = 10 };

static frame_pool *pool;

/* What came out: the first byte and the time of each frame. */
static struct {
    int count, first[64];
    int64_t pts_us[64], duration_us[64];
} out;

static int take(void *ctx, frame *f, scope_error *err)
{
    (void)ctx, (void)err;
    out.first[out.count] = *(uint8_t *)f->v.data;
    out.pts_us[out.count] = f->v.pts_us;
    out.duration_us[out.count++] = f->duration_us;
    return 0;
}

static void setup(void)
{
    pool = frame_pool_new();
    memset(&out, 0, sizeof out);
}

static void teardown(void)
{
    frame_pool_free(pool); /* asserts that all frames are back */
}

static chain *open_chain(const char *first, const char *second)
{
    static registry_entry entry[2];
    const char *fault[] = {first, second};
    static char path[2][4096];
    run_plugins p = {.count = second ? 2 : 1};
    for (int i = 0; i < p.count; i++) {
        snprintf(path[i], sizeof path[i], "%s", faulty_path(fault[i]));
        entry[i].path = path[i];
        p.link[i].entry = &entry[i];
    }
    scope_error err = {0};
    chain *c = chain_open(&p, MEDIA_CROP, pool, NULL, &err);
    ck_assert_msg(c != NULL, "%s", err.text);
    return c;
}

/* Frames 10, 11, 12, .. of a constant picture. */
static void push(chain *c, int count)
{
    scope_error err = {0};
    const char *at;
    for (int i = 0; i < count; i++) {
        scope_video v = {.t = 1, .h = 4, .w = 4, .c = 3, .dtype = SCOPE_U8, .device = SCOPE_CPU};
        frame *f = frame_new(pool, &v, &err);
        memset(f->v.data, 10 + i, (size_t)f->v.stride_t);
        f->v.pts_us = (int64_t)i * STEP_US;
        f->duration_us = STEP_US;
        ck_assert_int_eq(chain_push(c, f, f->v.pts_us, STEP_US, take, NULL, &at, &err), 0);
        frame_unref(f);
    }
}

static void flush(chain *c)
{
    scope_error err = {0};
    const char *at;
    ck_assert_int_eq(chain_flush(c, take, NULL, &at, &err), 0);
}

static void came_out(int count, int add)
{
    ck_assert_int_eq(out.count, count);
    for (int i = 0; i < count; i++) {
        ck_assert_msg(out.first[i] == 10 + i + add, "frame %d shows %d", i, out.first[i] - add);
        ck_assert_int_eq(out.pts_us[i], (int64_t)i * STEP_US);
        ck_assert_int_eq(out.duration_us[i], STEP_US);
    }
}

START_TEST(watched_as_it_comes)
{
    chain *c = open_chain("late", NULL);
    push(c, FRAMES);
    ck_assert_int_eq(out.count, FRAMES); /* at once, and late */
    ck_assert_int_eq(out.first[0], 10);
    ck_assert_int_eq(out.first[9], 19 - LATE);
    flush(c);
    ck_assert_int_eq(out.count, FRAMES);
    chain_close(c);
}
END_TEST

START_TEST(aligned)
{
    chain *c = open_chain("late", NULL);
    chain_align(c);
    push(c, FRAMES);
    came_out(FRAMES - LATE, 0);
    int64_t pts_us = -1;
    ck_assert_int_eq(chain_waiting(c, &pts_us), LATE);
    ck_assert_int_eq(pts_us, (FRAMES - LATE) * STEP_US);
    flush(c);
    came_out(FRAMES, 0);
    ck_assert_int_eq(chain_waiting(c, &pts_us), 0);
    chain_close(c);
}
END_TEST

START_TEST(shorter_than_the_lag)
{
    chain *c = open_chain("late", NULL);
    chain_align(c);
    push(c, 1);
    came_out(0, 0);
    flush(c);
    came_out(1, 0);
    chain_close(c);
}
END_TEST

START_TEST(two_that_lag)
{
    chain *c = open_chain("late", "late");
    chain_align(c);
    push(c, FRAMES);
    came_out(FRAMES - 2 * LATE, 0);
    flush(c);
    came_out(FRAMES, 0);
    chain_close(c);
}
END_TEST

START_TEST(beside_one_that_does_not)
{
    chain *c = open_chain("late", "good"); /* good adds 3 */
    chain_align(c);
    push(c, FRAMES);
    flush(c);
    came_out(FRAMES, 3);
    chain_close(c);
}
END_TEST

/* Two frames a call: whole batches, and one that does not fill. */
START_TEST(batches_that_lag)
{
    for (int odd = 0; odd < 2; odd++) {
        out.count = 0;
        chain *c = open_chain("late_batch", "late");
        chain_align(c);
        push(c, FRAMES - odd);
        flush(c);
        came_out(FRAMES - odd, 0);
        chain_close(c);
    }
}
END_TEST

int main(void)
{
    faulty_build(".", "good late late_batch");
    Suite *s = suite_create("chain");
    TCase *t = tcase_create("lag");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, watched_as_it_comes);
    tcase_add_test(t, aligned);
    tcase_add_test(t, shorter_than_the_lag);
    tcase_add_test(t, two_that_lag);
    tcase_add_test(t, beside_one_that_does_not);
    tcase_add_test(t, batches_that_lag);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
