/* run_params.c - names and values of a command line, matched with the schemas of a chain.
 *
 * Must stay true: what a value may be is asked of the schema only; here it is only decided whose.
 */
#include "run_params.h"
#include "error.h"

#include <glib.h>
#include <string.h>

int run_plugins_init(run_plugins *p, const char *dir, char *const *ids, scope_error *err)
{
    *p = (run_plugins){0};
    for (int i = 0; ids && ids[i]; i++) {
        char why[256];
        if (p->count == RUN_LINKS_MAX)
            return error_set(err, SCOPE_EINVAL, "", "a chain has at most %d plugins",
                             RUN_LINKS_MAX);
        if (!p->reg)
            p->reg = registry_scan(dir);
        run_link *l = &p->link[p->count];
        l->entry = registry_find(p->reg, ids[i], why);
        if (!l->entry)
            return error_set(err, SCOPE_EINVAL, "", "%s", why);
        schema_error cause;
        l->schema = schema_parse(l->entry->schema, &cause);
        if (!l->schema)
            return error_from_schema(err, &cause);
        l->values = json_object();
        p->count++;
    }
    return 0;
}

void run_plugins_fini(run_plugins *p)
{
    for (int i = 0; i < p->count; i++) {
        schema_free(p->link[i].schema);
        json_decref(p->link[i].values);
    }
    registry_free(p->reg);
    *p = (run_plugins){0};
}

/* ---- addresses ------------------------------------------------------------------------------- */

static bool is_called(const run_link *l, const char *name, size_t n)
{
    const char *id = l->entry->id, *last = strrchr(id, '.');
    last = last ? last + 1 : id;
    return (strlen(id) == n && !strncmp(id, name, n)) ||
           (strlen(last) == n && !strncmp(last, name, n));
}

static int unknown_name(const run_plugins *p, const char *name, const char *const *known,
                        scope_error *err)
{
    GPtrArray *names = g_ptr_array_new();
    for (int l = 0; l < p->count; l++) {
        int count;
        const schema_field *fields = schema_fields(p->link[l].schema, &count);
        for (int i = 0; i < count; i++)
            g_ptr_array_add(names, (gpointer)fields[i].name);
    }
    for (; known && *known; known++)
        g_ptr_array_add(names, (gpointer)*known);
    const char *near = schema_nearest(name, (const char *const *)names->pdata, (int)names->len);
    char *hint = near ? g_strdup_printf("did you mean '%s'?", near)
                      : g_strdup("`scope run --plugin ID --help` lists what there is");
    error_set(err, SCOPE_EINVAL, "", "no parameter or option is called '%s'; %s", name, hint);
    g_free(hint);
    g_ptr_array_free(names, TRUE);
    return SCOPE_EINVAL;
}

static int found(const run_plugins *p, int link, const schema_field *f, const char *rest,
                 keyframes_target *to, const char **out)
{
    *to = (keyframes_target){link, p->link[link].schema, f};
    *out = rest;
    return 0;
}

/* "2.name" and "id:name": the link and what follows, or -1 when the address has no such prefix. */
static int named_link(const run_plugins *p, const char *address, const char **rest,
                      scope_error *err)
{
    const char *colon = strchr(address, ':');
    char *end;
    gint64 number = g_ascii_strtoll(address, &end, 10);
    if (end != address && *end == '.') {
        *rest = end + 1;
        if (number >= 1 && number <= p->count)
            return (int)number - 1;
        error_set(err, SCOPE_EINVAL, "", "'%s': there are %d plugins, counted from 1", address,
                  p->count);
        return -2;
    }
    if (!colon)
        return -1;
    *rest = colon + 1;
    for (int i = 0; i < p->count; i++) {
        if (is_called(&p->link[i], address, (size_t)(colon - address)))
            return i;
    }
    error_set(err, SCOPE_EINVAL, "", "'%s': no plugin of this run is called '%.*s'", address,
              (int)(colon - address), address);
    return -2;
}

