/* feed.h - what GStreamer does not read by itself, brought into a pipeline by an appsrc: numbered
 * pictures and Y4M.
 */
#ifndef MEDIA_FEED_H
#define MEDIA_FEED_H

#include "../error.h"

#include <gst/gst.h>
#include <stdbool.h>

typedef struct feed_options {
    int fps_n, fps_d; /* rate of pictures; 0 for FEED_FPS */
    double start;     /* pictures before it are not read */
    int64_t frames;   /* a single picture is repeated this often; 0 means once */
} feed_options;

enum { FEED_FPS = 24 };

typedef struct feed feed;

bool feed_takes(const char *input); /* "-", *.y4m, a pattern, a folder, *.png, *.jpg */
feed *feed_open(const char *input, const feed_options *o, scope_error *err);
/* After the pipeline has stopped. NULL is fine. */
void feed_close(feed *f);
/* Make a blocked reader return, so that the pipeline can stop. [any] */
void feed_stop(feed *f);

GstElement *feed_element(feed *f);           /* the appsrc; the pipeline takes it over */
GstCaps *feed_caps(const feed *f);           /* borrowed */
const char *feed_decoder(const feed *f);     /* elements behind it: "pngdec !", or "" */
bool feed_pictures(const feed *f);           /* rather than Y4M */
int64_t feed_total(const feed *f);           /* frames, -1 when unknown */
bool feed_failed(feed *f, scope_error *err); /* reading broke [any] */

#endif
