/* keyframes.c - tracks of keys: parsing, checking, and the value at a time.
 *
 * Beside run. Must stay true: what the keys allow, the schema allows: every key is validated before
 * anything starts, and a value between two valid ones is valid.
 */
#include "keyframes.h"
#include "error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char keyframes_help[] =
    "Keyframes, from a file or given as text, move parameters over time: an object with a list of "
    "keys\n"
    "per parameter.\n\n"
    "  {\n"
    "    \"strength\": [[0, 0.2], [2.5, 0.8, \"ease\"], [\"120f\", 0.4]],\n"
    "    \"prompts\":  [[0, \"a harbour\"], [4, \"a forest\"]],\n"
    "    \"2.intensity\": [[0, 1], [1, 0, \"hold\"]]\n"
    "  }\n\n"
    "A key is [time, value] or [time, value, way]. The time is in seconds of the input, or a "
    "frame\n"
    "number such as \"120f\". The way says how the value is reached from the key before:\n\n"
    "  linear   evenly; the default\n"
    "  ease     slow, fast, slow\n"
    "  hold     the value before stays until the time of this key\n\n"
    "Numbers move (whole ones are rounded); weighted prompts cross-fade: both are given, the "
    "weights\n"
    "of the old ones falling as those of the new ones rise; everything else holds. Before the "
    "first\n"
    "key and after the last the value stays. A parameter goes to the first plugin that has it;\n"
    "\"2.intensity\" means the second plugin, \"invert:intensity\" the plugin invert.\n";

enum way { WAY_LINEAR = 1, WAY_EASE, WAY_HOLD };

/* Frames of containers with coarse clocks lie this close to where the rate puts them. */
#define SNAP_S 0.002

typedef struct key {
    double at; /* seconds */
    enum way way;
    json_t *value; /* owned; complete, as the schema makes it */
} key;

typedef struct track {
    keyframes_target to;
    key *keys; /* owned */
    size_t count;
    json_t *last; /* owned; what was told last */
} track;

struct keyframes {
    track *tracks; /* owned */
    size_t count;
    double fps;
};

/* ---- reading --------------------------------------------------------------------------------- */

static int key_time(const json_t *j, double fps, const char *name, double *at, scope_error *err)
{
    if (json_is_number(j)) {
        *at = json_number_value(j);
    } else if (json_is_string(j)) {
        char *end;
        double n = strtod(json_string_value(j), &end);
        if (end == json_string_value(j) || strcmp(end, "f") != 0)
            return error_set(err, SCOPE_EINVAL, name,
                             "keyframes of '%s': '%s' is no time; write seconds (2.5) or a frame "
                             "number (\"120f\")",
                             name, json_string_value(j));
        if (fps <= 0)
            return error_set(err, SCOPE_EINVAL, name,
                             "keyframes of '%s': '%s' counts frames, but the input has no fixed "
                             "rate; use seconds or --fps",
                             name, json_string_value(j));
        *at = n / fps;
    } else {
        return error_set(err, SCOPE_EINVAL, name,
                         "keyframes of '%s': a key is [time, value] or [time, value, way]", name);
    }
    if (!isfinite(*at) || *at < 0)
        return error_set(err, SCOPE_EINVAL, name, "keyframes of '%s': times begin at 0, not %g",
                         name, *at);
    return 0;
}

static int key_way(const json_t *j, const char *name, enum way *way, scope_error *err)
{
    static const char *const names[] = {"linear", "ease", "hold"};
    *way = WAY_LINEAR;
    const char *text = j ? json_string_value(j) : "linear";
    for (int i = 0; text && i < 3; i++) {
        if (!strcmp(text, names[i])) {
            *way = (enum way)(WAY_LINEAR + i);
            return 0;
        }
    }
    return error_set(err, SCOPE_EINVAL, name,
                     "keyframes of '%s': the way '%s' is unknown; use linear, ease or hold", name,
                     text ? text : "(not a string)");
}

