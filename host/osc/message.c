/* message.c - OSC packets as bytes; see message.h. */
#include "message.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 4, BUNDLE_HEAD = 16 };
static const char bundle_mark[8] = "#bundle";

static bool each(const char *bytes, size_t n, osc_message_fn fn, void *ctx, int depth);

/* The elements of a bundle, each behind its size. */
static bool each_in_bundle(const char *bytes, size_t n, osc_message_fn fn, void *ctx, int depth)
{
    for (size_t at = BUNDLE_HEAD; at < n;) {
        guint32 size;
        if (n - at < sizeof size)
            return false;
        memcpy(&size, bytes + at, sizeof size);
        size = GUINT32_FROM_BE(size);
        at += sizeof size;
        if (size > n - at || !each(bytes + at, size, fn, ctx, depth + 1))
            return false;
        at += size;
    }
    return true;
}

static bool each(const char *bytes, size_t n, osc_message_fn fn, void *ctx, int depth)
{
    if (n % 4 || n < 8 || depth > DEPTH_MAX)
        return false;
    if (!memcmp(bytes, bundle_mark, sizeof bundle_mark))
        return n >= BUNDLE_HEAD && each_in_bundle(bytes, n, fn, ctx, depth);
    if (bytes[0] != '/' || !memchr(bytes, '\0', n) || !g_utf8_validate(bytes, -1, NULL))
        return false;
    /* liblo turns numbers round in place. */
    char *copy = g_memdup2(bytes, n);
    int status = 0;
    lo_message args = lo_message_deserialise(copy, n, &status);
    if (args) {
        fn(ctx, bytes, args);
        lo_message_free(args);
    }
    g_free(copy);
    return args != NULL;
}

bool osc_message_each(const void *bytes, size_t n, osc_message_fn fn, void *ctx)
{
    return each(bytes, n, fn, ctx, 0);
}

/* ---- arguments ------------------------------------------------------------------------------- */

static json_t *number(double x, bool whole)
{
    if (whole && x == floor(x) && fabs(x) < 1e15)
        return json_integer((json_int_t)x);
    return json_real(x); /* NULL for what is not finite */
}

/* What a controller that sends 32-bit floats means: 0.7, not 0.699999988. */
static double as_meant(float x)
{
    char text[32];
    g_ascii_formatd(text, sizeof text, "%.7g", (double)x);
    return g_ascii_strtod(text, NULL);
}

/* The arguments of a packet lie at multiples of four bytes, some of liblo's types want eight. */
static json_t *argument(char type, const void *at, bool whole, bool truth)
{
    double x;
    gint32 i;
    gint64 h;
    float f;
    switch (type) {
    case LO_INT32:
        memcpy(&i, at, sizeof i);
        x = i;
        break;
    case LO_INT64:
        memcpy(&h, at, sizeof h);
        x = (double)h;
        break;
    case LO_FLOAT:
        memcpy(&f, at, sizeof f);
        x = as_meant(f);
        break;
    case LO_DOUBLE:
        memcpy(&x, at, sizeof x);
        break;
    case LO_TRUE:
        return truth ? json_true() : json_integer(1);
    case LO_FALSE:
        return truth ? json_false() : json_integer(0);
    case LO_STRING:
    case LO_SYMBOL:
        return json_string(at);
    default:
        return NULL;
    }
    if (truth && (x == 0 || x == 1))
        return json_boolean(x == 1);
    return number(x, whole || type == LO_INT32 || type == LO_INT64);
}

char *osc_message_text(lo_message args, bool whole, bool truth)
{
    int count = lo_message_get_argc(args);
    const char *types = lo_message_get_types(args);
    json_t *all = json_array();
    for (int i = 0; i < count; i++) {
        json_t *one = argument(types[i], lo_message_get_argv(args)[i], whole, truth);
        if (!one || json_array_append_new(all, one)) {
            json_decref(all);
            return NULL;
        }
    }
    json_t *only = count == 1 ? json_array_get(all, 0) : NULL;
    char *text = NULL;
    if (json_is_string(only)) {
        text = g_strdup(json_string_value(only));
    } else if (count) {
        char *json = json_dumps(only ? only : all, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
        text = g_strdup(json);
        free(json);
    }
    json_decref(all);
    return text;
}

GBytes *osc_message_bytes(const char *address, lo_message args)
{
    size_t n = 0;
    void *bytes = lo_message_serialise(args, address, NULL, &n);
    lo_message_free(args);
    return g_bytes_new_with_free_func(bytes, n, free, bytes);
}
