/* http_fixture.h - a server on a thread of its own, and clients that block, for the tests of
 * host/http. */
#ifndef TEST_HTTP_FIXTURE_H
#define TEST_HTTP_FIXTURE_H

#include "host/http/internal.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef FIXTURE_ALONE /* in a program that is no test */
#define ck_assert(x)           g_assert(x)
#define ck_assert_msg(x, ...)  g_assert(x)
#define ck_assert_int_eq(a, b) g_assert((a) == (b))
#define ck_assert_str_eq(a, b) g_assert(strcmp(a, b) == 0)
#else
#include <check.h>
#endif

typedef struct fixture {
    server_options options;
    const route *const *routes;
    void *app;
    GThread *thread;
    GMainContext *context;
    GMainLoop *loop;
    server *server;
    int port;
    GMutex lock;
    GCond ready;
    bool up, down;
} fixture;

static inline gpointer fixture_run(gpointer data)
{
    fixture *f = data;
    scope_error err = {0};
    g_main_context_push_thread_default(f->context);
    server *s = server_new(&f->options, f->routes, f->app, &err);
    g_mutex_lock(&f->lock);
    ck_assert_msg(s != NULL, "%s", err.text);
    f->server = s;
    f->port = server_port(s);
    f->up = true;
    g_cond_signal(&f->ready);
    g_mutex_unlock(&f->lock);
    g_main_loop_run(f->loop);
    if (f->server)
        server_free(f->server);
    g_main_context_pop_thread_default(f->context);
    return NULL;
}

/* `f` zeroed, with options, routes and app; listens on a free port of 127.0.0.1. */
static inline void fixture_start(fixture *f)
{
    if (!f->options.listen)
        f->options.listen = "127.0.0.1";
    g_mutex_init(&f->lock);
    g_cond_init(&f->ready);
    f->context = g_main_context_new();
    f->loop = g_main_loop_new(f->context, FALSE);
    f->thread = g_thread_new("server", fixture_run, f);
    g_mutex_lock(&f->lock);
    while (!f->up)
        g_cond_wait(&f->ready, &f->lock);
    g_mutex_unlock(&f->lock);
}

static inline gboolean fixture_quit(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_REMOVE;
}

static inline void fixture_stop(fixture *f)
{
    g_main_context_invoke(f->context, fixture_quit, f->loop);
    g_thread_join(f->thread);
    g_main_loop_unref(f->loop);
    g_main_context_unref(f->context);
    g_mutex_clear(&f->lock);
    g_cond_clear(&f->ready);
}

typedef struct fixture_call {
    fixture *f;
    void (*fn)(fixture *f, void *ctx);
    void *ctx;
    bool done;
} fixture_call;

static inline gboolean fixture_called(gpointer data)
{
    fixture_call *c = data;
    c->fn(c->f, c->ctx);
    g_mutex_lock(&c->f->lock);
    c->done = true;
    g_cond_signal(&c->f->ready);
    g_mutex_unlock(&c->f->lock);
    return G_SOURCE_REMOVE;
}

/* Run fn in the server's thread, and wait for it. */
static inline void fixture_do(fixture *f, void (*fn)(fixture *f, void *ctx), void *ctx)
{
    fixture_call c = {f, fn, ctx, false};
    g_main_context_invoke(f->context, fixture_called, &c);
    g_mutex_lock(&f->lock);
    while (!c.done)
        g_cond_wait(&f->ready, &f->lock);
    g_mutex_unlock(&f->lock);
}

static inline void fixture_read_stats(fixture *f, void *ctx)
{
    server_stats_now(f->server, ctx);
}

static inline server_stats fixture_stats(fixture *f)
{
    server_stats now;
    fixture_do(f, fixture_read_stats, &now);
    return now;
}

/* A client's socket, with a time limit on each read. */
static inline int dial(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval limit = {20, 0};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

static inline void say(int fd, const void *data, size_t n)
{
    const char *p = data;
    while (n > 0) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
        if (k <= 0)
            return;
        p += k;
        n -= (size_t)k;
    }
}

