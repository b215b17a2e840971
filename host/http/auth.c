/* auth.c - who may ask: the bearer token, how often it may be guessed, and which Host is believed.
 *
 * Without a token a server on loopback is protected by nothing but being there, so a page of
 * somewhere else must not reach it under its own name (DNS rebinding): Host has to be an address.
 */
#include "internal.h"

#include <gio/gio.h>

enum {
    TRIES = 10,
    WINDOW_S = 60,
    PEERS_MAX = 4096,
};

typedef struct tries {
    int count;
    int64_t since_us;
} tries;

struct limiter {
    GHashTable *peers; /* address: tries */
};

limiter *limiter_new(void)
{
    limiter *l = g_new0(limiter, 1);
    l->peers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return l;
}

void limiter_free(limiter *l)
{
    g_hash_table_destroy(l->peers);
    g_free(l);
}

/* A peer that owns a whole /64 is one peer. */
static char *peer_key(const char *peer)
{
    GInetAddress *address = g_inet_address_new_from_string(peer);
    char *key = NULL;
    if (address && g_inet_address_get_family(address) == G_SOCKET_FAMILY_IPV6) {
        const guint8 *b = g_inet_address_to_bytes(address);
        key = g_strdup_printf("%02x%02x%02x%02x%02x%02x%02x%02x/64", b[0], b[1], b[2], b[3], b[4],
                              b[5], b[6], b[7]);
    }
    g_clear_object(&address);
    return key ? key : g_strdup(peer);
}

static gboolean is_over(gpointer key, gpointer value, gpointer now)
{
    (void)key;
    return *(int64_t *)now - ((tries *)value)->since_us > WINDOW_S * G_USEC_PER_SEC;
}

/* Seconds until this peer may try again; 0: now. */
static int limiter_wait(limiter *l, const char *peer)
{
    int64_t now = g_get_monotonic_time();
    char *key = peer_key(peer);
    tries *t = g_hash_table_lookup(l->peers, key);
    int wait = 0;
    if (t && t->count >= TRIES && !is_over(NULL, t, &now))
        wait = (int)(WINDOW_S - (now - t->since_us) / G_USEC_PER_SEC);
    g_free(key);
    return wait > 0 ? wait : 0;
}

static void limiter_count(limiter *l, const char *peer)
{
    int64_t now = g_get_monotonic_time();
    if (g_hash_table_size(l->peers) >= PEERS_MAX)
        g_hash_table_foreach_remove(l->peers, is_over, &now);
    if (g_hash_table_size(l->peers) >= PEERS_MAX)
        g_hash_table_remove_all(l->peers);
    char *key = peer_key(peer);
    tries *t = g_hash_table_lookup(l->peers, key);
    if (!t || is_over(NULL, t, &now)) {
        t = g_new0(tries, 1);
        t->since_us = now;
        g_hash_table_replace(l->peers, key, t);
    } else {
        g_free(key);
    }
    t->count++;
}

/* Digests are compared, so that neither the length nor the first wrong letter can be timed. */
bool token_equal(const char *given, const char *token)
{
    char *a = g_compute_checksum_for_string(G_CHECKSUM_SHA256, given, -1);
    char *b = g_compute_checksum_for_string(G_CHECKSUM_SHA256, token, -1);
    volatile unsigned differ = 0;
    for (size_t i = 0; i < 64; i++)
        differ |= (unsigned)(a[i] ^ b[i]);
    g_free(a);
    g_free(b);
    return differ == 0;
}

/* The token that a request brings, or NULL. */
static const char *given_token(request *r)
{
    const char *header = request_header(r, "Authorization");
    if (header && g_ascii_strncasecmp(header, "Bearer ", 7) == 0) {
        for (header += 7; *header == ' '; header++)
            ;
        return header;
    }
    bool reads = strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0;
    return reads ? request_query(r, "access_token") : NULL;
}

/* The name in host[:port] without the port, "[::1]" without its brackets; NULL where it is neither.
 */
static char *host_name(const char *host)
{
    size_t n = strcspn(host, ":");
    const char *port = host + n;
    if (host[0] == '[') {
        const char *end = strchr(host, ']');
        if (!end)
            return NULL;
        n = (size_t)(end - host - 1);
        host++;
        port = end + 1;
    }
    if (*port && (*port != ':' || strspn(port + 1, "0123456789") != strlen(port + 1)))
        return NULL;
    return n ? g_strndup(host, n) : NULL;
}

bool host_valid(const char *host)
{
    char *name = host_name(host);
    bool valid = name && strlen(name) < 256;
    bool address = valid && host[0] == '[' && g_hostname_is_ip_address(name);
    for (const char *p = name; valid && !address && *p; p++)
        valid = g_ascii_isalnum(*p) || strchr("-._", *p);
    g_free(name);
    return valid;
}

bool host_known(const char *host, const char *allowed)
{
    if (!host_valid(host))
        return false;
    char *name = host_name(host), *other = allowed ? host_name(allowed) : NULL;
    bool known = g_hostname_is_ip_address(name) || g_ascii_strcasecmp(name, "localhost") == 0 ||
                 (other && g_ascii_strcasecmp(name, other) == 0);
    g_free(name);
    g_free(other);
    return known;
}

static response *check_host(request *r)
{
    const server *s = r->server;
    const char *host = request_header(r, "Host");
    if (!s->loopback || s->token || !host || host_known(host, s->public_host))
        return NULL;
    return response_error(r, 403, "REQUEST/UNKNOWN_HOST", NULL,
                          "this server does not go by the name \"%.100s\": ask for it as localhost "
                          "or by its address, or start it with --public-host or with a token",
                          g_utf8_validate(host, -1, NULL) ? host : "?");
}

response *auth_check(request *r)
{
    server *s = r->server;
    response *no = check_host(r);
    if (no || !s->token || (r->route && r->route->access != ROUTE_TOKEN))
        return no;
    int wait = limiter_wait(s->limiter, r->peer);
    if (wait > 0) {
        no = response_error(r, 429, "AUTH/TOO_MANY_ATTEMPTS", NULL,
                            "too many wrong tokens came from this address; try again in %d seconds",
                            wait);
        char *text = g_strdup_printf("%d", wait);
        response_header(no, "Retry-After", text);
        g_free(text);
        return no;
    }
    const char *given = given_token(r);
    if (given && token_equal(given, s->token))
        return NULL;
    if (given)
        limiter_count(s->limiter, r->peer);
    no = response_error(r, 401, "AUTH/UNAUTHORIZED", NULL, "%s",
                        given ? "the token is wrong"
                              : "a token is needed: send it as \"Authorization: Bearer TOKEN\"");
    response_header(no, "WWW-Authenticate",
                    given ? "Bearer error=\"invalid_token\"" : "Bearer realm=\"scope\"");
    return no;
}
