/* app.h - what every handler of the server can reach, and the route tables that make it up.
 *
 * Under serve. One file, one table: a handler's file exports its routes, and knows nothing of the
 * others.
 */
#ifndef HTTP_APP_H
#define HTTP_APP_H

#include "../live/live.h"
#include "server.h"

typedef struct serve_options serve_options;

typedef struct app {
    live *live;                   /* owned by serve */
    server *server;               /* owned by serve */
    struct osc *osc;              /* owned by serve; NULL without OSC */
    const serve_options *options; /* serve_options.h */
    int64_t started_us;
} app;

static inline app *app_of(const request *r)
{
    return request_app(r);
}

/* The stream that "{id}" of the path names, or NULL with *answer a 404 STREAMS/NOT_FOUND. */
stream *app_stream(request *r, response **answer);
/* The stream behind "{key}" of the path, by its publish key or playback id; or NULL with *answer a
 * 404 that says nothing about which there are. */
stream *app_by_key(request *r, enum stream_key which, response **answer);

/* Attached to a stream (any data): its HLS output begins when it is first asked for. */
#define HLS_ON_DEMAND "hls on demand"

/* End the stream, whose recordings are finished first, and then answer. To be returned. */
response *app_remove(request *r, stream *s, response *answer);

/* The schemas that the routes below refer to. */
void shapes_tell(server *s);
void daydream_shapes(server *s); /* those of daydream_routes, which shapes_tell tells, too */

extern const route page_routes[];      /* the embedded page */
extern const route service_routes[];   /* /health /metrics /openapi.json */
extern const route streams_routes[];   /* /api/v1/streams: chains, sources, outputs, control */
extern const route library_routes[];   /* /api/v1/plugins presets assets recordings logs */
extern const route scope_routes[];     /* Daydream Scope's reads */
extern const route daydream_routes[];  /* /v1/streams */
extern const route whip_routes[];      /* WHIP and WHEP */
extern const route hls_routes[];       /* HLS files */
extern const route websocket_routes[]; /* publishing and watching by WebSocket, MJPEG, pictures */

#endif
