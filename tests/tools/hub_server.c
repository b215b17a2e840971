/* hub_server.c - a tiny Hugging Face-style server on 127.0.0.1, for tests/e2e/model.sh.
 *
 *     hub_server FOLDER PORT_FILE
 *
 * Serves FOLDER/OWNER/NAME/... at /OWNER/NAME/resolve/main/... and lists it at
 * /api/models/OWNER/NAME. Files of more than LFS bytes are "LFS": they have a SHA-256, and are
 * redirected to /cdn/. Names make it misbehave: a repository "private" wants the token "good", a
 * file "*.cut*" ends half way unless a Range was asked for, "*.flip*" has one bit wrong, "*.plain*"
 * ignores ranges. One connection at a time; each request is appended to PORT_FILE.log.
 */
#include <dirent.h>
#include <errno.h>
#include <glib.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LFS = 1024 };

static void send_text(int fd, const char *text)
{
    for (size_t n = strlen(text); n;) {
        ssize_t sent = send(fd, text, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        text += sent;
        n -= (size_t)sent;
    }
}

static void answer(int fd, int code, const char *headers, const char *body)
{
    char *all =
        g_strdup_printf("HTTP/1.1 %d X\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n"
                        "%s",
                        code, headers, strlen(body), body);
    send_text(fd, all);
    g_free(all);
}

/* SHA-256, or git's SHA-1 of a blob. */
static char *hash(const char *data, gsize n)
{
    if (n > LFS)
        return g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)data, n);
    GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA1);
    char head[32];
    int length = snprintf(head, sizeof head, "blob %zu", n) + 1;
    g_checksum_update(sum, (guchar *)head, length);
    g_checksum_update(sum, (const guchar *)data, (gssize)n);
    char *text = g_strdup(g_checksum_get_string(sum));
    g_checksum_free(sum);
    return text;
}

/* The JSON entries of a folder's files. */
static void list(GString *out, const char *folder, const char *inside)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        char *path = g_build_filename(folder, e->d_name, NULL);
        char *name = g_strconcat(inside, *inside ? "/" : "", e->d_name, NULL), *data;
        gsize n;
        if (g_file_test(path, G_FILE_TEST_IS_DIR)) {
            list(out, path, name);
        } else if (g_file_get_contents(path, &data, &n, NULL)) {
            char *is = hash(data, n);
            g_string_append_printf(out, "%s{\"rfilename\": \"%s\", \"size\": %zu, ",
                                   out->str[out->len - 1] == '[' ? "" : ", ", name, n);
            g_string_append_printf(out,
                                   n > LFS ? "\"blobId\": \"x\", \"lfs\": {\"sha256\": \"%s\"}}"
                                           : "\"blobId\": \"%s\"}",
                                   is);
            g_free(is);
            g_free(data);
        }
        g_free(name);
        g_free(path);
    }
    if (d)
        closedir(d);
}

/* The bytes of a file, from the one that was asked for, with its misbehaviour. */
static void send_file(int fd, const char *name, char *data, gsize n, const char *request)
{
    const char *range = strcasestr(request, "\r\nRange: bytes=");
    gsize from = range && !strstr(name, ".plain") ? strtoul(range + 15, NULL, 10) : 0;
    if (from >= n && from) {
        answer(fd, 416, "", "");
        return;
    }
    if (strstr(name, ".flip"))
        data[n / 2] ^= 1;
    char *head = g_strdup_printf("HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %zu\r\n"
                                 "Content-Range: bytes %zu-%zu/%zu\r\n\r\n",
                                 from ? 206 : 200, n - from, from, n - 1, n);
    send_text(fd, head);
    g_free(head);
    gsize end = strstr(name, ".cut") && !range ? n / 2 : n;
    while (from < end) {
        ssize_t sent = send(fd, data + from, end - from, MSG_NOSIGNAL);
        if (sent <= 0)
            break;
        from += (gsize)sent;
    }
}

static void serve_file(int fd, const char *root, const char *path, const char *request)
{
    gboolean cdn = g_str_has_prefix(path, "/cdn/");
    char **half = g_strsplit(path + (cdn ? 5 : 1), "/resolve/main/", 2), *data = NULL;
    char *name = half[0] && half[1] ? g_build_filename(root, half[0], half[1], NULL) : NULL;
    gsize n;
    if (!name || !g_file_get_contents(name, &data, &n, NULL)) {
        answer(fd, 404, "", "no such file");
    } else if (n > LFS && !cdn) {
        char *is = hash(data, n);
        char *headers = g_strdup_printf("X-Linked-Etag: \"%s\"\r\nX-Linked-Size: %zu\r\n"
                                        "Location: /cdn%s\r\n",
                                        is, n, path);
        answer(fd, 302, headers, "");
        g_free(headers);
        g_free(is);
    } else {
        send_file(fd, name, data, n, request);
    }
    g_free(data);
    g_free(name);
    g_strfreev(half);
}

static void serve(int fd, const char *root, FILE *log)
{
    char request[8192] = "", path[1024];
    size_t n = 0;
    while (n + 1 < sizeof request && !strstr(request, "\r\n\r\n")) {
        ssize_t got = recv(fd, request + n, sizeof request - 1 - n, 0);
        if (got <= 0)
            return;
        n += (size_t)got;
    }
    if (sscanf(request, "GET %1000s", path) != 1)
        return;
    const char *range = strcasestr(request, "\r\nRange: "), *query = strchr(path, '?');
    fprintf(log, "%s%s%s%.*s\n", path, strcasestr(request, "\r\nAuthorization: ") ? " token" : "",
            range ? " " : "", range ? (int)strcspn(range + 2, "\r") : 0, range ? range + 2 : "");
    fflush(log);
    path[query ? query - path : (ptrdiff_t)strlen(path)] = '\0';
    if (strstr(path, "/private/") && !strstr(request, "Bearer good\r\n") &&
        !g_str_has_prefix(path, "/cdn/")) {
        answer(fd, strcasestr(request, "\r\nAuthorization: ") ? 403 : 401, "", "who are you?");
    } else if (g_str_has_prefix(path, "/api/models/")) {
        char *folder = g_build_filename(root, path + 12, NULL);
        GString *out = g_string_new("{\"siblings\": [");
        gboolean there = g_file_test(folder, G_FILE_TEST_IS_DIR);
        list(out, folder, "");
        g_string_append(out, "]}");
        answer(fd, there ? 200 : 404, "Content-Type: application/json\r\n", out->str);
        g_string_free(out, TRUE);
        g_free(folder);
    } else {
        serve_file(fd, root, path, request);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (argc != 3 || server < 0 || bind(server, (struct sockaddr *)&at, size) ||
        listen(server, 16) || getsockname(server, (struct sockaddr *)&at, &size))
        return 1;
    char *port = g_strdup_printf("%d\n", ntohs(at.sin_port)), *log_name;
    log_name = g_strconcat(argv[2], ".log", NULL);
    FILE *log = fopen(log_name, "w");
    if (!log || !g_file_set_contents(argv[2], port, -1, NULL))
        return 1;
    for (;;) {
        int fd = accept(server, NULL, NULL);
        if (fd < 0)
            return 1;
        serve(fd, argv[1], log);
        close(fd);
    }
}
