/* sink_kind.h - what the kinds of sink share. Only sink*.c see this. */
#ifndef MEDIA_SINK_KIND_H
#define MEDIA_SINK_KIND_H

#include "sink.h"

typedef struct sink_kind {
    int channels; /* that frames are converted to; 0 keeps those of the first frame */
    bool audio;
    bool file;                               /* writes one file, through the part file */
    int (*check)(sink *s, scope_error *err); /* before any work: encoder, name; may be NULL */
    int (*begin)(sink *s, const scope_video *first, scope_error *err);
    int (*write)(sink *s, frame *f, scope_error *err);
    int (*audio_write)(sink *s, GstBuffer *sound, scope_error *err); /* NULL unless audio */
    void (*audio_end)(sink *s);
    int (*finish)(sink *s, scope_error *err); /* may be NULL */
    void (*close)(sink *s);                   /* NULL state is fine */
} sink_kind;

struct sink {
    const sink_kind *kind;
    sink_options opt;
    char *path, *part;  /* owned; part NULL unless a file is being written */
    int fd;             /* owned; of the part file, or stdout, or -1 */
    char *ending;       /* owned; lower case, "mp4" */
    converter *convert; /* owned */
    scope_video shape;  /* what is written: of the first frame */
    int64_t frames, last_us;
    char note[160];
    void *state; /* the kind's, owned */
};

extern const sink_kind sink_movie, sink_pictures, sink_y4m;

/* Time of a frame in the output, later than all before it. */
GstClockTime sink_time(sink *s, const frame *f);
/* Write all bytes to s->fd. */
int sink_put(sink *s, const void *bytes, gsize n, scope_error *err);

#endif
