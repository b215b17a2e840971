/* serve.c - `scope serve`: puts the live host together, runs its main loop, and ends it well.
 *
 * Owns the main loop. Must stay true: plugins never run in this process; the first signal finishes
 * recordings, the second one ends at once.
 */
#include "certificate.h"
#include "command.h"
#include "error.h"
#include "log.h"
#include "presets.h"
#include "serve_check.h"
#include "serve_options.h"
#include "version.h"

#include "http/app.h"
#include "live/inlet.h"
#include "live/outlet.h"
#include "media/elements.h"
#include "osc/osc.h"

#include <glib-unix.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { DRAIN_MS = 10000, DRAIN_STEP_MS = 50 };

typedef struct serve {
    app app;
    serve_options o;
    GMainLoop *loop;
    char *cert, *key; /* owned; PEM */
    int signals;
    bool finished; /* outputs are whole */
    int64_t deadline_us;
} serve;

static const route *const tables[] = {
    page_routes,     service_routes, streams_routes,   library_routes, scope_routes,
    daydream_routes, whip_routes,    websocket_routes, hls_routes,     NULL};

static int level_of(const char *name)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    int level = 0;
    while (level < 3 && strcmp(names[level], name))
        level++;
    return SCOPE_DEBUG + level;
}

/* ---- ending ---------------------------------------------------------------------------------- */

static void outputs_done(void *ctx)
{
    ((serve *)ctx)->finished = true;
}

static gboolean drained(gpointer ctx)
{
    serve *s = ctx;
    bool late = g_get_monotonic_time() > s->deadline_us;
    if (late && !s->finished)
        log_line(SCOPE_WARN, "", "outputs are not finished after %d s; leaving", DRAIN_MS / 1000);
    if ((!s->finished || !server_drain(s->app.server)) && !late)
        return G_SOURCE_CONTINUE;
    g_main_loop_quit(s->loop);
    return G_SOURCE_REMOVE;
}

static gboolean on_signal(gpointer ctx)
{
    serve *s = ctx;
    if (s->signals++) {
        g_main_loop_quit(s->loop);
        return G_SOURCE_CONTINUE;
    }
    log_line(SCOPE_INFO, "", "ending: finishing outputs; once more ends at once");
    s->deadline_us = g_get_monotonic_time() + DRAIN_MS * 1000;
    server_drain(s->app.server);
    outlet_close_all(s->app.live, outputs_done, s);
    g_timeout_add(DRAIN_STEP_MS, drained, s);
    return G_SOURCE_CONTINUE;
}

/* ---- beginning ------------------------------------------------------------------------------- */

static int open_live(serve *s, scope_error *err)
{
    const live_options o = {
        .plugin_dir = s->o.plugins,
        .data_dir = s->o.data,
        .local_files = s->o.local_files,
        .streams_max = (int)s->o.streams_max,
        .bitrate = (int)(s->o.bitrate_kbps * 1000),
        .h264 = s->o.h264,
        .remotes = {.frame_limit_ms = (int)(s->o.frame_limit_s * 1000),
                    .memory_bytes = s->o.worker_memory_mb << 20},
    };
    s->app.live = live_new(&o, err);
    if (!s->app.live)
        return err->status;
    outlet_recover(s->app.live);
    return 0;
}

static int open_server(serve *s, scope_error *err)
{
    const server_options o = {
        .listen = s->o.listen,
        .port = (int)s->o.port,
        .token = s->o.token,
        .public_host = s->o.public_host,
        .tls_cert = s->cert,
        .tls_key = s->key,
        .behind_proxy = s->o.behind_proxy,
    };
    s->app.server = server_new(&o, tables, &s->app, err);
    if (!s->app.server)
        return err->status;
    shapes_tell(s->app.server);
    return 0;
}

