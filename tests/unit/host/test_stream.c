/* test_stream.c - streams over remotes that do as they are told: mailboxes, exchange of plugins,
 * values, deaths. */
#include "live_fixture.h"
#include "fake_remote.h"
#include "host/log.h"
#include "host/registry.h"

static eyes view;

static void setup(void)
{
    memset(&view, 0, sizeof view);
    log_open(false, SCOPE_ERROR);
    live_begin(faulty_folder());
}

static void none_replaced(void *ctx)
{
    (void)ctx;
}

static stream_input *publish(stream *s)
{
    return stream_input_open(s, "test", "a test", &(stream_input_calls){.replaced = none_replaced});
}

#define GOOD(values) "[{'plugin': 'good', 'values': " values "}]"

static stream *with_plugin(const char *text)
{
    stream *s = new_stream();
    chain(s, text);
    UNTIL(heard("values 0 by load"));
    return s;
}

/* ---- frames ---------------------------------------------------------------------------------- */

START_TEST(source_as_it_is)
{
    stream *s = new_stream();
    stream_tap *tap = look(s, &view);
    stream_input *in = publish(s);
    frame *f = picture(200, 16, 8, 4);
    memset(f->v.data, 255, (size_t)f->v.stride_t);
    stream_input_frame(in, f);
    frame_unref(f);
    ck_assert_int_eq(seen(&view), 1); /* at once, on the source's thread */
    ck_assert_int_eq(view.c, 3);
    ck_assert_int_eq(view.w, 16);
    ck_assert_int_eq(last_seen(&view), 255);
    eyes late = {0};
    stream_tap *second = look(s, &late);
    ck_assert_int_eq(seen(&late), 1); /* the last frame, on joining */
    ck_assert_int_eq(stream_state_now(s), STREAM_EMPTY);
    stream_tap_close(second);
    push(in, 1);
    ck_assert_int_eq(seen(&late), 1);
    ck_assert_int_eq(seen(&view), 2);
    stream_input_close(in);
    stream_tap_close(tap);
    live_end();
}
END_TEST

START_TEST(newest_wins)
{
    stream *s = with_plugin(GOOD("{'model': 'slow', 'amount': 0}"));
    stream_tap *tap = look(s, &view);
    stream_input *in = publish(s);
    for (int i = 1; i <= 10; i++)
        push(in, i);
    UNTIL(seen(&view) == 2);
    ck_assert_int_eq(view.first[0], 1);  /* it went at once */
    ck_assert_int_eq(view.first[1], 10); /* and all between were replaced while they waited */
    stream_stats n;
    stream_stats_now(s, &n);
    ck_assert_int_eq(n.dropped, 8);
    ck_assert_int_eq(n.frames_in, 10);
    ck_assert_int_eq(n.frames_out, 2);
    ck_assert(n.model_p50 >= FAKE_SLOW_MS);
    stream_input_close(in);
    stream_tap_close(tap);
    live_end();
}
END_TEST

typedef struct source {
    stream_input *in;
    gint stop;
    int step_us;
    int pushed;
} source;

static gpointer publish_on(gpointer p)
{
    source *from = p;
    while (!g_atomic_int_get(&from->stop)) {
        push(from->in, 10);
        from->pushed++;
        g_usleep((gulong)from->step_us);
    }
    return NULL;
}

START_TEST(age_is_bounded)
{
    stream *s = with_plugin(GOOD("{'model': 'slow'}"));
    stream_tap *tap = look(s, &view);
    source from = {.in = publish(s), .step_us = 33333};
    GThread *t = g_thread_new("source", publish_on, &from);
    UNTIL(seen(&view) >= 25);
    stream_stats n;
    stream_stats_now(s, &n);
    ck_assert_msg(n.age_p50 <= 2 * FAKE_SLOW_MS, "age %.1f ms", n.age_p50);
    ck_assert(n.age_p50 >= FAKE_SLOW_MS);
    ck_assert(n.dropped > 5);
    ck_assert(n.fps_in > n.fps_out);
    ck_assert_int_eq(stream_state_now(s), STREAM_ONLINE);
    g_atomic_int_set(&from.stop, 1);
    g_thread_join(t);
    stream_input_close(from.in);
    stream_tap_close(tap);
    UNTIL(stream_state_now(s) == STREAM_OFFLINE);
    live_end();
}
END_TEST

