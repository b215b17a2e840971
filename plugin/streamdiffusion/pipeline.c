/* pipeline.c - see pipeline.h: plans and runs frames.
 *
 * One frame is written once, as encode, denoise (stream.c) and decode; planning runs the same
 * three. It reads the kept tensors that pipeline_set.c fills and nothing else.
 */
#include "pipeline_state.h"

#include "alloc.h"

#include <stdlib.h>
#include <time.h>

double pipeline_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* ---- one frame ------------------------------------------------------------------------------- */

static k_tensor latent_temp(pipeline *p, int n)
{
    return k_temp(p->k, K_F32, n, p->height / 8, p->width / 8, p->m->config.unet.in_channels);
}

static k_tensor picture_temp(pipeline *p)
{
    return k_temp(p->k, K_F32, 1, p->height, p->width, 3);
}

/* z = the latent of picture i of those that effects_begin made, unscaled */
static void encode(pipeline *p, int tiny, int i, k_tensor z)
{
    k_ctx *k = p->k;
    size_t mark = k_mark(k);
    k_tensor picture = net_image(effects_input(p->effects), i);
    if (tiny) {
        taesd_encode(k, p->m->taesd, z, picture, NULL);
    } else {
        k_tensor centred = picture_temp(p);
        K_CALL(k, affine, centred, picture, &(k_affine){2, -1, -1, 1});
        vae_encode(k, p->m->vae, z, centred, NULL);
    }
    k_release(k, mark);
}

/* To the effects: the picture of z as frame i; z is scaled for its autoencoder already. */
static void decode(pipeline *p, int tiny, int i, k_tensor z)
{
    k_ctx *k = p->k;
    size_t mark = k_mark(k);
    k_tensor picture = picture_temp(p);
    if (tiny)
        taesd_decode(k, p->m->taesd, picture, z, NULL);
    else
        vae_decode(k, p->m->vae, picture, z, NULL);
    effects_decoded(p->effects, i, picture, tiny ? 1.0f : 0.5f, tiny ? 0.0f : 0.5f);
    k_release(k, mark);
}

/* The part of `in` that becomes the frame: all of it, or the largest middle of the same shape. */
static k_image window(const pipeline *p, const k_image *in)
{
    k_image part = *in;
    if (p->fit == FIT_STRETCH)
        return part;
    int64_t wide = (int64_t)in->w * p->height, tall = (int64_t)in->h * p->width;
    if (wide > tall)
        part.w = (int32_t)((tall + p->height / 2) / p->height);
    else
        part.h = (int32_t)((wide + p->width / 2) / p->width);
    part.w = part.w < 1 ? 1 : part.w;
    part.h = part.h < 1 ? 1 : part.h;
    int64_t size = in->dtype == K_U8 ? 1 : in->dtype == K_F16 ? 2 : 4;
    part.data = (char *)in->data + (in->h - part.h) / 2 * in->stride_h +
                (in->w - part.w) / 2 * in->c * size;
    return part;
}

/* The latents that denoising starts from, in the stream's first rows. */
static void start(pipeline *p)
{
    k_tensor x = stream_entry(&p->stream);
    for (int i = 0; i < x.n && !p->from_text; i++)
        encode(p, p->tiny, i, net_image(x, i));
    if (!p->from_text)
        effects_latent_in(p->effects, x);
    stream_noise(p->k, &p->stream);
}

void pipeline_refresh_noise(pipeline *p)
{
    uint32_t epoch = p->noise_refresh ? (uint32_t)(p->frames / p->noise_refresh) : 0;
    p->counts.noises += noise_draw(p->k, &p->stream.noise, &p->seeds, epoch);
}

static int check_inputs(const pipeline *p, const k_image *in, const k_image *mask,
                        const k_image *out, scope_error *err)
{
    const k_image *given[] = {p->no_input ? NULL : in, mask};
    int frames = p->stream.plan.frames;
    if (!p->ready)
        return scope_fail(err, SCOPE_EINVAL, "The settings in force cannot make a frame.");
    if (!in && !p->no_input)
        return scope_fail_field(err, SCOPE_EINVAL, "input_mode",
                                "There is no input frame; give one, or set input_mode to text.");
    for (int i = 0; i < 2; i++) {
        if (given[i] && (given[i]->w > INPUT_MAX || given[i]->h > INPUT_MAX))
            return scope_fail(err, SCOPE_EINVAL,
                              "An input of %dx%d is too large; at most %d a side.",
                              (int)given[i]->w, (int)given[i]->h, INPUT_MAX);
    }
    if (out->t != frames || (given[0] && in->t != frames))
        return scope_fail_field(err, SCOPE_EINVAL, "frame_buffer_size",
                                "There are %d frames in the call; frame_buffer_size is %d.",
                                given[0] ? (int)in->t : (int)out->t, frames);
    return 0;
}

enum { STAMP_BEGIN, STAMP_ENCODED, STAMP_DENOISED, STAMP_END };