static int target(const run_plugins *p, const char *address, const char *const *known,
                  keyframes_target *to, const char **rest, scope_error *err)
{
    *rest = address;
    int link = named_link(p, address, rest, err);
    if (link == -2)
        return SCOPE_EINVAL;
    size_t n = strcspn(*rest, ".");
    for (int loose = 0; loose < 2; loose++) {
        for (int i = 0; i < p->count; i++) {
            const schema_field *f = schema_match(p->link[i].schema, *rest, n);
            if (f && (loose || strlen(f->name) == n) && (link < 0 || link == i))
                return found(p, i, f, *rest, to, rest);
        }
    }
    char *name = g_strndup(*rest, n);
    unknown_name(p, name, known, err);
    g_free(name);
    return SCOPE_EINVAL;
}

int run_target(const run_plugins *p, const char *address, keyframes_target *to, const char **rest,
               scope_error *err)
{
    return target(p, address, NULL, to, rest, err);
}

int run_resolve(void *ctx, const char *name, keyframes_target *to, scope_error *err)
{
    const char *rest;
    int status = run_target(ctx, name, to, &rest, err);
    if (!status && strchr(rest, '.'))
        return error_set(err, SCOPE_EINVAL, name,
                         "keyframes of '%s': name the whole parameter '%s'", name, to->field->name);
    return status;
}

/* ---- values ---------------------------------------------------------------------------------- */

static int set_text(run_plugins *p, const keyframes_target *to, const char *rest, const char *text,
                    scope_error *err)
{
    schema_error cause;
    if (schema_flag(to->schema, p->link[to->link].values, rest, text, &cause))
        return error_from_schema(err, &cause);
    return 0;
}

int run_param(run_plugins *p, const char *address, const char *text, scope_error *err)
{
    keyframes_target to;
    const char *rest;
    int status = run_target(p, address, &to, &rest, err);
    return status ? status : set_text(p, &to, rest, text, err);
}

int run_param_pair(run_plugins *p, const char *pair, scope_error *err)
{
    const char *equals = strchr(pair, '=');
    if (!equals)
        return error_set(err, SCOPE_EINVAL, "", "--param %s: write it as name=value", pair);
    char *address = g_strndup(pair, (gsize)(equals - pair));
    int status = run_param(p, address, equals + 1, err);
    g_free(address);
    return status;
}

json_t *run_read_json(const char *path, scope_error *err)
{
    json_error_t why;
    bool here = path[0] == '{';
    json_t *root = here ? json_loads(path, JSON_REJECT_DUPLICATES, &why)
                        : json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        error_set(err, SCOPE_EINVAL, "", "%.*s, line %d: %s", here ? 40 : 120, path,
                  MAX(why.line, 0), why.text);
    return root;
}

int run_merge(run_link *l, const json_t *more, scope_error *err)
{
    schema_error cause;
    json_t *all = schema_complete(l->schema, more, &cause);
    if (!all)
        return error_from_schema(err, &cause);
    json_decref(all);
    json_object_update(l->values, (json_t *)more);
    return 0;
}

static int set_json(run_plugins *p, const char *address, json_t *value, scope_error *err)
{
    for (int i = 0; i < p->count && json_is_object(value); i++) {
        if (is_called(&p->link[i], address, strlen(address)))
            return run_merge(&p->link[i], value, err);
    }
    keyframes_target to;
    int status = run_resolve(p, address, &to, err);
    if (status)
        return status;
    json_t *one = json_pack("{s:O}", to.field->name, value);
    status = run_merge(&p->link[to.link], one, err);
    json_decref(one);
    return status;
}

int run_params_file(run_plugins *p, const char *path, scope_error *err)
{
    json_t *root = run_read_json(path, err);
    if (!root)
        return SCOPE_EINVAL;
    int status =
        json_is_object(root)
            ? 0
            : error_set(err, SCOPE_EINVAL, "", "%s: expected an object of names and values", path);
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value)
    {
        if (!status)
            status = set_json(p, name, value, err);
    }
    json_decref(root);
    return status;
}

