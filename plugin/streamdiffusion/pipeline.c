/* pipeline.c - see pipeline.h.
 *
 * pipeline_set compares what is asked for with what lies in the kept tensors and renews only what
 * differs; pipeline_frame reads those tensors and nothing else. One frame is written once, as
 * encode, denoise and decode: planning runs the same three.
 */
#include "pipeline.h"

#include "alloc.h"

#include <stdlib.h>
#include <time.h>

enum stage { STAGE_TEXT, STAGE_ENCODE, STAGE_UNET, STAGE_DECODE, STAGE_FRAME, STAGES };

/* Rows of the coefficient table: the first noising, then two a step. */
enum { ROW_START = 0 };
#define ROW_DENOISE(i) (1 + 2 * (i))
#define ROW_RENOISE(i) (2 + 2 * (i)) /* towards step i + 1 */
enum { INPUT_MAX = 8192 }; /* pixels of an input's longer side */
enum { ROWS_MAX = 2 * SCHEDULER_MAX_STEPS };

/* What a guidance-distilled model is told when guidance_scale is 0: diffusers' default for LCM. */
static const double usual_guidance = 8;

/* One text, ready for the UNet. */
typedef struct text_state {
    unet_text kv;  /* kept */
    float *states; /* owned, host: what kv was made of */
    int known;     /* states and kv hold a text */
} text_state;

struct pipeline {
    const model *m; /* borrowed */
    k_ctx *k;       /* owned */
    prompts *prompts;
    float *states; /* owned, host: the blend under way */
    text_state wanted, unwanted;
    k_tensor timestep, guidance; /* kept [1, 1, 1, 1]: what unet_time reads */

    /* In force. */
    int ready;         /* 0 until pipeline_set succeeds, and after any failure */
    int width, height; /* planned for; 0: for none */
    int from_text, tiny, fit, add_noise, guided;
    double embedded_scale; /* guidance that the time rows hold; 0: none */
    scheduler schedule;    /* whose timesteps the time rows hold */
    uint64_t seed;         /* of the noise */
    int drawn;             /* the noise is that of seed */
    int timed;             /* the time rows are those of schedule and embedded_scale */
    k_tensor time;         /* kept [steps, 1, 1, unet_time_channels] */
    k_tensor noise;        /* kept [steps, h, w, channels]: E_i */
    k_tensor coef;         /* kept [rows, 1, 1, 3] */

    double ms[STAGES];
    pipeline_counts counts;
    char notice[192];
};

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* ---- one frame --------------------------------------------------------------------------------
 */

static k_tensor latent_temp(pipeline *p)
{
    return k_temp(p->k, K_F32, 1, p->height / 8, p->width / 8, p->m->config.unet.in_channels);
}

static k_tensor picture_temp(pipeline *p)
{
    return k_temp(p->k, K_F32, 1, p->height, p->width, 3);
}

/* z = the latent of the frame, unscaled */
static void encode(pipeline *p, int tiny, k_tensor z, const k_image *in)
{
    k_ctx *k = p->k;
    size_t mark = k_mark(k);
    k_tensor picture = picture_temp(p);
    K_CALL(k, image_in, picture, in, tiny ? 1.0f : 2.0f, tiny ? 0.0f : -1.0f);
    if (tiny)
        taesd_encode(k, p->m->taesd, z, picture, NULL);
    else
        vae_encode(k, p->m->vae, z, picture, NULL);
    k_release(k, mark);
}

/* out = the picture of z, which is scaled for its autoencoder already */
static void decode(pipeline *p, int tiny, const k_image *out, k_tensor z)
{
    k_ctx *k = p->k;
    size_t mark = k_mark(k);
    k_tensor picture = picture_temp(p);
    if (tiny)
        taesd_decode(k, p->m->taesd, picture, z, NULL);
    else
        vae_decode(k, p->m->vae, picture, z, NULL);
    K_CALL(k, image_out, out, picture, tiny ? 1.0f : 0.5f, tiny ? 0.0f : 0.5f);
    k_release(k, mark);
}

/* x = step i's estimate of the clean latent; with guidance, of u + g (e - u) in e's place */
static void denoise(pipeline *p, int i, k_tensor x)
{
    k_ctx *k = p->k;
    size_t mark = k_mark(k);
    const k_tensor time = net_image(p->time, i);
    k_tensor e = latent_temp(p), u = {0};
    unet_forward(k, p->m->unet, e, x, time, &p->wanted.kv, NULL);
    if (p->guided) {
        u = latent_temp(p);
        unet_forward(k, p->m->unet, u, x, time, &p->unwanted.kv, NULL);
    }
    K_CALL(k, mix, x, net_image(p->coef, ROW_DENOISE(i)), x, e, u);
    k_release(k, mark);
}

