/* check.c - `scope check`: a plugin's library judged as a store would, from a safe distance.
 *
 * What a file can tell is read here; everything that runs plugin code happens in a child (judge.c),
 * whose death is a verdict like any other.
 */
#include "child.h"
#include "command.h"
#include "elf.h"
#include "error.h"
#include "options.h"
#include "registry.h"

#include <string.h>
#include <unistd.h>

enum { WHOLE_LIMIT_MS = 30 * 60 * 1000 };

typedef struct verdicts {
    json_t *list; /* owned; {plugin?, verdict, name, text} each */
    bool json;    /* say nothing until the end */
    int warned, failed;
} verdicts;

static void record(verdicts *v, const char *plugin, const char *verdict, const char *name,
                   const char *text)
{
    json_array_append_new(v->list, json_pack("{ss? ss ss ss}", "plugin", plugin, "verdict", verdict,
                                             "name", name, "text", text));
    v->warned += !strcmp(verdict, "warn");
    v->failed += !strcmp(verdict, "fail");
    if (!v->json)
        printf("%-4s  %-10s  %s\n", verdict, name, text);
}

static void check_symbols(verdicts *v, const char *path)
{
    char text[256];
    GPtrArray *names = elf_exports(path, text);
    if (!names) {
        record(v, NULL, "fail", "symbols", text);
        return;
    }
    const char *other = NULL;
    gboolean entry = FALSE;
    for (guint i = 0; i < names->len; i++) {
        const char *name = g_ptr_array_index(names, i);
        if (!strcmp(name, "scope_entry"))
            entry = TRUE;
        else
            other = name;
    }
    if (!entry)
        record(v, NULL, "fail", "symbols", "does not export scope_entry; use SCOPE_LIBRARY()");
    else if (other) {
        g_snprintf(text, sizeof text,
                   "exports %s besides scope_entry; build with -fvisibility=hidden", other);
        record(v, NULL, "fail", "symbols", text);
    } else
        record(v, NULL, "pass", "symbols", "exports scope_entry and nothing else");
    g_ptr_array_unref(names);
}

/* How the child ended, when it did not say that it was done. */
static void record_end(verdicts *v, const char *id, const child_report *report, const char *during,
                       const char *crash)
{
    char how[256];
    child_verdict(report, WHOLE_LIMIT_MS, how);
    /* A child that explained itself and then exited has said all there is. */
    const char *what = crash && !report->signal ? crash
                       : how[0]                 ? how
                                                : "ends the process by itself";
    const char *why = crash && report->signal ? crash : NULL;
    char *text = g_strdup_printf("%s %s%s%s", what, during, why ? ": " : "", why ? why : "");
    record(v, id, "fail", "crash", text);
    g_free(text);
}

/* The lines of a child, in order. */
static void take_in(verdicts *v, const char *id, const child_report *report)
{
    char **lines = g_strsplit(report->out->str, "\n", -1);
    char *during = g_strdup("at its start"), *crash = NULL;
    bool done = false;
    for (char **line = lines; *line; line++) {
        json_t *j = json_loads(*line, 0, NULL);
        const char *verdict = json_string_value(json_object_get(j, "verdict"));
        const char *doing = json_string_value(json_object_get(j, "doing"));
        const char *last = json_string_value(json_object_get(j, "crash"));
        if (verdict)
            record(v, id, verdict, json_string_value(json_object_get(j, "name")),
                   json_string_value(json_object_get(j, "text")));
        if (doing) {
            g_free(during);
            during = g_strdup(doing);
        }
        if (last) {
            g_free(crash);
            crash = g_strdup(last);
        }
        done |= json_is_true(json_object_get(j, "done"));
        json_decref(j);
    }
    if (!done)
        record_end(v, id, report, during, crash);
    g_free(crash);
    g_free(during);
    g_strfreev(lines);
}

