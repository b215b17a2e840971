/* test_instance.c - one plugin at work: life cycle, values, frames, and answers not to be believed.
 */
#include "faulty.h"
#include "host/instance.h"

#include <check.h>
#include <string.h>

static frame_pool *pool;
static char logged[256];
static double progress;

static void on_log(void *ctx, int level, const char *id, const char *line)
{
    (void)ctx;
    snprintf(logged, sizeof logged, "%d %s %s", level, id, line);
}

static void on_progress(void *ctx, double done, const char *phase)
{
    (void)ctx, (void)phase;
    progress = done;
}

static void setup(void)
{
    pool = frame_pool_new();
}

/* Every test ends with all frames back: frame_pool_free asserts it. */
static void teardown(void)
{
    frame_pool_free(pool);
}

static instance *open_plugin(const char *fault, json_t *values, scope_error *err)
{
    const instance_sink sink = {.log = on_log, .progress = on_progress};
    instance *in = instance_open(faulty_path(fault), NULL, values, pool, &sink, err);
    json_decref(values);
    return in;
}

static instance *must_open(const char *fault, json_t *values)
{
    scope_error err = {0};
    instance *in = open_plugin(fault, values, &err);
    ck_assert_msg(in != NULL, "%s: %s", fault, err.text);
    return in;
}

static frame *make_input(int w, int h, int fill, int64_t pts_us)
{
    scope_error err;
    scope_video v = {.t = 1, .h = h, .w = w, .c = 3, .dtype = SCOPE_U8, .device = SCOPE_CPU};
    frame *f = frame_new(pool, &v, &err);
    memset(f->v.data, fill, (size_t)f->v.stride_t);
    f->v.pts_us = pts_us;
    f->duration_us = 40000;
    return f;
}

START_TEST(filter)
{
    scope_error err;
    instance *in = must_open("good", NULL);
    ck_assert_str_eq(instance_id(in), "org.test.good");
    ck_assert_int_eq(instance_want(in)->t, 1);
    ck_assert_int_eq(instance_want(in)->w, 0);
    frame *input = make_input(5, 3, 10, 123456), *output;
    ck_assert_int_eq(instance_process(in, input, &output, &err), 0);
    ck_assert_int_eq(((uint8_t *)output->v.data)[44], 13);
    ck_assert_int_eq(output->v.pts_us, 123456); /* inherited, as is the duration */
    ck_assert_int_eq(output->duration_us, 40000);
    ck_assert(instance_last_ms(in) >= 0);
    scope_stage stages[1];
    ck_assert_int_eq(instance_stages(in, stages, 1), 1);
    ck_assert_str_eq(stages[0].name, "add");
    instance_reset(in);
    frame_unref(output);
    frame_unref(input);
    instance_close(in);
    instance_close(NULL);
}
END_TEST

static void add_line(void *ctx, const char *text)
{
    strcat(strcat(ctx, text), "|");
}

