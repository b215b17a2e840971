/* test_media.c - frames converted between shapes, names of pictures, and the values of a command
 * line.
 */
#include "host/media/convert.h"
#include "host/media/pictures.h"
#include "host/run_options.h"

#include <check.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <gst/gst.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static frame_pool *pool;
static converter *conv;
static scope_error err;

static void setup(void)
{
    pool = frame_pool_new();
    conv = converter_new(pool);
}

static void teardown(void)
{
    converter_free(conv);
    frame_pool_free(pool);
}

static frame *make(int t, int h, int w, int c, int dtype)
{
    scope_video shape = {.t = t, .h = h, .w = w, .c = c, .dtype = dtype};
    frame *f = frame_new(pool, &shape, &err);
    memset(f->v.data, 0, (size_t)(f->v.stride_t * t));
    f->v.pts_us = 123;
    f->duration_us = 456;
    return f;
}

static frame *convert(frame *f, int h, int w, int c, int dtype, enum media_fit fit)
{
    scope_video want = {.h = h, .w = w, .c = c, .dtype = dtype};
    frame *out = converter_run(conv, f, &want, fit, &err);
    ck_assert_msg(out, "%s", err.text);
    ck_assert_int_eq(out->v.pts_us, 123);
    ck_assert_int_eq(out->duration_us, 456);
    ck_assert_int_eq(out->v.t, f->v.t);
    return out;
}

START_TEST(untouched)
{
    frame *f = make(1, 5, 7, 3, SCOPE_U8);
    frame *out = convert(f, 0, 0, 3, SCOPE_U8, MEDIA_CROP);
    ck_assert_ptr_eq(out, f); /* not even copied */
    frame_unref(out);
    frame_unref(f);
}
END_TEST

START_TEST(types)
{
    frame *f = make(2, 1, 256, 3, SCOPE_U8);
    uint8_t *bytes = f->v.data;
    for (int i = 0; i < 2 * 256 * 3; i++)
        bytes[i] = (uint8_t)(i / 3);
    static const int types[] = {SCOPE_F32, SCOPE_F16};
    for (int k = 0; k < 2; k++) { /* every byte survives both */
        frame *wide = convert(f, 0, 0, 3, types[k], MEDIA_CROP);
        frame *back = convert(wide, 0, 0, 3, SCOPE_U8, MEDIA_CROP);
        ck_assert_mem_eq(back->v.data, f->v.data, 2 * 256 * 3);
        frame_unref(wide);
        frame_unref(back);
    }
    frame_unref(f);
    frame *odd = make(1, 1, 4, 1, SCOPE_F32);
    memcpy(odd->v.data, (float[]){-1, 2, NAN, 0.5f}, 16);
    frame *out = convert(odd, 0, 0, 1, SCOPE_U8, MEDIA_CROP);
    ck_assert_mem_eq(out->v.data, ((uint8_t[]){0, 255, 0, 128}), 4);
    frame_unref(out);
    frame_unref(odd);
}
END_TEST

START_TEST(channels)
{
    frame *f = make(1, 1, 2, 4, SCOPE_U8);
    memcpy(f->v.data, (uint8_t[]){200, 100, 50, 255, 200, 100, 50, 51}, 8);
    frame *rgb = convert(f, 0, 0, 3, SCOPE_U8, MEDIA_CROP);
    ck_assert_mem_eq(rgb->v.data, ((uint8_t[]){200, 100, 50, 40, 20, 10}), 6);
    frame *rgba = convert(rgb, 0, 0, 4, SCOPE_U8, MEDIA_CROP);
    ck_assert_mem_eq(rgba->v.data, ((uint8_t[]){200, 100, 50, 255, 40, 20, 10, 255}), 8);
    frame *grey = convert(rgb, 0, 0, 1, SCOPE_U8, MEDIA_CROP);
    ck_assert_int_eq(((uint8_t *)grey->v.data)[0], 118); /* 42.52 + 71.52 + 3.61 */
    frame *again = convert(grey, 0, 0, 3, SCOPE_U8, MEDIA_CROP);
    ck_assert_mem_eq(again->v.data, ((uint8_t[]){118, 118, 118}), 3);
    frame *const all[] = {f, rgb, rgba, grey, again};
    for (int i = 0; i < 5; i++)
        frame_unref(all[i]);
}
END_TEST

/* A 64x32 picture, left half red and right half blue, into a square. */
START_TEST(sizes)
{
    frame *f = make(1, 32, 64, 3, SCOPE_U8);
    uint8_t *p = f->v.data;
    for (int y = 0; y < 32; y++) {
        for (int x = 0; x < 64; x++, p += 3)
            p[x < 32 ? 0 : 2] = 250;
    }
#define AT(f, x, y, c) ((uint8_t *)(f)->v.data)[(y) * (f)->v.stride_h + 3 * (x) + (c)]
    frame *crop = convert(f, 32, 32, 3, SCOPE_U8, MEDIA_CROP);
    ck_assert_int_eq(crop->v.w, 32);
    ck_assert_int_ge(AT(crop, 0, 0, 0), 249);
    ck_assert_int_ge(AT(crop, 31, 31, 2), 249);
    ck_assert_int_ge(AT(crop, 13, 5, 0), 249); /* the middle is where it was */
    frame *pad = convert(f, 64, 64, 3, SCOPE_U8, MEDIA_PAD);
    ck_assert_int_eq(AT(pad, 10, 0, 0), 0); /* black above */
    ck_assert_int_eq(AT(pad, 10, 63, 0), 0);
    ck_assert_int_ge(AT(pad, 10, 32, 0), 249);
    frame *stretch = convert(f, 8, 200, 3, SCOPE_U8, MEDIA_STRETCH);
    ck_assert_int_ge(AT(stretch, 0, 0, 0), 249);
    ck_assert_int_ge(AT(stretch, 199, 7, 2), 249);
    frame *wide = convert(f, 16, 16, 3, SCOPE_F32, MEDIA_CROP);
    ck_assert_float_ge(((float *)wide->v.data)[0], 0.97f);
    frame *small =
        convert(wide, 4, 4, 3, SCOPE_F32, MEDIA_CROP); /* floats resize, by way of bytes */
    ck_assert_float_ge(((float *)small->v.data)[0], 0.97f);
    frame *const all[] = {f, crop, pad, stretch, wide, small};
    for (int i = 0; i < 6; i++)
        frame_unref(all[i]);
}
END_TEST

