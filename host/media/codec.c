/* codec.c - names of codecs, and the counting of packets; see codec.h. Under encoder, live/cast and
 * everything that sends packets.
 */
#include "codec.h"

#include <string.h>

static const char *const names[] = {
    [CODEC_VP8] = "vp8", [CODEC_H264] = "h264", [CODEC_JPEG] = "jpeg", [CODEC_OPUS] = "opus"};

enum codec codec_from_name(const char *name)
{
    for (size_t i = CODEC_VP8; i < G_N_ELEMENTS(names); i++) {
        if (!strcmp(names[i], name))
            return (enum codec)i;
    }
    return 0;
}

const char *codec_name(enum codec codec)
{
    return names[codec];
}

packet *packet_ref(packet *p)
{
    g_atomic_int_inc(&p->refs);
    return p;
}

void packet_unref(packet *p)
{
    if (!p || !g_atomic_int_dec_and_test(&p->refs))
        return;
    g_bytes_unref(p->bytes);
    g_free(p);
}
