/* daydream_values.h - single values of Daydream's parameters: are they of the type and range that
 * the table says?
 *
 * Under daydream_params.c, which puts them together. [any]
 */
#ifndef HTTP_DAYDREAM_VALUES_H
#define HTTP_DAYDREAM_VALUES_H

#include "daydream_params.h"

enum { DAYDREAM_PATH = sizeof(((scope_error *)0)->field) };

/* "path.name" and "path[i]", cut to fit; they return `out`. */
char *daydream_path_of(char out[DAYDREAM_PATH], const char *path, const char *name);
char *daydream_path_at(char out[DAYDREAM_PATH], const char *path, size_t i);

/* Fill *err with SCOPE_EINVAL, the path and one sentence, and return NULL. */
__attribute__((format(printf, 3, 4))) json_t *daydream_refuse(scope_error *err, const char *path,
                                                              const char *fmt, ...);
/* "path must be wanted, not v" */
json_t *daydream_refuse_type(scope_error *err, const char *path, const char *wanted,
                             const json_t *v);

/* The value v of a field that is no object of fields, as it is kept: a new reference, or NULL with
 * *err. */
json_t *daydream_value(const daydream_field *f, const json_t *v, const char *path,
                       scope_error *err);

#endif
