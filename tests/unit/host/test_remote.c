/* test_remote.c - instances in other processes: frames and values go round, and whatever happens to
 * a process is told, mended, and leaves nothing behind.
 */
#include "faulty.h"
#include "host/library.h"
#include "host/worker/remote.h"

#include <check.h>
#include <dirent.h>
#include <dlfcn.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static frame_pool *pool;
static remotes *all;

/* One remote, and what it told. */
typedef struct player {
    remote *r;
    void *library;
    schema *schema;
    GMutex lock; /* of what follows */
    int readies, downs, results, empties, errors, answers, lines, steps;
    double progress;
    scope_video want;
    remote_fault fault;
    int retries_ms[32]; /* of each down() */
    scope_error error, refusal;
    uint64_t generation;
    int amount; /* in force */
    remote_cost cost;
    int byte, w, h; /* of the last frame: its middle byte */
    int64_t pts_us, duration_us;
} player;

/* ---- what they tell ---------------------------------------------------------------------------
 */

static void on_progress(void *ctx, double done, const char *phase)
{
    player *p = ctx;
    (void)phase;
    g_mutex_lock(&p->lock);
    p->progress = done;
    p->steps++;
    g_mutex_unlock(&p->lock);
}

static void on_ready(void *ctx, const scope_video *want, const json_t *values, uint64_t generation)
{
    player *p = ctx;
    g_mutex_lock(&p->lock);
    p->want = *want;
    p->amount = (int)json_integer_value(json_object_get(values, "amount"));
    p->generation = generation;
    p->readies++;
    g_mutex_unlock(&p->lock);
}

static void on_down(void *ctx, const remote_fault *fault)
{
    player *p = ctx;
    g_mutex_lock(&p->lock);
    p->fault = *fault;
    p->retries_ms[p->downs++ % G_N_ELEMENTS(p->retries_ms)] = fault->retry_ms;
    g_mutex_unlock(&p->lock);
}

static void on_result(void *ctx, frame *out, const remote_cost *cost, const scope_error *err)
{
    player *p = ctx;
    g_mutex_lock(&p->lock);
    p->cost = *cost;
    if (out) {
        const uint8_t *data = out->v.data;
        p->byte = data[out->v.stride_t / 2];
        p->w = out->v.w;
        p->h = out->v.h;
        p->pts_us = out->v.pts_us;
        p->duration_us = out->duration_us;
    }
    p->empties += !out && !err;
    p->errors += err != NULL;
    if (err)
        p->error = *err;
    p->results++;
    g_mutex_unlock(&p->lock);
}

static void on_values(void *ctx, const json_t *values, uint64_t generation, const scope_error *err)
{
    player *p = ctx;
    g_mutex_lock(&p->lock);
    p->amount = (int)json_integer_value(json_object_get(values, "amount"));
    p->generation = generation;
    p->refusal = err ? *err : (scope_error){0};
    p->answers++;
    g_mutex_unlock(&p->lock);
}

static void on_log(void *ctx, int level, const char *line)
{
    player *p = ctx;
    (void)level, (void)line;
    g_mutex_lock(&p->lock);
    p->lines++;
    g_mutex_unlock(&p->lock);
}

/* ---- doing ------------------------------------------------------------------------------------
 */

static int get(player *p, const int *what)
{
    g_mutex_lock(&p->lock);
    int now = *what;
    g_mutex_unlock(&p->lock);
    return now;
}

/* Until the counter is at least `least`; false after `seconds`. */
static bool await(player *p, const int *what, int least, double seconds)
{
    int64_t end = g_get_monotonic_time() + (int64_t)(seconds * 1e6);
    while (get(p, what) < least) {
        if (g_get_monotonic_time() > end)
            return false;
        g_main_context_iteration(NULL, FALSE);
        g_usleep(500);
    }
    return true;
}

