/* test_outlet.c - outputs besides viewers: what is asked for, what a recording holds, how they
 * fail.
 */
#include "host/live/outlet.h"
#include "host/media/source.h"
#include "live_help.h"

#include <gio/gio.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FPS = 15, TONE = 960 };

/* ---- a source on a thread -------------------------------------------------------------------- */

static struct {
    stream_input *in;
    GThread *thread;
    gint stop, w, h, sound, frames;
} feed;

static void give_sound(int64_t at_us)
{
    GstBuffer *b = gst_buffer_new_allocate(NULL, TONE * 4, NULL);
    gst_buffer_memset(b, 0, 5, TONE * 4);
    GST_BUFFER_PTS(b) = (GstClockTime)at_us * 1000;
    stream_input_sound(feed.in, b);
}

static gpointer run_feed(gpointer user)
{
    (void)user;
    int64_t began = g_get_monotonic_time(), sound_at = began;
    for (int n = 0; !g_atomic_int_get(&feed.stop); n++) {
        int64_t due = began + (int64_t)n * 1000000 / FPS;
        while (g_atomic_int_get(&feed.sound) && sound_at < due) {
            give_sound(sound_at);
            sound_at += 20000;
        }
        int64_t now = g_get_monotonic_time();
        if (due > now)
            g_usleep((gulong)(due - now));
        scope_video shape = {.t = 1,
                             .h = g_atomic_int_get(&feed.h),
                             .w = g_atomic_int_get(&feed.w),
                             .c = 3,
                             .dtype = SCOPE_U8};
        frame *f = frame_new(live_frames(server), &shape, &(scope_error){0});
        memset(f->v.data, 40 + n % 100, (size_t)f->v.stride_t);
        f->v.pts_us = due;
        stream_input_frame(feed.in, f);
        frame_unref(f);
        g_atomic_int_inc(&feed.frames);
    }
    return NULL;
}

static void start_feed(int w, int h, bool sound)
{
    stream_input_calls calls = {0};
    memset(&feed, 0, sizeof feed);
    feed.w = w;
    feed.h = h;
    feed.sound = sound;
    feed.in = stream_input_open(one, "test", "test", &calls);
    feed.thread = g_thread_new("feed", run_feed, NULL);
}

static void stop_feed(void)
{
    if (!feed.thread)
        return;
    g_atomic_int_set(&feed.stop, 1);
    g_thread_join(feed.thread);
    stream_input_close(feed.in);
    feed.thread = NULL;
}

static void setup(void)
{
    live_setup(false);
}

static void teardown(void)
{
    stop_feed();
    live_teardown();
}

/* ---- asking ---------------------------------------------------------------------------------- */

static char id[32];
static json_t *last;
static bool ended;

static json_t *open_it(const char *json)
{
    json_t *j = json_loads(json, 0, NULL);
    json_t *made = outlet_open(one, j, &err);
    json_decref(j);
    ck_assert_msg(made != NULL, "%s: %s", json, err.text);
    g_strlcpy(id, json_string_value(json_object_get(made, "id")), sizeof id);
    return made;
}

static void on_done(void *ctx, const json_t *j)
{
    *(bool *)ctx = true;
    json_decref(last);
    last = json_deep_copy(j);
}

static bool is_true(void *ctx)
{
    return *(bool *)ctx;
}

static void close_it(void)
{
    ended = false;
    ck_assert_msg(!outlet_close(one, id, on_done, &ended, &err), "%s", err.text);
    ck_assert(wait_for(is_true, &ended, 20000));
}

static const char *text_of(const json_t *j, const char *key)
{
    return json_string_value(json_object_get(j, key));
}

/* Is the first output in this state? */
static bool is_state(void *ctx)
{
    json_t *all = outlet_list(one);
    const char *state = text_of(json_array_get(all, 0), "state");
    bool is = state && !strcmp(state, ctx);
    json_decref(all);
    return is;
}

/* Has every output taken so many frames? */
static bool taken(void *ctx)
{
    json_t *all = outlet_list(one), *j;
    size_t i;
    bool is = true;
    json_array_foreach(all, i, j)
    {
        const char *state = text_of(j, "state");
        is &= json_integer_value(json_object_get(j, "frames")) >= *(int *)ctx ||
              !strcmp(state, "retrying");
    }
    json_decref(all);
    return is;
}

static bool fed(void *ctx)
{
    return g_atomic_int_get(&feed.frames) >= *(int *)ctx;
}

static char *recording(const char *name)
{
    return g_build_filename(data, "recordings", name, NULL);
}

static bool is_file(void *ctx)
{
    return g_file_test(ctx, G_FILE_TEST_EXISTS);
}

