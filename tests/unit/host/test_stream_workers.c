/* test_stream_workers.c - streams over real worker processes that are killed, hang and are shared.
 */
#include "live_fixture.h"
#include "host/log.h"
#include "host/registry.h"

#include <signal.h>

static eyes view;

static void setup(void)
{
    memset(&view, 0, sizeof view);
    log_open(false, SCOPE_ERROR + 1); /* deaths are what is tested here */
    live_begin(faulty_folder());
}

static void none_replaced(void *ctx)
{
    (void)ctx;
}

/* A stream with a plugin, and a camera at 100 frames a second. */
typedef struct show {
    stream *s;
    stream_input *in;
    stream_tap *tap;
    eyes eyes;
    GThread *thread;
    gint stop;
    int pushed, w, step_us;
} show;

static gpointer camera(gpointer p)
{
    show *x = p;
    while (!g_atomic_int_get(&x->stop)) {
        frame *f = picture(10, x->w, x->w, 3);
        stream_input_frame(x->in, f);
        frame_unref(f);
        g_atomic_int_inc(&x->pushed);
        g_usleep((gulong)x->step_us);
    }
    return NULL;
}

static void begin(show *x, const char *plugins)
{
    x->s = new_stream();
    x->w = x->w ? x->w : 8;
    x->step_us = x->step_us ? x->step_us : 10000;
    chain(x->s, plugins);
    x->tap = look(x->s, &x->eyes);
    x->in = stream_input_open(x->s, "test", "", &(stream_input_calls){.replaced = none_replaced});
    x->thread = g_thread_new("camera", camera, x);
}

static void stop(show *x)
{
    g_atomic_int_set(&x->stop, 1);
    g_thread_join(x->thread);
}

static void end(show *x)
{
    if (!g_atomic_int_get(&x->stop))
        stop(x);
    live_remove(on, x->s);
    stream_input_close(x->in);
    stream_tap_close(x->tap);
}

static int worker_pid(const char *plugin)
{
    remotes_about about[16];
    int n = remotes_about_all(live_remotes(on), about, 16);
    for (int i = 0; i < MIN(n, 16); i++) {
        if (!strcmp(about[i].plugin, plugin))
            return about[i].pid;
    }
    return 0;
}

START_TEST(killed_twenty_times)
{
    show a = {0}, b = {0};
    begin(&a, "[{'plugin': 'good', 'values': {'amount': 1}}]");
    begin(&b, "[{'plugin': 'fixed_size', 'values': {'amount': 2}}]");
    UNTIL(last_seen(&a.eyes) == 11 && last_seen(&b.eyes) == 12);
    ck_assert_int_eq(b.eyes.w, 40); /* put into the size that the plugin wants */
    scope_error err;
    set(a.s, 0, "{'amount': 5}", STREAM_REFUSE_RELOAD, 0, &err);
    UNTIL(last_seen(&a.eyes) == 15);
    for (int i = 0; i < 20; i++) {
        int before = seen(&a.eyes), pid = worker_pid("org.test.good");
        stream_stats n;
        ck_assert_int_gt(pid, 0);
        ck_assert_int_eq(kill(pid, SIGKILL), 0);
        UNTIL((stream_stats_now(a.s, &n), n.restarts == i + 1));
        UNTIL(stream_state_now(a.s) == STREAM_ONLINE && seen(&a.eyes) > before + 3);
        ck_assert_int_eq(last_seen(&a.eyes), 15); /* with the values that it had */
    }
    stream_stats n;
    stream_stats_now(b.s, &n);
    ck_assert_int_eq(n.restarts, 0);
    ck_assert_int_eq(n.failed, 0);
    ck_assert_int_eq(times_heard("state degraded"), 20); /* all of them of the other one */
    end(&a);
    end(&b);
    live_end();
}
END_TEST

START_TEST(a_hang)
{
    show a = {0};
    scope_error err;
    begin(&a, "[{'plugin': 'hangs_at_nine', 'values': {'amount': 1}}]");
    UNTIL(last_seen(&a.eyes) == 11);
    UNTIL(seen(&a.eyes) > 5); /* its first frames may take longer */
    set(a.s, 0, "{'amount': 9}", STREAM_REFUSE_RELOAD, 3, &err);
    UNTIL(heard("state degraded"));
    int n = seen(&a.eyes);
    UNTIL(seen(&a.eyes) > n + 2); /* the last frame, again and again */
    set(a.s, 0, "{'amount': 2}", STREAM_REFUSE_RELOAD, 4, &err);
    UNTIL(last_seen(&a.eyes) == 12);
    UNTIL(heard("tag 3") && heard("tag 4"));
    UNTIL(stream_state_now(a.s) == STREAM_ONLINE);
    end(&a);
    live_end();
}
END_TEST

