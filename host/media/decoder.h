/* decoder.h - packets that come from the net into frames, or into sound, live.
 *
 * Under http/ (WebSocket publishers). Sizes may change in mid-stream. Broken packets are counted
 * and dropped; the next key frame mends the picture.
 */
#ifndef MEDIA_DECODER_H
#define MEDIA_DECODER_H

#include "../frame.h"
#include "codec.h"

typedef struct decoder decoder;

typedef struct decoder_calls {
    void *ctx;
    /* A frame to keep a reference of: U8, 3 channels, the picture's own size, with the pts of its
     * packet. On the decoder's thread. */
    void (*picture)(void *ctx, frame *f);
    /* Sound, interleaved S16LE, 48 kHz, stereo; transfer full. On the decoder's thread. */
    void (*sound)(void *ctx, GstBuffer *sound);
    /* The stream cannot be decoded until a key frame comes: ask the sender for one. */
    void (*need_key)(void *ctx);
} decoder_calls;

/* NULL with *err (naming the package to install) on failure. [any] */
decoder *decoder_open(enum codec codec, frame_pool *pool, const decoder_calls *calls,
                      scope_error *err);
void decoder_close(decoder *d); /* no call comes after this; NULL is fine [any] */
/* What the sender says of its colours, by WebCodecs' names ("bt709", "smpte170m", "bt470bg",
 * "bt2020-ncl"); other names change nothing. Else H.264 says it itself, and VP8 is BT.601 of
 * limited range. For the pictures that come out from now on. [any] */
void decoder_colours(decoder *d, const char *matrix, bool full_range);
/* One packet. When decoding lags behind, the oldest ones are dropped up to a key frame. [any], one
 * at a time */
void decoder_push(decoder *d, const void *bytes, size_t n, int64_t pts_us, bool key);
int64_t decoder_broken(const decoder *d); /* packets that could not be decoded, so far [any] */

#endif