static bool is_gone(void *ctx)
{
    return !is_file(ctx);
}

#define WAIT_STATE(state, ms)                                                                      \
    ck_assert_msg(wait_for(is_state, state, ms), "not %s: %s", state,                              \
                  json_dumps(outlet_list(one), 0))

/* ---- what a file holds ----------------------------------------------------------------------- */

typedef struct contents {
    int frames, w, h;
    double first_s, last_s, sound_s, longest_s;
    bool backwards, sound;
} contents;

static contents read_back(const char *path)
{
    source_options o = {.audio = true};
    frame_pool *pool = frame_pool_new();
    source *s = source_open(path, &o, pool, &err);
    ck_assert_msg(s != NULL, "%s", err.text);
    const source_info *info = source_about(s);
    contents c = {.w = info->w, .h = info->h, .sound = info->audio != NULL};
    frame *f;
    double at = 0;
    while (source_read(s, &f, &err) == 1) {
        double t = (double)f->v.pts_us / 1e6;
        c.backwards |= c.frames && t <= at;
        if (!c.frames++)
            c.first_s = t;
        else
            c.longest_s = fmax(c.longest_s, t - at);
        at = c.last_s = t;
        frame_unref(f);
    }
    enum source_silence why;
    GstBuffer *b;
    while (c.sound && (b = source_audio(s, INT64_MAX / 2, &why))) {
        c.sound_s = (double)GST_BUFFER_PTS(b) / 1e9;
        gst_buffer_unref(b);
    }
    source_close(s);
    frame_pool_free(pool);
    return c;
}

START_TEST(records)
{
    start_feed(64, 48, true);
    int few = 5, all = 35;
    ck_assert(wait_for(fed, &few, 10000));
    json_t *made = open_it("{\"kind\": \"record\", \"name\": \"take one\"}");
    ck_assert_str_eq(text_of(made, "kind"), "record");
    ck_assert_str_eq(text_of(made, "name"), "take one.mp4");
    json_decref(made);
    char *path = recording("take one.mp4"), *part = recording("take one.mp4.part");
    ck_assert(wait_for(fed, &all, 20000));
    WAIT_STATE("live", 10000);
    ck_assert(!g_file_test(path, G_FILE_TEST_EXISTS));
    ck_assert(g_file_test(part, G_FILE_TEST_EXISTS));
    close_it();
    ck_assert_str_eq(text_of(last, "state"), "done");
    ck_assert(!g_file_test(part, G_FILE_TEST_EXISTS));
    json_int_t frames = json_integer_value(json_object_get(last, "frames"));
    json_int_t dropped = json_integer_value(json_object_get(last, "dropped"));
    double seconds = json_real_value(json_object_get(last, "seconds"));
    contents c = read_back(path);
    ck_assert_int_eq(c.frames, frames);
    ck_assert_int_ge(c.frames + dropped, 28);
    ck_assert(!c.backwards);
    ck_assert(c.first_s < 0.001);
    ck_assert_msg(fabs(c.last_s - seconds) < 0.01, "%g, %g", c.last_s, seconds);
    /* the time of the file is the stream's */
    ck_assert_msg(fabs(c.last_s - (double)(frames + dropped - 1) / FPS) < 0.15, "%g s, %lld frames",
                  c.last_s, (long long)frames);
    ck_assert(c.sound);
    ck_assert_msg(fabs(c.sound_s - c.last_s) < 0.5, "%g, %g", c.sound_s, c.last_s);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    json_t *none = outlet_list(one);
    ck_assert_int_eq(json_array_size(none), 0);
    json_decref(none);
    g_free(path);
    g_free(part);
}
END_TEST

/* Without sound there is no track of it; a change of size is put into the first one. */
START_TEST(record_sizes)
{
    start_feed(65, 49, false);
    int few = 3, all = 15, more = 30;
    ck_assert(wait_for(fed, &few, 10000));
    json_decref(open_it("{\"kind\": \"record\"}"));
    ck_assert(wait_for(fed, &all, 10000));
    g_atomic_int_set(&feed.w, 200);
    g_atomic_int_set(&feed.h, 20);
    ck_assert(wait_for(fed, &more, 10000));
    close_it();
    ck_assert_str_eq(text_of(last, "state"), "done");
    const char *name = text_of(last, "name");
    ck_assert_msg(g_str_has_prefix(name, "A-test-20") && g_str_has_suffix(name, ".mp4"), "%s",
                  name);
    char *path = recording(name);
    contents c = read_back(path);
    ck_assert_int_eq(c.w, 64);
    ck_assert_int_eq(c.h, 48);
    ck_assert(!c.sound);
    ck_assert_int_ge(c.frames, 20);
    g_free(path);
}
END_TEST

