/* osc.h - Open Sound Control in and out: every parameter is an address. Over liblo.
 *
 * /scope/PARAM          values of the first stream: the first plugin that has the parameter
 * /scope/ID/PARAM       of the stream with this id or name; /scope/ID/LINK/PARAM of one plugin
 * /scope/list           answers with /scope/param, one for each: address, type, range, value
 * /scope/subscribe      this sender (or this port of its host, an integer) is told every change
 *                       from here on; again within 60 s
 * /scope/unsubscribe    ends it, for this sender or this port of its host
 *
 * Refusals are answered with /scope/error: the address, and why. Lists go by index:
 * /scope/prompts/0/weight. [main]
 */
#ifndef OSC_OSC_H
#define OSC_OSC_H

#include "../live/live.h"

typedef struct osc osc;

/* NULL with *err ("the OSC port 9000 is in use"). */
osc *osc_open(live *l, const char *listen, int port, scope_error *err);
/* Can the port be had? Negative with *err, as of osc_open. */
int osc_check(const char *listen, int port, scope_error *err);
void osc_close(osc *o); /* NULL is fine */
int osc_port(const osc *o);

typedef struct osc_stats {
    int64_t messages, refused;
    int subscribers;
} osc_stats;
void osc_stats_now(const osc *o, osc_stats *stats);

#endif
