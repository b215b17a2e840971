/* scope_api.c - what Daydream Scope's API has that is cheap here: schemas, loading, parameters.
 *
 * Under serve. Scope has one session; here it is the oldest stream that no Daydream client made,
 * and loading makes one where there is none. Plugins are its pipelines.
 */
#include "app.h"
#include "daydream_stream.h"

#include "../error.h"

#include <string.h>

enum { BODY_MAX = 1 << 20 };

static const char invalid[] = "SCOPE/INVALID_PARAMS";

static stream *session(live *l)
{
    for (int i = 0; i < live_count(l); i++) {
        if (!daydream_of(live_at(l, i)))
            return live_at(l, i);
    }
    return NULL;
}

/* ---- schemas --------------------------------------------------------------------------------- */

static bool has_field(const schema *s, const char *name)
{
    return schema_find(s, name) != NULL;
}

static json_t *modes_of(const schema *s)
{
    const schema_field *f = schema_find(s, "input_mode");
    return f && f->choices ? json_deep_copy(f->choices) : json_pack("[s]", "video");
}

static json_t *pipeline_json(const registry_entry *e, const schema *s)
{
    const schema_field *mode = schema_find(s, "input_mode");
    const schema_field *spatial = schema_find(s, "prompt_interpolation_method");
    const schema_field *temporal = schema_find(s, "transition_method");
    const schema_field *steps = schema_find(s, "transition_steps");
    const schema_field *width = schema_find(s, "width");
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:s, s:o, s:s, s:b, s:b, s:b, s:b, s:b}", "id", e->id, "name",
                  *schema_title(s) ? schema_title(s) : e->id, "description", schema_description(s),
                  "version", e->version, "supported_modes", modes_of(s), "default_mode",
                  mode ? json_string_value(mode->def) : "video", "supports_prompts",
                  has_field(s, "prompts") || has_field(s, "prompt"), "requires_models",
                  has_field(s, "model_id_or_path"), "supports_lora", has_field(s, "loras"),
                  "produces_video", 1, "produces_audio", 0);
    json_t *more = json_pack("{s:b, s:b, s:b, s:b, s:n, s:n, s:n, s:n, s:b, s:[s], s:[s]}",
                             "supports_vace", 0, "supports_cache_management", 0,
                             "supports_kv_cache_bias", 0, "supports_quantization", 0, "docs_url",
                             "estimated_vram_gb", "recommended_quantization_vram_threshold",
                             "plugin_name", "modified", 0, "inputs", "video", "outputs", "video");
    json_object_update(o, more);
    json_decref(more);
    json_object_set_new(o, "usage", json_array());
    json_object_set_new(o, "min_dimension",
                        json_integer(width && width->has_min ? (json_int_t)width->min : 1));
    json_object_set(o, "default_spatial_interpolation_method",
                    spatial ? spatial->def : json_null());
    json_object_set(o, "default_temporal_interpolation_method",
                    temporal ? temporal->def : json_null());
    json_object_set(o, "default_temporal_interpolation_steps", steps ? steps->def : json_null());
    json_object_set_new(o, "config_schema", schema_json(s));
    return o;
}

/* A plugin that cannot be used is told, with the reason. */
static json_t *faulty_json(const registry_entry *e, const char *why)
{
    return json_pack("{s:s, s:s, s:s?, s:s}", "id", e->id, "name", e->id, "version", e->version,
                     "schema_error", why);
}

static response *schemas(request *r)
{
    live *l = app_of(r)->live;
    registry *all = live_registry(l);
    json_t *pipelines = json_object();
    for (int i = 0; i < registry_count(all); i++) {
        const registry_entry *e = registry_at(all, i);
        const schema *s = NULL;
        scope_error err = {0};
        if (!e->id || json_object_get(pipelines, e->id))
            continue;
        bool usable = !e->fault && live_plugin(l, e->id, &s, &err);
        json_object_set_new(pipelines, e->id,
                            usable ? pipeline_json(e, s)
                                   : faulty_json(e, e->fault ? e->fault : err.text));
    }
    return response_json(200, json_pack("{s:o}", "pipelines", pipelines));
}

/* ---- loading --------------------------------------------------------------------------------- */

