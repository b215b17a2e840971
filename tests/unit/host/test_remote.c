/* test_remote.c - instances in other processes: frames and values go round, and what is closed
 * leaves nothing behind.
 */
#include "remote_fixture.h"

#include <dirent.h>
#include <sys/wait.h>

/* ---- round trips ----------------------------------------------------------------------------- */

START_TEST(frames_and_values)
{
    player p;
    begin(&(remotes_options){0});
    player_open(&p, faulty_path("good"), json_pack("{si}", "amount", 4));
    AWAIT(&p, readies, 1);
    ck_assert_int_eq(p.want.t, 1);
    ck_assert_int_eq(p.want.dtype, SCOPE_U8);
    ck_assert_int_eq(p.amount, 4);
    ck_assert_int_eq(p.generation, 1);
    ck_assert_int_gt(remote_pid(p.r), 0);
    ck_assert_int_eq(trip(&p, 64, 48, 10), 14);
    ck_assert_int_eq(p.w, 64);
    ck_assert_int_eq(p.h, 48);
    ck_assert_int_eq(p.pts_us, 123456);
    ck_assert_int_eq(p.duration_us, 33333);
    ck_assert(p.cost.trip_ms > 0 && p.cost.process_ms >= 0 && p.cost.process_ms < p.cost.trip_ms);
    ck_assert_int_eq(p.cost.latency, -1);
    set_amount(&p, 9);
    ck_assert_int_eq(p.amount, 9);
    ck_assert_int_eq(trip(&p, 64, 48, 10), 19);
    static const int sizes[][2] = {{1, 1}, {17, 5}, {512, 512}, {1280, 720}, {64, 64}, {333, 77}};
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        ck_assert_int_eq(trip(&p, sizes[i][0], sizes[i][1], 20 + (int)i), 29 + (int)i);
        ck_assert_int_eq(p.w, sizes[i][0]);
        ck_assert_int_eq(p.h, sizes[i][1]);
    }
    remote_reset(p.r);
    ck_assert_int_eq(trip(&p, 17, 5, 1), 10);
    player_close(&p);
    end();
}
END_TEST

/* One at a time: what is sent before the answer is refused, and the latest values win. */
START_TEST(one_at_a_time)
{
    player p;
    begin(&(remotes_options){0});
    player_open(&p, faulty_path("good"), NULL);
    ck_assert(!send_size(&p, 8, 8, 1)); /* not ready */
    AWAIT(&p, readies, 1);
    kill(remote_pid(p.r), SIGSTOP);
    ck_assert(send_size(&p, 8, 8, 1));
    ck_assert(!send_size(&p, 8, 8, 2));
    uint64_t last = 0;
    for (int i = 0; i < 1000; i++) {
        json_t *values = amount(i % 10);
        last = remote_set(p.r, values);
        json_decref(values);
    }
    ck_assert_int_eq(last, 1001);
    kill(remote_pid(p.r), SIGCONT);
    AWAIT(&p, results, 1);
    int64_t end_us = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;
    for (uint64_t now = 0; now != last; g_usleep(1000)) {
        ck_assert(g_get_monotonic_time() < end_us);
        g_mutex_lock(&p.lock);
        now = p.generation;
        g_mutex_unlock(&p.lock);
    }
    ck_assert_int_lt(p.answers, 20);
    ck_assert_int_eq(p.amount, 9);
    ck_assert_int_eq(trip(&p, 8, 8, 1), 10);
    player_close(&p);
    end();
}
END_TEST

