/* wire.h - messages between the server and a worker process.
 *
 * Over a SOCK_STREAM socketpair: a header, its payload, and perhaps one file descriptor. Both ends
 * are the same program, so structs go as they are; what comes in is checked all the same, because
 * plugin code shares the worker's memory. Receiving is for one thread at a time; sending is [any].
 */
#ifndef WORKER_WIRE_H
#define WORKER_WIRE_H

#include "../../plugin/scope_abi.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum wire_kind {
    /* to the worker */
    WIRE_OPEN = 1, /* JSON {path, id, values, generation, fit} */
    WIRE_CLOSE,
    WIRE_SET,    /* JSON {values, generation} */
    WIRE_RESET,  /* - */
    WIRE_INPUT,  /* wire_input, a region */
    WIRE_REGION, /* a region for what follows; both ways */
    WIRE_FRAME,  /* wire_frame */
    /* from the worker */
    WIRE_PROGRESS, /* JSON {done, phase} */
    WIRE_READY,    /* JSON {want, values, generation} */
    WIRE_FAILED,   /* scope_error: init() did not succeed */
    WIRE_RESULT,   /* wire_result */
    WIRE_VALUES,   /* JSON {values, generation, error} */
    WIRE_LOG,      /* JSON {level, line} */
    WIRE_KINDS
};

/* A picture in a region. */
typedef struct wire_picture {
    int32_t h, w, c, dtype; /* h is 0 where there is no picture */
    int64_t pts_us, duration_us;
    uint64_t offset;
} wire_picture;

typedef struct wire_frame {
    uint64_t serial;
    wire_picture in; /* without one, pts_us and duration_us are a generator's */
} wire_frame;

typedef struct wire_input {
    char name[64];
    wire_picture in;
} wire_input;

typedef struct wire_result {
    uint64_t serial;
    wire_picture out; /* h is 0 where none is sent */
    int32_t same;     /* 1: the input as it is, which need not be sent back */
    double process_ms;
    int64_t repeated;
    int32_t latency;
    scope_error err; /* status 0: none */
} wire_result;

/* How a line on stderr begins that tells why the process is about to crash. */
#define WIRE_LAST_WORDS "scope worker: "

typedef struct wire wire;

typedef struct wire_message {
    enum wire_kind kind;
    uint32_t instance;
    const char *payload; /* borrowed until the next wire_fill or wire_next; followed by a NUL */
    size_t bytes;
    int fd; /* the receiver's to close, -1 when none came */
} wire_message;

/* Takes the socket. `wait`: senders wait for room; else what finds none is kept for wire_flush. */
wire *wire_new(int socket, bool wait);
void wire_free(wire *w);

/* Read once; waits for something when the wire was made to. 1 when something came, 0 when there was
 * nothing, -1 at the end. */
int wire_fill(wire *w);
/* 1: the next whole message is in *m; 0: there is none yet; -1: nonsense came. */
int wire_next(wire *w, wire_message *m);

/* `fd` stays the caller's; -1 for none. False when the other end is gone. */
bool wire_send(wire *w, enum wire_kind kind, uint32_t instance, const void *payload, size_t bytes,
               int fd);
bool wire_send_json(wire *w, enum wire_kind kind, uint32_t instance, json_t *payload); /* stolen */
bool wire_flush(wire *w);                 /* send what is kept; false when the other end is gone */
bool wire_is_behind(wire *w);             /* something is kept: the other end does not read */
void wire_end(wire *w);                   /* nothing more is sent: the other end sees the end */
json_t *wire_json(const wire_message *m); /* an object, new reference; NULL: nonsense */

/* Bytes that a picture takes, 0 when it is none or makes no sense. */
size_t wire_picture_bytes(const wire_picture *p);

#endif
