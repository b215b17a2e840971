/* codec.h - pieces of encoded picture or sound, as they go over the net. */
#ifndef MEDIA_CODEC_H
#define MEDIA_CODEC_H

#include <gst/gst.h>
#include <stdbool.h>
#include <stdint.h>

/* No zero: unset is not a choice. The numbers are those of the WebSocket's packet header. */
enum codec { CODEC_VP8 = 1, CODEC_H264 = 2, CODEC_JPEG = 3, CODEC_OPUS = 4 };

/* "vp8", "h264", "jpeg", "opus"; 0 for another name. */
enum codec codec_from_name(const char *name);
const char *codec_name(enum codec codec);

/* One whole frame. H.264 is a byte stream, constrained baseline, one access unit with its parameter
 * sets before every key frame; Opus is 48 kHz stereo. Counted; never changed once made. */
typedef struct packet {
    enum codec codec;
    bool key;            /* can be decoded without those before */
    int w, h;            /* of the picture; 0 for sound */
    int64_t pts_us;      /* capture time, on g_get_monotonic_time's clock */
    int64_t duration_us; /* 0 when unknown */
    int64_t made_us;     /* when encoding ended */
    GBytes *bytes;       /* owned */
    gint refs;           /* atomic */
} packet;

packet *packet_ref(packet *p);
void packet_unref(packet *p); /* NULL is fine */

#endif