START_TEST(generator)
{
    stream *s = with_plugin(GOOD("{'model': 'generator', 'amount': 7}"));
    stream_tap *tap = look(s, &view);
    int64_t begin_us = g_get_monotonic_time();
    UNTIL(seen(&view) >= 10);
    ck_assert(g_get_monotonic_time() - begin_us > 8 * 33333 / 2);
    ck_assert_int_eq(last_seen(&view), 7);
    stream_input *in = publish(s);
    push(in, 100);
    int n = seen(&view);
    UNTIL(seen(&view) > n + 3);
    ck_assert_int_eq(last_seen(&view), 7);
    ck_assert_int_eq(stream_state_now(s), STREAM_ONLINE);
    scope_error err;
    json_t *second = parse("[{'plugin': 'good', 'values': {'amount': 1}},"
                           " {'plugin': 'good', 'values': {'model': 'generator', 'amount': 7}}]");
    ck_assert_int_lt(stream_chain(s, second, &err), 0);
    ck_assert_msg(strstr(err.text, "put it first"), "%s", err.text);
    json_decref(second);
    stream_input_close(in);
    stream_tap_close(tap);
    live_end();
}
END_TEST

/* ---- plugins --------------------------------------------------------------------------------- */

START_TEST(exchange)
{
    stream *s = with_plugin(GOOD("{'amount': 1}"));
    stream_tap *tap = look(s, &view);
    source from = {.in = publish(s), .step_us = 10000};
    GThread *t = g_thread_new("source", publish_on, &from);
    UNTIL(seen(&view) >= 20);
    chain(s, "[{'plugin': 'good', 'values': {'amount': 2, 'model': 'long'}}, {'plugin': 'good'}]");
    ck_assert_int_eq(stream_links(s), 2);
    ck_assert_int_eq(stream_state_now(s), STREAM_RELOADING);
    int n = seen(&view);
    UNTIL(seen(&view) >= n + 5); /* the old one goes on */
    ck_assert_int_eq(last_seen(&view), 11);
    UNTIL(last_seen(&view) == 15);
    n = seen(&view);
    UNTIL(seen(&view) >= n + 20);
    g_atomic_int_set(&from.stop, 1);
    g_thread_join(t);
    UNTIL(seen(&view) == from.pushed || g_atomic_int_get(&from.stop) > 1);
    stream_stats st;
    stream_stats_now(s, &st);
    ck_assert_int_eq(st.frames_out + st.dropped, from.pushed);
    bool changed = false;
    for (int i = 1; i < view.count; i++) {
        ck_assert(view.pts_us[i] > view.pts_us[i - 1]);
        changed |= view.first[i] == 15;
        ck_assert_int_eq(view.first[i], changed ? 15 : 11); /* never half of it, never back */
    }
    ck_assert_int_eq(fake_count(), 2);
    ck_assert_int_eq(fakes.opened, 2); /* the first was kept as the second link */
    stream_input_close(from.in);
    stream_tap_close(tap);
    live_end();
}
END_TEST