/* All until the server closes; for g_free. The wait ends the test. */
static inline char *hear(int fd)
{
    GString *all = g_string_new(NULL);
    char part[16384];
    ssize_t n;
    while ((n = recv(fd, part, sizeof part, 0)) > 0)
        g_string_append_len(all, part, n);
    ck_assert_msg(n == 0 || errno == ECONNRESET, "the server neither answers nor closes");
    close(fd);
    return g_string_free(all, FALSE);
}

/* The head of an answer on a connection that stays; for g_free. */
static inline char *hear_head(int fd)
{
    GString *all = g_string_new(NULL);
    char c;
    while (!strstr(all->str, "\r\n\r\n")) {
        ck_assert_msg(recv(fd, &c, 1, 0) == 1, "no answer: %s", all->str);
        g_string_append_c(all, c);
    }
    return g_string_free(all, FALSE);
}

/* The same, and its body by Content-Length. */
static inline char *hear_one(int fd)
{
    char *head = hear_head(fd);
    const char *length = strstr(head, "Content-Length: ");
    size_t n = length ? (size_t)atol(length + 16) : 0;
    char *body = g_malloc0(n + 1);
    ck_assert(n == 0 || recv(fd, body, n, MSG_WAITALL) == (ssize_t)n);
    char *all = g_strconcat(head, body, NULL);
    g_free(head);
    g_free(body);
    return all;
}

/* What the server says to these bytes; for g_free. */
static inline char *ask(int port, const char *text)
{
    int fd = dial(port);
    say(fd, text, strlen(text));
    return hear(fd);
}

static inline int status_of(const char *answer)
{
    return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? atoi(answer + 9) : 0;
}

/* The value of a header, or NULL; for g_free. */
static inline char *header_of(const char *answer, const char *name)
{
    char *find = g_strdup_printf("\r\n%s: ", name);
    const char *end = strstr(answer, "\r\n\r\n"), *at = strstr(answer, find);
    char *value =
        at && at < end ? g_strndup(at + strlen(find), strcspn(at + strlen(find), "\r")) : NULL;
    g_free(find);
    return value;
}

static inline const char *body_of(const char *answer)
{
    const char *end = strstr(answer, "\r\n\r\n");
    return end ? end + 4 : "";
}

/* The answer to a method and a path, and further headers and the body. */
static inline char *fetch(fixture *f, const char *what, const char *more)
{
    char *text =
        g_strdup_printf("%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s%s", what,
                        more ? more : "", more && strstr(more, "\r\n\r\n") ? "" : "\r\n");
    char *answer = ask(f->port, text);
    g_free(text);
    return answer;
}

/* Is the answer an error in the shape that Daydream has, with everything that all answers have? */
static inline void expect_error(const char *answer, int status, const char *code)
{
    json_error_t at;
    ck_assert_msg(status_of(answer) == status, "%d, not %d: %s", status_of(answer), status, answer);
    json_t *body = json_loads(body_of(answer), 0, &at);
    ck_assert_msg(body != NULL, "no JSON: %s", answer);
    ck_assert(json_is_false(json_object_get(body, "success")));
    ck_assert_str_eq(json_string_value(json_object_get(body, "code")), code);
    ck_assert_int_eq(json_integer_value(json_object_get(body, "status")), status);
    ck_assert(json_string_length(json_object_get(body, "error")) > 5);
    ck_assert(json_object_get(body, "details") && json_object_get(body, "traceId"));
    char *id = header_of(answer, "X-Request-Id"),
         *origin = header_of(answer, "Access-Control-Allow-Origin");
    ck_assert_str_eq(json_string_value(json_object_get(body, "requestId")), id);
    ck_assert_str_eq(origin, "*");
    g_free(id);
    g_free(origin);
    json_decref(body);
}

static inline void expect_header(const char *answer, const char *name, const char *value)
{
    char *got = header_of(answer, name);
    ck_assert_msg(g_strcmp0(got, value) == 0, "%s: %s, not %s", name, got, value);
    g_free(got);
}

/* Wait until the server has no connections any more. */
static inline void expect_quiet(fixture *f)
{
    int64_t until = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
    while (fixture_stats(f).connections > 0) {
        ck_assert_msg(g_get_monotonic_time() < until, "connections stay");
        g_usleep(5000);
    }
}

static inline int count_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

#endif
