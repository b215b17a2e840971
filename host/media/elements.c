/* elements.c - which elements this machine has, and GStreamer's errors in words.
 *
 * Under source and sink. Must stay true: a missing element is named together with the package that
 * brings it, before a pipeline is built from it.
 */
#include "elements.h"

#include <string.h>

/* Package endings after "gstreamer1.0-", the same on Debian and Ubuntu. */
static const struct {
    const char *element, *package;
} packages[] = {
    {"x264enc", "plugins-ugly"},         {"openh264enc", "plugins-bad"},
    {"h264parse", "plugins-bad"},        {"avenc_aac", "libav"},
    {"vp8enc", "plugins-good"},          {"webmmux", "plugins-good"},
    {"matroskamux", "plugins-good"},     {"mp4mux", "plugins-good"},
    {"aacparse", "plugins-good"},        {"pngenc", "plugins-good"},
    {"pngdec", "plugins-good"},          {"jpegenc", "plugins-good"},
    {"jpegdec", "plugins-good"},         {"jpegparse", "plugins-bad"},
    {"videoflip", "plugins-good"},       {"deinterlace", "plugins-good"},
    {"v4l2src", "plugins-good"},         {"opusenc", "plugins-base"},
    {"opusparse", "plugins-bad"},        {"flvmux", "plugins-good"},
    {"rtmp2sink", "plugins-bad"},        {"hlssink2", "plugins-bad"},
    {"mpegtsmux", "plugins-bad"},        {"srtsink", "plugins-bad"},
    {"v4l2sink", "plugins-good"},        {"ximagesrc", "plugins-good"},
    {"vp8dec", "plugins-good"},          {"avdec_h264", "libav"},
    {"openh264dec", "plugins-bad"},      {"opusdec", "plugins-base"},
    {"webrtcbin", "plugins-bad"},        {"nicesrc", "nice"},
    {"dtlssrtpenc", "plugins-bad"},      {"dtlssrtpdec", "plugins-bad"},
    {"dtlsdec", "plugins-bad"},          {"srtpenc", "plugins-bad"},
    {"srtpdec", "plugins-bad"},          {"rtpbin", "plugins-good"},
    {"rtpjitterbuffer", "plugins-good"}, {"rtprtxsend", "plugins-good"},
    {"rtpvp8pay", "plugins-good"},       {"rtpvp8depay", "plugins-good"},
    {"rtph264pay", "plugins-good"},      {"rtph264depay", "plugins-good"},
    {"rtpopuspay", "plugins-good"},      {"rtpopusdepay", "plugins-good"},
};

int media_init(scope_error *err)
{
    GError *cause = NULL;
    if (gst_init_check(NULL, NULL, &cause))
        return 0;
    error_set(err, SCOPE_EIO, "", "GStreamer does not start: %s", cause ? cause->message : "?");
    g_clear_error(&cause);
    return SCOPE_EIO;
}

bool media_has(const char *element)
{
    GstElementFactory *factory = gst_element_factory_find(element);
    if (factory)
        gst_object_unref(factory);
    return factory != NULL;
}

int media_need(const char *element, scope_error *err)
{
    if (media_has(element))
        return 0;
    const char *package = "plugins-base";
    for (size_t i = 0; i < G_N_ELEMENTS(packages); i++) {
        if (!strcmp(packages[i].element, element))
            package = packages[i].package;
    }
    return error_set(err, SCOPE_EIO, "",
                     "GStreamer has no element '%s' here; install the package gstreamer1.0-%s",
                     element, package);
}

/* What a person is to do about it, for the errors that have a plain answer. */
static const char *plain_words(const GError *e)
{
    if (g_error_matches(e, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT))
        return "the disk is full";
    if (g_error_matches(e, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND))
        return "it is not there";
    if (g_error_matches(e, GST_CORE_ERROR, GST_CORE_ERROR_MISSING_PLUGIN) ||
        g_error_matches(e, GST_STREAM_ERROR, GST_STREAM_ERROR_CODEC_NOT_FOUND))
        return "no decoder for it; install gstreamer1.0-libav and gstreamer1.0-plugins-bad";
    if (g_error_matches(e, GST_STREAM_ERROR, GST_STREAM_ERROR_TYPE_NOT_FOUND) ||
        g_error_matches(e, GST_STREAM_ERROR, GST_STREAM_ERROR_WRONG_TYPE))
        return "it is not a video or picture that GStreamer knows";
    if (g_error_matches(e, GST_STREAM_ERROR, GST_STREAM_ERROR_DEMUX))
        return "the file is damaged or incomplete";
    if (g_error_matches(e, GST_STREAM_ERROR, GST_STREAM_ERROR_DECODE))
        return "its data is damaged";
    if (g_error_matches(e, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED))
        return "its data is damaged or holds nothing that can be decoded";
    return NULL;
}

bool media_bus_failed(GstBus *bus, const char *doing, const char *name, scope_error *err)
{
    GstMessage *message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR);
    if (!message)
        return false;
    GError *cause = NULL;
    gst_message_parse_error(message, &cause, NULL);
    const char *words = plain_words(cause);
    error_set(err, SCOPE_EIO, "", "cannot %s '%s': %s", doing, name,
              words ? words : cause->message);
    g_error_free(cause);
    gst_message_unref(message);
    return true;
}
