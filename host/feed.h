/* feed.h - feeding test frames to an instance: what every judgement on a running plugin does. */
#ifndef HOST_FEED_H
#define HOST_FEED_H

#include "guard.h"
#include "instance.h"

typedef struct job {
    instance *in;
    frame_pool *pool;
    guard *guard; /* when the pool is over one: inputs are made read-only */
    int w, h;     /* of the input, where the plugin does not insist */
    int frames;
    frame *last; /* out: the last output, referenced, or NULL */
    double *ms;  /* out: the time of each frame; may be NULL */
    scope_error err;
} job;

/* Feed `frames` frames of noise, the same ones each time, 40 ms apart; 0 or the status of the first
 * that failed. The caller unrefs k->last. [frame] */
int feed(job *k);
/* The same when nobody looks at the result. [frame] */
int feed_and_drop(job *k);

#endif
