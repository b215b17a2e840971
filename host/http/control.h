/* control.h - the control WebSocket of a stream: values and events both ways (README.md).
 *
 * Under streams.c. [main]
 */
#ifndef HTTP_CONTROL_H
#define HTTP_CONTROL_H

#include "app.h"

/* 101, and from then on the messages of README.md. */
response *control_open(request *r, stream *s);
/* stream_json with the stream's secrets, for those who may control it; new reference. */
json_t *control_stream_json(stream *s);
/* A number for stream_set that nobody else has. */
uint64_t control_tag(void);

#endif