/* The networks' part of a call. */
static void make(pipeline *p)
{
    k_ctx *k = p->k;
    pipeline_refresh_noise(p);
    k_tensor d = latent_temp(p, stream_rows(&p->stream.plan));
    start(p);
    k_stamp(k, STAMP_ENCODED);
    k_tensor z = p->latent = stream_denoise(p, d);
    effects_latent_out(p->effects, z);
    k_stamp(k, STAMP_DENOISED);
    for (int i = 0; i < z.n; i++)
        decode(p, p->tiny, i, net_image(z, i));
    p->frames += z.n;
}

/* The device's own times, of a frame that is complete. */
static void note_times(pipeline *p)
{
    const k_ctx *k = p->k;
    double at[] = {k_stamp_ms(k, STAMP_BEGIN), k_stamp_ms(k, STAMP_ENCODED),
                   k_stamp_ms(k, STAMP_DENOISED), k_stamp_ms(k, STAMP_END)};
    if (!p->from_text)
        p->ms[STAGE_ENCODE] = at[1] - at[0];
    p->ms[STAGE_UNET] = at[2] - at[1];
    p->ms[STAGE_DECODE] = at[3] - at[2];
}

/* The texts of this call, in an arena that is empty before and after; a change of them is seen in
 * it. */
static void advance_texts(pipeline *p)
{
    double t0 = pipeline_now_ms();
    int changed = conditioning_advance(p->text);
    k_release(p->k, 0);
    pipeline_renew_time(p);
    if (!changed)
        return;
    p->ms[STAGE_TEXT] = pipeline_now_ms() - t0;
    effects_refresh(p->effects);
}

int pipeline_frame(pipeline *p, const k_image *in, const k_image *out, scope_error *err)
{
    k_ctx *k = p->k;
    k_image part = {0}, mask = {0};
    const k_image *given = p->mask;
    double shown = p->shown;
    pipeline_with(p, NULL, 1);
    if (check_inputs(p, in, given, out, err))
        return err->status;
    advance_texts(p);
    double t0 = pipeline_now_ms();
    if (!p->no_input)
        part = window(p, in);
    if (given)
        mask = window(p, given);
    k_stamp(k, STAMP_BEGIN);
    int spared = effects_begin(p->effects, p->no_input ? NULL : &part, given ? &mask : NULL, shown);
    if (!spared)
        make(p);
    k_stamp(k, STAMP_END);
    if (effects_finish(p->effects, out))
        p->stream.filled = 0; /* the next frame begins a stream */
    if (!spared && !k->status)
        note_times(p);
    p->ms[STAGE_FRAME] = pipeline_now_ms() - t0;
    if (!k->status)
        return 0;
    p->ready = 0;
    return scope_fail(err, SCOPE_ENOMEM, "The frame failed: %.150s", k->where);
}

void pipeline_with(pipeline *p, const k_image *mask, double shown)
{
    p->mask = mask;
    p->shown = shown;
}

int64_t pipeline_repeats(const pipeline *p)
{
    return effects_repeats(p->effects);
}

void pipeline_reset(pipeline *p)
{
    p->stream.filled = 0;
    p->frames = 0;
    effects_reset(p->effects);
    conditioning_reset(p->text);
}

/* ---- planning -------------------------------------------------------------------------------- */

static void plan_text(pipeline *p)
{
    k_ctx *k = p->k;
    conditioning_plan(p->text);
    added_plan(k, p->m, &p->wanted);
    unet_time(k, p->m->unet, net_image(p->time, 0), p->timestep, p->guidance, p->wanted.row, NULL);
}

static void drop_pages(void *m)
{
    model_release_pages(m);
}

/* Layer by layer, so that never all of the file and all of its prepared forms are in memory
 * together; then whole passes. */
static void plan_unet(pipeline *p)
{
    k_tensor x = latent_temp(p, 1), y = latent_temp(p, 1);
    unet_plan(p->k, p->m->unet, y, x, net_image(p->time, 0), conditioning_wanted(p->text),
              drop_pages, (void *)(uintptr_t)p->m);
    k_release(p->k, 0);
    stream_plan_passes(p, latent_temp(p, p->rows));
}

/* The autoencoders that were asked for: the large one costs a gigabyte or two, so it waits until
 * use_taesd is first off. And the largest input, because inputs may change their size from one
 * frame to the next. */
static void plan_coders(pipeline *p)
{
    k_image largest = {.dtype = K_F32, .t = 1, .h = INPUT_MAX, .w = INPUT_MAX, .c = 4};
    k_tensor d = latent_temp(p, p->rows), z = net_image(d, 0);
    effects_plan(p->effects, &largest);
    for (int tiny = 0; tiny < 2; tiny++) {
        if (p->coders >> tiny & 1) {
            encode(p, tiny, 0, z);
            decode(p, tiny, 0, z);
        }
    }
}

