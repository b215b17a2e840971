/* service.c - /health, /metrics and /openapi.json: for who keeps the server running.
 *
 * Under serve. Metrics are in Prometheus' text format, version 0.0.4.
 */
#include "app.h"

#include "../osc/osc.h"
#include "../version.h"

#include <string.h>
#include <unistd.h>

/* ---- health ---------------------------------------------------------------------------------- */

/* The first NVIDIA GPU by its driver, without loading anything of it; for g_free, or NULL. */
static char *gpu_name(void)
{
    static const char root[] = "/proc/driver/nvidia/gpus";
    GDir *dir = g_dir_open(root, 0, NULL);
    const char *entry = dir ? g_dir_read_name(dir) : NULL;
    char *path = entry ? g_build_filename(root, entry, "information", NULL) : NULL, *text = NULL;
    char *name = NULL;
    if (path && g_file_get_contents(path, &text, NULL, NULL) && g_str_has_prefix(text, "Model:")) {
        name = g_strndup(text + strlen("Model:"), strcspn(text + strlen("Model:"), "\n"));
        g_strstrip(name);
    }
    if (dir)
        g_dir_close(dir);
    g_free(path);
    g_free(text);
    return name;
}

static response *health(request *r)
{
    app *a = app_of(r);
    char *gpu = gpu_name();
    json_t *body = json_pack(
        "{s:s, s:s, s:b, s:s?, s:n, s:n, s:i, s:b, s:I}", "status", "ok", "version", HOST_VERSION,
        "gpu_available", gpu != NULL, "gpu_name", gpu, "gpu_memory_total_mb", "gpu_memory_free_mb",
        "active_streams", live_count(a->live), "mediamtx_connected", 0, "uptime_seconds",
        (json_int_t)((g_get_monotonic_time() - a->started_us) / G_USEC_PER_SEC));
    g_free(gpu);
    return response_json(200, body);
}

/* ---- metrics --------------------------------------------------------------------------------- */

typedef struct family {
    const char *name, *type, *help;
} family;

static void head(GString *out, const family *f)
{
    g_string_append_printf(out, "# HELP scope_%s %s\n# TYPE scope_%s %s\n", f->name, f->help,
                           f->name, f->type);
}

/* A label's value: backslash, quote and newline escaped. */
static char *label(const char *text)
{
    GString *out = g_string_new(NULL);
    for (; *text; text++) {
        if (*text == '\\' || *text == '"')
            g_string_append_c(out, '\\');
        if (*text == '\n')
            g_string_append(out, "\\n");
        else
            g_string_append_c(out, *text);
    }
    return g_string_free(out, FALSE);
}

enum { NUMBERS = 16 };
static const family of_stream[NUMBERS] = {
    {"stream_frames_in_total", "counter", "Frames that the source brought."},
    {"stream_frames_out_total", "counter", "Frames shown."},
    {"stream_frames_dropped_total", "counter", "Frames replaced by newer ones before a plugin."},
    {"stream_frames_skipped_total", "counter", "Calls for which a plugin emitted nothing."},
    {"stream_frames_repeated_total", "counter", "Frames repeated instead of made."},
    {"stream_frames_failed_total", "counter", "Calls that a plugin failed."},
    {"stream_restarts_total", "counter", "Restarts of plugins' processes."},
    {"stream_viewers", "gauge", "Who watches."},
    {"stream_fps_in", "gauge", "Frames a second that come."},
    {"stream_fps_out", "gauge", "Frames a second that are shown."},
    {"stream_model_p50_seconds", "gauge", "Median time inside plugins."},
    {"stream_model_p95_seconds", "gauge", "95th percentile of the time inside plugins."},
    {"stream_model_p99_seconds", "gauge", "99th percentile of the time inside plugins."},
    {"stream_age_p50_seconds", "gauge", "Median age of frames when shown."},
    {"stream_age_p95_seconds", "gauge", "95th percentile of the age of frames when shown."},
    {"stream_age_p99_seconds", "gauge", "99th percentile of the age of frames when shown."},
};

