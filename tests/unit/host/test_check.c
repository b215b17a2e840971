/* test_check.c - the tools of `scope check`: exported symbols, guarded frames, counted calls. */
#include "faulty.h"
#include "host/calls.h"
#include "host/elf.h"
#include "host/guard.h"

#include <check.h>
#include <dlfcn.h>
#include <signal.h>
#include <string.h>

START_TEST(symbols)
{
    char why[256];
    GPtrArray *names = elf_exports(faulty_path("good"), why);
    ck_assert_msg(names && names->len == 1, "%s", why);
    ck_assert_str_eq(g_ptr_array_index(names, 0), "scope_entry");
    g_ptr_array_unref(names);
    names = elf_exports(faulty_path("two_symbols"), why);
    ck_assert_uint_eq(names->len, 2);
    g_ptr_array_unref(names);
    ck_assert_ptr_null(elf_exports(faulty_path("not_elf"), why));
    ck_assert(strstr(why, "ELF") != NULL);
    ck_assert_ptr_null(elf_exports(faulty_path("empty"), why));
    ck_assert_ptr_null(elf_exports(faulty_path("absent"), why));
    ck_assert(strstr(why, "No such file") != NULL);
}
END_TEST

/* A damaged library is refused or read, but never followed out of its file. */
START_TEST(damaged)
{
    char *text, why[256], *path = g_build_filename(faulty_folder(), "damaged.so", NULL);
    gsize size;
    ck_assert(g_file_get_contents(faulty_path("good"), &text, &size, NULL));
    for (gsize cut = 0; cut < size; cut += 97) {
        g_file_set_contents(path, text, (gssize)cut, NULL);
        GPtrArray *names = elf_exports(path, why);
        ck_assert(!names || names->len <= 1);
        if (names)
            g_ptr_array_unref(names);
    }
    for (gsize at = 16; at < 64; at++) { /* each byte of the header */
        char was = text[at];
        text[at] = (char)0xff;
        g_file_set_contents(path, text, (gssize)size, NULL);
        GPtrArray *names = elf_exports(path, why);
        if (names)
            g_ptr_array_unref(names);
        text[at] = was;
    }
    g_free(text);
    g_free(path);
}
END_TEST

static frame *guarded(frame_pool *pool, int w, int h)
{
    scope_error err;
    scope_video v = {.t = 1, .h = h, .w = w, .c = 3, .dtype = SCOPE_U8};
    frame *f = frame_new(pool, &v, &err);
    ck_assert_ptr_nonnull(f);
    return f;
}

START_TEST(explanations)
{
    guard *g = guard_new();
    frame_memory memory = guard_memory(g);
    frame_pool *pool = frame_pool_new_in(&memory);
    guard_set(g, GUARD_AFTER, 0x5a);
    frame *f = guarded(pool, 17, 31);
    char *data = f->v.data, *end = data + f->v.stride_t;
    ck_assert_int_eq(data[100], 0x5a);
    ck_assert_uint_eq((uintptr_t)end % 4096, 0);
    ck_assert(strstr(guard_explain(g, end), "past the end") != NULL);
    guard_read_only(g, data);
    ck_assert(strstr(guard_explain(g, data), "its input") != NULL);
    guard_set(g, GUARD_BEFORE, 0);
    frame *b = guarded(pool, 17, 31);
    ck_assert_uint_eq((uintptr_t)b->v.data % 4096, 0);
    ck_assert(strstr(guard_explain(g, (char *)b->v.data - 1), "before the start") != NULL);
    frame_unref(b);
    frame_unref(f);
    ck_assert(strstr(guard_explain(g, data), "gone back") != NULL);
    ck_assert_ptr_null(guard_explain(g, &g));
    for (int i = 0; i < 2000; i++) /* more than it remembers */
        frame_unref(guarded(pool, 8, 8));
    frame_pool_free(pool);
    guard_free(g);
}
END_TEST

static void touch(enum guard_side side, int offset)
{
    guard *g = guard_new();
    frame_memory memory = guard_memory(g);
    frame_pool *pool = frame_pool_new_in(&memory);
    guard_set(g, side, 0);
    frame *f = guarded(pool, 3, 5);
    signal(SIGSEGV, SIG_DFL); /* a sanitizer would exit instead */
    ((volatile char *)f->v.data)[offset] = 1;
}

START_TEST(fault_after)
{
    touch(GUARD_AFTER, 45);
}
END_TEST

START_TEST(fault_before)
{
    touch(GUARD_BEFORE, -1);
}
END_TEST

START_TEST(counted)
{
    void *handle = dlopen(faulty_path("allocates"), RTLD_NOW | RTLD_LOCAL);
    const scope_library *library = dlsym(handle, "scope_entry");
    const scope_plugin *p = library->plugins[0];
    const scope_kwargs none = {0};
    scope_video want = {0};
    scope_error err;
    void *self;
    ck_assert_int_eq(calls_watch(handle), 0);
    free(malloc(10)); /* ours does not count */
    ck_assert_uint_eq(calls_count(), 0);
    ck_assert_int_eq(p->init(NULL, &none, &want, &self, &err), 0);
    ck_assert_uint_eq(calls_count(), 1);
    p->fini(self);
    dlclose(handle);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("check");
    TCase *c = tcase_create("tools");
    faulty_build(".", "good two_symbols not_elf empty allocates");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, symbols);
    tcase_add_test(c, damaged);
    tcase_add_test(c, explanations);
    tcase_add_test_raise_signal(c, fault_after, SIGSEGV);
    tcase_add_test_raise_signal(c, fault_before, SIGSEGV);
    tcase_add_test(c, counted);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
