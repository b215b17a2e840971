/* hls.c - the files of a stream's HLS output.
 *
 * Under serve. Must stay true: only names that the output makes are looked for, so that no path
 * leads out of its folder.
 */
#include "../live/outlet.h"
#include "app.h"

#include <string.h>

/* "s1700000000-00012.ts", of digits alone. */
static bool is_piece(const char *name)
{
    size_t first = strspn(name + 1, "0123456789");
    if (*name != 's' || !first || name[1 + first] != '-')
        return false;
    const char *second = name + 1 + first + 1;
    size_t n = strspn(second, "0123456789");
    return n && !strcmp(second + n, ".ts");
}

static response *hls_file(request *r)
{
    response *bad;
    stream *s = app_by_key(r, STREAM_PLAYBACK, &bad);
    if (!s)
        return bad;
    const char *name = request_part(r, "file"), *folder = outlet_hls_folder(s);
    bool list = !strcmp(name, "index.m3u8");
    if (!folder || !*name || !(list || is_piece(name)))
        return response_error(r, 404, "STREAMS/NO_HLS", NULL,
                              folder ? "there is no such file"
                                     : "this stream has no HLS output; add one of kind hls");
    char *path = g_build_filename(folder, name, NULL);
    response *a =
        response_file(r, path, list ? "application/vnd.apple.mpegurl" : "video/mp2t", NULL);
    response_header(a, "Cache-Control", list ? "no-cache" : "max-age=60");
    g_free(path);
    return a;
}

const route hls_routes[] = {
    {.method = "GET",
     .path = "/live/{key}/hls/{file}",
     .handler = hls_file,
     .access = ROUTE_SECRET,
     .summary = "The playlist (index.m3u8) and the pieces of a stream's HLS output",
     .produces = "application/vnd.apple.mpegurl"},
    {0},
};
