/* daydream_stream.h - what Daydream's API keeps with a stream, and how it gets the stream to obey.
 *
 * Under daydream.c (requests) and daydream_json.c (answers); over daydream_params.h and
 * daydream_map.h. Must stay true: the parameters that are told are those in force, or those that
 * are being loaded; what a plugin refuses, or cannot load while another works, is taken back. All
 * [main].
 */
#ifndef HTTP_DAYDREAM_STREAM_H
#define HTTP_DAYDREAM_STREAM_H

#include "app.h"
#include "daydream_params.h"

typedef struct daydream {
    stream *stream;
    const serve_options *options;
    json_t *params;   /* owned; complete */
    json_t *warnings; /* owned; sentences: what of it has no effect */
    json_t *said;     /* owned; warnings of the plugin's own since the last change */
    char *author;     /* owned */
    char *rtmp_url;   /* owned, or NULL */
    char *outlet;     /* owned: the id of the RTMP output, or NULL */
    char *fault;      /* owned: why nothing could be loaded at all, or NULL */
    char *refused;    /* owned: why the last change was taken back, or NULL */

    char *plugin;   /* owned; that runs the parameters */
    json_t *mapped; /* owned; what it was given for them */
    json_t *asked;  /* owned; all of its values then */
    struct {
        json_t *params, *mapped, *asked; /* owned, or NULL */
        char *plugin;                    /* owned */
    } before;                            /* what to go back to */
    uint64_t tag;                        /* of the change that is not in force yet, or 0 */
    bool switching;                      /* another plugin is loading, which no tag tells of */
    guint listener;
} daydream;

/* The Daydream side of a stream, with what others have changed since; NULL when it has none. */
daydream *daydream_of(stream *s);

/* Judge a request's parameters for a stream to be made: complete ones, or NULL with *err. */
json_t *daydream_judge(const serve_options *o, const char *model, const json_t *change,
                       scope_error *err);
/* Give a new stream its Daydream side and begin to load; steals params. A model that cannot be
 * loaded is told by its state. */
daydream *daydream_begin(stream *s, const serve_options *o, json_t *params, const char *author);
/* Merge a change into the parameters and put it in force. Negative with *err, and nothing changed,
 * when it is refused at once; what is refused later is told by the state. */
int daydream_change(daydream *d, const json_t *change, scope_error *err);
/* Send what is shown to an RTMP address from now on; NULL or "": no more. */
int daydream_push(daydream *d, const char *url, scope_error *err);

/* All that people should know of the parameters; new reference. */
json_t *daydream_warnings(const daydream *d);
/* What went wrong, for people, or NULL; for g_free. */
char *daydream_trouble(daydream *d);

#endif
