/* test_rtc.c - WebRTC sessions without a peer: answers, refusals, that nothing is left behind; and
 * how the rate follows what a way can carry. With peers: tests/e2e/serve_webrtc.sh. */
#include "host/media/elements.h"
#include "host/media/rtc.h"
#include "host/media/rtc_rate.h"

#include <check.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN SOURCE_DIR "/tests/golden/sdp/"

typedef struct told {
    int answers, others;
    char *sdp; /* owned; NULL: refused */
    char why[200];
} told;

static void answered(void *ctx, const char *sdp, const scope_error *err)
{
    told *t = ctx;
    t->answers++;
    t->sdp = g_strdup(sdp);
    if (err)
        g_strlcpy(t->why, err->text, sizeof t->why);
}

static void other(void *ctx)
{
    ((told *)ctx)->others++;
}

static void ended(void *ctx, const char *why)
{
    (void)why;
    other(ctx);
}

static void picture(void *ctx, frame *f)
{
    (void)f;
    other(ctx);
}

static void sound(void *ctx, GstBuffer *b)
{
    gst_buffer_unref(b);
    other(ctx);
}

static void bitrate(void *ctx, int bits)
{
    (void)bits;
    other(ctx);
}

static rtc_calls calls_of(told *t)
{
    return (rtc_calls){t, answered, other, ended, picture, sound, other, bitrate};
}

static char *load(const char *name)
{
    char *path = g_strconcat(GOLDEN, name, ".sdp", NULL), *text = NULL;
    ck_assert_msg(g_file_get_contents(path, &text, NULL, NULL), "cannot read %s", path);
    g_free(path);
    return text;
}

static void wait_for_answer(told *t)
{
    int64_t end = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
    while (!t->answers && g_get_monotonic_time() < end)
        g_main_context_iteration(NULL, TRUE);
    ck_assert_int_eq(t->answers, 1);
    ck_assert_msg(t->sdp, "refused: %s", t->why);
}

