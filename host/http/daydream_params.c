/* daydream_params.c - see daydream_params.h: from what a client sends to complete parameters. */
#include "daydream_params.h"

#include "daydream_values.h"

#include "../../schema/schema.h"
#include "../error.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>

static int refuse_unknown(scope_error *err, const daydream_field *table, unsigned family,
                          const char *path, const char *key)
{
    const char *names[64];
    int count = 0;
    for (const daydream_field *f = table; f->name; f++) {
        if (!strcmp(f->name, key)) {
            daydream_refuse(err, path, "%s is not for this model: it belongs to SD 1.5 and SDXL",
                            path);
            return -1;
        }
        if (f->families & family && count < 64)
            names[count++] = f->name;
    }
    const char *near = schema_nearest(key, names, count);
    daydream_refuse(err, path, "there is no parameter %.50s%s%s%s", path,
                    near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    return -1;
}

/* ---- objects --------------------------------------------------------------------------------- */

static json_t *merge(const daydream_field *table, unsigned family, const json_t *before,
                     const json_t *change, const char *path, scope_error *err);

static json_t *check_objects(const daydream_field *f, unsigned family, const json_t *v,
                             const char *path, scope_error *err)
{
    if (!json_is_array(v))
        return daydream_refuse_type(err, path, "a list", v);
    if (json_array_size(v) > (size_t)f->max)
        return daydream_refuse(err, path, "%s has %zu entries; at most %g are taken", path,
                               json_array_size(v), f->max);
    json_t *out = json_array();
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *one = json_array_get(v, i);
        char at[DAYDREAM_PATH];
        daydream_path_at(at, path, i);
        json_t *checked = json_is_object(one) ? merge(f->fields, family, NULL, one, at, err)
                                              : daydream_refuse_type(err, at, "an object", one);
        if (!checked) {
            json_decref(out);
            return NULL;
        }
        json_array_append_new(out, checked);
    }
    return out;
}

static json_t *make_default(const daydream_field *f)
{
    return f->def ? json_loads(f->def, JSON_DECODE_ANY, NULL) : NULL;
}

/* The value of one field that was given as v, not null; `was` is what it had, or NULL. */
static json_t *check(const daydream_field *f, unsigned family, const json_t *was, const json_t *v,
                     const char *path, scope_error *err)
{
    if (f->kind == DAYDREAM_OBJECTS)
        return check_objects(f, family, v, path, err);
    if (f->kind != DAYDREAM_OBJECT)
        return daydream_value(f, v, path, err);
    if (json_is_array(v) && !json_array_size(v))
        return make_default(f);
    return json_is_object(v) ? merge(f->fields, family, was, v, path, err)
                             : daydream_refuse_type(err, path, "an object", v);
}

/* The field's value after the change, a new reference; NULL with *missing when it is left out. */
static json_t *settle(const daydream_field *f, unsigned family, const json_t *before,
                      const json_t *change, const char *path, bool *missing, scope_error *err)
{
    const json_t *given = json_object_get(change, f->name);
    json_t *was = json_object_get(before, f->name);
    *missing = false;
    if (given && !json_is_null(given))
        return check(f, family, was, given, path, err);
    if (!given && was && !(f->flags & DAYDREAM_FRESH))
        return json_incref(was);
    json_t *v = make_default(f);
    if (!v && f->flags & DAYDREAM_REQUIRED)
        return daydream_refuse(err, path, "%s is missing", path);
    *missing = !v;
    return v;
}

/* A complete object of a table's fields; "" is the path of the outermost. */
static json_t *merge(const daydream_field *table, unsigned family, const json_t *before,
                     const json_t *change, const char *path, scope_error *err)
{
    const char *key;
    json_t *value, *out = json_object();
    char at[DAYDREAM_PATH];
    json_object_foreach((json_t *)change, key, value)
    {
        const daydream_field *f = table;
        while (f->name && (strcmp(f->name, key) || !(f->families & family)))
            f++;
        daydream_path_of(at, path, key);
        if (!f->name && refuse_unknown(err, table, family, at, key))
            goto fail;
    }
    for (const daydream_field *f = table; f->name; f++) {
        bool missing;
        if (!(f->families & family))
            continue;
        daydream_path_of(at, path, f->name);
        value = settle(f, family, before, change, at, &missing, err);
        if (value)
            json_object_set_new(out, f->name, value);
        else if (!missing)
            goto fail;
    }
    return out;
fail:
    json_decref(out);
    return NULL;
}

/* ---- what belongs together ------------------------------------------------------------------- */

static json_int_t number(const json_t *o, const char *name)
{
    return json_integer_value(json_object_get(o, name));
}