/* Inputs beside the main one, by name; any channels; the count of repeats; lines of a plan. */
START_TEST(more_inputs)
{
    scope_error err;
    instance *in = must_open("takes_extra", NULL);
    ck_assert_int_eq(instance_want(in)->c, 0);
    ck_assert(instance_knows_input(in, "extra") && !instance_knows_input(in, "mask"));
    int64_t before = instance_repeated(in);
    frame *output, *input = make_input(4, 4, 10, 0), *first = make_input(2, 2, 20, 0);
    frame *second = make_input(9, 9, 30, 0);
    static const struct {
        int give, sum;
    } steps[] = {{0, 13}, {1, 33}, {1, 33}, {2, 43}, {0, 13}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        frame *f = steps[i].give == 1 ? first : steps[i].give == 2 ? second : NULL;
        ck_assert_int_eq(instance_set_input(in, "extra", f, &err), 0);
        ck_assert_int_eq(instance_process(in, input, &output, &err), 0);
        ck_assert_int_eq(((uint8_t *)output->v.data)[44], steps[i].sum);
        frame_unref(output);
    }
    ck_assert_int_eq(instance_repeated(in) - before, 5);
    char lines[64] = "";
    instance_plan(in, add_line, lines);
    ck_assert_str_eq(lines, "first|later|");
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g"};
    for (int i = 0; i < 7; i++)
        ck_assert_int_eq(instance_set_input(in, names[i], first, &err), 0);
    ck_assert_int_eq(instance_set_input(in, "h", first, &err), SCOPE_EINVAL);
    frame_unref(second);
    frame_unref(first);
    scope_video alpha = {.t = 1, .h = 2, .w = 2, .c = 4, .dtype = SCOPE_U8, .device = SCOPE_CPU};
    frame *rgba = frame_new(pool, &alpha, &err);
    ck_assert_int_eq(instance_process(in, rgba, &output, &err), 0);
    ck_assert_int_eq(output->v.c, 4);
    frame_unref(output);
    frame_unref(rgba);
    frame_unref(input);
    instance_close(in);
    in = must_open("good", NULL);
    ck_assert(!instance_knows_input(in, "extra"));
    ck_assert_int_eq(instance_repeated(in), 0);
    instance_plan(in, add_line, lines);
    ck_assert_str_eq(lines, "first|later|"); /* nothing more */
    instance_close(in);
}
END_TEST

START_TEST(own_time)
{
    scope_error err;
    instance *in = must_open("sets_pts", NULL);
    frame *input = make_input(4, 4, 0, 5), *output;
    ck_assert_int_eq(instance_process(in, input, &output, &err), 0);
    ck_assert_int_eq(output->v.pts_us, 77);
    ck_assert_int_eq(input->v.pts_us, 5);
    frame_unref(output);
    frame_unref(input);
    instance_close(in);
}
END_TEST

START_TEST(generator)
{
    scope_error err;
    instance *in = must_open("generator", NULL);
    frame *output, *input = make_input(4, 4, 0, 0);
    ck_assert_int_eq(instance_want(in)->t, 0);
    instance_set_time(in, 50000);
    ck_assert_int_eq(instance_process(in, NULL, &output, &err), 0);
    ck_assert_int_eq(output->v.pts_us, 50000);
    ck_assert_int_eq(((uint8_t *)output->v.data)[0], 53); /* it saw that time */
    frame_unref(output);
    ck_assert_int_eq(instance_process(in, input, &output, &err), SCOPE_EINVAL);
    ck_assert(strstr(err.text, "takes no input") != NULL);
    frame_unref(input);
    instance_close(in);
}
END_TEST

START_TEST(nothing_and_unchanged)
{
    scope_error err;
    frame *input = make_input(4, 4, 9, 1), *output;
    instance *in = must_open("emits_nothing", NULL);
    ck_assert_int_eq(instance_process(in, input, &output, &err), 0);
    ck_assert_ptr_null(output);
    instance_close(in);
    in = must_open("unchanged", NULL);
    ck_assert_int_eq(instance_process(in, input, &output, &err), 0);
    ck_assert_ptr_eq(output, input); /* the same frame, not a copy */
    frame_unref(output);
    frame_unref(input);
    instance_close(in);
}
END_TEST

START_TEST(wrong_input)
{
    scope_error err;
    frame *input = make_input(41, 24, 9, 1), *output;
    instance *in = must_open("fixed_size", NULL);
    ck_assert_int_eq(instance_process(in, input, &output, &err), SCOPE_EINVAL);
    ck_assert_msg(strstr(err.text, "w 40") && strstr(err.text, "w 41"), "%s", err.text);
    ck_assert_int_eq(instance_process(in, NULL, &output, &err), SCOPE_EINVAL);
    ck_assert(strstr(err.text, "needs an input") != NULL);
    ck_assert_ptr_null(output);
    frame_unref(input);
    instance_close(in);
}
END_TEST