START_TEST(failed_load_keeps_the_old)
{
    stream *s = with_plugin(GOOD("{'amount': 1}"));
    stream_tap *tap = look(s, &view);
    stream_input *in = publish(s);
    scope_error err;
    ck_assert_int_eq(set(s, 0, "{'model': 'fails'}", STREAM_RELOAD, 5, &err), 0);
    UNTIL(heard("tag 5 there are no weights"));
    ck_assert_ptr_nonnull(strstr(stream_notice(s), "cannot be loaded: there are no weights"));
    push(in, 10);
    UNTIL(last_seen(&view) == 11);
    UNTIL(stream_state_now(s) == STREAM_ONLINE);
    json_t *values = stream_link_values(s, 0);
    ck_assert_str_eq(json_string_value(json_object_get(values, "model")), "");
    json_decref(values);
    ck_assert_int_eq(fake_count(), 1);
    ck_assert_int_gt(set(s, 0, "{'amount': 2}", STREAM_REFUSE_RELOAD, 0, &err), 0);
    push(in, 10);
    UNTIL(last_seen(&view) == 12);
    stream_input_close(in);
    stream_tap_close(tap);
    live_end();
}
END_TEST

START_TEST(no_room_for_both)
{
    stream *s = with_plugin(GOOD("{'amount': 1}"));
    stream_tap *tap = look(s, &view);
    stream_input *in = publish(s);
    push(in, 10);
    UNTIL(last_seen(&view) == 11);
    scope_error err;
    ck_assert_int_eq(set(s, 0, "{'model': 'big', 'amount': 3}", STREAM_RELOAD, 6, &err), 0);
    UNTIL(heard("there is no memory for both"));
    int n = seen(&view);
    UNTIL(seen(&view) > n + 1); /* the last frame again and again */
    ck_assert_int_eq(last_seen(&view), 11);
    UNTIL(heard("by page tag 6 ok"));
    push(in, 10);
    UNTIL(last_seen(&view) == 13);
    stream_input_close(in);
    stream_tap_close(tap);
    live_end();
}
END_TEST

START_TEST(no_room_at_all)
{
    stream *s = with_plugin(GOOD("{'amount': 1}"));
    stream_tap *tap = look(s, &view);
    stream_input *in = publish(s);
    scope_error err;
    ck_assert_int_eq(set(s, 0, "{'model': 'huge', 'amount': 3}", STREAM_RELOAD, 6, &err), 0);
    UNTIL(heard("there is no memory for both"));
    UNTIL(heard("by page tag 6 out of memory"));
    push(in, 10);
    UNTIL(last_seen(&view) == 11); /* what ran before does so again */
    UNTIL(stream_state_now(s) == STREAM_ONLINE);
    ck_assert_msg(strstr(stream_notice(s), "back to what ran before"), "%s", stream_notice(s));
    json_t *values = stream_link_values(s, 0);
    ck_assert_int_eq(json_integer_value(json_object_get(values, "amount")), 1);
    json_decref(values);
    /* Nothing can be closed to make room for a second link: what runs goes on. */
    chain(s, "[{'plugin': 'good', 'values': {'amount': 1}}, {'plugin': 'good', 'values': "
             "{'model': 'huge'}}]");
    UNTIL(strstr(stream_notice(s), "the plugins before it go on"));
    push(in, 20);
    UNTIL(last_seen(&view) == 21);
    ck_assert_int_eq(stream_links(s), 1);
    stream_input_close(in);
    stream_tap_close(tap);
    live_end();
}
END_TEST

START_TEST(first_load_fails)
{
    stream *s = new_stream();
    stream_tap *tap = look(s, &view);
    stream_input *in = publish(s);
    chain(s, GOOD("{'model': 'fails'}"));
    push(in, 10);
    UNTIL(stream_state_now(s) == STREAM_FAILED);
    ck_assert_str_eq(stream_notice(s), "there are no weights");
    ck_assert_int_eq(seen(&view), 0); /* what was meant to be changed is not shown as it is */
    scope_error err;
    ck_assert_int_eq(set(s, 0, "{'model': 'ok'}", STREAM_RELOAD, 1, &err), 0);
    UNTIL(heard("tag 1 ok"));
    push(in, 10);
    UNTIL(last_seen(&view) == 13);
    UNTIL(stream_state_now(s) == STREAM_ONLINE);
    ck_assert_str_eq(stream_notice(s), "");
    stream_input_close(in);
    stream_tap_close(tap);
    live_end();
}
END_TEST

