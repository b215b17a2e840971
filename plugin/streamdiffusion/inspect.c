/* inspect.c - see inspect.h.
 *
 * A model is judged by the loader itself: its parts are found, and each network asks its weights
 * for every tensor, of which only names, shapes and types are looked at.
 */
#include "inspect.h"

#include "checkpoint.h"
#include "clip.h"
#include "parts.h"
#include "places.h"
#include "scheduler.h"
#include "taesd.h"
#include "tokenizer.h"
#include "unet.h"
#include "vae.h"
#include "weights_index.h"

#include <jansson.h>
#include <stdlib.h>
#include <sys/stat.h>

typedef struct inspection {
    parts parts;
    model_config config;
    k_device *device; /* owned; nothing is run on it */
    json_t *root, *list, *missing;
} inspection;

/* ---- numbers --------------------------------------------------------------------------------- */

/* Tensors, parameters, bytes and types of a part, into the object `o`. */
static int count(json_t *o, const char *path, const char *label, scope_error *err)
{
    weights_index x;
    json_int_t parameters = 0, bytes = 0;
    json_t *types = json_object();
    if (weights_index_open(&x, path, label, err)) {
        json_decref(types);
        return err->status;
    }
    for (int i = 0; i < x.count; i++) {
        const st_tensor *t = &x.entry[i].tensor;
        const char *type = st_dtype_name(t->dtype);
        json_int_t n = 1;
        for (int d = 0; d < t->ndim; d++)
            n *= t->dim[d];
        parameters += n;
        bytes += (json_int_t)t->bytes;
        json_object_set_new(types, type,
                            json_integer(json_integer_value(json_object_get(types, type)) + 1));
    }
    json_object_set_new(o, "tensors", json_integer(x.count));
    json_object_set_new(o, "parameters", json_integer(parameters));
    json_object_set_new(o, "bytes", json_integer(bytes));
    json_object_set_new(o, "types", types);
    weights_index_close(&x);
    return 0;
}

/* ---- does it fit ----------------------------------------------------------------------------- */

/* Build the network on weights that are only looked at. */
static int fits(const inspection *in, int part, scope_error *err)
{
    const model_config *c = &in->config;
    weights *w = weights_open(in->device, in->parts.at[part], parts_label(part), err);
    if (!w)
        return err->status;
    weights_check_only(w);
    if (part == PART_UNET) {
        unet *u = unet_open(w, &c->unet, err);
        unet_close(u);
    } else if (part == PART_VAE) {
        vae *v = vae_open(w, &c->vae, err);
        vae_close(v);
    } else if (part == PART_TAESD) {
        taesd *t = taesd_open(w, &c->taesd, err);
        taesd_close(t);
    } else {
        clip *t = clip_open(w, part == PART_TEXT ? &c->text : &c->text_2, err);
        clip_close(t);
    }
    if (!err->status)
        weights_finish(w, NULL, err);
    weights_close(w);
    return err->status;
}

static void refuse(inspection *in, const char *reason)
{
    json_object_set_new(in->root, "usable", json_false());
    if (!json_object_get(in->root, "reason"))
        json_object_set_new(in->root, "reason", json_string(reason));
}

static void add_part(inspection *in, int part)
{
    scope_error err = {0};
    json_t *o = json_pack("{ss ss}", "part", parts_label(part), "path", in->parts.at[part]);
    if (part == PART_TOKENIZER || part == PART_TOKENIZER_2) {
        tokenizer *t = tokenizer_open(in->parts.at[part], &err);
        tokenizer_close(t);
    } else if (!count(o, in->parts.at[part], parts_label(part), &err)) {
        fits(in, part, &err);
    }
    if (err.status) {
        json_object_set_new(o, "problem", json_string(err.text));
        refuse(in, err.text);
    }
    json_array_append_new(in->list, o);
}

