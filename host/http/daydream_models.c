/* daydream_models.c - see daydream_models.h. */
#include "daydream_models.h"

#include "../error.h"

#include <glib.h>
#include <string.h>

static const struct {
    const char *id;
    unsigned family;
} models_known[] = {
    {"stabilityai/sd-turbo", DAYDREAM_SD21},
    {"stabilityai/sdxl-turbo", DAYDREAM_SDXL},
    {"Lykon/dreamshaper-8", DAYDREAM_SD15},
    {"prompthero/openjourney-v4", DAYDREAM_SD15},
};

const char *daydream_model_at(int i)
{
    return i < (int)G_N_ELEMENTS(models_known) ? models_known[i].id : NULL;
}

unsigned daydream_family(const json_t *models, const char *id)
{
    const json_t *entry = json_object_get(models, id);
    const char *said = json_string_value(json_object_get(entry, "family"));
    for (size_t i = 0; i < G_N_ELEMENTS(models_known); i++) {
        if (!strcmp(models_known[i].id, id))
            return models_known[i].family;
    }
    if (!json_is_object(entry))
        return 0;
    return !g_strcmp0(said, "sdxl")   ? DAYDREAM_SDXL
           : !g_strcmp0(said, "sd21") ? DAYDREAM_SD21
                                      : DAYDREAM_SD15;
}

bool daydream_model_is_turbo(const char *id)
{
    return strstr(id, "turbo") != NULL;
}

int daydream_model_link(const json_t *models, const char *id, const char **plugin, json_t **values,
                        scope_error *err)
{
    const json_t *entry = json_object_get(models, id);
    json_t *given = json_object_get(entry, "values");
    json_t *named = json_object_get(entry, "plugin");
    if (entry && (!json_is_object(entry) || (given && !json_is_object(given)) ||
                  (named && !json_is_string(named))))
        return error_set(
            err, SCOPE_EINVAL, "model_id",
            "the entry of %.60s in the configuration's \"models\" must be {\"plugin\": "
            "ID, \"values\": {...}}",
            id);
    *plugin = named ? json_string_value(named) : "streamdiffusion";
    *values = given ? json_deep_copy(given) : NULL;
    return 0;
}

char *daydream_lcm_lora(unsigned family, const char **name)
{
    *name = family == DAYDREAM_SDXL ? "latent-consistency/lcm-lora-sdxl"
                                    : "latent-consistency/lcm-lora-sdv1-5";
    char *at = g_build_filename(g_get_user_data_dir(), "scope", "models", *name, NULL);
    if (g_file_test(at, G_FILE_TEST_EXISTS))
        return at;
    g_free(at);
    return NULL;
}
