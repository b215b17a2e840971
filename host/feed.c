/* feed.c - feeding test frames to an instance; see feed.h. */
#include "feed.h"

#include <stdlib.h>

enum { STEP_US = 40000 };

/* Noise in the valid range, the same for the same seed. */
static void fill(const scope_video *v, unsigned seed)
{
    size_t n = (size_t)v->t * (size_t)v->h * (size_t)v->w * (size_t)v->c;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u; /* the constants of Numerical Recipes */
        unsigned byte = seed >> 24;
        if (v->dtype == SCOPE_U8)
            ((uint8_t *)v->data)[i] = (uint8_t)byte;
        else if (v->dtype == SCOPE_F16)
            ((uint16_t *)v->data)[i] = (uint16_t)(byte * 0x3c00 / 255); /* 0x3c00 is 1.0 */
        else
            ((float *)v->data)[i] = (float)byte / 255;
    }
}

int feed(job *k)
{
    scope_video shape = *instance_want(k->in);
    shape.h = shape.h ? shape.h : k->h;
    shape.w = shape.w ? shape.w : k->w;
    shape.c = shape.c ? shape.c : 3;
    k->last = NULL;
    for (int i = 0; i < k->frames; i++) {
        frame *input = NULL, *output;
        int64_t pts_us = (int64_t)i * STEP_US;
        if (shape.t && !(input = frame_new(k->pool, &shape, &k->err)))
            return k->err.status;
        if (input) {
            fill(&input->v, (unsigned)i);
            input->v.pts_us = pts_us;
            input->duration_us = STEP_US;
        }
        if (input && k->guard)
            guard_read_only(k->guard, input->v.data);
        instance_set_time(k->in, pts_us);
        int status = instance_process(k->in, input, &output, &k->err);
        frame_unref(input);
        if (status < 0)
            return status;
        if (k->ms)
            k->ms[i] = instance_last_ms(k->in);
        frame_unref(k->last);
        k->last = output;
    }
    return SCOPE_OK;
}

int feed_and_drop(job *k)
{
    int status = feed(k);
    frame_unref(k->last);
    k->last = NULL;
    return status;
}
