/* osc.c - parameters by OSC; see osc.h.
 *
 * One UDP socket on the main loop. Must stay true: values go the way of everyone else's
 * (stream_set), and what is told back is what is in force.
 */
#include "osc.h"
#include "message.h"

#include "../error.h"
#include "../log.h"

#include <gio/gio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PACKET_MAX = 65507,
    SUBSCRIBERS_MAX = 32,
    SUBSCRIBED_S = 60,
    PARTS_MAX = 12,
    PACKETS_AT_ONCE = 64
};

typedef struct subscriber {
    GSocketAddress *to; /* owned */
    int64_t until_us;
} subscriber;

struct osc {
    live *live;      /* borrowed until osc_close */
    GSocket *socket; /* owned */
    GSource *source; /* owned */
    guint listener;
    GArray *subscribers;
    GHashTable *told; /* "ID/LINK" -> the values last told (json_t) */
    osc_stats stats;
    GSocketAddress *from; /* borrowed; of the packet at hand */
};

/* ---- out ------------------------------------------------------------------------------------- */

static void send_to(osc *o, GSocketAddress *to, const char *address, lo_message args)
{
    GBytes *bytes = osc_message_bytes(address, args);
    gsize n;
    const char *data = g_bytes_get_data(bytes, &n);
    /* UDP: what cannot be sent now is lost, as on the way. */
    g_socket_send_to(o->socket, to, data, n, NULL, NULL);
    g_bytes_unref(bytes);
}

static void refuse(osc *o, const char *address, const char *why)
{
    o->stats.refused++;
    lo_message args = lo_message_new();
    lo_message_add_string(args, address);
    lo_message_add_string(args, why);
    send_to(o, o->from, "/scope/error", args);
    log_line(SCOPE_DEBUG, "osc", "%s: %s", address, why);
}

/* A value as one argument: lists and objects as JSON text. */
static void add_value(lo_message args, const json_t *value)
{
    if (json_is_integer(value)) {
        json_int_t n = json_integer_value(value);
        if (n >= G_MININT32 && n <= G_MAXINT32)
            lo_message_add_int32(args, (int32_t)n);
        else
            lo_message_add_int64(args, n);
    } else if (json_is_real(value)) {
        lo_message_add_float(args, (float)json_real_value(value));
    } else if (json_is_true(value)) {
        lo_message_add_true(args);
    } else if (json_is_false(value)) {
        lo_message_add_false(args);
    } else if (json_is_string(value)) {
        lo_message_add_string(args, json_string_value(value));
    } else {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        lo_message_add_string(args, text ? text : "");
        free(text);
    }
}

/* The shortest address that reaches this parameter; for g_free. */
static char *address_of(osc *o, stream *s, int link, const char *name)
{
    bool first = live_count(o->live) && live_at(o->live, 0) == s;
    bool shadowed = false; /* an earlier plugin has a parameter of this name */
    /* The chain may be another than when the event was on its way. */
    for (int i = 0; i < MIN(link, stream_links(s)); i++)
        shadowed |= schema_find(stream_link_schema(s, i), name) != NULL;
    if (shadowed)
        return g_strdup_printf("/scope/%s/%d/%s", stream_id(s), link, name);
    return first ? g_strdup_printf("/scope/%s", name)
                 : g_strdup_printf("/scope/%s/%s", stream_id(s), name);
}

static void tell_all(osc *o, const char *address, const json_t *value)
{
    for (guint i = 0; i < o->subscribers->len; i++) {
        lo_message args = lo_message_new();
        add_value(args, value);
        send_to(o, g_array_index(o->subscribers, subscriber, i).to, address, args);
    }
}

static void forget_silent(osc *o)
{
    int64_t now_us = g_get_monotonic_time();
    for (guint i = o->subscribers->len; i-- > 0;) {
        if (g_array_index(o->subscribers, subscriber, i).until_us < now_us)
            g_array_remove_index_fast(o->subscribers, i);
    }
    o->stats.subscribers = (int)o->subscribers->len;
}