static void check_plugin(verdicts *v, const registry_entry *e, const char *limit,
                         const json_t *values)
{
    char *text = json_dumps(values, JSON_COMPACT);
    const char *const args[] = {"--judge", e->path, e->id, limit, text, NULL};
    const char *const *list[] = {args};
    child_report report;
    /* Freed blocks that the C library sets aside per thread would look like leaks. */
    g_setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0", TRUE);
    child_run_all(list, 1, WHOLE_LIMIT_MS, &report);
    take_in(v, e->id, &report);
    child_report_clear(&report);
    free(text);
}

/* --param NAME=VALUE as the schema types them; NULL after saying what is wrong. */
static json_t *read_params(const registry_entry *e, char **params)
{
    schema_error err;
    json_t *values = json_object();
    schema *s = schema_parse(e->schema, &err);
    for (char **p = params; s && values && p && *p; p++) {
        char **pair = g_strsplit(*p, "=", 2);
        if (!pair[0] || !pair[1])
            complain(0, "--param %s: write it as NAME=VALUE", *p);
        if (!pair[0] || !pair[1] || schema_flag(s, values, pair[0], pair[1], &err) < 0) {
            if (pair[0] && pair[1])
                complain(0, "--param %s: %s", *p, err.text);
            json_decref(values);
            values = NULL;
        }
        g_strfreev(pair);
    }
    schema_free(s);
    return values;
}

static int check_file(verdicts *v, const char *path, const char *limit, char **params)
{
    int code = EXIT_GOOD;
    check_symbols(v, path);
    registry *r = registry_scan_file(path);
    for (int i = 0; i < registry_count(r) && code == EXIT_GOOD; i++) {
        const registry_entry *e = registry_at(r, i);
        json_t *values = NULL;
        if (e->fault) {
            record(v, e->id, "fail", "load", e->fault);
        } else if (!(values = read_params(e, params))) {
            code = EXIT_USAGE;
        } else {
            record(v, e->id, "pass", "load", e->id);
            check_plugin(v, e, limit, values);
        }
        json_decref(values);
    }
    registry_free(r);
    return code;
}

int command_check(int argc, char **argv)
{
    gboolean json = FALSE;
    int limit = 30;
    char **params = NULL, number[16];
    const GOptionEntry entries[] = {
        {"json", 0, 0, G_OPTION_ARG_NONE, &json, "Print JSON instead of lines", NULL},
        {"param", 0, 0, G_OPTION_ARG_STRING_ARRAY, &params,
         "A value to judge it with instead of the default", "NAME=VALUE"},
        {"limit", 0, 0, G_OPTION_ARG_INT, &limit, "Seconds that one call may take (30)", "S"},
        {0}};
    const options o = {"FILE.so",
                       "Judge a plugin's library as a store would: what it exports, its schema, "
                       "frames of odd sizes\nbetween forbidden pages, the ends of each range, "
                       "repeatability, leaks, threads, speed.",
                       1, 1, entries};
    if (!options_parse(&o, &argc, argv))
        return EXIT_USAGE;
    if (limit < 1 || limit > 3600)
        return complain(EXIT_USAGE, "--limit %d is out of range; use 1 to 3600 seconds", limit);
    if (access(argv[1], R_OK) < 0)
        return complain(EXIT_USAGE, "cannot read %s; give the path of a plugin's .so file",
                        argv[1]);
    g_snprintf(number, sizeof number, "%d", limit);
    verdicts v = {.list = json_array(), .json = json};
    int code = check_file(&v, argv[1], number, params);
    int passed = (int)json_array_size(v.list) - v.warned - v.failed;
    if (json && code == EXIT_GOOD) {
        json_t *all =
            json_pack("{ss sb sO}", "file", argv[1], "good", v.failed == 0, "judgements", v.list);
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(all);
    } else if (code == EXIT_GOOD) {
        printf("%s: %d passed, %d warned, %d failed\n", argv[1], passed, v.warned, v.failed);
    }
    json_decref(v.list);
    g_strfreev(params);
    return code ? code : v.failed ? EXIT_NOT_CLEAN : EXIT_GOOD;
}
