/* rtc_network.h - the addresses, ports and servers that a WebRTC session goes by.
 *
 * Under rtc.
 */
#ifndef MEDIA_RTC_NETWORK_H
#define MEDIA_RTC_NETWORK_H

#include "rtc.h"

/* Before `webrtcbin` gathers its first candidate. [main] */
void rtc_network_set_up(GstElement *webrtcbin, const rtc_options *o);

#endif