static int coherent_sizes(const json_t *params, const daydream_rules *rules, scope_error *err)
{
    static const char *const sides[] = {"width", "height"};
    for (int i = 0; i < 2; i++) {
        json_int_t n = number(params, sides[i]);
        int step = rules->strict_sizes ? 64 : 8;
        if (n % step || (rules->strict_sizes && (n < 384 || n > 1024)))
            return error_set(err, SCOPE_EINVAL, sides[i],
                             "%s is %d; allowed are multiples of %d from %d to %d", sides[i],
                             (int)n, step, rules->strict_sizes ? 384 : 64,
                             rules->strict_sizes ? 1024 : 2048);
    }
    return 0;
}

static int coherent_indices(const json_t *params, scope_error *err)
{
    json_t *list = json_object_get(params, "t_index_list");
    json_int_t steps = number(params, "num_inference_steps"), last = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_int_t n = json_integer_value(json_array_get(list, i));
        if (n < 0 || n > steps)
            return error_set(err, SCOPE_EINVAL, "t_index_list",
                             "t_index_list[%zu] is %lld; allowed is 0 to num_inference_steps, "
                             "which is %lld",
                             i, (long long)n, (long long)steps);
        if (n < last)
            return error_set(err, SCOPE_EINVAL, "t_index_list",
                             "t_index_list[%zu] is %lld, after %lld; put the steps in rising order",
                             i, (long long)n, (long long)last);
        last = n;
    }
    return 0;
}

static bool controlnet_fits(unsigned family, const char *id)
{
    static const struct {
        const char *id;
        unsigned family;
    } known[] = {
        {"thibaud/controlnet-sd21-openpose-diffusers", DAYDREAM_SD21},
        {"thibaud/controlnet-sd21-hed-diffusers", DAYDREAM_SD21},
        {"thibaud/controlnet-sd21-canny-diffusers", DAYDREAM_SD21},
        {"thibaud/controlnet-sd21-depth-diffusers", DAYDREAM_SD21},
        {"thibaud/controlnet-sd21-color-diffusers", DAYDREAM_SD21},
        {"daydreamlive/TemporalNet2-stable-diffusion-2-1", DAYDREAM_SD21},
        {"lllyasviel/control_v11f1p_sd15_depth", DAYDREAM_SD15},
        {"lllyasviel/control_v11f1e_sd15_tile", DAYDREAM_SD15},
        {"lllyasviel/control_v11p_sd15_canny", DAYDREAM_SD15},
        {"daydreamlive/TemporalNet2-stable-diffusion-v1-5", DAYDREAM_SD15},
        {"xinsir/controlnet-depth-sdxl-1.0", DAYDREAM_SDXL},
        {"xinsir/controlnet-canny-sdxl-1.0", DAYDREAM_SDXL},
        {"xinsir/controlnet-tile-sdxl-1.0", DAYDREAM_SDXL},
        {"daydreamlive/TemporalNet2-stable-diffusion-xl-base-1.0", DAYDREAM_SDXL},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (!strcmp(known[i].id, id))
            return known[i].family == family;
    }
    return false;
}

static int coherent_controlnets(const json_t *params, unsigned family, scope_error *err)
{
    json_t *list = json_object_get(params, "controlnets");
    int enabled = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *one = json_array_get(list, i);
        const char *id = json_string_value(json_object_get(one, "model_id"));
        char at[DAYDREAM_PATH], path[DAYDREAM_PATH];
        daydream_path_of(path, daydream_path_at(at, "controlnets", i), "model_id");
        if (!controlnet_fits(family, id)) {
            daydream_refuse(err, path,
                            "%s is \"%.60s\", which is no ControlNet of this model's family", path,
                            id);
            return -1;
        }
        for (size_t k = 0; k < i; k++) {
            json_t *other = json_object_get(json_array_get(list, k), "model_id");
            if (!strcmp(json_string_value(other), id))
                return error_set(err, SCOPE_EINVAL, path, "%s is there twice: %.60s", path, id);
        }
        enabled += json_is_true(json_object_get(one, "enabled"));
    }
    if (family == DAYDREAM_SDXL && enabled > 3)
        return error_set(err, SCOPE_EINVAL, "controlnets",
                         "controlnets: %d are enabled; SDXL takes 3 at most", enabled);
    return 0;
}