START_TEST(bad_chains)
{
    static const char *const bad[][2] = {
        {"[{'plugin': 'nothing'}]", "there is no plugin"},
        {"[{'plugin': '/tmp/x.so'}]", "is a path"},
        {"[{'plugin': 'good', 'values': {'amount': 99}}]", "amount"},
        {"[{'plugin': 'good', 'valeus': {}}]", "valeus"},
        {"[{'values': {}}]", "names no plugin"},
        {"{}", "list"},
        {"[1,2,3,4,5,6,7,8,9]", "9 plugins"},
    };
    stream *s = with_plugin(GOOD("{}"));
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        scope_error err = {0};
        json_t *j = parse(bad[i][0]);
        ck_assert_int_lt(stream_chain(s, j, &err), 0);
        ck_assert_msg(strstr(err.text, bad[i][1]) || strstr(err.field, bad[i][1]), "%s", err.text);
        json_decref(j);
    }
    ck_assert_int_eq(stream_links(s), 1);
    ck_assert_int_eq(fakes.opened, 1);
    live_end();
}
END_TEST

/* ---- values ---------------------------------------------------------------------------------- */

START_TEST(everybody_is_answered)
{
    stream *s = with_plugin(GOOD("{}"));
    scope_error err;
    for (int i = 1; i <= 20; i++)
        ck_assert_int_gt(set(s, 0, i % 2 ? "{'amount': 4}" : "{'amount': 5}", STREAM_REFUSE_RELOAD,
                             (uint64_t)i, &err),
                         0);
    UNTIL(times_heard("by page tag") == 20);
    for (int i = 1; i <= 20; i++) {
        char one[32];
        g_snprintf(one, sizeof one, "tag %d ok", i);
        ck_assert_int_eq(times_heard(one), 1);
    }
    for (int i = 0; i < 100; i++)
        set(s, 0, i % 2 ? "{'amount': 4}" : "{'amount': 6}", STREAM_REFUSE_RELOAD, 0, &err);
    UNTIL(heard("by page tag 0 ok {\"amount\":4"));
    ck_assert_int_lt(set(s, 0, "{'model': 'x'}", STREAM_REFUSE_RELOAD, 1, &err), 0);
    ck_assert_str_eq(err.field, "model");
    ck_assert_int_lt(set(s, 0, "{'amuont': 3}", STREAM_REFUSE_RELOAD, 1, &err), 0);
    ck_assert_msg(strstr(err.text, "amount"), "%s", err.text);
    ck_assert_int_lt(set(s, 1, "{'amount': 3}", STREAM_REFUSE_RELOAD, 1, &err), 0);
    live_end();
}
END_TEST

START_TEST(refused_values_go_back)
{
    stream *s = with_plugin(GOOD("{'amount': 2}"));
    scope_error err;
    ck_assert_int_gt(set(s, 0, "{'amount': 9}", STREAM_REFUSE_RELOAD, 3, &err), 0);
    UNTIL(heard("tag 3 9 does not suit this model {\"amount\":2"));
    json_t *values = stream_link_values(s, 0);
    ck_assert_int_eq(json_integer_value(json_object_get(values, "amount")), 2);
    json_decref(values);
    live_end();
}
END_TEST

START_TEST(in_force_with_the_next_frame)
{
    stream *s = with_plugin(GOOD("{'amount': 0}"));
    stream_tap *tap = look(s, &view);
    stream_input *in = publish(s);
    scope_error err;
    for (int i = 0; i < 50; i++) {
        char text[32];
        g_snprintf(text, sizeof text, "{'amount': %d}", i % 8);
        ck_assert_int_gt(set(s, 0, text, STREAM_REFUSE_RELOAD, 0, &err), 0);
        push(in, 100);
        UNTIL(seen(&view) == i + 1);
        ck_assert_int_eq(last_seen(&view), 100 + i % 8);
    }
    stream_input_close(in);
    stream_tap_close(tap);
    live_end();
}
END_TEST

