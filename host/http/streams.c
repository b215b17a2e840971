/* streams.c - /api/v1/streams: the server's own interface to its streams (README.md).
 *
 * Under serve. Everything that a stream can do is reached here; control.c is the same over a
 * WebSocket, for who wants to be told.
 */
#include "app.h"
#include "control.h"

#include "../error.h"
#include "../live/inlet.h"
#include "../live/outlet.h"
#include "../media/picture.h"

#include <gio/gio.h>
#include <string.h>

enum { BODY_MAX = 1 << 20, PICTURE_MAX = 32 << 20 };

static response *created(request *r, int status, json_t *body, const char *where)
{
    response *a = response_json(status, body);
    response_header(a, "Location", where);
    (void)r;
    return a;
}

static response *list(request *r)
{
    live *l = app_of(r)->live;
    json_t *all = json_array();
    for (int i = 0; i < live_count(l); i++)
        json_array_append_new(all, control_stream_json(live_at(l, i)));
    return response_json(200, json_pack("{s:o}", "streams", all));
}

/* ---- what a body asks for -------------------------------------------------------------------- */

static int unknown_member(const json_t *body, const char *const *known, scope_error *err)
{
    const char *member;
    json_t *value;
    json_object_foreach((json_t *)body, member, value)
    {
        if (!g_strv_contains(known, member))
            return error_set(err, SCOPE_EINVAL, member,
                             "there is no member \"%.60s\" here; there are %s, %s, ...", member,
                             known[0], known[1]);
    }
    return 0;
}

static int fit_from(const json_t *value, enum media_fit *fit, scope_error *err)
{
    static const char *const names[] = {"crop", "pad", "stretch"};
    const char *name = json_string_value(value);
    for (int i = 0; name && i < 3; i++) {
        if (!strcmp(names[i], name)) {
            *fit = MEDIA_CROP + i;
            return 0;
        }
    }
    return error_set(err, SCOPE_EINVAL, "fit", "fit: give \"crop\", \"pad\" or \"stretch\"");
}

/* The name and the chain, or neither of them. */
static int apply_named(stream *s, const char *name, const json_t *chain, scope_error *err)
{
    scope_error never;
    char *before = g_strdup(stream_name(s));
    int status = name ? stream_rename(s, name, err) : 0;
    if (!status && chain && (status = stream_chain(s, chain, err)) && name)
        stream_rename(s, before, &never);
    g_free(before);
    return status;
}

/* Do all that the body says, or nothing where any of it is refused. */
static int apply(stream *s, const json_t *body, scope_error *err)
{
    static const char *const known[] = {"chain", "source", "name", "fit", NULL};
    json_t *chain = json_object_get(body, "chain"), *source = json_object_get(body, "source");
    json_t *name = json_object_get(body, "name"), *fit = json_object_get(body, "fit");
    enum media_fit how = MEDIA_CROP;
    int status = unknown_member(body, known, err);
    if (!status && name && !json_is_string(name) && !json_is_null(name))
        status = error_set(err, SCOPE_EINVAL, "name", "name: give a text");
    if (!status && fit)
        status = fit_from(fit, &how, err);
    if (!status && source)
        status = inlet_check(s, source, err);
    if (!status)
        status = apply_named(s, json_string_value(name), chain, err);
    if (!status && source)
        status = inlet_set(s, json_is_null(source) ? NULL : source, err);
    if (!status && fit)
        stream_fit(s, how);
    return status;
}

static response *create(request *r)
{
    response *bad;
    json_t *body = request_json(r, false, &bad);
    if (!body)
        return bad;
    scope_error err;
    live *l = app_of(r)->live;
    stream *s = live_create(l, NULL, &err);
    if (!s)
        return response_error(r, 429, "STREAMS/TOO_MANY", NULL, "%s", err.text);
    if (apply(s, body, &err)) {
        live_remove(l, s);
        return response_fault(r, "STREAMS/INVALID_PARAMS", &err);
    }
    char *where = g_strconcat("/api/v1/streams/", stream_id(s), NULL);
    response *a = created(r, 201, control_stream_json(s), where);
    g_free(where);
    return a;
}

static response *get(request *r)
{
    response *bad;
    stream *s = app_stream(r, &bad);
    return s ? response_json(200, control_stream_json(s)) : bad;
}

