/* bypass.h - how much of the result shows while `enabled` is switched off and on. */
#ifndef SD_BYPASS_H
#define SD_BYPASS_H

/* Zeroed at first. */
typedef struct bypass {
    double shown;
    int begun;
} bypass;

/* The share of the result in the next frame, 1 all, 0 none: it moves by 1/frames towards `enabled`,
 * from wherever it is; at once where frames is 0, and on the first call. [frame] */
double bypass_step(bypass *b, int enabled, int frames);

#endif