/* ---- faults ---------------------------------------------------------------------------------- */

START_TEST(death)
{
    stream *s = with_plugin(GOOD("{'amount': 0}"));
    stream_tap *tap = look(s, &view);
    stream_input *in = publish(s);
    scope_error err;
    set(s, 0, "{'amount': 5}", STREAM_REFUSE_RELOAD, 0, &err);
    push(in, 10);
    UNTIL(last_seen(&view) == 15);
    fake_kill_all();
    UNTIL(heard("state degraded: good crashed (Segmentation fault); starting it again"));
    eyes late = {0};
    stream_tap *second = look(s, &late);
    ck_assert_int_eq(last_seen(&late), 15);
    push(in, 20);
    UNTIL(last_seen(&view) == 25); /* the frame that waited, with the values from before */
    ck_assert(times_heard("by load tag 0 ok {\"amount\":5") == 1);
    UNTIL(stream_state_now(s) == STREAM_ONLINE);
    stream_stats n;
    stream_stats_now(s, &n);
    ck_assert_int_eq(n.restarts, 1);
    ck_assert_str_eq(n.last_error, "good crashed (Segmentation fault)");
    stream_tap_close(second);
    stream_input_close(in);
    stream_tap_close(tap);
    live_end();
}
END_TEST

START_TEST(many_deaths)
{
    stream *s = with_plugin(GOOD("{'amount': 1}"));
    stream_tap *tap = look(s, &view);
    source from = {.in = publish(s), .step_us = 3000};
    GThread *t = g_thread_new("source", publish_on, &from);
    stream_stats n;
    for (int i = 0; i < 10; i++) {
        UNTIL(stream_state_now(s) == STREAM_ONLINE);
        fake_kill_all();
        UNTIL((stream_stats_now(s, &n), n.restarts == i + 1));
    }
    UNTIL(stream_state_now(s) == STREAM_ONLINE);
    int shown = seen(&view);
    UNTIL(seen(&view) > shown + 10);
    g_atomic_int_set(&from.stop, 1);
    g_thread_join(t);
    stream_input_close(from.in);
    stream_tap_close(tap);
    live_end();
}
END_TEST

START_TEST(failing_calls)
{
    stream *s = with_plugin(GOOD("{'amount': 1}"));
    stream_tap *tap = look(s, &view);
    stream_input *in = publish(s);
    scope_error err;
    push(in, 10);
    UNTIL(last_seen(&view) == 11);
    set(s, 0, "{'amount': 8}", STREAM_REFUSE_RELOAD, 0, &err);
    for (int i = 0; i < 3; i++) {
        stream_stats n;
        push(in, 10);
        UNTIL((stream_stats_now(s, &n), n.failed == i + 1));
    }
    UNTIL(stream_state_now(s) == STREAM_DEGRADED);
    ck_assert_str_eq(stream_notice(s), "8 is too much");
    set(s, 0, "{'amount': 2}", STREAM_REFUSE_RELOAD, 0, &err);
    push(in, 10);
    UNTIL(stream_state_now(s) == STREAM_ONLINE);
    UNTIL(last_seen(&view) == 12);
    stream_input_close(in);
    stream_tap_close(tap);
    live_end();
}
END_TEST

/* ---- who publishes, who is who --------------------------------------------------------------- */

static void count_replaced(void *ctx)
{
    ++*(int *)ctx;
}