/* One link of the chain to be: the parameters that its plugin knows; `taken` gets their names. */
static int add_link(live *l, json_t *chain, const json_t *id, const json_t *params, json_t *taken,
                    scope_error *err)
{
    const schema *s;
    const char *name;
    json_t *value;
    if (!json_is_string(id))
        return error_set(err, SCOPE_EINVAL, "pipeline_ids", "a pipeline's id must be a text");
    if (params && !json_is_object(params) && !json_is_null(params))
        return error_set(err, SCOPE_EINVAL, "load_params", "load_params must be an object");
    if (!live_plugin(l, json_string_value(id), &s, err)) {
        g_strlcpy(err->field, "pipeline_ids", sizeof err->field);
        return SCOPE_EINVAL;
    }
    json_t *values = json_object();
    json_object_foreach((json_t *)params, name, value)
    {
        if (!schema_find(s, name))
            continue;
        json_object_set(values, name, value);
        json_object_set_new(taken, name, json_true());
    }
    json_array_append_new(
        chain, json_pack("{s:s, s:o}", "plugin", json_string_value(id), "values", values));
    return 0;
}

static int all_taken(const json_t *params, const json_t *taken, scope_error *err)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)params, name, value)
    {
        if (!json_object_get(taken, name)) {
            error_set(err, SCOPE_EINVAL, "load_params", "no pipeline has a parameter %.60s", name);
            return SCOPE_EINVAL;
        }
    }
    return 0;
}

/* {"pipeline_ids": [...], "load_params": {...}}, or {"pipelines": [{"pipeline_id", "load_params"}]}
 * as a chain: a new reference, or NULL with *err. */
static json_t *chain_of(live *l, const json_t *body, scope_error *err)
{
    const json_t *ids = json_object_get(body, "pipeline_ids");
    const json_t *each = json_object_get(body, "pipelines");
    const json_t *list = json_is_array(each) ? each : ids;
    json_t *chain = json_array(), *taken = json_object();
    int status = json_array_size(list) ? 0
                                       : error_set(err, SCOPE_EINVAL, "pipeline_ids",
                                                   "pipeline_ids is missing: give a list of ids");
    for (size_t i = 0; !status && i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        const json_t *params = json_object_get(list == each ? one : body, "load_params");
        if (list == each)
            json_object_clear(taken);
        status = add_link(l, chain, list == each ? json_object_get(one, "pipeline_id") : one,
                          params, taken, err);
        if (!status && list == each)
            status = all_taken(params, taken, err);
    }
    if (!status && list == ids)
        status = all_taken(json_object_get(body, "load_params"), taken, err);
    json_decref(taken);
    if (!status)
        return chain;
    json_decref(chain);
    return NULL;
}

static response *load(request *r)
{
    response *bad;
    json_t *body = request_json(r, false, &bad);
    scope_error err = {0};
    if (!body)
        return bad;
    live *l = app_of(r)->live;
    json_t *chain = chain_of(l, body, &err);
    if (!chain)
        return response_fault(r, invalid, &err);
    stream *had = session(l), *s = had ? had : live_create(l, NULL, &err);
    if (!s) {
        json_decref(chain);
        return response_error(r, 429, "STREAMS/TOO_MANY", NULL, "%s", err.text);
    }
    int status = stream_chain(s, chain, &err);
    json_decref(chain);
    if (status && !had)
        live_remove(l, s);
    if (status)
        return response_fault(r, invalid, &err);
    return response_json(200, json_pack("{s:s, s:s}", "message", "loading; see the status",
                                        "stream_id", stream_id(s)));
}

static const char *status_name(enum stream_state state)
{
    switch (state) {
    case STREAM_EMPTY:
        return "not_loaded";
    case STREAM_LOADING:
    case STREAM_RELOADING:
        return "loading";
    case STREAM_FAILED:
        return "error";
    case STREAM_OFFLINE:
    case STREAM_ONLINE:
    case STREAM_DEGRADED:
        break;
    }
    return "loaded";
}

static response *status(request *r)
{
    stream *s = session(app_of(r)->live);
    bool any = s && stream_links(s) > 0;
    const char *notice = s ? stream_notice(s) : "";
    json_t *values = any ? stream_link_values(s, 0) : NULL;
    json_t *loras = json_object_get(values, "loras");
    json_t *o = json_pack("{s:s, s:s?, s:o, s:o, s:o, s:n, s:b, s:b}", "status",
                          s ? status_name(stream_state_now(s)) : "not_loaded", "pipeline_id",
                          any ? stream_link_plugin(s, 0) : NULL, "load_params",
                          any ? schema_load_values(stream_link_schema(s, 0), values) : json_null(),
                          "loaded_lora_adapters", loras ? json_incref(loras) : json_array(),
                          "error", *notice ? json_string(notice) : json_null(), "loading_stage",
                          "produces_video", any, "produces_audio", 0);
    json_decref(values);
    return response_json(200, o);
}

/* ---- parameters ------------------------------------------------------------------------------ */

static response *parameters(request *r)
{
    stream *s = session(app_of(r)->live);
    json_t *all = json_object();
    for (int i = 0; s && i < stream_links(s); i++) {
        json_t *values = stream_link_values(s, i);
        json_object_update_missing(all, values);
        json_decref(values);
    }
    return response_json(200, json_pack("{s:o}", "parameters", all));
}

