/* rtc_figures.c - see rtc_figures.h. */
#include "rtc_figures.h"

/* A property of the one RTP session that a bundle has; owned, or NULL. */
static GstStructure *session_property(GstElement *webrtcbin, const char *name)
{
    GstElement *bin = gst_bin_get_by_name(GST_BIN(webrtcbin), "rtpbin"), *session = NULL;
    GstStructure *s = NULL;
    g_signal_emit_by_name(bin, "get-session", 0, &session);
    if (session)
        g_object_get(session, name, &s, NULL);
    g_clear_object(&session);
    gst_object_unref(bin);
    return s;
}

bool rtc_figures_report(GstElement *webrtcbin, rtc_report *report)
{
    GstStructure *s = session_property(webrtcbin, "twcc-stats");
    guint sent = 0, received = 0;
    double lost = 0;
    gint64 trend = 0;
    bool there = s && gst_structure_get(s, "bitrate-sent", G_TYPE_UINT, &sent, "bitrate-recv",
                                        G_TYPE_UINT, &received, "packet-loss-pct", G_TYPE_DOUBLE,
                                        &lost, "avg-delta-of-delta", G_TYPE_INT64, &trend, NULL);
    *report = (rtc_report){(int)sent, (int)received, lost / 100, (double)trend / 1e6};
    g_clear_pointer(&s, gst_structure_free);
    return there;
}

/* One source of RTP, ours or the peer's, as rtpsession tells of it; RFC 3550 section 6.4. */
static void add_source(rtc_stats *stats, const GstStructure *s)
{
    gboolean internal = FALSE, reported = FALSE;
    guint64 bytes = 0, packets = 0;
    gint lost = 0, rate = 0;
    guint jitter = 0, trip = 0;
    gst_structure_get_boolean(s, "internal", &internal);
    gst_structure_get(s, internal ? "octets-sent" : "octets-received", G_TYPE_UINT64, &bytes, NULL);
    if (internal) {
        stats->bytes_out += (int64_t)bytes;
        return;
    }
    gst_structure_get(s, "packets-received", G_TYPE_UINT64, &packets, "packets-lost", G_TYPE_INT,
                      &lost, "jitter", G_TYPE_UINT, &jitter, "clock-rate", G_TYPE_INT, &rate, NULL);
    gst_structure_get_boolean(s, "have-rb", &reported);
    if (reported) { /* what the peer says of what we send */
        gst_structure_get(s, "rb-packetslost", G_TYPE_INT, &lost, "rb-jitter", G_TYPE_UINT, &jitter,
                          "rb-round-trip", G_TYPE_UINT, &trip, NULL);
        stats->rtt_ms = trip * 1000.0 / 65536;
        rate = 90000;
    }
    stats->bytes_in += (int64_t)bytes;
    stats->packets_in += (int64_t)packets;
    stats->packets_lost += lost > 0 ? lost : 0;
    if (rate > 0 && jitter * 1000.0 / rate > stats->jitter_ms)
        stats->jitter_ms = jitter * 1000.0 / rate;
}

void rtc_figures_stats(GstElement *webrtcbin, rtc_stats *stats)
{
    GstStructure *s = session_property(webrtcbin, "stats");
    const GValue *list = s ? gst_structure_get_value(s, "source-stats") : NULL;
    *stats = (rtc_stats){0};
    /* The only way to this list is a deprecated type. */
    G_GNUC_BEGIN_IGNORE_DEPRECATIONS
    const GValueArray *sources = list ? g_value_get_boxed(list) : NULL;
    for (guint i = 0; sources && i < sources->n_values; i++)
        add_source(stats, g_value_get_boxed(&sources->values[i]));
    G_GNUC_END_IGNORE_DEPRECATIONS
    g_clear_pointer(&s, gst_structure_free);
}
