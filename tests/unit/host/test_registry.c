/* test_registry.c - discovery: folders, order, faults, finding. The scans run this very program. */
#include "faulty.h"
#include "host/registry.h"

#include <check.h>
#include <glib.h>
#include <string.h>

static char *folder(const char *name)
{
    return g_build_filename(faulty_folder(), name, NULL);
}

static registry *scan(const char *name)
{
    char *dir = folder(name);
    registry *r = registry_scan(dir);
    g_free(dir);
    return r;
}

static const registry_entry *by_file(const registry *r, const char *file)
{
    for (int i = 0; i < registry_count(r); i++) {
        if (g_str_has_suffix(registry_at(r, i)->path, file))
            return registry_at(r, i);
    }
    return NULL;
}

START_TEST(faults)
{
    static const struct {
        const char *file, *says;
    } cases[] = {
        {"/segv_at_load.so", "crashes (Segmentation fault)"},
        {"/abort_at_load.so", "crashes (Aborted)"},
        {"/exit_at_load.so", "exits the process"},
        {"/talkative.so", "floods"},
        {"/not_elf.so", "cannot be loaded"},
        {"/empty.so", "cannot be loaded"},
        {"/wrong_abi.so", "ABI 77"},
        {"/no_symbol.so", "scope_entry"},
        {"/no_process.so", "process"},
        {"/bad_id.so", "no plugin id"},
        {"/bad_schema.so", "/properties/x/defualt"},
        {"/not_json.so", "JSON"},
        {"/good.so", "duplicate.so, which is found first"},
    };
    registry *r = scan("bad");
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const registry_entry *e = by_file(r, cases[i].file);
        ck_assert_msg(e && e->fault && strstr(e->fault, cases[i].says), "%s: %s", cases[i].file,
                      e && e->fault ? e->fault : "no fault");
    }
    /* What is odd but harmless is listed like any other. */
    ck_assert_ptr_null(by_file(r, "/prints_at_load.so")->fault);
    ck_assert_ptr_null(by_file(r, "/forks_at_load.so")->fault);
    ck_assert_str_eq(by_file(r, "/duplicate.so")->id, "org.test.good");
    registry_free(r);
}
END_TEST

START_TEST(hanging)
{
    gint64 start = g_get_monotonic_time();
    registry *r = scan("hang");
    ck_assert(strstr(by_file(r, "/hang_at_load.so")->fault, "hangs") != NULL);
    ck_assert(g_get_monotonic_time() - start < 9 * G_USEC_PER_SEC);
    registry_free(r);
}
END_TEST

START_TEST(order)
{
    char *bad = folder("bad"), *good = folder("good"), *path = g_strdup_printf("%s::%s", good, bad);
    g_setenv("SCOPE_PATH", path, TRUE);
    registry *r = registry_scan(NULL);
    /* good/good.so comes first now, so that bad/duplicate.so is the duplicate. */
    ck_assert_ptr_null(registry_at(r, 0)->fault);
    ck_assert(g_str_has_suffix(registry_at(r, 0)->path, "good/good.so"));
    ck_assert(strstr(by_file(r, "/duplicate.so")->fault, "good/good.so") != NULL);
    ck_assert_ptr_null(by_file(r, "/deeper.so")); /* folders within are not entered */
    registry_free(r);
    /* The same folder twice is the same library once. */
    g_setenv("SCOPE_PATH", good, TRUE);
    r = registry_scan(good);
    int count = 0;
    for (int i = 0; i < registry_count(r); i++)
        count += g_str_has_suffix(registry_at(r, i)->path, "good/good.so");
    ck_assert_int_eq(count, 1);
    registry_free(r);
    g_unsetenv("SCOPE_PATH");
    g_free(path);
    g_free(good);
    g_free(bad);
}
END_TEST

START_TEST(no_folder)
{
    registry *r = scan("nowhere");
    ck_assert_int_ge(registry_count(r), 1);
    ck_assert(strstr(registry_at(r, 0)->fault, "No such file") != NULL);
    registry_free(r);
}
END_TEST

START_TEST(finding)
{
    char why[256], *file = folder("bad/good.so"), *crash = folder("bad/segv_at_load.so");
    registry *r = scan("bad");
    ck_assert(registry_find(r, "org.test.good", why) == by_file(r, "/duplicate.so"));
    ck_assert(registry_find(r, "good", why) == by_file(r, "/duplicate.so"));
    ck_assert_ptr_null(registry_find(r, "goood", why));
    ck_assert_msg(strstr(why, "did you mean good?"), "%s", why);
    ck_assert_ptr_null(registry_find(r, "xyzzy_nothing", why));
    ck_assert_msg(strstr(why, "scope list"), "%s", why);
    ck_assert_ptr_null(registry_find(r, "bad_schema", why));
    ck_assert_msg(strstr(why, "cannot be used") && strstr(why, "defualt"), "%s", why);
    /* A path is taken as it is, even where another library has the same id. */
    const registry_entry *e = registry_find(r, file, why);
    ck_assert_msg(e && !e->fault, "%s", why);
    ck_assert_str_eq(e->id, "org.test.good");
    ck_assert_ptr_null(registry_find(r, crash, why));
    ck_assert_msg(strstr(why, "crashes"), "%s", why);
    ck_assert_ptr_null(registry_find(r, "./absent.so", why));
    ck_assert_msg(strstr(why, "cannot open ./absent.so"), "%s", why);
    registry_free(r);
    g_free(crash);
    g_free(file);
}
END_TEST

START_TEST(two_in_one)
{
    char why[256], *file = folder("pair/two_plugins.so");
    registry *r = registry_scan_file(file);
    ck_assert_int_eq(registry_count(r), 2);
    ck_assert_str_eq(registry_at(r, 1)->id, "org.test.two_plugins.second");
    ck_assert(registry_find(r, "second", why) == registry_at(r, 1));
    ck_assert_ptr_null(registry_find(r, file, why));
    ck_assert_msg(strstr(why, "several plugins"), "%s", why);
    registry_free(r);
    g_free(file);
}
END_TEST

START_TEST(ambiguous)
{
    char why[256];
    registry *r = scan("twins");
    ck_assert_ptr_null(registry_find(r, "good", why));
    ck_assert_msg(strstr(why, "com.other.good") && strstr(why, "org.test.good"), "%s", why);
    ck_assert_ptr_nonnull(registry_find(r, "com.other.good", why));
    registry_free(r);
}
END_TEST

static void build_all(void)
{
    faulty_build("bad",
                 "good segv_at_load abort_at_load exit_at_load talkative prints_at_load "
                 "forks_at_load not_elf empty wrong_abi no_symbol no_process bad_id duplicate "
                 "bad_schema not_json");
    faulty_build("good", "good");
    faulty_build("good/inner", "deeper");
    faulty_build("hang", "hang_at_load");
    faulty_build("pair", "two_plugins");
    faulty_build("twins", "good other_owner");
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--scan"))
        return registry_scan_child(argv[2]);
    Suite *s = suite_create("registry");
    TCase *c = tcase_create("discovery");
    build_all();
    tcase_set_timeout(c, 60);
    tcase_add_test(c, faults);
    tcase_add_test(c, hanging);
    tcase_add_test(c, order);
    tcase_add_test(c, no_folder);
    tcase_add_test(c, finding);
    tcase_add_test(c, two_in_one);
    tcase_add_test(c, ambiguous);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
