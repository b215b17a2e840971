/* config_json.h - reading one JSON file key by key, with one sticky error.
 *
 * Sits under config.c. Every getter returns its default when the key is absent or null, and notes
 * the first value that has the wrong type or is out of range; config_close tells.
 */
#ifndef SD_CONFIG_JSON_H
#define SD_CONFIG_JSON_H

#include "scope_plugin.h"

#include <jansson.h>

typedef struct config_file {
    char label[64];   /* "unet/config.json" */
    json_t *root;     /* owned */
    scope_error *err; /* borrowed; status 0 while all is well */
} config_file;

/* Read dir/name. Returns err->status. */
int config_open(config_file *f, const char *dir, const char *name, scope_error *err);
/* Release, and return err->status. */
int config_close(config_file *f);
/* Note a problem, unless there is one already. */
__attribute__((format(printf, 2, 3))) void config_note(config_file *f, const char *fmt, ...);

int config_int(config_file *f, const char *key, int absent, int lo, int hi);
double config_real(config_file *f, const char *key, double absent, double lo, double hi);
int config_bool(config_file *f, const char *key, int absent);
/* Borrowed from the file; NULL when absent. */
const char *config_text(config_file *f, const char *key);
/* An array of at most `most` integers; one integer stands for a list of `spread` copies when
 * spread > 0. Returns how many, 0 when the key is absent. */
int config_ints(config_file *f, const char *key, int *out, int most, int spread, int lo, int hi);
/* An array of at most `most` strings, borrowed. Returns how many, 0 when absent. */
int config_texts(config_file *f, const char *key, const char **out, int most);
/* The key must be absent or have this value (JSON text); otherwise it is a feature that is not
 * implemented, and is named. "null" admits false as well. */
void config_only(config_file *f, const char *key, const char *value);
/* _class_name must be absent or this. */
void config_class(config_file *f, const char *name);
/* A k_act by the name of an activation. */
int config_act(config_file *f, const char *key, const char *absent);

#endif
