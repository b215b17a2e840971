/* fetch.h - one file from a server: resumed where it stopped, verified, and only then named.
 *
 * A download grows as PATH.part. It gets its name when its size and its hash are right, so a file
 * under its own name is whole, and one that was there stays until a verified one replaces it.
 */
#ifndef HOST_FETCH_H
#define HOST_FETCH_H

#include "../plugin/scope_abi.h"

#include <glib.h>

typedef struct fetch_job {
    const char *url, *token; /* token: NULL, or sent to this server and no other */
    const char *path;        /* where it will lie; its folder is made */
    gint64 size;             /* what it must have; -1: the server says */
    const char *sha256;      /* hex; NULL: what X-Linked-Etag or ETag says */
    const char *blob;        /* git's SHA-1 of a small file, hex; NULL: what ETag says */
    /* Called now and then while it grows; total -1 when unknown. May be NULL. */
    void (*progress)(void *ctx, gint64 done, gint64 total);
    void *ctx;
} fetch_job;

enum { FETCH_GOT = 0, FETCH_THERE = 1, FETCH_UNVERIFIED = 2 };

/* FETCH_GOT; FETCH_THERE: the file was there already, whole; FETCH_UNVERIFIED: got, and neither we
 * nor the server knew a hash. Negative: *err says why and what to do. */
int fetch_file(const fetch_job *job, scope_error *err);
/* A text of at most 64 MB, for g_free; NULL on failure. */
char *fetch_text(const char *url, const char *token, scope_error *err);

#endif
