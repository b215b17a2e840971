/* daydream.c - /v1/streams: Daydream's API, and what self-hosted servers of it have besides.
 *
 * Under serve; over daydream_stream.h (what a stream is asked for) and daydream_json.h (what is
 * answered). Only streams that were made here are told here. A stream is made at once, and its
 * model loads behind: what comes of it is told by its status.
 *
 * Validation answers 400, never 422: clients know 400, 401, 403, 404, 409, 429 and 500 by name, and
 * take anything else for a broken server.
 */
#include "daydream_json.h"

#include "../error.h"
#include "../serve_options.h"

#include <string.h>

/* A style picture of 5 MB is 7 MB of base64. */
enum { BODY_MAX = 8 << 20, TEXT_MAX = 128 };

static const char invalid[] = "STREAMS/INVALID_PARAMS";

static const struct {
    const char *pipeline, *model; /* where a request names none */
} pipelines[] = {
    {"streamdiffusion", "stabilityai/sd-turbo"},
    {"streamdiffusion-sdxl", "stabilityai/sdxl-turbo"},
    {"streamdiffusion-sd15", "Lykon/dreamshaper-8"},
};

/* ---- finding --------------------------------------------------------------------------------- */

static daydream *find(request *r, const char *id, response **answer)
{
    stream *s = live_find(app_of(r)->live, STREAM_ID, id);
    daydream *d = s ? daydream_of(s) : NULL;
    if (!d)
        *answer =
            response_error(r, 404, "STREAMS/NOT_FOUND", NULL, "there is no stream %.100s", id);
    return d;
}

static daydream *find_by_path(request *r, response **answer)
{
    return find(r, request_part(r, "id"), answer);
}

static response *answer_stream(request *r, int status, daydream *d)
{
    char *origin = request_origin(r);
    response *a = response_json(status, daydream_stream_json(d, origin));
    g_free(origin);
    return a;
}

/* ---- what a body says ------------------------------------------------------------------------ */

typedef struct body {
    const char *model;      /* that its pipeline stands for */
    const char *name, *url; /* NULL: not given; url "" takes it away */
    const char *user;
    const json_t *params; /* or NULL */
} body;

static int read_text(const json_t *o, const char *name, const char **text, scope_error *err)
{
    const json_t *v = json_object_get(o, name);
    if (v && !json_is_string(v) && !json_is_null(v))
        return error_set(err, SCOPE_EINVAL, name, "%s must be a text", name);
    *text = json_string_value(v);
    return 0;
}

static int read_pipeline(const json_t *o, bool required, const char **model, scope_error *err)
{
    const char *given = NULL;
    int status = read_text(o, "pipeline", &given, err);
    *model = pipelines[0].model;
    for (size_t i = 0; given && i < G_N_ELEMENTS(pipelines); i++) {
        if (!strcmp(pipelines[i].pipeline, given)) {
            *model = pipelines[i].model;
            return 0;
        }
    }
    if (!status && (given || required))
        status = error_set(err, SCOPE_EINVAL, "pipeline",
                           given ? "there is no such pipeline; give \"streamdiffusion\""
                                 : "pipeline is missing; give \"streamdiffusion\"");
    return status;
}

static int read_members(const json_t *o, const char *const *known, scope_error *err)
{
    const char *key, *near;
    json_t *value;
    json_object_foreach((json_t *)o, key, value)
    {
        if (g_strv_contains(known, key))
            continue;
        near = schema_nearest(key, known, (int)g_strv_length((char **)known));
        char *all = g_strjoinv(", ", (char **)known);
        char *text = g_utf8_make_valid(key, MIN((gssize)strlen(key), 40));
        error_set(err, SCOPE_EINVAL, "", "there is no %s here; %s %s", text,
                  near ? "did you mean" : "there are", near ? near : all);
        g_strlcpy(err->field, text, sizeof err->field);
        g_free(text);
        g_free(all);
        return SCOPE_EINVAL;
    }
    return 0;
}

