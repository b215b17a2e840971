/* config_json.c - see config_json.h. */
#include "config_json.h"

#include "kernels/kernels.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATH = 4096 };

int config_open(config_file *f, const char *dir, const char *name, scope_error *err)
{
    char path[PATH];
    json_error_t e;
    size_t n = strlen(dir);
    while (n && dir[n - 1] == '/')
        n--;
    size_t folder = n;
    while (folder && dir[folder - 1] != '/')
        folder--;
    memset(f, 0, sizeof *f);
    memset(err, 0, sizeof *err);
    f->err = err;
    snprintf(f->label, sizeof f->label, "%.*s/%s", (int)(n - folder > 36 ? 36 : n - folder),
             dir + folder, name);
    if (snprintf(path, sizeof path, "%.*s/%s", (int)n, dir, name) >= (int)sizeof path)
        return scope_fail(err, SCOPE_EIO, "%s: the path is too long", f->label);
    if (access(path, R_OK))
        return scope_fail(err, SCOPE_EIO, "%s: %s; give a folder in diffusers layout", f->label,
                          strerror(errno));
    f->root = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
    if (!f->root)
        return scope_fail(
            err, json_error_code(&e) == json_error_out_of_memory ? SCOPE_ENOMEM : SCOPE_EIO,
            "%s:%d: %.100s", f->label, e.line, e.text);
    if (!json_is_object(f->root))
        config_note(f, "is not a JSON object");
    return err->status;
}

int config_close(config_file *f)
{
    json_decref(f->root);
    f->root = NULL;
    return f->err->status;
}

void config_note(config_file *f, const char *fmt, ...)
{
    char text[160];
    va_list ap;
    if (f->err->status)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    scope_fail(f->err, SCOPE_EIO, "%s: %.125s", f->label, text);
}

/* The value of a key; NULL when absent, null, or after an error. */
static const json_t *get(const config_file *f, const char *key)
{
    const json_t *v = f->err->status ? NULL : json_object_get(f->root, key);
    return json_is_null(v) ? NULL : v;
}

/* A value as short text, for a message. */
static const char *shown(const json_t *v, char out[48])
{
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    snprintf(out, 48, "%.40s%s", text ? text : "?", text && strlen(text) > 40 ? "..." : "");
    free(text);
    return out;
}

static int integer(config_file *f, const char *key, const json_t *v, int lo, int hi)
{
    char text[48];
    if (json_is_integer(v) && json_integer_value(v) >= lo && json_integer_value(v) <= hi)
        return (int)json_integer_value(v);
    config_note(f, "%s is %s; it must be an integer from %d to %d", key, shown(v, text), lo, hi);
    return lo;
}

int config_int(config_file *f, const char *key, int absent, int lo, int hi)
{
    const json_t *v = get(f, key);
    return v ? integer(f, key, v, lo, hi) : absent;
}

double config_real(config_file *f, const char *key, double absent, double lo, double hi)
{
    char text[48];
    const json_t *v = get(f, key);
    if (!v)
        return absent;
    if (json_is_number(v) && json_number_value(v) >= lo && json_number_value(v) <= hi)
        return json_number_value(v);
    config_note(f, "%s is %s; it must be a number from %g to %g", key, shown(v, text), lo, hi);
    return absent;
}

int config_bool(config_file *f, const char *key, int absent)
{
    char text[48];
    const json_t *v = get(f, key);
    if (v && !json_is_boolean(v))
        config_note(f, "%s is %s; it must be true or false", key, shown(v, text));
    return v ? json_is_true(v) : absent;
}

const char *config_text(config_file *f, const char *key)
{
    char text[48];
    const json_t *v = get(f, key);
    if (v && !json_is_string(v))
        config_note(f, "%s is %s; it must be a string", key, shown(v, text));
    return json_string_value(v);
}

int config_ints(config_file *f, const char *key, int *out, int most, int spread, int lo, int hi)
{
    char text[48];
    const json_t *v = get(f, key);
    int n = (int)json_array_size(v);
    if (!v)
        return 0;
    if (!json_is_array(v) && spread > 0) {
        for (int i = 0; i < spread; i++)
            out[i] = integer(f, key, v, lo, hi);
        return spread;
    }
    if (!json_is_array(v) || json_array_size(v) < 1 || json_array_size(v) > (size_t)most) {
        config_note(f, "%s is %s; it must be a list of 1 to %d integers", key, shown(v, text),
                    most);
        return 0;
    }
    for (int i = 0; i < n; i++)
        out[i] = integer(f, key, json_array_get(v, (size_t)i), lo, hi);
    return n;
}

int config_texts(config_file *f, const char *key, const char **out, int most)
{
    char text[48];
    const json_t *v = get(f, key);
    int n = (int)json_array_size(v);
    if (!v)
        return 0;
    int good = json_is_array(v) && n >= 1 && json_array_size(v) <= (size_t)most;
    for (int i = 0; i < n && good; i++) {
        out[i] = json_string_value(json_array_get(v, (size_t)i));
        good = out[i] != NULL;
    }
    if (!good)
        config_note(f, "%s is %s; it must be a list of 1 to %d strings", key, shown(v, text), most);
    return good ? n : 0;
}

void config_only(config_file *f, const char *key, const char *value)
{
    char text[48];
    const json_t *v = get(f, key);
    if (!v || (json_is_false(v) && !strcmp(value, "null")))
        return;
    json_t *want = json_loads(value, JSON_DECODE_ANY, NULL);
    int same = json_is_number(want)
                   ? json_is_number(v) && json_number_value(v) == json_number_value(want)
                   : json_equal(v, want);
    json_decref(want);
    if (!same)
        config_note(f, "%s = %s is not supported; only %s is", key, shown(v, text), value);
}

void config_class(config_file *f, const char *name)
{
    const char *is = config_text(f, "_class_name");
    if (is && strcmp(is, name))
        config_note(f, "unsupported architecture: %.50s; only %s is supported", is, name);
}

int config_act(config_file *f, const char *key, const char *absent)
{
    static const struct {
        const char *name;
        int act;
    } acts[] = {{"silu", K_SILU},
                {"swish", K_SILU},
                {"relu", K_RELU},
                {"gelu", K_GELU},
                {"quick_gelu", K_QUICK_GELU}};
    const char *name = config_text(f, key);
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        if (!strcmp(acts[i].name, name ? name : absent))
            return acts[i].act;
    }
    config_note(f, "%s \"%.40s\" is not supported; silu, relu, gelu and quick_gelu are", key, name);
    return K_IDENTITY;
}
