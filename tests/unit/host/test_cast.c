/* test_cast.c - viewers of a stream: one encoder, key frames, those who cannot follow, sizes. */
#include "live_fixture.h"
#include "fake_remote.h"
#include "host/live/cast.h"
#include "host/log.h"
#include "host/media/elements.h"
#include "host/registry.h"

/* A viewer that remembers what it got. */
typedef struct watcher {
    GMutex lock;
    int count, keys, w, h;
    bool first_is_key, refuses;
    int refused, after; /* packets after a refusal that were no key frame */
    bool lost;
    int64_t pts_us;
    int ended;
    scope_error err;
    cast_viewer *v;
} watcher;

static stream *s;
static stream_input *in;

static bool on_packet(void *ctx, packet *p)
{
    watcher *w = ctx;
    g_mutex_lock(&w->lock);
    bool takes = !w->refuses;
    if (!takes) {
        w->refused++;
        w->lost = true;
    } else {
        w->after += w->lost && !p->key;
        w->lost = false;
        w->first_is_key |= !w->count && p->key;
        w->keys += p->key;
        w->count++;
        w->w = p->w;
        w->h = p->h;
        ck_assert(p->pts_us >= w->pts_us);
        w->pts_us = p->pts_us;
    }
    g_mutex_unlock(&w->lock);
    return takes;
}

static void on_ended(void *ctx, const scope_error *err)
{
    watcher *w = ctx;
    w->ended++;
    if (err)
        w->err = *err;
    cast_leave(w->v);
    w->v = NULL;
}

#define GOT(w, what) (g_mutex_lock(&(w)->lock), got = (w)->what, g_mutex_unlock(&(w)->lock), got)
static int got;

static void join(watcher *w, enum cast_of of, enum codec codec)
{
    scope_error err = {0};
    w->v = cast_join(s, of, codec, "test", "a test",
                     &(cast_calls){.ctx = w, .packet = on_packet, .ended = on_ended}, &err);
    ck_assert_msg(w->v != NULL, "%s", err.text);
}

static void none_replaced(void *ctx)
{
    (void)ctx;
}

static void setup(void)
{
    scope_error err;
    ck_assert_int_eq(media_init(&err), 0);
    log_open(false, SCOPE_ERROR);
    live_begin(faulty_folder());
    s = new_stream();
    in = stream_input_open(s, "test", "a test", &(stream_input_calls){.replaced = none_replaced});
}

static void end(void)
{
    stream_input_close(in);
    live_end();
}

static void push_size(int first, int w, int h)
{
    frame *f = picture(first, w, h, 3);
    stream_input_frame(in, f);
    frame_unref(f);
}