static int read_params(const json_t *o, const json_t **params, scope_error *err)
{
    *params = json_object_get(o, "params");
    if (json_is_null(*params))
        *params = NULL;
    if (*params && !json_is_object(*params))
        return error_set(err, SCOPE_EINVAL, "params", "params must be an object");
    return 0;
}

static int read_body(const json_t *o, bool create, body *b, scope_error *err)
{
    static const char *const known[] = {"pipeline",        "params",  "name",
                                        "output_rtmp_url", "user_id", NULL};
    static const char *const of_update[] = {"pipeline", "params", "name", "output_rtmp_url", NULL};
    int status = read_members(o, create ? known : of_update, err);
    if (!status)
        status = read_pipeline(o, create, &b->model, err);
    if (!status)
        status = read_params(o, &b->params, err);
    if (!status)
        status = read_text(o, "name", &b->name, err);
    if (!status)
        status = read_text(o, "user_id", &b->user, err);
    if (!status)
        status = read_text(o, "output_rtmp_url", &b->url, err);
    if (!status && b->user && (!*b->user || g_utf8_strlen(b->user, -1) > TEXT_MAX))
        status = error_set(err, SCOPE_EINVAL, "user_id", "user_id must have 1 to %d characters",
                           TEXT_MAX);
    if (!status && b->name && g_utf8_strlen(b->name, -1) > TEXT_MAX)
        status =
            error_set(err, SCOPE_EINVAL, "name", "name must have at most %d characters", TEXT_MAX);
    if (!status && b->url && *b->url && !g_str_has_prefix(b->url, "rtmp://") &&
        !g_str_has_prefix(b->url, "rtmps://"))
        status = error_set(err, SCOPE_EINVAL, "output_rtmp_url",
                           "output_rtmp_url must begin with rtmp:// or rtmps://");
    if (json_is_null(json_object_get(o, "output_rtmp_url")))
        b->url = "";
    if (b->name && !*b->name)
        b->name = NULL; /* one is made up */
    return status;
}

/* ---- /v1/streams ----------------------------------------------------------------------------- */

static response *refuse(request *r, const scope_error *err)
{
    return response_error(r, 400, invalid, err->field, "%s", err->text);
}

static response *create(request *r)
{
    response *bad;
    json_t *o = request_json(r, false, &bad);
    body b = {0};
    scope_error err = {0};
    if (!o)
        return bad;
    if (read_body(o, true, &b, &err))
        return refuse(r, &err);
    const app *a = app_of(r);
    json_t *none = json_object();
    json_t *params = daydream_judge(a->options, b.model, b.params ? b.params : none, &err);
    json_decref(none);
    if (!params)
        return refuse(r, &err);
    stream *s = live_create(a->live, b.name, &err);
    if (!s) {
        json_decref(params);
        return err.field[0] ? refuse(r, &err)
                            : response_error(r, 429, "STREAMS/TOO_MANY", NULL, "%s", err.text);
    }
    daydream *d = daydream_begin(s, a->options, params, b.user ? b.user : "local");
    if (daydream_push(d, b.url, &err)) {
        live_remove(a->live, s);
        return response_error(r, 400, invalid, "output_rtmp_url", "%s", err.text);
    }
    return answer_stream(r, 201, d);
}

static response *list(request *r)
{
    const char *user = request_query(r, "user_id");
    live *l = app_of(r)->live;
    json_t *all = json_array();
    char *origin = request_origin(r);
    for (int i = 0; i < live_count(l); i++) {
        daydream *d = daydream_of(live_at(l, i));
        if (d && (!user || !*user || !strcmp(user, d->author)))
            json_array_append_new(all, daydream_stream_json(d, origin));
    }
    g_free(origin);
    return response_json(200, json_pack("{s:b, s:o}", "success", 1, "data", all));
}

static response *get(request *r)
{
    response *bad;
    daydream *d = find_by_path(r, &bad);
    return d ? answer_stream(r, 200, d) : bad;
}