START_TEST(sharing)
{
    player p[4];
    begin(&(remotes_options){0});
    player_open(&p[0], faulty_path("good"), amount(1));
    player_open(&p[1], faulty_path("good"), amount(2));
    player_open(&p[2], faulty_path("good"), json_pack("{ss}", "model", "other"));
    player_open(&p[3], BUILD_DIR "/plugins/passthrough.so", NULL);
    for (int i = 0; i < 4; i++)
        AWAIT(&p[i], readies, 1);
    ck_assert_int_eq(remote_pid(p[0].r), remote_pid(p[1].r));
    ck_assert_int_ne(remote_pid(p[0].r), remote_pid(p[2].r));
    ck_assert_int_ne(remote_pid(p[0].r), remote_pid(p[3].r));
    remotes_about about[4];
    ck_assert_int_eq(remotes_about_all(all, about, 4), 3);
    ck_assert_str_eq(about[0].plugin, "org.test.good");
    ck_assert_int_eq(about[0].instances, 2);
    ck_assert_int_eq(about[0].pid, remote_pid(p[0].r));
    ck_assert_int_gt(about[0].rss_bytes, 1 << 20);
    ck_assert_int_eq(about[0].restarts, 0);
    static const int made[] = {51, 52, 53, 50};
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(trip(&p[i], 16, 16, 50), made[i]);
    player_close(&p[0]);
    ck_assert_int_eq(trip(&p[1], 16, 16, 60), 62); /* undisturbed */
    for (int i = 1; i < 4; i++)
        player_close(&p[i]);
    end();
}
END_TEST

/* Sizes, channels and types are the worker's matter: what comes out is U8 with three channels. */
START_TEST(other_kinds)
{
    player p;
    begin(&(remotes_options){0});
    player_open(&p, faulty_path("fixed_size"), NULL);
    AWAIT(&p, readies, 1);
    ck_assert_int_eq(p.want.w, 40);
    ck_assert_int_eq(trip(&p, 200, 100, 70), 73);
    ck_assert_int_eq(p.w, 40);
    ck_assert_int_eq(p.h, 24);
    player_close(&p);
    player_open(&p, faulty_path("generator"), NULL);
    AWAIT(&p, readies, 1);
    ck_assert_int_eq(p.want.t, 0);
    ck_assert(remote_process(p.r, NULL, 5000, 1000));
    AWAIT(&p, results, 1);
    ck_assert_int_eq(p.byte, 8); /* 5 ms, and 3 */
    ck_assert_int_eq(p.pts_us, 5000);
    player_close(&p);
    player_open(&p, faulty_path("returns_nan"), NULL);
    AWAIT(&p, readies, 1);
    ck_assert_int_eq(trip(&p, 20, 20, 70), 0);
    player_close(&p);
    player_open(&p, faulty_path("late_batch"), NULL); /* two at a time */
    AWAIT(&p, readies, 1);
    ck_assert_int_eq(trip(&p, 16, 16, 10), -1);
    ck_assert_int_eq(p.empties, 1);
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(trip(&p, 16, 16, 20), i < 4 ? 10 : 20); /* three late */
    ck_assert_int_eq(p.empties, 1);
    player_close(&p);
    end();
}
END_TEST

START_TEST(second_input)
{
    player p;
    begin(&(remotes_options){0});
    player_open(&p, faulty_path("takes_extra"), NULL);
    AWAIT(&p, readies, 1);
    frame *extra = make_frame(4, 4, 1, 20, 0);
    ck_assert_int_eq(trip(&p, 8, 8, 10), 13);
    remote_set_input(p.r, "extra", extra);
    ck_assert_int_eq(trip(&p, 8, 8, 10), 33);
    kill(remote_pid(p.r), SIGKILL); /* it is there after a restart, too */
    AWAIT(&p, readies, 2);
    ck_assert_int_eq(trip(&p, 8, 8, 10), 33);
    remote_set_input(p.r, "extra", NULL);
    ck_assert_int_eq(trip(&p, 8, 8, 10), 13);
    remote_set_input(p.r, "nothing of the kind", extra);
    ck_assert_int_eq(trip(&p, 8, 8, 10), 13);
    frame_unref(extra);
    player_close(&p);
    end();
}
END_TEST

/* ---- what a trip costs ----------------------------------------------------------------------- */

