/* scope_abi.h - the contract between the host and a plugin. Types only, no functions.
 *
 * A plugin is a shared library that exports one object, `scope_entry`. Read this
 * file from the bottom up: scope_library, scope_plugin, scope_host, then the data.
 *
 * Ownership  The host owns every frame; the plugin owns every weight.
 * Errors     0 is success. A negative scope_status is failure; the callee fills *err.
 * Strings    UTF-8, NUL-terminated.
 * Threads    [scan]   static data, read before any plugin code runs
 *            [load]   the host's loader thread; may block for minutes
 *            [frame]  the host's frame thread; no file I/O, no allocation once warm
 *            [any]    any thread, concurrently
 *            For one instance, [load] and [frame] calls never overlap.
 *            Two instances may run in parallel.
 * Stability  SCOPE_ABI 0 may still change. With 1 every struct here is frozen: a new
 *            feature is a new extension id ("scope.audio/1"), never a new field.
 */
#ifndef SCOPE_ABI_H
#define SCOPE_ABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SCOPE_ABI    0u
#define SCOPE_EXPORT __attribute__((visibility("default")))

/* ---- data ------------------------------------------------------------------ */

/* No enum below uses 0 for a real choice: zeroed memory is never valid by accident. */
enum scope_dtype { SCOPE_U8 = 1, SCOPE_F16 = 2, SCOPE_F32 = 3 };
enum scope_device { SCOPE_CPU = 1, SCOPE_CUDA = 2 };
enum scope_level { SCOPE_DEBUG = 1, SCOPE_INFO, SCOPE_WARN, SCOPE_ERROR };
enum scope_type {
    SCOPE_NULL = 1,
    SCOPE_BOOL,
    SCOPE_INT,
    SCOPE_NUM,
    SCOPE_STR,
    SCOPE_LIST,
    SCOPE_OBJ
};

enum scope_status {
    SCOPE_OK = 0,
    SCOPE_EINVAL = -1, /* a combination the schema cannot rule out; err->field names it */
    SCOPE_ENOMEM = -2,
    SCOPE_EIO = -3,     /* weights missing or malformed */
    SCOPE_EDEVICE = -4, /* the device is lost: the host finishes this instance */
    SCOPE_ECANCEL = -5, /* host->cancelled() said so */
};

/* Filled by whoever returns a negative status. Caller-owned, so no errno, no globals. */
typedef struct scope_error {
    int32_t status; /* scope_status */
    char field[60]; /* schema field at fault, or "" */
    char text[192]; /* one sentence for a person, no trailing newline */
} scope_error;

/* A video tensor, T x H x W x C. U8 is 0..255 and floats are 0..1, sRGB, RGB(A) order. */
typedef struct scope_video {
    int32_t t, h, w, c;         /* c is 1, 3 or 4 */
    int32_t dtype;              /* scope_dtype */
    int32_t device;             /* scope_device */
    int64_t stride_t, stride_h; /* bytes; w and c are dense */
    int64_t pts_us;             /* time of frame 0; an output inherits its input's */
    void *data;
    void *stream; /* the cudaStream_t that orders access; NULL on the CPU */
} scope_video;

typedef struct scope_value {
    const char *name; /* field name; NULL inside a list */
    int32_t type;     /* scope_type */
    int32_t count;    /* entries when LIST or OBJ */
    union {
        int64_t i;                    /* BOOL, INT */
        double f;                     /* NUM */
        const char *s;                /* STR */
        const struct scope_value *at; /* LIST, OBJ */
    } u;
} scope_value;

/* Holds every field of the schema once, in schema order, type-checked, in range, with
 * defaults applied. A plugin never re-validates and never repeats a default.
 * Valid until the call returns. */
typedef struct scope_kwargs {
    uint64_t generation; /* changes when any value changes: cache on it */
    int32_t count;
    const scope_value *at;
} scope_kwargs;

/* ---- the host, as a plugin sees it ------------------------------------------ */

typedef struct scope_host scope_host;
struct scope_host {
    uint32_t abi;
    const char *version; /* of the host, for logs */
    void *ctx;           /* the host's; hands off */

    /* One line of log, no newline. [any] */
    void (*log)(const scope_host *host, int level, const char *line);

    /* Set t, h, w, c, dtype and device; the host fills in the rest, with the input's time.
     * The frame stays the host's: never free it, never keep it after process() returns.
     * [frame] */
    int (*video)(const scope_host *host, scope_video *v, scope_error *err);

    /* Report loading progress, 0..1, and a phase such as "unet". [load] */
    void (*progress)(const scope_host *host, double done, const char *phase);

    /* Nonzero once the user gave up: return SCOPE_ECANCEL soon. [any] */
    int (*cancelled)(const scope_host *host);

    /* A host extension by id, or NULL. Valid until fini() returns. [any] */
    const void *(*extension)(const scope_host *host, const char *id);
};

/* ---- the plugin, as the host sees it ----------------------------------------- */

