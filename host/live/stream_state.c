/* stream_state.c - what state a stream is in, and what a person should know of it.
 *
 * All [main]; hears what threads have noted. The state is worked out of the stages, never kept
 * beside them.
 */
#include "inside.h"
#include "../error.h"
#include "../log.h"

#include <string.h>

/* ---- state and notice ------------------------------------------------------------------------ */

const char *stream_state_name(enum stream_state s)
{
    static const char *const names[] = {"empty",     "loading",  "offline", "online",
                                        "reloading", "degraded", "failed"};
    return names[s - STREAM_EMPTY];
}

static bool is_flowing(stream *s)
{
    g_mutex_lock(&s->lock);
    bool flowing = s->flowing;
    g_mutex_unlock(&s->lock);
    return flowing;
}

static bool has_shown(stream *s)
{
    g_mutex_lock(&s->lock);
    bool shown = s->last != NULL;
    g_mutex_unlock(&s->lock);
    return shown;
}

/* The first stage that keeps the chain from working, or NULL. One that was started again has to
 * answer a frame first, where any come. */
static const stage *weakest(stream *s)
{
    bool flowing = is_flowing(s);
    const stage *down = NULL;
    for (int i = 0; i < s->count; i++) {
        const stage *g = s->active[i];
        if (g->failed)
            return g;
        if (!down && (g->down || !g->ever_ready || (g->recovering && flowing)))
            down = g;
    }
    return down;
}

/* Calls that fail one after another. */
static bool fails(stream *s, scope_error *why)
{
    bool bad = false;
    for (int i = 0; i < s->count; i++) {
        stage *g = s->active[i];
        g_mutex_lock(&s->lock);
        bool this = g->failures >= FAILURES_MAX;
        g_mutex_unlock(&s->lock);
        if (this && !bad)
            *why = g->fault;
        bad |= this;
    }
    return bad;
}

static enum stream_state work_out(stream *s, GString *notice)
{
    const stage *g = weakest(s);
    scope_error why;
    if (g && (g->down || g->recovering) && g->fault.status)
        g_string_printf(notice, "%s%s", g->fault.text,
                        g->failed       ? ""
                        : g->retry_us   ? "; trying once more"
                        : g->ever_ready ? "; starting it again"
                                        : "; trying again");
    if (s->plan)
        return STREAM_RELOADING;
    if (!s->count)
        return STREAM_EMPTY;
    if (g && g->failed)
        return STREAM_FAILED;
    if (g && g->ever_ready)
        return STREAM_DEGRADED;
    if (g)
        return has_shown(s) ? STREAM_RELOADING : STREAM_LOADING;
    if (fails(s, &why)) {
        g_string_assign(notice, why.text);
        return STREAM_DEGRADED;
    }
    return is_flowing(s) ? STREAM_ONLINE : STREAM_OFFLINE;
}

static void add_line(GString *to, const char *text)
{
    if (text && *text)
        g_string_append_printf(to, "%s%s", to->len ? ". " : "", text);
}

void stream_settle(stream *s)
{
    if (s->ended)
        return;
    GString *notice = g_string_new(NULL);
    enum stream_state state = work_out(s, notice);
    add_line(notice, s->remark);
    GHashTableIter it;
    gpointer line;
    g_hash_table_iter_init(&it, s->notes);
    while (g_hash_table_iter_next(&it, NULL, &line))
        add_line(notice, line);
    char *text = g_utf8_make_valid(notice->str, -1); /* plugins may say anything */
    g_string_free(notice, TRUE);
    if (state == s->state && !strcmp(text, s->notice)) {
        g_free(text);
        return;
    }
    bool worse = state != s->state && (state == STREAM_DEGRADED || state == STREAM_FAILED);
    s->state = state;
    g_free(s->notice);
    s->notice = text;
    log_line(worse ? SCOPE_WARN : SCOPE_INFO, s->log_name, "%s%s%s", stream_state_name(state),
             *s->notice ? ": " : "", s->notice);
    stream_changed(s);
}

void stream_changed(stream *s)
{
    if (!s->ended)
        live_emit(s->live, &(stream_event){.kind = STREAM_STATE, .stream = s});
}

void stream_remark(stream *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_free(s->remark);
    s->remark = g_strdup_vprintf(fmt, ap);
    va_end(ap);
}

void stream_notify(stream *s, const char *who, const char *text)
{
    if (text)
        g_hash_table_replace(s->notes, g_strdup(who), g_strdup(text));
    else
        g_hash_table_remove(s->notes, who);
    stream_settle(s);
    stream_changed(s);
}

enum stream_state stream_state_now(const stream *s)
{
    return s->state;
}

const char *stream_notice(const stream *s)
{
    return s->notice;
}

void stream_went_wrong(stream *s, const char *text)
{
    g_mutex_lock(&s->lock);
    s->sum.last_error_us = g_get_monotonic_time();
    g_strlcpy(s->sum.last_error, text, sizeof s->sum.last_error);
    g_mutex_unlock(&s->lock);
}