static void heard(void *ctx, const stream_event *e)
{
    osc *o = ctx;
    if (e->kind != STREAM_VALUES || e->err)
        return;
    forget_silent(o);
    char *key = g_strdup_printf("%s/%d", stream_id(e->stream), e->link);
    const json_t *before = g_hash_table_lookup(o->told, key);
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)e->values, name, value)
    {
        if (o->subscribers->len && !(before && json_equal(value, json_object_get(before, name)))) {
            char *address = address_of(o, e->stream, e->link, name);
            tell_all(o, address, value);
            g_free(address);
        }
    }
    g_hash_table_insert(o->told, key, json_copy((json_t *)e->values));
}

static void ended(void *ctx, const stream_event *e)
{
    osc *o = ctx;
    for (int link = 0; e->kind == STREAM_ENDED && link < STREAM_LINKS_MAX; link++) {
        char *key = g_strdup_printf("%s/%d", stream_id(e->stream), link);
        g_hash_table_remove(o->told, key);
        g_free(key);
    }
    heard(ctx, e);
}

/* ---- in: what there is ----------------------------------------------------------------------- */

static const char *type_name(const schema_field *f)
{
    switch (f->type) {
    case SCOPE_BOOL:
        return "boolean";
    case SCOPE_INT:
        return "integer";
    case SCOPE_NUM:
        return "number";
    case SCOPE_STR:
        return "string";
    case SCOPE_LIST:
        return "array";
    default:
        return "object";
    }
}

static char *range_text(const schema_field *f)
{
    char low[G_ASCII_DTOSTR_BUF_SIZE] = "", high[G_ASCII_DTOSTR_BUF_SIZE] = "";
    if (f->choices) {
        char *json = json_dumps(f->choices, JSON_COMPACT), *text = g_strdup(json);
        free(json);
        return text;
    }
    if (f->has_min)
        g_ascii_dtostr(low, sizeof low, f->min);
    if (f->has_max)
        g_ascii_dtostr(high, sizeof high, f->max);
    return f->has_min || f->has_max ? g_strdup_printf("%s..%s", low, high) : g_strdup("");
}

static void list_link(osc *o, stream *s, int link)
{
    int count;
    const schema_field *const *fields = schema_ordered(stream_link_schema(s, link), &count);
    json_t *values = stream_link_values(s, link);
    for (int i = 0; i < count; i++) {
        const schema_field *f = fields[i];
        char *address = address_of(o, s, link, f->name), *range = range_text(f);
        lo_message args = lo_message_new();
        lo_message_add_string(args, address);
        lo_message_add_string(args, type_name(f));
        lo_message_add_string(args, range);
        add_value(args, json_object_get(values, f->name));
        send_to(o, o->from, "/scope/param", args);
        g_free(address);
        g_free(range);
    }
    json_decref(values);
}

static void list(osc *o)
{
    for (int i = 0; i < live_count(o->live); i++) {
        stream *s = live_at(o->live, i);
        for (int link = 0; link < stream_links(s); link++)
            list_link(o, s, link);
    }
}

static GSocketAddress *reply_address(osc *o, lo_message args)
{
    const char *types = lo_message_get_types(args);
    if (!types || types[0] != LO_INT32)
        return g_object_ref(o->from);
    gint32 port;
    memcpy(&port, lo_message_get_argv(args)[0], sizeof port); /* need not be aligned */
    GInetAddress *host = g_inet_socket_address_get_address(G_INET_SOCKET_ADDRESS(o->from));
    return g_inet_socket_address_new(host, (guint16)CLAMP(port, 1, 65535));
}

static bool same_address(GSocketAddress *a, GSocketAddress *b)
{
    GInetSocketAddress *x = G_INET_SOCKET_ADDRESS(a), *y = G_INET_SOCKET_ADDRESS(b);
    return g_inet_socket_address_get_port(x) == g_inet_socket_address_get_port(y) &&
           g_inet_address_equal(g_inet_socket_address_get_address(x),
                                g_inet_socket_address_get_address(y));
}

