/* upgrade.c - the WebSocket handshake, and the hand-over of the socket to ws.c.
 *
 * libmicrohttpd sends the 101 and gives its socket away: the client's, or with TLS one end of a
 * pair whose other end front.c encrypts.
 */
#include "internal.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

struct upgrade {
    server *server; /* borrowed */
    ws_calls calls;
    void *ctx;
    struct MHD_UpgradeResponseHandle *handle; /* borrowed, once upgraded */
};

void upgrade_drop(upgrade *u)
{
    u->calls.closed(u->ctx);
    g_free(u);
}

static void on_release(void *ctx, ws *w)
{
    upgrade *u = ctx;
    g_queue_remove(&u->server->sockets, w);
    u->server->stats.websockets--;
    MHD_upgrade_action(u->handle, MHD_UPGRADE_ACTION_CLOSE);
    g_free(u);
}

static void on_upgraded(void *cls, struct MHD_Connection *mhd, void *con_cls, const char *early,
                        size_t n, MHD_socket fd, struct MHD_UpgradeResponseHandle *handle)
{
    (void)cls;
    (void)mhd;
    request *r = con_cls;
    upgrade *u = r->upgrade;
    r->upgrade = NULL;
    u->handle = handle;
    int wire = r->link->wire;
    setsockopt(wire, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    server *s = u->server;
    s->stats.websockets++;
    ws *w = ws_new(fd, wire, &u->calls, u->ctx, early, n, &s->stats, on_release, u);
    g_queue_push_tail(&s->sockets, w);
    u->calls.open(u->ctx, w);
}

char *ws_accept(const char *key)
{
    guint8 digest[20];
    gsize n = sizeof digest;
    GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA1);
    g_checksum_update(sum, (const guchar *)key, -1);
    g_checksum_update(sum, (const guchar *)"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", -1);
    g_checksum_get_digest(sum, digest, &n);
    g_checksum_free(sum);
    return g_base64_encode(digest, n);
}

static bool has_token(const char *list, const char *token)
{
    size_t n = strlen(token);
    while (list && *list) {
        list += strspn(list, ", \t");
        size_t k = strcspn(list, ", \t");
        if (k == n && g_ascii_strncasecmp(list, token, n) == 0)
            return true;
        list += k;
    }
    return false;
}

static bool key_valid(const char *key)
{
    if (!key || strlen(key) != 24 || strcmp(key + 22, "==") != 0)
        return false;
    for (int i = 0; i < 22; i++)
        if (!g_ascii_isalnum(key[i]) && key[i] != '+' && key[i] != '/')
            return false;
    return true;
}

/* NULL, or why the headers are no handshake. */
static const char *handshake_fault(const request *r)
{
    const char *version = request_header(r, "Sec-WebSocket-Version");
    if (strcmp(r->method, "GET") != 0)
        return "a WebSocket begins with GET";
    if (!has_token(request_header(r, "Upgrade"), "websocket"))
        return "this is a WebSocket: the header \"Upgrade: websocket\" is missing";
    if (!has_token(request_header(r, "Connection"), "upgrade"))
        return "this is a WebSocket: the header \"Connection: Upgrade\" is missing";
    if (!version || strcmp(version, "13") != 0)
        return "only version 13 of WebSocket is spoken here";
    if (!key_valid(request_header(r, "Sec-WebSocket-Key")))
        return "the header Sec-WebSocket-Key is missing, or not 16 bytes in base64";
    return NULL;
}

response *response_websocket(request *r, const ws_calls *calls, void *ctx)
{
    const char *fault = handshake_fault(r);
    struct MHD_Response *mhd = fault ? NULL : MHD_create_response_for_upgrade(on_upgraded, NULL);
    if (!mhd) {
        response *a = response_error(r, 426, "REQUEST/UPGRADE_REQUIRED", NULL, "%s",
                                     fault ? fault : "no memory for a WebSocket");
        response_header(a, "Upgrade", "websocket");
        response_header(a, "Sec-WebSocket-Version", "13");
        calls->closed(ctx);
        return a;
    }
    upgrade *u = g_new0(upgrade, 1);
    u->server = r->server;
    u->calls = *calls;
    u->ctx = ctx;
    r->upgrade = u;
    response *a = response_of(101, NULL, mhd, 0);
    char *accept = ws_accept(request_header(r, "Sec-WebSocket-Key"));
    response_header(a, "Upgrade", "websocket");
    response_header(a, "Sec-WebSocket-Accept", accept);
    g_free(accept);
    return a;
}
