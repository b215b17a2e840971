/* daydream_fixture.h - merging parameters as Daydream sends them, and reading what came of it. */
#ifndef TESTS_DAYDREAM_FIXTURE_H
#define TESTS_DAYDREAM_FIXTURE_H

#include "host/http/daydream_params.h"

#include <check.h>
#include <glib.h>
#include <string.h>

static const daydream_rules plain = {.model = "stabilityai/sd-turbo"};

static inline json_t *parse(const char *text)
{
    json_error_t at;
    json_t *o = json_loads(text, JSON_DECODE_ANY, &at);
    ck_assert_msg(o != NULL, "%s: %s", text, at.text);
    return o;
}

static inline json_t *merged_by(const daydream_rules *rules, const json_t *before,
                                const char *change)
{
    scope_error err = {0};
    json_t *o = parse(change), *out = daydream_params_merge(before, o, rules, &err);
    ck_assert_msg(out != NULL, "%s: %s: %s", change, err.field, err.text);
    json_decref(o);
    return out;
}

static inline json_t *merged(const json_t *before, const char *change)
{
    return merged_by(&plain, before, change);
}

static inline void refused_by(const daydream_rules *rules, const json_t *before, const char *change,
                              const char *field, const char *words)
{
    scope_error err = {0};
    json_t *o = parse(change), *out = daydream_params_merge(before, o, rules, &err);
    ck_assert_msg(out == NULL, "%s was taken", change);
    ck_assert_int_eq(err.status, SCOPE_EINVAL);
    ck_assert_msg(!strcmp(err.field, field), "%s: field %s: %s", change, err.field, err.text);
    ck_assert_msg(strstr(err.text, words) != NULL, "%s: %s", change, err.text);
    ck_assert(g_utf8_validate(err.text, -1, NULL));
    json_decref(o);
}

/* The member at a dotted path, as compact text; for free. */
static inline char *at(const json_t *o, const char *path)
{
    char **names = g_strsplit(path, ".", -1);
    for (int i = 0; names[i]; i++)
        o = g_ascii_isdigit(names[i][0]) ? json_array_get(o, (size_t)atoi(names[i]))
                                         : json_object_get(o, names[i]);
    g_strfreev(names);
    return o ? json_dumps(o, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15))
             : strdup("absent");
}

static inline void is(const json_t *o, const char *path, const char *text)
{
    char *found = at(o, path);
    ck_assert_msg(!strcmp(found, text), "%s is %s, not %s", path, found, text);
    free(found);
}

#endif
