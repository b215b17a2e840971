/* lora_tags.h - "<lora:name:0.8>" in a prompt: a LoRA by its file's name, as a word of the text.
 *
 *   <lora:name>         scale 1
 *   <lora:name:0.8>     that scale, from -4 to 4
 *
 * The name is what stands between the colons: a file of the LoRA folder, or of a folder in it,
 * with or without ".safetensors". Names that lead out of the folder are no tags. What is not
 * exactly of this form is left in the text and read as words.
 */
#ifndef SD_LORA_TAGS_H
#define SD_LORA_TAGS_H

#include <stddef.h>

enum { LORA_TAG_NAME = 200 };

typedef struct lora_tag {
    char name[LORA_TAG_NAME];
    double scale;
} lora_tag;

/* Take the tags out of text, with one of two spaces that then meet: what stays goes to out, which
 * has room for strlen(text) + 1 and may be text itself. Up to max tags go to tags, the others count
 * but are dropped. Returns how many there were. [any] */
int lora_tags_take(const char *text, char *out, lora_tag *tags, int max);

#endif
