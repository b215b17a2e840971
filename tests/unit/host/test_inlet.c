/* test_inlet.c - sources that the server opens: which may be, what they bring, how they fail. */
#include "host/live/inlet.h"
#include "host/live/inlet_url.h"
#include "live_help.h"

#include <gio/gio.h>
#include <stdlib.h>
#include <unistd.h>

static void setup(void)
{
    live_setup(false);
}

static char *asset(const char *name)
{
    return g_build_filename(data, "assets", name, NULL);
}

/* Run a GStreamer pipeline to its end. */
static void make_file(const char *line)
{
    GError *cause = NULL;
    GstElement *p = gst_parse_launch(line, &cause);
    ck_assert_msg(!cause, "%s", cause ? cause->message : "");
    GstBus *bus = gst_element_get_bus(p);
    gst_element_set_state(p, GST_STATE_PLAYING);
    GstMessage *m =
        gst_bus_timed_pop_filtered(bus, 30 * GST_SECOND, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    ck_assert(m && GST_MESSAGE_TYPE(m) == GST_MESSAGE_EOS);
    gst_message_unref(m);
    gst_element_set_state(p, GST_STATE_NULL);
    gst_object_unref(bus);
    gst_object_unref(p);
}

/* ---- what comes through a tap ---------------------------------------------------------------- */

static struct {
    GMutex lock;
    int frames, w, h, sounds, sound_size;
    int64_t first_us, last_us, late_us; /* of frames' times; how late the last one came */
    GstClockTime sound_pts;
    bool backwards;
    int sizes[8], n_sizes; /* widths, in order */
} got;

static void on_frame(void *ctx, frame *f)
{
    (void)ctx;
    int64_t now = g_get_monotonic_time();
    g_mutex_lock(&got.lock);
    got.backwards |= got.frames && f->v.pts_us < got.last_us;
    if (!got.frames++)
        got.first_us = f->v.pts_us;
    if (f->v.w != got.w && got.n_sizes < 8)
        got.sizes[got.n_sizes++] = f->v.w;
    got.last_us = f->v.pts_us;
    got.late_us = now - f->v.pts_us;
    got.w = f->v.w;
    got.h = f->v.h;
    g_mutex_unlock(&got.lock);
}

static void on_sound(void *ctx, GstBuffer *b)
{
    (void)ctx;
    g_mutex_lock(&got.lock);
    got.sounds++;
    got.sound_size = (int)gst_buffer_get_size(b);
    got.sound_pts = GST_BUFFER_PTS(b);
    g_mutex_unlock(&got.lock);
}

static stream_tap *watch(void)
{
    memset(&got, 0, sizeof got);
    stream_tap_calls calls = {NULL, on_frame, on_sound};
    return stream_source_tap_open(one, "test", "test", &calls);
}

static bool enough(void *ctx)
{
    g_mutex_lock(&got.lock);
    bool is = got.frames >= *(int *)ctx;
    g_mutex_unlock(&got.lock);
    return is;
}

static bool heard(void *ctx)
{
    g_mutex_lock(&got.lock);
    bool is = got.sounds >= *(int *)ctx;
    g_mutex_unlock(&got.lock);
    return is;
}

static bool is_state(void *ctx)
{
    json_t *j = inlet_json(one);
    const char *state = json_string_value(json_object_get(j, "state"));
    bool is = state && !strcmp(state, ctx);
    json_decref(j);
    return is;
}

static bool notices(void *ctx)
{
    return strstr(stream_notice(one), ctx) != NULL;
}

static void play(const char *url)
{
    json_t *j = json_pack("{ss}", "url", url);
    ck_assert_msg(!inlet_set(one, j, &err), "%s", err.text);
    json_decref(j);
}

#define WAIT(condition, ctx, ms)                                                                   \
    ck_assert_msg(wait_for(condition, ctx, ms), "after %d ms: %s; %d frames, notice '%s'", ms,     \
                  #condition, got.frames, stream_notice(one))

/* ---- which may be ---------------------------------------------------------------------------- */

START_TEST(urls)
{
    static const struct {
        const char *url, *kind, *about; /* kind NULL: refused, and about is in the reason */
    } cases[] = {
        {"test:", "test", "a test picture"},
        {"test:tone", "test", "a test picture"},
        {"test:other", NULL, "test:tone"},
        {"screen:", "screen", "the server's screen"},
        {"/dev/video0", "camera", "/dev/video0"},
        {"/dev/video12", "camera", "/dev/video12"},
        {"/dev/video0/../../etc/passwd", NULL, "devices"},
        {"/dev/sda", NULL, "devices"},
        {"/dev/video", NULL, "devices"},
        {"rtsp://user:pass@cam:554/one?key=secret", "url", "rtsp://cam:554/one"},
        {"http://host/a@b.mp4", "url", "http://host/a@b.mp4"},
        {"https://u:p%40x@[::1]:8443/x.m3u8#t", "url", "https://[::1]:8443/x.m3u8"},
        {"rtmp://host/app/key", "url", "rtmp://host/app/key"},
        {"HTTP://host/x", "url", "HTTP://host/x"},
        {"ftp://host/x", NULL, "it can be http"},
        {"concat://x", NULL, "it can be http"},
        {"http://[::1", NULL, "no URL"},
        {"", NULL, "1 to 2000"},
        {"clip.mp4", "file", "clip.mp4"},
        {"deep/clip.mp4", "file", "clip.mp4"},
        {"deep/../clip.mp4", "file", "clip.mp4"},
        {"other.mp4", NULL, "no such file"},
        {"../secret.mp4", NULL, "only files in the assets folder"},
        {"deep/../../secret.mp4", NULL, "only files in the assets folder"},
        {"way-out/secret.mp4", NULL, "only files in the assets folder"},
        {"link.mp4", NULL, "only files in the assets folder"},
        {"/etc/passwd", NULL, "only files in the assets folder"},
        {"file:///etc/passwd", NULL, "only files in the assets folder"},
        {"file://host/etc/passwd", NULL, "only files in the assets folder"},
        {"file:etc/passwd", NULL, ""},
        {"deep", NULL, "it is no file"},
        {".", NULL, "only files"},
        {"..", NULL, "only files"},
    };
    char *deep = asset("deep"), *clip = asset("clip.mp4"), *deep_clip = asset("deep/clip.mp4");
    char *secret = g_build_filename(data, "secret.mp4", NULL);
    char *link = asset("link.mp4"), *way_out = asset("way-out"), *assets = asset("");
    g_mkdir(deep, 0755);
    g_file_set_contents(clip, "x", 1, NULL);
    g_file_set_contents(deep_clip, "x", 1, NULL);
    g_file_set_contents(secret, "x", 1, NULL);
    ck_assert_int_eq(symlink(secret, link), 0);
    ck_assert_int_eq(symlink(data, way_out), 0);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        inlet_url u;
        int status = inlet_url_init(&u, cases[i].url, assets, false, &err);
        if (cases[i].kind) {
            ck_assert_msg(!status, "%s: %s", cases[i].url, err.text);
            ck_assert_str_eq(u.kind, cases[i].kind);
            ck_assert_str_eq(u.about, cases[i].about);
        } else {
            ck_assert_msg(status < 0, "%s was taken", cases[i].url);
            ck_assert_str_eq(err.field, "url");
            ck_assert_msg(strstr(err.text, cases[i].about), "%s: %s", cases[i].url, err.text);
        }
        inlet_url_fini(&u);
    }
    inlet_url u; /* whoever is trusted may name any file, but not climb out of the folder */
    ck_assert_int_eq(inlet_url_init(&u, secret, assets, true, &err), 0);
    inlet_url_fini(&u);
    ck_assert_int_lt(inlet_url_init(&u, "../secret.mp4", assets, true, &err), 0);
    inlet_url_fini(&u);
    ck_assert_int_lt(inlet_url_init(&u, "/nowhere/x.mp4", assets, true, &err), 0);
    inlet_url_fini(&u);
    char *const all[] = {deep, clip, deep_clip, secret, link, way_out, assets};
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
        g_free(all[i]);
}
END_TEST

START_TEST(requests)
{
    static const struct {
        const char *json, *field;
    } cases[] = {
        {"{}", "url"},
        {"{\"url\": 3}", "url"},
        {"{\"url\": \"test:\", \"loop\": 1}", "loop"},
        {"{\"url\": \"test:\", \"fps\": 0}", "fps"},
        {"{\"url\": \"test:\", \"fps\": \"30\"}", "fps"},
        {"{\"url\": \"test:\", \"rate\": 2}", "rate"},
        {"{\"url\": \"../x\"}", "url"},
    };
    play("test:");
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_t *j = json_loads(cases[i].json, 0, NULL);
        ck_assert_int_lt(inlet_set(one, j, &err), 0);
        ck_assert_str_eq(err.field, cases[i].field);
        json_decref(j);
    }
    json_t *j = inlet_json(one); /* what was there still is */
    ck_assert_str_eq(json_string_value(json_object_get(j, "kind")), "test");
    json_decref(j);
}
END_TEST