/* ---- what threads have noted ----------------------------------------------------------------- */

void stage_retry(stage *g)
{
    if (g->generator && g->index > 0) /* it has loaded, and is in the wrong place */
        return;
    g->failed = false;
    remote_retry(g->remote);
}

static void fail(stage *g, const scope_error *err)
{
    g->down = g->failed = true;
    g->fault = *err;
    stage_refuse(g, err);
}

static void hear_ready(stream *s, stage *g, note *n)
{
    bool first = !g->ever_ready;
    g->generator = n->generator;
    if (g->generator && g->index > 0) {
        scope_error err;
        error_set(&err, SCOPE_EINVAL, "", "%s makes frames by itself: put it first", g->plugin);
        stage_refuse(g, &err);
        if (g->installed)
            fail(g, &err);
        else
            plan_failed(s, g, &err);
        return;
    }
    g->ever_ready = true;
    if (g->second_try)
        g_clear_pointer(&s->before, json_decref);
    g->down = g->failed = false;
    g->recovering = !first;
    if (first)
        g->fault = (scope_error){0};
    if (!first) {
        g_mutex_lock(&s->lock);
        s->sum.restarts++;
        g_mutex_unlock(&s->lock);
    }
    if (g->generator && !g->pace) {
        GSource *pace = live_pace(s->live, g);
        g_mutex_lock(&s->lock);
        g->pace = pace;
        g_mutex_unlock(&s->lock);
    }
    guint asks = g->asks->len;
    stage_answered(g, g_steal_pointer(&n->values), n->generation, NULL);
    if (asks == g->asks->len) /* nobody waited, and yet it is news: it was started again */
        stage_tell_values(g, true);
    if (!g->installed)
        plan_loaded(s);
    else
        stage_pump(g);
}

static void hear_down(stream *s, stage *g, const note *n)
{
    stream_went_wrong(s, n->err.text);
    if (!g->installed) {
        plan_failed(s, g, &n->err);
        return;
    }
    g->down = true;
    g->fault = n->err;
    if (n->retry_ms >= 0)
        return;
    enum { CLOSED_LATELY_US = 3000000 };
    bool others = s->closed_us && g_get_monotonic_time() - s->closed_us < CLOSED_LATELY_US;
    if (n->err.status == SCOPE_ENOMEM && !g->ever_ready && !g->second_try && others)
        chain_try_later(g);
    else if (s->before && g->second_try && !g->ever_ready)
        plan_back(s, g, &n->err);
    else
        fail(g, &n->err);
}

static void hear_look(stream *s, stage *g, const note *n)
{
    enum { LOG_AGAIN_US = 10000000 };
    int64_t now_us = g_get_monotonic_time();
    g->recovering = false;
    if (n->err.status) {
        g->fault = n->err;
        if (!g->told_us || now_us - g->told_us > LOG_AGAIN_US) {
            g->told_us = now_us;
            log_line(SCOPE_WARN, s->log_name, "%s failed a frame: %s", g->plugin, n->err.text);
        }
    }
    plan_tick(s, now_us);
}

static void hear_log(stream *s, stage *g, const note *n)
{
    g_mutex_lock(&s->lock);
    g->logs_waiting--;
    g_mutex_unlock(&s->lock);
    char *about = g_strdup_printf("%s, %s", s->log_name, g->plugin);
    log_line(n->level, about, "%s", n->text);
    g_free(about);
    live_emit(
        s->live,
        &(stream_event){
            .kind = STREAM_LOG, .stream = s, .link = g->index, .level = n->level, .text = n->text});
}

void stream_hear(stream *s, note *n)
{
    stage *g = n->stage;
    switch (n->kind) {
    case NOTE_READY:
        hear_ready(s, g, n);
        break;
    case NOTE_DOWN:
        hear_down(s, g, n);
        break;
    case NOTE_VALUES:
        stage_answered(g, g_steal_pointer(&n->values), n->generation, &n->err);
        break;
    case NOTE_PROGRESS:
        live_emit(s->live, &(stream_event){.kind = STREAM_PROGRESS,
                                           .stream = s,
                                           .link = g->index,
                                           .done = n->done,
                                           .text = n->text});
        return;
    case NOTE_LOG:
        hear_log(s, g, n);
        return;
    case NOTE_LOOK:
        hear_look(s, g, n);
        break;
    case NOTE_WOKEN:
        break;
    }
    stream_settle(s);
}

void stream_tick(stream *s, int64_t now_us)
{
    g_mutex_lock(&s->lock);
    bool generator = s->count && s->active[0]->ready && s->active[0]->want.t == 0;
    int64_t last_us = MAX(s->sum.last_in_us, generator ? s->sum.last_out_us : 0);
    s->flowing = last_us && now_us - last_us < SILENCE_MS * 1000;
    g_mutex_unlock(&s->lock);
    plan_tick(s, now_us);
    stream_settle(s);
    if (s->state == STREAM_DEGRADED || s->state == STREAM_RELOADING || s->state == STREAM_FAILED)
        frames_repeat(s, now_us);
}
