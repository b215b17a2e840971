/* text.c - how the schema layer speaks: paths, numbers, ranges and error sentences.
 *
 * Every sentence fits its buffer, is printable UTF-8 and does not depend on the locale.
 */
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "internal.h"

/* Bytes of the UTF-8 sequence at p, 0 if it is none: over-long forms, surrogates and what lies
 * above Unicode are none. */
static int sequence(const unsigned char *p)
{
    int more = *p < 0x80 ? 0 : *p < 0xc2 ? -1 : *p < 0xe0 ? 1 : *p < 0xf0 ? 2 : *p < 0xf5 ? 3 : -1;
    unsigned code = more < 0 ? 0 : *p & (0xffu >> (more + 2));
    for (int i = 1; i <= more; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (p[i] & 0x3fu);
    }
    if ((more == 2 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) ||
        (more == 3 && (code < 0x10000 || code > 0x10ffff)))
        return 0;
    return more + 1;
}

/* Make a sentence out of what may quote anything, cut anywhere: each run of control characters and
 * of bytes that are no UTF-8 becomes one '?'. */
static void clean(char *text)
{
    char *out = text;
    for (char *p = text; *p;) {
        int n = sequence((unsigned char *)p);
        bool good = n > 1 || (n == 1 && (unsigned char)*p >= 0x20 && *p != 0x7f);
        if (good) {
            memmove(out, p, (size_t)n);
            out += n;
            p += n;
        } else {
            if (out == text || out[-1] != '?')
                *out++ = '?';
            p++;
        }
    }
    *out = '\0';
}

/* Append to a terminated buffer, never past its end. */
__attribute__((format(printf, 3, 4))) static void add(char *buf, size_t size, const char *fmt, ...)
{
    size_t n = strlen(buf);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buf + n, size - n, fmt, ap);
    va_end(ap);
}

static bool is_pointer(const place *at)
{
    while (at->up)
        at = at->up;
    return at->key[0] == '/';
}

static void add_place(char *buf, size_t size, const place *at, bool pointer)
{
    if (!at->up)
        return;
    add_place(buf, size, at->up, pointer);
    if (at->key)
        add(buf, size, "%s%s", pointer ? "/" : buf[0] ? "." : "", at->key);
    else
        add(buf, size, pointer ? "/%d" : "[%d]", at->index);
}

static void begin(schema_error *err, const place *at)
{
    memset(err, 0, sizeof *err);
    add_place(err->path, sizeof err->path, at, is_pointer(at));
    clean(err->path);
}

int schema_fail(schema_error *err, const place *at, const char *fmt, ...)
{
    begin(err, at);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    clean(err->text);
    return -1;
}

int schema_fail_value(schema_error *err, const place *at, const char *fmt, ...)
{
    begin(err, at);
    const char *name = err->path[0] ? err->path : "the value";
    if (is_pointer(at) && at->key)
        name = at->key;
    add(err->text, sizeof err->text, "%s ", name);
    size_t n = strlen(err->text);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text + n, sizeof err->text - n, fmt, ap);
    va_end(ap);
    clean(err->text);
    return -1;
}

int schema_fail_memory(schema_error *err, const place *at)
{
    return schema_fail(err, at, "out of memory");
}

int schema_fail_unknown(schema_error *err, const place *at, const char *what, const char *name,
                        const char *const *names, int count)
{
    const char *near = schema_nearest(name, names, count);
    if (near)
        return schema_fail(err, at, "unknown %s '%.60s'; did you mean '%s'?", what, name, near);
    schema_fail(err, at, "unknown %s '%.60s'; there is ", what, name);
    for (int i = 0; i < count; i++)
        add(err->text, sizeof err->text, "%s%s", i ? ", " : "", names[i]);
    if (count == 0)
        add(err->text, sizeof err->text, "none");
    clean(err->text);
    return -1;
}

int schema_fail_json(schema_error *err, const place *at, const json_error_t *why)
{
    enum json_error_code code = json_error_code(why);
    /* Jansson leaves the text empty when an allocation failed. */
    if (code == json_error_out_of_memory || why->text[0] == '\0')
        return schema_fail_memory(err, at);
    return schema_fail(err, at, "not valid JSON, line %d column %d: %s", why->line, why->column,
                       why->text);
}

char *schema_text_number(double x, char *buf, size_t size)
{
    snprintf(buf, size, "%.15g", x);
    /* printf obeys the locale; JSON, flags and people reading both do not. */
    for (char *c = buf; *c; c++) {
        if (*c == ',')
            *c = '.';
    }
    return buf;
}

char *schema_text_value(const json_t *v, char *buf, size_t size)
{
    switch (json_typeof(v)) {
    case JSON_STRING:
        /* A long one is cut, visibly. */
        snprintf(buf, size, json_string_length(v) > 40 ? "\"%.37s" : "\"%.40s",
                 json_string_value(v));
        add(buf, size, json_string_length(v) > 40 ? "...\"" : "\"");
        break;
    case JSON_INTEGER:
        snprintf(buf, size, "%lld", (long long)json_integer_value(v));
        break;
    case JSON_REAL:
        schema_text_number(json_real_value(v), buf, size);
        break;
    case JSON_ARRAY:
        snprintf(buf, size, "a list");
        break;
    case JSON_OBJECT:
        snprintf(buf, size, "an object");
        break;
    case JSON_TRUE:
        snprintf(buf, size, "true");
        break;
    case JSON_FALSE:
        snprintf(buf, size, "false");
        break;
    case JSON_NULL:
        snprintf(buf, size, "null");
        break;
    }
    return buf;
}

char *schema_text_range(const schema_field *f, char *buf, size_t size)
{
    char min[32], max[32];
    schema_text_number(f->min, min, sizeof min);
    schema_text_number(f->max, max, sizeof max);
    buf[0] = '\0';
    if (f->has_min && f->has_max)
        snprintf(buf, size, "%s to %s", min, max);
    else if (f->has_min)
        snprintf(buf, size, "at least %s", min);
    else if (f->has_max)
        snprintf(buf, size, "at most %s", max);
    return buf;
}

const char *schema_type_name(int type)
{
    static const char *const names[] = {
        [SCOPE_BOOL] = "boolean", [SCOPE_INT] = "integer", [SCOPE_NUM] = "number",
        [SCOPE_STR] = "string",   [SCOPE_LIST] = "array",  [SCOPE_OBJ] = "object",
    };
    return names[type];
}

bool schema_utf8(const char *text)
{
    int n = 1;
    for (; *text && n > 0; text += n)
        n = sequence((const unsigned char *)text);
    return n > 0;
}

void *schema_alloc(size_t size)
{
    json_malloc_t take;
    json_get_alloc_funcs(&take, NULL);
    void *p = take(size);
    if (p)
        memset(p, 0, size);
    return p;
}

void schema_release(void *p)
{
    json_free_t give;
    json_get_alloc_funcs(NULL, &give);
    if (p)
        give(p);
}
