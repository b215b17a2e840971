/* test_y4m.c - Y4M headers and broken streams; YUV to RGB and back, against the formula. */
#include "host/media/y4m.h"
#include "host/media/yuv.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

START_TEST(headers)
{
    scope_error err;
    GstVideoInfo info;
    ck_assert_int_eq(
        y4m_parse("YUV4MPEG2 W63 H47 F30000:1001 Ip A1:1 C444 XYSCSS=444", &info, &err), 0);
    ck_assert_int_eq(info.width, 63);
    ck_assert_int_eq(info.height, 47);
    ck_assert_int_eq(info.fps_n, 30000);
    ck_assert_int_eq(info.fps_d, 1001);
    ck_assert_int_eq(GST_VIDEO_INFO_FORMAT(&info), GST_VIDEO_FORMAT_Y444);
    gsize offset[4];
    gint stride[4];
    ck_assert_uint_eq(y4m_layout(&info, offset, stride), 3 * 63 * 47);
    ck_assert_int_eq(stride[1], 63); /* dense */
    char line[128];
    y4m_header(&info, line, sizeof line);
    ck_assert_str_eq(line, "YUV4MPEG2 W63 H47 F30000:1001 Ip A1:1 C444\n");
    /* what may be left out: chroma is 4:2:0, planes of odd sizes round up */
    ck_assert_int_eq(y4m_parse("YUV4MPEG2 H3 W5", &info, &err), 0);
    ck_assert_int_eq(GST_VIDEO_INFO_FORMAT(&info), GST_VIDEO_FORMAT_I420);
    ck_assert_uint_eq(y4m_layout(&info, offset, stride), 15 + 6 + 6);
    ck_assert_int_gt(info.fps_n, 0);
    ck_assert_int_eq(y4m_parse("YUV4MPEG2 H4 W4 C420p10", &info, &err), 0);
    ck_assert_uint_eq(y4m_layout(&info, offset, stride), 2 * 24);
}
END_TEST

