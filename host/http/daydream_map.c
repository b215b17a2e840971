/* daydream_map.c - see daydream_map.h: what each of Daydream's parameters is to the plugin.
 *
 * Where the two differ, the choice is:
 *
 * - guidance goes by cfg_type "self", which is what Daydream's workers run: guidance_scale above 1
 *   costs nothing, and delta is its factor. The negative prompt is not idle then, as it is there:
 * the plugin turns the prompts away from it.
 * - t_index_list counts through num_inference_steps points, from 0 to num_inference_steps. The last
 *   index would lie behind the last point: it is that point. A plugin that knows fewer points than
 *   100 gets the same shares of those that it knows.
 * - a seed is any integer of 53 bits; the plugin's are of 31, so the rest is folded in.
 * - max_skip_frame 0 never skips: the filter is off.
 * - skip_diffusion is the plugin's `enabled` turned round: the networks rest, what is loaded stays,
 * and switching it takes no reload.
 * - Turbo models take no LCM LoRA; others take their family's from the downloaded models, whatever
 *   lcm_lora_id says, as Daydream's workers do.
 * - latent_feedback before the networks is the plugin's latent_feedback.
 * - acceleration has no counterpart and needs none.
 */
#include "daydream_map.h"

#include "daydream_models.h"

#include <glib.h>
#include <math.h>
#include <string.h>

/* ---- from Daydream --------------------------------------------------------------------------- */

typedef struct mapping {
    const schema *s;
    const json_t *params;
    json_t *out, *warnings;
} mapping;

__attribute__((format(printf, 2, 3))) static void warn(const mapping *m, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *text = g_strdup_vprintf(fmt, ap);
    if (m->warnings)
        json_array_append_new(m->warnings, json_string(text));
    g_free(text);
    va_end(ap);
}

static json_t *param(const mapping *m, const char *name)
{
    return json_object_get(m->params, name);
}

static bool on(const json_t *o, const char *name)
{
    return json_is_true(json_object_get(o, name));
}

/* Steals v. */
static void put(const mapping *m, const char *name, json_t *v)
{
    if (schema_find(m->s, name))
        json_object_set_new(m->out, name, v);
    else
        json_decref(v);
}

static double limited(const mapping *m, const schema_field *f, double x, const char *what)
{
    double y = f && f->has_min && x < f->min ? f->min : f && f->has_max && x > f->max ? f->max : x;
    if (y != x)
        warn(m, "%s is %g; the plugin takes %g", what, x, y);
    return y;
}

static void put_number(const mapping *m, const char *name, double x, const char *what)
{
    const schema_field *f = schema_find(m->s, name);
    x = limited(m, f, x, what);
    put(m, name, f && f->type == SCOPE_INT ? json_integer((json_int_t)x) : json_real(x));
}

static const schema_field *item_field(const mapping *m, const char *list, const char *name)
{
    const schema_field *f = schema_find(m->s, list);
    for (int i = 0; f && f->items && i < f->items->count; i++) {
        if (!strcmp(f->items->properties[i].name, name))
            return &f->items->properties[i];
    }
    return NULL;
}

/* Fields that mean the same. */
static const struct {
    const char *param, *value;
} same[] = {
    {"prompt_interpolation_method", "prompt_interpolation_method"},
    {"normalize_prompt_weights", "normalize_prompt_weights"},
    {"negative_prompt", "negative_prompt"},
    {"guidance_scale", "guidance_scale"},
    {"delta", "delta"},
    {"seed_interpolation_method", "seed_interpolation_method"},
    {"width", "width"},
    {"height", "height"},
    {"use_denoising_batch", "use_denoising_batch"},
    {"do_add_noise", "do_add_noise"},
    {"similar_image_filter_threshold", "similar_image_filter_threshold"},
};

static void map_same(const mapping *m)
{
    for (size_t i = 0; i < G_N_ELEMENTS(same); i++) {
        json_t *v = param(m, same[i].param);
        if (json_is_number(v))
            put_number(m, same[i].value, json_number_value(v), same[i].param);
        else
            put(m, same[i].value, json_incref(v));
    }
}

static void map_prompt(const mapping *m)
{
    json_t *prompt = param(m, "prompt"), *out = json_array();
    const schema_field *weight = item_field(m, "prompts", "weight");
    if (json_is_string(prompt))
        json_array_append_new(out, json_pack("{s:O, s:f}", "text", prompt, "weight", 1.0));
    for (size_t i = 0; i < json_array_size(prompt); i++) {
        json_t *pair = json_array_get(prompt, i);
        double w = json_number_value(json_array_get(pair, 1));
        json_array_append_new(out,
                              json_pack("{s:O, s:f}", "text", json_array_get(pair, 0), "weight",
                                        limited(m, weight, w, "the weight of a prompt")));
    }
    put(m, "prompts", out);
}

static json_int_t folded(const json_t *seed)
{
    return json_integer_value(seed) & 0x7fffffff;
}

