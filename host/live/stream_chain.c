/* stream_chain.c - the plugins of a stream as a whole: loading and exchanging them; see inside.h.
 *
 * All [main]. A change is a plan: its new stages load beside the chain that works, and are put in
 * its place when all are ready; where nothing works, they are put there at once. Must stay true:
 * frames go either all the old way or all the new one; a stage belongs to the chain that works, to
 * the plan or to those that finish (stream.retired), and is closed once.
 */
#include "inside.h"
#include "../error.h"
#include "../log.h"

#include <string.h>

stage *stage_at(const stream *s, int link)
{
    if (link < 0 || link >= stage_count(s))
        return NULL;
    return s->plan ? s->plan->at[link] : s->active[link];
}

int stage_count(const stream *s)
{
    return s->plan ? s->plan->count : s->count;
}

json_t *stage_values(const stream *s, int link)
{
    json_t *later = s->plan ? s->plan->values[link] : NULL;
    return later ? later : stage_at(s, link)->asked;
}

static void number(stream *s)
{
    for (int i = 0; i < stage_count(s); i++)
        stage_at(s, i)->index = i;
}

/* ---- the end of a plan ----------------------------------------------------------------------- */

static void close_retired(stream *s)
{
    while (s->retired->len) {
        stage *g = g_ptr_array_index(s->retired, 0);
        g_ptr_array_remove_index(s->retired, 0);
        stage_close(g);
    }
}

static void plan_free(plan *p)
{
    for (int i = 0; i < STREAM_LINKS_MAX; i++) {
        json_decref(p->values[i]);
        if (p->asks[i])
            g_array_unref(p->asks[i]);
    }
    g_free(p);
}

/* Put the plan's chain in force. */
static void install(stream *s)
{
    plan *p = s->plan;
    stage *before[STREAM_LINKS_MAX];
    int count = s->count;
    memcpy(before, s->active, sizeof before);
    close_retired(s); /* those of the time before */
    for (int i = 0; i < p->count; i++) {
        stage *g = p->at[i];
        if (p->values[i] && g->installed)
            frames_renew(g);
        if (p->values[i])
            stage_ask(g, p->values[i], (ask *)p->asks[i]->data, p->asks[i]->len);
        if (g->installed && g->failed)
            stage_retry(g);
    }
    frames_install(s, p->at, p->count);
    s->plan = NULL;
    for (int i = 0; i < count; i++) {
        if (before[i]->retired)
            g_ptr_array_add(s->retired, before[i]);
    }
    s->retired_us = g_get_monotonic_time();
    number(s);
    for (int i = 0; i < p->count; i++) {
        bool is_new = !p->at[i]->installed;
        p->at[i]->installed = true;
        if (is_new && p->at[i]->ever_ready)
            stage_tell_values(p->at[i], true);
    }
    plan_free(p);
    plan_tick(s, s->retired_us);
    stream_settle(s);
    stream_changed(s);
}

/* Back to the chain that works: those who wait for the plan are told why. */
static void give_up(stream *s, const scope_error *err)
{
    plan *p = s->plan;
    s->plan = NULL;
    number(s);
    for (int i = 0; i < p->count; i++) {
        stage *g = p->at[i];
        if (!g->installed) {
            stage_refuse(g, err);
            stage_close(g);
        } else if (p->values[i]) {
            stage_refuse_these(g, p->asks[i], err);
        }
    }
    plan_free(p);
    stream_settle(s);
    stream_changed(s);
}

void plan_loaded(stream *s)
{
    for (int i = 0; s->plan && i < s->plan->count; i++) {
        const stage *g = s->plan->at[i];
        if (!g->installed && !g->ever_ready)
            return;
    }
    if (s->plan)
        install(s);
}

/* What is to come back when the plan that takes all memory fails after all. */
static json_t *working_chain(stream *s)
{
    json_t *chain = json_array();
    for (int i = 0; i < s->count; i++)
        json_array_append_new(chain, json_pack("{s:s, s:O}", "plugin", s->active[i]->plugin,
                                               "values", s->active[i]->asked));
    return chain;
}

void plan_back(stream *s, stage *g, const scope_error *fault)
{
    json_t *before = g_steal_pointer(&s->before);
    scope_error err = *fault, again;
    char *plugin = g_strdup(g->plugin); /* it is closed soon */
    stage_refuse(g, &err);
    log_line(SCOPE_ERROR, s->log_name, "%s cannot be loaded: %s", plugin, err.text);
    if (!stream_chain(s, before, &again))
        stream_remark(s, "%s cannot be loaded: %s; back to what ran before", plugin, err.text);
    json_decref(before);
    g_free(plugin);
}

static bool is_taken(const plan *p, const stage *g)
{
    for (int i = 0; i < STREAM_LINKS_MAX; i++) {
        if (p->at[i] == g)
            return true;
    }
    return false;
}

/* Are there plugins that the plan would close? */
static bool makes_room(const stream *s)
{
    for (int i = 0; i < s->count; i++) {
        if (!is_taken(s->plan, s->active[i]))
            return true;
    }
    return false;
}

