/* daydream_stream.c - see daydream_stream.h. */
#include "daydream_stream.h"

#include "control.h"
#include "daydream_map.h"

#include "../error.h"
#include "../live/outlet.h"
#include "../log.h"
#include "../serve_options.h"

#include <string.h>

static const char attached[] = "daydream";

static void set(json_t **to, json_t *v)
{
    json_decref(*to);
    *to = v;
}

static void forget_before(daydream *d)
{
    set(&d->before.params, NULL);
    set(&d->before.mapped, NULL);
    set(&d->before.asked, NULL);
    g_clear_pointer(&d->before.plugin, g_free);
}

static void end(void *ctx)
{
    daydream *d = ctx;
    live_unlisten(stream_live(d->stream), d->listener);
    forget_before(d);
    json_decref(d->params);
    json_decref(d->warnings);
    json_decref(d->said);
    json_decref(d->mapped);
    json_decref(d->asked);
    g_free(d->author);
    g_free(d->rtmp_url);
    g_free(d->outlet);
    g_free(d->fault);
    g_free(d->refused);
    g_free(d->plugin);
    g_free(d);
}

/* ---- what became of a change ----------------------------------------------------------------- */

static int own_link(const daydream *d)
{
    return d->plugin ? stream_link_find(d->stream, d->plugin) : -1;
}

/* Does the stream still have, or want, what it was asked for? */
static bool is_kept(const daydream *d)
{
    int link = own_link(d);
    json_t *now = link >= 0 ? stream_link_values(d->stream, link) : NULL;
    bool kept = now && json_equal(now, d->asked);
    json_decref(now);
    return kept;
}

/* A model that was never downloaded, and that the configuration does not name: what to do, for
 * g_free. NULL when it is something else. */
static char *missing_model(const daydream *d)
{
    const char *id = json_string_value(json_object_get(d->params, "model_id"));
    if (json_object_get(d->options->models, id))
        return NULL;
    char *at = g_build_filename(g_get_user_data_dir(), "scope", "models", id, NULL);
    bool there = g_file_test(at, G_FILE_TEST_EXISTS) || g_file_test(id, G_FILE_TEST_EXISTS);
    g_free(at);
    return there ? NULL
                 : g_strdup_printf("the model %s is not on this machine; get it: scope model get "
                                   "%s, or name its folder under \"models\" in the configuration "
                                   "file",
                                   id, id);
}

static void warn_again(daydream *d);

/* The change was refused: tell what is in force. */
static void take_back(daydream *d, const char *why)
{
    char *missing = missing_model(d);
    g_free(d->refused);
    d->refused = missing ? missing : g_strdup(why);
    d->tag = 0;
    d->switching = false;
    if (!d->before.params)
        return;
    set(&d->params, g_steal_pointer(&d->before.params));
    set(&d->mapped, g_steal_pointer(&d->before.mapped));
    set(&d->asked, g_steal_pointer(&d->before.asked));
    g_free(d->plugin);
    d->plugin = g_steal_pointer(&d->before.plugin);
    warn_again(d);
}

static void settle(daydream *d)
{
    d->tag = 0;
    d->switching = false;
    forget_before(d);
}

static bool has_text(const json_t *list, const json_t *text)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (json_equal(json_array_get(list, i), text))
            return true;
    }
    return false;
}

/* A LoRA that is not there, a prompt that is too long: the plugin goes on, and says so. */
static void note(daydream *d, const char *line)
{
    enum { LINES_MAX = 8 };
    json_t *text = json_string(line);
    if (text && json_array_size(d->said) < LINES_MAX && !has_text(d->said, text))
        json_array_append(d->said, text);
    json_decref(text);
}