typedef struct scope_plugin {
    const char *id;      /* "org.example.invert", unique, never changes [scan] */
    const char *version; /* of the plugin, semver [scan] */
    const char *schema;  /* JSON text; see schema/README.md [scan] */

    /* Load weights and build an instance. `want` arrives as one U8 CPU frame of any size;
     * change it to what process() should be fed: t = 0 for a generator, h and w to have
     * the host resize, c = 0 to take whatever channels each input has, alpha included. On failure
     * *self is ignored and fini() is not called. [load] */
    int (*init)(const scope_host *host, const scope_kwargs *kw, scope_video *want, void **self,
                scope_error *err);

    /* One call per frame, or per `want.t` frames. `in` is NULL for a generator, which finds
     * its time in out->pts_us. Leave out->data NULL to emit nothing this time; `*out = *in`
     * returns the input as it is, without a copy. On failure the host drops the frame and
     * carries on, except after SCOPE_EDEVICE. [frame] */
    int (*process)(void *self, const scope_kwargs *kw, const scope_video *in, scope_video *out,
                   scope_error *err);

    /* Forget history (latents, noise, caches), keep weights. NULL if stateless. [frame] */
    void (*reset)(void *self);

    /* Free the instance. Called once for each init() that returned 0. [load] */
    void (*fini)(void *self);

    /* A plugin extension by id, or NULL. May itself be NULL. [any] */
    const void *(*extension)(const char *id);
} scope_plugin;

/* The one exported symbol. The host compares abi before it reads or calls anything else. */
typedef struct scope_library {
    uint32_t abi;                       /* SCOPE_ABI */
    const scope_plugin *const *plugins; /* NULL-terminated */
} scope_library;

SCOPE_EXPORT extern const scope_library scope_entry; /* [scan] */

/* ---- extensions ------------------------------------------------------------- */

/* Plugin extension SCOPE_STAGES: where the time of the last process() call went. */
#define SCOPE_STAGES "scope.stages/1"

typedef struct scope_stage {
    const char *name; /* "encode", "unet"; static */
    double ms;        /* of the last process() call that ran this stage; 0 if none did */
} scope_stage;

typedef struct scope_stages {
    /* Fill at most `max` entries; return how many there are. [frame] */
    int32_t (*last)(void *self, scope_stage *stages, int32_t max);
} scope_stages;

/* Plugin extension SCOPE_LATENCY: a plugin that works on several frames at once answers late. */
#define SCOPE_LATENCY "scope.latency/1"

typedef struct scope_latency {
    /* How many frames before the input of the last process() call its output was taken in; 0 when
     * it shows that input. May change with the parameters. While a stream is too short for it, the
     * output is a whole picture of some frame since, never an unfinished one. [frame] */
    int32_t (*frames)(void *self);
} scope_latency;

/* Host extension SCOPE_LIVE: is somebody watching the frames as they are made? Then a plugin may
 * let a slow change of parameters (a text to be encoded) take effect some frames late rather than
 * hold a frame up. Where the host has no such extension, or the answer is 0, every frame shows
 * exactly the parameters that it is given: the same run makes the same frames. */
#define SCOPE_LIVE "scope.live/1"

typedef struct scope_live {
    /* 1 live, 0 not; may change from one frame to the next. [load] or [frame] */
    int32_t (*now)(const scope_host *host);
} scope_live;

/* Plugin extension SCOPE_REPEATS: frames that repeat an earlier result instead of making one. */
#define SCOPE_REPEATS "scope.repeats/1"

typedef struct scope_repeats {
    int64_t (*count)(void *self); /* since init() [frame] */
} scope_repeats;

/* Plugin extension SCOPE_PLAN: what the plugin measured on this machine and chose by it, for
 * people. */
#define SCOPE_PLAN "scope.plan/1"

typedef struct scope_plan {
    /* Call line() for each line of text, UTF-8 with no newline, which it copies; not at all where
     * there was nothing to choose. After the last process() call. [frame] */
    void (*tell)(void *self, void (*line)(void *ctx, const char *text), void *ctx);
} scope_plan;

/* SCOPE_INPUTS: inputs beside the one that process() is given, by name. The plugin extension says
 * which names the plugin knows; the host extension gives what the host has. */
#define SCOPE_INPUTS "scope.inputs/1"

typedef struct scope_input_names {
    const char *const *names; /* NULL-terminated, static [scan] */
} scope_input_names;

typedef struct scope_inputs {
    /* The frame of that input which belongs to the process() call under way, or NULL where there
     * is none: U8, of any size and channels, the host's until the call returns. [frame] */
    const scope_video *(*get)(const scope_host *host, const char *name);
} scope_inputs;

/* Plugin extension SCOPE_MODEL: what a file or folder is to this plugin, without loading it. */
#define SCOPE_MODEL "scope.model/1"

typedef struct scope_model {
    /* A JSON object, to be given back with release:
     *   path      where it was found          kind   "file" or "folder"
     *   usable    can it be loaded as it is?  reason why not, a sentence
     *   family    "SDXL", "a LoRA", ...       prediction "epsilon", "v" or "sample"
     *   parts     [{part, path, tensors, parameters, bytes, types {"F16": n}, problem?}]
     *   missing   [{part, remedy}]
     * reason, family and prediction are absent where there is none. NULL and *err when there is
     * nothing at `path`. [any] */
    char *(*inspect)(const char *path, scope_error *err);
    void (*release)(char *text);
} scope_model;

#ifdef __cplusplus
}
#endif
#endif
