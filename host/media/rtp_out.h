/* rtp_out.h - packets of a codec into RTP, for one viewer.
 *
 * Under rtc, in its pipeline. A viewer has elements of its own because payload types, extensions
 * and retransmission differ from peer to peer.
 */
#ifndef MEDIA_RTP_OUT_H
#define MEDIA_RTP_OUT_H

#include "codec.h"
#include "../error.h"

typedef struct rtp_out_options {
    enum codec codec;                   /* VP8, H264 or OPUS */
    int pt;                             /* payload type */
    int twcc_id, playout_id, colour_id; /* numbers of the extensions of sdp.h, 0: none */
} rtp_out_options;

int rtp_out_need(scope_error *err);
/* Elements in the bin that end in *src (a reference), with caps that name all that is in the RTP.
 * Returns what takes the packets, owned by the bin, or NULL with *err. `want_key` is called when
 * the peer asks for a key frame. [any] */
GstElement *rtp_out_add(GstBin *bin, const rtp_out_options *o, GstPad **src,
                        void (*want_key)(void *ctx), void *ctx, scope_error *err);
/* False, and nothing taken, when half a second waits already. [any] */
bool rtp_out_push(GstElement *out, packet *p);

#endif
