/* trial.c - the judgements that call into the plugin; see trial.h.
 *
 * Each one reports for itself and leaves the instance as usable as it found it.
 */
#include "trial.h"
#include "feed.h"

#include <glib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FRAMES = 3, SLOW_MS = 200 };

/* ---- feeding it ------------------------------------------------------------------------------ */

static job guarded(const judge *j, int w, int h, int frames)
{
    return (job){.in = j->in, .pool = j->pool, .guard = j->guard, .w = w, .h = h, .frames = frames};
}

static job plain(const judge *j, int w, int h, int frames)
{
    return (job){.in = j->in, .pool = j->plain, .w = w, .h = h, .frames = frames};
}

static instance *open_with(const judge *j, const json_t *values, scope_error *err)
{
    return instance_open(j->path, j->id, values, j->pool, NULL, err);
}

/* ---- init and sizes -------------------------------------------------------------------------- */

/* False when nothing more can be asked. */
static bool try_init(judge *j)
{
    scope_error err;
    judge_doing(j, "in init()");
    gint64 start_us = g_get_monotonic_time();
    j->in = open_with(j, j->values, &err);
    j->init_ms = (double)(g_get_monotonic_time() - start_us) * 1e-3;
    if (j->in)
        judge_say(j, "pass", "init", "%.1f ms", j->init_ms);
    else if (err.status == SCOPE_EIO && json_object_size(j->values) == 0)
        judge_say(j, "warn", "init", "not judged further: %s (give what it needs with --param)",
                  err.text);
    else
        judge_say(j, "fail", "init", "init() fails: %s", err.text);
    return j->in != NULL;
}

static const struct {
    int w, h;
} sizes[] = {{1, 1}, {3, 5}, {17, 31}, {64, 48}, {129, 97}, {256, 1}, {1, 77}};

static int try_size(judge *j, int w, int h, scope_error *err)
{
    for (int side = GUARD_AFTER; side <= GUARD_BEFORE; side++) {
        job k = guarded(j, w, h, FRAMES);
        judge_doing(j, "in process() on %dx%d pixels, guarded %s the frame", w, h,
                    side == GUARD_AFTER ? "after" : "before");
        guard_set(j->guard, side, 0xa5);
        int status = feed_and_drop(&k);
        *err = k.err;
        if (status < 0)
            return status;
    }
    return SCOPE_OK;
}

static void say_sizes(const judge *j, int count, int good, const char *refused, const char *why)
{
    if (good < count) /* refusing one size in plain words is poor, refusing all is a failure */
        judge_say(j, good ? "warn" : "fail", "sizes", "refuses%s pixels: %s", refused, why);
    else if (!instance_want(j->in)->t)
        judge_say(j, "pass", "sizes", "a generator; it stays within its frame");
    else
        judge_say(j, "pass", "sizes", "%d size%s between forbidden pages, input read-only", count,
                  count == 1 ? "" : "s");
}

