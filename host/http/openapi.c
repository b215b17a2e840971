/* openapi.c - the route tables as an OpenAPI 3.1 document. */
#include "internal.h"

#include "../version.h"

static const char error_schema[] =
    "{\"type\": \"object\","
    " \"required\": [\"success\", \"error\", \"code\", \"status\", \"details\", \"requestId\","
    " \"traceId\"],"
    " \"properties\": {\"success\": {\"const\": false}, \"error\": {\"type\": \"string\"},"
    " \"code\": {\"type\": \"string\"}, \"status\": {\"type\": \"integer\"},"
    " \"details\": {\"type\": [\"object\", \"null\"],"
    " \"properties\": {\"field\": {\"type\": \"string\"}}},"
    " \"requestId\": {\"type\": [\"string\", \"null\"]},"
    " \"traceId\": {\"type\": [\"string\", \"null\"]}}}";

static const struct {
    int status;
    const char *about;
} errors[] = {
    {400, "The request is wrong; `error` says where"},
    {401, "The token is missing or wrong"},
    {403, "The server does not go by this name"},
    {404, "There is no such thing"},
    {405, "The path does not take this method"},
    {406, "No form that is asked for can be made"},
    {409, "It does not go with the state that things are in"},
    {413, "The body is too large"},
    {415, "The body is of a type that is not taken here"},
    {416, "The file has no such range"},
    {426, "This is a WebSocket"},
    {429, "Too many wrong tokens"},
    {500, "The server failed; `error` says how"},
    {503, "Too much is going on; try again"},
};

/* "#Name" wherever a schema may stand becomes a reference to the component; steals, and returns. */
static json_t *resolve(json_t *value)
{
    const char *text = json_string_value(value), *key;
    json_t *item;
    void *next;
    size_t i;
    if (text && text[0] == '#' && g_ascii_isupper(text[1])) {
        json_t *ref = json_pack("{s:o}", "$ref", json_sprintf("#/components/schemas/%s", text + 1));
        json_decref(value);
        return ref;
    }
    json_object_foreach_safe(value, next, key, item)
    {
        json_object_set_new(value, key, resolve(json_incref(item)));
    }
    json_array_foreach(value, i, item)
    {
        json_array_set_new(value, i, resolve(json_incref(item)));
    }
    return value;
}

/* A schema of a route table: JSON text, or "#Name" bare. */
static json_t *schema_of(const char *text)
{
    json_error_t at;
    json_t *value = json_loads(text, JSON_DECODE_ANY, &at);
    if (!value && text[0] == '#')
        value = json_string(text);
    if (!value)
        g_error("a route's schema is no JSON: %s: %s", at.text, text);
    return resolve(value);
}

/* {"application/x": {"schema": ...}, ...} for a comma-separated list of types. */
static json_t *content_of(const char *types, const char *schema)
{
    json_t *content = json_object();
    char **each = g_strsplit(types ? types : "application/json", ",", -1);
    for (char **t = each; *t; t++)
        json_object_set_new(content, g_strstrip(*t),
                            schema ? json_pack("{s:o}", "schema", schema_of(schema))
                                   : json_object());
    g_strfreev(each);
    return content;
}

/* The path as OpenAPI writes it, "{rest*}" without its star; its names are added to `parameters`.
 * For g_free. */
static char *path_of(const char *path, json_t *parameters)
{
    GString *out = g_string_new(NULL);
    for (const char *p = path; *p; p++) {
        if (*p == '*' && p[1] == '}')
            continue;
        g_string_append_c(out, *p);
        if (*p != '{')
            continue;
        char *name = g_strndup(p + 1, strcspn(p + 1, "*}"));
        json_array_append_new(parameters,
                              json_pack("{s:s, s:s, s:b, s:{s:s, s:i}}", "name", name, "in", "path",
                                        "required", 1, "schema", "type", "string", "minLength", 1));
        g_free(name);
    }
    return g_string_free(out, FALSE);
}