/* Sound that comes later than the file begins, and stops before it ends: silence fills it. */
START_TEST(record_gaps)
{
    start_feed(64, 48, true);
    int few = 5, off = 20, all = 50;
    ck_assert(wait_for(fed, &few, 10000));
    json_decref(open_it("{\"kind\": \"record\", \"name\": \"gaps.mp4\"}"));
    ck_assert(wait_for(fed, &off, 10000));
    g_atomic_int_set(&feed.sound, 0);
    ck_assert(wait_for(fed, &all, 10000));
    close_it();
    ck_assert_str_eq(text_of(last, "state"), "done");
    char *path = recording("gaps.mp4");
    contents c = read_back(path);
    ck_assert(c.sound);
    ck_assert_msg(c.last_s - c.sound_s < 1, "%g, %g", c.sound_s, c.last_s);
    ck_assert_msg(c.last_s > 2.5, "%g", c.last_s);
    g_free(path);
}
END_TEST

/* A stream that stands still is not a short recording. */
START_TEST(record_stall)
{
    start_feed(64, 48, false);
    int few = 5;
    ck_assert(wait_for(fed, &few, 10000));
    json_decref(open_it("{\"kind\": \"record\", \"name\": \"stall\"}"));
    few = 15;
    ck_assert(wait_for(fed, &few, 10000));
    stop_feed();
    bool never = false;
    wait_for(is_true, &never, 2500);
    close_it();
    char *path = recording("stall.mp4");
    contents c = read_back(path);
    ck_assert_msg(c.last_s > 2 && c.longest_s < 1.5, "%g s, longest frame %g s", c.last_s,
                  c.longest_s);
    g_free(path);
}
END_TEST

START_TEST(record_nothing)
{
    json_decref(open_it("{\"kind\": \"record\", \"name\": \"none\"}"));
    close_it();
    ck_assert_str_eq(text_of(last, "state"), "failed");
    ck_assert(strstr(text_of(last, "reason"), "no frame came"));
    char *path = recording("none.mp4"), *part = recording("none.mp4.part");
    ck_assert(!g_file_test(path, G_FILE_TEST_EXISTS));
    ck_assert(!g_file_test(part, G_FILE_TEST_EXISTS));
    g_free(path);
    g_free(part);
}
END_TEST

/* The stream goes while it is being recorded: the file is whole all the same. */
START_TEST(record_orphan)
{
    start_feed(64, 48, true);
    int few = 5, all = 12;
    ck_assert(wait_for(fed, &few, 10000));
    json_decref(open_it("{\"kind\": \"record\", \"name\": \"orphan\"}"));
    json_decref(open_it("{\"kind\": \"hls\"}"));
    char *folder = g_strdup(outlet_hls_folder(one));
    ck_assert(wait_for(taken, &all, 30000));
    stop_feed();
    live_remove(server, one);
    one = live_create(server, "other", &err);
    char *path = recording("orphan.mp4");
    ck_assert(wait_for(is_file, path, 20000));
    ck_assert(wait_for(is_gone, folder, 5000));
    contents c = read_back(path);
    ck_assert_int_ge(c.frames, 10);
    g_free(path);
    g_free(folder);
}
END_TEST

