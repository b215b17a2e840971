/* daydream_json.c - see daydream_json.h. */
#include "daydream_json.h"

#include <string.h>

/* ---- a stream -------------------------------------------------------------------------------- */

/* "2026-01-22T17:00:00.000Z" */
static json_t *iso_time(int64_t ms)
{
    GDateTime *t = g_date_time_new_from_unix_utc(ms / 1000);
    char *text = g_date_time_format(t, "%Y-%m-%dT%H:%M:%S");
    json_t *out = json_sprintf("%s.%03dZ", text, (int)(ms % 1000));
    g_free(text);
    g_date_time_unref(t);
    return out;
}

static enum stream_state state_of(const daydream *d)
{
    enum stream_state state = stream_state_now(d->stream);
    return d->fault && state == STREAM_EMPTY ? STREAM_FAILED : state;
}

/* As self-hosted servers name it. */
static const char *status_of(const daydream *d)
{
    switch (state_of(d)) {
    case STREAM_EMPTY:
        return "pending";
    case STREAM_LOADING:
    case STREAM_RELOADING:
        return "starting";
    case STREAM_FAILED:
        return "error";
    case STREAM_OFFLINE: /* it would run: what it lacks is frames */
    case STREAM_ONLINE:
    case STREAM_DEGRADED:
        break;
    }
    return "running";
}

json_t *daydream_stream_json(daydream *d, const char *origin)
{
    stream *s = d->stream;
    const char *key = stream_publish_key(s), *play = stream_playback_id(s);
    const char *host = strstr(origin, "://");
    json_t *o = json_pack(
        "{s:s, s:O, s:s, s:s, s:o, s:o, s:s, s:s, s:s, s:b, s:s, s:b, s:o}", "pipeline",
        "streamdiffusion", "params", d->params, "id", stream_id(s), "stream_key", key,
        "output_stream_url", json_sprintf("%s/live/%s/whep", origin, play), "created_at",
        iso_time(stream_created_ms(s)), "output_playback_id", play, "name", stream_name(s),
        "author", d->author, "from_playground", 0, "gateway_host", host ? host + 3 : origin,
        "is_smoke_test", 0, "whip_url", json_sprintf("%s/live/%s/whip", origin, key));
    json_object_set_new(o, "status", json_string(status_of(d)));
    json_object_set_new(o, "output_hls_url",
                        json_sprintf("%s/live/%s/hls/index.m3u8", origin, play));
    json_object_set_new(o, "output_rtmp_url", d->rtmp_url ? json_string(d->rtmp_url) : json_null());
    json_object_set_new(o, "warnings", daydream_warnings(d));
    return o;
}

/* ---- its status ------------------------------------------------------------------------------ */

/* As Daydream's workers name it. */
static const char *worker_state(const daydream *d, const stream_stats *n)
{
    enum { STALLED_US = 1000000 };
    switch (state_of(d)) {
    case STREAM_LOADING:
    case STREAM_RELOADING:
        return "LOADING";
    case STREAM_EMPTY:
    case STREAM_OFFLINE:
        return "OFFLINE";
    case STREAM_DEGRADED:
        return "DEGRADED_INFERENCE";
    case STREAM_FAILED:
        return "ERROR";
    case STREAM_ONLINE:
        break;
    }
    if (!n->frames_out) /* clients take ONLINE for "there is something to see" */
        return "LOADING";
    return g_get_monotonic_time() - n->last_in_us > STALLED_US ? "DEGRADED_INPUT" : "ONLINE";
}

/* A time of the monotonic clock in ms since 1970; null for "never". */
static json_t *wall_ms(int64_t us)
{
    return us ? json_integer((g_get_real_time() - g_get_monotonic_time() + us) / 1000)
              : json_null();
}

static json_t *text_or_null(const char *text)
{
    return text && *text ? json_string(text) : json_null();
}

static json_t *inference_json(daydream *d, const stream_stats *n, const char *trouble)
{
    char *text = json_dumps(d->params, JSON_COMPACT | JSON_SORT_KEYS);
    char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
    json_t *o = json_pack(
        "{s:s, s:o, s:o, s:O, s:s, s:f, s:f, s:o, s:o, s:i, s:n, s:[], s:o, s:s}", "pipeline",
        "streamdiffusion", "start_time", wall_ms(n->started_us), "last_params_update_time",
        wall_ms(n->last_set_us), "last_params", d->params, "last_params_hash", hash, "input_fps",
        n->fps_in, "output_fps", n->fps_out, "last_input_time", wall_ms(n->last_in_us),
        "last_output_time", wall_ms(n->last_out_us), "restart_count", n->restarts,
        "last_restart_time", "last_restart_logs", "last_error",
        text_or_null(trouble ? trouble : n->last_error), "stream_id", stream_id(d->stream));
    g_free(hash);
    free(text);
    return o;
}

