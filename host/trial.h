/* trial.h - the judgements that call into the plugin, and what they share with judge.c. */
#ifndef HOST_TRIAL_H
#define HOST_TRIAL_H

#include "guard.h"
#include "instance.h"

typedef struct judge {
    int report;       /* descriptor */
    unsigned limit_s; /* for each thing the plugin is asked */
    const char *path, *id;
    json_t *values; /* owned; what replaces defaults */
    guard *guard;
    frame_pool *pool;  /* over guard; for one thread */
    frame_pool *plain; /* over the heap */
    instance *in;      /* the one on trial */
    double init_ms;
} judge;

/* From here on until the next call, this is what the plugin is doing, and blamed for. */
__attribute__((format(printf, 2, 3))) void judge_doing(const judge *j, const char *fmt, ...);
/* Report one judgement; `verdict` is "pass", "warn" or "fail". */
__attribute__((format(printf, 4, 5))) void judge_say(const judge *j, const char *verdict,
                                                     const char *name, const char *fmt, ...);

/* The trial: init, sizes, values, all of endure(), fini. */
void trial_run(judge *j);

/* What shows only over time: repeatability, memory, threads, speed. endure.c */
void endure(judge *j);

#endif