static void add_missing(inspection *in, unsigned missing)
{
    static const char *const remedies[PARTS] = {
        [PART_TEXT] = "give the text encoder it was trained with: text_encoder_path",
        [PART_TEXT_2] = "give a checkpoint of SDXL that holds both text encoders",
        [PART_VAE] = "scope model get stabilityai/sd-vae-ft-mse, then give it as vae_path; or a "
                     "TAESD as taesd_path",
        [PART_TOKENIZER] = "scope model get clip-tokenizer",
    };
    for (int i = 0; i < PARTS; i++) {
        if (!(missing >> i & 1))
            continue;
        char reason[128];
        json_array_append_new(in->missing,
                              json_pack("{ss ss}", "part", parts_label(i), "remedy", remedies[i]));
        snprintf(reason, sizeof reason, "it has no %s of its own", parts_label(i));
        refuse(in, reason);
    }
}

/* ---- kinds ----------------------------------------------------------------------------------- */

/* The family of a config, in words. */
static const char *family(const model_config *c)
{
    return c->unet.text_time            ? "SDXL"
           : c->unet.time_cond_proj_dim ? "LCM"
           : c->unet.linear_projection  ? "Stable Diffusion 2.x"
                                        : "Stable Diffusion 1.x";
}

static void whole_model(inspection *in)
{
    static const char *const predictions[] = {
        [PREDICT_EPSILON] = "epsilon", [PREDICT_V] = "v", [PREDICT_SAMPLE] = "sample"};
    unsigned missing = 0;
    scope_error err = {0};
    if (parts_find(&in->parts, &in->config, &missing, &err))
        refuse(in, err.text);
    if (in->config.unet.blocks) {
        json_object_set_new(in->root, "family", json_string(family(&in->config)));
        json_object_set_new(in->root, "prediction",
                            json_string(predictions[in->config.scheduler.prediction]));
    }
    for (int i = 0; i < PARTS && !err.status; i++) {
        if (in->parts.at[i])
            add_part(in, i);
    }
    add_missing(in, missing);
}

/* One network of a file that is no whole model; 0 when the file is one. */
static int lone_part(inspection *in, const char *file)
{
    static const char *const uses[PARTS] = {[PART_UNET] = "unet_path",
                                            [PART_TEXT] = "text_encoder_path",
                                            [PART_VAE] = "vae_path",
                                            [PART_TAESD] = "taesd_path"};
    char why[256], reason[160];
    checkpoint is;
    scope_error err = {0};
    st_file *f = st_open(file, why);
    if (!f)
        return 0; /* the loader will say it */
    checkpoint_recognise(&is, f);
    st_close(f);
    json_object_set_new(in->root, "family", json_string(is.name));
    if (is.family != CHECKPOINT_PART)
        return 0;
    int part = is.unet ? PART_UNET : is.text ? PART_TEXT : is.vae ? PART_VAE : PART_TAESD;
    json_t *o = json_pack("{ss ss}", "part", parts_label(part), "path", file);
    count(o, file, parts_label(part), &err);
    json_array_append_new(in->list, o);
    snprintf(reason, sizeof reason, "it is %s, no whole model; give it as %s beside one", is.name,
             uses[part]);
    refuse(in, reason);
    return 1;
}

static char *finish(inspection *in, scope_error *err)
{
    char *text = json_dumps(in->root, JSON_COMPACT);
    if (!text)
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while looking at a model.");
    return text;
}

char *inspect_model(const char *path, scope_error *err)
{
    char why[K_WHY], *text = NULL;
    const char *const asked[ASKED] = {[ASKED_MODEL] = path};
    struct stat s;
    inspection in = {.list = json_array(), .missing = json_array()};
    in.device = k_device_open("cpu", &(k_device_options){.threads = 1}, why);
    if (!in.device) {
        scope_fail(err, SCOPE_EDEVICE, "%s", why);
    } else if (!parts_ask(&in.parts, asked, err)) {
        const char *at = in.parts.asked[ASKED_MODEL];
        int file = !stat(at, &s) && S_ISREG(s.st_mode);
        in.root =
            json_pack("{ss ss sb}", "path", at, "kind", file ? "file" : "folder", "usable", 1);
        if (!file || !lone_part(&in, at))
            whole_model(&in);
        json_object_set(in.root, "parts", in.list);
        json_object_set(in.root, "missing", in.missing);
        text = finish(&in, err);
    }
    json_decref(in.root);
    json_decref(in.list);
    json_decref(in.missing);
    parts_fini(&in.parts);
    if (in.device)
        k_device_close(in.device);
    return text;
}