START_TEST(latency)
{
    enum { TRIPS = 300 };
    double ms[TRIPS];
    player p;
    begin(&(remotes_options){0});
    player_open(&p, BUILD_DIR "/plugins/passthrough.so", NULL);
    AWAIT(&p, readies, 1);
    for (int i = 0; i < TRIPS; i++) {
        ck_assert_int_eq(trip(&p, 512, 512, i % 256), i % 256);
        ms[i] = p.cost.trip_ms;
        g_usleep(2000);
    }
    qsort(ms, TRIPS, sizeof *ms, by_size);
    printf("a frame of 512 x 512 there and back: p50 %.3f ms, p95 %.3f ms\n", ms[TRIPS / 2],
           ms[TRIPS * 95 / 100]);
    ck_assert(ms[0] < 20);
    player_close(&p);
    end();
}
END_TEST

/* ---- closing --------------------------------------------------------------------------------- */

static bool is_gone(int pid, int64_t until_us)
{
    remotes_about about;
    while (kill(pid, 0) == 0 || remotes_about_all(all, &about, 1) > 0) {
        if (g_get_monotonic_time() > until_us)
            return false;
        g_main_context_iteration(NULL, FALSE);
        g_usleep(1000);
    }
    return true;
}

/* Who asks whether it is cancelled ends soon, who does not is ended; nobody waits for either. */
START_TEST(close_while_loading)
{
    static const char *const faults[] = {"loads_slowly", "hangs_in_init"};
    player p;
    begin(&(remotes_options){0});
    player_open(&p, faulty_path(faults[_i]), NULL);
    AWAIT(&p, steps, 1);
    ck_assert(p.progress >= 0 && p.progress <= 1);
    int pid = remote_pid(p.r);
    int64_t start_us = g_get_monotonic_time();
    player_close(&p);
    ck_assert_int_lt(g_get_monotonic_time() - start_us, G_USEC_PER_SEC);
    ck_assert(is_gone(pid, start_us + 30 * G_USEC_PER_SEC));
    bool killed = g_get_monotonic_time() - start_us >= 2 * G_USEC_PER_SEC;
    ck_assert_int_eq(killed, _i == 1);
    end();
}
END_TEST

/* Closed before anything has come of it, and opened again while the old process is on its way out.
 */
START_TEST(close_at_once)
{
    player p;
    begin(&(remotes_options){0});
    for (int i = 0; i < 10; i++) {
        player_open(&p, faulty_path("good"), NULL);
        player_close(&p);
        for (int step = 0; step < i; step++)
            g_main_context_iteration(NULL, FALSE), g_usleep(1000);
    }
    player_open(&p, faulty_path("good"), NULL);
    AWAIT(&p, readies, 1);
    ck_assert_int_eq(trip(&p, 8, 8, 1), 4);
    ck_assert_int_eq(p.downs, 0);
    player_close(&p);
    end();
}
END_TEST

