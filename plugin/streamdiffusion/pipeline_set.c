/* pipeline_set.c - see pipeline.h: puts settings into force.
 *
 * Compares what is asked for with what lies in the kept tensors and renews only what differs.
 */
#include "pipeline_state.h"

/* What a guidance-distilled model is told when guidance_scale is 0: diffusers' default for LCM. */
static const double usual_guidance = 8;

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
        if (unet_added_channels(p->m->unet)) {
            k_drop(k, &p->unwanted_time);
            p->unwanted_time = k_keep(k, K_F32, steps, 1, 1, unet_time_channels(p->m->unet));
            p->unwanted_timed = 0;
        }
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
    if (t == &p->unwanted && text_is_zero(p->m, b->text[0]))
        memset(p->states, 0, size * sizeof *p->states);
    if (prompts_notice(p->prompts)[0])
        snprintf(p->notice, sizeof p->notice, "%s", prompts_notice(p->prompts));
    if (t->known && !memcmp(t->states, p->states, size * sizeof *p->states))
        return 0;
    k_tensor states = k_temp(k, K_F32, 1, 1, TOKENIZER_LENGTH, text_width(p->m));
    k_put(k, states, p->states);
    unet_text_set(k, p->m->unet, &t->kv, states);
    k_release(k, 0);
    memcpy(t->states, p->states, size * sizeof *p->states);
    t->known = !k->status;
    return 0;
}

static int set_texts(pipeline *p, const pipeline_settings *s, scope_error *err)
{
    double t0 = pipeline_now_ms();
    long before = prompts_encoded(p->prompts);
    prompts_skip(p->prompts, s->clip_skip);
    const prompt_blend unwanted = {.count = 1, .text = {s->negative_prompt}, .weight = {1}};
    if (set_text(p, &p->wanted, &s->prompt, err) ||
        (p->guided && set_text(p, &p->unwanted, &unwanted, err)))
        return -1;
    if (prompts_encoded(p->prompts) != before)
        p->ms[STAGE_TEXT] = pipeline_now_ms() - t0;
    return 0;
}

/* SDXL: the texts' pooled vectors and the sizes, which all time rows of that text depend on. */
static void set_added(pipeline *p, const pipeline_settings *s)
{
    const added_size size = {s->height, s->width, s->original_size};
    if (added_set(p->k, p->m, &p->wanted.added, p->wanted.states, size))
        p->timed = 0;
    if (p->guided && added_set(p->k, p->m, &p->unwanted.added, p->unwanted.states, size))
        p->unwanted_timed = 0;
}

static int same_timesteps(const scheduler *a, const scheduler *b)
{
    for (int i = 0; i < a->count && i < b->count; i++) {
        if (a->step[i].timestep != b->step[i].timestep)
            return 0;
    }
    return a->count == b->count;
}

/* The rows of all steps in force, for one text. */
static void time_rows(pipeline *p, k_tensor rows, k_tensor added)
{
    k_ctx *k = p->k;
    for (int i = 0; i < p->schedule.count; i++) {
        float t = (float)p->schedule.step[i].timestep, w = (float)(1000 * (p->embedded_scale - 1));
        k_put(k, p->timestep, &t);
        if (p->guidance.dtype)
            k_put(k, p->guidance, &w);
        unet_time(k, p->m->unet, net_image(rows, i), p->timestep, p->guidance, added, NULL);
    }
}

static void set_time(pipeline *p, const scheduler *schedule, double embedded_scale)
{
    int known = p->embedded_scale == embedded_scale && same_timesteps(&p->schedule, schedule);
    p->schedule = *schedule;
    p->embedded_scale = embedded_scale;
    if (!known)
        p->timed = p->unwanted_timed = 0;
    if (!p->timed)
        time_rows(p, p->time, p->wanted.added.row);
    p->timed = 1;
    if (p->unwanted_time.dtype && p->guided && !p->unwanted_timed) {
        time_rows(p, p->unwanted_time, p->unwanted.added.row);
        p->unwanted_timed = 1;
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
                 "huggingface-cli download madebyollin/%s --local-dir <folder>/taesd adds one.",
                 m->config.unet.text_time ? "taesdxl" : "taesd");
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

/* Plan anew for another size, or for an autoencoder that is used for the first time. */
static int replan(pipeline *p, const scope_host *host, int width, int height, scope_error *err)
{
    unsigned before = p->coders;
    p->coders |= 1u << p->tiny;
    if (width == p->width && height == p->height && before == p->coders)
        return 0;
    int failed = pipeline_plan(p, host, width, height, err);
    if (failed)
        p->coders = before;
    return failed;
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
    if (replan(p, host, s->width, s->height, err))
        return -1;
    k_release(p->k, 0);
    if (set_texts(p, s, err))
        return -1;
    set_added(p, s);
    set_time(p, &schedule, embedded);
    set_noise(p, s->seed);
    set_coefficients(p, s->guidance_scale);
    if (p->k->status) {
        p->timed = p->unwanted_timed = p->drawn = p->wanted.known = p->unwanted.known = 0;
        p->wanted.added.known = p->unwanted.added.known = 0;
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
