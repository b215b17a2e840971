/* test_styles.c - styles: those that come with the plugin, files of others, templates, near names.
 */
#include "plugin/streamdiffusion/styles.h"

#include <check.h>
#include <stdlib.h>
#include <unistd.h>

static styles *s;
static scope_error err;
static char path[64];

/* A file with these bytes, as `path`. */
static void write_file(const char *text)
{
    snprintf(path, sizeof path, "/tmp/scope-styles-XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void open_file(const char *text)
{
    write_file(text);
    s = styles_open(path, &err);
    ck_assert_msg(s != NULL, "%s", err.text);
    unlink(path);
}

/* The file is refused, with these words. */
static void refuse(const char *text, const char *words)
{
    write_file(text);
    ck_assert_ptr_null(styles_open(path, &err));
    ck_assert_str_eq(err.field, "styles_path");
    ck_assert_msg(strstr(err.text, words) != NULL, "%s", err.text);
    unlink(path);
}

START_TEST(those_of_the_plugin)
{
    prompt_blend b = {.count = 2, .text = {"a cat", "a dog"}};
    const char *negative = "rain";
    s = styles_open("", &err);
    ck_assert_msg(s != NULL, "%s", err.text);
    ck_assert_int_eq(styles_apply(s, "", &b, &negative, &err), 0);
    ck_assert_str_eq(b.text[0], "a cat");
    ck_assert_str_eq(negative, "rain");
    ck_assert_int_eq(styles_apply(s, "ink", &b, &negative, &err), 0);
    ck_assert_ptr_nonnull(strstr(b.text[0], "ink drawing of a cat, "));
    ck_assert_ptr_nonnull(strstr(b.text[1], "ink drawing of a dog, "));
    ck_assert_str_eq(negative, "rain, colour, photo");
    styles_close(s);
}
END_TEST

START_TEST(templates)
{
    open_file("[{\"name\": \"twice\", \"prompt\": \"{prompt} {prompt}\", \"sort\": 3},"
              " {\"name\": \"behind\", \"prompt\": \"in oil\", \"negative_prompt\": \"photo\"},"
              " {\"name\": \"many\", \"prompt\": \"{prompt}{prompt}{prompt}{prompt}{prompt}\"}]");
    static char lengthy[3000];
    memset(lengthy, 'x', sizeof lengthy - 1);
    static const struct {
        const char *style, *prompt, *negative, *want, *unwanted;
    } cases[] = {{"twice", "a b", "", "a b a b", ""},
                 {"twice", "", "n", " ", "n"},
                 {"behind", "a", "", "a, in oil", "photo"},
                 {"behind", "", "n", "in oil", "n, photo"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        prompt_blend b = {.count = 1, .text = {cases[i].prompt}};
        const char *negative = cases[i].negative;
        ck_assert_int_eq(styles_apply(s, cases[i].style, &b, &negative, &err), 0);
        ck_assert_str_eq(b.text[0], cases[i].want);
        ck_assert_str_eq(negative, cases[i].unwanted);
    }
    prompt_blend b = {.count = PROMPT_MAX};
    const char *negative = "";
    for (int i = 0; i < PROMPT_MAX; i++)
        b.text[i] = lengthy;
    ck_assert_int_eq(styles_apply(s, "many", &b, &negative, &err), 0);
    for (int i = 0; i < PROMPT_MAX; i++)
        ck_assert_uint_eq(strlen(b.text[i]), 5 * (sizeof lengthy - 1));
    b = (prompt_blend){0}; /* no prompt has no place for a style */
    ck_assert_int_eq(styles_apply(s, "many", &b, &negative, &err), 0);
    styles_close(s);
}
END_TEST

static const char *near(const char *name)
{
    prompt_blend b = {.count = 1, .text = {"a"}};
    const char *negative = "";
    ck_assert_int_eq(styles_apply(s, name, &b, &negative, &err), SCOPE_EINVAL);
    ck_assert_str_eq(err.field, "style");
    return err.text;
}

START_TEST(near_names)
{
    char lengthy[300];
    s = styles_open("", &err);
    ck_assert_str_eq(near("neno"), "There is no style 'neno'; the nearest: neon, ink.");
    ck_assert_ptr_nonnull(strstr(near("watercolor"), "the nearest: watercolour."));
    ck_assert_ptr_nonnull(strstr(near("glass"), "stained glass"));
    memset(lengthy, 'q', sizeof lengthy - 1);
    lengthy[sizeof lengthy - 1] = 0;
    ck_assert_ptr_nonnull(strstr(near(lengthy), "There is no style"));
    styles_close(s);
}
END_TEST

START_TEST(files_that_are_none)
{
    ck_assert_ptr_null(styles_open("/nowhere/styles.json", &err));
    ck_assert_str_eq(err.field, "styles_path");
    refuse("[{\"name\": ", "line 1");
    refuse("{}", "expected a list");
    refuse("[]", "expected a list");
    refuse("[3]", "style 1");
    refuse("[{\"name\": \"a\", \"prompt\": \"p\"}, {\"name\": \"b\"}]", "style 2");
    refuse("[{\"name\": \"\", \"prompt\": \"p\"}]", "style 1");
    refuse("[{\"name\": \"a\", \"prompt\": \"p\"}, {\"name\": \"a\", \"prompt\": \"q\"}]",
           "two styles called 'a'");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("styles");
    TCase *tc = tcase_create("styles");
    tcase_add_test(tc, those_of_the_plugin);
    tcase_add_test(tc, templates);
    tcase_add_test(tc, near_names);
    tcase_add_test(tc, files_that_are_none);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