START_TEST(refusals)
{
    static const struct {
        const char *line, *words;
    } cases[] = {
        {"", "not Y4M"},
        {"YUV4MPEG", "not Y4M"},
        {"YUV4MPEG2W4 H4", "not Y4M"},
        {"YUV4MPEG2 H4", "lacks"},
        {"YUV4MPEG2 W0 H4", "W0"},
        {"YUV4MPEG2 W-4 H4", "W-4"},
        {"YUV4MPEG2 W999999999999 H4", "W999999999999"},
        {"YUV4MPEG2 W4x H4", "W4x"},
        {"YUV4MPEG2 W4 H4 F25", "F25"},
        {"YUV4MPEG2 W4 H4 C411", "C411"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scope_error err = {0};
        GstVideoInfo info;
        ck_assert_msg(y4m_parse(cases[i].line, &info, &err) < 0, "'%s' was taken", cases[i].line);
        ck_assert_msg(strstr(err.text, cases[i].words), "'%s': '%s'", cases[i].line, err.text);
    }
}
END_TEST

/* Frames that a stream gives before it ends (result >= 0) or breaks (-1 - frames). */
static int frames_of(const char *bytes, size_t n)
{
    int fd[2], count = 0, got;
    ck_assert_int_eq(pipe(fd), 0);
    ck_assert_int_eq(write(fd[1], bytes, n), (ssize_t)n);
    close(fd[1]);
    y4m_reader r;
    scope_error err;
    GstBuffer *b;
    ck_assert_int_eq(y4m_open(&r, fd[0], "test", &err), 0);
    while ((got = y4m_read(&r, &b, &err)) > 0) {
        ck_assert_uint_eq(GST_BUFFER_PTS(b), (guint64)count * GST_SECOND / 25);
        gst_buffer_unref(b);
        count++;
    }
    close(fd[0]);
    return got < 0 ? -1 - count : count;
}

START_TEST(streams)
{
#define HEAD      "YUV4MPEG2 W2 H2 F25:1 C444\n"
#define PICTURE   "123456789012"
#define FRAMES(s) frames_of(s, sizeof(s) - 1)
    ck_assert_int_eq(FRAMES(HEAD), 0);
    ck_assert_int_eq(FRAMES(HEAD "FRAME\n" PICTURE "FRAME\n" PICTURE), 2);
    ck_assert_int_eq(FRAMES(HEAD "FRAME Ip Xnote\n" PICTURE), 1);
    ck_assert_int_eq(FRAMES(HEAD "FRAME\n" PICTURE "FRAME\n"
                                 "123"),
                     -2);
    ck_assert_int_eq(FRAMES(HEAD "FRAME\n" PICTURE "FRA"), -2);
    ck_assert_int_eq(FRAMES(HEAD "frame\n" PICTURE), -1);
    ck_assert_int_eq(FRAMES(HEAD "FRAME"), -1);
}
END_TEST

/* Every in-gamut limited-range 4:4:4 value comes back from RGB; RGB is the rounded formula. */
START_TEST(rgb_and_back)
{
    enum { W = 16, H = 16 };
    GstVideoInfo info;
    gst_video_info_set_format(&info, GST_VIDEO_FORMAT_Y444, W, H);
    GstBuffer *b = gst_buffer_new_allocate(NULL, info.size, NULL);
    GstVideoFrame f;
    uint8_t rgb[W * H * 3];
    scope_video v = {
        .t = 1, .h = H, .w = W, .c = 3, .dtype = SCOPE_U8, .stride_h = W * 3, .data = rgb};
    int checked = 0;
    for (int y = 16; y <= 235; y += 3) {
        gst_video_frame_map(&f, &info, b, GST_MAP_READWRITE);
        for (int i = 0; i < W * H; i++) {
            ((uint8_t *)f.data[0])[i] = (uint8_t)y;
            ((uint8_t *)f.data[1])[i] = (uint8_t)(98 + 4 * (i % W));
            ((uint8_t *)f.data[2])[i] = (uint8_t)(98 + 4 * (i / W));
        }
        yuv_to_rgb(&f, &v);
        bool in_gamut[W * H];
        for (int i = 0; i < W * H; i++) {
            double l = (y - 16) / 219.0, cb = (98 + 4 * (i % W) - 128) / 224.0,
                   cr = (98 + 4 * (i / W) - 128) / 224.0;
            double want[3] = {255 * (l + 1.402 * cr),
                              255 * (l - 0.114 * 1.772 / 0.587 * cb - 0.299 * 1.402 / 0.587 * cr),
                              255 * (l + 1.772 * cb)};
            in_gamut[i] = true;
            for (int c = 0; c < 3; c++) {
                in_gamut[i] &= want[c] >= 0 && want[c] <= 255;
                ck_assert_double_le(fabs(fmin(fmax(want[c], 0), 255) - rgb[3 * i + c]), 0.501);
            }
        }
        yuv_from_rgb(&v, &f);
        for (int i = 0; i < W * H; i++) {
            if (!in_gamut[i])
                continue;
            checked++;
            ck_assert_int_eq(((uint8_t *)f.data[0])[i], y);
            ck_assert_int_eq(((uint8_t *)f.data[1])[i], 98 + 4 * (i % W));
            ck_assert_int_eq(((uint8_t *)f.data[2])[i], 98 + 4 * (i / W));
        }
        gst_video_frame_unmap(&f);
    }
    ck_assert_int_gt(checked, 10000);
    gst_buffer_unref(b);
}
END_TEST

/* 4:2:0 at an odd size: the last column and row have chroma of their own. */
START_TEST(odd_chroma)
{
    GstVideoInfo info;
    gst_video_info_set_format(&info, GST_VIDEO_FORMAT_I420, 3, 3);
    GstBuffer *b = gst_buffer_new_allocate(NULL, info.size, NULL);
    uint8_t rgb[27], back[27];
    scope_video v = {.t = 1, .h = 3, .w = 3, .c = 3, .dtype = SCOPE_U8, .stride_h = 9, .data = rgb};
    for (int i = 0; i < 9; i++) {
        bool corner = i == 8;
        rgb[3 * i] = corner ? 200 : 60;
        rgb[3 * i + 1] = 90;
        rgb[3 * i + 2] = corner ? 40 : 120;
    }
    GstVideoFrame f;
    gst_video_frame_map(&f, &info, b, GST_MAP_READWRITE);
    yuv_from_rgb(&v, &f);
    v.data = back;
    yuv_to_rgb(&f, &v);
    gst_video_frame_unmap(&f);
    for (int i = 0; i < 27; i++)
        ck_assert_int_le(abs(rgb[i] - back[i]), 2);
    gst_buffer_unref(b);
}
END_TEST

int main(void)
{
    gst_init(NULL, NULL);
    Suite *s = suite_create("y4m");
    TCase *c = tcase_create("y4m");
    tcase_add_test(c, headers);
    tcase_add_test(c, refusals);
    tcase_add_test(c, streams);
    tcase_add_test(c, rgb_and_back);
    tcase_add_test(c, odd_chroma);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
