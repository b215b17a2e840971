/* progress.c - the progress line and its JSON twin; see progress.h. */
#include "progress.h"

#include <math.h>
#include <string.h>

enum { LINE_EVERY_US = 100 * 1000, JSON_EVERY_US = 1000 * 1000 };

static void append(char *line, size_t size, const char *format, int64_t n)
{
    size_t have = strlen(line);
    if (n > 0)
        snprintf(line + have, size - have, format, (long long)n);
}

static void append_time(char *line, size_t size, double seconds)
{
    size_t have = strlen(line);
    long s = lround(seconds);
    if (s >= 3600)
        snprintf(line + have, size - have, ", %ld:%02ld:%02ld left", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(line + have, size - have, ", %ld:%02ld left", s / 60, s % 60);
}

void progress_line(char *line, size_t size, const progress_counts *c, double seconds)
{
    double fps = seconds > 0 ? (double)c->read / seconds : 0;
    if (c->total >= 0)
        snprintf(line, size, "%lld/%lld frames, %.3g fps", (long long)c->read, (long long)c->total,
                 fps);
    else
        snprintf(line, size, "%lld frames, %.3g fps", (long long)c->read, fps);
    if (c->total > c->read && fps > 0)
        append_time(line, size, (double)(c->total - c->read) / fps);
    append(line, size, ", %lld dropped", c->dropped);
    append(line, size, ", %lld repeated", c->repeated);
    append(line, size, ", %lld skipped", c->skipped);
    append(line, size, ", %lld failed", c->failed);
}

static void put_json(progress *p, json_t *event)
{
    json_dumpf(event, p->out, JSON_COMPACT | JSON_REAL_PRECISION(6));
    fputc('\n', p->out);
    fflush(p->out);
    json_decref(event);
}

static json_t *counts_json(const char *name, const progress *p, const progress_counts *c,
                           int64_t now_us)
{
    double seconds = 1e-6 * (double)(now_us - p->start_us);
    json_t *event = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "event", name, "read", (json_int_t)c->read,
        "written", (json_int_t)c->written, "repeated", (json_int_t)c->repeated, "skipped",
        (json_int_t)c->skipped, "failed", (json_int_t)c->failed, "dropped", (json_int_t)c->dropped,
        "seconds", seconds, "fps", seconds > 0 ? (double)c->read / seconds : 0.0);
    if (c->total >= 0)
        json_object_set_new(event, "total", json_integer(c->total));
    return event;
}

void progress_start(progress *p, enum progress_mode mode, FILE *out, bool line, const json_t *about,
                    int64_t now_us)
{
    *p = (progress){.mode = mode, .out = out, .line = line, .start_us = now_us};
    if (mode != PROGRESS_JSON)
        return;
    json_t *event = about ? json_copy((json_t *)about) : json_object();
    json_object_set_new(event, "event", json_string("start"));
    put_json(p, event);
}

void progress_begin(progress *p, int64_t now_us)
{
    p->start_us = now_us;
}

static bool due(progress *p, int64_t now_us)
{
    int64_t every = p->mode == PROGRESS_JSON ? JSON_EVERY_US : LINE_EVERY_US;
    if (p->mode == PROGRESS_QUIET || (p->mode == PROGRESS_TEXT && !p->line) ||
        (p->told_us && now_us - p->told_us < every))
        return false;
    p->told_us = now_us;
    return true;
}

static void put_line(progress *p, const char *text)
{
    fprintf(p->out, "\r%s\033[K", text);
    fflush(p->out);
    p->open = true;
}

void progress_load(progress *p, double done, const char *phase, int64_t now_us)
{
    if (!due(p, now_us))
        return;
    if (p->mode == PROGRESS_JSON) {
        put_json(p, json_pack("{s:s, s:f, s:s}", "event", "load", "done", done, "phase", phase));
        return;
    }
    char text[128];
    snprintf(text, sizeof text, "loading %.60s, %.0f %%", phase, 100 * done);
    put_line(p, text);
}

void progress_tick(progress *p, const progress_counts *c, int64_t now_us)
{
    if (!due(p, now_us))
        return;
    if (p->mode == PROGRESS_JSON) {
        put_json(p, counts_json("progress", p, c, now_us));
        return;
    }
    char text[256];
    progress_line(text, sizeof text, c, 1e-6 * (double)(now_us - p->start_us));
    put_line(p, text);
}

void progress_end(progress *p, const progress_counts *c, const char *output, const char *error,
                  int64_t now_us)
{
    if (p->mode == PROGRESS_JSON) {
        json_t *event = counts_json("end", p, c, now_us);
        json_object_set_new(event, "output", output ? json_string(output) : json_null());
        json_object_set_new(event, "error", error ? json_string(error) : json_null());
        put_json(p, event);
        return;
    }
    progress_clear(p);
    if (p->mode == PROGRESS_QUIET || !output)
        return;
    double seconds = 1e-6 * (double)(now_us - p->start_us);
    progress_counts done = *c;
    done.total = -1;
    char text[256];
    progress_line(text, sizeof text, &done, seconds);
    fprintf(p->out, "%s: %lld written in %.1f s (%s)\n", output, (long long)c->written, seconds,
            text);
}

void progress_clear(progress *p)
{
    if (p->open)
        fputs("\r\033[K", p->out);
    fflush(p->out);
    p->open = false;
}
