/* run_options.h - the command line of `scope run`. */
#ifndef HOST_RUN_OPTIONS_H
#define HOST_RUN_OPTIONS_H

#include "media/convert.h"
#include "run_params.h"

typedef struct run_options {
    run_plugins plugins;
    const char *input;       /* borrowed from argv; NULL for a generator */
    char *output;            /* owned; never NULL after parsing */
    char *sheet, *keyframes; /* owned; or NULL */
    char **extras;           /* owned; --input NAME=FILE, or NULL */
    int fps_n, fps_d;        /* 0 when not given */
    int width, height;       /* 0 when not given */
    enum media_fit fit;
    double start;
    int64_t frames; /* -1 when not given */
    bool json, quiet, overwrite, live;
} run_options;

/* True to go on; else *code is what to exit with (help was printed, or the fault told). */
bool run_options_parse(run_options *o, int argc, char **argv, int *code);
void run_options_fini(run_options *o);

/* An error on stderr, with the parameter at fault where the sentence does not name it; returns
 * `code`. */
int run_complain(int code, const scope_error *err);

/* The parts of values, for tests: "640x360", "29.97" or "30000/1001". */
bool run_parse_size(const char *text, int *w, int *h);
bool run_parse_fps(const char *text, int *n, int *d);
/* "clip.mp4" and "org.example.invert" make "clip-invert.mp4", in the current folder; owned by the
 * caller. */
char *run_output_name(const char *input, const run_plugins *plugins);

#endif