/* The value as the schema completes it: defaults filled in, shorthands expanded. */
static int key_value(const keyframes_target *to, const json_t *j, json_t **value, scope_error *err)
{
    schema_error why;
    json_t *one = json_pack("{s:O}", to->field->name, j);
    json_t *all = schema_complete(to->schema, one, &why);
    json_decref(one);
    if (!all)
        return error_from_schema(err, &why);
    *value = json_incref(json_object_get(all, to->field->name));
    json_decref(all);
    return 0;
}

static int read_key(track *t, const json_t *j, double fps, const char *name, scope_error *err)
{
    size_t n = json_array_size(j);
    if (!json_is_array(j) || n < 2 || n > 3)
        return error_set(err, SCOPE_EINVAL, name,
                         "keyframes of '%s': a key is [time, value] or [time, value, way]", name);
    key *k = &t->keys[t->count];
    int status = key_time(json_array_get(j, 0), fps, name, &k->at, err);
    if (!status)
        status = key_way(json_array_get(j, 2), name, &k->way, err);
    if (!status && t->count && k->at <= k[-1].at)
        status = error_set(err, SCOPE_EINVAL, name,
                           "keyframes of '%s': %g s does not come after %g s; times must grow",
                           name, k->at, k[-1].at);
    if (!status)
        status = key_value(&t->to, json_array_get(j, 1), &k->value, err);
    if (!status)
        t->count++;
    return status;
}

static bool is_weighted(const schema_field *f)
{
    bool text = false, weight = false;
    if (f->type != SCOPE_LIST || !f->items || f->items->type != SCOPE_OBJ)
        return false;
    for (int i = 0; i < f->items->count; i++) {
        text |= !strcmp(f->items->properties[i].name, "text");
        weight |= !strcmp(f->items->properties[i].name, "weight");
    }
    return text && weight;
}

/* While two lists cross-fade, the plugin holds both. */
static int check_room(const track *t, const char *name, scope_error *err)
{
    int room = t->to.field->max_items;
    for (size_t i = 1; i < t->count && room >= 0 && is_weighted(t->to.field); i++) {
        size_t both = json_array_size(t->keys[i - 1].value) + json_array_size(t->keys[i].value);
        if (t->keys[i].way != WAY_HOLD && both > (size_t)room)
            return error_set(err, SCOPE_EINVAL, name,
                             "keyframes of '%s': fading between the keys at %g s and %g s takes "
                             "%zu entries and there is room for %d; use \"hold\" or fewer",
                             name, t->keys[i - 1].at, t->keys[i].at, both, room);
    }
    return 0;
}

static int read_track(keyframes *k, const char *name, const json_t *keys, keyframes_resolve resolve,
                      void *ctx, scope_error *err)
{
    track *t = &k->tracks[k->count];
    int status = resolve(ctx, name, &t->to, err);
    if (status)
        return status;
    if (t->to.field->ui.is_load_param)
        return error_set(err, SCOPE_EINVAL, name,
                         "keyframes of '%s': it is fixed once the plugin is loaded; give it as a "
                         "flag",
                         name);
    if (!json_is_array(keys) || json_array_size(keys) == 0)
        return error_set(err, SCOPE_EINVAL, name,
                         "keyframes of '%s': expected a list of [time, value] keys", name);
    t->keys = calloc(json_array_size(keys), sizeof *t->keys);
    k->count++;
    if (!t->keys)
        return error_set(err, SCOPE_ENOMEM, name, "no memory for the keyframes of '%s'", name);
    size_t i;
    json_t *j;
    json_array_foreach(keys, i, j)
    {
        status = read_key(t, j, k->fps, name, err);
        if (status)
            return status;
    }
    return check_room(t, name, err);
}