static response *patch(request *r)
{
    response *bad;
    stream *s = app_stream(r, &bad);
    json_t *body = s ? request_json(r, false, &bad) : NULL;
    scope_error err;
    if (!body)
        return bad;
    if (apply(s, body, &err))
        return response_fault(r, "STREAMS/INVALID_PARAMS", &err);
    return response_json(200, control_stream_json(s));
}

static response *delete (request *r)
{
    response *bad;
    stream *s = app_stream(r, &bad);
    if (!s)
        return bad;
    return app_remove(r, s, response_json(200, json_pack("{s:b, s:{}}", "success", 1, "data")));
}

static response *reset(request *r)
{
    response *bad;
    stream *s = app_stream(r, &bad);
    if (!s)
        return bad;
    stream_reset(s);
    return response_json(200, control_stream_json(s));
}

static response *retry(request *r)
{
    response *bad;
    stream *s = app_stream(r, &bad);
    if (!s)
        return bad;
    stream_retry(s);
    return response_json(200, control_stream_json(s));
}

/* ---- parameters of a link -------------------------------------------------------------------- */

/* Who waits for the plugin's word on the values that it asked for. */
typedef struct waiting {
    request *r; /* until it is answered */
    live *live;
    uint64_t tag;
    guint listener, timer;
} waiting;

static void settle(waiting *w, response *a)
{
    live_unlisten(w->live, w->listener);
    g_source_remove(w->timer);
    request_answer(w->r, a);
    g_free(w);
}

static void heard(void *ctx, const stream_event *e)
{
    waiting *w = ctx;
    if (e->kind != STREAM_VALUES || e->tag != w->tag)
        return;
    if (!live_find(w->live, STREAM_ID, stream_id(e->stream)))
        settle(w, response_error(w->r, 404, "STREAMS/NOT_FOUND", NULL,
                                 "the stream %s has been ended", stream_id(e->stream)));
    else if (e->err)
        settle(w, response_fault(w->r, "STREAMS/INVALID_PARAMS", e->err));
    else
        settle(w, response_json(200, json_pack("{s:I, s:b, s:O}", "generation",
                                               (json_int_t)e->generation, "in_force", 1, "values",
                                               (json_t *)e->values)));
}

/* No answer: the plugin loads, or is being started again. They will be in force then. */
static gboolean too_late(gpointer ctx)
{
    waiting *w = ctx;
    w->timer = g_timeout_add(G_MAXUINT, too_late, w); /* for settle to remove */
    settle(w, response_json(200, json_pack("{s:b}", "in_force", 0)));
    return G_SOURCE_REMOVE;
}

static int link_of(request *r, stream *s, response **bad)
{
    const char *part = request_part(r, "link");
    int link = stream_link_find(s, part);
    char *end;
    guint64 n = g_ascii_strtoull(part, &end, 10);
    if (end != part && !*end && n < (guint64)stream_links(s))
        link = (int)n;
    if (link < 0)
        *bad = response_error(r, 404, "STREAMS/NO_LINK", NULL,
                              "the stream has no plugin \"%s\"; it has %d, counted from 0", part,
                              stream_links(s));
    return link;
}

static response *patch_link(request *r)
{
    enum { WAIT_MS = 2000 };
    response *bad;
    stream *s = app_stream(r, &bad);
    int link = s ? link_of(r, s, &bad) : -1;
    json_t *body = link >= 0 ? request_json(r, false, &bad) : NULL;
    static const char *const known[] = {"values", "reload", NULL};
    scope_error err;
    if (!body)
        return bad;
    json_t *values = json_object_get(body, "values"), *anew = json_object_get(body, "reload");
    if (unknown_member(body, known, &err))
        return response_fault(r, "STREAMS/INVALID_PARAMS", &err);
    if (!json_is_object(values))
        return response_error(r, 400, "STREAMS/INVALID_PARAMS", "values",
                              "values: give an object of parameters");
    if (anew && !json_is_boolean(anew))
        return response_error(r, 400, "STREAMS/INVALID_PARAMS", "reload",
                              "reload: give true or false");
    bool reload = json_is_true(anew);
    uint64_t tag = control_tag();
    int64_t done = stream_set(s, link, values, reload ? STREAM_RELOAD : STREAM_REFUSE_RELOAD,
                              "rest", tag, &err);
    if (done < 0 && stream_would_reload(s, link, values))
        return response_error(r, 409, "STREAMS/NEEDS_RELOAD", err.field, "%s", err.text);
    if (done < 0)
        return response_fault(r, "STREAMS/INVALID_PARAMS", &err);
    if (done == 0)
        return response_json(200, json_pack("{s:b, s:b}", "in_force", 0, "reloading", 1));
    waiting *w = g_new0(waiting, 1);
    *w = (waiting){.r = r, .live = app_of(r)->live, .tag = tag};
    w->listener = live_listen(w->live, heard, w);
    w->timer = g_timeout_add(WAIT_MS, too_late, w);
    request_later(r, NULL, NULL);
    return NULL;
}