/* In the order of of_stream. */
static void numbers(const stream_stats *s, double out[NUMBERS])
{
    const double all[NUMBERS] = {
        (double)s->frames_in,
        (double)s->frames_out,
        (double)s->dropped,
        (double)s->skipped,
        (double)s->repeated,
        (double)s->failed,
        s->restarts,
        s->viewers,
        s->fps_in,
        s->fps_out,
        s->model_p50 / 1e3,
        s->model_p95 / 1e3,
        s->model_p99 / 1e3,
        s->age_p50 / 1e3,
        s->age_p95 / 1e3,
        s->age_p99 / 1e3,
    };
    memcpy(out, all, sizeof all);
}

static void put_number(GString *out, double x)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    g_string_append(out, g_ascii_dtostr(text, sizeof text, x));
    g_string_append_c(out, '\n');
}

static void stream_metrics(GString *out, live *l)
{
    int count = live_count(l);
    double(*all)[NUMBERS] = g_malloc0(sizeof *all * (size_t)MAX(count, 1));
    for (int i = 0; i < count; i++) {
        stream_stats s;
        stream_stats_now(live_at(l, i), &s);
        numbers(&s, all[i]);
    }
    for (int k = 0; k < NUMBERS && count; k++) {
        head(out, &of_stream[k]);
        for (int i = 0; i < count; i++) {
            char *name = label(stream_name(live_at(l, i)));
            g_string_append_printf(out, "scope_%s{stream=\"%s\",name=\"%s\"} ", of_stream[k].name,
                                   stream_id(live_at(l, i)), name);
            put_number(out, all[i][k]);
            g_free(name);
        }
    }
    if (count) {
        const family states = {"stream_state", "gauge", "1 for the state that a stream is in."};
        head(out, &states);
    }
    for (int i = 0; i < count; i++)
        g_string_append_printf(out, "scope_stream_state{stream=\"%s\",state=\"%s\"} 1\n",
                               stream_id(live_at(l, i)),
                               stream_state_name(stream_state_now(live_at(l, i))));
    g_free(all);
}

enum { WORKERS_MAX = 256 };

static response *workers(request *r)
{
    remotes_about *about = g_new0(remotes_about, WORKERS_MAX);
    int count =
        MIN(remotes_about_all(live_remotes(app_of(r)->live), about, WORKERS_MAX), WORKERS_MAX);
    json_t *all = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(all, json_pack("{s:s, s:i, s:i, s:i, s:I, s:s}", "plugin",
                                             about[i].plugin, "pid", about[i].pid, "instances",
                                             about[i].instances, "restarts", about[i].restarts,
                                             "rss_bytes", (json_int_t)about[i].rss_bytes,
                                             "last_fault", about[i].last_fault));
    g_free(about);
    return response_json(200, json_pack("{s:o}", "workers", all));
}

static void worker_metrics(GString *out, remotes *all)
{
    enum { OF_WORKER = 3 };
    static const family of_worker[OF_WORKER] = {
        {"worker_resident_bytes", "gauge", "Memory of a plugin's process."},
        {"worker_instances", "gauge", "Streams that it works for."},
        {"worker_restarts_total", "counter", "How often it was started again."},
    };
    remotes_about *about = g_new0(remotes_about, WORKERS_MAX);
    int count = MIN(remotes_about_all(all, about, WORKERS_MAX), WORKERS_MAX);
    for (int k = 0; k < OF_WORKER && count; k++) {
        head(out, &of_worker[k]);
        for (int i = 0; i < count; i++) {
            const double of[OF_WORKER] = {(double)about[i].rss_bytes, about[i].instances,
                                          about[i].restarts};
            g_string_append_printf(out, "scope_%s{plugin=\"%s\",worker=\"%d\"} ", of_worker[k].name,
                                   about[i].plugin, i);
            put_number(out, of[k]);
        }
    }
    g_free(about);
}

static void one(GString *out, const family *f, double value)
{
    head(out, f);
    g_string_append_printf(out, "scope_%s ", f->name);
    put_number(out, value);
}