keyframes *keyframes_parse(const json_t *root, double fps, keyframes_resolve resolve, void *ctx,
                           scope_error *err)
{
    if (!json_is_object(root)) {
        error_set(err, SCOPE_EINVAL, "",
                  "keyframes: expected an object such as {\"strength\": [[0, 0.2], [2.5, 0.8]]}");
        return NULL;
    }
    keyframes *k = calloc(1, sizeof *k);
    if (k)
        k->tracks = calloc(json_object_size(root) + 1, sizeof *k->tracks);
    if (!k || !k->tracks) {
        error_set(err, SCOPE_ENOMEM, "", "no memory for the keyframes");
        free(k);
        return NULL;
    }
    k->fps = fps;
    const char *name;
    json_t *keys;
    json_object_foreach((json_t *)root, name, keys)
    {
        if (read_track(k, name, keys, resolve, ctx, err)) {
            keyframes_free(k);
            return NULL;
        }
    }
    return k;
}

void keyframes_free(keyframes *k)
{
    for (size_t i = 0; k && i < k->count; i++) {
        track *t = &k->tracks[i];
        /* A key that failed half-way has no value yet. */
        for (size_t n = 0; n < t->count; n++)
            json_decref(t->keys[n].value);
        json_decref(t->last);
        free(t->keys);
    }
    if (k)
        free(k->tracks);
    free(k);
}

/* ---- the value at a time --------------------------------------------------------------------- */

static void add_weighted(json_t *to, const json_t *from, double scale)
{
    size_t i;
    json_t *item;
    json_array_foreach(from, i, item)
    {
        double weight = scale * json_number_value(json_object_get(item, "weight"));
        json_t *same = NULL, *other;
        size_t n;
        json_array_foreach(to, n, other)
        {
            if (json_equal(json_object_get(other, "text"), json_object_get(item, "text")))
                same = other;
        }
        if (same) {
            weight += json_number_value(json_object_get(same, "weight"));
            json_object_set_new(same, "weight", json_real(weight));
        } else if (scale > 0) {
            json_t *copy = json_copy(item);
            json_object_set_new(copy, "weight", json_real(weight));
            json_array_append_new(to, copy);
        }
    }
}

static json_t *between(const schema_field *f, const json_t *a, const json_t *b, double u)
{
    double x = json_number_value(a), y = json_number_value(b);
    if (f->type == SCOPE_NUM)
        return json_real(x + (y - x) * u);
    if (f->type == SCOPE_INT)
        return json_integer(llround(x + (y - x) * u));
    json_t *both = json_array();
    add_weighted(both, a, 1 - u);
    add_weighted(both, b, u);
    return both;
}

static bool moves(const schema_field *f)
{
    return ((f->type == SCOPE_NUM || f->type == SCOPE_INT) && !f->choices) || is_weighted(f);
}

static json_t *value_at(const track *t, double at)
{
    size_t n = 0; /* keys that have been reached */
    while (n < t->count && t->keys[n].at <= at + 1e-9)
        n++;
    if (n == 0)
        return json_incref(t->keys[0].value);
    const key *a = &t->keys[n - 1], *b = a + 1;
    if (n == t->count || b->way == WAY_HOLD || !moves(t->to.field))
        return json_incref(a->value);
    double u = (at - a->at) / (b->at - a->at);
    u = u < 0 ? 0 : u;
    if (b->way == WAY_EASE)
        u = u * u * (3 - 2 * u);
    return u > 0 ? between(t->to.field, a->value, b->value, u) : json_incref(a->value);
}

json_t *keyframes_changes(keyframes *k, int link, int64_t time_us)
{
    double at = 1e-6 * (double)time_us;
    if (k->fps > 0) {
        double frame = round(at * k->fps) / k->fps;
        if (fabs(frame - at) < SNAP_S)
            at = frame;
    }
    json_t *changes = NULL;
    for (size_t i = 0; i < k->count; i++) {
        track *t = &k->tracks[i];
        if (t->to.link != link)
            continue;
        json_t *value = value_at(t, at);
        if (t->last && json_equal(t->last, value)) {
            json_decref(value);
            continue;
        }
        json_decref(t->last);
        t->last = value;
        if (!changes)
            changes = json_object();
        json_object_set(changes, t->to.field->name, value);
    }
    return changes;
}
