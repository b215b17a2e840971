/* test_safetensors.c - what the reader accepts, and the sentence for each thing it must not. */
#include "plugin/streamdiffusion/safetensors.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file in memory: 8 bytes of length, the header, `data` zero bytes. Freed by the caller. */
static char *made(const char *header, size_t data, size_t *size)
{
    size_t n = strlen(header);
    char *file = calloc(1, 8 + n + data + 1);
    for (int i = 0; i < 8; i++)
        file[i] = (char)(n >> (8 * i));
    memcpy(file + 8, header, n);
    *size = 8 + n + data;
    return file;
}

static void refuse(const char *header, size_t data, const char *says)
{
    char why[256] = "";
    size_t size;
    char *file = made(header, data, &size);
    st_file *f = st_open_memory(file, size, "x.safetensors", why);
    ck_assert_msg(f == NULL, "accepted: %s", header);
    ck_assert_msg(strstr(why, says) && !strncmp(why, "x.safetensors: ", 15),
                  "%s: \"%s\" lacks \"%s\"", header, why, says);
    free(file);
}

#define T(name, dtype, shape, begin, end)                                                          \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end   \
    "]}"

START_TEST(a_good_file)
{
    char why[256];
    size_t size;
    char *file =
        made("{\"__metadata__\":{\"format\":\"pt\"}," T("b", "F16", "[3]", "24", "30") "," T(
                 "a", "F32", "[2,3]", "0", "24") "," T("scalar", "I64", "[]", "30",
                                                       "38") "," T("none", "BF16", "[0,7]", "30",
                                                                   "30") "}   ",
             38, &size);
    st_file *f = st_open_memory(file, size, "x", why);
    ck_assert_msg(f != NULL, "%s", why);
    ck_assert_int_eq(st_count(f), 4);
    for (int i = 1; i < st_count(f); i++)
        ck_assert_int_lt(strcmp(st_at(f, i - 1)->name, st_at(f, i)->name), 0);
    const st_tensor *a = st_find(f, "a"), *b = st_find(f, "b");
    ck_assert_int_eq(a->dtype, ST_F32);
    ck_assert_int_eq(a->ndim, 2);
    ck_assert_int_eq(a->dim[0], 2);
    ck_assert_int_eq(a->dim[1], 3);
    ck_assert_uint_eq(a->bytes, 24);
    ck_assert_ptr_eq((const char *)a->data + 24, b->data);
    ck_assert_int_eq(st_find(f, "scalar")->ndim, 0);
    ck_assert_uint_eq(st_find(f, "none")->bytes, 0);
    ck_assert_ptr_null(st_find(f, "__metadata__"));
    ck_assert_ptr_null(st_find(f, "c"));
    ck_assert_str_eq(st_dtype_name(ST_F8_E5M2), "F8_E5M2");
    st_close(f);
    free(file);
}
END_TEST

START_TEST(headers_are_checked)
{
    refuse("{}", 1, "1 bytes follow");
    refuse("[]", 0, "does not begin with {");
    refuse(" {}", 0, "does not begin with {");
    refuse("{", 0, "not valid");
    refuse("{\"a\":1}", 0, "is not {dtype");
    refuse("{\"a\":{\"dtype\":\"F32\"}}", 0, "is not {dtype");
    refuse("{" T("a", "F32", "[1]", "0", "4") "," T("a", "F32", "[1]", "4", "8") "}", 8,
           "duplicate");
    refuse("{" T("a", "F128", "[1]", "0", "4") "}", 4, "unknown dtype \"F128\"");
    refuse("{" T("a", "F32", "1", "0", "4") "}", 4, "no shape");
    refuse("{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, "no shape");
    refuse("{" T("a", "F32", "[-1]", "0", "4") "}", 4, "dimension 0");
    refuse("{" T("a", "F32", "[1.0]", "0", "4") "}", 4, "dimension 0");
    refuse("{" T("a", "F32", "[4294967296,4294967296]", "0", "4") "}", 4, "larger than memory");
    refuse("{" T("a", "F32", "[9223372036854775807,4]", "0", "4") "}", 4, "larger than memory");
    refuse("{" T("a", "F32", "[99999999999999999999]", "0", "4") "}", 4, "not valid");
    refuse("{" T("a", "F32", "[1]", "4", "0") "}", 4, "data_offsets [4, 0]");
    refuse("{" T("a", "F32", "[1]", "-4", "0") "}", 4, "data_offsets [-4, 0]");
    refuse("{" T("a", "F32", "[1]", "0", "0.5") "}", 4, "no data_offsets");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4,
           "no data_offsets");
    refuse("{" T("a", "F32", "[2]", "0", "8") "}", 4, "truncated");
    refuse("{" T("a", "F32", "[2]", "0", "4") "}", 4, "where its shape and dtype need 8");
    refuse("{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "2", "6") "}", 6,
           "inside another");
    refuse("{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "0", "4") "}", 4,
           "inside another");
    refuse("{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "8", "12") "}", 12, "hole");
    refuse("{" T("a", "F32", "[1]", "4", "8") "}", 8, "hole");
    refuse("{" T("a", "F32", "[1]", "0", "4") "}", 5, "1 bytes follow");
    refuse("{\"__metadata__\":{\"a\":1}}", 0, "__metadata__");
    refuse("{\"__metadata__\":[]}", 0, "__metadata__");
    refuse("{\"\\u0000\":1}", 0, "not valid");
    refuse("{\"\xff\":1}", 0, "not valid");
}
END_TEST