START_TEST(a_swap_misses_nothing)
{
    show a = {.step_us = 20000};
    begin(&a, "[{'plugin': 'good', 'values': {'amount': 1}}]");
    UNTIL(seen(&a.eyes) >= 10);
    chain(a.s, "[{'plugin': 'loads_late', 'values': {'amount': 2}}, {'plugin': 'good', "
               "'values': {'amount': 4}}]");
    UNTIL(last_seen(&a.eyes) == 16);
    int n = seen(&a.eyes);
    UNTIL(seen(&a.eyes) > n + 10);
    stop(&a);
    stream_stats st;
    UNTIL((stream_stats_now(a.s, &st), st.frames_out + st.dropped == a.pushed));
    bool changed = false;
    for (int i = 0; i < a.eyes.count; i++) {
        changed |= a.eyes.first[i] == 16;
        ck_assert_int_eq(a.eyes.first[i], changed ? 16 : 11);
        ck_assert(i == 0 || a.eyes.pts_us[i] > a.eyes.pts_us[i - 1]);
    }
    ck_assert(heard("values 0 by load tag 0 ok"));
    ck_assert_int_eq(times_heard("state degraded"), 0);
    end(&a);
    live_end();
}
END_TEST

START_TEST(one_worker_for_all)
{
    show a[4] = {0};
    scope_error err;
    for (int i = 0; i < 4; i++)
        begin(&a[i], "[{'plugin': 'good', 'values': {'amount': 1}}]");
    for (int i = 0; i < 4; i++)
        UNTIL(last_seen(&a[i].eyes) == 11);
    remotes_about about[4];
    ck_assert_int_eq(remotes_about_all(live_remotes(on), about, 4), 1);
    ck_assert_int_eq(about[0].instances, 4);
    set(a[1].s, 0, "{'amount': 7}", STREAM_REFUSE_RELOAD, 0, &err);
    UNTIL(last_seen(&a[1].eyes) == 17);
    ck_assert_int_eq(last_seen(&a[0].eyes), 11);
    ck_assert_int_eq(set(a[2].s, 0, "{'model': 'x'}", STREAM_RELOAD, 9, &err), 0);
    UNTIL(heard("tag 9 ok"));
    ck_assert_int_eq(remotes_about_all(live_remotes(on), about, 4), 2);
    for (int i = 0; i < 4; i++)
        end(&a[i]);
    live_end();
}
END_TEST

START_TEST(every_tenth_fails)
{
    show a = {0};
    begin(&a, "[{'plugin': 'fails_tenth'}]");
    stream_stats n;
    UNTIL((stream_stats_now(a.s, &n), n.failed >= 3));
    ck_assert_int_ge((int)n.frames_out, 27);
    ck_assert_str_eq(n.last_error, "the tenth frame is one too many");
    ck_assert_int_eq(times_heard("degraded"), 0);
    end(&a);
    live_end();
}
END_TEST

/* Frames of a second input reach the plugin, and its successor after a change. */
START_TEST(second_inputs)
{
    show a = {0};
    scope_error err;
    begin(&a, "[{'plugin': 'takes_extra', 'values': {'amount': 1}}]");
    UNTIL(last_seen(&a.eyes) == 11);
    frame *f = picture(50, 4, 4, 3);
    ck_assert_int_eq(stream_second_input(a.s, "extra", f, &err), 0);
    frame_unref(f);
    UNTIL(last_seen(&a.eyes) == 61);
    set(a.s, 0, "{'model': 'x'}", STREAM_RELOAD, 9, &err);
    UNTIL(heard("tag 9 ok"));
    UNTIL(last_seen(&a.eyes) == 61);
    ck_assert_int_eq(stream_second_input(a.s, "extra", NULL, &err), 0);
    UNTIL(last_seen(&a.eyes) == 11);
    ck_assert_int_lt(stream_second_input(a.s, "extra", NULL, &err), 0);
    end(&a);
    live_end();
}
END_TEST

static void come_and_go(int i)
{
    show a = {.step_us = 1000};
    begin(&a, i % 2 ? "[{'plugin': 'good'}]" : "[{'plugin': 'generator'}, {'plugin': 'good'}]");
    if (i % 4 < 2)
        UNTIL(seen(&a.eyes) >= 2); /* else it ends while it loads */
    end(&a);
}

START_TEST(many_come_and_go)
{
    enum { MANY = 40 };
    remotes_about about[8];
    for (int i = 0; i < 8; i++)
        come_and_go(i);
    UNTIL(!remotes_about_all(live_remotes(on), about, 8));
    int fds = entries("/proc/self/fd"), threads = entries("/proc/self/task");
    for (int i = 0; i < MANY; i++)
        come_and_go(i);
    UNTIL(!remotes_about_all(live_remotes(on), about, 8));
    UNTIL(entries("/proc/self/task") <= threads);
    ck_assert_int_le(entries("/proc/self/fd"), fds);
    live_end();
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--scan"))
        return registry_scan_child(argv[2]);
    faulty_build(".", "good fixed_size hangs_at_nine loads_late fails_tenth takes_extra generator");
    Suite *s = suite_create("stream over workers");
    TCase *c = tcase_create("workers");
    tcase_set_timeout(c, 180);
    tcase_add_checked_fixture(c, setup, NULL);
    const TTest *const tests[] = {
        killed_twenty_times, a_hang,        a_swap_misses_nothing, one_worker_for_all,
        every_tenth_fails,   second_inputs, many_come_and_go,
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
