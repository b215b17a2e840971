/* daydream_json.h - Daydream's objects: a stream, and its status.
 *
 * Under daydream.c. Must stay true: every key is there, always; strict clients refuse an object
 * that lacks one. [main]
 */
#ifndef HTTP_DAYDREAM_JSON_H
#define HTTP_DAYDREAM_JSON_H

#include "daydream_stream.h"

/* `origin` is the server as the client sees it (request_origin). New references. */
json_t *daydream_stream_json(daydream *d, const char *origin);
/* Daydream's {success, error, data}, and beside them the flat keys of self-hosted servers. */
json_t *daydream_status_json(daydream *d, const char *origin, const char *request_id);

#endif