/* Set `name` of each plugin that has such a field of `type`; value is stolen. */
static int set_everywhere(run_plugins *p, const char *name, int type, json_t *value, bool keep,
                          scope_error *err)
{
    int count = 0, status = 0;
    json_t *one = json_pack("{s:o}", name, value);
    for (int i = 0; i < p->count && !status; i++) {
        run_link *l = &p->link[i];
        const schema_field *f = schema_find(l->schema, name);
        if (!f || f->type != type)
            continue;
        count++;
        if (!keep || !json_object_get(l->values, name))
            status = run_merge(l, one, err);
    }
    json_decref(one);
    return status ? status : count;
}

int run_everywhere(run_plugins *p, const char *name, int64_t value, bool keep, scope_error *err)
{
    return set_everywhere(p, name, SCOPE_INT, json_integer(value), keep, err);
}

void run_fit(run_plugins *p, const char *how)
{
    scope_error unable; /* a plugin that cannot do it this way is given what fits already */
    set_everywhere(p, "fit", SCOPE_STR, json_string(how), false, &unable);
}

/* ---- flags ----------------------------------------------------------------------------------- */

/* One "--name[=value] [value]"; *used is how many words it took. "--flag" and "--no-flag" do for
 * booleans. */
static int one_flag(run_plugins *p, int argc, char **argv, const char *const *known, int *used,
                    scope_error *err)
{
    const char *equals = strchr(argv[0], '='), *rest, *text = equals ? equals + 1 : NULL;
    gsize n = equals ? (gsize)(equals - argv[0] - 2) : strlen(argv[0] + 2);
    char *name = g_strndup(argv[0] + 2, n);
    keyframes_target to;
    int status = target(p, name, known, &to, &rest, err);
    *used = 1;
    if (status && !text && g_str_has_prefix(name, "no-")) {
        scope_error ignored;
        if (!target(p, name + 3, known, &to, &rest, &ignored) && to.field->type == SCOPE_BOOL) {
            status = 0;
            text = "false";
        }
    }
    if (!status && !text && to.field->type == SCOPE_BOOL && !strchr(rest, '.')) {
        bool told = argc > 1 && (!strcmp(argv[1], "true") || !strcmp(argv[1], "false"));
        text = told ? argv[1] : "true";
        *used = told ? 2 : 1;
    } else if (!status && !text && argc > 1) {
        text = argv[1];
        *used = 2;
    }
    if (!status && !text)
        status = error_set(err, SCOPE_EINVAL, to.field->name, "--%s needs a value", name);
    if (!status)
        status = set_text(p, &to, rest, text, err);
    g_free(name);
    return status;
}

int run_flags(run_plugins *p, int argc, char **argv, const char *const *known, const char **input,
              scope_error *err)
{
    for (int i = 0; i < argc;) {
        int used = 1, status = 0;
        if (g_str_has_prefix(argv[i], "--") && argv[i][2])
            status = one_flag(p, argc - i, argv + i, known, &used, err);
        else if (argv[i][0] == '-' && argv[i][1] && argv[i][1] != '-')
            status = unknown_name(p, argv[i], known, err);
        else if (strcmp(argv[i], "--") && *input)
            status = error_set(err, SCOPE_EINVAL, "",
                               "one input at a time: '%s' or '%s'? (the output goes behind -o)",
                               *input, argv[i]);
        else if (strcmp(argv[i], "--"))
            *input = argv[i];
        if (status)
            return status;
        i += used;
    }
    return 0;
}

void run_plugins_help(const run_plugins *p, FILE *out)
{
    for (int i = 0; i < p->count; i++) {
        fprintf(out, "\n%s (%s):\n", schema_title(p->link[i].schema), p->link[i].entry->id);
        schema_help(p->link[i].schema, out);
    }
}
