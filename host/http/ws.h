/* ws.h - one WebSocket connection: messages in and out, with an honest queue. wslay frames them.
 *
 * [main]. A peer that answers no ping for 20 seconds is gone.
 */
#ifndef HTTP_WS_H
#define HTTP_WS_H

#include "server.h"

void ws_text(ws *w, const char *text);
void ws_json(ws *w, json_t *message); /* steals it */
/* `head` (copied) and then `body` (referenced, may be NULL) as one binary message. */
void ws_binary(ws *w, const void *head, size_t n, GBytes *body);
size_t ws_waiting(const ws *w); /* bytes that the peer has not taken yet */
/* Say goodbye (RFC 6455 code, at most 120 bytes of reason); closed() follows. */
void ws_close(ws *w, int code, const char *reason);

#endif
