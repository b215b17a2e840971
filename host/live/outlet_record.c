/* outlet_record.c - the file of a recording: its name, its room on the disk, what a fault leaves.
 *
 * Under outlet. The muxer writes fragments: whatever happens, what has been written up to the last
 * of them can be played. Must stay true: no half-written file has a final name; no name leads out
 * of the folder; a part file whose writer has died is given its name by the next server.
 */
#include "outlet_parts.h"

#include "../error.h"
#include "../log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* To start takes more room than to go on, so that nothing starts that ends at once. */
enum {
    START_MB = 32,
    RESERVE_MB = 16,
    NAME_MAX_BYTES = 100,
    TRIES = 1000,
    FRAGMENT_MAX = 16 << 20, /* bytes of its table */
};

#define ENDING ".mp4"
#define PART   ".part"

static int64_t free_mb(const char *folder)
{
    struct statvfs disk;
    return statvfs(folder, &disk) ? 0 : (int64_t)(disk.f_bavail * disk.f_frsize >> 20);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* The folder, made when it is not there; for g_free. */
static char *folder_of(live *l, scope_error *err)
{
    char *folder = g_build_filename(live_data_dir(l), "recordings", NULL);
    if (!g_mkdir_with_parents(folder, 0755))
        return folder;
    error_set(err, SCOPE_EIO, "", "cannot make the folder '%s': %s", folder, g_strerror(errno));
    g_free(folder);
    return NULL;
}

/* What is awkward in a file's name becomes '-'. */
static char *plain_name(const char *text)
{
    GString *out = g_string_new(NULL);
    char *valid = g_utf8_make_valid(text, -1);
    for (const char *p = valid; *p && out->len < NAME_MAX_BYTES / 2; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        if (g_unichar_isalnum(c) || c == '_')
            g_string_append_unichar(out, c);
        else if (out->len && out->str[out->len - 1] != '-')
            g_string_append_c(out, '-');
    }
    g_free(valid);
    return g_string_free(out, FALSE);
}

static char *name_of(const char *stream_name, const char *name)
{
    if (name)
        return g_strndup(name, strlen(name) - (g_str_has_suffix(name, ENDING) ? 4 : 0));
    GDateTime *now = g_date_time_new_now_local();
    char *time = g_date_time_format(now, "%Y%m%d-%H%M%S");
    char *plain = plain_name(stream_name);
    char *all = g_strdup_printf("%s%s%s", plain, *plain ? "-" : "", time);
    g_date_time_unref(now);
    g_free(plain);
    g_free(time);
    return all;
}

static int check_name(const char *name, scope_error *err)
{
    if (!*name || !strcmp(name, ENDING) || strlen(name) > NAME_MAX_BYTES)
        return error_set(err, SCOPE_EINVAL, "name", "a recording's name has 1 to %d bytes",
                         NAME_MAX_BYTES);
    bool bad = *name == '.' || strchr(name, '/') || strchr(name, '\\');
    for (const char *p = name; !bad && *p; p++)
        bad = (unsigned char)*p < ' ' || *p == 127;
    if (bad || !g_utf8_validate(name, -1, NULL))
        return error_set(err, SCOPE_EINVAL, "name",
                         "a recording's name is no path, and does not begin with a dot");
    return 0;
}

static void unlock(record *r)
{
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
}

static void forget(record *r)
{
    unlock(r);
    g_free(r->path);
    g_free(r->part);
    r->path = r->part = NULL;
}

/* True when there is none of that name, and the part is ours. */
static bool claim(record *r, const char *folder, const char *name, int number, int *cause)
{
    char *numbered = number > 1 ? g_strdup_printf("%s-%d", name, number) : g_strdup(name);
    r->path = g_strdup_printf("%s/%s" ENDING, folder, numbered);
    r->part = g_strdup_printf("%s" PART, r->path);
    g_free(numbered);
    *cause = EEXIST;
    if (!g_file_test(r->path, G_FILE_TEST_EXISTS)) {
        r->fd = open(r->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        *cause = errno;
    }
    if (r->fd >= 0 && !flock(r->fd, LOCK_EX | LOCK_NB))
        return true;
    forget(r);
    return false;
}

int record_open(record *r, live *l, const char *stream_name, const char *name, scope_error *err)
{
    *r = (record){.fd = -1};
    if (name && check_name(name, err))
        return SCOPE_EINVAL;
    char *folder = folder_of(l, err);
    if (!folder)
        return SCOPE_EIO;
    int status = 0, cause = EEXIST;
    int64_t room = free_mb(folder);
    char *base = name_of(stream_name, name);
    if (room < START_MB)
        status = error_set(err, SCOPE_EIO, "",
                           "cannot record: only %lld MB are free in '%s', and it takes %d",
                           (long long)room, folder, START_MB);
    for (int n = 1; !status && n <= (name ? 1 : TRIES) && cause == EEXIST; n++) {
        if (claim(r, folder, base, n, &cause))
            break;
    }
    if (!status && !r->path && cause == EEXIST)
        status = error_set(err, SCOPE_EINVAL, "name", "there is a recording '%s" ENDING "' already",
                           base);
    else if (!status && !r->path)
        status =
            error_set(err, SCOPE_EIO, "", "cannot write into '%s': %s", folder, g_strerror(cause));
    g_free(base);
    g_free(folder);
    return status;
}

int record_check(const record *r, scope_error *err)
{
    char *folder = g_path_get_dirname(r->part);
    int64_t room = free_mb(folder);
    g_free(folder);
    if (room >= RESERVE_MB)
        return 0;
    return error_set(err, SCOPE_EIO, "",
                     "the disk is full (%lld MB are left); what was recorded "
                     "until now is kept",
                     (long long)room);
}

/* ---- what is kept ---------------------------------------------------------------------------- */

static uint64_t big_endian(const uint8_t *p, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

/* GStreamer 1.22 writes runs of samples ("trun") that leave out a size and a duration which the
 * table around them ("tfhd") leaves out too. No player takes such a run: it becomes a box that
 * says nothing, and some milliseconds of sound are lost. `box` is one traf. */
static void mend_runs(uint8_t *box, size_t size)
{
    enum { HAS_DURATION = 0x100, HAS_SIZE = 0x200, DEFAULT_DURATION = 8, DEFAULT_SIZE = 16 };
    uint64_t defaults = 0, n;
    for (size_t at = 8; at + 12 <= size; at += n) {
        n = big_endian(box + at, 4);
        if (n < 12 || n > size - at)
            return;
        uint64_t flags = big_endian(box + at + 9, 3);
        if (!memcmp(box + at + 4, "tfhd", 4))
            defaults = flags;
        bool sized = flags & HAS_SIZE || defaults & DEFAULT_SIZE;
        bool timed = flags & HAS_DURATION || defaults & DEFAULT_DURATION;
        if (!memcmp(box + at + 4, "trun", 4) && !(sized && timed))
            memcpy(box + at + 4, "free", 4);
    }
}

/* One fragment's table ("moof"), in the file. */
static bool mend_fragment(int fd, off_t at, size_t size)
{
    if (size > FRAGMENT_MAX)
        return false;
    uint8_t *box = g_malloc(size);
    bool good = pread(fd, box, size, at) == (ssize_t)size;
    uint64_t n;
    for (size_t in = 8; good && in + 8 <= size; in += n) {
        n = big_endian(box + in, 4);
        good = n >= 8 && n <= size - in;
        if (good && !memcmp(box + in + 4, "traf", 4))
            mend_runs(box + in, n);
    }
    good = good && pwrite(fd, box, size, at) == (ssize_t)size;
    g_free(box);
    return good;
}

/* Where the last box ends that says what the data before it is; 0: there is none. */
static off_t playable_until(int fd, off_t size)
{
    uint8_t head[16];
    off_t at = 0, good = 0;
    while (at + 8 <= size && pread(fd, head, sizeof head, at) >= 8) {
        uint64_t n = big_endian(head, 4);
        if (n == 1)
            n = big_endian(head + 8, 8);
        if (n < 8 || n > (uint64_t)(size - at))
            break;
        bool table = !memcmp(head + 4, "moof", 4);
        if (table && !mend_fragment(fd, at, n))
            break;
        at += (off_t)n;
        if (table || !memcmp(head + 4, "moov", 4))
            good = at;
    }
    return good;
}

/* Cut off what was broken off; false when nothing is left. */
static bool mend(const char *part)
{
    int fd = open(part, O_RDWR | O_CLOEXEC);
    struct stat st;
    bool good = false;
    if (fd >= 0 && !fstat(fd, &st)) {
        off_t until = playable_until(fd, st.st_size);
        good = until > 0 && !ftruncate(fd, until);
    }
    if (fd >= 0)
        close(fd);
    return good;
}

int record_keep(record *r, bool whole, scope_error *err)
{
    if (!whole && !mend(r->part))
        return error_set(err, SCOPE_EIO, "", "nothing of '%s' could be kept", r->path);
    if ((whole && fsync(r->fd)) || rename(r->part, r->path))
        return error_set(err, SCOPE_EIO, "", "cannot write '%s': %s", r->path, g_strerror(errno));
    g_free(r->part);
    r->part = NULL;
    return 0;
}

void record_close(record *r)
{
    if (r->part)
        unlink(r->part);
    forget(r);
}

/* ---- leftovers ------------------------------------------------------------------------------- */

static void recover(const char *folder, const char *name)
{
    record r = {.part = g_build_filename(folder, name, NULL)};
    r.path = g_strndup(r.part, strlen(r.part) - strlen(PART));
    r.fd = open(r.part, O_RDWR | O_CLOEXEC);
    scope_error err = {0};
    bool ours =
        r.fd >= 0 && !flock(r.fd, LOCK_EX | LOCK_NB) && !g_file_test(r.path, G_FILE_TEST_EXISTS);
    if (ours && !record_keep(&r, false, &err))
        log_line(SCOPE_INFO, "", "the recording '%s' was cut off; what there is of it is kept",
                 r.path);
    else if (ours)
        unlink(r.part);
    forget(&r);
}

void outlet_recover(live *l)
{
    char *folder = g_build_filename(live_data_dir(l), "recordings", NULL);
    GDir *dir = g_dir_open(folder, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        if (g_str_has_suffix(name, ENDING PART))
            recover(folder, name);
    }
    if (dir)
        g_dir_close(dir);
    g_free(folder);
}