/* ---- what they bring ------------------------------------------------------------------------- */

START_TEST(test_picture)
{
    stream_tap *tap = watch();
    int frames = 20, sounds = 20;
    play("test:tone");
    WAIT(enough, &frames, 10000);
    WAIT(heard, &sounds, 10000);
    WAIT(is_state, "live", 1000);
    g_mutex_lock(&got.lock);
    ck_assert_int_eq(got.w, 640);
    ck_assert_int_eq(got.h, 360);
    ck_assert(!got.backwards);
    ck_assert_int_eq(got.sound_size, 960 * 4);
    /* the times are those of this machine's clock */
    ck_assert_int_lt(llabs(g_get_monotonic_time() - got.last_us), 2000000);
    ck_assert_int_lt(llabs(g_get_monotonic_time() - (int64_t)got.sound_pts / 1000), 2000000);
    double fps = (got.frames - 1) * 1e6 / (double)(got.last_us - got.first_us);
    ck_assert_msg(fps > 10 && fps < 33, "%g frames a second", fps);
    g_mutex_unlock(&got.lock);
    ck_assert(stream_has_sound(one));
    ck_assert_int_eq(inlet_set(one, NULL, &err), 0);
    json_t *none = inlet_json(one);
    ck_assert(json_is_null(none));
    json_decref(none);
    stream_tap_close(tap);
}
END_TEST

