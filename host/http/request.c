/* request.c - what a handler may ask of a request; and the body as JSON. */
#include "internal.h"

request *request_new(server *s, struct MHD_Connection *mhd, const char *uri)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    request *r = g_new0(request, 1);
    r->server = s;
    r->mhd = mhd;
    r->link = info->socket_context;
    r->uri = g_strdup(uri);
    r->method = "GET";
    r->path = g_strdup("/");
    r->query = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    r->body = g_bytes_new_static("", 0);
    r->node.data = r;
    snprintf(r->id, sizeof r->id, "req_%08x%08x", g_random_int(), g_random_int());
    snprintf(r->peer, sizeof r->peer, "%s", r->link->peer);
    g_queue_push_tail_link(&s->requests, &r->node);
    return r;
}

void request_free(request *r)
{
    if (r->server)
        g_queue_unlink(&r->server->requests, &r->node);
    for (int i = 0; i < r->part_count; i++)
        g_free(r->parts[i].value);
    if (r->refusal)
        response_free(r->refusal);
    if (r->answer)
        response_free(r->answer);
    watch_free(r->watch);
    g_hash_table_destroy(r->query);
    if (r->incoming)
        g_byte_array_unref(r->incoming);
    g_bytes_unref(r->body);
    json_decref(r->json);
    g_free(r->uri);
    g_free(r->path);
    g_free(r);
}

/* "a=1&b=2" into the table; the first of a name counts. */
static bool parse_query(GHashTable *query, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "&"), k = strcspn(text, "=&");
        char *pair = g_strdelimit(g_strndup(text, n), "+", ' ');
        char *name = percent_decode(pair, k);
        char *value = k < n ? percent_decode(pair + k + 1, n - k - 1) : g_strdup("");
        g_free(pair);
        if (!name || !value) {
            g_free(name);
            g_free(value);
            return false;
        }
        if (*name && !g_hash_table_contains(query, name)) {
            g_hash_table_insert(query, name, value);
        } else {
            g_free(name);
            g_free(value);
        }
        text += text[n] ? n + 1 : n;
    }
    return true;
}

bool request_parse(request *r, response **answer)
{
    const char *at = r->uri;
    if (g_ascii_strncasecmp(at, "http://", 7) == 0 || g_ascii_strncasecmp(at, "https://", 8) == 0) {
        at = strchr(at, ':') + 3;
        at += strcspn(at, "/?");
    }
    size_t n = strcspn(at, "?#");
    char *path = percent_decode(at, n);
    const char *query = at[n] == '?' ? at + n + 1 : "";
    if (!path || !parse_query(r->query, query)) {
        g_free(path);
        *answer = response_error(r, 400, "REQUEST/BAD_URL", NULL,
                                 "the URL has a broken escape, a NUL, or is no UTF-8");
        return false;
    }
    g_free(r->path);
    r->path = path;
    memmove(r->uri, at, n);
    r->uri[n] = '\0'; /* what is left of it is for route_find */
    return true;
}

const char *request_method(const request *r)
{
    return r->method;
}

const char *request_path(const request *r)
{
    return r->path;
}

const char *request_part(const request *r, const char *name)
{
    for (int i = 0; i < r->part_count; i++)
        if (strlen(name) == r->parts[i].n && memcmp(name, r->parts[i].name, r->parts[i].n) == 0)
            return r->parts[i].value;
    g_assert_not_reached();
}

const char *request_query(const request *r, const char *name)
{
    return g_hash_table_lookup(r->query, name);
}

const char *request_header(const request *r, const char *name)
{
    return r->mhd ? MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, name) : NULL;
}

GBytes *request_body(const request *r)
{
    return r->body;
}

void *request_app(const request *r)
{
    return r->server ? r->server->app : NULL;
}

const char *request_peer(const request *r)
{
    return r->peer;
}

const char *request_id(const request *r)
{
    return r->id;
}

/* The first of a list that a chain of proxies made, trimmed; for g_free, or NULL. */
static char *forwarded(const request *r, const char *name)
{
    const char *value = r->server->behind_proxy ? request_header(r, name) : NULL;
    return value ? g_strstrip(g_strndup(value, strcspn(value, ","))) : NULL;
}

char *request_origin(const request *r)
{
    const server *s = r->server;
    char *scheme = forwarded(r, "X-Forwarded-Proto"), *host = forwarded(r, "X-Forwarded-Host");
    bool secure = scheme ? g_ascii_strcasecmp(scheme, "https") == 0 : s->tls;
    const char *sent = request_header(r, "Host");
    if (s->public_host) {
        g_free(host);
        host = g_strdup(s->public_host);
    } else if (!host || !host_valid(host)) {
        g_free(host);
        host = g_strdup(sent && host_valid(sent) ? sent : s->address);
    }
    char *origin = g_strdup_printf("%s://%s", secure ? "https" : "http", host);
    g_free(scheme);
    g_free(host);
    return origin;
}

json_t *json_body(const char *text, size_t n, bool empty, char *why, size_t size)
{
    json_error_t at;
    if (n == 0 && empty)
        return json_object();
    json_t *value = json_loadb(text, n, JSON_DECODE_ANY, &at);
    if (!value) {
        snprintf(why, size, "the body is no JSON: line %d, column %d: %s", at.line, at.column,
                 n == 0 ? "it is empty" : at.text);
        return NULL;
    }
    if (!json_is_object(value)) {
        snprintf(why, size, "the body has to be a JSON object, {...}");
        json_decref(value);
        return NULL;
    }
    return value;
}

json_t *request_json(request *r, bool empty, response **answer)
{
    char why[320];
    if (!r->json) {
        gsize n;
        const char *text = g_bytes_get_data(r->body, &n);
        r->json = json_body(text, n, empty, why, sizeof why);
    }
    if (!r->json)
        *answer = response_error(r, 400, "REQUEST/INVALID_JSON", NULL, "%s", why);
    return r->json;
}