static void server_metrics(GString *out, app *a)
{
    server_stats s;
    server_stats_now(a->server, &s);
    one(out, &(family){"uptime_seconds", "gauge", "Since the start."},
        (double)(g_get_monotonic_time() - a->started_us) / 1e6);
    one(out, &(family){"streams", "gauge", "Streams there are."}, live_count(a->live));
    one(out, &(family){"http_requests_total", "counter", "Requests answered."}, (double)s.requests);
    one(out, &(family){"http_refused_total", "counter", "Requests refused (401, 403, 413, 429)."},
        (double)s.refused);
    one(out, &(family){"http_connections", "gauge", "Connections open."}, s.connections);
    one(out, &(family){"http_websockets", "gauge", "WebSockets open."}, s.websockets);
    one(out, &(family){"http_received_bytes_total", "counter", "Bytes received."},
        (double)s.bytes_in);
    one(out, &(family){"http_sent_bytes_total", "counter", "Bytes sent."}, (double)s.bytes_out);
    if (a->osc) {
        osc_stats o;
        osc_stats_now(a->osc, &o);
        one(out, &(family){"osc_messages_total", "counter", "OSC messages taken."},
            (double)o.messages);
        one(out, &(family){"osc_refused_total", "counter", "OSC messages refused."},
            (double)o.refused);
        one(out, &(family){"osc_subscribers", "gauge", "Who is told changes by OSC."},
            o.subscribers);
    }
}

static int entries(const char *path)
{
    int count = 0;
    GDir *dir = g_dir_open(path, 0, NULL);
    while (dir && g_dir_read_name(dir))
        count++;
    if (dir)
        g_dir_close(dir);
    return count;
}

/* Of this process, by the names that Prometheus' own libraries use. */
static void process_metrics(GString *out)
{
    unsigned long pages = 0;
    char *text = NULL;
    if (g_file_get_contents("/proc/self/statm", &text, NULL, NULL))
        sscanf(text, "%*u %lu", &pages);
    g_free(text);
    g_string_append_printf(out,
                           "# TYPE process_resident_memory_bytes gauge\n"
                           "process_resident_memory_bytes %lu\n"
                           "# TYPE process_open_fds gauge\nprocess_open_fds %d\n"
                           "# TYPE process_threads gauge\nprocess_threads %d\n",
                           pages * (unsigned long)sysconf(_SC_PAGESIZE),
                           entries("/proc/self/fd") - 1, entries("/proc/self/task"));
}

static response *metrics(request *r)
{
    app *a = app_of(r);
    GString *out = g_string_new(NULL);
    server_metrics(out, a);
    stream_metrics(out, a->live);
    worker_metrics(out, live_remotes(a->live));
    process_metrics(out);
    GBytes *bytes = g_string_free_to_bytes(out);
    response *answer = response_bytes(200, "text/plain; version=0.0.4; charset=utf-8", bytes);
    g_bytes_unref(bytes);
    return answer;
}

static response *openapi(request *r)
{
    char *origin = request_origin(r);
    response *a = response_json(200, server_openapi(app_of(r)->server, origin));
    g_free(origin);
    return a;
}

const route service_routes[] = {
    {.method = "GET",
     .path = "/health",
     .handler = health,
     .access = ROUTE_OPEN,
     .summary = "Is the server up",
     .answer = "{\"type\":\"object\",\"required\":[\"status\",\"version\",\"gpu_available\","
               "\"active_streams\"],\"properties\":{\"status\":{\"const\":\"ok\"},\"version\":{"
               "\"type\":\"string\"},\"gpu_available\":{\"type\":\"boolean\"},\"active_streams\":{"
               "\"type\":\"integer\"}}}"},
    {.method = "GET",
     .path = "/api/v1/workers",
     .handler = workers,
     .access = ROUTE_TOKEN,
     .summary = "The processes that plugins run in"},
    {.method = "GET",
     .path = "/metrics",
     .handler = metrics,
     .access = ROUTE_TOKEN,
     .summary = "Numbers for Prometheus",
     .produces = "text/plain"},
    {.method = "GET",
     .path = "/openapi.json",
     .handler = openapi,
     .access = ROUTE_OPEN,
     .summary = "These routes, for programs"},
    {0},
};
