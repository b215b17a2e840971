/* stream_stage.c - the plugins of a stream one by one: opened, closed, asked about; see inside.h.
 *
 * All [main]. Must stay true: a stage is closed with no lock held, and nobody sends to its remote
 * then.
 */
#include "inside.h"
#include "../error.h"

#include <string.h>

/* ---- stages ---------------------------------------------------------------------------------- */

stage *stage_ref(stage *g)
{
    g_atomic_int_inc(&g->refs);
    return g;
}

void stage_unref(stage *g)
{
    if (!g || !g_atomic_int_dec_and_test(&g->refs))
        return;
    converter_free(g->convert);
    json_decref(g->load);
    json_decref(g->asked);
    json_decref(g->in_force);
    g_array_unref(g->asks);
    g_free(g->plugin);
    g_free(g->path);
    g_free(g);
}

static void give_second_inputs(stream *s, stage *g)
{
    GHashTableIter it;
    gpointer name, f;
    g_hash_table_iter_init(&it, s->second);
    while (g_hash_table_iter_next(&it, &name, &f))
        remote_set_input(g->remote, name, f);
}

/* What was asked for from the start is the first ask, which the first ready answers. */
stage *stage_open(stream *s, const want *w, const char *by, uint64_t tag, scope_error *err)
{
    stage *g = g_new0(stage, 1);
    g->refs = 1;
    g->stream = s;
    g->plugin = g_strdup(w->plugin);
    g->path = g_strdup(w->path);
    g->schema = w->schema;
    g->load = schema_load_values(w->schema, w->values);
    g->asked = json_incref(w->values);
    g->asks = g_array_new(FALSE, FALSE, sizeof(ask));
    g->convert = converter_new(live_frames(s->live));
    g->generation = ++s->generation;
    ask first = {0, g->generation, by, tag};
    g_array_append_val(g->asks, first);
    remote_plugin plugin = {.path = g->path, .id = g->plugin, .schema = g->schema};
    remote_calls calls = stage_calls;
    calls.ctx = g;
    g->remote = remote_open(live_remotes(s->live), &plugin, w->values, &calls, err);
    if (!g->remote) {
        stage_unref(g);
        return NULL;
    }
    give_second_inputs(s, g);
    return g;
}

/* No frame finds its way to g any more. Lock held. */
static void forget(stream *s, const stage *g)
{
    for (int i = 0; i < s->count; i++) {
        if (s->active[i]->old_next.to == g)
            s->active[i]->old_next = (hop){0};
    }
    for (guint i = 0; i < s->retired->len; i++) {
        stage *other = g_ptr_array_index(s->retired, i);
        if (other->old_next.to == g)
            other->old_next = (hop){0};
        if (other->next.to == g)
            other->next = (hop){0};
    }
}

void stage_close(stage *g)
{
    stream *s = g->stream;
    g->closed = true;
    g_mutex_lock(&s->lock);
    g->gone = true;
    forget(s, g);
    frame *waiting = g->waiting;
    g->waiting = NULL;
    s->sum.dropped += waiting != NULL;
    while (g->sending)
        g_cond_wait(&s->idle, &s->lock);
    g_mutex_unlock(&s->lock);
    frame_unref(waiting);
    live_unpace(s->live, g->pace);
    remote_close(g->remote);
    g->remote = NULL;
    g_mutex_lock(&s->lock);
    waiting = g->waiting; /* put back by a sender that failed */
    g->waiting = NULL;
    g_mutex_unlock(&s->lock);
    frame_unref(waiting);
    scope_error err;
    error_set(&err, SCOPE_ECANCEL, "", "%s was taken out before it could answer", g->plugin);
    stage_refuse(g, &err);
    s->closed_us = g_get_monotonic_time();
    stage_unref(g);
}

/* ---- asked about ----------------------------------------------------------------------------- */

int stream_links(const stream *s)
{
    return stage_count(s);
}

const char *stream_link_plugin(const stream *s, int link)
{
    return stage_at(s, link)->plugin;
}

const schema *stream_link_schema(const stream *s, int link)
{
    return stage_at(s, link)->schema;
}

json_t *stream_link_values(const stream *s, int link)
{
    return json_deep_copy(stage_values(s, link));
}

int stream_link_find(const stream *s, const char *plugin)
{
    int by_part = -1;
    for (int i = 0; i < stage_count(s); i++) {
        const char *id = stage_at(s, i)->plugin, *dot = strrchr(id, '.');
        if (!strcmp(id, plugin))
            return i;
        if (by_part < 0 && !strcmp(dot ? dot + 1 : id, plugin))
            by_part = i;
    }
    return by_part;
}

void stream_reset(stream *s)
{
    for (int i = 0; i < s->count; i++)
        remote_reset(s->active[i]->remote);
}

void stream_fit(stream *s, enum media_fit fit)
{
    g_mutex_lock(&s->lock);
    s->fit = fit;
    g_mutex_unlock(&s->lock);
    stream_changed(s);
}

int stream_second_input(stream *s, const char *name, frame *f, scope_error *err)
{
    enum { INPUTS_MAX = 8, LENGTH_MAX = 48 };
    bool known = g_hash_table_contains(s->second, name);
    if (!*name || strlen(name) > LENGTH_MAX)
        return error_set(err, SCOPE_EINVAL, "name", "the name of an input has 1 to %d characters",
                         LENGTH_MAX);
    if (f && !known && g_hash_table_size(s->second) >= INPUTS_MAX)
        return error_set(err, SCOPE_EINVAL, "name", "there are %d inputs, which is the limit",
                         INPUTS_MAX);
    if (!f && !known)
        return error_set(err, SCOPE_EINVAL, "name", "there is no input %s here", name);
    if (f)
        g_hash_table_replace(s->second, g_strdup(name), frame_ref(f));
    else
        g_hash_table_remove(s->second, name);
    for (int i = 0; i < s->count; i++)
        remote_set_input(s->active[i]->remote, name, f);
    for (int i = 0; s->plan && i < s->plan->count; i++) {
        if (!s->plan->at[i]->installed)
            remote_set_input(s->plan->at[i]->remote, name, f);
    }
    return 0;
}
