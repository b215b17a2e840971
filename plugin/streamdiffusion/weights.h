/* weights.h - the tensors of one network of a checkpoint, asked for by name and shape.
 *
 * A network asks for each weight once while it is built. A tensor that is missing or has another
 * shape is noted, not fatal, so that one report names them all; weights_finish then says whether
 * the network may be used. Several safetensors files (shards) make one set.
 */
#ifndef SD_WEIGHTS_H
#define SD_WEIGHTS_H

#include "kernels/kernels.h"
#include "scope_plugin.h"

typedef struct weights weights;

/* Open a network: of a folder (".../unet") diffusion_pytorch_model or model, plain or .fp16/.bf16
 * variant, one file or shards with an index; or of a single file, LDM's names and today's alike.
 * `label` names it in messages, and says which part of a file is meant: "unet", "text_encoder",
 * "text_encoder_2", "vae", "taesd". NULL on failure. [load] */
weights *weights_open(k_device *device, const char *path, const char *label, scope_error *err);
/* A set that holds no data but records what is asked for: the way a random checkpoint of any
 * config is written (tests/tools). Every request succeeds with a weight of zeros. */
weights *weights_open_recorder(k_device *device, const char *label, scope_error *err);
void weights_close(weights *w); /* frees every k_weight it gave out */

/* What is asked for from now on runs once in a while: it stays in the file's type and place. */
void weights_rare(weights *w);

/* Only names, shapes and types are looked at: what is given out must not be run. */
void weights_check_only(weights *w);

/* Does the set have this tensor (full name)? */
int weights_has(const weights *w, const char *name);

/* name.weight (and name.bias). `bias`: 1 required, 0 none. The name is built printf-style by the
 * caller. Never NULL unless the set is already in failure; finish tells. */
const k_weight *weights_conv(weights *w, const char *name, int out, int in, int k, int bias);
const k_weight *weights_linear(weights *w, const char *name, int out, int in, int bias);
/* Stacked along the outputs: joined Q, K, V. `out` is of each part. */
const k_weight *weights_joined(weights *w, const char *const *names, int parts, int out, int in,
                               int bias);
/* A norm: weight and bias [c]. */
const k_weight *weights_norm(weights *w, const char *name, int c);
/* A table [rows, c] under its full tensor name. */
const k_weight *weights_table(weights *w, const char *name, int rows, int c);

/* A matrix or filter that the set gave out, under its name in the file; the parts of a joined
 * weight are one each. Sizes are of the part; a filter is k x k. */
typedef struct weights_module {
    const char *name; /* borrowed from the set, without ".weight" */
    k_weight *weight;
    int part, out, in, k;
} weights_module;

/* Module i in the order asked; 0 past the last, and of NULL. */
int weights_module_at(const weights *w, int i, weights_module *m);

/* Request i of a recorder, in the order asked: its full tensor name and shape, borrowed from w.
 * Returns 0 past the last. */
int weights_recorded(const weights *w, int i, const char **name, int *ndim, const int64_t **dim);

/* 0 when every request was met; else *err names the first missing or mis-shaped tensors with both
 * shapes, and how many. Tensors that nobody asked for are logged through host (may be NULL). */
int weights_finish(weights *w, const scope_host *host, scope_error *err);
/* Prepared forms exist now: the mapped pages may go. */
void weights_release_pages(weights *w);

#endif
