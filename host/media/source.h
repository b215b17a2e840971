/* source.h - frames from anything that can be read: files, URLs, cameras, pictures, Y4M.
 *
 * Frames are RGB (or RGBA where the input has alpha) U8, upright, with square pixels, one at a
 * time; their pts is the time in the input, so that it means the same after a seek.
 */
#ifndef MEDIA_SOURCE_H
#define MEDIA_SOURCE_H

#include "../frame.h"
#include "yuv.h"

#include <gst/gst.h>
#include <stdbool.h>

typedef struct source_options {
    int fps_n, fps_d; /* frames per second: the rate of pictures, and what everything else is
                         resampled to by dropping and repeating; 0 keeps the input's */
    double start;     /* seconds to skip */
    int64_t frames;   /* a still picture is repeated this often; 0 means once */
    bool audio;       /* collect sound, for source_audio */
    int (*cancelled)(void *ctx); /* may be NULL; asked while waiting */
    void *ctx;
} source_options;

typedef struct source_info {
    int w, h;         /* of the first frame */
    int fps_n, fps_d; /* 0/1 when the input does not say */
    int64_t total;    /* frames there will be, about; -1 when unknown */
    bool live;        /* a camera or stream: frames that come while busy are dropped */
    GstCaps *audio;   /* borrowed; NULL without sound */
} source_info;

typedef struct source source;

/* Open and wait for the first frame. `input` is a path, a URL, /dev/videoN, a folder or pattern of
 * pictures, or "-" for Y4M on stdin. NULL with *err on failure. [load] */
source *source_open(const char *input, const source_options *o, frame_pool *pool, scope_error *err);
void source_close(source *s); /* NULL is fine */
const source_info *source_about(const source *s);

/* The next frame: 1, 0 at the end (or when cancelled), negative when the input broke. [frame] */
int source_read(source *s, frame **out, scope_error *err);
/* The next piece of sound that begins before `until_us` (input time), its pts in input time; or
 * NULL, and *why says why not. [frame] */
enum source_silence { SOURCE_LATER = 1, SOURCE_NOT_YET, SOURCE_NO_MORE };
GstBuffer *source_audio(source *s, int64_t until_us, enum source_silence *why);
/* Frames of a live input that came and went while nobody read. */
int64_t source_missed(const source *s);

/* What source_frame reads, as caps. */
#define SOURCE_CAPS                                                                                \
    "video/x-raw,format=(string){RGB, RGBA, " YUV_FORMATS "},pixel-aspect-ratio=(fraction)1/1"
/* A decoded sample as a frame, without times; NULL with *err on failure. [any] */
frame *source_frame(GstSample *sample, frame_pool *pool, scope_error *err);

#endif