static void map_seed(const mapping *m)
{
    json_t *seed = param(m, "seed"), *out = json_array();
    const schema_field *weight = item_field(m, "seeds", "weight");
    if (json_is_integer(seed))
        put(m, "seed", json_integer(folded(seed)));
    for (size_t i = 0; i < json_array_size(seed); i++) {
        json_t *pair = json_array_get(seed, i);
        double w = json_number_value(json_array_get(pair, 1));
        json_array_append_new(out,
                              json_pack("{s:I, s:f}", "seed", folded(json_array_get(pair, 0)),
                                        "weight", limited(m, weight, w, "the weight of a seed")));
    }
    if (json_array_size(out) && !on(m->params, "normalize_seed_weights"))
        warn(m,
             "normalize_seed_weights has no counterpart here: only the proportions of the weights "
             "of seeds count");
    put(m, "seeds", out);
}

static void map_steps(const mapping *m)
{
    json_int_t steps = json_integer_value(param(m, "num_inference_steps"));
    const schema_field *f = schema_find(m->s, "num_inference_steps");
    json_int_t most = f && f->has_max && steps > f->max ? (json_int_t)f->max : steps;
    json_t *list = param(m, "t_index_list"), *out = json_array();
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_int_t n = json_integer_value(json_array_get(list, i));
        json_array_append_new(out, json_integer(MIN(n * most / steps, most - 1)));
    }
    put(m, "num_inference_steps", json_integer(most));
    put(m, "t_index_list", out);
}

static void map_filter(const mapping *m)
{
    json_int_t most = json_integer_value(param(m, "similar_image_filter_max_skip_frame"));
    const schema_field *f = schema_find(m->s, "similar_image_filter_max_skip");
    put(m, "similar_image_filter_enabled",
        json_boolean(on(m->params, "enable_similar_image_filter") && most > 0));
    if (f)
        put(m, f->name, json_integer(CLAMP(most, (json_int_t)f->min, (json_int_t)f->max)));
}

static void map_loras(const mapping *m)
{
    json_t *dict = param(m, "lora_dict"), *out = json_array(), *scale;
    const char *path;
    json_object_foreach(dict, path, scale)
    {
        double x = limited(m, item_field(m, "loras", "scale"), json_number_value(scale), path);
        json_array_append_new(out, json_pack("{s:s, s:f}", "path", path, "scale", x));
    }
    put(m, "loras", out);
}

static void map_lcm_lora(const mapping *m, unsigned family)
{
    const char *id = json_string_value(param(m, "model_id")), *name;
    bool use =
        on(m->params, "use_lcm_lora") && !daydream_model_is_turbo(id) && family != DAYDREAM_SD21;
    put(m, "use_lcm_lora", json_boolean(use));
    if (!use || json_object_get(m->out, "lcm_lora_path") || !schema_find(m->s, "lcm_lora_path"))
        return;
    char *at = daydream_lcm_lora(family, &name);
    if (at)
        put(m, "lcm_lora_path", json_string(at));
    else
        warn(m, "use_lcm_lora has no effect: the LCM LoRA is not here; get it: scope model get %s",
             name);
    g_free(at);
}

/* How many processors of a block are in force. */
static int active(const mapping *m, const char *name)
{
    json_t *block = param(m, name), *list = json_object_get(block, "processors");
    int count = 0;
    for (size_t i = 0; on(block, "enabled") && i < json_array_size(list); i++)
        count += on(json_array_get(list, i), "enabled");
    return count;
}

static void map_feedback(const mapping *m)
{
    json_t *list = json_object_get(param(m, "latent_preprocessing"), "processors");
    double share = 0;
    for (size_t i = 0; active(m, "latent_preprocessing") && i < json_array_size(list); i++) {
        json_t *one = json_array_get(list, i);
        json_t *x = json_object_get(json_object_get(one, "params"), "feedback_strength");
        if (on(one, "enabled"))
            share = json_is_number(x) ? json_number_value(x) : 0.15;
    }
    put_number(m, "latent_feedback", share, "feedback_strength");
}

/* What is asked for, kept, and not done. */
static void warn_of_absent(const mapping *m)
{
    static const char *const blocks[] = {"image_preprocessing", "image_postprocessing",
                                         "latent_postprocessing"};
    json_t *nets = param(m, "controlnets");
    int count = 0;
    for (size_t i = 0; i < json_array_size(nets); i++)
        count += on(json_array_get(nets, i), "enabled");
    if (count)
        warn(m, "controlnets has no effect: the plugin has no ControlNets; %d enabled", count);
    for (size_t i = 0; i < G_N_ELEMENTS(blocks); i++) {
        if (active(m, blocks[i]))
            warn(m, "%s has no effect: the plugin has no such processors", blocks[i]);
    }
    if (on(param(m, "ip_adapter"), "enabled"))
        warn(m, "ip_adapter has no effect: the plugin has no IP-Adapter");
    if (on(param(m, "cached_attention"), "enabled"))
        warn(m, "cached_attention has no effect: the plugin has none");
    if (on(m->params, "use_safety_checker"))
        warn(m, "use_safety_checker has no effect: there is no safety checker");
}

