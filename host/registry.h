/* registry.h - which plugins there are: search path, scan in a child process, verdicts.
 *
 * Each library is scanned by this same program in a child with a time limit, so one that
 * crashes, hangs, speaks another ABI, or has a bad schema or a duplicate id is listed with its
 * reason and harms nothing.
 */
#ifndef HOST_REGISTRY_H
#define HOST_REGISTRY_H

#include <jansson.h>

typedef struct registry_entry {
    char *path;    /* owned */
    char *id;      /* owned; NULL when the library could not be read */
    char *version; /* owned */
    char *schema;  /* owned schema text */
    char *fault;   /* owned; NULL when usable, else one sentence */
} registry_entry;

typedef struct registry registry;

/* Scan $SCOPE_PATH, extra_dir (may be NULL; first), the plugins/ folder beside the program,
 * ~/.local/lib/scope and /usr/local/lib/scope. The first of two equal ids wins; the second is
 * listed as a duplicate. [load] */
registry *registry_scan(const char *extra_dir);
/* The plugins of one library alone. [load] */
registry *registry_scan_file(const char *path);
void registry_free(registry *r);
int registry_count(const registry *r);
const registry_entry *registry_at(const registry *r, int i);
/* By id, or by its last dotted part when that is unique ("invert" for "org.example.invert"), or a
 * path to a .so file. NULL and a sentence with the nearest name when there is none. */
const registry_entry *registry_find(registry *r, const char *id, char why[256]);

/* The child's side: `scope --scan FILE` prints one JSON object and exits. */
int registry_scan_child(const char *path);

#endif
