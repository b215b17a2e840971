/* presets.h - parameters by one name, and parameters kept in a file.
 *
 * A preset of a plugin is a file that --params would read, {field: value}, called
 * presets/PLUGIN/NAME.json beside the plugin's library. Under run and serve.
 */
#ifndef HOST_PRESETS_H
#define HOST_PRESETS_H

#include "run_params.h"

/* The folder of a plugin's presets, whether it is there or not; for g_free. [any] */
char *presets_folder(const registry_entry *e);
/* The values of one; a new reference, or NULL with *err. [any] */
json_t *presets_read(const registry_entry *e, const char *name, scope_error *err);
/* Set what the preset says in every plugin that has one of this name; an error that lists the names
 * there are when none has. [load] */
int presets_apply(run_plugins *p, const char *name, scope_error *err);
/* Write all parameters of all plugins, as --params reads them. [load] */
int presets_save(const run_plugins *p, const char *path, bool overwrite, scope_error *err);

#endif
