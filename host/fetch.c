/* fetch.c - see fetch.h. HTTP through libcurl; hashes through GLib. */
#include "fetch.h"

#include "error.h"

#include <curl/curl.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { TEXT_LIMIT = 64 << 20, BLOCK = 1 << 20, STALLED_S = 60, MARGIN = 16 << 20 };

typedef struct transfer {
    const fetch_job *job; /* NULL for a text */
    CURL *curl;           /* owned */
    GString *text;        /* owned; for a text */
    FILE *part;           /* owned */
    gint64 from, at;      /* resumed from; bytes in the part file */
    char etag[80], linked[80];
    int write_error; /* errno */
    long code;       /* of the last answer */
} transfer;

/* ---- HTTP ------------------------------------------------------------------------------------ */

/* The value of an ETag header: without W/ and quotes. */
static void read_tag(char out[80], const char *value, size_t n)
{
    char *text = g_strstrip(g_strndup(value, n));
    char *start = g_str_has_prefix(text, "W/") ? text + 2 : text;
    size_t length = strlen(start);
    if (length > 1 && start[0] == '"' && start[length - 1] == '"') {
        start[length - 1] = '\0';
        start++;
    }
    g_strlcpy(out, start, 80);
    g_free(text);
}

/* Of every answer on the way, redirections too: the first tells the hash, the last has the data. */
static size_t on_header(char *line, size_t one, size_t n, void *ctx)
{
    transfer *t = ctx;
    n *= one;
    if (n > 14 && !g_ascii_strncasecmp(line, "x-linked-etag:", 14))
        read_tag(t->linked, line + 14, n - 14);
    else if (n > 5 && !g_ascii_strncasecmp(line, "etag:", 5))
        read_tag(t->etag, line + 5, n - 5);
    return n;
}

static size_t on_text(char *data, size_t one, size_t n, void *ctx)
{
    transfer *t = ctx;
    n *= one;
    if (t->text->len + n > TEXT_LIMIT)
        return 0;
    g_string_append_len(t->text, data, (gssize)n);
    return n;
}

static size_t on_data(char *data, size_t one, size_t n, void *ctx)
{
    transfer *t = ctx;
    long code = 0;
    n *= one;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &code);
    if (t->from && code != 206) { /* the server begins again, and so do we */
        if (fflush(t->part) || ftruncate(fileno(t->part), 0) || fseek(t->part, 0, SEEK_SET)) {
            t->write_error = errno;
            return 0;
        }
        t->from = t->at = 0;
    }
    if (fwrite(data, 1, n, t->part) != n) {
        t->write_error = errno;
        return 0;
    }
    t->at += (gint64)n;
    return n;
}

static int on_progress(void *ctx, curl_off_t total, curl_off_t now, curl_off_t up_total,
                       curl_off_t up_now)
{
    transfer *t = ctx;
    (void)up_total, (void)up_now;
    if (t->job && t->job->progress && now > 0)
        t->job->progress(t->job->ctx, t->from + now,
                         t->job->size >= 0 ? t->job->size
                         : total           ? t->from + total
                                           : -1);
    return 0;
}

static int http_error(long code, const char *url, const char *token, scope_error *err)
{
    const char *slash = strrchr(url, '/');
    if (code == 401 || code == 403)
        return error_set(err, SCOPE_EIO, "",
                         token ? "the server does not admit HF_TOKEN to %s (%ld); accept the "
                                 "model's terms on its page with that account"
                               : "the server wants a token for %s (%ld); make one in your "
                                 "account's settings and set HF_TOKEN to it",
                         slash ? slash + 1 : url, code);
    if (code == 404)
        return error_set(err, SCOPE_EIO, "", "there is no %.120s on the server (404)", url);
    return error_set(err, SCOPE_EIO, "", "the server answers %ld to %.100s; try again later", code,
                     url);
}

