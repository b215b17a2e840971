/* list.c - `scope list`, `scope schema` and `scope doc`: what plugins there are and what they take.
 *
 * Readers of the registry and of schemas; nothing here runs a plugin.
 */
#include "command.h"
#include "error.h"
#include "options.h"
#include "registry.h"

#include <stdlib.h>
#include <string.h>

/* ---- list ------------------------------------------------------------------------------------ */

static char *title_of(const registry_entry *e)
{
    schema_error err;
    schema *s = schema_parse(e->schema, &err);
    char *title = g_strdup(s ? schema_title(s) : "");
    schema_free(s);
    return title;
}

static int count_faults(const registry *r)
{
    int faults = 0;
    for (int i = 0; i < registry_count(r); i++)
        faults += registry_at(r, i)->fault != NULL;
    return faults;
}

static void list_table(const registry *r)
{
    int width = (int)strlen("ID"), faults = count_faults(r);
    for (int i = 0; i < registry_count(r); i++) {
        const registry_entry *e = registry_at(r, i);
        if (!e->fault)
            width = MAX(width, (int)strlen(e->id));
    }
    if (registry_count(r) == faults)
        printf("No usable plugin was found; put one in ~/.local/lib/scope or name its folder with "
               "--plugin-dir.\n");
    else
        printf("%-*s  %-8s  %-24s  %s\n", width, "ID", "VERSION", "TITLE", "PATH");
    for (int i = 0; i < registry_count(r); i++) {
        const registry_entry *e = registry_at(r, i);
        if (e->fault)
            continue;
        char *title = title_of(e);
        printf("%-*s  %-8s  %-24s  %s\n", width, e->id, e->version, title, e->path);
        g_free(title);
    }
    if (faults)
        printf("\nNot usable:\n");
    for (int i = 0; i < registry_count(r); i++) {
        const registry_entry *e = registry_at(r, i);
        if (e->fault)
            printf("  %s%s%s%s: %s\n", e->path, e->id ? " (" : "", e->id ? e->id : "",
                   e->id ? ")" : "", e->fault);
    }
}

static void list_json(const registry *r)
{
    json_t *plugins = json_array(), *faults = json_array();
    for (int i = 0; i < registry_count(r); i++) {
        const registry_entry *e = registry_at(r, i);
        if (e->fault) {
            json_array_append_new(
                faults, json_pack("{ss ss? ss}", "path", e->path, "id", e->id, "reason", e->fault));
            continue;
        }
        char *title = title_of(e);
        json_array_append_new(plugins, json_pack("{ss ss ss ss}", "id", e->id, "version",
                                                 e->version, "title", title, "path", e->path));
        g_free(title);
    }
    json_t *all = json_pack("{so so}", "plugins", plugins, "faults", faults);
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
}

int command_list(int argc, char **argv)
{
    gboolean json = FALSE, strict = FALSE;
    char *dir = NULL;
    const GOptionEntry entries[] = {
        {"json", 0, 0, G_OPTION_ARG_NONE, &json, "Print JSON instead of a table", NULL},
        {"strict", 0, 0, G_OPTION_ARG_NONE, &strict, "Exit with 3 when a library is faulty", NULL},
        {"plugin-dir", 0, 0, G_OPTION_ARG_FILENAME, &dir, "Look here first", "DIR"},
        {0}};
    const options o = {NULL, "The plugins there are, and the libraries that cannot be used.", 0, 0,
                       entries};
    if (!options_parse(&o, &argc, argv))
        return EXIT_USAGE;
    registry *r = registry_scan(dir);
    int faults = count_faults(r);
    if (json)
        list_json(r);
    else
        list_table(r);
    registry_free(r);
    g_free(dir);
    return strict && faults ? EXIT_NOT_CLEAN : EXIT_GOOD;
}

/* ---- schema and doc -------------------------------------------------------------------------- */

/* The plugin called `id` and its schema; NULL after saying why not. */
static const registry_entry *look_up(registry *r, const char *id, schema **parsed)
{
    char why[256];
    schema_error err;
    const registry_entry *e = registry_find(r, id, why);
    if (!e) {
        complain(0, "%s", why);
        return NULL;
    }
    *parsed = schema_parse(e->schema, &err);
    if (*parsed)
        return e;
    complain(0, "%s: schema %s: %s", e->id, err.path, err.text);
    return NULL;
}

int command_schema(int argc, char **argv)
{
    gboolean raw = FALSE;
    char *dir = NULL;
    const GOptionEntry entries[] = {
        {"raw", 0, 0, G_OPTION_ARG_NONE, &raw, "The text exactly as the plugin has it", NULL},
        {"plugin-dir", 0, 0, G_OPTION_ARG_FILENAME, &dir, "Look here first", "DIR"},
        {0}};
    const options o = {"ID", "The parameters of a plugin as JSON, complete, as a UI reads them.", 1,
                       1, entries};
    if (!options_parse(&o, &argc, argv))
        return EXIT_USAGE;
    registry *r = registry_scan(dir);
    schema *s;
    const registry_entry *e = look_up(r, argv[1], &s);
    if (e && raw)
        puts(e->schema);
    if (e && !raw) {
        json_t *j = schema_json(s);
        json_dumpf(j, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(j);
    }
    if (e)
        schema_free(s);
    registry_free(r);
    g_free(dir);
    return e ? EXIT_GOOD : EXIT_USAGE;
}

int command_doc(int argc, char **argv)
{
    char *dir = NULL;
    const GOptionEntry entries[] = {
        {"plugin-dir", 0, 0, G_OPTION_ARG_FILENAME, &dir, "Look here first", "DIR"}, {0}};
    const options o = {"ID", "The manual page of a plugin, in Markdown, from its schema.", 1, 1,
                       entries};
    if (!options_parse(&o, &argc, argv))
        return EXIT_USAGE;
    registry *r = registry_scan(dir);
    schema *s;
    const registry_entry *e = look_up(r, argv[1], &s);
    if (e) {
        schema_markdown(s, e->id, e->version, stdout);
        schema_free(s);
    }
    registry_free(r);
    g_free(dir);
    return e ? EXIT_GOOD : EXIT_USAGE;
}
