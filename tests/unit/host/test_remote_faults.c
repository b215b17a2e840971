/* test_remote_faults.c - instances in other processes that die, hang, fail and grow: whatever
 * happens to a process is told and mended.
 */
#include "remote_fixture.h"

START_TEST(killed)
{
    enum { TIMES = 20 };
    player p;
    double took_s[TIMES];
    begin(&(remotes_options){0});
    player_open(&p, faulty_path("good"), NULL);
    AWAIT(&p, readies, 1);
    set_amount(&p, 7);
    for (int i = 1; i <= TIMES; i++) {
        ck_assert_int_eq(trip(&p, 64, 64, 10), 17);
        send_size(&p, 64, 64, 11);
        int64_t start = g_get_monotonic_time();
        kill(remote_pid(p.r), SIGKILL);
        AWAIT(&p, downs, i);
        ck_assert_str_eq(p.fault.err.text, "good was killed from outside; did memory run out?");
        ck_assert_int_gt(p.fault.retry_ms, 0);
        AWAIT(&p, readies, i + 1);
        ck_assert_int_eq(p.amount, 7);
        ck_assert_int_eq(p.generation, 2);
        ck_assert_int_eq(trip(&p, 64, 64, 12), 19);
        took_s[i - 1] = (double)(g_get_monotonic_time() - start) * 1e-6;
    }
    qsort(took_s, TIMES, sizeof *took_s, by_size);
    printf("killed %d times: back after %.2f s, %.2f s at worst\n", TIMES, took_s[TIMES / 2],
           took_s[TIMES - 1]);
    ck_assert(took_s[TIMES - 3] < 2); /* others may have had the processors twice */
    player_close(&p);
    end();
}
END_TEST

static const struct {
    const char *fault, *words;
    int w;
} deaths[] = {
    {"crashes_in_process", "crashes_in_process crashed (Segmentation fault)", 17},
    {"aborts_in_process", "aborts_in_process crashed (Aborted)", 8},
    {"exits_in_process", "exits_in_process exited by itself (code 0)", 8},
    {"hangs_in_process", "hangs_in_process did not answer for 1 s", 8},
    {"overruns", "overruns wrote past the end of its frame", 17},
    {"overruns", "overruns wrote past the end of its frame", 512},
    {"underruns", "underruns wrote before the start of its frame", 17},
    {"writes_input", "writes_input wrote to its input, which is the host's", 32},
    {"loses_device", "loses_device: the device is gone", 32},
};

/* A change of size may take as long as the first frame. */
START_TEST(replans)
{
    player p;
    begin(&(remotes_options){.frame_limit_ms = 1500, .first_limit_ms = 60000});
    player_open(&p, faulty_path("replans"), NULL);
    AWAIT(&p, readies, 1);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(trip(&p, 16, 16, 7), 7);
    json_t *values = json_pack("{si}", "width", 100);
    remote_set(p.r, values);
    json_decref(values);
    ck_assert_int_eq(trip(&p, 16, 16, 7), 7);
    ck_assert_int_eq(p.downs, 0);
    player_close(&p);
    end();
}
END_TEST

/* Whatever ends the process is told in words; it comes back, and another worker never notices. */
START_TEST(death)
{
    player p, other;
    bool hangs = strstr(deaths[_i].words, "answer") != NULL;
    int limit_ms = hangs ? 1000 : 0; /* the usual one is far off */
    begin(&(remotes_options){.frame_limit_ms = limit_ms, .first_limit_ms = limit_ms});
    player_open(&other, faulty_path("good"), NULL);
    player_open(&p, faulty_path(deaths[_i].fault), NULL);
    AWAIT(&p, readies, 1);
    AWAIT(&other, readies, 1);
    int pid = remote_pid(p.r);
    ck_assert(send_size(&p, deaths[_i].w, deaths[_i].w, 1));
    AWAIT(&p, downs, 1);
    ck_assert_msg(g_str_has_prefix(p.fault.err.text, deaths[_i].words), "%s", p.fault.err.text);
    ck_assert_int_eq(p.fault.err.status, SCOPE_EDEVICE);
    ck_assert_int_eq(p.fault.retry_ms, 100);
    AWAIT(&p, readies, 2);
    ck_assert_int_ne(remote_pid(p.r), pid);
    ck_assert_int_eq(kill(pid, 0), -1); /* not even a zombie */
    remotes_about about[2];
    ck_assert_int_eq(remotes_about_all(all, about, 2), 2);
    ck_assert_int_eq(about[1].restarts, 1);
    ck_assert_str_eq(about[1].last_fault, p.fault.err.text);
    ck_assert_int_eq(trip(&other, 16, 16, 5), 8);
    ck_assert_int_eq(other.downs, 0);
    player_close(&p);
    player_close(&other);
    end();
}
END_TEST