static int count(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* The part of an answer that is about one section. */
static char *section(const char *sdp, const char *m)
{
    const char *from = strstr(sdp, m), *to;
    ck_assert_msg(from, "no %s in %s", m, sdp);
    to = strstr(from + 2, "\r\nm=");
    return to ? g_strndup(from, (gsize)(to - from)) : g_strdup(from);
}

START_TEST(publishers)
{
    static const char *const offers[] = {"whip_offer_chromium156_h264", "whip_offer_firefox153",
                                         "whip_offer_aiortc"};
    static const char *const want[] = {"108 H264/90000", "120 VP8/90000", "97 VP8/90000"};
    frame_pool *pool = frame_pool_new();
    for (size_t i = 0; i < G_N_ELEMENTS(offers); i++) {
        told t = {0};
        rtc_calls calls = calls_of(&t);
        rtc_options o = {0};
        scope_error err = {0};
        char *offer = load(offers[i]);
        rtc *r = rtc_publish(offer, &o, pool, &calls, &err);
        ck_assert_msg(r, "%s: %s", offers[i], err.text);
        ck_assert_int_eq(t.answers, 0); /* never at once */
        wait_for_answer(&t);
        char *video = section(t.sdp, "m=video"), *audio = section(t.sdp, "m=audio");
        ck_assert_ptr_nonnull(strstr(video, want[i]));
        ck_assert_ptr_nonnull(strstr(video, "a=recvonly"));
        ck_assert_ptr_nonnull(strstr(t.sdp, " 127.0.0.1 "));
        ck_assert_ptr_nonnull(strcasestr(audio, "opus/48000/2"));
        ck_assert_ptr_nonnull(strstr(audio, "a=recvonly"));
        /* its rate grows beyond 400 kbit/s only where it can measure the way */
        ck_assert_int_eq(strstr(offer, "transport-wide-cc") != NULL,
                         strstr(video, "transport-wide-cc") != NULL);
        rtc_stats stats;
        rtc_stats_now(r, &stats);
        ck_assert_int_eq(stats.packets_in, 0);
        rtc_close(r);
        while (g_main_context_iteration(NULL, FALSE)) {
        }
        ck_assert_int_eq(t.answers, 1);
        ck_assert_int_eq(t.others, 0);
        g_free(audio);
        g_free(video);
        g_free(t.sdp);
        g_free(offer);
    }
    frame_pool_free(pool);
}
END_TEST

START_TEST(viewers)
{
    static const enum codec prefer[] = {CODEC_VP8, CODEC_H264};
    char *offer = load("whep_offer_chromium156");
    for (int i = 0; i < 4; i++) {
        told t = {0};
        rtc_calls calls = calls_of(&t);
        rtc_options o = {.port_min = 52000, .port_max = 52999};
        scope_error err = {0};
        enum codec video = prefer[i % 2], audio = i < 2 ? CODEC_OPUS : 0;
        rtc *r = rtc_view(offer, &o, &calls, &video, &audio, &err);
        ck_assert_msg(r, "%s", err.text);
        ck_assert_int_eq(video, prefer[i % 2]);
        ck_assert_int_eq(audio, i < 2 ? CODEC_OPUS : 0);
        wait_for_answer(&t);
        char *v = section(t.sdp, "m=video"), *a = section(t.sdp, "m=audio");
        ck_assert_ptr_nonnull(strstr(v, i % 2 ? "108 H264/90000" : "96 VP8/90000"));
        ck_assert_ptr_nonnull(
            strstr(v, i % 2 ? "apt=108" : "apt=96")); /* lost packets come again */
        ck_assert_ptr_nonnull(strstr(v, "transport-wide-cc"));
        ck_assert_ptr_nonnull(strstr(v, "a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/"
                                        "playout-delay\r\n"));
        ck_assert_ptr_nonnull(strstr(v, "a=sendonly"));
        ck_assert_ptr_nonnull(strstr(a, i < 2 ? "a=sendonly" : "a=inactive"));
        /* one stream of both, or players show the last alone */
        ck_assert_ptr_nonnull(strstr(v, " msid:scope "));
        ck_assert(i >= 2 || strstr(a, " msid:scope "));
        ck_assert_msg(strstr(v, " 127.0.0.1 52"), "%s", t.sdp); /* from the range of ports */
        packet p = {.codec = video, .bytes = g_bytes_new_static("x", 1), .refs = 1};
        ck_assert(!rtc_send(r, &p)); /* nobody is there yet */
        g_bytes_unref(p.bytes);
        rtc_close(r);
        g_free(v);
        g_free(a);
        g_free(t.sdp);
    }
    g_free(offer);
}
END_TEST

START_TEST(refusals)
{
    told t = {0};
    rtc_calls calls = calls_of(&t);
    rtc_options o = {0};
    scope_error err = {0};
    enum codec video = CODEC_VP8, audio = CODEC_OPUS;
    char *sends = load("whip_offer_chromium156_h264"), *receives = load("whep_offer_chromium156");
    ck_assert_ptr_null(rtc_publish(receives, &o, NULL, &calls, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "a=sendonly"));
    ck_assert_ptr_null(rtc_view(sends, &o, &calls, &video, &audio, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "a=recvonly"));
    ck_assert_ptr_null(rtc_publish("v=0\r\n", &o, NULL, &calls, &err));
    ck_assert_int_eq(err.status, SCOPE_EINVAL);
    ck_assert_int_eq(t.answers + t.others, 0);
    g_free(sends);
    g_free(receives);
}
END_TEST

START_TEST(nothing_is_left)
{
    char *sends = load("whip_offer_chromium156_h264"), *receives = load("whep_offer_chromium156");
    frame_pool *pool = frame_pool_new();
    int fds = 0, threads = 0;
    for (int i = 0; i < 24; i++) {
        told t = {0};
        rtc_calls calls = calls_of(&t);
        rtc_options o = {0};
        scope_error err = {0};
        enum codec video = CODEC_VP8, audio = CODEC_OPUS;
        rtc *r = i % 2 ? rtc_publish(sends, &o, pool, &calls, &err)
                       : rtc_view(receives, &o, &calls, &video, &audio, &err);
        ck_assert_msg(r, "%s", err.text);
        if (i % 3)
            wait_for_answer(&t);
        rtc_close(r); /* at every third before it could be answered */
        while (g_main_context_iteration(NULL, FALSE)) {
        }
        g_free(t.sdp);
        if (i == 3) {
            fds = count("/proc/self/fd");
            threads = count("/proc/self/task");
        }
    }
    ck_assert_int_le(count("/proc/self/fd"), fds);
    /* GLib's pool lets its threads go after 15 seconds without work. */
    for (int i = 0; i < 200 && count("/proc/self/task") > threads; i++)
        g_usleep(100000);
    ck_assert_int_le(count("/proc/self/task"), threads);
    frame_pool_free(pool);
    g_free(sends);
    g_free(receives);
}
END_TEST

START_TEST(rate)
{
    rtc_rate r = {0};
    rtc_report good = {1000000, 1000000, 0, 0}, lossy = {1000000, 800000, 0.2, 0},
               queueing = {1000000, 700000, 0, 3}, idle = {1000, 1000, 0.5, 9};
    ck_assert_int_eq(rtc_rate_next(&r, &good), 0); /* no limit is known */
    ck_assert_int_eq(rtc_rate_next(&r, &idle), 0);
    ck_assert_int_eq(rtc_rate_next(&r, &lossy), 900000); /* half of the loss less than sent */
    ck_assert_int_eq(rtc_rate_next(&r, &good), 972000);
    ck_assert_int_eq(rtc_rate_next(&r, &queueing), 595000);
    for (int i = 0; i < 100; i++) {
        rtc_report bad = {r.bits, r.bits / 2, 0.5, 0};
        ck_assert_int_ge(rtc_rate_next(&r, &bad), 150000); /* never to nothing */
    }
    int seconds = 0;
    while (r.bits && seconds < 200) {
        rtc_report best = {r.bits, r.bits, 0, 0};
        rtc_rate_next(&r, &best);
        seconds++;
    }
    ck_assert_int_lt(seconds, 80); /* from the least to no limit */
    ck_assert_int_gt(seconds, 20);
}
END_TEST

int main(void)
{
    scope_error err;
    Suite *s = suite_create("rtc");
    TCase *t = tcase_create("rtc");
    if (media_init(&err))
        return EXIT_FAILURE;
    tcase_set_timeout(t, 120);
    tcase_add_test(t, publishers);
    tcase_add_test(t, viewers);
    tcase_add_test(t, refusals);
    tcase_add_test(t, nothing_is_left);
    tcase_add_test(t, rate);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