static void add_query(json_t *parameters, const char *query)
{
    json_t *each = query ? schema_of(query) : NULL, *schema;
    const char *name;
    json_object_foreach(each, name, schema)
    {
        json_array_append_new(parameters, json_pack("{s:s, s:s, s:b, s:O}", "name", name, "in",
                                                    "query", "required", 0, "schema", schema));
    }
    json_decref(each);
}

static json_t *responses_of(const route *r)
{
    char status[8];
    json_t *all = json_object();
    int good = r->status ? r->status : 200;
    json_t *success = json_pack("{s:s}", "description", good == 101 ? "A WebSocket" : "Success");
    if (good != 101 && good != 204)
        json_object_set_new(success, "content", content_of(r->produces, r->answer));
    snprintf(status, sizeof status, "%d", good);
    json_object_set_new(all, status, success);
    for (size_t i = 0; i < G_N_ELEMENTS(errors); i++) {
        snprintf(status, sizeof status, "%d", errors[i].status);
        json_object_set_new(
            all, status,
            json_pack("{s:o}", "$ref", json_sprintf("#/components/responses/%s", status)));
    }
    return all;
}

/* "GET /v1/streams/{id}" as an identifier: "get_v1_streams_id". */
static json_t *name_of(const route *r)
{
    char *name = g_strconcat(r->method, r->path, NULL);
    GString *out = g_string_new(NULL);
    for (const char *p = name; *p; p++) {
        if (g_ascii_isalnum(*p))
            g_string_append_c(out, g_ascii_tolower(*p));
        else if (out->len && out->str[out->len - 1] != '_')
            g_string_append_c(out, '_');
    }
    while (out->len && out->str[out->len - 1] == '_')
        g_string_truncate(out, out->len - 1);
    json_t *text = json_string(out->str);
    g_string_free(out, TRUE);
    g_free(name);
    return text;
}

static void add_route(json_t *paths, const route *r, bool token)
{
    json_t *parameters = json_array();
    char *path = path_of(r->path, parameters), *method = g_ascii_strdown(r->method, -1);
    add_query(parameters, r->query);
    json_t *operation =
        json_pack("{s:o, s:s, s:o, s:o}", "operationId", name_of(r), "summary", r->summary,
                  "parameters", parameters, "responses", responses_of(r));
    if (r->body_max)
        json_object_set_new(operation, "requestBody",
                            json_pack("{s:b, s:o}", "required", r->body != NULL, "content",
                                      content_of(r->consumes, r->body)));
    if (token && r->access == ROUTE_TOKEN)
        json_object_set_new(operation, "security", json_pack("[{s:[]}]", "bearer"));
    json_t *item = json_object_get(paths, path);
    if (!item) {
        item = json_object();
        json_object_set_new(paths, path, item);
    }
    json_object_set_new(item, method, operation);
    g_free(path);
    g_free(method);
}

static json_t *components_of(const server *s)
{
    char status[8];
    json_t *schemas = json_deep_copy(s->components), *responses = json_object();
    schemas = resolve(schemas);
    json_object_set_new(schemas, "Error", schema_of(error_schema));
    for (size_t i = 0; i < G_N_ELEMENTS(errors); i++) {
        snprintf(status, sizeof status, "%d", errors[i].status);
        json_object_set_new(responses, status,
                            json_pack("{s:s, s:o}", "description", errors[i].about, "content",
                                      content_of(NULL, "#Error")));
    }
    json_t *all = json_pack("{s:o, s:o}", "schemas", schemas, "responses", responses);
    if (s->token)
        json_object_set_new(
            all, "securitySchemes",
            json_pack("{s:{s:s, s:s}}", "bearer", "type", "http", "scheme", "bearer"));
    return all;
}

json_t *server_openapi(const server *s, const char *origin)
{
    json_t *paths = json_object();
    for (const route *const *table = s->routes; *table; table++)
        for (const route *r = *table; r->method; r++)
            add_route(paths, r, s->token != NULL);
    return json_pack("{s:s, s:{s:s, s:s}, s:[{s:s}], s:o, s:o}", "openapi", "3.1.0", "info",
                     "title", "scope", "version", HOST_VERSION, "servers", "url", origin, "paths",
                     paths, "components", components_of(s));
}
