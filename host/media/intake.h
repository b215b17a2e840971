/* intake.h - what GStreamer does not read by itself, brought into a pipeline by an appsrc: numbered
 * pictures and Y4M.
 */
#ifndef MEDIA_INTAKE_H
#define MEDIA_INTAKE_H

#include "../error.h"

#include <gst/gst.h>
#include <stdbool.h>

typedef struct intake_options {
    int fps_n, fps_d; /* rate of pictures; 0 for INTAKE_FPS */
    double start;     /* pictures before it are not read */
    int64_t frames;   /* a single picture is repeated this often; 0 means once */
} intake_options;

enum { INTAKE_FPS = 24 };

typedef struct intake intake;

bool intake_takes(const char *input); /* "-", *.y4m, a pattern, a folder, *.png, *.jpg */
intake *intake_open(const char *input, const intake_options *o, scope_error *err);
/* After the pipeline has stopped. NULL is fine. */
void intake_close(intake *f);
/* Make a blocked reader return, so that the pipeline can stop. [any] */
void intake_stop(intake *f);

GstElement *intake_element(intake *f);           /* the appsrc; the pipeline takes it over */
GstCaps *intake_caps(const intake *f);           /* borrowed */
const char *intake_decoder(const intake *f);     /* elements behind it: "pngdec !", or "" */
bool intake_pictures(const intake *f);           /* rather than Y4M */
int64_t intake_total(const intake *f);           /* frames, -1 when unknown */
bool intake_failed(intake *f, scope_error *err); /* reading broke [any] */

#endif