static void unsubscribe(osc *o, GSocketAddress *to)
{
    for (guint i = o->subscribers->len; i-- > 0;) {
        if (same_address(g_array_index(o->subscribers, subscriber, i).to, to))
            g_array_remove_index_fast(o->subscribers, i);
    }
    o->stats.subscribers = (int)o->subscribers->len;
}

static void subscribe(osc *o, const char *address, lo_message args)
{
    subscriber one = {reply_address(o, args),
                      g_get_monotonic_time() + SUBSCRIBED_S * G_USEC_PER_SEC};
    forget_silent(o);
    unsubscribe(o, one.to);
    if (o->subscribers->len >= SUBSCRIBERS_MAX) {
        refuse(o, address, "there are too many subscribers");
        g_object_unref(one.to);
        return;
    }
    g_array_append_val(o->subscribers, one);
    o->stats.subscribers = (int)o->subscribers->len;
}

static void unsubscribe_sender(osc *o, lo_message args)
{
    GSocketAddress *to = reply_address(o, args);
    unsubscribe(o, to);
    g_object_unref(to);
}

/* ---- in: values ------------------------------------------------------------------------------ */

static stream *stream_named(osc *o, const char *name)
{
    for (int i = 0; i < live_count(o->live); i++) {
        stream *s = live_at(o->live, i);
        if (!strcmp(stream_id(s), name) || !strcmp(stream_name(s), name))
            return s;
    }
    return NULL;
}

/* The link that parts[*at] names, else the first that has the parameter there; -1 when none has. */
static int link_named(stream *s, char **parts, int *at)
{
    char *end;
    guint64 n = g_ascii_strtoull(parts[*at], &end, 10);
    int link = end != parts[*at] && !*end && n < (guint64)stream_links(s)
                   ? (int)n
                   : stream_link_find(s, parts[*at]);
    if (link >= 0 && parts[*at + 1]) {
        ++*at;
        return link;
    }
    for (int i = 0; i < stream_links(s); i++) {
        if (schema_find(stream_link_schema(s, i), parts[*at]))
            return i;
    }
    return -1;
}

/* Set `path` ("strength", "prompts.0.weight") of a link from the message's arguments. */
static int set(stream *s, int link, const char *name, const char *path, lo_message args,
               scope_error *err)
{
    const schema *sc = stream_link_schema(s, link);
    const schema_field *f = schema_find(sc, name);
    if (!f)
        return error_set(err, SCOPE_EINVAL, name, "%s has no parameter \"%.60s\"",
                         stream_link_plugin(s, link), name);
    char *text = osc_message_text(args, f->type == SCOPE_INT, f->type == SCOPE_BOOL);
    if (!text)
        return error_set(err, SCOPE_EINVAL, name, "give a number, a text, true or false");
    schema_error why;
    json_t *now = stream_link_values(s, link), *values = json_deep_copy(now), *one = NULL;
    int status = schema_flag(sc, values, path, text, &why);
    if (status)
        status = error_from_schema(err, &why);
    else
        one = json_pack("{s:O}", name, json_object_get(values, name));
    if (one && stream_set(s, link, one, STREAM_REFUSE_RELOAD, "osc", 0, err) < 0)
        status = err->status;
    json_decref(one);
    json_decref(values);
    json_decref(now);
    g_free(text);
    return status;
}

static void parameter(osc *o, const char *address, lo_message args)
{
    scope_error err = {0};
    char **parts = g_strsplit(address + 1, "/", PARTS_MAX);
    int at = 1, count = (int)g_strv_length(parts);
    stream *s = count > 2 ? stream_named(o, parts[1]) : NULL;
    if (s)
        at = 2;
    else if (live_count(o->live))
        s = live_at(o->live, 0);
    int link = s && parts[at] ? link_named(s, parts, &at) : -1;
    if (!s) {
        refuse(o, address, "there is no stream");
    } else if (link < 0) {
        refuse(o, address, "no plugin of the stream has this parameter; /scope/list tells them");
    } else {
        char *path = g_strjoinv(".", parts + at);
        if (set(s, link, parts[at], path, args, &err))
            refuse(o, address, err.text);
        g_free(path);
    }
    g_strfreev(parts);
}

