/* encoder.h - frames or sound into packets, live: nothing waits, nothing queues.
 *
 * Under live/cast. One small GStreamer pipeline each.
 */
#ifndef MEDIA_ENCODER_H
#define MEDIA_ENCODER_H

#include "../frame.h"
#include "codec.h"

typedef struct encoder encoder;

typedef struct encoder_options {
    enum codec codec;
    int w, h;         /* of the pictures; odd ones lose their last row or column */
    int bitrate;      /* bits a second; 0: by size, about 0.19 bit per pixel at 30 a second */
    int keyframe_s;   /* seconds between key frames when nobody asks; 0: 5 */
    const char *h264; /* encoder to prefer, an element's name; NULL: the best there is */
} encoder_options;

/* `packet` is called on a thread of the encoder's own, or within encoder_push, for each packet,
 * which it may keep a reference of. NULL with *err (naming the package to install) on failure.
 * [any] */
encoder *encoder_open(const encoder_options *o, void (*packet)(void *ctx, packet *p), void *ctx,
                      scope_error *err);
/* No call of packet() comes after this. Not from within packet(). NULL is fine. [any] */
void encoder_close(encoder *e);

/* A frame of the encoder's size, U8 with 3 channels; copied or converted before it returns. When
 * the encoder is still busy, the frame is dropped: false. [any], one at a time */
bool encoder_push(encoder *e, frame *f);
/* Sound for CODEC_OPUS: interleaved S16LE, 48 kHz, stereo, with its pts in nanoseconds of
 * g_get_monotonic_time's clock; consumed. [any], one at a time */
void encoder_push_sound(encoder *e, GstBuffer *sound);
void encoder_keyframe(encoder *e);             /* make the next picture one [any] */
void encoder_bitrate(encoder *e, int bitrate); /* from the next picture on [any] */
bool encoder_failed(encoder *e, scope_error *err);

#endif
