/* test_abi.c - sizes and offsets of the contract on a 64-bit machine, so that no change is made
 * without meaning it: a plugin that was built before such a change would be misread.
 */
#include "plugin/scope_plugin.h"

#include <check.h>
#include <stddef.h>
#include <stdlib.h>

#define SIZE(type, bytes)                                                                          \
    {                                                                                              \
#type, sizeof(type), bytes                                                                 \
    }
#define OFFSET(type, member, bytes)                                                                \
    {                                                                                              \
#type "." #member, offsetof(type, member), bytes                                           \
    }

static const struct {
    const char *what;
    size_t is, must;
} layout[] = {
    SIZE(scope_error, 256),
    OFFSET(scope_error, field, 4),
    OFFSET(scope_error, text, 64),
    SIZE(scope_video, 64),
    OFFSET(scope_video, t, 0),
    OFFSET(scope_video, h, 4),
    OFFSET(scope_video, w, 8),
    OFFSET(scope_video, c, 12),
    OFFSET(scope_video, dtype, 16),
    OFFSET(scope_video, device, 20),
    OFFSET(scope_video, stride_t, 24),
    OFFSET(scope_video, stride_h, 32),
    OFFSET(scope_video, pts_us, 40),
    OFFSET(scope_video, data, 48),
    OFFSET(scope_video, stream, 56),
    SIZE(scope_value, 24),
    OFFSET(scope_value, type, 8),
    OFFSET(scope_value, count, 12),
    OFFSET(scope_value, u, 16),
    SIZE(scope_kwargs, 24),
    OFFSET(scope_kwargs, count, 8),
    OFFSET(scope_kwargs, at, 16),
    SIZE(scope_host, 64),
    OFFSET(scope_host, version, 8),
    OFFSET(scope_host, ctx, 16),
    OFFSET(scope_host, log, 24),
    OFFSET(scope_host, video, 32),
    OFFSET(scope_host, progress, 40),
    OFFSET(scope_host, cancelled, 48),
    OFFSET(scope_host, extension, 56),
    SIZE(scope_plugin, 64),
    OFFSET(scope_plugin, schema, 16),
    OFFSET(scope_plugin, init, 24),
    OFFSET(scope_plugin, process, 32),
    OFFSET(scope_plugin, reset, 40),
    OFFSET(scope_plugin, fini, 48),
    OFFSET(scope_plugin, extension, 56),
    SIZE(scope_library, 16),
    OFFSET(scope_library, plugins, 8),
    SIZE(scope_stage, 16),
    SIZE(scope_stages, 8),
    SIZE(scope_latency, 8),
    SIZE(scope_repeats, 8),
    SIZE(scope_plan, 8),
    SIZE(scope_input_names, 8),
    SIZE(scope_inputs, 8),
};

START_TEST(layouts)
{
    ck_assert_msg(layout[_i].is == layout[_i].must, "%s is %zu, not %zu", layout[_i].what,
                  layout[_i].is, layout[_i].must);
}
END_TEST

START_TEST(helpers)
{
    const scope_value fields[] = {{"num", SCOPE_NUM, 0, {.f = 1.5}},
                                  {"int", SCOPE_INT, 0, {.i = 7}},
                                  {"str", SCOPE_STR, 0, {.s = "x"}},
                                  {"yes", SCOPE_BOOL, 0, {.i = 1}}};
    const scope_kwargs kw = {1, 4, fields};
    ck_assert(scope_num(&kw, "num") == 1.5 && scope_num(&kw, "int") == 7.0);
    ck_assert(scope_int(&kw, "int") == 7 && scope_int(&kw, "yes") == 1);
    ck_assert(scope_int(&kw, "num") == 1);
    ck_assert_str_eq(scope_str(&kw, "str"), "x");
    /* Asking for what is not there is a bug, but no crash. */
    ck_assert(scope_num(&kw, "none") == 0 && scope_int(&kw, "none") == 0);
    ck_assert_str_eq(scope_str(&kw, "none"), "");
    ck_assert_str_eq(scope_str(&kw, "num"), "");
    ck_assert_int_eq(scope_get(&kw, "none")->type, SCOPE_NULL);
    scope_error err;
    ck_assert_int_eq(scope_fail_field(&err, SCOPE_EINVAL, "num", "%d is odd", 3), SCOPE_EINVAL);
    ck_assert_str_eq(err.field, "num");
    ck_assert_str_eq(err.text, "3 is odd");
    ck_assert_int_eq(scope_fail(&err, SCOPE_EIO, "gone"), SCOPE_EIO);
    ck_assert_str_eq(err.field, "");
    ck_assert_str_eq(SCOPE_JSON({"a" : [ 1, 2 ]}), "{\"a\" : [ 1, 2 ]}");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("abi");
    TCase *c = tcase_create("contract");
    tcase_add_loop_test(c, layouts, 0, (int)(sizeof layout / sizeof *layout));
    tcase_add_test(c, helpers);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