/* Frames come until `what` holds. */
#define PUSH_UNTIL(what)                                                                           \
    do {                                                                                           \
        int64_t until_ = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;                             \
        while (!(what)) {                                                                          \
            ck_assert_msg(g_get_monotonic_time() < until_, "in vain: %s", #what);                  \
            push_size(100, 64, 48);                                                                \
            run_for(10);                                                                           \
        }                                                                                          \
    } while (0)

static int viewers(void)
{
    stream_stats n;
    stream_stats_now(s, &n);
    return n.viewers;
}

START_TEST(one_and_another)
{
    watcher a = {0}, b = {0};
    join(&a, CAST_RESULT, CODEC_VP8);
    PUSH_UNTIL(GOT(&a, count) >= 10);
    ck_assert(a.first_is_key);
    ck_assert_int_eq(a.w, 64);
    ck_assert_int_eq(a.h, 48);
    join(&b, CAST_RESULT, CODEC_VP8);
    ck_assert_int_eq(viewers(), 2);
    PUSH_UNTIL(GOT(&b, count) >= 5);
    ck_assert(b.first_is_key);
    cast_leave(b.v);
    ck_assert_int_eq(viewers(), 1);
    int n = GOT(&b, count);
    PUSH_UNTIL(GOT(&a, count) >= 30);
    ck_assert_int_eq(GOT(&b, count), n);
    cast_leave(a.v);
    ck_assert_int_eq(viewers(), 0);
    end();
}
END_TEST

START_TEST(a_still_picture)
{
    push_size(50, 64, 48);
    watcher a = {0}, b = {0};
    join(&a, CAST_RESULT, CODEC_VP8); /* nothing comes any more, and yet it is shown */
    UNTIL(GOT(&a, keys) == 1);
    run_for(250);
    join(&b, CAST_RESULT, CODEC_VP8);
    UNTIL(GOT(&b, keys) == 1);
    cast_keyframe(a.v);
    UNTIL(GOT(&a, keys) == 3);
    cast_leave(a.v);
    cast_leave(b.v);
    end();
}
END_TEST

START_TEST(other_sizes)
{
    watcher a = {0};
    join(&a, CAST_RESULT, CODEC_VP8);
    for (int i = 0; i < 3; i++) {
        int w = 64 + 32 * i, h = 48 + 16 * i;
        push_size(100, w, h);
        UNTIL(GOT(&a, w) == w && GOT(&a, h) == h);
        ck_assert_int_gt(GOT(&a, keys), i);
    }
    cast_leave(a.v);
    end();
}
END_TEST

START_TEST(who_cannot_follow)
{
    watcher a = {0}, b = {0};
    join(&a, CAST_RESULT, CODEC_VP8);
    join(&b, CAST_RESULT, CODEC_VP8);
    PUSH_UNTIL(GOT(&a, count) >= 5 && GOT(&b, count) >= 5);
    g_mutex_lock(&b.lock);
    b.refuses = true;
    g_mutex_unlock(&b.lock);
    PUSH_UNTIL(GOT(&b, refused) >= 1);
    int n = GOT(&a, count), keys = GOT(&a, keys);
    PUSH_UNTIL(GOT(&a, count) >= n + 60);
    ck_assert_int_le(GOT(&a, keys) - keys, 6); /* its key frames become rarer */
    ck_assert_int_le(GOT(&b, refused), 8);     /* and it is asked for key frames alone */
    g_mutex_lock(&b.lock);
    b.refuses = false;
    g_mutex_unlock(&b.lock);
    n = GOT(&b, count);
    PUSH_UNTIL(GOT(&b, count) >= n + 5);
    ck_assert_int_eq(GOT(&b, after), 0);
    ck_assert_int_gt((int)cast_missed(b.v), 10);
    ck_assert_int_eq((int)cast_missed(a.v), 0);
    cast_leave(a.v);
    cast_leave(b.v);
    end();
}
END_TEST

START_TEST(key_frames_are_apart)
{
    watcher a = {0};
    join(&a, CAST_RESULT, CODEC_VP8);
    PUSH_UNTIL(GOT(&a, count) >= 5);
    int keys = GOT(&a, keys);
    int64_t begin_us = g_get_monotonic_time();
    while (g_get_monotonic_time() - begin_us < 1000000) {
        cast_keyframe(a.v);
        push_size(100, 64, 48);
        run_for(10);
    }
    ck_assert_int_ge(GOT(&a, keys) - keys, 2);
    ck_assert_int_le(GOT(&a, keys) - keys, 7);
    cast_leave(a.v);
    end();
}
END_TEST

START_TEST(every_codec_and_the_source)
{
    static const enum codec codecs[] = {CODEC_VP8, CODEC_H264, CODEC_JPEG};
    watcher w[2 * G_N_ELEMENTS(codecs)] = {0};
    chain(s, "[{'plugin': 'good', 'values': {'amount': 1}}]");
    UNTIL(heard("values 0 by load"));
    for (size_t i = 0; i < G_N_ELEMENTS(w); i++)
        join(&w[i], i % 2 ? CAST_SOURCE : CAST_RESULT, codecs[i / 2]);
    for (size_t i = 0; i < G_N_ELEMENTS(w); i++)
        PUSH_UNTIL(GOT(&w[i], count) >= 3);
    for (size_t i = 0; i < G_N_ELEMENTS(w); i++) {
        ck_assert(w[i].first_is_key);
        cast_leave(w[i].v);
    }
    end();
}
END_TEST

static GstBuffer *tone(int64_t pts_us)
{
    GstBuffer *b = gst_buffer_new_allocate(NULL, 1920 * 2, NULL); /* 20 ms */
    gst_buffer_memset(b, 0, 5, 1920 * 2);
    GST_BUFFER_PTS(b) = (GstClockTime)pts_us * 1000;
    GST_BUFFER_DURATION(b) = 20 * GST_MSECOND;
    return b;
}

START_TEST(sound)
{
    watcher a = {0};
    join(&a, CAST_RESULT, CODEC_OPUS);
    ck_assert_int_eq(viewers(), 0);
    ck_assert(!stream_has_sound(s));
    int64_t pts_us = g_get_monotonic_time();
    for (int i = 0; i < 20; i++, pts_us += 20000)
        stream_input_sound(in, tone(pts_us));
    ck_assert(stream_has_sound(s));
    UNTIL(GOT(&a, count) >= 15);
    cast_leave(a.v);
    end();
}
END_TEST

START_TEST(the_stream_ends)
{
    watcher a = {0}, b = {0};
    join(&a, CAST_RESULT, CODEC_VP8);
    join(&b, CAST_RESULT, CODEC_JPEG);
    PUSH_UNTIL(GOT(&a, count) >= 3);
    live_remove(on, s);
    UNTIL(a.ended && b.ended);
    ck_assert_int_eq(a.err.status, 0);
    end();
}
END_TEST

typedef struct source {
    gint stop;
} source;

static gpointer publish_on(gpointer p)
{
    source *from = p;
    for (int i = 0; !g_atomic_int_get(&from->stop); i++) {
        push_size(i & 127, i % 50 < 40 ? 64 : 96, 48);
        g_usleep(2000);
    }
    return NULL;
}

/* Viewers come and go, in all codecs, while frames of two sizes fly. */
START_TEST(come_and_go)
{
    source from = {0};
    GThread *t = g_thread_new("source", publish_on, &from);
    watcher w[9] = {0};
    for (int i = 0; i < 300; i++) {
        watcher *one = &w[i % 9];
        if (one->v) {
            cast_keyframe(one->v);
            cast_bitrate(one->v, 150000);
            cast_leave(one->v);
            memset(one, 0, sizeof *one);
        } else {
            join(one, i % 4 ? CAST_RESULT : CAST_SOURCE, CODEC_VP8 + i % 3);
        }
        run_for(i % 5 ? 0 : 10);
    }
    live_remove(on, s);
    run_for(20);
    for (int i = 0; i < 9; i++)
        ck_assert_ptr_null(w[i].v); /* told of the end */
    g_atomic_int_set(&from.stop, 1);
    g_thread_join(t);
    end();
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--scan"))
        return registry_scan_child(argv[2]);
    faulty_build(".", "good");
    Suite *suite = suite_create("cast");
    TCase *c = tcase_create("cast");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, setup, NULL);
    const TTest *const tests[] = {
        one_and_another,
        a_still_picture,
        other_sizes,
        who_cannot_follow,
        key_frames_are_apart,
        every_codec_and_the_source,
        sound,
        the_stream_ends,
        come_and_go,
    };
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        tcase_add_test(c, tests[i]);
    suite_add_tcase(suite, c);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
