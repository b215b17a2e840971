/* inlet_url.c - which sources there are, and which files may be one. Under inlet.
 *
 * Must stay true: without `local`, no text leads to a file outside the assets folder. (What a
 * playlist or a redirection leads to is the player's to refuse.)
 */
#include "inlet_url.h"

#include "../error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *scheme;
    bool live;
} schemes[] = {
    {"http", false}, {"https", false}, {"rtsp", true},  {"rtsps", true}, {"rtspt", true},
    {"rtmp", true},  {"rtmps", true},  {"rtmpt", true}, {"srt", true},   {"udp", true},
};

char *inlet_url_public(const char *url)
{
    const char *host = strstr(url, "://");
    if (!host)
        return g_strdup(url);
    host += strlen("://");
    size_t authority = strcspn(host, "/?#");
    const char *at = memrchr(host, '@', authority);
    const char *rest = at ? at + 1 : host;
    return g_strdup_printf("%.*s%.*s", (int)(host - url), url, (int)strcspn(rest, "?#"), rest);
}

static int refuse(scope_error *err, const char *url, const char *why)
{
    return error_set(err, SCOPE_EINVAL, "url", "'%s' cannot be a source: %s", url, why);
}

/* A file, by its path. */
static int take_path(inlet_url *u, const char *path, const char *assets, bool local,
                     scope_error *err)
{
    char *joined = g_path_is_absolute(path) ? g_strdup(path) : g_build_filename(assets, path, NULL);
    char *real = realpath(joined, NULL);
    int cause = errno;
    char *folder = realpath(assets, NULL);
    g_free(joined);
    bool inside = real && folder && g_str_has_prefix(real, folder) && real[strlen(folder)] == '/';
    int status = 0;
    if (!inside && !(local && g_path_is_absolute(path)))
        status = real || cause != ENOENT || g_path_is_absolute(path) || strstr(path, "..")
                     ? refuse(err, path, "only files in the assets folder can be played here")
                     : refuse(err, path, "there is no such file in the assets folder");
    else if (!real)
        status = refuse(err, path, g_strerror(cause));
    else if (!g_file_test(real, G_FILE_TEST_IS_REGULAR))
        status = refuse(err, path, "it is no file");
    if (!status) {
        u->kind = "file";
        u->player = PLAYER_URI;
        u->input = g_filename_to_uri(real, NULL, NULL);
        u->about = g_path_get_basename(real);
    }
    free(real);
    free(folder);
    return status;
}

static int take_file_uri(inlet_url *u, const char *url, const char *assets, bool local,
                         scope_error *err)
{
    char *path = g_filename_from_uri(url, NULL, NULL);
    int status = path ? take_path(u, path, assets, local, err)
                      : refuse(err, url, "it is no file:///absolute/path");
    g_free(path);
    return status;
}

static int take_net(inlet_url *u, const char *url, scope_error *err)
{
    char *scheme = g_uri_parse_scheme(url);
    int found = -1;
    for (size_t i = 0; scheme && i < G_N_ELEMENTS(schemes); i++)
        found = !g_ascii_strcasecmp(scheme, schemes[i].scheme) ? (int)i : found;
    g_free(scheme);
    if (found < 0)
        return refuse(err, url, "it can be http, https, rtsp, rtmp, srt, udp or file");
    if (!g_uri_is_valid(url, G_URI_FLAGS_PARSE_RELAXED, NULL))
        return refuse(err, url, "it is no URL");
    u->kind = "url";
    u->player = PLAYER_URI;
    u->live = schemes[found].live;
    u->input = g_strdup(url);
    u->about = g_strdup(u->url);
    return 0;
}

static void take_device(inlet_url *u, enum player_kind player, const char *kind, const char *input,
                        const char *about)
{
    u->player = player;
    u->kind = kind;
    u->live = true;
    u->input = g_strdup(input);
    u->about = g_strdup(about);
}

static bool is_camera(const char *url)
{
    const char *number = url + strlen("/dev/video");
    return g_str_has_prefix(url, "/dev/video") && *number && strlen(number) <= 3 &&
           strspn(number, "0123456789") == strlen(number);
}

int inlet_url_init(inlet_url *u, const char *url, const char *assets, bool local, scope_error *err)
{
    *u = (inlet_url){.url = inlet_url_public(url)};
    if (!*url || strlen(url) > 2000)
        return error_set(err, SCOPE_EINVAL, "url", "a source has a URL of 1 to 2000 characters");
    if (is_camera(url))
        take_device(u, PLAYER_CAMERA, "camera", url, url);
    else if (!strcmp(url, "screen:"))
        take_device(u, PLAYER_SCREEN, "screen", "", "the server's screen");
    else if (!strcmp(url, "test:") || !strcmp(url, "test:tone"))
        take_device(u, PLAYER_TEST, "test", url + strlen("test:"), "a test picture");
    else if (g_str_has_prefix(url, "test:") || g_str_has_prefix(url, "screen:"))
        return refuse(err, url, "there are test:, test:tone and screen:");
    else if (g_str_has_prefix(url, "/dev/"))
        return refuse(err, url, "the devices that can are /dev/video0 to /dev/video999");
    else if (g_str_has_prefix(url, "file:"))
        return take_file_uri(u, url, assets, local, err);
    else if (strstr(url, "://"))
        return take_net(u, url, err);
    else
        return take_path(u, url, assets, local, err);
    return 0;
}

void inlet_url_fini(inlet_url *u)
{
    g_free(u->input);
    g_free(u->about);
    g_free(u->url);
    *u = (inlet_url){0};
}