static void heard(void *ctx, const stream_event *e)
{
    daydream *d = ctx;
    enum stream_state state = stream_state_now(d->stream);
    if (e->stream != d->stream)
        return;
    if (e->kind == STREAM_VALUES && d->tag && e->tag == d->tag) {
        if (e->err && !is_kept(d))
            take_back(d, e->err->text);
        else
            settle(d); /* also where it is all there is, and waits for other values */
    } else if (e->kind == STREAM_LOG && e->level >= SCOPE_WARN && e->link == own_link(d)) {
        note(d, e->text);
    } else if (e->kind == STREAM_STATE && d->switching) {
        if (own_link(d) < 0)
            take_back(d, stream_notice(d->stream));
        else if (state != STREAM_RELOADING && state != STREAM_LOADING)
            settle(d);
    }
}

daydream *daydream_of(stream *s)
{
    daydream *d = stream_attached(s, attached);
    int link = d ? own_link(d) : -1;
    if (link < 0)
        return d;
    json_t *now = stream_link_values(s, link);
    if (!json_equal(now, d->asked)) {
        json_t *params = json_copy(d->params); /* others may hold the old one */
        daydream_map_back(params, d->asked, now);
        set(&d->params, params);
        set(&d->asked, json_incref(now));
    }
    json_decref(now);
    return d;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static daydream_rules rules_of(const serve_options *o, const char *model)
{
    return (daydream_rules){.model = model, .models = o->models, .strict_sizes = o->strict_sizes};
}

json_t *daydream_judge(const serve_options *o, const char *model, const json_t *change,
                       scope_error *err)
{
    daydream_rules rules = rules_of(o, model);
    return daydream_params_merge(NULL, change, &rules, err);
}

/* A way to run the parameters. */
typedef struct way {
    const char *plugin;
    const schema *schema;
    json_t *mapped, *warnings; /* owned */
} way;

static int find_way(const daydream *d, const json_t *params, way *w, scope_error *err)
{
    live *l = stream_live(d->stream);
    const char *model = json_string_value(json_object_get(params, "model_id")), *id;
    json_t *base;
    if (daydream_model_link(d->options->models, model, &id, &base, err))
        return err->status;
    const registry_entry *e = live_plugin(l, id, &w->schema, err);
    if (e) {
        char *assets = g_build_filename(live_data_dir(l), "assets", NULL);
        w->plugin = e->id;
        w->warnings = json_array();
        w->mapped = daydream_map(params, w->schema, daydream_family(d->options->models, model),
                                 base, assets, w->warnings);
        g_free(assets);
    }
    json_decref(base);
    return e ? 0 : err->status;
}

/* Log the warnings that are new, and keep them all; steals them. */
static void warn(daydream *d, json_t *warnings)
{
    for (size_t i = 0; i < json_array_size(warnings); i++) {
        json_t *text = json_array_get(warnings, i);
        if (!has_text(d->warnings, text))
            log_line(SCOPE_WARN, stream_id(d->stream), "%s", json_string_value(text));
    }
    set(&d->warnings, warnings);
}

static void warn_again(daydream *d)
{
    way w = {0};
    scope_error err;
    if (!find_way(d, d->params, &w, &err))
        warn(d, w.warnings);
    json_decref(w.mapped);
}

/* What was given for the parameters before and is not any more goes back to its default. */
static json_t *with_defaults(const daydream *d, const way *w)
{
    json_t *values = json_copy(w->mapped), *was;
    const char *name;
    json_object_foreach(d->mapped, name, was)
    {
        const schema_field *f = schema_find(w->schema, name);
        if (f && !json_object_get(values, name))
            json_object_set(values, name, f->def);
    }
    return values;
}

/* By a tag, the plugin that is there gets other values; by none, it is put there. */
static int ask(daydream *d, const way *w, uint64_t tag, scope_error *err)
{
    int link = stream_link_find(d->stream, w->plugin);
    if (tag) {
        json_t *values = with_defaults(d, w);
        int64_t done = stream_set(d->stream, link, values, STREAM_RELOAD, "daydream", tag, err);
        json_decref(values);
        return done < 0 ? (int)done : 0;
    }
    json_t *chain = json_pack("[{s:s, s:O}]", "plugin", w->plugin, "values", w->mapped);
    int status = stream_chain(d->stream, chain, err);
    json_decref(chain);
    return status;
}

/* Put the parameters in force; steals them in any case. */
static int go(daydream *d, json_t *params, scope_error *err)
{
    way w = {0};
    uint64_t tag = 0;
    int status = find_way(d, params, &w, err);
    if (!status && stream_link_find(d->stream, w.plugin) >= 0)
        tag = control_tag();
    if (!status)
        status = ask(d, &w, tag, err);
    if (status) {
        json_decref(params);
        json_decref(w.mapped);
        json_decref(w.warnings);
        return status;
    }
    if (!d->before.params && d->asked) { /* of a row of changes, what was in force before them */
        d->before.params = g_steal_pointer(&d->params);
        d->before.mapped = g_steal_pointer(&d->mapped);
        d->before.asked = g_steal_pointer(&d->asked);
        d->before.plugin = g_steal_pointer(&d->plugin);
    }
    d->tag = tag;
    d->switching = !tag;
    set(&d->params, params);
    set(&d->mapped, w.mapped);
    g_free(d->plugin);
    d->plugin = g_strdup(w.plugin);
    set(&d->asked, stream_link_values(d->stream, own_link(d)));
    warn(d, w.warnings);
    g_clear_pointer(&d->fault, g_free);
    g_clear_pointer(&d->refused, g_free);
    json_array_clear(d->said);
    return 0;
}

daydream *daydream_begin(stream *s, const serve_options *o, json_t *params, const char *author)
{
    scope_error err;
    daydream *d = g_new0(daydream, 1);
    d->stream = s;
    d->options = o;
    d->author = g_strdup(author);
    d->warnings = json_array();
    d->said = json_array();
    d->params = json_incref(params);
    d->listener = live_listen(stream_live(s), heard, d);
    stream_attach(s, attached, d, end);
    stream_attach(s, HLS_ON_DEMAND, d, NULL);
    if (go(d, params, &err)) {
        d->fault = g_strdup(err.text);
        log_line(SCOPE_ERROR, stream_id(s), "%s", err.text);
    }
    return d;
}

int daydream_change(daydream *d, const json_t *change, scope_error *err)
{
    daydream_rules rules = rules_of(d->options, NULL);
    json_t *params = daydream_params_merge(d->params, change, &rules, err);
    return params ? go(d, params, err) : err->status;
}

static void ended(void *ctx, const json_t *last)
{
    (void)ctx, (void)last; /* the stream tells what is of interest */
}

int daydream_push(daydream *d, const char *url, scope_error *err)
{
    char *outlet = NULL;
    if (url && *url) {
        json_t *what = json_pack("{s:s, s:s}", "kind", "rtmp", "url", url);
        json_t *made = what ? outlet_open(d->stream, what, err) : NULL;
        json_decref(what);
        if (!made)
            return err->status;
        outlet = g_strdup(json_string_value(json_object_get(made, "id")));
        json_decref(made);
    }
    scope_error gone;
    if (d->outlet)
        outlet_close(d->stream, d->outlet, ended, NULL, &gone); /* may have ended by other hands */
    g_free(d->outlet);
    g_free(d->rtmp_url);
    d->outlet = outlet;
    d->rtmp_url = outlet ? g_strdup(url) : NULL;
    return 0;
}

/* ---- trouble --------------------------------------------------------------------------------- */

json_t *daydream_warnings(const daydream *d)
{
    json_t *all = json_copy(d->warnings);
    json_array_extend(all, d->said);
    return all;
}

char *daydream_trouble(daydream *d)
{
    enum stream_state state = stream_state_now(d->stream);
    if (d->fault)
        return g_strdup(d->fault);
    char *missing = state == STREAM_FAILED ? missing_model(d) : NULL;
    if (missing)
        return missing;
    if (d->refused)
        return g_strdup(d->refused);
    const char *notice = stream_notice(d->stream);
    return *notice ? g_strdup(notice) : NULL;
}