static json_t *gateway_json(daydream *d, const stream_stats *n, const char *origin,
                            const char *trouble)
{
    json_t *error = trouble ? json_pack("{s:s, s:o}", "error_message", trouble, "error_time",
                                        wall_ms(n->last_error_us))
                            : json_null();
    return json_pack("{s:o, s:o, s:{s:{s:{s:s, s:i, s:i}, s:s, s:[]}}}", "whep_url",
                     json_sprintf("%s/live/%s/whep", origin, stream_playback_id(d->stream)),
                     "error", error, "ingest_metrics", "stats", "peer_conn_stats", "ID",
                     stream_id(d->stream), "BytesReceived", 0, "BytesSent", 0, "conn_quality",
                     n->fps_in > 0 ? "good" : "bad", "track_stats");
}

/* The keys of self-hosted servers. */
static void add_flat(json_t *o, daydream *d, const stream_stats *n, const char *trouble)
{
    int64_t run_us = n->started_us ? g_get_monotonic_time() - n->started_us : 0;
    json_t *started = wall_ms(n->started_us);
    json_t *flat = json_pack(
        "{s:s, s:s, s:o, s:o, s:o, s:f, s:I, s:o, s:n, s:n, s:o, s:o}", "id", stream_id(d->stream),
        "status", status_of(d), "created_at", iso_time(stream_created_ms(d->stream)), "started_at",
        json_is_null(started) ? json_null() : iso_time(json_integer_value(started)),
        "uptime_seconds", n->started_us ? json_real((double)run_us / 1e6) : json_null(), "fps",
        n->fps_out, "frames_processed", (json_int_t)n->frames_out, "latency_ms",
        n->frames_out ? json_real(n->age_p50) : json_null(), "gpu_memory_used_mb",
        "gpu_utilization_percent", "error_message", text_or_null(trouble), "warnings",
        daydream_warnings(d));
    json_decref(started);
    json_object_update(o, flat);
    json_decref(flat);
}

json_t *daydream_status_json(daydream *d, const char *origin, const char *request_id)
{
    stream_stats n;
    stream_stats_now(d->stream, &n);
    char *trouble = daydream_trouble(d);
    json_t *data = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:{s:s, s:s}, s:o, s:o}", "stream_id",
                             stream_id(d->stream), "request_id", request_id, "pipeline_id",
                             stream_id(d->stream), "type", "status", "pipeline", "streamdiffusion",
                             "state", worker_state(d, &n), "orchestrator_info", "address", "",
                             "url", origin, "inference_status", inference_json(d, &n, trouble),
                             "gateway_status", gateway_json(d, &n, origin, trouble));
    json_t *o = json_pack("{s:b, s:n, s:o}", "success", 1, "error", "data", data);
    add_flat(o, d, &n, trouble);
    g_free(trouble);
    return o;
}

/* ---- shapes ---------------------------------------------------------------------------------- */

#define PIPELINE(more)                                                                             \
    "\"pipeline\": {\"enum\": [\"streamdiffusion\", \"streamdiffusion-sdxl\", "                    \
    "\"streamdiffusion-sd15\"" more "]}"
#define NAME    "\"name\": {\"type\": [\"string\", \"null\"], \"maxLength\": 128}"
#define RTMP    "\"output_rtmp_url\": {\"type\": [\"string\", \"null\"]}"
#define PARAMS  "\"params\": {\"anyOf\": [\"#DaydreamParams\", {\"type\": \"null\"}]}"
#define TEXT    "{\"type\": \"string\"}"
#define TEXT0   "{\"type\": [\"string\", \"null\"]}"
#define NUMBER0 "{\"type\": [\"number\", \"null\"]}"