/* Who shares a worker shares its death, and its return. */
START_TEST(death_of_two)
{
    player p[2];
    begin(&(remotes_options){.frame_limit_ms = 1000, .first_limit_ms = 1000});
    for (int i = 0; i < 2; i++)
        player_open(&p[i], faulty_path("hangs_at_nine"), amount(i));
    for (int i = 0; i < 2; i++) {
        AWAIT(&p[i], readies, 1);
        ck_assert_int_eq(trip(&p[i], 16, 16, 5), 5 + i);
    }
    json_t *nine = amount(9);
    remote_set(p[0].r, nine);
    json_decref(nine);
    send_size(&p[0], 16, 16, 5);
    for (int i = 0; i < 2; i++) {
        AWAIT(&p[i], downs, 1);
        AWAIT(&p[i], readies, 2);
    }
    ck_assert_int_eq(remote_pid(p[0].r), remote_pid(p[1].r));
    ck_assert_int_eq(trip(&p[1], 16, 16, 5), 6);
    for (int i = 0; i < 2; i++)
        player_close(&p[i]);
    end();
}
END_TEST

START_TEST(back_off)
{
    player p;
    begin(&(remotes_options){0});
    player_open(&p, faulty_path("crashes_in_init"), NULL);
    static const int ladder[] = {100, 300, 1000, 3000};
    for (int i = 0; i < 4; i++) {
        AWAIT(&p, downs, i + 1);
        ck_assert_int_eq(p.retries_ms[i], ladder[i]);
    }
    remote_retry(p.r); /* does not wait for that */
    ck_assert(await(&p, &p.downs, 5, 2.8));
    player_close(&p);
    end();
}
END_TEST

/* Memory that grows costs the worker, nobody else. */
START_TEST(memory)
{
    player p;
    begin(&(remotes_options){.memory_bytes = 200 << 20});
    player_open(&p, faulty_path("leaks_much"), NULL);
    AWAIT(&p, readies, 1);
    int64_t end_us = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;
    for (int i = 0; !get(&p, &p.downs); i++) {
        ck_assert(g_get_monotonic_time() < end_us);
        send_size(&p, 16, 16, 1);
        g_usleep(10000);
    }
    ck_assert_msg(strstr(p.fault.err.text, "MB of memory; its limit is 200 MB") != NULL, "%s",
                  p.fault.err.text);
    AWAIT(&p, readies, 2);
    ck_assert_int_eq(trip(&p, 16, 16, 1), 4);
    player_close(&p);
    end();
}
END_TEST

/* Failures that are no deaths: the frame is lost, the instance goes on. */
START_TEST(failing)
{
    player p;
    begin(&(remotes_options){0});
    player_open(&p, faulty_path("fails_tenth"), NULL);
    AWAIT(&p, readies, 1);
    for (int i = 0; i < 30; i++)
        ck_assert_int_eq(trip(&p, 16, 16, 1), i % 10 == 9 ? -1 : 4);
    ck_assert_int_eq(p.errors, 3);
    ck_assert_str_eq(p.error.field, "amount");
    ck_assert_str_eq(p.error.text, "the tenth frame is one too many");
    ck_assert_int_eq(p.downs, 0);
    player_close(&p);
    player_open(&p, faulty_path("emits_nothing"), NULL);
    AWAIT(&p, readies, 1);
    ck_assert_int_eq(trip(&p, 16, 16, 1), -1);
    ck_assert_int_eq(p.empties, 1);
    player_close(&p);
    player_open(&p, faulty_path("prints"), NULL);
    AWAIT(&p, readies, 1);
    ck_assert_int_eq(trip(&p, 16, 16, 1), 4);
    kill(remote_pid(p.r), SIGILL);
    AWAIT(&p, downs, 1);
    ck_assert_str_eq(p.fault.err.text,
                     "prints crashed (Illegal instruction); it last said: frame 0");
    player_close(&p);
    end();
}
END_TEST