START_TEST(leftovers)
{
    start_feed(64, 48, true);
    int few = 5, all = 150;
    ck_assert(wait_for(fed, &few, 10000));
    json_decref(open_it("{\"kind\": \"record\", \"name\": \"killed\"}"));
    ck_assert(wait_for(taken, &all, 60000));
    char *part = recording("killed.mp4.part"), *copy = recording("copied.mp4.part");
    char *path = recording("killed.mp4"), *recovered = recording("copied.mp4"), *bytes;
    char *empty = recording("empty.mp4.part");
    gsize n;
    ck_assert(g_file_get_contents(part, &bytes, &n, NULL));
    int kept = 0;
    for (gsize cut = n / 16; cut < n; cut += n / 16 + 1) { /* wherever it was broken off */
        ck_assert(g_file_set_contents(copy, bytes, (gssize)cut, NULL));
        outlet_recover(server);
        if (!g_file_test(recovered, G_FILE_TEST_EXISTS))
            continue;
        ck_assert_int_ge(read_back(recovered).frames, 1);
        g_unlink(recovered);
        kept++;
    }
    ck_assert_int_ge(kept, 3);
    GRand *rand = g_rand_new_with_seed(5);
    for (int i = 0; i < 60; i++) { /* what the disk made of it */
        char *broken = g_memdup2(bytes, n);
        for (int k = 0; k < 40; k++)
            broken[g_rand_int_range(rand, 0, (gint32)n)] = (char)g_rand_int(rand);
        ck_assert(g_file_set_contents(copy, broken, (gssize)n, NULL));
        outlet_recover(server);
        ck_assert(!g_file_test(copy, G_FILE_TEST_EXISTS));
        g_unlink(recovered);
        g_free(broken);
    }
    g_rand_free(rand);
    ck_assert(g_file_set_contents(copy, bytes, (gssize)n, NULL)); /* as a killed server leaves it */
    ck_assert(g_file_set_contents(empty, "", 0, NULL));
    outlet_recover(server);
    ck_assert(g_file_test(part, G_FILE_TEST_EXISTS)); /* one that is being written stays */
    ck_assert(!g_file_test(path, G_FILE_TEST_EXISTS));
    ck_assert(!g_file_test(copy, G_FILE_TEST_EXISTS));
    ck_assert(!g_file_test(empty, G_FILE_TEST_EXISTS));
    contents c = read_back(recovered);
    ck_assert_msg(c.frames >= 50, "%d frames", c.frames);
    close_it();
    c = read_back(path);
    ck_assert_msg(c.frames >= 150, "%d frames", c.frames);
    g_free(bytes);
    char *const names[] = {part, copy, path, recovered, empty};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        g_free(names[i]);
}
END_TEST

