/* log.c - the server's log; see log.h.
 *
 * Under everything of `scope serve`. Must stay true: a line costs its writer one short lock and one
 * write; nobody is called back but on the main loop.
 */
#include "log.h"

#include "../plugin/scope_abi.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { KEPT = 1000, TEXT_MAX = 2000, ABOUT_MAX = 200 };

typedef struct listener {
    unsigned id;
    void (*fn)(void *ctx, const json_t *line);
    void *ctx;
} listener;

static struct {
    GMutex lock;
    bool json;
    int level;
    json_t *kept[KEPT]; /* owned; line n is at n % KEPT */
    uint64_t count;     /* lines so far; the first is number 1 */
    char last[TEXT_MAX], last_about[ABOUT_MAX];
    int last_level;
    int64_t last_us;
    int repeats; /* of `last`, not written */
    GArray *listeners;
    unsigned last_id;
} all = {.level = SCOPE_INFO};

static const char *level_name(int level)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    return names[CLAMP(level, SCOPE_DEBUG, SCOPE_ERROR) - 1];
}

static GLogWriterOutput from_glib(GLogLevelFlags level, const GLogField *fields, gsize n,
                                  gpointer u)
{
    (void)u;
    const char *domain = "", *text = "";
    for (gsize i = 0; i < n; i++) {
        if (!strcmp(fields[i].key, "MESSAGE"))
            text = fields[i].value;
        else if (!strcmp(fields[i].key, "GLIB_DOMAIN"))
            domain = fields[i].value;
    }
    bool bad = level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
    int to = bad                                                ? SCOPE_ERROR
             : level & G_LOG_LEVEL_WARNING                      ? SCOPE_WARN
             : level & (G_LOG_LEVEL_MESSAGE | G_LOG_LEVEL_INFO) ? SCOPE_INFO
                                                                : SCOPE_DEBUG;
    log_line(to, domain, "%s", text);
    return G_LOG_WRITER_HANDLED;
}

void log_open(bool json, int level)
{
    all.json = json;
    all.level = level;
    g_log_set_writer_func(from_glib, NULL, NULL);
}

void log_close(void)
{
    g_mutex_lock(&all.lock);
    for (int i = 0; i < KEPT; i++) {
        json_decref(all.kept[i]);
        all.kept[i] = NULL;
    }
    g_clear_pointer(&all.listeners, g_array_unref);
    g_mutex_unlock(&all.lock);
}

/* ---- telling the listeners ------------------------------------------------------------------- */

static gboolean tell(gpointer data)
{
    json_t *line = data;
    g_mutex_lock(&all.lock);
    GArray *now =
        all.listeners ? g_array_copy(all.listeners) : g_array_new(FALSE, FALSE, sizeof(listener));
    g_mutex_unlock(&all.lock);
    for (guint i = 0; i < now->len; i++) {
        const listener *l = &g_array_index(now, listener, i);
        l->fn(l->ctx, line);
    }
    g_array_unref(now);
    return G_SOURCE_REMOVE;
}

unsigned log_listen(void (*fn)(void *ctx, const json_t *line), void *ctx)
{
    g_mutex_lock(&all.lock);
    if (!all.listeners)
        all.listeners = g_array_new(FALSE, FALSE, sizeof(listener));
    listener l = {++all.last_id, fn, ctx};
    g_array_append_val(all.listeners, l);
    g_mutex_unlock(&all.lock);
    return l.id;
}

void log_unlisten(unsigned id)
{
    g_mutex_lock(&all.lock);
    for (guint i = 0; all.listeners && i < all.listeners->len; i++) {
        if (g_array_index(all.listeners, listener, i).id == id) {
            g_array_remove_index(all.listeners, i);
            break;
        }
    }
    g_mutex_unlock(&all.lock);
}

/* ---- lines ----------------------------------------------------------------------------------- */

static void put(const char *text)
{
    (void)!write(STDERR_FILENO, text, strlen(text));
}

static void print(const char *time, int level, const char *about, const char *text)
{
    if (level < all.level)
        return;
    char *out;
    if (all.json) {
        json_t *line = json_pack("{s:s, s:s, s:s, s:s}", "time", time, "level", level_name(level),
                                 "about", about, "text", text);
        char *one = json_dumps(line, JSON_COMPACT);
        out = g_strdup_printf("%s\n", one ? one : "{}");
        free(one);
        json_decref(line);
    } else {
        out = g_strdup_printf("%.19s %-5s %s%s%s\n", time, level_name(level), about,
                              *about ? ": " : "", text);
    }
    put(out);
    g_free(out);
}

/* Lock held. */
static void keep(int level, const char *about, const char *text, const char *time)
{
    uint64_t n = ++all.count;
    json_t *line = json_pack("{s:I, s:s, s:s, s:s, s:s}", "n", (json_int_t)n, "time", time, "level",
                             level_name(level), "about", about, "text", text);
    json_decref(all.kept[n % KEPT]);
    all.kept[n % KEPT] = line;
    if (line && level >= all.level && all.listeners && all.listeners->len)
        g_idle_add_full(G_PRIORITY_DEFAULT, tell, json_incref(line), (GDestroyNotify)json_decref);
}

/* Lock held. What is said of another is another line. */
static bool is_repeat(int level, const char *about, const char *text, int64_t now_us)
{
    bool same = !strcmp(all.last, text) && all.last_level == level &&
                !strncmp(all.last_about, about, ABOUT_MAX - 1) &&
                now_us - all.last_us < G_USEC_PER_SEC;
    if (same)
        all.repeats++;
    return same;
}

void log_line(int level, const char *about, const char *fmt, ...)
{
    char raw[TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    g_vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    char *text = g_utf8_make_valid(raw, -1);
    g_strdelimit(text, "\r\n", ' ');
    char *whom = g_utf8_make_valid(about, -1);
    GDateTime *now = g_date_time_new_now_utc();
    char *time = g_date_time_format(now, "%Y-%m-%dT%H:%M:%SZ");
    int64_t now_us = g_get_monotonic_time();

    g_mutex_lock(&all.lock);
    if (!is_repeat(level, whom, text, now_us)) {
        if (all.repeats) {
            char *more = g_strdup_printf("the last line came %d times more", all.repeats);
            keep(SCOPE_INFO, "", more, time);
            print(time, SCOPE_INFO, "", more);
            g_free(more);
        }
        all.repeats = 0;
        all.last_us = now_us;
        all.last_level = level;
        g_strlcpy(all.last, text, sizeof all.last);
        g_strlcpy(all.last_about, whom, sizeof all.last_about);
        keep(level, whom, text, time);
        print(time, level, whom, text);
    }
    g_mutex_unlock(&all.lock);
    g_date_time_unref(now);
    g_free(time);
    g_free(whom);
    g_free(text);
}

json_t *log_tail(uint64_t after, int max)
{
    json_t *lines = json_array();
    g_mutex_lock(&all.lock);
    uint64_t oldest = all.count > KEPT ? all.count - KEPT : 0;
    uint64_t from = MAX(after, oldest);
    if (max >= 0 && all.count > from + (uint64_t)max)
        from = all.count - (uint64_t)max;
    for (uint64_t n = from + 1; n <= all.count; n++)
        json_array_append(lines, all.kept[n % KEPT]);
    g_mutex_unlock(&all.lock);
    return lines;
}
