/* test_remote_nonsense.c - workers that do not do as a worker should: this program itself, started
 * as one, sends what makes no sense. The server ends it, says so, and takes no harm.
 */
#include "host/worker/remote.h"
#include "host/worker/shared.h"
#include "host/worker/wire.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static const char schema_text[] =
    "{\"properties\": {\"amount\": {\"type\": \"integer\", \"default\": 3, \"minimum\": 0, "
    "\"maximum\": 9, \"description\": \"Added.\", \"ui\": {\"order\": 1}}}}";

/* ---- the worker ------------------------------------------------------------------------------ */

static wire *to_server;
static const char *fake;

static bool is(const char *what)
{
    return !strcmp(fake, what);
}

static void send_ready(uint32_t id, int amount, int width, json_int_t generation)
{
    wire_send_json(to_server, WIRE_READY, id,
                   json_pack("{s[iiiii] s{si} sI}", "want", 1, 0, width, 3, SCOPE_U8, "values",
                             "amount", amount, "generation", generation));
}

static void on_open(uint32_t id)
{
    if (is("garbage"))
        (void)!write(3, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n and so on", 49);
    else if (is("huge"))
        (void)!write(3, (uint32_t[]){1u << 31, WIRE_READY, id, 0}, 16);
    else if (is("no descriptor"))
        (void)!write(3, (uint32_t[]){0, WIRE_REGION | 1 << 16, id, 0, 0}, 17);
    else if (is("unknown kind"))
        wire_send(to_server, 77, id, NULL, 0, -1);
    else if (is("server's kind"))
        wire_send_json(to_server, WIRE_OPEN, id, json_pack("{}"));
    else if (is("unknown instance"))
        wire_send_json(to_server, WIRE_LOG, 999, json_pack("{si ss}", "level", 2, "line", "hello"));
    else if (is("no JSON"))
        wire_send(to_server, WIRE_READY, id, "{\"want\": [1, ", 12, -1);
    else if (is("half ready"))
        wire_send_json(to_server, WIRE_READY, id,
                       json_pack("{s{si} si}", "values", "amount", 3, "generation", 1));
    else if (is("values out of range"))
        send_ready(id, 77, 0, 1);
    else if (is("impossible want"))
        send_ready(id, 3, 100000000, 1);
    else if (is("other generation"))
        send_ready(id, 3, 0, 5);
    else if (is("short failure"))
        wire_send(to_server, WIRE_FAILED, id, "no", 2, -1);
    else if (is("goes away"))
        shutdown(3, SHUT_RDWR);
    else
        send_ready(id, 3, 0, 1);
    if (is("ready twice"))
        send_ready(id, 3, 0, 1);
    if (is("unasked result"))
        wire_send(to_server, WIRE_RESULT, id, &(wire_result){.serial = 0}, sizeof(wire_result), -1);
    if (is("unasked values"))
        wire_send_json(to_server, WIRE_VALUES, id,
                       json_pack("{s{si} si}", "values", "amount", 3, "generation", 9));
}

static void send_region(uint32_t id)
{
    shared s = {.fd = -1};
    if (is("unsealed region")) {
        s.fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        (void)!ftruncate(s.fd, 1 << 20);
    } else {
        shared_make(&s, 8 * 8 * 3);
    }
    wire_send(to_server, WIRE_REGION, id, NULL, 0, is("pipe for a region") ? 1 : s.fd);
    if (is("unsealed region"))
        (void)!ftruncate(s.fd, 0);
}

static void on_frame(uint32_t id, const wire_frame *f)
{
    wire_result r = {.serial = f->serial, .out = {8, 8, 3, SCOPE_U8, 0, 0, 4096 - 192}};
    if (is("result without a region"))
        wire_send(to_server, WIRE_RESULT, id, &r, sizeof r, -1);
    send_region(id);
    r.serial += is("other serial");
    r.out.offset += is("offset outside") ? 64 : 0;
    r.out.offset = is("offset far outside") ? UINT64_MAX - 63 : r.out.offset;
    r.out.offset -= is("crooked offset");
    r.out.w = is("larger than its region") ? 9000 : is("negative size") ? -8 : 8;
    r.out.c = is("four channels") ? 4 : 3;
    r.out.dtype = is("floats") ? SCOPE_F32 : SCOPE_U8;
    r.err.status = is("positive status") ? 7 : 0;
    if (is("endless error")) {
        r.err.status = SCOPE_EINVAL;
        memset(r.err.text, 0xff, sizeof r.err.text);
        memset(r.err.field, 'x', sizeof r.err.field);
    }
    wire_send(to_server, WIRE_RESULT, id, &r, is("short result") ? 100 : sizeof r, -1);
}

static int be_worker(void)
{
    wire_message m;
    fake = getenv("FAKE");
    to_server = wire_new(3, true);
    while (wire_fill(to_server) > 0) {
        while (wire_next(to_server, &m) > 0) {
            if (m.kind == WIRE_OPEN)
                on_open(m.instance);
            else if (m.kind == WIRE_FRAME)
                on_frame(m.instance, (const wire_frame *)(const void *)m.payload);
            if (m.fd >= 0)
                close(m.fd);
        }
        while (is("deaf") || is("goes away"))
            pause();
    }
    return 0;
}

/* ---- the server ------------------------------------------------------------------------------ */

static struct {
    GMutex lock;
    int ready, down, results;
    char why[192], text[192];
    bool has_frame;
} told;

static void on_ready(void *ctx, const scope_video *want, const json_t *values, uint64_t generation)
{
    (void)ctx, (void)want, (void)values, (void)generation;
    g_mutex_lock(&told.lock);
    told.ready++;
    g_mutex_unlock(&told.lock);
}

static void on_down(void *ctx, const remote_fault *fault)
{
    (void)ctx;
    g_mutex_lock(&told.lock);
    if (!told.down++)
        g_strlcpy(told.why, fault->err.text, sizeof told.why);
    g_mutex_unlock(&told.lock);
}

static void on_result(void *ctx, frame *out, const remote_cost *cost, const scope_error *err)
{
    (void)ctx, (void)cost;
    g_mutex_lock(&told.lock);
    told.results++;
    told.has_frame = out != NULL;
    if (err)
        g_strlcpy(told.text, err->text, sizeof told.text);
    g_mutex_unlock(&told.lock);
}

static bool await(const int *what)
{
    int64_t end_us = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;
    for (bool there = false; !there; g_usleep(500)) {
        if (g_get_monotonic_time() > end_us)
            return false;
        g_main_context_iteration(NULL, FALSE);
        g_mutex_lock(&told.lock);
        there = *what > 0;
        g_mutex_unlock(&told.lock);
    }
    return true;
}

static frame_pool *pool;
static remotes *all;
static schema *parsed;

static remote *start(const char *what)
{
    scope_error err = {0};
    schema_error cause;
    int limit_ms = strcmp(what, "deaf") ? 500 : 2000;
    setenv("FAKE", what, 1);
    pool = frame_pool_new();
    all = remotes_new(&(remotes_options){.program = "/proc/self/exe",
                                         .frame_limit_ms = limit_ms,
                                         .first_limit_ms = limit_ms},
                      pool);
    parsed = schema_parse(schema_text, &cause);
    remote_plugin plugin = {.path = "/none.so", .id = "org.test.fake", .schema = parsed};
    const remote_calls calls = {.ready = on_ready, .down = on_down, .result = on_result};
    remote *r = remote_open(all, &plugin, NULL, &calls, &err);
    ck_assert(r != NULL);
    return r;
}

static void stop(remote *r)
{
    remote_close(r);
    remotes_free(all);
    schema_free(parsed);
    frame_pool_free(pool);
}

static bool send_one(remote *r)
{
    scope_error err;
    frame *f =
        frame_new(pool, &(scope_video){.t = 1, .h = 8, .w = 8, .c = 3, .dtype = SCOPE_U8}, &err);
    memset(f->v.data, 1, (size_t)f->v.stride_t);
    bool went = remote_process(r, f, 0, 0);
    frame_unref(f);
    return went;
}

static const char *const at_open[] = {
    "garbage",       "huge",        "no descriptor",       "unknown kind",    "server's kind",
    "no JSON",       "half ready",  "values out of range", "impossible want", "other generation",
    "short failure", "ready twice", "unasked result",      "unasked values",  "unknown instance",
};

START_TEST(when_opened)
{
    remote *r = start(at_open[_i]);
    ck_assert_msg(await(&told.down), "%s was not found out", at_open[_i]);
    ck_assert_str_eq(told.why, "the worker of fake sent something that makes no sense");
    stop(r);
}
END_TEST

static const char *const at_frame[] = {
    "result without a region", "other serial",   "offset outside",
    "offset far outside",      "crooked offset", "larger than its region",
    "negative size",           "four channels",  "floats",
    "positive status",         "short result",   "unsealed region",
    "pipe for a region",
};

START_TEST(when_asked)
{
    remote *r = start(at_frame[_i]);
    ck_assert(await(&told.ready));
    ck_assert(send_one(r));
    ck_assert_msg(await(&told.down), "%s was not found out", at_frame[_i]);
    ck_assert_str_eq(told.why, "the worker of fake sent something that makes no sense");
    ck_assert(!told.has_frame);
    stop(r);
}
END_TEST

/* The same worker does well when it sends what it should: it is not the test that is wrong. */
START_TEST(good)
{
    remote *r = start("good");
    ck_assert(await(&told.ready));
    ck_assert(send_one(r));
    ck_assert(await(&told.results));
    ck_assert(told.has_frame);
    ck_assert_int_eq(told.down, 0);
    stop(r);
}
END_TEST

START_TEST(endless_error)
{
    remote *r = start("endless error");
    ck_assert(await(&told.ready));
    ck_assert(send_one(r));
    ck_assert(await(&told.results));
    ck_assert(!told.has_frame && told.text[0] && g_utf8_validate(told.text, -1, NULL));
    stop(r);
}
END_TEST

/* Who does not read keeps nobody waiting, and is found out by its silence. */
START_TEST(deaf)
{
    remote *r = start("deaf");
    ck_assert(await(&told.ready));
    int64_t start_us = g_get_monotonic_time(), slowest_us = 0;
    json_t *values = json_pack("{si}", "amount", 4);
    ck_assert(send_one(r));
    for (int i = 0; i < 20000 && g_get_monotonic_time() - start_us < 400 * 1000; i++) {
        int64_t before = g_get_monotonic_time();
        remote_set(r, values);
        remote_reset(r);
        slowest_us = MAX(slowest_us, g_get_monotonic_time() - before);
    }
    json_decref(values);
    ck_assert_msg(slowest_us < G_USEC_PER_SEC, "%d us", (int)slowest_us);
    ck_assert(await(&told.down));
    ck_assert_str_eq(told.why, "fake did not answer for 2 s");
    stop(r);
}
END_TEST

START_TEST(goes_away)
{
    remote *r = start("goes away");
    ck_assert(await(&told.down));
    ck_assert_str_eq(told.why, "fake closed its connection to the server");
    stop(r);
}
END_TEST

START_TEST(no_program)
{
    remotes_options o = {.program = "/nonexistent/scope"};
    setenv("FAKE", "good", 1);
    remote *r = start("good");
    remote_close(r);
    remotes_free(all);
    all = remotes_new(&o, pool);
    scope_error err;
    remote_plugin plugin = {.path = "/none.so", .id = "org.test.fake", .schema = parsed};
    const remote_calls calls = {.down = on_down};
    r = remote_open(all, &plugin, NULL, &calls, &err);
    ck_assert(await(&told.down));
    ck_assert_str_eq(told.why, "the worker of fake could not be started");
    stop(r);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--worker"))
        return be_worker();
    Suite *suite = suite_create("nonsense");
    TCase *tests = tcase_create("nonsense");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, good);
    tcase_add_loop_test(tests, when_opened, 0, G_N_ELEMENTS(at_open));
    tcase_add_loop_test(tests, when_asked, 0, G_N_ELEMENTS(at_frame));
    tcase_add_test(tests, endless_error);
    tcase_add_test(tests, deaf);
    tcase_add_test(tests, goes_away);
    tcase_add_test(tests, no_program);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