START_TEST(values)
{
    scope_error err;
    instance *in = must_open("good", json_pack("{si}", "amount", 5));
    frame *input = make_input(2, 2, 0, 0), *output;
    json_t *change = json_pack("{si}", "amount", 7), *bad = json_pack("{si}", "amount", 70);
    json_t *unknown = json_pack("{si}", "amuont", 7), *load = json_pack("{ss}", "model", "x");
    json_t *same = json_pack("{siss}", "amount", 8, "model", "");
    ck_assert_int_eq(instance_set(in, bad, &err), SCOPE_EINVAL);
    ck_assert_str_eq(err.field, "amount");
    ck_assert_int_eq(instance_set(in, unknown, &err), SCOPE_EINVAL);
    ck_assert(strstr(err.text, "amount") != NULL); /* did you mean */
    ck_assert_int_eq(instance_set(in, load, &err), SCOPE_EINVAL);
    ck_assert_str_eq(err.field, "model");
    ck_assert(strstr(err.text, "fixed") != NULL);
    json_t *now = instance_values(in); /* nothing of that took effect */
    ck_assert_int_eq(json_integer_value(json_object_get(now, "amount")), 5);
    json_decref(now);
    ck_assert_int_eq(instance_set(in, change, &err), 0);
    ck_assert_int_eq(instance_process(in, input, &output, &err), 0);
    ck_assert_int_eq(((uint8_t *)output->v.data)[0], 7);
    frame_unref(output);
    ck_assert_int_eq(instance_set(in, same, &err), 0); /* a load parameter may be repeated */
    now = instance_values(in);
    ck_assert_int_eq(json_integer_value(json_object_get(now, "amount")), 8);
    json_decref(now);
    json_t *all[] = {change, bad, unknown, load, same};
    for (int i = 0; i < 5; i++)
        json_decref(all[i]);
    frame_unref(input);
    instance_close(in);
}
END_TEST

static const struct {
    const char *fault;
    int status;
    const char *says;
} openings[] = {
    {"fails_in_init", SCOPE_EINVAL, "no model"},
    {"fails_silently", SCOPE_EIO, "did not say why"},
    {"wants_nonsense", SCOPE_EINVAL, "impossible"},
    {"wrong_abi", SCOPE_EINVAL, "ABI 77"},
    {"no_symbol", SCOPE_EINVAL, "scope_entry"},
    {"no_process", SCOPE_EINVAL, "process"},
    {"bad_schema", SCOPE_EINVAL, "defualt"},
    {"not_elf", SCOPE_EIO, "not_elf.so cannot be loaded"},
    {"absent", SCOPE_EIO, "absent.so cannot be loaded"},
};

START_TEST(bad_openings)
{
    scope_error err = {0};
    ck_assert_ptr_null(open_plugin(openings[_i].fault, NULL, &err));
    ck_assert_int_eq(err.status, openings[_i].status);
    ck_assert_msg(strstr(err.text, openings[_i].says), "%s", err.text);
}
END_TEST

START_TEST(bad_values_and_ids)
{
    scope_error err = {0};
    ck_assert_ptr_null(open_plugin("good", json_pack("{ss}", "amount", "many"), &err));
    ck_assert_str_eq(err.field, "amount");
    ck_assert_ptr_null(
        instance_open(faulty_path("good"), "org.test.other", NULL, pool, NULL, &err));
    ck_assert(strstr(err.text, "org.test.other") != NULL);
}
END_TEST

static const struct {
    const char *fault;
    int status;
    const char *says;
} answers[] = {
    {"fails_in_process", SCOPE_EINVAL, "cannot do that"},
    {"positive_status", SCOPE_EINVAL, "returned 5"},
    {"alien_output", SCOPE_EINVAL, "neither its input nor"},
    {"bends_strides", SCOPE_EINVAL, "changed the shape"},
    {"many_frames", SCOPE_EINVAL, "more than 32"},
};

START_TEST(bad_answers)
{
    scope_error err;
    frame *input = make_input(4, 4, 9, 1), *output;
    instance *in = must_open(answers[_i].fault, NULL);
    for (int again = 0; again < 2; again++) { /* the host carries on */
        ck_assert_int_eq(instance_process(in, input, &output, &err), answers[_i].status);
        ck_assert_msg(strstr(err.text, answers[_i].says), "%s", err.text);
        ck_assert_ptr_null(output);
    }
    frame_unref(input);
    instance_close(in);
}
END_TEST