/* The stream that the settings ask for. */
static int first_stream(serve *s, scope_error *err)
{
    if (!s->o.plugin)
        return 0;
    const schema *sc;
    const registry_entry *e = live_plugin(s->app.live, s->o.plugin, &sc, err);
    json_t *values = e && s->o.preset ? presets_read(e, s->o.preset, err) : NULL;
    if (!e || (s->o.preset && !values))
        return err->status;
    stream *st = live_create(s->app.live, "main", err);
    json_t *chain = json_pack("[{s:s, s:o*}]", "plugin", e->id, "values", values);
    json_t *source = s->o.source ? json_pack("{s:s}", "url", s->o.source) : NULL;
    int status = st ? stream_chain(st, chain, err) : err->status;
    if (!status && source)
        status = inlet_set(st, source, err);
    json_decref(chain);
    json_decref(source);
    return status;
}

static int open_all(serve *s, scope_error *err)
{
    int status = media_init(err);
    if (!status)
        status = certificate_get(&s->o, &s->cert, &s->key, err);
    if (!status)
        status = open_live(s, err);
    if (!status && s->o.osc_port) {
        s->app.osc = osc_open(s->app.live, s->o.osc_listen, (int)s->o.osc_port, err);
        status = s->app.osc ? 0 : err->status;
    }
    if (!status)
        status = open_server(s, err);
    if (!status)
        status = first_stream(s, err);
    return status;
}

static void close_all(serve *s)
{
    if (s->app.server)
        server_free(s->app.server); /* first: connections let go of streams */
    osc_close(s->app.osc);
    if (s->app.live)
        live_free(s->app.live);
    g_free(s->cert);
    g_free(s->key);
}

/* Where people go, on stdout: the one line that scripts wait for. */
static void greet(const serve *s)
{
    bool all = !strcmp(s->o.listen, "0.0.0.0") || !strcmp(s->o.listen, "::");
    const char *host = all ? g_get_host_name() : s->o.listen;
    bool six = strchr(host, ':') != NULL;
    printf("scope %s serves http%s://%s%s%s:%d/\n", HOST_VERSION, s->cert ? "s" : "",
           six ? "[" : "", host, six ? "]" : "", server_port(s->app.server));
    fflush(stdout);
    if (s->app.osc)
        log_line(SCOPE_INFO, "", "OSC on port %d", osc_port(s->app.osc));
    for (int i = 0; i < registry_count(live_registry(s->app.live)); i++) {
        const registry_entry *e = registry_at(live_registry(s->app.live), i);
        if (e->fault)
            log_line(SCOPE_WARN, e->path, "%s", e->fault);
    }
}

int command_serve(int argc, char **argv)
{
    serve s = {0};
    scope_error err = {0};
    int code;
    if (!serve_options_parse(&s.o, argc, argv, &code))
        return code;
    if (s.o.check) {
        code = serve_check(&s.o);
        serve_options_fini(&s.o);
        return code;
    }
    signal(SIGPIPE, SIG_IGN);
    /* A WebRTC session has two dozen threads, and pictures come and go. With an arena for each
     * thread, and pictures among small things, what is free is too scattered to be given back, and
     * the process grows with every session. */
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    log_open(!strcmp(s.o.log, "json"), level_of(s.o.log_level));
    s.app.options = &s.o;
    s.app.started_us = g_get_monotonic_time();
    s.loop = g_main_loop_new(NULL, FALSE);
    if (open_all(&s, &err)) {
        code = complain(EXIT_FAILED, "%s", err.text);
    } else {
        guint interrupt = g_unix_signal_add(SIGINT, on_signal, &s);
        guint terminate = g_unix_signal_add(SIGTERM, on_signal, &s);
        greet(&s);
        g_main_loop_run(s.loop);
        g_source_remove(interrupt);
        g_source_remove(terminate);
        code = EXIT_GOOD;
    }
    close_all(&s);
    g_main_loop_unref(s.loop);
    serve_options_fini(&s.o);
    log_close();
    return code;
}