START_TEST(newest_publisher_wins)
{
    int replaced = 0;
    stream *s = new_stream();
    stream_tap *tap = look(s, &view);
    stream_input_calls calls = {&replaced, count_replaced};
    stream_input *first = stream_input_open(s, "whip", "one", &calls);
    push(first, 1);
    stream_input *second = stream_input_open(s, "websocket", "two", &calls);
    ck_assert_int_eq(replaced, 1);
    push(first, 2);
    ck_assert_int_eq(last_seen(&view), 1);
    push(second, 3);
    ck_assert_int_eq(last_seen(&view), 3);
    stream_input_close(first);
    push(second, 4);
    ck_assert_int_eq(last_seen(&view), 4);
    json_t *all = stream_json(s);
    const json_t *source = json_object_get(all, "source");
    ck_assert_str_eq(json_string_value(json_object_get(source, "kind")), "websocket");
    ck_assert_str_eq(json_string_value(json_object_get(all, "state")), "empty");
    ck_assert_ptr_null(json_object_get(all, "publish_key"));
    json_decref(all);
    live_remove(on, s);
    ck_assert_int_eq(replaced, 2);
    push(second, 5); /* too late, and harmless */
    ck_assert_int_eq(last_seen(&view), 4);
    stream_input_close(second);
    stream_tap_close(tap);
    UNTIL(heard("ended"));
    live_end();
}
END_TEST

START_TEST(keys)
{
    stream *s = new_stream(), *t = new_stream();
    ck_assert_ptr_eq(live_find(on, STREAM_ID, stream_id(s)), s);
    ck_assert_ptr_eq(live_find(on, STREAM_PUBLISH, stream_publish_key(t)), t);
    ck_assert_ptr_eq(live_find(on, STREAM_PLAYBACK, stream_playback_id(s)), s);
    ck_assert_ptr_null(live_find(on, STREAM_PUBLISH, stream_playback_id(s)));
    ck_assert_ptr_null(live_find(on, STREAM_ID, ""));
    ck_assert_ptr_null(live_find(on, STREAM_ID, "str_"));
    ck_assert(g_str_has_prefix(stream_publish_key(s), "stk_"));
    ck_assert_int_eq((int)strlen(stream_publish_key(s)), 28);
    scope_error err;
    ck_assert_int_lt(stream_rename(s, "two\nlines", &err), 0);
    ck_assert_int_eq(stream_rename(s, "Kamera für vorne", &err), 0);
    ck_assert_str_eq(stream_name(s), "Kamera für vorne");
    live_end();
}
END_TEST

/* A stream that ends while frames are on their way, and everything of it. */
static void come_and_go(int i)
{
    stream *s = new_stream();
    chain(s, i % 3 ? GOOD("{'model': 'generator'}") : GOOD("{'model': 'slow'}"));
    stream_tap *tap = look(s, &view);
    source from = {.in = publish(s), .step_us = 200};
    GThread *t = g_thread_new("source", publish_on, &from);
    run_for(i % 7);
    live_remove(on, s);
    g_atomic_int_set(&from.stop, 1);
    g_thread_join(t);
    stream_input_close(from.in);
    stream_tap_close(tap);
    run_for(1);
}

START_TEST(two_hundred)
{
    for (int i = 0; i < 20; i++)
        come_and_go(i);
    int fds = entries("/proc/self/fd"), threads = entries("/proc/self/task");
    for (int i = 0; i < 200; i++)
        come_and_go(i);
    ck_assert_int_eq(live_count(on), 0);
    ck_assert_int_le(entries("/proc/self/fd"), fds);
    UNTIL(entries("/proc/self/task") <= threads); /* a joined thread may be seen for a moment */
    ck_assert_int_eq(fake_count(), 0);
    live_end();
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--scan"))
        return registry_scan_child(argv[2]);
    faulty_build(".", "good");
    Suite *s = suite_create("stream");
    TCase *c = tcase_create("stream");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, setup, NULL);
    const TTest *const tests[] = {
        source_as_it_is,
        newest_wins,
        age_is_bounded,
        generator,
        exchange,
        failed_load_keeps_the_old,
        no_room_for_both,
        no_room_at_all,
        first_load_fails,
        bad_chains,
        death,
        everybody_is_answered,
        refused_values_go_back,
        many_deaths,
        failing_calls,
        in_force_with_the_next_frame,
        keys,
        newest_publisher_wins,
        two_hundred,
    };
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        tcase_add_test(c, tests[i]);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
