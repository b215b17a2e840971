/* progress.h - how a run tells what it does: one line on a terminal, JSON lines, or nothing. */
#ifndef HOST_PROGRESS_H
#define HOST_PROGRESS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct progress_counts {
    int64_t total;    /* frames to come in all, about; -1 when unknown */
    int64_t read;     /* frames of the input */
    int64_t written;  /* frames of the output */
    int64_t repeated; /* of them, the same as before: the plugins spared the work */
    int64_t skipped;  /* the plugins emitted nothing for them */
    int64_t failed;   /* a plugin failed on them */
    int64_t dropped;  /* of a live input, while busy */
} progress_counts;

enum progress_mode { PROGRESS_QUIET = 1, PROGRESS_TEXT, PROGRESS_JSON };

typedef struct progress {
    enum progress_mode mode;
    FILE *out;                 /* borrowed */
    bool line;                 /* `out` is a terminal: keep one line up to date */
    bool open;                 /* the line stands there */
    int64_t start_us, told_us; /* monotonic */
} progress;

/* `line`: `out` is a terminal. `about` (may be NULL) goes into the JSON event "start". */
void progress_start(progress *p, enum progress_mode mode, FILE *out, bool line, const json_t *about,
                    int64_t now_us);
/* Loading is over: count the time of frames from here. */
void progress_begin(progress *p, int64_t now_us);
/* A phase before the first frame: "unet", 0..1. */
void progress_load(progress *p, double done, const char *phase, int64_t now_us);
/* Told at most ten times a second on a terminal, once a second as JSON. */
void progress_tick(progress *p, const progress_counts *c, int64_t now_us);
/* The summary: `output` was written, or failed with `error` (NULL: it did not). */
void progress_end(progress *p, const progress_counts *c, const char *output, const char *error,
                  int64_t now_us);
/* Make room on the terminal for a line of something else. */
void progress_clear(progress *p);

/* The text of the line, without ends. */
void progress_line(char *line, size_t size, const progress_counts *c, double seconds);

#endif