static int coherent_styles(const json_t *params, unsigned family, scope_error *err)
{
    json_t *ip = json_object_get(params, "ip_adapter");
    json_t *cached = json_object_get(params, "cached_attention");
    const char *type = json_string_value(json_object_get(ip, "type"));
    if (family == DAYDREAM_SD15 && !g_strcmp0(type, "faceid"))
        return error_set(err, SCOPE_EINVAL, "ip_adapter.type",
                         "ip_adapter.type is faceid, which is for SDXL alone");
    if (!json_is_true(json_object_get(cached, "enabled")))
        return 0;
    const char *with = json_string_value(json_object_get(params, "acceleration"));
    if (strcmp(with, "tensorrt") || number(params, "width") != 512 ||
        number(params, "height") != 512)
        return error_set(err, SCOPE_EINVAL, "cached_attention",
                         "cached_attention needs acceleration tensorrt and 512 x 512");
    static const int most[] = {4, 4, 2, 1, 0}; /* frames, by steps */
    size_t steps = json_array_size(json_object_get(params, "t_index_list"));
    if (family == DAYDREAM_SDXL && number(cached, "max_frames") > most[steps])
        return error_set(err, SCOPE_EINVAL, "cached_attention.max_frames",
                         "cached_attention.max_frames is %d; with %zu steps SDXL takes %d",
                         (int)number(cached, "max_frames"), steps, most[steps]);
    return 0;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static const char *chosen_model(const json_t *before, const json_t *change,
                                const daydream_rules *rules, scope_error *err)
{
    const json_t *given = json_object_get(change, "model_id");
    const json_t *was = json_object_get(before, "model_id");
    if (!given || json_is_null(given))
        return was ? json_string_value(was) : rules->model;
    if (!json_is_string(given)) {
        daydream_refuse_type(err, "model_id", "a text", given);
        return NULL;
    }
    if (!daydream_family(rules->models, json_string_value(given))) {
        daydream_refuse(err, "model_id", "model_id is \"%.50s\"; the models are %s, %s, %s and %s",
                        json_string_value(given), daydream_model_at(0), daydream_model_at(1),
                        daydream_model_at(2), daydream_model_at(3));
        return NULL;
    }
    return json_string_value(given);
}

/* The change with the names that others use for the same: new reference. */
static json_t *translated(const json_t *change, const char *model)
{
    json_t *out = json_copy((json_t *)change);
    json_t *ip = json_object_get(change, "ip_adapter"), *url = json_object_get(ip, "image_url");
    json_object_set_new(out, "model_id", json_string(model));
    if (url) {
        json_t *rest = json_copy(ip);
        json_object_del(rest, "image_url");
        json_object_set_new(out, "ip_adapter", rest);
        if (!json_object_get(out, "ip_adapter_style_image_url"))
            json_object_set(out, "ip_adapter_style_image_url", url);
    }
    return out;
}

/* What is left of `before` with another family of models: new reference, or NULL. */
static json_t *carried_over(const json_t *before, unsigned from, unsigned to)
{
    json_t *out = before ? json_copy((json_t *)before) : NULL;
    if (out && from != to) {
        json_object_del(out, "controlnets");
        json_object_del(out, "ip_adapter");
        json_object_del(out, "ip_adapter_style_image_url");
        json_object_del(out, "cached_attention");
    }
    return out;
}

/* Step indices that were not asked for keep their share of num_inference_steps. */
static void carry_indices(const json_t *before, const json_t *change, json_t *params)
{
    json_t *list = json_object_get(params, "t_index_list"), *moved;
    json_int_t was = before ? number(before, "num_inference_steps")
                            : atoi(daydream_field_find("num_inference_steps")->def);
    json_int_t steps = number(params, "num_inference_steps");
    json_t *given = json_object_get(change, "t_index_list");
    size_t count = json_array_size(list);
    if ((given && !json_is_null(given)) || was < 1 ||
        json_integer_value(json_array_get(list, count - 1)) <= steps)
        return;
    moved = json_array();
    for (size_t i = 0; i < count; i++) {
        json_int_t n = json_integer_value(json_array_get(list, i));
        json_array_append_new(moved, json_integer(MIN((n * steps + was / 2) / was, steps)));
    }
    json_object_set_new(params, "t_index_list", moved);
}

json_t *daydream_params_merge(const json_t *before, const json_t *change,
                              const daydream_rules *rules, scope_error *err)
{
    const char *model = chosen_model(before, change, rules, err);
    if (!model)
        return NULL;
    unsigned family = daydream_family(rules->models, model);
    const char *earlier = json_string_value(json_object_get(before, "model_id"));
    json_t *was =
        carried_over(before, earlier ? daydream_family(rules->models, earlier) : family, family);
    json_t *asked = translated(change, model);
    json_t *params = merge(daydream_fields(), family, was, asked, "", err);
    if (params) {
        carry_indices(was, change, params);
        if (coherent_sizes(params, rules, err) || coherent_indices(params, err) ||
            coherent_controlnets(params, family, err) || coherent_styles(params, family, err)) {
            json_decref(params);
            params = NULL;
        }
    }
    json_decref(asked);
    json_decref(was);
    return params;
}

const char *daydream_params_reloads(const json_t *change)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)change, key, value)
    {
        const daydream_field *f = daydream_field_find(key);
        if (f && !(f->flags & DAYDREAM_HOT))
            return f->name;
    }
    return NULL;
}
