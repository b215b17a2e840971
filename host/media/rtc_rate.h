/* rtc_rate.h - how many bits a second the way to a peer can carry, from what it says it got.
 *
 * Under rtc. Pure arithmetic over the once-a-second figures of transport-wide congestion control.
 */
#ifndef MEDIA_RTC_RATE_H
#define MEDIA_RTC_RATE_H

typedef struct rtc_rate {
    int bits; /* a second; 0: no limit is known */
} rtc_rate;

typedef struct rtc_report {
    int sent, received; /* bits a second */
    double lost;        /* of the packets, 0..1 */
    double delay_trend; /* ms by which each packet took longer than the one before, on average */
} rtc_report;

/* The limit after one more second: less than what got through when packets are lost or queue up,
 * else a little more than before; 0 again once it is above all that is ever sent. [main] */
int rtc_rate_next(rtc_rate *r, const rtc_report *report);

#endif