/* Half a second at 20 a second, in a loop: after two seconds, there are more than were in it, at
 * its own speed. */
START_TEST(file_loops)
{
    char *clip = asset("clip.mp4");
    char *line = g_strdup_printf(
        "videotestsrc num-buffers=10 ! video/x-raw,width=64,height=48,framerate=20/1 ! x264enc "
        "tune=zerolatency ! h264parse ! queue ! m. audiotestsrc num-buffers=22 ! "
        "audio/x-raw,rate=44100,channels=1 ! avenc_aac ! aacparse ! queue ! m. mp4mux name=m ! "
        "filesink location=%s",
        clip);
    make_file(line);
    stream_tap *tap = watch();
    int frames = 25, sounds = 25;
    int64_t began = g_get_monotonic_time();
    play("clip.mp4");
    WAIT(enough, &frames, 20000);
    WAIT(heard, &sounds, 10000);
    int64_t took_ms = (g_get_monotonic_time() - began) / 1000;
    ck_assert_msg(took_ms > 1000, "25 frames of a clip at 20 a second in %d ms", (int)took_ms);
    ck_assert(!got.backwards);
    ck_assert_int_eq(got.w, 64);
    stream_tap_close(tap);
    g_free(line);
    g_free(clip);
}
END_TEST

START_TEST(file_ends)
{
    char *clip = asset("clip.webm");
    char *line = g_strdup_printf("videotestsrc num-buffers=6 ! "
                                 "video/x-raw,width=64,height=48,framerate=20/1 ! vp8enc ! "
                                 "webmmux ! filesink location=%s",
                                 clip);
    make_file(line);
    stream_tap *tap = watch();
    json_t *j = json_pack("{ss sb}", "url", "clip.webm", "loop", 0);
    ck_assert_int_eq(inlet_set(one, j, &err), 0);
    WAIT(is_state, "ended", 10000);
    WAIT(notices, "clip.webm has ended", 1000);
    ck_assert_int_ge(got.frames, 3);
    ck_assert_int_le(got.frames, 6);
    stream_tap_close(tap);
    json_decref(j);
    g_free(line);
    g_free(clip);
}
END_TEST

START_TEST(stills)
{
    char *picture = asset("still.png");
    char *line = g_strdup_printf("videotestsrc num-buffers=1 ! video/x-raw,width=33,height=17 ! "
                                 "pngenc ! filesink location=%s",
                                 picture);
    make_file(line);
    stream_tap *tap = watch();
    int frames = 10;
    play("still.png");
    WAIT(enough, &frames, 10000);
    ck_assert_int_eq(got.w, 33);
    ck_assert(!got.backwards);
    ck_assert(got.last_us > got.first_us);
    stream_tap_close(tap);
    g_free(line);
    g_free(picture);
}
END_TEST