void plan_failed(stream *s, stage *g, const scope_error *fault)
{
    if (fault->status == SCOPE_ENOMEM && !g->second_try && makes_room(s)) {
        json_decref(s->before);
        s->before = working_chain(s);
        stream_remark(s,
                      "there is no memory for both: the plugins before it were closed, and %s "
                      "is loaded once more",
                      g->plugin);
        install(s);
        close_retired(s);
        chain_try_later(g);
        return;
    }
    scope_error err = *fault;
    stream_remark(s, "%s cannot be loaded: %s; the plugins before it go on", g->plugin, err.text);
    log_line(SCOPE_ERROR, s->log_name, "%s cannot be loaded: %s", g->plugin, err.text);
    give_up(s, &err);
}

void chain_try_later(stage *g)
{
    g->second_try = true;
    g->failed = false;
    g->retry_us = g_get_monotonic_time() + ROOM_MS * 1000;
}

void plan_tick(stream *s, int64_t now_us)
{
    if (s->retired->len && (frames_drained(s) || now_us - s->retired_us > DRAIN_MS * 1000))
        close_retired(s);
    for (int i = 0; i < s->count; i++) {
        stage *g = s->active[i];
        if (g->retry_us && now_us >= g->retry_us) {
            g->retry_us = 0;
            remote_retry(g->remote);
        }
    }
}

void plan_close(stream *s)
{
    plan *p = s->plan;
    s->plan = NULL;
    for (int i = 0; p && i < p->count; i++) {
        if (!p->at[i]->installed)
            stage_close(p->at[i]);
    }
    if (p)
        plan_free(p);
    close_retired(s);
    stage *all[STREAM_LINKS_MAX];
    int count = s->count;
    memcpy(all, s->active, sizeof all);
    g_mutex_lock(&s->lock);
    s->count = 0;
    g_mutex_unlock(&s->lock);
    for (int i = 0; i < count; i++)
        stage_close(all[i]);
}

/* ---- a new plan ------------------------------------------------------------------------------ */

static bool serves(const stage *g, const want *w, const json_t *load)
{
    return g->schema == w->schema && !strcmp(g->plugin, w->plugin) && !strcmp(g->path, w->path) &&
           json_equal(g->load, load);
}

/* A stage there is that can be link i of the plan; the one in its place is asked first. */
static stage *find_stage(const stream *s, const plan *p, int i, const want *w)
{
    json_t *load = schema_load_values(w->schema, w->values);
    stage *found = NULL;
    for (int k = -1; k < 2 * STREAM_LINKS_MAX && !found; k++) {
        stage *g = k < 0 ? stage_at(s, i) : NULL;
        if (k >= 0 && k < STREAM_LINKS_MAX)
            g = stage_at(s, k);
        else if (k >= 0 && k - STREAM_LINKS_MAX < s->count)
            g = s->active[k - STREAM_LINKS_MAX];
        if (g && !is_taken(p, g) && serves(g, w, load))
            found = g;
    }
    json_decref(load);
    return found;
}

/* Does the stage show something that is worth waiting for the plan? */
static bool works(const stream *s)
{
    for (int i = 0; i < s->count; i++) {
        if (s->active[i]->failed || s->active[i]->retry_us || !s->active[i]->ever_ready)
            return false;
    }
    return s->count > 0 || s->sum.frames_out > 0;
}

/* Stages for all links, those of p->at that are new opened. Negative with *err: then *opened says
 * which are. */
static int fill(stream *s, plan *p, const want *wants, int count, const ask *who, int whose,
                unsigned *opened, scope_error *err)
{
    for (int i = 0; i < count; i++) {
        stage *g = find_stage(s, p, i, &wants[i]);
        if (g && i > 0 && g->generator)
            return error_set(err, SCOPE_EINVAL, "", "%s makes frames by itself: put it first",
                             wants[i].plugin);
        p->at[i] = g;
    }
    p->count = count;
    for (int i = 0; i < count; i++) {
        bool asks = whose < 0 || whose == i;
        if (p->at[i])
            continue;
        p->at[i] = stage_open(s, &wants[i], asks ? who->by : "load", asks ? who->tag : 0, err);
        if (!p->at[i])
            return err->status;
        *opened |= 1u << i;
    }
    return 0;
}

/* Those who wait for values that the plan before was to set. */
static GArray *waiting_for(const stream *s, const stage *g)
{
    for (int i = 0; s->plan && i < s->plan->count; i++) {
        if (s->plan->at[i] == g && s->plan->asks[i])
            return g_array_copy(s->plan->asks[i]);
    }
    return g_array_new(FALSE, FALSE, sizeof(ask));
}

/* The values of a stage that stays: at once where it is loading itself, else at the swap. */
static void keep(stream *s, plan *p, int i, json_t *values, const ask *who, bool asks)
{
    stage *g = p->at[i];
    GArray *waiting = waiting_for(s, g);
    if (!asks && !waiting->len && json_equal(values, g->asked)) {
        g_array_unref(waiting);
        return;
    }
    ask one = {0, ++s->generation, who->by, asks ? who->tag : 0};
    g_array_append_val(waiting, one);
    if (g->installed) {
        p->values[i] = json_incref(values);
        p->asks[i] = waiting;
    } else {
        stage_ask(g, values, (ask *)waiting->data, waiting->len);
        g_array_unref(waiting);
    }
}