json_t *daydream_map(const json_t *params, const schema *s, unsigned family, const json_t *base,
                     const char *lora_dir, json_t *warnings)
{
    mapping m = {s, params, json_object(), warnings};
    if (lora_dir)
        put(&m, "lora_dir", json_string(lora_dir));
    if (base)
        json_object_update(m.out, (json_t *)base); /* also what the schema lacks: it is refused */
    else
        put(&m, "model_id_or_path", json_incref(param(&m, "model_id")));
    put(&m, "input_mode", json_string("video"));
    put(&m, "enabled", json_boolean(!on(params, "skip_diffusion")));
    put(&m, "cfg_type", json_string("self"));
    map_same(&m);
    map_prompt(&m);
    map_seed(&m);
    map_steps(&m);
    map_filter(&m);
    map_loras(&m);
    map_lcm_lora(&m, family);
    map_feedback(&m);
    warn_of_absent(&m);
    return m.out;
}

/* ---- and back -------------------------------------------------------------------------------- */

static json_t *prompt_of(const json_t *now)
{
    json_t *list = json_object_get(now, "prompts"), *out = json_array();
    json_t *first = json_array_get(list, 0);
    if (json_array_size(list) == 1 && json_number_value(json_object_get(first, "weight")) == 1) {
        json_decref(out);
        return json_incref(json_object_get(first, "text"));
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *one = json_array_get(list, i);
        if (json_string_length(json_object_get(one, "text")))
            json_array_append_new(out, json_pack("[OO]", json_object_get(one, "text"),
                                                 json_object_get(one, "weight")));
    }
    if (json_array_size(out))
        return out;
    json_decref(out);
    return json_string("");
}

static json_t *seed_of(const json_t *now)
{
    json_t *list = json_object_get(now, "seeds"), *out;
    if (!json_array_size(list))
        return json_incref(json_object_get(now, "seed"));
    out = json_array();
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *one = json_array_get(list, i);
        json_array_append_new(
            out, json_pack("[OO]", json_object_get(one, "seed"), json_object_get(one, "weight")));
    }
    return out;
}

static json_t *loras_of(const json_t *now)
{
    json_t *list = json_object_get(now, "loras"), *out = json_object();
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *one = json_array_get(list, i);
        const char *path = json_string_value(json_object_get(one, "path"));
        if (path[0])
            json_object_set(out, path, json_object_get(one, "scale"));
    }
    if (json_object_size(out))
        return out;
    json_decref(out);
    return json_null();
}

static json_t *skip_of(const json_t *now)
{
    return json_boolean(!on(now, "enabled"));
}

static json_t *filter_of(const json_t *now)
{
    return json_boolean(on(now, "similar_image_filter_enabled"));
}

static json_t *most_of(const json_t *now)
{
    return json_incref(json_object_get(now, "similar_image_filter_max_skip"));
}

static json_t *steps_of(const json_t *now)
{
    return json_incref(json_object_get(now, "num_inference_steps"));
}

/* Daydream has at least one index: of a list without, which leaves it to the plugin, none is told.
 */
static json_t *indices_of(const json_t *now)
{
    json_t *list = json_object_get(now, "t_index_list");
    return json_array_size(list) ? json_incref(list) : NULL;
}

static const struct {
    const char *param;
    const char *values[2]; /* of the plugin; a change of either counts */
    json_t *(*of)(const json_t *now);
} others[] = {
    {"prompt", {"prompts"}, prompt_of},
    {"seed", {"seed", "seeds"}, seed_of},
    {"num_inference_steps", {"num_inference_steps"}, steps_of},
    {"t_index_list", {"t_index_list"}, indices_of},
    {"lora_dict", {"loras"}, loras_of},
    {"skip_diffusion", {"enabled"}, skip_of},
    {"enable_similar_image_filter", {"similar_image_filter_enabled"}, filter_of},
    {"similar_image_filter_max_skip_frame", {"similar_image_filter_max_skip"}, most_of},
};

static bool moved(const json_t *asked, const json_t *now, const char *name)
{
    json_t *to = name ? json_object_get(now, name) : NULL;
    return to && !json_equal(json_object_get(asked, name), to);
}

bool daydream_map_back(json_t *params, const json_t *asked, const json_t *now)
{
    bool any = false;
    for (size_t i = 0; i < G_N_ELEMENTS(same); i++) {
        if (moved(asked, now, same[i].value)) {
            json_object_set(params, same[i].param, json_object_get(now, same[i].value));
            any = true;
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        json_t *v = NULL;
        if (moved(asked, now, others[i].values[0]) || moved(asked, now, others[i].values[1]))
            v = others[i].of(now);
        if (v)
            json_object_set_new(params, others[i].param, v);
        any |= v != NULL;
    }
    return any;
}