/* Perform; 0, or what went wrong. */
static int perform(transfer *t, const char *url, const char *token, scope_error *err)
{
    struct curl_slist *headers = NULL;
    char *bearer = token ? g_strdup_printf("Authorization: Bearer %s", token) : NULL;
    if (bearer)
        headers = curl_slist_append(headers, bearer);
    curl_easy_setopt(t->curl, CURLOPT_URL, url);
    curl_easy_setopt(t->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, headers); /* not sent on to another host */
    curl_easy_setopt(t->curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(t->curl, CURLOPT_MAXREDIRS, 10L);
    curl_easy_setopt(t->curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(t->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(t->curl, CURLOPT_CONNECTTIMEOUT, 30L);
    curl_easy_setopt(t->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(t->curl, CURLOPT_LOW_SPEED_TIME, (long)STALLED_S);
    curl_easy_setopt(t->curl, CURLOPT_USERAGENT, "scope");
    curl_easy_setopt(t->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(t->curl, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, t->text ? on_text : on_data);
    curl_easy_setopt(t->curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(t->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(t->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(t->curl, CURLOPT_XFERINFODATA, t);
    CURLcode rc = curl_easy_perform(t->curl);
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &t->code);
    curl_slist_free_all(headers);
    g_free(bearer);
    if (rc == CURLE_HTTP_RETURNED_ERROR)
        return http_error(t->code, url, token, err);
    if (t->write_error == ENOSPC)
        return error_set(err, SCOPE_EIO, "",
                         "the disk is full at %.100s; make room and run the command again, which "
                         "goes on where it stopped",
                         t->job->path);
    if (t->write_error)
        return error_set(err, SCOPE_EIO, "", "%.100s.part cannot be written: %s", t->job->path,
                         g_strerror(t->write_error));
    if (rc)
        return error_set(err, SCOPE_EIO, "",
                         "%.90s: %s; run the command again, which goes on where it stopped", url,
                         curl_easy_strerror(rc));
    return 0;
}

static CURL *open_curl(scope_error *err)
{
    static gsize once;
    if (g_once_init_enter(&once))
        g_once_init_leave(&once, curl_global_init(CURL_GLOBAL_DEFAULT) == 0 ? 1 : 2);
    CURL *curl = once == 1 ? curl_easy_init() : NULL;
    if (!curl)
        error_set(err, SCOPE_EIO, "", "libcurl cannot be started");
    return curl;
}

char *fetch_text(const char *url, const char *token, scope_error *err)
{
    transfer t = {.curl = open_curl(err)};
    if (!t.curl)
        return NULL;
    t.text = g_string_new(NULL);
    int rc = perform(&t, url, token, err);
    curl_easy_cleanup(t.curl);
    return g_string_free(t.text, rc != 0);
}

/* ---- hashes ---------------------------------------------------------------------------------- */

static gboolean is_hex(const char *text, size_t length)
{
    return text && strlen(text) == length && strspn(text, "0123456789abcdefABCDEF") == length;
}

/* The hash of a file, for g_free: SHA-256, or git's SHA-1 of a blob. NULL when it cannot be read.
 */
static char *hash_file(const char *path, gboolean blob, gint64 size)
{
    FILE *f = g_fopen(path, "rb");
    if (!f)
        return NULL;
    GChecksum *sum = g_checksum_new(blob ? G_CHECKSUM_SHA1 : G_CHECKSUM_SHA256);
    guchar *block = g_malloc(BLOCK);
    if (blob) { /* "blob SIZE" and a zero byte come first */
        char *head = g_strdup_printf("blob %" G_GINT64_FORMAT, size);
        g_checksum_update(sum, (guchar *)head, (gssize)strlen(head) + 1);
        g_free(head);
    }
    for (size_t n; (n = fread(block, 1, BLOCK, f)) > 0;)
        g_checksum_update(sum, block, (gssize)n);
    char *text = ferror(f) ? NULL : g_strdup(g_checksum_get_string(sum));
    fclose(f);
    g_free(block);
    g_checksum_free(sum);
    return text;
}

static gint64 size_of(const char *path)
{
    GStatBuf s;
    return g_stat(path, &s) ? -1 : (gint64)s.st_size;
}

/* 1: right; 0: wrong, with both hashes in *err; 2: nobody knows a hash. */
static int verify(const fetch_job *job, const char *path, const transfer *t, scope_error *err)
{
    gint64 size = size_of(path);
    const char *sha256 = is_hex(job->sha256, 64) ? job->sha256
                         : is_hex(t->linked, 64) ? t->linked
                         : is_hex(t->etag, 64)   ? t->etag
                                                 : NULL;
    const char *blob = is_hex(job->blob, 40) ? job->blob : is_hex(t->etag, 40) ? t->etag : NULL;
    const char *want = sha256 ? sha256 : blob;
    char *base = g_path_get_basename(job->path);
    int good = 1;
    if (job->size >= 0 && size != job->size) {
        error_set(err, SCOPE_EIO, "",
                  "%.80s has %" G_GINT64_FORMAT " bytes and should have %" G_GINT64_FORMAT
                  "; run the command again",
                  base, size, job->size);
        good = 0;
    } else if (want) {
        char *is = hash_file(path, !sha256, size);
        good = is && !g_ascii_strcasecmp(is, want);
        if (!good)
            error_set(
                err, SCOPE_EIO, "",
                "%.60s arrived damaged: its %s is %.12s..., not %.12s...; it was thrown away, "
                "run the command again",
                base, sha256 ? "SHA-256" : "SHA-1", is ? is : "unreadable", want);
        g_free(is);
    } else {
        good = 2;
    }
    g_free(base);
    return good;
}

/* ---- a file ---------------------------------------------------------------------------------- */

static int check_room(const fetch_job *job, gint64 have, scope_error *err)
{
    char *dir = g_path_get_dirname(job->path);
    struct statvfs s;
    int known = !statvfs(dir, &s);
    gint64 room = known ? (gint64)s.f_bavail * (gint64)s.f_frsize : 0;
    if (known && job->size >= 0 && job->size - have + MARGIN > room)
        error_set(err, SCOPE_EIO, "",
                  "%.80s has room for %" G_GINT64_FORMAT " MB and needs %" G_GINT64_FORMAT
                  " MB; make room, or choose another folder with --to",
                  dir, room >> 20, (job->size - have) >> 20);
    g_free(dir);
    return err->status;
}

/* Bring the part file to its end, from where it stands. */
static int grow(transfer *t, const char *part, scope_error *err)
{
    const fetch_job *job = t->job;
    t->from = t->at = MAX(size_of(part), 0);
    t->etag[0] = t->linked[0] = '\0';
    if (job->size >= 0 && t->from > job->size)
        t->from = t->at = 0;
    if (check_room(job, t->from, err))
        return err->status;
    if (t->from && t->from == job->size)
        return 0; /* all there; only the name is missing */
    t->part = g_fopen(part, t->from ? "r+b" : "wb");
    if (!t->part || fseek(t->part, 0, SEEK_END))
        t->write_error = errno;
    if (t->write_error) {
        error_set(err, SCOPE_EIO, "", "%.120s cannot be written: %s", part,
                  g_strerror(t->write_error));
    } else {
        curl_easy_reset(t->curl);
        /* as a range, because libcurl takes a server that begins again for an error otherwise */
        char *range = t->from ? g_strdup_printf("%" G_GINT64_FORMAT "-", t->from) : NULL;
        curl_easy_setopt(t->curl, CURLOPT_RANGE, range);
        g_free(range);
        perform(t, job->url, job->token, err);
    }
    if (t->part && fclose(t->part) && !err->status)
        error_set(err, SCOPE_EIO, "", "%.120s cannot be written: %s", part, g_strerror(errno));
    t->part = NULL;
    return err->status;
}

static int fetch_part(transfer *t, const char *part, scope_error *err)
{
    int good = 0;
    for (int attempt = 0; attempt < 2 && !good; attempt++) {
        memset(err, 0, sizeof *err);
        gboolean resumed = size_of(part) > 0, odd = grow(t, part, err) && t->code == 416;
        if (err->status && !odd)
            return err->status;
        good = odd ? 0 : verify(t->job, part, t, err);
        if (!good)
            g_unlink(part);
        if (!resumed) /* what was left of another version is worth one fresh start */
            break;
    }
    if (!good)
        return err->status;
    memset(err, 0, sizeof *err);
    if (g_rename(part, t->job->path))
        return error_set(err, SCOPE_EIO, "", "%.120s cannot be renamed: %s", part,
                         g_strerror(errno));
    return good == 2 ? FETCH_UNVERIFIED : FETCH_GOT;
}

int fetch_file(const fetch_job *job, scope_error *err)
{
    transfer t = {.job = job};
    memset(err, 0, sizeof *err);
    /* An unknown hash cannot tell whether the file that is there is the one that is wanted. */
    if (size_of(job->path) >= 0 && (job->sha256 || job->blob) &&
        verify(job, job->path, &t, err) == 1)
        return FETCH_THERE;
    memset(err, 0, sizeof *err);
    char *dir = g_path_get_dirname(job->path), *part = g_strconcat(job->path, ".part", NULL);
    int rc = 0;
    if (g_mkdir_with_parents(dir, 0777))
        rc = error_set(err, SCOPE_EIO, "", "%.120s cannot be made: %s", dir, g_strerror(errno));
    else if (!(t.curl = open_curl(err)))
        rc = err->status;
    else
        rc = fetch_part(&t, part, err);
    if (t.curl)
        curl_easy_cleanup(t.curl);
    g_free(part);
    g_free(dir);
    return rc;
}
