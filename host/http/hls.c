/* hls.c - the files of a stream's HLS output.
 *
 * Under serve. Must stay true: only names that the output makes are looked for, so that no path
 * leads out of its folder. A stream with HLS_ON_DEMAND attached gets its output when the playlist
 * is first asked for, and loses it when nobody has asked for half a minute.
 */
#include "../live/outlet.h"
#include "app.h"

#include <string.h>

/* "s1700000000-00012.ts", of digits alone. */
static bool is_piece(const char *name)
{
    size_t first = strspn(name + 1, "0123456789");
    if (*name != 's' || !first || name[1 + first] != '-')
        return false;
    const char *second = name + 1 + first + 1;
    size_t n = strspn(second, "0123456789");
    return n && !strcmp(second + n, ".ts");
}

/* ---- on demand ------------------------------------------------------------------------------- */

enum { IDLE_S = 30, LOOK_S = 5, FIRST_MS = 15000, POLL_MS = 200 };

/* An output that was begun because somebody asked. */
typedef struct demand {
    stream *stream;
    char *outlet; /* owned: its id */
    int64_t last_us;
    guint timer;
} demand;

static const char demanded[] = "hls demanded";

static void demand_free(void *ctx)
{
    demand *d = ctx;
    g_source_remove(d->timer);
    g_free(d->outlet);
    g_free(d);
}

static void ended(void *ctx, const json_t *last)
{
    (void)ctx, (void)last;
}

static gboolean look(gpointer ctx)
{
    demand *d = ctx;
    scope_error gone; /* it may have ended by other hands */
    if (g_get_monotonic_time() - d->last_us < IDLE_S * G_USEC_PER_SEC)
        return G_SOURCE_CONTINUE;
    outlet_close(d->stream, d->outlet, ended, NULL, &gone);
    stream_attach(d->stream, demanded, NULL, NULL);
    return G_SOURCE_CONTINUE; /* demand_free has removed it */
}

static int begin(stream *s, scope_error *err)
{
    json_t *what = json_pack("{s:s}", "kind", "hls"), *made = outlet_open(s, what, err);
    json_decref(what);
    if (!made)
        return err->status;
    demand *d = g_new0(demand, 1);
    d->stream = s;
    d->outlet = g_strdup(json_string_value(json_object_get(made, "id")));
    d->last_us = g_get_monotonic_time();
    d->timer = g_timeout_add_seconds(LOOK_S, look, d);
    stream_attach(s, demanded, d, demand_free);
    json_decref(made);
    return 0;
}

static response *playlist(request *r, const char *folder)
{
    char *path = g_build_filename(folder, "index.m3u8", NULL);
    response *a = response_file(r, path, "application/vnd.apple.mpegurl", NULL);
    response_header(a, "Cache-Control", "no-cache");
    g_free(path);
    return a;
}

/* Somebody who waits for the first pieces. */
typedef struct waiting {
    request *r;
    live *live;
    int64_t until_us;
} waiting;

static bool is_made(const char *folder)
{
    char *path = folder ? g_build_filename(folder, "index.m3u8", NULL) : NULL;
    bool there = path && g_file_test(path, G_FILE_TEST_EXISTS);
    g_free(path);
    return there;
}

static gboolean wait_for_pieces(gpointer ctx)
{
    waiting *w = ctx;
    stream *s = live_find(w->live, STREAM_PLAYBACK, request_part(w->r, "key"));
    const char *folder = s ? outlet_hls_folder(s) : NULL;
    bool there = is_made(folder);
    if (folder && !there && g_get_monotonic_time() < w->until_us)
        return G_SOURCE_CONTINUE;
    request_answer(w->r, there ? playlist(w->r, folder)
                               : response_error(w->r, 404, "STREAMS/NO_HLS", NULL,
                                                "the stream shows nothing yet"));
    g_free(w);
    return G_SOURCE_REMOVE;
}

/* The playlist of a stream that has no output yet, or whose output has made nothing yet. */
static response *on_demand(request *r, stream *s)
{
    scope_error err;
    if (is_made(outlet_hls_folder(s)))
        return playlist(r, outlet_hls_folder(s));
    if (!outlet_hls_folder(s) && begin(s, &err))
        return response_fault(r, "STREAMS/NO_HLS", &err);
    waiting *w = g_new0(waiting, 1);
    *w = (waiting){r, stream_live(s), g_get_monotonic_time() + FIRST_MS * 1000};
    request_later(r, NULL, NULL);
    g_timeout_add(POLL_MS, wait_for_pieces, w);
    return NULL;
}

/* ---- files ----------------------------------------------------------------------------------- */

static response *hls_file(request *r)
{
    response *bad;
    stream *s = app_by_key(r, STREAM_PLAYBACK, &bad);
    if (!s)
        return bad;
    const char *name = request_part(r, "file"), *folder = outlet_hls_folder(s);
    bool list = !strcmp(name, "index.m3u8");
    demand *d = stream_attached(s, demanded);
    if (d)
        d->last_us = g_get_monotonic_time();
    if (list && (d || !folder) && stream_attached(s, HLS_ON_DEMAND))
        return on_demand(r, s);
    if (!folder || !*name || !(list || is_piece(name)))
        return response_error(r, 404, "STREAMS/NO_HLS", NULL,
                              folder ? "there is no such file"
                                     : "this stream has no HLS output; add one of kind hls");
    char *path = g_build_filename(folder, name, NULL);
    response *a =
        response_file(r, path, list ? "application/vnd.apple.mpegurl" : "video/mp2t", NULL);
    response_header(a, "Cache-Control", list ? "no-cache" : "max-age=60");
    g_free(path);
    return a;
}

const route hls_routes[] = {
    {.method = "GET",
     .path = "/live/{key}/hls/{file}",
     .handler = hls_file,
     .access = ROUTE_SECRET,
     .summary = "The playlist (index.m3u8) and the pieces of a stream's HLS output",
     .produces = "application/vnd.apple.mpegurl"},
    {0},
};
