/* styles.h - named looks: a template that a prompt is put into, and a negative prompt to go with
 * it.
 *
 * A styles file is JSON, a list of {"name": ..., "prompt": "... {prompt} ...", "negative": ...};
 * "negative_prompt" does for "negative", and other keys are left alone, so that files made for
 * other programs can be read. A prompt takes the place of every {prompt}; a template without one is
 * put behind the prompt. The negative is put behind that of the person.
 */
#ifndef SD_STYLES_H
#define SD_STYLES_H

#include "prompt.h"

typedef struct styles styles;

/* The file `path`, or "": the styles that come with the plugin. NULL with *err, which names
 * styles_path, on failure. [load] */
styles *styles_open(const char *path, scope_error *err);
void styles_close(styles *s); /* [load] NULL is fine */

/* Put the style `name` on the texts; "" leaves them. New texts are the styles' until the next call.
 * An unknown name is an error that names the nearest. [frame] */
int styles_apply(styles *s, const char *name, prompt_blend *prompts, const char **negative,
                 scope_error *err);

#endif
