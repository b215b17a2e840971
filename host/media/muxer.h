/* muxer.h - frames and sound, live, into one stream of H.264 and AAC: a file, RTMP, HLS, SRT; or as
 * they are into a video device.
 *
 * Under live/outlet, which owns the thread; sink.h is for work that may take its time. Times are
 * microseconds from 0, later for every frame; the muxer goes by them and by nothing else, so that
 * the clock of the machine and the rate of the frames do not matter.
 */
#ifndef MEDIA_MUXER_H
#define MEDIA_MUXER_H

#include "../frame.h"

#include <gst/gst.h>
#include <stdbool.h>

enum muxer_kind { MUXER_MP4 = 1, MUXER_RTMP, MUXER_HLS, MUXER_SRT, MUXER_V4L2 };

typedef struct muxer_options {
    enum muxer_kind kind;
    const char *target; /* a path, a URL, a folder, a device */
    const char *about;  /* what people call it: no secrets */
    int w, h;           /* of the frames, at least 2; odd ones lose their last row or column */
    int fps;            /* about so many will come a second: for the bit rate; 0: 30 */
    int bitrate;        /* bits a second; 0: by size; a file goes by quality instead */
    bool sound;         /* there will be some */
    const char *h264;   /* encoder to prefer: x264enc, openh264enc; or NULL */
} muxer_options;

typedef struct muxer muxer;

/* Is everything there that it needs? If not, *err names the package. [any] */
int muxer_can(enum muxer_kind kind, scope_error *err);
/* NULL with *err on failure. [load] */
muxer *muxer_open(const muxer_options *o, scope_error *err);
void muxer_close(muxer *m); /* at once, whatever is under way; NULL is fine */

/* 1: takes a frame now; 0: still busy after wait_ms; negative: it broke. */
int muxer_ready(muxer *m, int wait_ms, scope_error *err);
/* A frame of the muxer's size, U8 with 3 channels; converted before it returns. */
void muxer_frame(muxer *m, const frame *f, int64_t at_us);
/* Interleaved S16LE, 48 kHz, stereo, consumed; its pts from 0 too, without gaps. */
void muxer_sound(muxer *m, GstBuffer *sound);
/* Finish within `limit_ms`; negative with *err when that did not go well. muxer_close follows. */
int muxer_finish(muxer *m, int limit_ms, scope_error *err);

/* Pieces of data that have reached the file or the net, and their bytes. [any] */
int64_t muxer_bytes(const muxer *m);
bool muxer_works(const muxer *m); /* so many that it must be connected [any] */

#endif
