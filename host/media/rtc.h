/* rtc.h - one WebRTC session; the header of what knows webrtcbin.
 *
 * Under http/whip. Non-trickle: the answer holds every candidate. All functions are [main], and so
 * are all calls but those marked [any].
 */
#ifndef MEDIA_RTC_H
#define MEDIA_RTC_H

#include "../frame.h"
#include "codec.h"

typedef struct rtc rtc;

typedef struct rtc_calls {
    void *ctx;
    /* The answer to the offer (SDP), or NULL and why not; once, and never within rtc_publish or
     * rtc_view. */
    void (*answered)(void *ctx, const char *sdp, const scope_error *err);
    void (*connected)(void *ctx);
    /* The peer has gone, by itself or by silence (10 s), or the session broke; rtc_close is still
     * to be called, within this call or later. */
    void (*ended)(void *ctx, const char *why);
    /* Publishers: what comes in, as in decoder_calls. [any] */
    void (*picture)(void *ctx, frame *f);
    void (*sound)(void *ctx, GstBuffer *sound);
    /* Viewers: a key frame is wanted; what the way there can carry, bits a second. [any] */
    void (*need_key)(void *ctx);
    void (*bitrate)(void *ctx, int bits);
} rtc_calls;

typedef struct rtc_options {
    int port_min, port_max;  /* 0: any */
    const char *ice_servers; /* "stun:host:port,...", or NULL */
} rtc_options;

/* A peer that sends: `offer` is its SDP. NULL with *err: EINVAL and what is wrong with the offer
 * (its field is "codec" where there is none in common), or what is missing here. */
rtc *rtc_publish(const char *offer, const rtc_options *o, frame_pool *pool, const rtc_calls *calls,
                 scope_error *err);
/* A peer that watches. *video is the codec to prefer and *audio what there is to send, 0 for no
 * sound; after it they are what the peer is sent. */
rtc *rtc_view(const char *offer, const rtc_options *o, const rtc_calls *calls, enum codec *video,
              enum codec *audio, scope_error *err);
void rtc_close(rtc *r); /* no call comes after this; NULL is fine */
/* For viewers; false while it is not connected or cannot take it. [any] */
bool rtc_send(rtc *r, packet *p);

typedef struct rtc_stats {
    int64_t bytes_in, bytes_out, packets_in, packets_lost, key_requests;
    double rtt_ms, jitter_ms;
} rtc_stats;
void rtc_stats_now(rtc *r, rtc_stats *stats);

#endif
