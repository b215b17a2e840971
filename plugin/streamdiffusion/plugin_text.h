/* plugin_text.h - the parameters of the texts, as the pipeline takes them. */
#ifndef SD_PLUGIN_TEXT_H
#define SD_PLUGIN_TEXT_H

#include "pipeline.h"
#include "styles.h"

/* Fill the texts of s: prompts, negative prompt and transition. Strings are the host's, or of the
 * styles. Negative
 * with *err, which names the field, when the parameters contradict each other. [load] or [frame] */
int plugin_text(pipeline_settings *s, const scope_kwargs *kw, styles *looks, scope_error *err);

#endif
