/* stream_values.c - parameters: asked for, in force, refused; see inside.h.
 *
 * All [main]. Everybody who asks with a tag is told once; who asks without one is told of the
 * latest values. Must stay true: what stream_link_values says is what the plugin has, or what it
 * has been asked for and has not refused.
 */
#include "inside.h"
#include "../error.h"

void stage_ask(stage *g, json_t *values, const ask *asks, guint count)
{
    json_t *before = g->asked;
    g->asked = json_incref(values);
    json_decref(before);
    uint64_t sent = remote_set(g->remote, values);
    for (guint i = 0; i < count; i++) {
        ask one = asks[i];
        one.sent = sent;
        g_array_append_val(g->asks, one);
        g->generation = one.generation;
    }
}

static void say(stage *g, const ask *a, uint64_t generation, const scope_error *err)
{
    live_emit(g->stream->live, &(stream_event){.kind = STREAM_VALUES,
                                               .stream = g->stream,
                                               .link = g->index,
                                               .values = g->in_force ? g->in_force : g->asked,
                                               .generation = a ? a->generation : generation,
                                               .by = a ? a->by : "load",
                                               .tag = a ? a->tag : 0,
                                               .err = err && err->status ? err : NULL});
}

/* The next ones ask for what nobody has refused. */
static void fall_back(stage *g)
{
    if (g->asks->len || !g->in_force)
        return;
    json_t *before = g->asked;
    g->asked = json_incref(g->in_force);
    json_decref(before);
}

void stage_tell_values(stage *g, bool always)
{
    guint covered = 0;
    while (covered < g->asks->len && g_array_index(g->asks, ask, covered).sent <= g->answered)
        covered++;
    if (!g->installed || (!covered && !always))
        return;
    GArray *these = g_array_sized_new(FALSE, FALSE, sizeof(ask), covered);
    g_array_append_vals(these, g->asks->data, covered);
    g_array_remove_range(g->asks, 0, covered);
    fall_back(g);
    for (guint i = 0; i < covered; i++) {
        const ask *a = &g_array_index(these, ask, i);
        if (a->tag || i + 1 == covered)
            say(g, a, 0, &g->refusal);
    }
    if (!covered)
        say(g, NULL, g->generation, &g->refusal);
    g_array_unref(these);
}

void stage_answered(stage *g, json_t *values, uint64_t sent, const scope_error *err)
{
    json_decref(g->in_force);
    g->in_force = values;
    g->answered = sent;
    g->refusal = err ? *err : (scope_error){0};
    if (g->refusal.status)
        stream_went_wrong(g->stream, g->refusal.text);
    stage_tell_values(g, false);
}

void stage_refuse_these(stage *g, const GArray *asks, const scope_error *err)
{
    for (guint i = 0; i < asks->len; i++) {
        const ask *a = &g_array_index(asks, ask, i);
        if (a->tag)
            say(g, a, 0, err);
    }
}

void stage_refuse(stage *g, const scope_error *err)
{
    GArray *these = g->asks;
    g->asks = g_array_new(FALSE, FALSE, sizeof(ask));
    stage_refuse_these(g, these, err);
    g_array_unref(these);
}

/* The first load parameter that differs, or NULL. */
static const char *load_difference(const stage *g, const json_t *values)
{
    const char *name;
    json_t *value;
    json_object_foreach(g->load, name, value)
    {
        if (!json_equal(value, json_object_get(values, name)))
            return name;
    }
    return NULL;
}

static json_t *merge(const stream *s, int link, const json_t *values, scope_error *err)
{
    if (!json_is_object(values)) {
        error_set(err, SCOPE_EINVAL, "", "give an object of parameters");
        return NULL;
    }
    json_t *merged = json_copy(stage_values(s, link));
    json_object_update(merged, (json_t *)values);
    schema_error cause;
    json_t *complete = schema_complete(stage_at(s, link)->schema, merged, &cause);
    json_decref(merged);
    if (!complete)
        error_from_schema(err, &cause);
    return complete;
}

bool stream_would_reload(stream *s, int link, const json_t *values)
{
    scope_error err;
    stage *g = stage_at(s, link);
    json_t *complete = g ? merge(s, link, values, &err) : NULL;
    bool would = complete && load_difference(g, complete);
    json_decref(complete);
    return would;
}

static void note_set(stream *s)
{
    g_mutex_lock(&s->lock);
    s->sum.last_set_us = g_get_monotonic_time();
    g_mutex_unlock(&s->lock);
}

/* Values that need no reload: at once, or, where the plan has others for the link, with those. */
static void put(stream *s, int link, json_t *complete, const ask *one)
{
    stage *g = stage_at(s, link);
    plan *p = s->plan;
    if (p && p->values[link]) {
        json_decref(p->values[link]);
        p->values[link] = json_incref(complete);
        g_array_append_val(p->asks[link], *one);
        return;
    }
    stage_ask(g, complete, one, 1);
    if (g->failed)
        stage_retry(g);
}

int64_t stream_set(stream *s, int link, const json_t *values, enum stream_reload reload,
                   const char *by, uint64_t tag, scope_error *err)
{
    stage *g = stage_at(s, link);
    if (!g)
        return error_set(err, SCOPE_EINVAL, "", "there is no plugin %d in this stream; it has %d",
                         link, stage_count(s));
    json_t *complete = merge(s, link, values, err);
    if (!complete)
        return err->status;
    int64_t done = 0;
    const char *differs = load_difference(g, complete);
    if (differs && reload != STREAM_RELOAD) {
        done = error_set(err, SCOPE_EINVAL, differs,
                         "%s is fixed while %s runs; changing it loads the plugin anew", differs,
                         g->plugin);
    } else if (differs) {
        done = plan_reload(s, link, complete, by, tag, err);
    } else {
        ask one = {0, ++s->generation, by, tag};
        put(s, link, complete, &one);
        done = (int64_t)one.generation;
    }
    json_decref(complete);
    if (done >= 0)
        note_set(s);
    return done;
}