/* ---- outputs --------------------------------------------------------------------------------- */

static response *outputs(request *r)
{
    response *bad;
    stream *s = app_stream(r, &bad);
    return s ? response_json(200, json_pack("{s:o}", "outputs", outlet_list(s))) : bad;
}

static response *add_output(request *r)
{
    response *bad;
    stream *s = app_stream(r, &bad);
    json_t *body = s ? request_json(r, false, &bad) : NULL;
    scope_error err;
    if (!body)
        return bad;
    json_t *made = outlet_open(s, body, &err);
    if (!made)
        return response_fault(r, "STREAMS/INVALID_OUTPUT", &err);
    char *where = g_strdup_printf("/api/v1/streams/%s/outputs/%s", stream_id(s),
                                  json_string_value(json_object_get(made, "id")));
    response *a = created(r, 201, made, where);
    g_free(where);
    return a;
}

static void output_ended(void *ctx, const json_t *last)
{
    request_answer(ctx, response_json(200, json_deep_copy(last)));
}

static response *end_output(request *r)
{
    response *bad;
    stream *s = app_stream(r, &bad);
    scope_error err;
    if (!s)
        return bad;
    request_later(r, NULL, NULL);
    if (outlet_close(s, request_part(r, "output"), output_ended, r, &err))
        request_answer(r, response_error(r, 404, "STREAMS/NO_OUTPUT", NULL, "%s", err.text));
    return NULL;
}

/* ---- second inputs --------------------------------------------------------------------------- */

/* A picture on its way; it is decoded beside the main loop. */
typedef struct upload {
    request *r; /* until it is answered */
    live *live;
    char *id; /* owned, of the stream: it may be ended meanwhile */
    frame *f; /* owned, or NULL with err */
    scope_error err;
} upload;

static void decode(GTask *task, gpointer source, gpointer data, GCancellable *cancel)
{
    (void)source, (void)cancel;
    upload *u = data;
    u->f = picture_read(request_body(u->r), live_frames(u->live), &u->err);
    g_task_return_boolean(task, TRUE);
}

static void decoded(GObject *source, GAsyncResult *result, gpointer data)
{
    (void)source, (void)result;
    upload *u = data;
    stream *s = live_find(u->live, STREAM_ID, u->id);
    response *a;
    if (!s)
        a = response_error(u->r, 404, "STREAMS/NOT_FOUND", NULL, "there is no stream %s", u->id);
    else if (!u->f)
        a = response_fault(u->r, "STREAMS/INVALID_PICTURE", &u->err);
    else if (stream_second_input(s, request_part(u->r, "name"), u->f, &u->err))
        a = response_fault(u->r, "STREAMS/INVALID_INPUT", &u->err);
    else
        a = response_json(200, json_pack("{s:b}", "success", 1));
    request_answer(u->r, a);
    frame_unref(u->f);
    g_free(u->id);
    g_free(u);
}

static response *put_input(request *r)
{
    response *bad;
    stream *s = app_stream(r, &bad);
    if (!s)
        return bad;
    upload *u = g_new0(upload, 1);
    *u = (upload){.r = r, .live = app_of(r)->live, .id = g_strdup(stream_id(s))};
    request_later(r, NULL, NULL);
    GTask *task = g_task_new(NULL, NULL, decoded, u);
    g_task_set_task_data(task, u, NULL);
    g_task_run_in_thread(task, decode);
    g_object_unref(task);
    return NULL;
}

static response *end_input(request *r)
{
    response *bad;
    stream *s = app_stream(r, &bad);
    scope_error err;
    if (!s)
        return bad;
    if (stream_second_input(s, request_part(r, "name"), NULL, &err))
        return response_fault(r, "STREAMS/INVALID_INPUT", &err);
    return response_json(200, json_pack("{s:b}", "success", 1));
}

