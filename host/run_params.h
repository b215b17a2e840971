/* run_params.h - the plugins named on a command line, and the values meant for each of them.
 *
 * Under run and bench: flags, --param, --params, --seed and --size end up as one JSON object per
 * plugin, each value checked against the schema of its plugin.
 */
#ifndef HOST_RUN_PARAMS_H
#define HOST_RUN_PARAMS_H

#include "keyframes.h"
#include "registry.h"

enum { RUN_LINKS_MAX = 16 };

typedef struct run_link {
    const registry_entry *entry; /* borrowed from reg */
    schema *schema;              /* owned */
    json_t *values;              /* owned */
} run_link;

typedef struct run_plugins {
    registry *reg; /* owned; NULL without plugins */
    int count;
    run_link link[RUN_LINKS_MAX];
} run_plugins;

/* Find the plugins `ids` (NULL-terminated, may be NULL) and read their schemas. [load] */
int run_plugins_init(run_plugins *p, const char *dir, char *const *ids, scope_error *err);
void run_plugins_fini(run_plugins *p);

/* Which plugin and field an address means: "strength" (the first plugin that has it), "2.strength"
 * (the second plugin), "invert:strength" (by id); "prompts.0.weight" reaches inside. *rest is the
 * part of `address` that schema_flag takes. A unique beginning of a name is enough. */
int run_target(const run_plugins *p, const char *address, keyframes_target *to, const char **rest,
               scope_error *err);
/* The same as a keyframes_resolve; ctx is the run_plugins. */
int run_resolve(void *ctx, const char *name, keyframes_target *to, scope_error *err);

/* Values for one plugin, {field: value}, checked, over those it has. */
int run_merge(run_link *l, const json_t *more, scope_error *err);
/* Set one parameter from text. */
int run_param(run_plugins *p, const char *address, const char *text, scope_error *err);
/* "name=value". */
int run_param_pair(run_plugins *p, const char *pair, scope_error *err);
/* A JSON file: {address: value, plugin: {field: value}}. */
int run_params_file(run_plugins *p, const char *path, scope_error *err);
/* Set an integer field of this name wherever there is one (and, if `keep`, it is not set yet);
 * returns how many there were, negative with *err. */
int run_everywhere(run_plugins *p, const char *name, int64_t value, bool keep, scope_error *err);
/* --fit is also the `fit` of plugins that know this way. */
void run_fit(run_plugins *p, const char *how);

/* What is left of argv after the general options: parameters and at most one argument, *input.
 * `known` (NULL-terminated) are the general options, for suggestions. */
int run_flags(run_plugins *p, int argc, char **argv, const char *const *known, const char **input,
              scope_error *err);
/* The flags of each plugin, from its schema. */
void run_plugins_help(const run_plugins *p, FILE *out);

/* The JSON of a file, or, where `path` begins with {, of the text itself. NULL with *err. */
json_t *run_read_json(const char *path, scope_error *err);

#endif