static response *patch(request *r)
{
    response *bad;
    daydream *d = find_by_path(r, &bad);
    json_t *o = d ? request_json(r, false, &bad) : NULL;
    body b = {0};
    scope_error err = {0};
    if (!o)
        return bad;
    char *was = g_strdup(stream_name(d->stream));
    int bad_body = read_body(o, false, &b, &err);
    if (!bad_body && b.name)
        bad_body = stream_rename(d->stream, b.name, &err);
    if (!bad_body && b.params && (bad_body = daydream_change(d, b.params, &err)))
        stream_rename(d->stream, was, &(scope_error){0});
    g_free(was);
    if (bad_body)
        return refuse(r, &err);
    if (b.url && daydream_push(d, b.url, &err))
        return response_error(r, 400, invalid, "output_rtmp_url", "%s", err.text);
    return answer_stream(r, 200, d);
}

static response *remove_by_query(request *r)
{
    response *bad;
    const char *id = request_query(r, "id");
    if (!id || !*id)
        return response_error(r, 400, "REQUEST/INVALID", "id", "id is missing: ?id=STREAM");
    daydream *d = find(r, id, &bad);
    if (!d)
        return bad;
    return app_remove(r, d->stream,
                      response_json(200, json_pack("{s:b, s:{}}", "success", 1, "data")));
}

static response *remove_by_path(request *r)
{
    response *bad;
    daydream *d = find_by_path(r, &bad);
    if (!d)
        return bad;
    return app_remove(r, d->stream, response_text(204, NULL, ""));
}

static response *status(request *r)
{
    response *bad;
    daydream *d = find_by_path(r, &bad);
    if (!d)
        return bad;
    char *origin = request_origin(r);
    response *a = response_json(200, daydream_status_json(d, origin, request_id(r)));
    g_free(origin);
    return a;
}

/* ---- while it runs --------------------------------------------------------------------------- */

/* {"0": 0.5} as the whole list of ControlNets: a new reference, or NULL with *err. */
static json_t *scaled(const daydream *d, const json_t *scales, scope_error *err)
{
    json_t *nets = json_deep_copy(json_object_get(d->params, "controlnets")), *scale;
    const char *index;
    if (!json_is_object(scales)) {
        error_set(err, SCOPE_EINVAL, "controlnet_scales",
                  "controlnet_scales must be an object of indices and scales");
        json_decref(nets);
        return NULL;
    }
    json_object_foreach((json_t *)scales, index, scale)
    {
        char *end;
        guint64 i = g_ascii_strtoull(index, &end, 10);
        json_t *net = g_ascii_isdigit(*index) && !*end ? json_array_get(nets, i) : NULL;
        if (!net) {
            error_set(err, SCOPE_EINVAL, "controlnet_scales",
                      "controlnet_scales names a ControlNet that is not there; there are %zu, "
                      "counted from 0",
                      json_array_size(nets));
            json_decref(nets);
            return NULL;
        }
        json_object_set(net, "conditioning_scale", scale);
    }
    return nets;
}

/* Parameters that Daydream takes without a reload, bare or under "params". */
static response *patch_params(request *r)
{
    response *bad;
    daydream *d = find_by_path(r, &bad);
    json_t *o = d ? request_json(r, false, &bad) : NULL;
    const json_t *inner;
    scope_error err = {0};
    if (!o)
        return bad;
    if (read_params(o, &inner, &err))
        return refuse(r, &err);
    json_t *change = json_copy((json_t *)(inner ? inner : o));
    const json_t *scales = json_object_get(change, "controlnet_scales");
    json_t *nets = scales ? scaled(d, scales, &err) : NULL;
    int status = scales && !nets ? err.status : 0;
    json_object_del(change, "controlnet_scales");
    if (nets)
        json_object_set_new(change, "controlnets", nets);
    const char *cold = status ? NULL : daydream_params_reloads(change);
    if (cold)
        status =
            error_set(&err, SCOPE_EINVAL, cold, "%s may load the model anew: PATCH /v1/streams/%s",
                      cold, stream_id(d->stream));
    if (!status)
        status = daydream_change(d, change, &err);
    json_decref(change);
    return status ? refuse(r, &err) : answer_stream(r, 200, d);
}