/* ---- how they fail --------------------------------------------------------------------------- */

START_TEST(garbage)
{
    char *path = asset("garbage.mp4"), noise[5000];
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (char)(i * i * 31 + i / 7);
    g_file_set_contents(path, noise, sizeof noise, NULL);
    play("garbage.mp4");
    WAIT(is_state, "retrying", 10000);
    WAIT(notices, "garbage.mp4", 1000);
    WAIT(notices, "trying again in 1 s", 5000);
    g_free(path);
}
END_TEST

START_TEST(no_picture)
{
    char *path = asset("only-sound.wav");
    char *line =
        g_strdup_printf("audiotestsrc num-buffers=40 ! wavenc ! filesink location=%s", path);
    make_file(line);
    play("only-sound.wav");
    WAIT(notices, "there is no picture in it", 10000);
    g_free(line);
    g_free(path);
}
END_TEST

/* A server that takes connections and never says a word: ending is quick all the same. */
START_TEST(hangs)
{
    GSocketListener *listener = g_socket_listener_new();
    guint16 port = g_socket_listener_add_any_inet_port(listener, NULL, NULL);
    static const char *const schemes[] = {"http", "rtsp", "rtmp"};
    for (size_t i = 0; i < G_N_ELEMENTS(schemes); i++) {
        char *url = g_strdup_printf("%s://127.0.0.1:%d/app/x", schemes[i], port);
        play(url);
        WAIT(is_state, "connecting", 1000);
        int none = 1;
        wait_for(enough, &none, 300);
        int64_t began = g_get_monotonic_time();
        inlet_set(one, NULL, &err);
        int64_t took = g_get_monotonic_time() - began;
        ck_assert_msg(took < 100000, "%s: %d us until it is let go", url, (int)took);
        g_free(url);
    }
    stream *two = live_create(server, "two", &err);
    char *url = g_strdup_printf("http://127.0.0.1:%d/x", port);
    json_t *j = json_pack("{ss}", "url", url);
    inlet_set(two, j, &err);
    int none = 1;
    wait_for(enough, &none, 300);
    int64_t began = g_get_monotonic_time();
    live_remove(server, two); /* waits for the thread */
    int64_t took = g_get_monotonic_time() - began;
    ck_assert_msg(took < 2000000, "%d us until a stream with it is gone", (int)took);
    json_decref(j);
    g_free(url);
    g_object_unref(listener);
}
END_TEST

START_TEST(refused_connection)
{
    play("rtsp://127.0.0.1:9/x");
    WAIT(is_state, "retrying", 10000);
    WAIT(notices, "rtsp://127.0.0.1:9/x", 1000);
}
END_TEST

START_TEST(no_device)
{
    play("/dev/video987");
    WAIT(notices, "/dev/video987", 10000);
}
END_TEST

START_TEST(no_display)
{
    g_unsetenv("DISPLAY");
    play("screen:");
    WAIT(notices, "no display", 10000);
}
END_TEST

START_TEST(replaced)
{
    stream_input_calls none = {0};
    int frames = 3;
    stream_tap *tap = watch();
    play("test:");
    WAIT(enough, &frames, 10000);
    stream_input *other = stream_input_open(one, "whip", "somebody", &none);
    json_t *j = inlet_json(one);
    ck_assert(json_is_null(j));
    json_decref(j);
    int more = got.frames + 3;
    ck_assert(!wait_for(enough, &more, 500));
    play("test:"); /* and back */
    WAIT(enough, &more, 10000);
    stream_input_close(other);
    stream_tap_close(tap);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("inlet");
    TCase *c = tcase_create("inlet");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, setup, live_teardown);
    tcase_add_test(c, urls);
    tcase_add_test(c, requests);
    tcase_add_test(c, test_picture);
    tcase_add_test(c, file_loops);
    tcase_add_test(c, file_ends);
    tcase_add_test(c, stills);
    tcase_add_test(c, garbage);
    tcase_add_test(c, no_picture);
    tcase_add_test(c, hangs);
    tcase_add_test(c, refused_connection);
    tcase_add_test(c, no_device);
    tcase_add_test(c, no_display);
    tcase_add_test(c, replaced);
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
