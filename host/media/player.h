/* player.h - a source as it happens: files and URLs at their own speed, cameras, screens, a test
 * picture.
 *
 * Under live/inlet; source.h is for work that may take its time. Frames are RGB (or RGBA where the
 * input has alpha) U8, upright, with square pixels; sizes may change in mid-stream. Their pts is
 * the moment at which they are due, on g_get_monotonic_time's clock, and they come then.
 */
#ifndef MEDIA_PLAYER_H
#define MEDIA_PLAYER_H

#include "../frame.h"

#include <gst/gst.h>
#include <stdbool.h>

enum player_kind { PLAYER_URI = 1, PLAYER_CAMERA, PLAYER_SCREEN, PLAYER_TEST };

typedef struct player_options {
    enum player_kind kind;
    const char *input; /* a URI, /dev/videoN; "tone" makes the test picture sound */
    const char *about; /* what people call it: no secrets */
    bool files;        /* a URI may lead to files of this machine */
    int fps;           /* at most so many frames a second; 0: as they come */
    /* Sound: interleaved S16LE, 48 kHz, stereo, with its pts in nanoseconds of the same clock;
     * transfer full. On GStreamer's threads, until player_close. */
    void (*sound)(void *ctx, GstBuffer *sound);
    void *ctx;
} player_options;

typedef struct player player;

/* Start; `pool` is borrowed until player_close. NULL with *err when it cannot. May take seconds
 * where a network hangs. [load] */
player *player_open(const player_options *o, frame_pool *pool, scope_error *err);
/* Stops what is under way; NULL is fine. */
void player_close(player *p);

/* The newest frame: 1; 0 when none came within wait_ms; PLAYER_ENDED; negative when it broke.
 * [frame] */
enum { PLAYER_ENDED = 2 };
int player_next(player *p, int wait_ms, frame **out, scope_error *err);
/* After the end: from the beginning again; false when this input cannot. [frame] */
bool player_rewind(player *p);

#endif
