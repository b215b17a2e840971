/* file.c - a file as an answer: whole, or the one range of it that was asked for. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int range_parse(const char *text, uint64_t size, uint64_t *first, uint64_t *last)
{
    char *end;
    *first = 0;
    *last = size ? size - 1 : 0;
    if (!text || g_ascii_strncasecmp(text, "bytes=", 6) != 0 || strchr(text, ','))
        return 0;
    text += 6;
    if (*text == '-') { /* the last N */
        if (!g_ascii_isdigit(text[1]))
            return 0;
        uint64_t n = g_ascii_strtoull(text + 1, &end, 10);
        if (*end)
            return 0;
        *first = n < size ? size - n : 0;
        return n && size ? 1 : -1;
    }
    if (!g_ascii_isdigit(*text))
        return 0;
    uint64_t from = g_ascii_strtoull(text, &end, 10), to = UINT64_MAX;
    if (*end++ != '-' || (*end && !g_ascii_isdigit(*end)))
        return 0;
    if (*end)
        to = g_ascii_strtoull(end, &end, 10);
    if (*end || to < from)
        return 0;
    if (from >= size)
        return -1;
    *first = from;
    *last = MIN(to, size - 1);
    return 1;
}

static void http_date(char *out, size_t size, time_t t)
{
    GDateTime *at = g_date_time_new_from_unix_utc(t);
    static const char *const days[] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    snprintf(out, size, "%s, %02d %s %04d %02d:%02d:%02d GMT",
             days[g_date_time_get_day_of_week(at) - 1], g_date_time_get_day_of_month(at),
             months[g_date_time_get_month(at) - 1], g_date_time_get_year(at),
             g_date_time_get_hour(at), g_date_time_get_minute(at), g_date_time_get_second(at));
    g_date_time_unref(at);
}

/* Has the client this version already? */
static bool is_known(const request *r, const char *etag, const char *date)
{
    const char *none = request_header(r, "If-None-Match");
    const char *since = request_header(r, "If-Modified-Since");
    if (none)
        return strcmp(none, "*") == 0 || strstr(none, etag) != NULL;
    return since && strcmp(since, date) == 0;
}

static void describe(response *a, const char *etag, const char *date, const char *download)
{
    response_header(a, "ETag", etag);
    response_header(a, "Last-Modified", date);
    response_header(a, "Accept-Ranges", "bytes");
    response_header(a, "Cache-Control", "no-cache");
    if (!download)
        return;
    char *name = g_uri_escape_string(download, NULL, FALSE);
    char *text = g_strdup_printf("attachment; filename*=UTF-8''%s", name);
    response_header(a, "Content-Disposition", text);
    g_free(text);
    g_free(name);
}

static response *of_file(request *r, int fd, const struct stat *st, const char *type,
                         const char *download)
{
    char date[40], etag[64], text[80];
    http_date(date, sizeof date, st->st_mtime);
    snprintf(etag, sizeof etag, "\"%" PRIx64 "-%" PRIx64 "%08lx\"", (uint64_t)st->st_size,
             (uint64_t)st->st_mtim.tv_sec, (unsigned long)st->st_mtim.tv_nsec);
    const char *if_range = request_header(r, "If-Range");
    bool same = !if_range || strcmp(if_range, etag) == 0 || strcmp(if_range, date) == 0;
    uint64_t first, last, size = (uint64_t)st->st_size;
    int part = range_parse(same ? request_header(r, "Range") : NULL, size, &first, &last);
    if (is_known(r, etag, date) || part < 0) {
        close(fd);
        bool known = part >= 0 || is_known(r, etag, date);
        response *a = known ? response_text(304, type, "")
                            : response_error(r, 416, "REQUEST/RANGE", NULL,
                                             "the file has %" PRIu64 " bytes", size);
        snprintf(text, sizeof text, "bytes */%" PRIu64, size);
        if (!known)
            response_header(a, "Content-Range", text);
        describe(a, etag, date, known ? download : NULL);
        return a;
    }
    uint64_t n = size ? last - first + 1 : 0;
    struct MHD_Response *mhd = MHD_create_response_from_fd_at_offset64(n, fd, first);
    response *a = response_of(part ? 206 : 200, type, mhd, n);
    if (part) {
        snprintf(text, sizeof text, "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, first, last, size);
        response_header(a, "Content-Range", text);
    }
    describe(a, etag, date, download);
    return a;
}

response *response_file(request *r, const char *path, const char *type, const char *download)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return of_file(r, fd, &st, type, download);
    if (fd >= 0)
        close(fd);
    return response_error(r, 404, "REQUEST/NOT_FOUND", NULL, "there is no such file at %.200s",
                          r->path);
}