static void message(void *ctx, const char *address, lo_message args)
{
    osc *o = ctx;
    o->stats.messages++;
    if (!g_str_has_prefix(address, "/scope/"))
        refuse(o, address, "addresses here begin with /scope/");
    else if (!strcmp(address, "/scope/list"))
        list(o);
    else if (!strcmp(address, "/scope/subscribe"))
        subscribe(o, address, args);
    else if (!strcmp(address, "/scope/unsubscribe"))
        unsubscribe_sender(o, args);
    else
        parameter(o, address, args);
}

static gboolean readable(GSocket *socket, GIOCondition condition, gpointer ctx)
{
    osc *o = ctx;
    char *bytes = g_malloc(PACKET_MAX);
    (void)condition;
    for (int i = 0; i < PACKETS_AT_ONCE; i++) { /* a flood keeps nobody else waiting */
        GSocketAddress *from = NULL;
        gssize n = g_socket_receive_from(socket, &from, bytes, PACKET_MAX, NULL, NULL);
        if (n < 0)
            break;
        o->from = from;
        if (!osc_message_each(bytes, (size_t)n, message, o))
            o->stats.refused++;
        o->from = NULL;
        g_clear_object(&from);
    }
    g_free(bytes);
    return G_SOURCE_CONTINUE;
}

/* ---- open and close -------------------------------------------------------------------------- */

static void clear_subscriber(gpointer one)
{
    g_object_unref(((subscriber *)one)->to);
}

static GSocket *bound(const char *listen, int port, scope_error *err)
{
    GError *why = NULL;
    GSocketAddress *at = g_inet_socket_address_new_from_string(
        strcmp(listen, "localhost") ? listen : "127.0.0.1", (guint)port);
    if (!at) {
        error_set(err, SCOPE_EINVAL, "osc-listen",
                  "--osc-listen %s: give an address such as 0.0.0.0", listen);
        return NULL;
    }
    GSocket *s = g_socket_new(g_socket_address_get_family(at), G_SOCKET_TYPE_DATAGRAM,
                              G_SOCKET_PROTOCOL_UDP, &why);
    if (s)
        g_socket_set_blocking(s, FALSE);
    if (s && !g_socket_bind(s, at, FALSE, &why))
        g_clear_object(&s);
    if (!s)
        error_set(
            err, SCOPE_EIO, "osc-port",
            "the OSC port %d cannot be had: %s; choose another with --osc-port, or 0 for none",
            port, why->message);
    g_clear_error(&why);
    g_object_unref(at);
    return s;
}

int osc_check(const char *listen, int port, scope_error *err)
{
    GSocket *socket = bound(listen, port, err);
    if (!socket)
        return err->status;
    g_object_unref(socket);
    return 0;
}

osc *osc_open(live *l, const char *listen, int port, scope_error *err)
{
    GSocket *socket = bound(listen, port, err);
    if (!socket)
        return NULL;
    osc *o = g_new0(osc, 1);
    o->live = l;
    o->socket = socket;
    o->subscribers = g_array_new(FALSE, FALSE, sizeof(subscriber));
    g_array_set_clear_func(o->subscribers, clear_subscriber);
    o->told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)json_decref);
    o->source = g_socket_create_source(socket, G_IO_IN, NULL);
    g_source_set_callback(o->source, G_SOURCE_FUNC(readable), o, NULL);
    g_source_attach(o->source, NULL);
    o->listener = live_listen(l, ended, o);
    return o;
}

void osc_close(osc *o)
{
    if (!o)
        return;
    live_unlisten(o->live, o->listener);
    g_source_destroy(o->source);
    g_source_unref(o->source);
    g_object_unref(o->socket);
    g_array_unref(o->subscribers);
    g_hash_table_unref(o->told);
    g_free(o);
}

int osc_port(const osc *o)
{
    GSocketAddress *at = g_socket_get_local_address(o->socket, NULL);
    int port = at ? g_inet_socket_address_get_port(G_INET_SOCKET_ADDRESS(at)) : 0;
    g_clear_object(&at);
    return port;
}

void osc_stats_now(const osc *o, osc_stats *stats)
{
    *stats = o->stats;
}
