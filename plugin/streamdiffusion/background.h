/* background.h - a thread that works on the newest list of texts, once the list has come to rest.
 *
 * While somebody types, a new list comes with every letter. The thread begins when no other has
 * come for `quiet_ms`, or `most_ms` after the first that waits; lists that newer ones replaced are
 * never worked on. Knows nothing of what the work is.
 */
#ifndef SD_BACKGROUND_H
#define SD_BACKGROUND_H

#include "scope_plugin.h"

typedef struct background background;

typedef struct background_options {
    int quiet_ms, most_ms;
    /* One text; on failure negative with *err. On the thread. */
    int (*work)(void *ctx, const char *text, scope_error *err);
    void *ctx;
} background_options;

/* Starts the thread. NULL with *err on failure. [load] or [frame], the first time */
background *background_open(const background_options *o, scope_error *err);
/* Waits for the text under way, and does no other. NULL is fine. [load] */
void background_close(background *b);

/* A list of texts, each with its NUL, `bytes` in all; copied. It replaces a list that waits.
 * Returns its ticket, > 0, or -1 when out of memory; allocates only when the list is longer than
 * every one before and than 16 KiB. [frame] */
long background_post(background *b, const char *texts, size_t bytes);
/* The ticket of the newest list that is done; when it failed, and only then, *err says why. What
 * was posted before it is done as well. [frame] */
long background_done(background *b, scope_error *err);

#endif