/* The plan before is not followed any more. */
static void replace_plan(stream *s, plan *p)
{
    plan *before = s->plan;
    scope_error err;
    s->plan = p;
    for (int i = 0; before && i < before->count; i++) {
        stage *g = before->at[i];
        error_set(&err, SCOPE_ECANCEL, "", "another change took its place before %s was loaded",
                  g->plugin);
        if (is_taken(p, g))
            continue;
        if (!g->installed)
            stage_refuse(g, &err), stage_close(g);
        else if (before->asks[i])
            stage_refuse_these(g, before->asks[i], &err);
    }
    if (before)
        plan_free(before);
}

/* `whose` link has asked, or all (-1). */
static int begin(stream *s, const want *wants, int count, const ask *who, int whose,
                 scope_error *err)
{
    plan *p = g_new0(plan, 1);
    unsigned opened = 0;
    int status = fill(s, p, wants, count, who, whose, &opened, err);
    for (int i = 0; i < count; i++) {
        if (status && (opened & 1u << i))
            stage_close(p->at[i]);
        else if (!status && !(opened & 1u << i))
            keep(s, p, i, wants[i].values, who, whose == i);
    }
    if (status) {
        plan_free(p);
        return status;
    }
    replace_plan(s, p);
    number(s);
    g_clear_pointer(&s->remark, g_free);
    g_clear_pointer(&s->before, json_decref);
    if (!works(s)) {
        install(s);
    } else {
        plan_loaded(s);
        stream_settle(s);
        stream_changed(s);
    }
    return 0;
}

int plan_reload(stream *s, int link, json_t *values, const char *by, uint64_t tag, scope_error *err)
{
    want wants[STREAM_LINKS_MAX] = {0};
    int count = stage_count(s);
    for (int i = 0; i < count; i++) {
        const stage *g = stage_at(s, i);
        wants[i] = (want){g->plugin, g->path, g->schema,
                          json_incref(i == link ? values : stage_values(s, i))};
    }
    int status = begin(s, wants, count, &(ask){.by = by, .tag = tag}, link, err);
    for (int i = 0; i < count; i++)
        json_decref(wants[i].values);
    return status;
}

/* ---- what people ask for --------------------------------------------------------------------- */

static int read_link(live *l, const json_t *link, int i, want *w, scope_error *err)
{
    const char *id = json_string_value(json_object_get(link, "plugin")), *member;
    json_t *values = json_object_get(link, "values"), *value;
    if (!id)
        return error_set(err, SCOPE_EINVAL, "chain",
                         "chain[%d] names no plugin; give {\"plugin\": id, \"values\": {...}}", i);
    json_object_foreach((json_t *)link, member, value)
    {
        if (strcmp(member, "plugin") && strcmp(member, "values") && strcmp(member, "generation"))
            return error_set(err, SCOPE_EINVAL, "chain",
                             "chain[%d] has a member \"%.40s\"; there are plugin and values", i,
                             member);
    }
    if (values && !json_is_object(values) && !json_is_null(values))
        return error_set(err, SCOPE_EINVAL, "chain", "chain[%d]: values are an object", i);
    const registry_entry *e = live_plugin(l, id, &w->schema, err);
    if (!e) {
        g_strlcpy(err->field, "chain", sizeof err->field);
        return SCOPE_EINVAL;
    }
    schema_error cause;
    w->plugin = e->id;
    w->path = e->path;
    w->values = schema_complete(w->schema, json_is_object(values) ? values : NULL, &cause);
    return w->values ? 0 : error_from_schema(err, &cause);
}

int stream_chain(stream *s, const json_t *chain, scope_error *err)
{
    want wants[STREAM_LINKS_MAX] = {0};
    size_t count = json_array_size(chain);
    int status = 0;
    if (!json_is_array(chain))
        return error_set(err, SCOPE_EINVAL, "chain", "chain: give a list of plugins");
    if (count > STREAM_LINKS_MAX)
        return error_set(err, SCOPE_EINVAL, "chain", "chain has %zu plugins; %d are possible",
                         count, STREAM_LINKS_MAX);
    if (s->ended)
        return error_set(err, SCOPE_EINVAL, "", "the stream has ended");
    for (size_t i = 0; i < count && !status; i++)
        status = read_link(s->live, json_array_get(chain, i), (int)i, &wants[i], err);
    if (!status)
        status = begin(s, wants, (int)count, &(ask){.by = "load"}, -1, err);
    for (size_t i = 0; i < count; i++)
        json_decref(wants[i].values);
    return status;
}

void stream_retry(stream *s)
{
    for (int i = 0; i < s->count; i++) {
        if (s->active[i]->failed)
            stage_retry(s->active[i]);
    }
    stream_settle(s);
}