static const struct {
    const char *name, *json;
} shapes[] = {
    {"DaydreamCreate",
     "{\"type\": \"object\", \"required\": [\"pipeline\"], \"additionalProperties\": false, "
     "\"properties\": {" PIPELINE(
         "") ", " PARAMS ", " NAME ", " RTMP ", \"user_id\": {\"type\": [\"string\", \"null\"], "
             "\"minLength\": 1, \"maxLength\": 128, "
             "\"description\": "
             "\"whose stream it is; GET /v1/streams?user_id= looks for it\"}}}"},
    {"DaydreamUpdate",
     "{\"type\": \"object\", \"additionalProperties\": false, \"properties\": {" PIPELINE(
         ", null") ", " PARAMS ", " NAME ", " RTMP "}}"},
    {"DaydreamPrompts",
     "{\"type\": \"object\", \"required\": [\"params\"], \"properties\": {\"pipeline\": " TEXT0
     ", \"model_id\": " TEXT0 ", \"params\": \"#DaydreamParams\"}}"},
    {"DaydreamStream",
     "{\"type\": \"object\", \"required\": [\"pipeline\", \"params\", \"id\", \"stream_key\", "
     "\"output_stream_url\", \"created_at\", \"output_playback_id\", \"name\", \"author\", "
     "\"from_playground\", \"gateway_host\", \"is_smoke_test\", \"whip_url\", \"status\", "
     "\"output_hls_url\", \"output_rtmp_url\", \"warnings\"], \"properties\": {"
     "\"pipeline\": {\"const\": \"streamdiffusion\"}, \"params\": \"#DaydreamParamsInForce\", "
     "\"id\": " TEXT ", \"stream_key\": " TEXT ", \"output_stream_url\": " TEXT
     ", \"created_at\": " TEXT ", \"output_playback_id\": " TEXT ", \"name\": " TEXT
     ", \"author\": " TEXT ", \"from_playground\": {\"const\": false}, \"gateway_host\": " TEXT
     ", \"is_smoke_test\": {\"const\": false}, \"whip_url\": " TEXT
     ", \"status\": \"#DaydreamState\", \"output_hls_url\": " TEXT ", \"output_rtmp_url\": " TEXT0
     ", \"warnings\": {\"type\": \"array\", \"items\": " TEXT "}}}"},
    {"DaydreamState",
     "{\"enum\": [\"pending\", \"starting\", \"running\", \"stopping\", \"stopped\", \"error\"]}"},
    {"DaydreamStreams",
     "{\"type\": \"object\", \"required\": [\"success\", \"data\"], \"properties\": {\"success\": "
     "{\"const\": true}, \"data\": {\"type\": \"array\", \"items\": \"#DaydreamStream\"}}}"},
    {"DaydreamDeleted",
     "{\"type\": \"object\", \"required\": [\"success\", \"data\"], \"properties\": {\"success\": "
     "{\"const\": true}, \"data\": {\"type\": \"object\"}}}"},
    {"DaydreamPrompted",
     "{\"type\": \"object\", \"required\": [\"success\", \"message\", \"was_censored\", "
     "\"warnings\"], \"properties\": {\"success\": {\"const\": true}, \"message\": " TEXT
     ", \"was_censored\": {\"const\": false}, \"warnings\": {\"type\": \"array\", \"items\": " TEXT
     "}}}"},
    {"DaydreamStatus",
     "{\"type\": \"object\", \"required\": [\"success\", \"error\", \"data\", \"id\", \"status\", "
     "\"created_at\", \"started_at\", \"uptime_seconds\", \"fps\", \"frames_processed\", "
     "\"latency_ms\", \"gpu_memory_used_mb\", \"gpu_utilization_percent\", \"error_message\", "
     "\"warnings\"], \"properties\": {\"success\": {\"const\": true}, \"error\": " TEXT0
     ", \"data\": {\"type\": \"object\", \"required\": [\"stream_id\", \"request_id\", "
     "\"pipeline_id\", \"type\", \"pipeline\", \"state\", \"orchestrator_info\", "
     "\"inference_status\", \"gateway_status\"], \"properties\": {\"state\": {\"enum\": "
     "[\"LOADING\", \"OFFLINE\", \"ONLINE\", \"DEGRADED_INPUT\", \"DEGRADED_INFERENCE\", "
     "\"ERROR\"]}, \"inference_status\": {\"type\": \"object\"}, \"gateway_status\": {\"type\": "
     "\"object\"}}}, \"id\": " TEXT ", \"status\": \"#DaydreamState\", \"created_at\": " TEXT
     ", \"started_at\": " TEXT0 ", \"uptime_seconds\": " NUMBER0
     ", \"fps\": {\"type\": \"number\"}, \"frames_processed\": {\"type\": \"integer\"}, "
     "\"latency_ms\": " NUMBER0 ", \"gpu_memory_used_mb\": " NUMBER0
     ", \"gpu_utilization_percent\": " NUMBER0 ", \"error_message\": " TEXT0
     ", \"warnings\": {\"type\": \"array\", \"items\": " TEXT "}}}"},
};

static void tell(server *s, const char *name, json_t *schema)
{
    char *text = json_dumps(schema, JSON_COMPACT);
    server_component(s, name, text);
    free(text);
    json_decref(schema);
}

/* What /params takes: the hot ones, and the scales of ControlNets by their number. */
static json_t *hot_params(void)
{
    json_t *o = daydream_params_schema(DAYDREAM_HOT_REQUEST);
    json_object_set_new(json_object_get(o, "properties"), "controlnet_scales",
                        json_pack("{s:s, s:{s:s}, s:{s:s, s:i, s:i}}", "type", "object",
                                  "propertyNames", "pattern", "^[0-9]+$", "additionalProperties",
                                  "type", "number", "minimum", 0, "maximum", 2));
    return o;
}

void daydream_shapes(server *s)
{
    for (size_t i = 0; i < G_N_ELEMENTS(shapes); i++)
        server_component(s, shapes[i].name, shapes[i].json);
    tell(s, "DaydreamParams", daydream_params_schema(DAYDREAM_REQUEST));
    tell(s, "DaydreamHotParams", hot_params());
    tell(s, "DaydreamParamsInForce", daydream_params_schema(DAYDREAM_ANSWER));
}
