/* pictures.h - names of numbered pictures: listing a sequence, naming the next one. */
#ifndef MEDIA_PICTURES_H
#define MEDIA_PICTURES_H

#include "../error.h"

#include <stdbool.h>
#include <stdint.h>

/* A file name with one printf number, "shot%04d.png", taken apart. Nothing of a person's text ever
 * reaches printf. */
typedef struct picture_pattern {
    char *before, *after; /* owned; the folder is part of `before` */
    int width;            /* digits to pad to with zeros */
} picture_pattern;

/* False when `path` is not a pattern: no number, or more than one. */
bool picture_pattern_init(picture_pattern *p, const char *path);
void picture_pattern_fini(picture_pattern *p);
char *picture_pattern_name(const picture_pattern *p, int64_t number); /* owned by the caller */

/* ".png", ".jpg" or ".jpeg" at the end of a path, as "image/png" or "image/jpeg", else NULL. */
const char *picture_type(const char *path);

/* The pictures of a pattern (by number), of a folder (by name, numbers in order of value; the kind
 * of its first picture), or a single picture. NULL-terminated, owned (g_strfreev). NULL with *err
 * when there are none. */
char **pictures_list(const char *input, scope_error *err);

#endif