static int entries(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* Nothing is left: descriptors, threads, processes, frames. */
START_TEST(nothing_left)
{
    int fds = 0, threads = 0;
    for (int round = 0; round < 6; round++) {
        player p[3];
        begin(&(remotes_options){0});
        player_open(&p[0], faulty_path("good"), amount(1));
        player_open(&p[1], faulty_path("good"), amount(2));
        player_open(&p[2], faulty_path("crashes_in_process"), NULL);
        for (int i = 0; i < 3; i++)
            AWAIT(&p[i], readies, 1);
        ck_assert_int_eq(trip(&p[0], 300, 200, 1), 2);
        ck_assert_int_eq(trip(&p[0], 30, 20, 1), 2);
        ck_assert_int_eq(trip(&p[1], 30, 20, 1), 3);
        send_size(&p[2], 17, 17, 1);
        AWAIT(&p[2], downs, 1);
        if (round % 2)
            AWAIT(&p[2], readies, 2);
        for (int i = 0; i < 3; i++)
            player_close(&p[i]);
        end();
        ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* no child at all */
        if (round == 0) {
            fds = entries("/proc/self/fd");
            threads = entries("/proc/self/task");
        }
        ck_assert_int_eq(entries("/proc/self/fd"), fds);
        ck_assert_int_eq(entries("/proc/self/task"), threads);
    }
}
END_TEST

/* ---- all at once ----------------------------------------------------------------------------- */

typedef struct busy {
    player p;
    GThread *thread;
    bool stop; /* atomic */
} busy;

/* Whatever may be called from any thread, in no order. */
static gpointer be_busy(gpointer ctx)
{
    busy *b = ctx;
    GRand *random = g_rand_new_with_seed((guint32)GPOINTER_TO_SIZE(ctx));
    frame *extra = make_frame(16, 16, 3, 9, 0);
    while (!__atomic_load_n(&b->stop, __ATOMIC_RELAXED)) {
        json_t *values = amount(g_rand_int_range(random, 0, 10));
        switch (g_rand_int_range(random, 0, 12)) {
        case 0:
            remote_set(b->p.r, values);
            break;
        case 1:
            remote_reset(b->p.r);
            break;
        case 2:
            remote_set_input(b->p.r, "extra", g_rand_boolean(random) ? extra : NULL);
            break;
        case 3:
            remote_pid(b->p.r);
            break;
        default:
            send_size(&b->p, g_rand_int_range(random, 1, 200), g_rand_int_range(random, 1, 200), 1);
            g_usleep(200);
        }
        json_decref(values);
    }
    frame_unref(extra);
    g_rand_free(random);
    return NULL;
}

static void busy_open(busy *b, const char *fault)
{
    *b = (busy){.stop = false};
    player_open(&b->p, faulty_path(fault), NULL);
    b->thread = g_thread_new("busy", be_busy, b);
}

static void busy_close(busy *b)
{
    __atomic_store_n(&b->stop, true, __ATOMIC_RELAXED);
    g_thread_join(b->thread);
    player_close(&b->p);
}

/* Opened, fed, killed and closed from all sides: nothing is stuck, nothing is left. */
START_TEST(all_at_once)
{
    enum { PLAYERS = 5, ROUNDS = 60 };
    static const char *const faults[] = {"good", "takes_extra", "fails_tenth", "good",
                                         "crashes_in_process"};
    busy b[PLAYERS];
    begin(&(remotes_options){0});
    for (int i = 0; i < PLAYERS; i++)
        busy_open(&b[i], faults[i]);
    GRand *random = g_rand_new_with_seed(1);
    for (int round = 0; round < ROUNDS; round++) {
        int i = g_rand_int_range(random, 0, PLAYERS), pid = remote_pid(b[i].p.r);
        int what = g_rand_int_range(random, 0, 3);
        if (what == 0 && pid > 0) {
            kill(pid, SIGKILL);
        } else if (what == 1) {
            busy_close(&b[i]);
            busy_open(&b[i], faults[i]);
        } else {
            remote_retry(b[i].p.r);
        }
        int64_t until = g_get_monotonic_time() + 30 * 1000;
        while (g_get_monotonic_time() < until)
            g_main_context_iteration(NULL, FALSE), g_usleep(1000);
    }
    for (int i = 0; i < PLAYERS - 1; i++) { /* all but the one that crashes: it works in the end */
        int before = get(&b[i].p, &b[i].p.results);
        AWAIT(&b[i].p, results, before + 20);
    }
    g_rand_free(random);
    for (int i = 0; i < PLAYERS; i++)
        busy_close(&b[i]);
    end();
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}
END_TEST

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    faulty_build(".", "good fixed_size generator returns_nan late_batch takes_extra fails_tenth "
                      "loads_slowly hangs_in_init crashes_in_process");
    Suite *suite = suite_create("remote");
    TCase *trips = tcase_create("trips"), *closing = tcase_create("closing");
    tcase_set_timeout(trips, 120);
    tcase_set_timeout(closing, 120);
    tcase_add_test(trips, frames_and_values);
    tcase_add_test(trips, one_at_a_time);
    tcase_add_test(trips, sharing);
    tcase_add_test(trips, other_kinds);
    tcase_add_test(trips, second_input);
    tcase_add_test(trips, latency);
    tcase_add_loop_test(closing, close_while_loading, 0, 2);
    tcase_add_test(closing, close_at_once);
    tcase_add_test(closing, nothing_left);
    tcase_add_test(closing, all_at_once);
    suite_add_tcase(suite, trips);
    suite_add_tcase(suite, closing);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
