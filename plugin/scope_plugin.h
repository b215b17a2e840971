/* scope_plugin.h - what a plugin author includes: the ABI and a few inline helpers. */
#ifndef SCOPE_PLUGIN_H
#define SCOPE_PLUGIN_H

#include "scope_abi.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Write JSON in place: SCOPE_JSON({"type": "object"}) is the string {"type": "object"}. */
#define SCOPE_JSON(...) #__VA_ARGS__

/* Export the plugins of this library. scope_abi.h made the symbol visible. */
#define SCOPE_LIBRARY(...)                                                                         \
    static const scope_plugin *const scope_plugins_[] = {__VA_ARGS__, 0};                          \
    const scope_library scope_entry = {SCOPE_ABI, scope_plugins_}

/* Fill *err and return its status, so that failing is one line. */
__attribute__((format(printf, 3, 4))) static inline int scope_fail(scope_error *err, int status,
                                                                   const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    err->status = status;
    err->field[0] = '\0';
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    return status;
}

/* The same, naming the schema field that is at fault. */
__attribute__((format(printf, 4, 5))) static inline int
scope_fail_field(scope_error *err, int status, const char *field, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    err->status = status;
    snprintf(err->field, sizeof err->field, "%s", field);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    return status;
}

/* A field by name, or a NULL-typed zero. Asking for a field the schema lacks is a bug in
 * the plugin: `scope check` reports it, and here it must not crash. */
static inline const scope_value *scope_get(const scope_kwargs *kw, const char *name)
{
    static const scope_value none = {0, SCOPE_NULL, 0, {0}};
    for (int32_t i = 0; i < kw->count; i++) {
        if (!strcmp(kw->at[i].name, name))
            return &kw->at[i];
    }
    return &none;
}

static inline double scope_num(const scope_kwargs *kw, const char *name)
{
    const scope_value *v = scope_get(kw, name);
    return v->type == SCOPE_NUM ? v->u.f : (double)v->u.i;
}

static inline int64_t scope_int(const scope_kwargs *kw, const char *name)
{
    const scope_value *v = scope_get(kw, name);
    return v->type == SCOPE_NUM ? (int64_t)v->u.f : v->u.i;
}

static inline const char *scope_str(const scope_kwargs *kw, const char *name)
{
    const scope_value *v = scope_get(kw, name);
    return v->type == SCOPE_STR ? v->u.s : "";
}

/* First byte of row y of frame t. */
static inline void *scope_row(const scope_video *v, int t, int y)
{
    return (char *)v->data + t * v->stride_t + y * v->stride_h;
}
#endif
