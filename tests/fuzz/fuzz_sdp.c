/* fuzz_sdp.c - any bytes as a WebRTC offer: refused with a sentence, or narrowed to what GStreamer
 * reads as well, which narrows to itself. */
#include "host/media/sdp.h"

#include <gst/sdp/sdp.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_refusal(const scope_error *err)
{
    if (err->status != SCOPE_EINVAL || !err->text[0] ||
        (strcmp(err->field, "offer") != 0 && strcmp(err->field, "codec") != 0))
        abort();
    for (const char *c = err->text; *c; c++) {
        if (*c < ' ' || *c > '~')
            abort();
    }
}

/* One section of video with one codec, at most one of audio, and no name to be looked up. */
static void check_narrowed(const char *text, const sdp_choice *c)
{
    GstSDPMessage *m;
    if ((c->video != CODEC_VP8 && c->video != CODEC_H264) || (c->audio && c->audio != CODEC_OPUS))
        abort();
    if (gst_sdp_message_new_from_text(text, &m) != GST_SDP_OK)
        abort();
    int video = 0, audio = 0;
    for (guint i = 0; i < gst_sdp_message_medias_len(m); i++) {
        const GstSDPMedia *media = gst_sdp_message_get_media(m, i);
        bool is_video = !strcmp(gst_sdp_media_get_media(media), "video");
        guint formats = gst_sdp_media_formats_len(media);
        video += is_video;
        audio += !is_video;
        if (formats != 1 && !(is_video && c->rtx_pt && formats == 2))
            abort();
        if (is_video && atoi(gst_sdp_media_get_format(media, 0)) != c->video_pt)
            abort();
        if (!gst_sdp_media_get_attribute_val(media, "mid") ||
            !gst_sdp_media_get_attribute_val(media, "ice-ufrag"))
            abort();
    }
    if (video != 1 || audio > 1)
        abort();
    gst_sdp_message_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum codec prefer[] = {0, CODEC_VP8, CODEC_H264};
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    for (int i = 0; i < 3; i++) {
        scope_error err = {0};
        sdp_choice first, second;
        char *narrowed = sdp_narrow(text, prefer[i], &first, &err);
        if (!narrowed) {
            check_refusal(&err);
            continue;
        }
        check_narrowed(narrowed, &first);
        char *again = sdp_narrow(narrowed, prefer[i], &second, &err);
        if (!again || strcmp(again, narrowed) != 0 || first.video != second.video ||
            first.video_pt != second.video_pt)
            abort();
        g_free(again);
        g_free(narrowed);
    }
    free(text);
    return 0;
}
