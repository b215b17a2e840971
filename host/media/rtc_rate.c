/* rtc_rate.c - the bandwidth of a way; see rtc_rate.h. Under rtc.
 *
 * After draft-ietf-rmcat-gcc-02, sections 5.5 and 6, in steps of a second: loss above 10% and a
 * queue that grows cut the rate, loss below 2% lets it grow.
 */
#include "rtc_rate.h"

enum { FLOOR = 150000, TOP = 20000000 };

int rtc_rate_next(rtc_rate *r, const rtc_report *report)
{
    double now = r->bits ? r->bits : report->sent;
    if (report->sent < FLOOR / 4)
        return r->bits; /* too little was sent to learn from */
    if (report->lost > 0.1)
        now = report->sent * (1 - 0.5 * report->lost);
    else if (report->delay_trend > 1 && report->received < 0.95 * report->sent)
        now = 0.85 * report->received;
    else if (report->lost < 0.02 && r->bits)
        now *= 1.08;
    else
        return r->bits;
    if (now > TOP)
        r->bits = 0;
    else
        r->bits = now < FLOOR ? FLOOR : (int)now;
    return r->bits;
}
