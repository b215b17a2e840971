/* rtp_in.h - what a peer sends, from RTP into frames and sound.
 *
 * Under rtc, in its pipeline. Pictures may change their size with any frame.
 */
#ifndef MEDIA_RTP_IN_H
#define MEDIA_RTP_IN_H

#include "../frame.h"

#include <gst/gst.h>

typedef struct rtp_in_calls {
    void *ctx;
    /* On the thread of the packets, as in decoder_calls. */
    void (*picture)(void *ctx, frame *f);
    void (*sound)(void *ctx, GstBuffer *sound); /* transfer full */
} rtp_in_calls;

/* What decoders this machine must have: *err names the package that is missing. [any] */
int rtp_in_need(scope_error *err);
/* Decode what `pad` (application/x-rtp with its caps) gives, within its pipeline's bin. What is of
 * no known kind is thrown away. `colour_id` is the number of the extension that tells the colours
 * (sdp.h), 0: none. `pool` and what `calls` points to are borrowed while the pipeline
 * works. Negative with *err when the elements do not fit together. [any] */
int rtp_in_add(GstBin *bin, GstPad *pad, int colour_id, frame_pool *pool, const rtp_in_calls *calls,
               scope_error *err);

#endif