START_TEST(refusals)
{
    static const struct {
        const char *json, *field;
    } cases[] = {
        {"{}", "kind"},
        {"{\"kind\": \"tape\"}", "kind"},
        {"{\"kind\": 3}", "kind"},
        {"{\"kind\": \"record\", \"name\": \"../x\"}", "name"},
        {"{\"kind\": \"record\", \"name\": \"/tmp/x.mp4\"}", "name"},
        {"{\"kind\": \"record\", \"name\": \".hidden\"}", "name"},
        {"{\"kind\": \"record\", \"name\": \"\"}", "name"},
        {"{\"kind\": \"record\", \"name\": \"a\\nb\"}", "name"},
        {"{\"kind\": \"record\", \"name\": 5}", "name"},
        {"{\"kind\": \"record\", \"url\": \"/tmp/x.mp4\"}", "url"},
        {"{\"kind\": \"record\", \"audio\": 1}", "audio"},
        {"{\"kind\": \"rtmp\"}", "url"},
        {"{\"kind\": \"rtmp\", \"url\": \"http://x/y\"}", "url"},
        {"{\"kind\": \"rtmp\", \"url\": \"rtmp://h/a/k\", \"bitrate_kbps\": 5}", "bitrate_kbps"},
        {"{\"kind\": \"rtmp\", \"url\": \"rtmp://h/a/k\", \"name\": \"x\"}", "name"},
        {"{\"kind\": \"srt\", \"url\": \"udp://h:1\"}", "url"},
        {"{\"kind\": \"v4l2\", \"url\": \"/etc/passwd\"}", "url"},
        {"{\"kind\": \"v4l2\", \"url\": \"/dev/video\"}", "url"},
        {"{\"kind\": \"v4l2\", \"url\": \"/dev/video987\"}", "url"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_t *j = json_loads(cases[i].json, 0, NULL);
        ck_assert_msg(!outlet_open(one, j, &err), "%s was taken", cases[i].json);
        ck_assert_msg(!strcmp(err.field, cases[i].field), "%s: %s: %s", cases[i].json, err.field,
                      err.text);
        json_decref(j);
    }
    ck_assert_int_lt(outlet_close(one, "out_0", NULL, NULL, &err), 0);
    json_t *none = outlet_list(one);
    ck_assert_int_eq(json_array_size(none), 0);
    json_decref(none);
    json_decref(open_it("{\"kind\": \"record\", \"name\": \"twice\"}"));
    json_t *j = json_loads("{\"kind\": \"record\", \"name\": \"twice.mp4\"}", 0, NULL);
    ck_assert(!outlet_open(one, j, &err));
    ck_assert_str_eq(err.field, "name");
    json_decref(j);
}
END_TEST

/* ---- the others ------------------------------------------------------------------------------ */

START_TEST(nobody_there)
{
    start_feed(64, 48, true);
    int few = 5;
    ck_assert(wait_for(fed, &few, 10000));
    json_t *made = open_it("{\"kind\": \"rtmp\", \"url\": \"rtmp://127.0.0.1:9/live/secret\"}");
    ck_assert_str_eq(text_of(made, "url"), "rtmp://127.0.0.1:9/live/...");
    json_decref(made);
    WAIT_STATE("retrying", 10000);
    json_t *all = outlet_list(one);
    ck_assert(!strstr(text_of(json_array_get(all, 0), "reason"), "secret"));
    json_decref(all);
    int64_t began = g_get_monotonic_time();
    close_it();
    ck_assert_int_lt(g_get_monotonic_time() - began, 2000000);
    ck_assert_str_eq(text_of(last, "state"), "done");
}
END_TEST

/* Somebody takes the connection and says nothing: that is not live, and ends quickly. */
START_TEST(silent)
{
    static const char *const outputs[] = {"rtmp", "srt"};
    GSocketListener *listener = g_socket_listener_new();
    guint16 port = g_socket_listener_add_any_inet_port(listener, NULL, NULL);
    start_feed(64, 48, true);
    int few = 5;
    ck_assert(wait_for(fed, &few, 10000));
    for (size_t i = 0; i < G_N_ELEMENTS(outputs); i++) {
        char *json = g_strdup_printf("{\"kind\": \"%s\", \"url\": \"%s://127.0.0.1:%d/a/b\"}",
                                     outputs[i], outputs[i], port);
        json_decref(open_it(json));
        ck_assert_msg(!wait_for(is_state, "live", 3000), "%s is live", json);
        int64_t began = g_get_monotonic_time();
        close_it();
        ck_assert_int_lt(g_get_monotonic_time() - began, 5000000);
        g_free(json);
    }
    g_object_unref(listener);
}
END_TEST

static bool has_playlist(void *ctx)
{
    char *path = g_build_filename(ctx, "index.m3u8", NULL), *text = NULL;
    bool is = g_file_get_contents(path, &text, NULL, NULL) && strstr(text, ".ts");
    g_free(text);
    g_free(path);
    return is;
}

START_TEST(hls)
{
    start_feed(64, 48, true);
    int few = 5;
    ck_assert(wait_for(fed, &few, 10000));
    ck_assert(!outlet_hls_folder(one));
    json_decref(open_it("{\"kind\": \"hls\"}"));
    char *folder = g_strdup(outlet_hls_folder(one));
    json_t *j = json_loads("{\"kind\": \"hls\"}", 0, NULL);
    ck_assert(!outlet_open(one, j, &err)); /* one is enough */
    json_decref(j);
    ck_assert(wait_for(has_playlist, folder, 20000));
    WAIT_STATE("live", 5000);
    close_it();
    ck_assert(!g_file_test(folder, G_FILE_TEST_EXISTS));
    ck_assert(!outlet_hls_folder(one));
    g_free(folder);
}
END_TEST

static void on_all_done(void *ctx)
{
    *(bool *)ctx = true;
}

START_TEST(all_end)
{
    start_feed(64, 48, true);
    int few = 5, some = 8;
    ck_assert(wait_for(fed, &few, 10000));
    json_decref(open_it("{\"kind\": \"record\", \"name\": \"one\"}"));
    json_decref(open_it("{\"kind\": \"rtmp\", \"url\": \"rtmp://127.0.0.1:9/live/x\"}"));
    json_decref(open_it("{\"kind\": \"hls\"}"));
    json_decref(open_it("{\"kind\": \"record\", \"name\": \"two\"}"));
    ck_assert(wait_for(taken, &some, 30000));
    bool one_done = false, all_done = false;
    ck_assert_int_eq(outlet_close(one, id, on_done, &one_done, &err), 0);
    outlet_close_all(server, on_all_done, &all_done);
    ck_assert(wait_for(is_true, &all_done, 20000));
    ck_assert(one_done);
    char *a = recording("one.mp4"), *b = recording("two.mp4");
    ck_assert_int_ge(read_back(a).frames, 5);
    ck_assert_int_ge(read_back(b).frames, 5);
    g_free(a);
    g_free(b);
    all_done = false;
    outlet_close_all(server, on_all_done, &all_done); /* when there is none */
    ck_assert(wait_for(is_true, &all_done, 2000));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("outlet");
    TCase *c = tcase_create("outlet");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, records);
    tcase_add_test(c, record_sizes);
    tcase_add_test(c, record_gaps);
    tcase_add_test(c, record_stall);
    tcase_add_test(c, record_nothing);
    tcase_add_test(c, record_orphan);
    tcase_add_test(c, leftovers);
    tcase_add_test(c, refusals);
    tcase_add_test(c, nobody_there);
    tcase_add_test(c, silent);
    tcase_add_test(c, hls);
    tcase_add_test(c, all_end);
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    json_decref(last);
    return failed != 0;
}
