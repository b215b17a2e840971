/* app.c - what handlers have in common: finding the stream that a path names. */
#include "app.h"

stream *app_stream(request *r, response **answer)
{
    const char *id = request_part(r, "id");
    stream *s = live_find(app_of(r)->live, STREAM_ID, id);
    if (!s)
        *answer = response_error(r, 404, "STREAMS/NOT_FOUND", NULL, "there is no stream %s", id);
    return s;
}

stream *app_by_key(request *r, enum stream_key which, response **answer)
{
    stream *s = live_find(app_of(r)->live, which, request_part(r, "key"));
    if (!s)
        *answer =
            response_error(r, 404, "STREAMS/NOT_FOUND", NULL, "there is no stream at this address");
    return s;
}
