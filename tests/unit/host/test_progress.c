/* test_progress.c - the progress line, its rhythm, and the JSON events. */
#include "host/progress.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(lines)
{
    static const struct {
        progress_counts c;
        double seconds;
        const char *want;
    } cases[] = {
        {{.total = 84, .read = 12}, 4, "12/84 frames, 3 fps, 0:24 left"},
        {{.total = -1, .read = 12}, 4, "12 frames, 3 fps"},
        {{.total = 10, .read = 0}, 0, "0/10 frames, 0 fps"},
        {{.total = 10, .read = 10}, 4, "10/10 frames, 2.5 fps"},
        {{.total = 10801, .read = 1}, 1, "1/10801 frames, 1 fps, 3:00:00 left"},
        {{.total = -1, .read = 5, .dropped = 1, .skipped = 2, .failed = 3},
         2,
         "5 frames, 2.5 fps, 1 dropped, 2 skipped, 3 failed"},
        {{.total = 5, .read = 9}, 3, "9/5 frames, 3 fps"}, /* totals are about */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[256];
        progress_line(line, sizeof line, &cases[i].c, cases[i].seconds);
        ck_assert_str_eq(line, cases[i].want);
    }
}
END_TEST

/* What a progress writes in three ticks, a summary and an error. */
static char *written(enum progress_mode mode, bool line)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    progress p;
    progress_counts c = {.total = 3};
    progress_start(&p, mode, out, line, NULL, 1000000);
    progress_load(&p, 0.5, "unet", 1000001);
    progress_begin(&p, 2000000);
    for (int i = 1; i <= 3; i++) {
        c.read = c.written = i;
        progress_tick(&p, &c, 2000000 + i * 600000);
    }
    progress_end(&p, &c, "x.mp4", NULL, 4000000);
    fclose(out);
    return text;
}

START_TEST(text)
{
    char *text = written(PROGRESS_TEXT, false);
    ck_assert_str_eq(text, "x.mp4: 3 written in 2.0 s (3 frames, 1.5 fps)\n");
    free(text);
    text = written(PROGRESS_TEXT, true);
    ck_assert_ptr_nonnull(strstr(text, "loading unet, 50 %"));
    ck_assert_ptr_nonnull(strstr(text, "\r2/3 frames"));
    ck_assert_ptr_nonnull(strstr(text, "\r\033[Kx.mp4: 3 written"));
    free(text);
    text = written(PROGRESS_QUIET, true);
    ck_assert_str_eq(text, "");
    free(text);
}
END_TEST

START_TEST(json)
{
    char *text = written(PROGRESS_JSON, true), *save = NULL;
    const char *want[] = {"start", "load", "progress", "progress", "end"};
    int n = 0;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), n++) {
        json_t *event = json_loads(line, 0, NULL);
        ck_assert_msg(event, "%s", line);
        ck_assert_int_lt(n, 5);
        ck_assert_str_eq(json_string_value(json_object_get(event, "event")), want[n]);
        if (n == 4) {
            ck_assert_int_eq(json_integer_value(json_object_get(event, "written")), 3);
            ck_assert_str_eq(json_string_value(json_object_get(event, "output")), "x.mp4");
            ck_assert(json_is_null(json_object_get(event, "error")));
        }
        json_decref(event);
    }
    ck_assert_int_eq(n, 5); /* the second of three ticks 0.6 s apart comes too soon */
    free(text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("progress");
    TCase *c = tcase_create("progress");
    tcase_add_test(c, lines);
    tcase_add_test(c, text);
    tcase_add_test(c, json);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
