/* rtc_figures.h - what GStreamer's RTP session knows of a WebRTC connection, in our terms.
 *
 * Under rtc.
 */
#ifndef MEDIA_RTC_FIGURES_H
#define MEDIA_RTC_FIGURES_H

#include "rtc.h"
#include "rtc_rate.h"

/* The last second by transport-wide congestion control; false when there is none. [main] */
bool rtc_figures_report(GstElement *webrtcbin, rtc_report *report);
/* All since the beginning, but for the requests of key frames, which are 0. [main] */
void rtc_figures_stats(GstElement *webrtcbin, rtc_stats *stats);

#endif