START_TEST(lost_device)
{
    scope_error err;
    frame *input = make_input(4, 4, 9, 1), *output;
    instance *in = must_open("loses_device", NULL);
    ck_assert_int_eq(instance_process(in, input, &output, &err), SCOPE_EDEVICE);
    ck_assert_str_eq(err.text, "the device is gone");
    ck_assert_int_eq(instance_process(in, input, &output, &err), SCOPE_EDEVICE);
    ck_assert(strstr(err.text, "load it anew") != NULL); /* not asked again */
    instance_reset(in);
    frame_unref(input);
    instance_close(in);
}
END_TEST

START_TEST(misuse)
{
    scope_error err;
    frame *input = make_input(4, 4, 9, 1), *output;
    instance *in = must_open("video_in_init", NULL);
    ck_assert(strstr(instance_misuse(in), "host->video()") != NULL);
    ck_assert(strstr(logged, "3 org.test.video_in_init") != NULL);
    instance_close(in);
    progress = -1;
    in = must_open("progress_in_process", NULL);
    ck_assert_ptr_null(instance_misuse(in));
    ck_assert_int_eq(instance_process(in, input, &output, &err), 0);
    ck_assert(strstr(instance_misuse(in), "host->progress()") != NULL);
    ck_assert(progress == -1); /* and it was not passed on */
    frame_unref(output);
    frame_unref(input);
    instance_close(in);
}
END_TEST

static int yes(void *ctx)
{
    (void)ctx;
    return 1;
}

START_TEST(cancelling)
{
    scope_error err = {0};
    const instance_sink sink = {.log = on_log, .cancelled = yes};
    instance_close(must_open("cancels", NULL)); /* nobody has cancelled */
    ck_assert_ptr_null(instance_open(faulty_path("cancels"), NULL, NULL, pool, &sink, &err));
    ck_assert_int_eq(err.status, SCOPE_ECANCEL);
    ck_assert_str_eq(err.text, "given up");
    logged[0] = '\0';
    ck_assert_ptr_null(open_plugin("cancels_alone", NULL, &err));
    ck_assert(strstr(logged, "nobody had cancelled") != NULL);
}
END_TEST

START_TEST(two_in_one)
{
    scope_error err = {0};
    ck_assert_ptr_null(open_plugin("two_plugins", NULL, &err));
    ck_assert_msg(strstr(err.text, "several plugins"), "%s", err.text);
    const char *id = "org.test.two_plugins.second";
    instance *in = instance_open(faulty_path("two_plugins"), id, NULL, pool, NULL, &err);
    ck_assert_msg(in != NULL, "%s", err.text);
    ck_assert_str_eq(instance_id(in), id);
    instance_close(in);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("instance");
    TCase *c = tcase_create("plugin");
    faulty_build(
        ".", "good takes_extra sets_pts generator emits_nothing unchanged fixed_size fails_in_init "
             "fails_silently wants_nonsense wrong_abi no_symbol no_process bad_schema not_elf "
             "fails_in_process positive_status alien_output bends_strides many_frames "
             "loses_device video_in_init progress_in_process cancels cancels_alone two_plugins");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, filter);
    tcase_add_test(c, more_inputs);
    tcase_add_test(c, own_time);
    tcase_add_test(c, generator);
    tcase_add_test(c, nothing_and_unchanged);
    tcase_add_test(c, wrong_input);
    tcase_add_test(c, values);
    tcase_add_loop_test(c, bad_openings, 0, (int)(sizeof openings / sizeof *openings));
    tcase_add_test(c, bad_values_and_ids);
    tcase_add_loop_test(c, bad_answers, 0, (int)(sizeof answers / sizeof *answers));
    tcase_add_test(c, lost_device);
    tcase_add_test(c, misuse);
    tcase_add_test(c, cancelling);
    tcase_add_test(c, two_in_one);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