/* False when there is no point in asking more. */
static bool try_sizes(judge *j)
{
    const scope_video *want = instance_want(j->in);
    int count = !want->t || (want->w && want->h) ? 1 : (int)G_N_ELEMENTS(sizes), good = 0;
    scope_error err, why = {0};
    GString *refused = g_string_new(NULL);
    for (int i = 0; i < count; i++) {
        int status = try_size(j, sizes[i].w, sizes[i].h, &err);
        good += status == SCOPE_OK;
        if (status == SCOPE_OK)
            continue;
        if (status != SCOPE_EINVAL) {
            judge_say(j, "fail", "sizes", "process() fails on %dx%d pixels: %s", sizes[i].w,
                      sizes[i].h, err.text);
            g_string_free(refused, TRUE);
            return false;
        }
        g_string_append_printf(refused, " %dx%d", sizes[i].w, sizes[i].h);
        why = err;
    }
    say_sizes(j, count, good, refused->str, why.text);
    g_string_free(refused, TRUE);
    return good > 0;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* The ends of a field's range, or each of its choices. New reference. */
static json_t *candidates(const schema_field *f)
{
    json_t *list = json_array();
    if (f->choices) {
        json_array_extend(list, f->choices);
        return list;
    }
    const double ends[] = {f->min, f->max};
    const bool has[] = {f->has_min, f->has_max};
    for (int i = 0; i < 2; i++) {
        if (f->type == SCOPE_BOOL)
            json_array_append_new(list, json_boolean(i));
        else if (has[i] && f->type == SCOPE_INT)
            json_array_append_new(list, json_integer((json_int_t)ends[i]));
        else if (has[i] && f->type == SCOPE_NUM)
            json_array_append_new(list, json_real(ends[i]));
        else if (f->type == SCOPE_STR && !f->ui.is_load_param)
            json_array_append_new(list,
                                  json_string(i ? "a \"na\xc3\xafve\" \xf0\x9f\x8e\xa5" : ""));
    }
    return list;
}

/* The defaults of one field, or of all that may change while running, as an object. */
static json_t *at_rest(const judge *j, const char *name)
{
    int count;
    json_t *values = json_object();
    const schema_field *fields = schema_fields(instance_schema(j->in), &count);
    for (int i = 0; i < count; i++) {
        json_t *given = json_object_get(j->values, fields[i].name);
        if (!fields[i].ui.is_load_param && (!name || !strcmp(name, fields[i].name)))
            json_object_set(values, fields[i].name, given ? given : fields[i].def);
    }
    return values;
}

/* Run a few frames with `values` in force, then go back. */
static int run_with(judge *j, json_t *values, const char *name, scope_error *err)
{
    int status = instance_set(j->in, values, err);
    job k = plain(j, 64, 48, instance_last_ms(j->in) > SLOW_MS ? 1 : FRAMES);
    if (status == SCOPE_OK) {
        status = feed_and_drop(&k);
        *err = k.err;
    }
    scope_error ignored;
    json_t *rest = at_rest(j, name);
    instance_set(j->in, rest, &ignored);
    json_decref(rest);
    return status;
}

/* The same for a value that only a new instance takes. */
static int load_with(judge *j, json_t *values, scope_error *err)
{
    json_t *all = json_deep_copy(j->values);
    json_object_update(all, values);
    instance *in = open_with(j, all, err);
    json_decref(all);
    if (!in)
        return err->status;
    job k = guarded(j, 64, 48, 1);
    k.in = in;
    int status = feed_and_drop(&k);
    *err = k.err;
    instance_close(in);
    return status;
}

static int try_value(judge *j, const schema_field *f, json_t *value)
{
    scope_error err;
    json_t *values = json_pack("{sO}", f->name, value);
    char *shown = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    judge_doing(j, "with %s = %s", f->name, shown);
    int status =
        f->ui.is_load_param ? load_with(j, values, &err) : run_with(j, values, f->name, &err);
    if (status < 0) /* its schema allows the value, but a plugin may know better, and say so */
        judge_say(j, status == SCOPE_EINVAL ? "warn" : "fail", "values", "%s = %s is refused: %s",
                  f->name, shown, err.text);
    free(shown);
    json_decref(values);
    return status == SCOPE_OK ? 0 : 1;
}

static int try_ends_together(judge *j, bool highest)
{
    int count;
    scope_error err;
    json_t *values = json_object();
    const schema_field *fields = schema_fields(instance_schema(j->in), &count);
    for (int i = 0; i < count; i++) {
        json_t *list = candidates(&fields[i]);
        size_t n = json_array_size(list);
        if (n && !fields[i].ui.is_load_param)
            json_object_set(values, fields[i].name, json_array_get(list, highest ? n - 1 : 0));
        json_decref(list);
    }
    judge_doing(j, "with every parameter at its %s", highest ? "highest" : "lowest");
    int status = run_with(j, values, NULL, &err);
    json_decref(values);
    if (status == SCOPE_OK || status == SCOPE_EINVAL) /* a combination may be impossible */
        return 0;
    judge_say(j, "fail", "values", "every parameter at its %s: %s", highest ? "highest" : "lowest",
              err.text);
    return 1;
}

/* How many times slower the last frame was than usual; noise on fast frames is not looked at. */
static double slowdown(const judge *j, double usual_ms)
{
    double ms = instance_last_ms(j->in);
    return ms > SLOW_MS && ms > usual_ms ? ms / fmax(usual_ms, 1) : 1;
}

static void try_values(judge *j)
{
    enum { QUICK_MS = 500 }; /* loading anew for each value must stay bearable */
    int count, tried = 0, faults = 0;
    double usual_ms = instance_last_ms(j->in), together = 1; /* of all slowdowns: a guess */
    const schema_field *fields = schema_fields(instance_schema(j->in), &count);
    for (int i = 0; i < count; i++) {
        size_t n;
        json_t *list = candidates(&fields[i]), *value;
        bool skip = fields[i].ui.is_load_param && j->init_ms > QUICK_MS;
        double slowest = 1;
        json_array_foreach(list, n, value)
        {
            if (skip)
                break;
            faults += try_value(j, &fields[i], value);
            slowest = fmax(slowest, slowdown(j, usual_ms));
            tried++;
        }
        together *= slowest;
        json_decref(list);
    }
    faults += try_ends_together(j, false);
    if (usual_ms * together < j->limit_s * 250.0) /* a quarter of it: values may add up to more */
        faults += try_ends_together(j, true);
    if (!faults)
        judge_say(j, "pass", "values", "%d values at the ends of ranges, alone and together",
                  tried);
}

void trial_run(judge *j)
{
    if (!try_init(j))
        return;
    if (try_sizes(j)) {
        try_values(j);
        endure(j);
    }
    if (instance_misuse(j->in))
        judge_say(j, "fail", "threads", "the plugin %s", instance_misuse(j->in));
    judge_doing(j, "in fini()");
    instance_close(j->in);
    j->in = NULL;
    judge_say(j, "pass", "fini", "it ends in peace");
}