static response *control(request *r)
{
    response *bad;
    stream *s = app_stream(r, &bad);
    return s ? control_open(r, s) : bad;
}

#define STREAM      "#Stream"
#define STREAM_BODY "#StreamBody"
#define IN          "/api/v1/streams/{id}"

const route streams_routes[] = {
    {.method = "GET",
     .path = "/api/v1/streams",
     .handler = list,
     .access = ROUTE_TOKEN,
     .summary = "All streams",
     .answer = "{\"type\":\"object\",\"required\":[\"streams\"],\"properties\":{\"streams\":{"
               "\"type\":\"array\",\"items\":\"#Stream\"}}}"},
    {.method = "POST",
     .path = "/api/v1/streams",
     .handler = create,
     .access = ROUTE_TOKEN,
     .body_max = BODY_MAX,
     .summary = "A new stream; its plugins load behind",
     .body = STREAM_BODY,
     .answer = STREAM,
     .status = 201},
    {.method = "GET",
     .path = IN,
     .handler = get,
     .access = ROUTE_TOKEN,
     .summary = "A stream",
     .answer = STREAM},
    {.method = "PATCH",
     .path = IN,
     .handler = patch,
     .access = ROUTE_TOKEN,
     .body_max = BODY_MAX,
     .summary = "Other plugins, another source, name or fit",
     .body = STREAM_BODY,
     .answer = STREAM},
    {.method = "DELETE",
     .path = IN,
     .handler = delete,
     .access = ROUTE_TOKEN,
     .summary = "End a stream"},
    {.method = "PATCH",
     .path = IN "/links/{link}",
     .handler = patch_link,
     .access = ROUTE_TOKEN,
     .body_max = BODY_MAX,
     .summary = "Parameters of one plugin, by its number or id; answers when they are in force",
     .body = "{\"type\":\"object\",\"required\":[\"values\"],\"additionalProperties\":false,"
             "\"properties\":{\"values\":{\"type\":\"object\"},\"reload\":{\"type\":\"boolean\"}}}",
     .answer =
         "{\"type\":\"object\",\"required\":[\"in_force\"],\"properties\":{\"in_force\":{"
         "\"type\":\"boolean\"},\"reloading\":{\"type\":\"boolean\"},\"generation\":{\"type\":"
         "\"integer\"},\"values\":{\"type\":\"object\"}}}"},
    {.method = "POST",
     .path = IN "/reset",
     .handler = reset,
     .access = ROUTE_TOKEN,
     .summary = "Forget what earlier frames left in the plugins",
     .answer = STREAM},
    {.method = "POST",
     .path = IN "/retry",
     .handler = retry,
     .access = ROUTE_TOKEN,
     .summary = "Load again after a failure",
     .answer = STREAM},
    {.method = "GET",
     .path = IN "/outputs",
     .handler = outputs,
     .access = ROUTE_TOKEN,
     .summary = "Recordings under way and where else the stream goes",
     .answer = "{\"type\":\"object\",\"properties\":{\"outputs\":{\"type\":\"array\",\"items\":"
               "\"#Output\"}}}"},
    {.method = "POST",
     .path = IN "/outputs",
     .handler = add_output,
     .access = ROUTE_TOKEN,
     .body_max = BODY_MAX,
     .summary = "Record, or send the stream to RTMP, HLS, SRT or a v4l2 device",
     .body = "#OutputBody",
     .answer = "#Output",
     .status = 201},
    {.method = "DELETE",
     .path = IN "/outputs/{output}",
     .handler = end_output,
     .access = ROUTE_TOKEN,
     .summary = "End an output; a recording is whole when this answers",
     .answer = "#Output"},
    {.method = "PUT",
     .path = IN "/inputs/{name}",
     .handler = put_input,
     .access = ROUTE_TOKEN,
     .body_max = PICTURE_MAX,
     .summary = "A picture as a second input, such as \"mask\"",
     .consumes = "image/*"},
    {.method = "DELETE",
     .path = IN "/inputs/{name}",
     .handler = end_input,
     .access = ROUTE_TOKEN,
     .summary = "Take a second input away"},
    {.method = "GET",
     .path = IN "/control",
     .handler = control,
     .access = ROUTE_TOKEN,
     .summary = "WebSocket: values, events and numbers (README.md)",
     .status = 101},
    {0},
};
