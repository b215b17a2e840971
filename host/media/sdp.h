/* sdp.h - reading offers and narrowing them down to what is answered. Pure functions of text.
 *
 * Under rtc. RFC 8866, 8829 (JSEP), 9725 (WHIP).
 */
#ifndef MEDIA_SDP_H
#define MEDIA_SDP_H

#include "../../plugin/scope_abi.h"
#include "codec.h"

/* RTP header extensions that are taken where they are offered: numbers that let the sender measure
 * its way (transport-wide congestion control), how long a picture may be held back, its colours. */
#define SDP_TWCC    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
#define SDP_PLAYOUT "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
#define SDP_COLOUR  "http://www.webrtc.org/experiments/rtp-hdrext/color-space"

typedef struct sdp_choice {
    enum codec video, audio; /* 0: none, or refused */
    int video_pt, audio_pt, rtx_pt;
    int twcc_id, playout_id, colour_id; /* numbers of the extensions, 0: none */
    bool sends, receives;               /* what the peer means to do with the picture */
} sdp_choice;

/* The offer with one codec (and its rtx) for the picture and at most one for the sound, or NULL
 * with *err, EINVAL and a sentence that names what is wrong; err->field is "codec" where the offer
 * is sound but has no codec in common, else "offer". `prefer` is taken where the peer offers it, 0:
 * the peer's own first choice. Sound in other formats than Opus is answered inactive. What the
 * session says for all sections stands in each one; candidates by name (mDNS) are left out, since
 * the peer is found by its own checks. Owned by the caller (g_free). [any] */
char *sdp_narrow(const char *offer, enum codec prefer, sdp_choice *choice, scope_error *err);

#endif
