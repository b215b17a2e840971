/* daydream_map.h - Daydream's parameters as the values of a plugin, and back.
 *
 * Between daydream_params.h and a stream. What a plugin's schema does not have is left out, ranges
 * and lengths are the schema's, and it is the schema that knows load parameters: nothing about the
 * plugin is written here but names.
 */
#ifndef HTTP_DAYDREAM_MAP_H
#define HTTP_DAYDREAM_MAP_H

#include "../../schema/schema.h"

#include <jansson.h>

/* A partial object of the plugin's values for complete parameters. `base` are the values that
 * choose the checkpoint, `lora_dir` a folder of LoRAs (may be NULL); both give way to what the
 * parameters say, and `base` goes before lora_dir. Each thing that is asked for and cannot be had
 * is added to `warnings`, an array of sentences (may be NULL). New reference. */
json_t *daydream_map(const json_t *params, const schema *s, unsigned family, const json_t *base,
                     const char *lora_dir, json_t *warnings);

/* Bring `params`, which were mapped to `asked` (complete: schema_complete), up to what others have
 * changed since: the complete values `now`. True when anything differed. */
bool daydream_map_back(json_t *params, const json_t *asked, const json_t *now);

#endif