/* The older way to change parameters. */
static response *post_prompts(request *r)
{
    static const char *const known[] = {"pipeline", "model_id", "params", NULL};
    response *bad;
    daydream *d = find_by_path(r, &bad);
    json_t *o = d ? request_json(r, false, &bad) : NULL;
    const json_t *params;
    const char *pipeline, *model;
    scope_error err = {0};
    if (!o)
        return bad;
    if (read_members(o, known, &err) || read_text(o, "pipeline", &pipeline, &err) ||
        read_text(o, "model_id", &model, &err) || read_params(o, &params, &err) ||
        (!params && error_set(&err, SCOPE_EINVAL, "params", "params is missing")) ||
        daydream_change(d, params, &err))
        return refuse(r, &err);
    return response_json(200, json_pack("{s:b, s:s, s:b, s:o}", "success", 1, "message",
                                        "the parameters have been taken", "was_censored", 0,
                                        "warnings", daydream_warnings(d)));
}

#define ONE "/v1/streams/{id}"

const route daydream_routes[] = {
    {.method = "POST",
     .path = "/v1/streams",
     .handler = create,
     .access = ROUTE_TOKEN,
     .body_max = BODY_MAX,
     .summary = "Daydream: a new stream; its model loads behind",
     .body = "#DaydreamCreate",
     .answer = "#DaydreamStream",
     .status = 201},
    {.method = "GET",
     .path = "/v1/streams",
     .handler = list,
     .access = ROUTE_TOKEN,
     .summary = "Daydream: all streams that were made by this API",
     .query = "{\"user_id\": {\"type\": \"string\"}}",
     .answer = "#DaydreamStreams"},
    {.method = "DELETE",
     .path = "/v1/streams",
     .handler = remove_by_query,
     .access = ROUTE_TOKEN,
     .summary = "Daydream: end a stream",
     .query = "{\"id\": {\"type\": \"string\", \"minLength\": 1}}",
     .answer = "#DaydreamDeleted"},
    {.method = "GET",
     .path = ONE,
     .handler = get,
     .access = ROUTE_TOKEN,
     .summary = "Daydream: a stream",
     .answer = "#DaydreamStream"},
    {.method = "PATCH",
     .path = ONE,
     .handler = patch,
     .access = ROUTE_TOKEN,
     .body_max = BODY_MAX,
     .summary = "Daydream: merge parameters; some load the model anew",
     .body = "#DaydreamUpdate",
     .answer = "#DaydreamStream"},
    {.method = "DELETE",
     .path = ONE,
     .handler = remove_by_path,
     .access = ROUTE_TOKEN,
     .summary = "End a stream, as self-hosted servers of Daydream's API have it",
     .status = 204},
    {.method = "GET",
     .path = ONE "/status",
     .handler = status,
     .access = ROUTE_TOKEN,
     .summary = "Daydream: what a stream does; flat keys as self-hosted servers have them, too",
     .answer = "#DaydreamStatus"},
    {.method = "PATCH",
     .path = ONE "/params",
     .handler = patch_params,
     .access = ROUTE_TOKEN,
     .body_max = BODY_MAX,
     .summary = "Merge parameters that change while the stream runs",
     .body = "{\"anyOf\": [\"#DaydreamHotParams\", {\"type\": \"object\", \"required\": "
             "[\"params\"], \"properties\": {\"params\": \"#DaydreamHotParams\"}}]}",
     .answer = "#DaydreamStream"},
    {.method = "POST",
     .path = "/beta/streams/{id}/prompts",
     .handler = post_prompts,
     .access = ROUTE_TOKEN,
     .body_max = BODY_MAX,
     .summary = "Daydream: the older way to merge parameters",
     .body = "#DaydreamPrompts",
     .answer = "#DaydreamPrompted"},
    {0},
};