#define AWAIT(p, what, least)                                                                      \
    ck_assert_msg(await(p, &(p)->what, least, 30), "%s is %d, not %d; fault \"%s\" error \"%s\"",  \
                  #what, get(p, &(p)->what), least, (p)->fault.err.text, (p)->error.text)

static void begin(const remotes_options *more)
{
    remotes_options o = *more;
    o.program = BUILD_DIR "/scope";
    pool = frame_pool_new();
    all = remotes_new(&o, pool);
}

static void end(void)
{
    remotes_free(all);
    frame_pool_free(pool); /* asserts that all frames are back */
}

static void player_open(player *p, const char *path, json_t *values)
{
    scope_error err = {0};
    schema_error cause;
    const remote_calls calls = {p, on_progress, on_ready, on_down, on_result, on_values, on_log};
    *p = (player){0};
    g_mutex_init(&p->lock);
    const scope_library *library = library_open(path, &p->library, &err);
    ck_assert_msg(library != NULL, "%s %s", path, err.text);
    p->schema = schema_parse(library->plugins[0]->schema, &cause);
    remote_plugin plugin = {.path = path, .id = library->plugins[0]->id, .schema = p->schema};
    p->r = remote_open(all, &plugin, values, &calls, &err);
    ck_assert_msg(p->r != NULL, "%s", err.text);
    json_decref(values);
}

static void player_close(player *p)
{
    remote_close(p->r);
    schema_free(p->schema);
    dlclose(p->library);
    g_mutex_clear(&p->lock);
}

static frame *make_frame(int w, int h, int c, int fill, int64_t pts_us)
{
    scope_error err;
    scope_video v = {.t = 1, .h = h, .w = w, .c = c, .dtype = SCOPE_U8, .device = SCOPE_CPU};
    frame *f = frame_new(pool, &v, &err);
    memset(f->v.data, fill, (size_t)f->v.stride_t);
    f->v.pts_us = pts_us;
    f->duration_us = 33333;
    return f;
}

static bool send_size(player *p, int w, int h, int fill)
{
    frame *f = make_frame(w, h, 3, fill, 123456);
    bool went = remote_process(p->r, f, 123456, 33333);
    frame_unref(f);
    return went;
}

/* One frame there and back; its middle byte, or -1 when no frame came. */
static int trip(player *p, int w, int h, int fill)
{
    int before = get(p, &p->results);
    p->byte = -1;
    ck_assert(send_size(p, w, h, fill));
    AWAIT(p, results, before + 1);
    return get(p, &p->byte);
}

static json_t *amount(int n)
{
    return json_pack("{si ss}", "amount", n, "model", "");
}

static void set_amount(player *p, int n)
{
    json_t *values = amount(n);
    uint64_t generation = remote_set(p->r, values);
    json_decref(values);
    int64_t end_us = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;
    while (true) {
        g_mutex_lock(&p->lock);
        bool there = p->generation >= generation;
        g_mutex_unlock(&p->lock);
        if (there)
            break;
        ck_assert_msg(g_get_monotonic_time() < end_us, "values were not answered");
        g_usleep(500);
    }
}

/* ---- round trips ------------------------------------------------------------------------------
 */

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

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- faults -----------------------------------------------------------------------------------
 */

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

/* ---- closing ----------------------------------------------------------------------------------
 */

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

/* ---- all at once ------------------------------------------------------------------------------
 */

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

/* ---- what a trip costs ------------------------------------------------------------------------
 */

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

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    faulty_build(".", "good fixed_size generator returns_nan late_batch takes_extra fails_tenth "
                      "emits_nothing fails_at_nine prints hangs_at_nine needs_weights loads_slowly "
                      "hangs_in_init crashes_in_init leaks_much crashes_in_process "
                      "aborts_in_process exits_in_process hangs_in_process overruns underruns "
                      "writes_input loses_device replans");
    Suite *suite = suite_create("remote");
    TCase *trips = tcase_create("trips"), *faults = tcase_create("faults");
    tcase_set_timeout(trips, 120);
    tcase_set_timeout(faults, 120);
    tcase_add_test(trips, frames_and_values);
    tcase_add_test(trips, one_at_a_time);
    tcase_add_test(trips, sharing);
    tcase_add_test(trips, other_kinds);
    tcase_add_test(trips, second_input);
    tcase_add_test(trips, latency);
    tcase_add_test(faults, killed);
    tcase_add_loop_test(faults, death, 0, G_N_ELEMENTS(deaths));
    tcase_add_test(faults, death_of_two);
    tcase_add_test(faults, replans);
    tcase_add_test(faults, back_off);
    tcase_add_test(faults, memory);
    tcase_add_test(faults, failing);
    tcase_add_test(faults, bad_init);
    tcase_add_test(faults, bad_init_of_one);
    tcase_add_loop_test(faults, close_while_loading, 0, 2);
    tcase_add_test(faults, close_at_once);
    tcase_add_test(faults, nothing_left);
    tcase_add_test(faults, all_at_once);
    suite_add_tcase(suite, trips);
    suite_add_tcase(suite, faults);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
