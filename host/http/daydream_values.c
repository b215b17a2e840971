/* daydream_values.c - see daydream_values.h. */
#include "daydream_values.h"

#include "../../schema/schema.h"
#include "../error.h"

#include <glib.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

enum { TEXT_MAX = 65536, NAME_MAX_BYTES = 4096, PICTURE_MAX = 5 << 20 };

/* ---- refusing -------------------------------------------------------------------------------- */

/* What clients sent is quoted and cut to fit: drop the bytes of characters that are not whole. */
static void cut(char *text)
{
    const char *end;
    while (!g_utf8_validate(text, -1, &end)) {
        char *at = text + (end - text);
        memmove(at, at + 1, strlen(at));
    }
}

char *daydream_path_of(char out[DAYDREAM_PATH], const char *path, const char *name)
{
    g_snprintf(out, DAYDREAM_PATH, "%s%s%s", path, path[0] ? "." : "", name);
    cut(out);
    return out;
}

char *daydream_path_at(char out[DAYDREAM_PATH], const char *path, size_t i)
{
    g_snprintf(out, DAYDREAM_PATH, "%s[%zu]", path, i);
    return out;
}

json_t *daydream_refuse(scope_error *err, const char *path, const char *fmt, ...)
{
    char text[sizeof err->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    cut(text);
    error_set(err, SCOPE_EINVAL, path, "%s", text);
    return NULL;
}

json_t *daydream_refuse_type(scope_error *err, const char *path, const char *wanted,
                             const json_t *v)
{
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    daydream_refuse(err, path, "%s must be %s, not %.60s", path, wanted, text ? text : "that");
    free(text);
    return NULL;
}

static json_t *refuse_choice(scope_error *err, const daydream_field *f, const char *path,
                             const char *text)
{
    int count = 0;
    while (f->choices[count])
        count++;
    const char *near = schema_nearest(text, f->choices, count);
    if (count <= 4) {
        char *all = g_strjoinv(", ", (char **)f->choices);
        daydream_refuse(err, path, "%s is \"%.40s\"; it may be %s", path, text, all);
        g_free(all);
        return NULL;
    }
    return near ? daydream_refuse(err, path, "%s is \"%.40s\"; did you mean \"%s\"?", path, text,
                                  near)
                : daydream_refuse(err, path,
                                  "%s is \"%.40s\", which is none of the %d that there are; see "
                                  "/openapi.json",
                                  path, text, count);
}

/* ---- single values --------------------------------------------------------------------------- */

/* A whole number that every client can tell from its neighbours. */
static bool whole(const json_t *v, json_int_t *n)
{
    const json_int_t most = ((json_int_t)1 << 53) - 1;
    double x = json_is_real(v) ? json_real_value(v) : 0;
    *n = json_is_integer(v) ? json_integer_value(v) : fabs(x) <= (double)most ? (json_int_t)x : 0;
    return json_is_integer(v) ? *n >= -most && *n <= most : json_is_real(v) && (double)*n == x;
}

static json_t *check_number(const daydream_field *f, const json_t *v, const char *path,
                            scope_error *err)
{
    json_int_t n = 0;
    bool integer = f->kind == DAYDREAM_INT;
    if (integer ? !whole(v, &n) : !json_is_number(v))
        return daydream_refuse_type(err, path, integer ? "a whole number" : "a number", v);
    double x = integer ? (double)n : json_number_value(v);
    if ((f->min != 0 || f->max != 0) && !(x >= f->min && x <= f->max))
        return daydream_refuse(err, path, "%s is %.17g; allowed is %.17g to %.17g", path, x, f->min,
                               f->max);
    return integer ? json_integer(n) : json_real(x);
}

static json_t *check_text(const daydream_field *f, const json_t *v, const char *path,
                          scope_error *err)
{
    if (!json_is_string(v))
        return daydream_refuse_type(err, path, "a text", v);
    if (json_string_length(v) > TEXT_MAX)
        return daydream_refuse(err, path, "%s has %zu bytes; at most %d are taken", path,
                               json_string_length(v), TEXT_MAX);
    for (int i = 0; f->choices; i++) {
        if (!f->choices[i])
            return refuse_choice(err, f, path, json_string_value(v));
        if (!strcmp(f->choices[i], json_string_value(v)))
            break;
    }
    return json_string(json_string_value(v));
}

/* One [text, weight] or [seed, weight]. */
static json_t *check_pair(const daydream_field *f, const json_t *v, const char *path,
                          scope_error *err)
{
    const json_t *what = json_array_get(v, 0), *weight = json_array_get(v, 1);
    json_int_t n = 0;
    bool seed = f->kind == DAYDREAM_SEED;
    if (json_array_size(v) != 2 || !json_is_number(weight) ||
        (seed ? !whole(what, &n) : !json_is_string(what)))
        return daydream_refuse_type(err, path, seed ? "[seed, weight]" : "[text, weight]", v);
    if (!seed && (!json_string_length(what) || json_string_length(what) > TEXT_MAX))
        return daydream_refuse(err, path, "the text of %s must have 1 to %d bytes", path, TEXT_MAX);
    double w = json_number_value(weight);
    return seed ? json_pack("[If]", n, w) : json_pack("[sf]", json_string_value(what), w);
}

static json_t *check_pairs(const daydream_field *f, const json_t *v, const char *path,
                           scope_error *err)
{
    json_int_t n;
    bool seed = f->kind == DAYDREAM_SEED;
    if (seed ? whole(v, &n) : json_is_string(v))
        return seed ? json_integer(n) : check_text(f, v, path, err);
    if (!json_is_array(v))
        return daydream_refuse_type(err, path,
                                    seed ? "a whole number or [[seed, weight], ...]"
                                         : "a text or [[text, weight], ...]",
                                    v);
    size_t count = json_array_size(v);
    if (count < 1 || count > (size_t)f->max)
        return daydream_refuse(err, path, "%s has %zu entries; 1 to %g are taken", path, count,
                               f->max);
    json_t *out = json_array();
    for (size_t i = 0; i < count; i++) {
        char at[DAYDREAM_PATH];
        daydream_path_at(at, path, i);
        json_t *pair = check_pair(f, json_array_get(v, i), at, err);
        if (!pair) {
            json_decref(out);
            return NULL;
        }
        json_array_append_new(out, pair);
    }
    return out;
}

static json_t *check_integers(const daydream_field *f, const json_t *v, const char *path,
                              scope_error *err)
{
    size_t count = json_array_size(v);
    if (!json_is_array(v))
        return daydream_refuse_type(err, path, "a list of whole numbers", v);
    if (count < (size_t)f->min || count > (size_t)f->max)
        return daydream_refuse(err, path, "%s has %zu entries; %g to %g are taken", path, count,
                               f->min, f->max);
    json_t *out = json_array();
    for (size_t i = 0; i < count; i++) {
        json_int_t n;
        char at[DAYDREAM_PATH];
        daydream_path_at(at, path, i);
        if (!whole(json_array_get(v, i), &n)) {
            json_decref(out);
            return daydream_refuse_type(err, at, "a whole number", json_array_get(v, i));
        }
        json_array_append_new(out, json_integer(n));
    }
    return out;
}

static json_t *check_scales(const daydream_field *f, const json_t *v, const char *path,
                            scope_error *err)
{
    const char *name;
    json_t *scale;
    if (!json_is_object(v))
        return daydream_refuse_type(err, path, "an object of files and their scales", v);
    if (json_object_size(v) > (size_t)f->max)
        return daydream_refuse(err, path, "%s has %zu entries; at most %g are taken", path,
                               json_object_size(v), f->max);
    json_object_foreach((json_t *)v, name, scale)
    {
        char at[DAYDREAM_PATH];
        daydream_path_of(at, path, name);
        if (!name[0] || strlen(name) > NAME_MAX_BYTES)
            return daydream_refuse(err, path,
                                   "%s has a file without a name, or with too long a one", path);
        if (!json_is_number(scale))
            return daydream_refuse_type(err, at, "a number", scale);
    }
    return json_object_size(v) ? json_deep_copy(v) : json_null();
}

static json_t *check_picture(const json_t *v, const char *path, scope_error *err)
{
    const char *text = json_string_value(v);
    if (!text)
        return daydream_refuse_type(err, path, "a text", v);
    if (!text[0])
        return json_null();
    if (!g_ascii_strncasecmp(text, "http://", 7) || !g_ascii_strncasecmp(text, "https://", 8))
        return strlen(text) <= TEXT_MAX
                   ? json_string(text)
                   : daydream_refuse(err, path, "%s is too long an address", path);
    const char *comma = strstr(text, ";base64,");
    if (g_ascii_strncasecmp(text, "data:image/", 11) || !comma)
        return daydream_refuse(
            err, path, "%s is neither an http(s) address nor a data:image/...;base64, URI", path);
    size_t n =
        strspn(comma + 8, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    size_t pad = strspn(comma + 8 + n, "=");
    if (!n || comma[8 + n + pad] || pad > 2 || (n + pad) % 4)
        return daydream_refuse(err, path, "the picture of %s is not in base64", path);
    if (n / 4 * 3 > PICTURE_MAX)
        return daydream_refuse(err, path, "the picture of %s has %.1f MB; at most 5 are taken",
                               path, (double)n * 0.75 / (1 << 20));
    return json_string(text);
}

json_t *daydream_value(const daydream_field *f, const json_t *v, const char *path, scope_error *err)
{
    switch (f->kind) {
    case DAYDREAM_BOOL:
        return json_is_boolean(v) ? json_boolean(json_is_true(v))
                                  : daydream_refuse_type(err, path, "true or false", v);
    case DAYDREAM_INT:
    case DAYDREAM_NUMBER:
        return check_number(f, v, path, err);
    case DAYDREAM_TEXT:
    case DAYDREAM_CHOICE:
        return check_text(f, v, path, err);
    case DAYDREAM_PROMPT:
    case DAYDREAM_SEED:
        return check_pairs(f, v, path, err);
    case DAYDREAM_INTEGERS:
        return check_integers(f, v, path, err);
    case DAYDREAM_SCALES:
        return check_scales(f, v, path, err);
    case DAYDREAM_PICTURE:
        return check_picture(v, path, err);
    case DAYDREAM_FREE:
    case DAYDREAM_OBJECT:
    case DAYDREAM_OBJECTS:
        break;
    }
    return json_is_object(v) ? json_deep_copy(v) : daydream_refuse_type(err, path, "an object", v);
}