static void denoise_all(pipeline *p, k_tensor x)
{
    k_ctx *k = p->k;
    const k_tensor none = {0};
    for (int i = 0; i < p->schedule.count; i++) {
        denoise(p, i, x);
        if (i + 1 < p->schedule.count)
            K_CALL(k, mix, x, net_image(p->coef, ROW_RENOISE(i)), x,
                   p->add_noise ? net_image(p->noise, i + 1) : none, none);
    }
}

/* x = the latent that denoising starts from */
static void start(pipeline *p, k_tensor x, const k_image *in)
{
    k_ctx *k = p->k;
    const k_tensor none = {0};
    k_tensor coef = net_image(p->coef, ROW_START), noise = net_image(p->noise, 0);
    if (p->from_text) {
        K_CALL(k, mix, x, coef, noise, none, none);
        return;
    }
    encode(p, p->tiny, x, in);
    K_CALL(k, mix, x, coef, x, noise, none);
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

int pipeline_frame(pipeline *p, const k_image *in, const k_image *out, scope_error *err)
{
    k_ctx *k = p->k;
    if (!p->ready)
        return scope_fail(err, SCOPE_EINVAL, "The settings in force cannot make a frame.");
    if (!in && !p->from_text)
        return scope_fail_field(err, SCOPE_EINVAL, "input_mode",
                                "There is no input frame; give one, or set input_mode to text.");
    if (!p->from_text && (in->w > INPUT_MAX || in->h > INPUT_MAX))
        return scope_fail(err, SCOPE_EINVAL, "An input of %dx%d is too large; at most %d a side.",
                          (int)in->w, (int)in->h, INPUT_MAX);
    double t0 = now_ms();
    k_release(k, 0);
    k_tensor x = latent_temp(p);
    k_image part = p->from_text ? (k_image){0} : window(p, in);
    start(p, x, &part);
    double t1 = now_ms();
    denoise_all(p, x);
    double t2 = now_ms();
    decode(p, p->tiny, out, x);
    double t3 = now_ms();
    if (!p->from_text)
        p->ms[STAGE_ENCODE] = t1 - t0;
    p->ms[STAGE_UNET] = t2 - t1;
    p->ms[STAGE_DECODE] = t3 - t2;
    p->ms[STAGE_FRAME] = t3 - t0;
    if (!k->status)
        return 0;
    p->ready = 0;
    return scope_fail(err, SCOPE_ENOMEM, "The frame failed: %.150s", k->where);
}

/* ---- planning ---------------------------------------------------------------------------------
 */

static void plan_text(pipeline *p)
{
    k_ctx *k = p->k;
    prompts_plan(p->prompts);
    k_tensor states = k_temp(k, K_F32, 1, 1, TOKENIZER_LENGTH, clip_width(p->m->text));
    unet_text_set(k, p->m->unet, &p->wanted.kv, states);
    unet_time(k, p->m->unet, net_image(p->time, 0), p->timestep, p->guidance, NULL);
}

/* With guidance, which needs more room, whether or not it is on. */
static void plan_unet(pipeline *p)
{
    int guided = p->guided;
    p->guided = 1;
    denoise(p, 0, latent_temp(p));
    p->guided = guided;
}

/* Both autoencoders, so that use_taesd costs nothing to change; and the largest input, because
 * inputs may change their size from one frame to the next. */
static void plan_coders(pipeline *p)
{
    k_image frame = {.dtype = K_F32, .t = 1, .h = p->height, .w = p->width, .c = 3};
    k_image largest = {.dtype = K_F32, .t = 1, .h = INPUT_MAX, .w = INPUT_MAX, .c = 4};
    k_tensor z = latent_temp(p);
    for (int tiny = 0; tiny < 2; tiny++) {
        if (tiny ? p->m->taesd != NULL : p->m->vae != NULL) {
            encode(p, tiny, z, &largest);
            decode(p, tiny, &frame, z);
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

/* host: NULL on the frame thread */
static int plan(pipeline *p, const scope_host *host, int width, int height, scope_error *err)
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

/* ---- settings ---------------------------------------------------------------------------------
 */

/* Kept tensors of the wanted sizes; what was in one that changes is void. */
static void resize(pipeline *p, int steps, int width, int height)
{
    k_ctx *k = p->k;
    int h = height / 8, w = width / 8;
    if (p->time.n != steps) {
        k_drop(k, &p->time);
        k_drop(k, &p->coef);
        p->time = k_keep(k, K_F32, steps, 1, 1, unet_time_channels(p->m->unet));
        p->coef = k_keep(k, K_F32, 2 * steps, 1, 1, 3);
        p->timed = 0;
    }
    if (p->noise.n != steps || p->noise.h != h || p->noise.w != w) {
        k_drop(k, &p->noise);
        p->noise = k_keep(k, K_F32, steps, h, w, p->m->config.unet.in_channels);
        p->drawn = 0;
    }
}

/* Keys and values of a blend, if it is another than the one they hold. */
static int set_text(pipeline *p, text_state *t, const prompt_blend *b, scope_error *err)
{
    k_ctx *k = p->k;
    size_t size = prompts_size(p->prompts);
    if (prompts_encode(p->prompts, b, p->states, err))
        return -1;
    if (prompts_notice(p->prompts)[0])
        snprintf(p->notice, sizeof p->notice, "%s", prompts_notice(p->prompts));
    if (t->known && !memcmp(t->states, p->states, size * sizeof *p->states))
        return 0;
    k_tensor states = k_temp(k, K_F32, 1, 1, TOKENIZER_LENGTH, clip_width(p->m->text));
    k_put(k, states, p->states);
    unet_text_set(k, p->m->unet, &t->kv, states);
    k_release(k, 0);
    memcpy(t->states, p->states, size * sizeof *p->states);
    t->known = !k->status;
    return 0;
}

static int set_texts(pipeline *p, const pipeline_settings *s, scope_error *err)
{
    double t0 = now_ms();
    long before = prompts_encoded(p->prompts);
    const prompt_blend unwanted = {.count = 1, .text = {s->negative_prompt}, .weight = {1}};
    if (set_text(p, &p->wanted, &s->prompt, err) ||
        (p->guided && set_text(p, &p->unwanted, &unwanted, err)))
        return -1;
    if (prompts_encoded(p->prompts) != before)
        p->ms[STAGE_TEXT] = now_ms() - t0;
    return 0;
}

static int same_timesteps(const scheduler *a, const scheduler *b)
{
    for (int i = 0; i < a->count && i < b->count; i++) {
        if (a->step[i].timestep != b->step[i].timestep)
            return 0;
    }
    return a->count == b->count;
}

static void set_time(pipeline *p, const scheduler *schedule, double embedded_scale)
{
    k_ctx *k = p->k;
    int known =
        p->timed && p->embedded_scale == embedded_scale && same_timesteps(&p->schedule, schedule);
    p->schedule = *schedule;
    p->embedded_scale = embedded_scale;
    p->timed = 1;
    for (int i = 0; i < schedule->count && !known; i++) {
        float t = (float)schedule->step[i].timestep, w = (float)(1000 * (embedded_scale - 1));
        k_put(k, p->timestep, &t);
        if (p->guidance.dtype)
            k_put(k, p->guidance, &w);
        unet_time(k, p->m->unet, net_image(p->time, i), p->timestep, p->guidance, NULL);
    }
}

static void set_noise(pipeline *p, uint64_t seed)
{
    if (p->drawn && p->seed == seed)
        return;
    p->seed = seed;
    p->drawn = 1;
    p->counts.noises++;
    for (int i = 0; i < p->noise.n; i++)
        K_CALL(p->k, noise, net_image(p->noise, i), seed, (uint32_t)i);
}

/* The autoencoder's scale is folded into the first and the last row, guidance into the steps. */
static void set_coefficients(pipeline *p, double guidance)
{
    float row[ROWS_MAX][3] = {{0}};
    double scale = p->tiny ? p->m->config.taesd.scaling_factor : p->m->config.vae.scaling_factor;
    double g = p->guided ? guidance : 1;
    const scheduler *s = &p->schedule;
    row[ROW_START][0] = p->from_text ? 1 : (float)(s->step[0].noise[0] * scale);
    row[ROW_START][1] = s->step[0].noise[1];
    for (int i = 0; i < s->count; i++) {
        const float *d = s->step[i].denoise;
        int last = i == s->count - 1;
        double by = last ? 1 / scale : 1;
        row[ROW_DENOISE(i)][0] = (float)(d[0] * by);
        row[ROW_DENOISE(i)][1] = (float)(d[1] * g * by);
        row[ROW_DENOISE(i)][2] = (float)(d[1] * (1 - g) * by);
        if (!last)
            memcpy(row[ROW_RENOISE(i)], s->step[i + 1].noise, 2 * sizeof(float));
    }
    k_put(p->k, p->coef, row);
}

static void choose_coder(pipeline *p, int use_taesd)
{
    const model *m = p->m;
    p->tiny = use_taesd ? m->taesd != NULL : m->vae == NULL;
    if (use_taesd && !p->tiny)
        snprintf(p->notice, sizeof p->notice,
                 "The model's folder has no TAESD, so its own, slower autoencoder is used; "
                 "huggingface-cli download madebyollin/taesd --local-dir <folder>/taesd adds one.");
    else if (!use_taesd && p->tiny)
        snprintf(p->notice, sizeof p->notice,
                 "The model's folder has no vae, so TAESD is used although use_taesd is off.");
}

static int check_size(int width, int height, scope_error *err)
{
    int wrong = width % 8 || width < 8 ? width : height % 8 || height < 8 ? height : 0;
    if (!wrong)
        return 0;
    return scope_fail_field(err, SCOPE_EINVAL, wrong == width ? "width" : "height",
                            "%d is not a multiple of 8; use %d.", wrong,
                            wrong < 8 ? 8 : (wrong + 4) / 8 * 8);
}

static int set(pipeline *p, const scope_host *host, const pipeline_settings *s, scope_error *err)
{
    const unet_config *c = &p->m->config.unet;
    scheduler schedule;
    if (!p->ready)
        p->k->status = 0; /* a new attempt */
    p->ready = 0;
    p->notice[0] = 0;
    if (check_size(s->width, s->height, err) ||
        scheduler_plan(&schedule, &p->m->config.scheduler, s->steps,
                       s->from_text ? 1.0 : s->strength, s->index, s->index_count, err))
        return -1;
    double embedded = 0;
    if (c->time_cond_proj_dim)
        embedded = s->guidance_scale > 0 ? s->guidance_scale : usual_guidance;
    p->guided = !embedded && s->guidance_scale > 1;
    p->from_text = s->from_text;
    p->fit = s->fit;
    p->add_noise = s->do_add_noise;
    choose_coder(p, s->use_taesd);
    resize(p, schedule.count, s->width, s->height);
    if ((s->width != p->width || s->height != p->height) && plan(p, host, s->width, s->height, err))
        return -1;
    k_release(p->k, 0);
    if (set_texts(p, s, err))
        return -1;
    set_time(p, &schedule, embedded);
    set_noise(p, s->seed);
    set_coefficients(p, s->guidance_scale);
    if (p->k->status) {
        p->timed = p->drawn = p->wanted.known = p->unwanted.known = 0;
        p->width = p->height = 0;
        return scope_fail(err, SCOPE_ENOMEM, "The settings cannot be used: %.140s", p->k->where);
    }
    p->ready = 1;
    return 0;
}

int pipeline_set(pipeline *p, const pipeline_settings *s, scope_error *err)
{
    return set(p, NULL, s, err);
}

int pipeline_load(pipeline *p, const scope_host *host, const pipeline_settings *s, scope_error *err)
{
    return set(p, host, s, err);
}

/* ---- life -------------------------------------------------------------------------------------
 */

static int text_init(pipeline *p, text_state *t)
{
    t->states = sd_malloc(prompts_size(p->prompts) * sizeof *t->states);
    unet_text_keep(p->k, p->m->unet, &t->kv, 1, TOKENIZER_LENGTH);
    return t->states ? 0 : -1;
}

static void text_fini(pipeline *p, text_state *t)
{
    unet_text_drop(p->k, &t->kv);
    free(t->states);
}

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
        p->prompts = prompts_open(p->k, m, err);
    if (!p->prompts) {
        pipeline_close(p);
        return NULL;
    }
    p->states = sd_malloc(prompts_size(p->prompts) * sizeof *p->states);
    p->timestep = k_keep(p->k, K_F32, 1, 1, 1, 1);
    if (unet_has_guidance(m->unet))
        p->guidance = k_keep(p->k, K_F32, 1, 1, 1, 1);
    if (text_init(p, &p->wanted) || text_init(p, &p->unwanted) || !p->states || p->k->status) {
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while opening the pipeline.");
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
        text_fini(p, &p->wanted);
        text_fini(p, &p->unwanted);
        k_tensor *kept[] = {&p->timestep, &p->guidance, &p->time, &p->noise, &p->coef};
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
            k_drop(p->k, kept[i]);
    }
    prompts_close(p->prompts);
    k_close(p->k);
    free(p->states);
    free(p);
}

const char *pipeline_notice(const pipeline *p)
{
    return p->notice;
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
    c.texts = prompts_encoded(p->prompts);
    return c;
}
