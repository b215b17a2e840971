/* route.c - which route a path means, and what the {names} in it stand for.
 *
 * A path is split while it is still percent-encoded, so that a slash in an id is no separator. Of
 * several routes that fit, the one that is literal for longer is meant. No part may climb ("..").
 */
#include "internal.h"

char *percent_decode(const char *text, size_t n)
{
    char *out = g_malloc(n + 1);
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c == '%') {
            if (n - i < 3 || !g_ascii_isxdigit(text[i + 1]) || !g_ascii_isxdigit(text[i + 2]))
                c = '\0';
            else
                c = (char)(g_ascii_xdigit_value(text[i + 1]) << 4 |
                           g_ascii_xdigit_value(text[i + 2]));
            i += 2;
        }
        if (c == '\0') {
            g_free(out);
            return NULL;
        }
        out[k++] = c;
    }
    out[k] = '\0';
    if (!g_utf8_validate(out, (gssize)k, NULL))
        g_clear_pointer(&out, g_free);
    return out;
}

/* A name in a route's path: "{id}", "{rest*}". */
static bool is_name(const char *segment)
{
    return segment[0] == '{';
}

static bool takes_rest(const char *segment, size_t n)
{
    return n > 3 && is_name(segment) && segment[n - 2] == '*';
}

/* Could a decoded part lead out of the folder that a handler looks in? */
static bool climbs(const char *value)
{
    if (value[0] == '/')
        return true;
    for (const char *p = value;; p++) {
        size_t n = strcspn(p, "/\\");
        if ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            return true;
        p += n;
        if (!*p)
            return false;
    }
}

static void parts_clear(request *r)
{
    while (r->part_count > 0)
        g_free(r->parts[--r->part_count].value);
}

/* Take `raw` for the name of `segment`; what is wrong with it goes to *fault. */
static bool take_part(request *r, const char *segment, size_t n, const char *raw, size_t raw_n,
                      const char **fault)
{
    bool rest = takes_rest(segment, n);
    char *value = percent_decode(raw, raw_n);
    if (raw_n == 0 || r->part_count == PARTS_MAX) {
        g_free(value);
        return false;
    }
    if (!value)
        *fault = "the path has a broken escape, a NUL, or is no UTF-8";
    else if (climbs(value))
        *fault = "the path leads out of where it begins";
    part *p = &r->parts[r->part_count++];
    *p = (part){segment + 1, n - (rest ? 3 : 2), value ? value : g_strdup("")};
    return true;
}

static bool literal_is(const char *segment, size_t n, const char *raw, size_t raw_n)
{
    if (n == raw_n && memcmp(segment, raw, n) == 0)
        return true;
    if (!memchr(raw, '%', raw_n))
        return false;
    char *value = percent_decode(raw, raw_n);
    bool same = value && strlen(value) == n && memcmp(value, segment, n) == 0;
    g_free(value);
    return same;
}

/* Does `raw` have the form of `path`? Fills the parts. */
static bool fits(const char *path, request *r, const char *raw, const char **fault)
{
    parts_clear(r);
    *fault = NULL;
    while (*path == '/' && *raw == '/') {
        size_t n = strcspn(++path, "/"), raw_n = strcspn(++raw, "/");
        if (takes_rest(path, n))
            return take_part(r, path, n, raw, strlen(raw), fault);
        if (is_name(path) && n > 2) {
            if (!take_part(r, path, n, raw, raw_n, fault))
                return false;
        } else if (!literal_is(path, n, raw, raw_n)) {
            return false;
        }
        path += n;
        raw += raw_n;
    }
    return *path == '\0' && *raw == '\0';
}

/* Is `a` literal where `b` is not, the first time that they differ in that? */
static bool closer(const char *a, const char *b)
{
    while (*a == '/' && *b == '/') {
        size_t n = strcspn(++a, "/"), m = strcspn(++b, "/");
        int rank_a = takes_rest(a, n) ? 2 : is_name(a), rank_b = takes_rest(b, m) ? 2 : is_name(b);
        if (rank_a != rank_b)
            return rank_a < rank_b;
        a += n;
        b += m;
    }
    return false;
}

static bool method_is(const route *route, const char *method)
{
    return strcmp(route->method, method) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0);
}

static void allow_add(GString *allow, const char *method)
{
    bool get = strcmp(method, "GET") == 0;
    char **told = g_strsplit(allow->str, ", ", -1);
    if (!g_strv_contains((const char *const *)told, method))
        g_string_append_printf(allow, "%s%s%s", allow->len ? ", " : "", method,
                               get ? ", HEAD" : "");
    g_strfreev(told);
}

bool route_find(const route *const *tables, request *r, const char *raw, char **allow,
                const char **fault)
{
    const route *best = NULL;
    GString *methods = g_string_new(NULL);
    for (; *tables; tables++) {
        for (const route *at = *tables; at->method; at++) {
            if (!fits(at->path, r, raw, fault))
                continue;
            allow_add(methods, at->method);
            if (method_is(at, r->method) && (!best || closer(at->path, best->path)))
                best = at;
        }
    }
    parts_clear(r);
    *fault = NULL;
    if (best)
        fits(best->path, r, raw, fault);
    r->route = best;
    *allow = g_string_free(methods, methods->len == 0);
    return best != NULL;
}

bool route_takes(const route *route, const char *type)
{
    if (!type)
        return true;
    size_t n = strcspn(type, "; \t");
    char **kinds = g_strsplit(route->consumes ? route->consumes : "application/json", ",", -1);
    bool fit = false;
    for (char **k = kinds; *k && !fit; k++) {
        const char *kind = g_strstrip(*k);
        size_t m = strlen(kind);
        if (m > 1 && kind[m - 1] == '*') /* "image/" of "image/x", or all of it */
            fit = strcmp(kind, "*/*") == 0 || g_ascii_strncasecmp(kind, type, m - 1) == 0;
        else
            fit = n == m && g_ascii_strncasecmp(kind, type, n) == 0;
    }
    g_strfreev(kinds);
    return fit;
}