static const struct {
    const char *phase;
    double done; /* share of the load, when it begins */
    void (*run)(pipeline *p);
} plans[] = {{"preparing the text encoder", 0.12, plan_text},
             {"preparing the autoencoder", 0.25, plan_coders},
             {"preparing the UNet", 0.35, plan_unet}};

int pipeline_plan(pipeline *p, const scope_host *host, int width, int height, scope_error *err)
{
    int cancelled = 0;
    p->width = width;
    p->height = height;
    p->counts.plans++;
    k_plan_begin(p->k);
    for (size_t i = 0; i < sizeof plans / sizeof *plans && !cancelled; i++) {
        if (host)
            host->progress(host, plans[i].done, plans[i].phase);
        plans[i].run(p);
        k_release(p->k, 0);
        model_release_pages(p->m);
        cancelled = host && host->cancelled(host);
    }
    if (!k_plan_end(p->k) && !cancelled)
        return 0;
    p->width = p->height = 0;
    if (cancelled)
        return scope_fail(err, SCOPE_ECANCEL, "Loading was cancelled.");
    return scope_fail_field(err, SCOPE_ENOMEM, "width", "%dx%d cannot be prepared: %.130s", width,
                            height, p->k->where);
}

/* ---- life ------------------------------------------------------------------------------------ */

pipeline *pipeline_open(const model *m, scope_error *err)
{
    char why[K_WHY] = "";
    pipeline *p = sd_calloc(1, sizeof *p);
    if (!p) {
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while opening the pipeline.");
        return NULL;
    }
    p->m = m;
    p->k = k_open(m->device, why);
    if (!p->k)
        scope_fail(err, SCOPE_ENOMEM, "%.180s", why);
    else
        p->text = conditioning_open(p->k, m, err);
    if (!p->text) {
        pipeline_close(p);
        return NULL;
    }
    p->shown = 1;
    p->effects = effects_open(p->k, err);
    p->timestep = k_keep(p->k, K_F32, 1, 1, 1, 1);
    if (unet_has_guidance(m->unet))
        p->guidance = k_keep(p->k, K_F32, 1, 1, 1, 1);
    if (!p->effects || added_init(p->k, m, &p->wanted) || added_init(p->k, m, &p->unwanted) ||
        p->k->status) {
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while opening the pipeline. %s", p->k->where);
        pipeline_close(p);
        return NULL;
    }
    return p;
}

void pipeline_close(pipeline *p)
{
    if (!p)
        return;
    if (p->k) {
        stream_fini(p->k, &p->stream);
        effects_close(p->effects);
        added_fini(p->k, &p->wanted);
        added_fini(p->k, &p->unwanted);
        k_tensor *kept[] = {&p->timestep, &p->guidance, &p->time, &p->unwanted_time};
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
            k_drop(p->k, kept[i]);
    }
    conditioning_close(p->text);
    k_close(p->k);
    free(p);
}

int pipeline_ready(const pipeline *p)
{
    return p->ready;
}

void pipeline_size(const pipeline *p, int *width, int *height)
{
    *width = p->width;
    *height = p->height;
}

int pipeline_latency(const pipeline *p)
{
    return stream_latency(&p->stream.plan);
}

/* What can be done about frames that were lost. */
static const char *notice_lost(const pipeline *p, unsigned lost)
{
    int other = p->tiny ? p->m->vae != NULL : p->m->taesd != NULL;
    if (lost & EFFECTS_LOST_LATENT) /* the large autoencoder may have made it so, too */
        return p->tiny || !other
                   ? "A frame was left out because its latent had values that are not finite; "
                     "lower guidance_scale or the strength of a LoRA."
                   : "A frame was left out because its latent had values that are not finite; "
                     "lower guidance_scale or the strength of a LoRA, or switch use_taesd on.";
    if (!other)
        return "A frame was left out because the autoencoder made values of it that are not "
               "finite; give another one with vae_path or taesd_path.";
    return p->tiny ? "A frame was left out because TAESD made values of it that are not finite; "
                     "switch use_taesd off."
                   : "A frame was left out because the autoencoder made values of it that are not "
                     "finite; switch use_taesd on.";
}

const char *pipeline_notice(const pipeline *p)
{
    unsigned lost = effects_lost(p->effects);
    if (lost)
        return notice_lost(p, lost);
    const char *text = conditioning_notice(p->text);
    return text[0] ? text : p->notice;
}

int pipeline_stages(const pipeline *p, scope_stage *stages, int max)
{
    static const char *const name[STAGES] = {"text", "encode", "unet", "decode", "frame"};
    for (int i = 0; i < STAGES && i < max; i++)
        stages[i] = (scope_stage){.name = name[i], .ms = p->ms[i]};
    return STAGES;
}

pipeline_counts pipeline_count(const pipeline *p)
{
    pipeline_counts c = p->counts;
    c.texts = conditioning_encoded(p->text);
    return c;
}

void pipeline_latent(pipeline *p, float *latent)
{
    k_get(p->k, p->latent, latent);
}
