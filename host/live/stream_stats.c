/* stream_stats.c - a stream's numbers, and the stream as JSON.
 *
 * Counting is cheap, since it is done for every frame: what takes sorting is done when somebody
 * asks.
 */
#include "inside.h"

#include <stdlib.h>
#include <string.h>

void times_add(times *t, int64_t now_us)
{
    t->at_us[t->count++ % FPS_KEPT] = now_us;
}

void series_add(series *s, double value)
{
    s->at[s->count++ % SERIES_KEPT] = (float)value;
}

/* Events a second over the last two seconds; since the first one where that is later. */
static double rate(const times *t, int64_t now_us)
{
    enum { WINDOW_US = 2000000 };
    unsigned kept = MIN(t->count, FPS_KEPT), n = 0;
    int64_t oldest_us = now_us;
    while (n < kept) {
        int64_t at_us = t->at_us[(t->count - 1 - n) % FPS_KEPT];
        if (now_us - at_us >= WINDOW_US)
            break;
        oldest_us = at_us;
        n++;
    }
    if (n < t->count && n < FPS_KEPT)
        return n / (WINDOW_US * 1e-6);
    return n > 1 && now_us > oldest_us ? (n - 1) / ((double)(now_us - oldest_us) * 1e-6) : 0;
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The value that a part of those kept is not above: nearest rank. */
static double part(const series *sorted, double p)
{
    unsigned n = MIN(sorted->count, SERIES_KEPT);
    if (!n)
        return 0;
    unsigned rank = (unsigned)(p * n + 0.999999);
    return (double)sorted->at[CLAMP(rank, 1, n) - 1];
}

void stream_stats_now(stream *s, stream_stats *stats)
{
    g_mutex_lock(&s->lock);
    *stats = s->sum;
    int64_t now_us = g_get_monotonic_time();
    stats->fps_in = rate(&s->in, now_us);
    stats->fps_out = rate(&s->out, now_us);
    series model = s->model, age = s->age;
    g_mutex_unlock(&s->lock);
    qsort(model.at, MIN(model.count, SERIES_KEPT), sizeof *model.at, by_size);
    qsort(age.at, MIN(age.count, SERIES_KEPT), sizeof *age.at, by_size);
    stats->model_p50 = part(&model, 0.5);
    stats->model_p95 = part(&model, 0.95);
    stats->model_p99 = part(&model, 0.99);
    stats->age_p50 = part(&age, 0.5);
    stats->age_p95 = part(&age, 0.95);
    stats->age_p99 = part(&age, 0.99);
    stats->viewers = g_atomic_int_get(&s->viewers);
}

void stream_count_viewer(stream *s, int by)
{
    g_atomic_int_add(&s->viewers, by);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

/* Two places are enough for a person, and keep the text short. */
static json_t *number(double x)
{
    return json_real((double)(int64_t)(x * 100 + 0.5) / 100);
}

static json_t *three(double p50, double p95, double p99)
{
    return json_pack("{s:o, s:o, s:o}", "p50", number(p50), "p95", number(p95), "p99", number(p99));
}

json_t *stream_stats_json(stream *s)
{
    stream_stats n;
    stream_stats_now(s, &n);
    return json_pack("{s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:i, s:i, s:s}",
                     "fps_in", number(n.fps_in), "fps_out", number(n.fps_out), "model_ms",
                     three(n.model_p50, n.model_p95, n.model_p99), "age_ms",
                     three(n.age_p50, n.age_p95, n.age_p99), "frames_in", (json_int_t)n.frames_in,
                     "frames_out", (json_int_t)n.frames_out, "dropped", (json_int_t)n.dropped,
                     "skipped", (json_int_t)n.skipped, "repeated", (json_int_t)n.repeated, "failed",
                     (json_int_t)n.failed, "restarts", n.restarts, "viewers", n.viewers, "w", n.w,
                     "h", n.h, "last_error", n.last_error);
}

static json_t *chain_json(stream *s)
{
    json_t *chain = json_array();
    for (int i = 0; i < stage_count(s); i++)
        json_array_append_new(chain, json_pack("{s:s, s:o, s:I}", "plugin", stage_at(s, i)->plugin,
                                               "values", stream_link_values(s, i), "generation",
                                               (json_int_t)stage_at(s, i)->generation));
    return chain;
}

static char *time_text(int64_t ms)
{
    GDateTime *at = g_date_time_new_from_unix_utc(ms / 1000);
    char *seconds = g_date_time_format(at, "%Y-%m-%dT%H:%M:%S");
    char *text = g_strdup_printf("%s.%03dZ", seconds, (int)(ms % 1000));
    g_free(seconds);
    g_date_time_unref(at);
    return text;
}

json_t *stream_json(stream *s)
{
    static const char *const fits[] = {"crop", "pad", "stretch"};
    json_t *source = s->input
                         ? json_pack("{s:s, s:s}", "kind", s->input->kind, "about", s->input->about)
                         : json_null();
    char *created = time_text(s->created_ms);
    json_t *all = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "id", s->id, "name",
                            s->name, "created_at", created, "state", stream_state_name(s->state),
                            "notice", s->notice, "fit", fits[s->fit - MEDIA_CROP], "chain",
                            chain_json(s), "source", source, "stats", stream_stats_json(s));
    g_free(created);
    return all;
}
