/* app.c - what handlers have in common: finding the stream that a path names, ending one. */
#include "app.h"

#include "../live/outlet.h"

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

typedef struct removal {
    request *r;
    response *answer;
    live *live;
    char *id; /* owned; another may have removed it meanwhile */
} removal;

static void finished(void *ctx)
{
    removal *x = ctx;
    stream *s = live_find(x->live, STREAM_ID, x->id);
    if (s)
        live_remove(x->live, s);
    request_answer(x->r, x->answer);
    g_free(x->id);
    g_free(x);
}

response *app_remove(request *r, stream *s, response *answer)
{
    json_t *outputs = outlet_list(s);
    size_t count = json_array_size(outputs);
    live *l = app_of(r)->live;
    json_decref(outputs);
    if (!count) {
        live_remove(l, s);
        return answer;
    }
    removal *x = g_new(removal, 1);
    *x = (removal){r, answer, l, g_strdup(stream_id(s))};
    request_later(r, NULL, NULL);
    outlet_close_stream(s, finished, x);
    return NULL;
}
