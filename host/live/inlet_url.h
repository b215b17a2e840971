/* inlet_url.h - what a source's "url" may be, and what becomes of it. Only inlet*.c see this. */
#ifndef LIVE_INLET_URL_H
#define LIVE_INLET_URL_H

#include "../media/player.h"

typedef struct inlet_url {
    enum player_kind player;
    const char *kind; /* static: "file", "url", "camera", "screen", "test" */
    char *input;      /* owned; as player_options wants it */
    char *about;      /* owned; for people: without passwords */
    char *url;        /* owned; as it was asked for, but without passwords */
    bool live;        /* whoever sends sets the pace, and its end is a fault */
} inlet_url;

/* The rule for files: a path without a leading '/' is one in the folder `assets`, which it cannot
 * climb out of, not even over a link; absolute paths and file:// lead anywhere only when `local`,
 * else into that folder alone. Negative with *err ("url" is the field). [any] */
int inlet_url_init(inlet_url *u, const char *url, const char *assets, bool local, scope_error *err);
void inlet_url_fini(inlet_url *u);

/* A URL without user, password and query; for g_free. [any] */
char *inlet_url_public(const char *url);

#endif