START_TEST(patterns)
{
    static const char *const bad[] = {"a.png",  "a%s.png",     "a%d%d.png",
                                      "a%.png", "a%1234d.png", "a%%d"};
    picture_pattern p;
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        ck_assert_msg(!picture_pattern_init(&p, bad[i]), "%s", bad[i]);
    ck_assert(picture_pattern_init(&p, "dir/a%04d.png"));
    char *name = picture_pattern_name(&p, 7);
    ck_assert_str_eq(name, "dir/a0007.png");
    g_free(name);
    picture_pattern_fini(&p);
    ck_assert_str_eq(picture_type("A.JPEG"), "image/jpeg");
    ck_assert_ptr_null(picture_type("a.gif"));
}
END_TEST

START_TEST(lists)
{
    char *dir = g_dir_make_tmp("scope-XXXXXX", NULL);
    static const char *const names[] = {"s10.png", "s2.png", "s1.jpg", "sx.png", "s3.png.part"};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        char *path = g_build_filename(dir, names[i], NULL);
        ck_assert(g_file_set_contents(path, "x", 1, NULL));
        g_free(path);
    }
    char *pattern = g_build_filename(dir, "s%d.png", NULL);
    char **list = pictures_list(pattern, &err);
    ck_assert_uint_eq(g_strv_length(list), 2);
    ck_assert(g_str_has_suffix(list[0], "/s2.png") && g_str_has_suffix(list[1], "/s10.png"));
    g_strfreev(list);
    g_free(pattern);
    list = pictures_list(dir, &err); /* of one kind: that of the first */
    ck_assert_uint_eq(g_strv_length(list), 1);
    ck_assert(g_str_has_suffix(list[0], "/s1.jpg"));
    g_strfreev(list);
    ck_assert_ptr_null(pictures_list("/nowhere/%d.png", &err));
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        char *path = g_build_filename(dir, names[i], NULL);
        g_unlink(path);
        g_free(path);
    }
    g_rmdir(dir);
    g_free(dir);
}
END_TEST

START_TEST(rates)
{
    static const struct {
        const char *text;
        int n, d;
    } cases[] = {{"24", 24, 1},   {"29.97", 30000, 1001},      {"23.976", 24000, 1001},
                 {"12.5", 25, 2}, {"30000/1001", 30000, 1001}, {"59.94", 60000, 1001},
                 {"0.5", 1, 2}};
    int n, d;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        ck_assert_msg(run_parse_fps(cases[i].text, &n, &d), "%s", cases[i].text);
        ck_assert_msg(n == cases[i].n && d == cases[i].d, "%s: %d/%d", cases[i].text, n, d);
    }
    static const char *const bad[] = {"", "0", "-5", "x", "24x", "1/0", "24/", "nan", "inf", "1e9"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        ck_assert_msg(!run_parse_fps(bad[i], &n, &d), "'%s' was taken", bad[i]);
}
END_TEST

START_TEST(dimensions)
{
    int w, h;
    ck_assert(run_parse_size("640x360", &w, &h));
    ck_assert(w == 640 && h == 360);
    static const char *const bad[] = {"",          "640", "640x", "x360",
                                      "640x360x3", "0x5", "-1x5", "99999x1"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        ck_assert_msg(!run_parse_size(bad[i], &w, &h), "'%s' was taken", bad[i]);
}
END_TEST

START_TEST(names)
{
    static const struct {
        const char *input, *want;
    } cases[] = {{"dir/clip.mov", "clip-invert.mp4"},
                 {"pic.png", "pic-invert.png"},
                 {"shot%04d.png", "shot-invert.mp4"},
                 {"http://host/a/b.mp4?x=1", "b-invert.mp4"},
                 {"/dev/video0", "video0-invert.mp4"},
                 {"-", "-"},
                 {NULL, "invert.mp4"}};
    registry_entry entry = {.id = (char[]){"org.example.invert"}};
    run_plugins plugins = {.count = 1, .link = {{.entry = &entry}}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        char *name = run_output_name(cases[i].input, &plugins);
        ck_assert_str_eq(name, cases[i].want);
        g_free(name);
    }
}
END_TEST

int main(void)
{
    gst_init(NULL, NULL);
    Suite *s = suite_create("media");
    TCase *c = tcase_create("convert");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, untouched);
    tcase_add_test(c, types);
    tcase_add_test(c, channels);
    tcase_add_test(c, sizes);
    suite_add_tcase(s, c);
    c = tcase_create("names");
    tcase_add_test(c, patterns);
    tcase_add_test(c, lists);
    tcase_add_test(c, rates);
    tcase_add_test(c, dimensions);
    tcase_add_test(c, names);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