START_TEST(lengths_are_checked)
{
    static const char lfs[] = "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n";
    char why[256], file[64] = "\x40\0\0\0\0\0\0\0{}";
    ck_assert_ptr_null(st_open_memory(file, 10, "x", why));
    ck_assert_msg(strstr(why, "truncated") != NULL, "%s", why);
    file[7] = 0x10;
    ck_assert_ptr_null(st_open_memory(file, 10, "x", why));
    ck_assert_msg(strstr(why, "not believable") != NULL, "%s", why);
    memset(file, 0, sizeof file);
    ck_assert_ptr_null(st_open_memory(file, sizeof file, "x", why));
    ck_assert_ptr_null(st_open_memory(file, 7, "x", why));
    ck_assert_msg(strstr(why, "too few") != NULL, "%s", why);
    ck_assert_ptr_null(st_open_memory(lfs, sizeof lfs - 1, "x", why));
    ck_assert_msg(strstr(why, "git lfs pull") != NULL, "%s", why);
}
END_TEST

/* Every cut and every flipped bit of a good file is either refused or still consistent. */
START_TEST(damage_is_survived)
{
    char why[256];
    size_t size;
    char *file = made(
        "{" T("b", "F16", "[3]", "24", "30") "," T("a", "F32", "[2,3]", "0", "24") "}", 30, &size);
    for (size_t n = 0; n < size; n++)
        ck_assert_ptr_null(st_open_memory(file, n, "x", why));
    for (size_t bit = 0; bit < 8 * (size - 30); bit++) {
        file[bit / 8] ^= (char)(1 << bit % 8);
        st_file *f = st_open_memory(file, size, "x", why);
        for (int i = 0; f && i < st_count(f); i++) {
            const st_tensor *t = st_at(f, i);
            ck_assert((const char *)t->data >= file &&
                      (const char *)t->data + t->bytes <= file + size);
        }
        st_close(f);
        file[bit / 8] ^= (char)(1 << bit % 8);
    }
    free(file);
}
END_TEST

static void refuse_path(const char *path, const char *says)
{
    char why[256] = "";
    ck_assert_ptr_null(st_open(path, why));
    ck_assert_msg(strstr(why, says) != NULL, "\"%s\" lacks \"%s\"", why, says);
}

START_TEST(paths_are_checked)
{
    char dir[] = "/tmp/test_safetensors.XXXXXX", path[64], why[256];
    size_t size;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    refuse_path(dir, "is a folder");
    snprintf(path, sizeof path, "%s/x.safetensors", dir);
    refuse_path(path, "No such file");
    fclose(fopen(path, "wb"));
    refuse_path(path, "is empty");
    char *file = made("{" T("a", "F32", "[1]", "0", "4") "}", 4, &size);
    FILE *f = fopen(path, "wb");
    fwrite(file, 1, size, f);
    fclose(f);
    st_file *good = st_open(path, why);
    ck_assert_msg(good != NULL, "%s", why);
    ck_assert_mem_eq(st_find(good, "a")->data, "\0\0\0", 4);
    st_release_pages(good);
    ck_assert_mem_eq(st_find(good, "a")->data, "\0\0\0", 4);
    st_close(good);
    ck_assert(!truncate(path, (off_t)size - 1));
    refuse_path(path, "truncated");
    unlink(path);
    ck_assert(!mkfifo(path, 0600));
    refuse_path(path, "not a file");
    unlink(path);
    rmdir(dir);
    free(file);
    st_close(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("safetensors");
    TCase *tc = tcase_create("safetensors");
    tcase_add_test(tc, a_good_file);
    tcase_add_test(tc, headers_are_checked);
    tcase_add_test(tc, lengths_are_checked);
    tcase_add_test(tc, damage_is_survived);
    tcase_add_test(tc, paths_are_checked);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
