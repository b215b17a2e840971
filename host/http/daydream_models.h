/* daydream_models.h - Daydream's models by name, and which checkpoint of this machine each is.
 *
 * Under daydream_params.h (which families there are) and daydream_map.h (what to load). The
 * configuration file decides:
 *
 *     "models": {"stabilityai/sd-turbo": {"plugin": "streamdiffusion",
 *                                         "values": {"model_id_or_path": "/models/turbo"}}}
 *
 * "plugin" may be left out, and "family" ("sd21", "sd15", "sdxl") tells which of Daydream's schemas
 * a name beside the four has. Without an entry the plugin looks for the name among the models that
 * `scope model get` brought.
 */
#ifndef HTTP_DAYDREAM_MODELS_H
#define HTTP_DAYDREAM_MODELS_H

#include "../../plugin/scope_abi.h"

#include <jansson.h>
#include <stdbool.h>

/* A set of them says where a field exists. */
enum daydream_family {
    DAYDREAM_SD21 = 1,
    DAYDREAM_SD15 = 2,
    DAYDREAM_SDXL = 4,
    DAYDREAM_ANY = 7,
};

/* The i-th of the four, or NULL after the last. */
const char *daydream_model_at(int i);
/* The family of one of the four, or of a name in `models` (may be NULL): "sd15" where the entry
 * does not say. 0 when it is unknown. */
unsigned daydream_family(const json_t *models, const char *id);
/* Distilled models take no LCM LoRA: by Daydream's rule, those with "turbo" in their name. */
bool daydream_model_is_turbo(const char *id);

/* What runs a model: the id of a plugin, and the values that choose the checkpoint, a new
 * reference, or NULL where the configuration names none. Negative with *err for an entry that makes
 * no sense.
 */
int daydream_model_link(const json_t *models, const char *id, const char **plugin, json_t **values,
                        scope_error *err);

/* The folder of the family's LCM LoRA among the downloaded models, for g_free; or NULL where it is
 * not, and then *name is what to get. */
char *daydream_lcm_lora(unsigned family, const char **name);

#endif