START_TEST(bad_init)
{
    player p;
    begin(&(remotes_options){0});
    player_open(&p, faulty_path("needs_weights"), NULL);
    AWAIT(&p, downs, 1);
    ck_assert_int_eq(p.fault.retry_ms, -1);
    ck_assert_int_eq(p.fault.err.status, SCOPE_EIO);
    ck_assert_str_eq(p.fault.err.text, "no weights; set model");
    remote_retry(p.r);
    AWAIT(&p, downs, 2);
    ck_assert_int_eq(p.fault.retry_ms, -1);
    player_close(&p);
    scope_error err = {0};
    player_open(&p, faulty_path("good"), NULL);
    json_t *bad = json_pack("{si}", "amount", 77);
    remote_plugin plugin = {faulty_path("good"), "org.test.good", p.schema, false, 0};
    ck_assert(!remote_open(all, &plugin, bad, &(remote_calls){0}, &err));
    ck_assert_str_eq(err.field, "amount");
    json_decref(bad);
    player_close(&p);
    end();
}
END_TEST

/* One instance that fails to start leaves the other alone; it waits for other values. */
START_TEST(bad_init_of_one)
{
    player p[2];
    remotes_about about;
    begin(&(remotes_options){0});
    player_open(&p[0], faulty_path("fails_at_nine"), amount(1));
    player_open(&p[1], faulty_path("fails_at_nine"), amount(9));
    AWAIT(&p[0], readies, 1);
    AWAIT(&p[1], downs, 1);
    ck_assert_int_eq(p[1].fault.retry_ms, -1);
    ck_assert_str_eq(p[1].fault.err.field, "amount");
    ck_assert(!send_size(&p[1], 8, 8, 1));
    ck_assert_int_eq(trip(&p[0], 8, 8, 1), 2);
    json_t *two = amount(2);
    ck_assert_int_eq(remote_set(p[1].r, two), 2);
    remote_retry(p[1].r);
    AWAIT(&p[1], readies, 1);
    ck_assert_int_eq(p[1].generation, 2);
    ck_assert_int_eq(remote_pid(p[0].r), remote_pid(p[1].r));
    ck_assert_int_eq(trip(&p[1], 8, 8, 1), 3);
    player_close(&p[1]);
    player_open(&p[1], faulty_path("fails_at_nine"), amount(9));
    AWAIT(&p[1], downs, 1);
    player_close(&p[0]); /* nobody is left who could use the process: it ends */
    for (int pid = 1; pid; remotes_about_all(all, &about, 1), pid = about.pid)
        g_main_context_iteration(NULL, FALSE), g_usleep(1000);
    remote_set(p[1].r, two);
    remote_retry(p[1].r);
    AWAIT(&p[1], readies, 1);
    ck_assert_int_eq(trip(&p[1], 8, 8, 1), 3);
    json_decref(two);
    player_close(&p[1]);
    end();
}
END_TEST

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    faulty_build(".",
                 "good fails_tenth emits_nothing fails_at_nine prints hangs_at_nine needs_weights "
                 "crashes_in_init leaks_much crashes_in_process aborts_in_process exits_in_process "
                 "hangs_in_process overruns underruns writes_input loses_device replans");
    Suite *suite = suite_create("remote faults");
    TCase *faults = tcase_create("faults");
    tcase_set_timeout(faults, 120);
    tcase_add_test(faults, killed);
    tcase_add_loop_test(faults, death, 0, G_N_ELEMENTS(deaths));
    tcase_add_test(faults, death_of_two);
    tcase_add_test(faults, replans);
    tcase_add_test(faults, back_off);
    tcase_add_test(faults, memory);
    tcase_add_test(faults, failing);
    tcase_add_test(faults, bad_init);
    tcase_add_test(faults, bad_init_of_one);
    suite_add_tcase(suite, faults);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