/* The first plugin that knows all of them, or -1 with the first that the first one lacks. */
static int link_for(const stream *s, const json_t *values, const char **lacks)
{
    *lacks = NULL;
    for (int i = 0; i < stream_links(s); i++) {
        const char *name, *missing = NULL;
        json_t *value;
        json_object_foreach((json_t *)values, name, value)
        {
            if (!missing && !schema_find(stream_link_schema(s, i), name))
                missing = name;
        }
        if (!missing)
            return i;
        if (!*lacks)
            *lacks = missing;
    }
    return -1;
}

static response *set_parameters(request *r)
{
    response *bad;
    json_t *body = request_json(r, false, &bad);
    const char *lacks;
    scope_error err = {0};
    if (!body)
        return bad;
    stream *s = session(app_of(r)->live);
    if (!json_object_size(body))
        return response_error(r, 400, invalid, NULL, "no parameters are given");
    if (!s || !stream_links(s))
        return response_error(r, 409, "SCOPE/NOT_LOADED", NULL, "no pipeline is loaded");
    int link = link_for(s, body, &lacks);
    if (link < 0)
        return response_error(r, 400, invalid, lacks, "no pipeline has a parameter %.60s", lacks);
    if (stream_set(s, link, body, STREAM_REFUSE_RELOAD, "rest", 0, &err) < 0)
        return response_fault(r, invalid, &err);
    return response_json(200, json_pack("{s:s, s:O}", "status", "ok", "applied_parameters", body));
}

const route scope_routes[] = {
    {.method = "GET",
     .path = "/api/v1/pipelines/schemas",
     .handler = schemas,
     .access = ROUTE_TOKEN,
     .summary = "Daydream Scope: the plugins with their schemas",
     .answer =
         "{\"type\": \"object\", \"required\": [\"pipelines\"], \"properties\": {\"pipelines\": "
         "{\"type\": \"object\"}}}"},
    {.method = "POST",
     .path = "/api/v1/pipeline/load",
     .handler = load,
     .access = ROUTE_TOKEN,
     .body_max = BODY_MAX,
     .summary = "Daydream Scope: load plugins, one after the other, into the session",
     .body =
         "{\"type\": \"object\", \"properties\": {\"pipeline_ids\": {\"type\": \"array\", "
         "\"minItems\": 1, \"items\": {\"type\": \"string\"}}, \"load_params\": {\"type\": "
         "[\"object\", \"null\"]}, \"pipelines\": {\"type\": \"array\", \"items\": {\"type\": "
         "\"object\", \"required\": [\"pipeline_id\"], \"properties\": {\"node_id\": {\"type\": "
         "\"string\"}, \"pipeline_id\": {\"type\": \"string\"}, \"load_params\": {\"type\": "
         "[\"object\", \"null\"]}}}}}}",
     .answer = "{\"type\": \"object\", \"required\": [\"message\", \"stream_id\"], \"properties\": "
               "{\"message\": {\"type\": \"string\"}, \"stream_id\": {\"type\": \"string\"}}}"},
    {.method = "GET",
     .path = "/api/v1/pipeline/status",
     .handler = status,
     .access = ROUTE_TOKEN,
     .summary = "Daydream Scope: what is loaded in the session",
     .answer =
         "{\"type\": \"object\", \"required\": [\"status\", \"pipeline_id\", \"load_params\", "
         "\"error\"], \"properties\": {\"status\": {\"enum\": [\"not_loaded\", \"loading\", "
         "\"loaded\", \"error\"]}, \"pipeline_id\": {\"type\": [\"string\", \"null\"]}, "
         "\"load_params\": {\"type\": [\"object\", \"null\"]}, \"error\": {\"type\": "
         "[\"string\", \"null\"]}}}"},
    {.method = "GET",
     .path = "/api/v1/session/parameters",
     .handler = parameters,
     .access = ROUTE_TOKEN,
     .summary = "Daydream Scope: the session's parameters",
     .answer = "{\"type\": \"object\", \"required\": [\"parameters\"], \"properties\": "
               "{\"parameters\": {\"type\": \"object\"}}}"},
    {.method = "POST",
     .path = "/api/v1/session/parameters",
     .handler = set_parameters,
     .access = ROUTE_TOKEN,
     .body_max = BODY_MAX,
     .summary = "Daydream Scope: change parameters of the session while it runs",
     .body = "{\"type\": \"object\", \"minProperties\": 1}",
     .answer =
         "{\"type\": \"object\", \"required\": [\"status\", \"applied_parameters\"], "
         "\"properties\": {\"status\": {\"const\": \"ok\"}, \"applied_parameters\": {\"type\": "
         "\"object\"}}}"},
    {0},
};
