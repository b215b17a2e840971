/* page.c - the page of `scope serve`: the files of web/, embedded in the program.
 *
 * Under serve. The Makefile packs whatever lies in web/ into one GResource; nothing is listed here.
 * A file is kept by browsers but asked for again each time, so that what runs is always of one
 * version: mostly the answer is 304.
 */
#include "app.h"

#include <gio/gio.h>
#include <string.h>

#define ROOT "/page/"

GResource *page_get_resource(void); /* of the file that glib-compile-resources makes */

/* Nothing is fetched from elsewhere, and nothing in the page is run but its own files. */
static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'";

static const char *type_of(const char *name)
{
    static const struct {
        const char *ending, *type;
    } types[] = {
        {".html", "text/html; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".webmanifest", "application/manifest+json"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        if (g_str_has_suffix(name, types[i].ending))
            return types[i].type;
    }
    return "application/octet-stream";
}

/* Does If-None-Match name this version? */
static bool known(const request *r, const char *etag)
{
    const char *have = request_header(r, "If-None-Match");
    return have && (!strcmp(have, "*") || strstr(have, etag));
}

static response *answer(request *r, const char *name)
{
    char *path = g_strconcat(ROOT, name, NULL);
    GBytes *bytes = g_resource_lookup_data(page_get_resource(), path, 0, NULL);
    g_free(path);
    if (!bytes)
        return response_error(r, 404, "PAGE/NOT_FOUND", NULL, "the page has no file '%s'", name);

    char *sum = g_compute_checksum_for_bytes(G_CHECKSUM_SHA256, bytes);
    char *etag = g_strdup_printf("\"%.20s\"", sum);
    response *a = known(r, etag) ? response_text(304, type_of(name), "")
                                 : response_bytes(200, type_of(name), bytes);
    response_header(a, "ETag", etag);
    response_header(a, "Cache-Control", "no-cache");
    response_header(a, "Content-Security-Policy", policy);
    response_header(a, "Referrer-Policy", "no-referrer");
    g_free(etag);
    g_free(sum);
    g_bytes_unref(bytes);
    return a;
}

static response *get_index(request *r)
{
    return answer(r, "index.html");
}

static response *get_file(request *r)
{
    return answer(r, request_part(r, "file"));
}

const route page_routes[] = {
    {"GET", "/", get_index, ROUTE_OPEN, .summary = "The page", .produces = "text/html"},
    {"GET", "/web/{file*}", get_file, ROUTE_OPEN, .summary = "A file of the page",
     .produces = "application/octet-stream"},
    {0},
};
