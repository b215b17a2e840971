/* pipeline_set.c - see pipeline.h: puts settings into force.
 *
 * Compares what is asked for with what lies in the kept tensors and renews only what differs.
 */
#include "pipeline_state.h"

/* What a guidance-distilled model is told when guidance_scale is 0: diffusers' default for LCM. */
static const double usual_guidance = 8;

/* Kept tensors of the wanted sizes; what was in one that changes is void. */
static void resize(pipeline *p, const stream_plan *to)
{
    int rows = to->steps * to->frames;
    if (p->time.n != rows) {
        k_drop(p->k, &p->time);
        p->time = k_keep(p->k, K_F32, rows, 1, 1, unet_time_channels(p->m->unet));
        p->timed = 0;
        if (unet_added_channels(p->m->unet)) {
            k_drop(p->k, &p->unwanted_time);
            p->unwanted_time = k_keep(p->k, K_F32, rows, 1, 1, unet_time_channels(p->m->unet));
            p->unwanted_timed = 0;
        }
    }
    stream_resize(p->k, &p->stream, to);
}

static int set_texts(pipeline *p, const pipeline_settings *s, scope_error *err)
{
    double t0 = pipeline_now_ms();
    long before = conditioning_encoded(p->text);
    const conditioning_settings texts = {.prompt = s->prompt,
                                         .negative = s->negative_prompt,
                                         .negative_scale = s->negative_scale,
                                         .guided = p->guided,
                                         .live = s->live,
                                         .clip_skip = s->clip_skip,
                                         .transition = s->transition};
    if (conditioning_set(p->text, &texts, err))
        return -1;
    if (conditioning_encoded(p->text) != before)
        p->ms[STAGE_TEXT] = pipeline_now_ms() - t0;
    return 0;
}

/* The rows of all steps in force, for one text: row i F + f is step i's. */
static void time_rows(pipeline *p, k_tensor rows, k_tensor added)
{
    k_ctx *k = p->k;
    int frames = rows.n / p->schedule.count;
    float w = (float)(1000 * (p->embedded_scale - 1));
    for (int i = 0; i < rows.n; i++) {
        k_tensor row = net_image(rows, i);
        if (i % frames) {
            K_CALL(k, activate, row, net_image(rows, i - 1), K_IDENTITY);
            continue;
        }
        float t = (float)p->schedule.step[i / frames].timestep;
        k_put(k, p->timestep, &t);
        if (p->guidance.dtype)
            k_put(k, p->guidance, &w);
        unet_time(k, p->m->unet, row, p->timestep, p->guidance, added, NULL);
    }
}

static void set_effects(pipeline *p, const pipeline_settings *s, const stream_plan *to)
{
    const effects_frame frame = {.width = s->width,
                                 .height = s->height,
                                 .frames = to->frames,
                                 .delay = to->batch ? to->steps - 1 : 0,
                                 .channels = to->channels,
                                 .latent_scale = to->scale,
                                 .seed = s->seed};
    effects_set(p->effects, &s->effects, &frame);
}

void pipeline_renew_time(pipeline *p)
{
    const added_size size = {p->height, p->width, p->original_size};
    if (added_set(p->k, p->m, &p->wanted, conditioning_shown(p->text), size))
        p->timed = 0;
    if (!p->timed)
        time_rows(p, p->time, p->wanted.row);
    p->timed = 1;
    if (!p->unwanted_time.dtype || !p->guided)
        return;
    if (added_set(p->k, p->m, &p->unwanted, conditioning_shown_unwanted(p->text), size))
        p->unwanted_timed = 0;
    if (!p->unwanted_timed)
        time_rows(p, p->unwanted_time, p->unwanted.row);
    p->unwanted_timed = 1;
}

static void set_time(pipeline *p, const scheduler *schedule, double embedded_scale)
{
    if (p->embedded_scale != embedded_scale || !scheduler_same(&p->schedule, schedule))
        p->timed = p->unwanted_timed = 0;
    p->schedule = *schedule;
    p->embedded_scale = embedded_scale;
    pipeline_renew_time(p);
}

static void choose_coder(pipeline *p, int use_taesd)
{
    const model *m = p->m;
    p->tiny = use_taesd ? m->taesd != NULL : m->vae == NULL;
    if (use_taesd && !p->tiny)
        snprintf(p->notice, sizeof p->notice,
                 "The model's folder has no TAESD, so its own, slower autoencoder is used; "
                 "`scope model get madebyollin/%s`, then taesd_path, adds one.",
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

/* Plan anew for another size or number of rows, or for an autoencoder that is used for the first
 * time. */
static int replan(pipeline *p, const scope_host *host, int rows, int width, int height,
                  scope_error *err)
{
    unsigned before = p->coders;
    p->coders |= 1u << p->tiny;
    if (width == p->width && height == p->height && rows == p->rows && before == p->coders)
        return 0;
    p->rows = rows;
    int failed = pipeline_plan(p, host, width, height, err);
    if (failed)
        p->coders = before;
    return failed;
}

static int from_noise(const pipeline_settings *s)
{
    return s->from_text && !s->effects.loopback;
}

/* What the settings ask of the stream, or the reason why it cannot be. Touches nothing in force. */
static int choose(const pipeline *p, const pipeline_settings *s, stream_plan *to, scope_error *err)
{
    const scheduler_config *c = &p->m->config.scheduler;
    *to = (stream_plan){.frames = s->frame_buffer_size ? s->frame_buffer_size : 1,
                        .h = s->height / 8,
                        .w = s->width / 8,
                        .channels = p->m->config.unet.in_channels,
                        .from_text = from_noise(s),
                        .add_noise = s->do_add_noise,
                        .guide = {s->cfg_type, s->guidance_scale, s->delta}};
    if (check_size(s->width, s->height, err))
        return -1;
    if (to->frames < 1 || to->frames > PIPELINE_MAX_FRAMES)
        return scope_fail_field(err, SCOPE_EINVAL, "frame_buffer_size",
                                "frame_buffer_size is %d; it must be 1 to %d.", to->frames,
                                PIPELINE_MAX_FRAMES);
    if (s->timestep_count
            ? scheduler_plan_timesteps(&to->schedule, c, s->timestep, s->timestep_count, err)
            : scheduler_plan(&to->schedule, c, s->steps, from_noise(s) ? 1.0 : s->strength,
                             s->index, s->index_count, err))
        return -1;
    to->steps = to->schedule.count;
    to->batch = s->use_denoising_batch && to->steps <= STREAM_MAX_BATCH;
    if (p->m->config.unet.time_cond_proj_dim || !(s->guidance_scale > 1))
        to->guide.kind = GUIDE_NONE;
    return guidance_check(to->guide, &to->schedule, err);
}

static void notice_steps(pipeline *p, const pipeline_settings *s, const stream_plan *to)
{
    if (s->use_denoising_batch && !to->batch)
        snprintf(p->notice, sizeof p->notice,
                 "%d steps are more than a stream batch of %d holds, so each frame runs all of "
                 "them: slower, and without latency.",
                 to->steps, STREAM_MAX_BATCH);
}

static int needs_unwanted(const stream_plan *to)
{
    return to->guide.kind == GUIDE_FULL || to->guide.kind == GUIDE_INITIALIZE;
}

static int has_failed(const pipeline *p, scope_error *err)
{
    if (!p->k->status)
        return 0;
    return scope_fail(err, SCOPE_ENOMEM, "The settings cannot be used: %.140s", p->k->where);
}

/* Everything but what choose has found wrong. texts: also those; else the ones in force stay. */
static int put_in_force(pipeline *p, const scope_host *host, const pipeline_settings *s,
                        stream_plan *to, int texts, scope_error *err)
{
    const model_config *c = &p->m->config;
    double embedded = 0;
    if (c->unet.time_cond_proj_dim)
        embedded = s->guidance_scale > 0 ? s->guidance_scale : usual_guidance;
    p->notice[0] = 0;
    p->guided = needs_unwanted(to);
    p->from_text = from_noise(s);
    p->no_input = s->from_text;
    p->fit = s->fit;
    p->original_size = s->original_size;
    p->seeds =
        noise_seeds_of(s->seeds.count ? &s->seeds : &(noise_seeds){.count = 1, .seed = {s->seed}});
    p->noise_refresh = s->noise_refresh;
    choose_coder(p, s->use_taesd);
    notice_steps(p, s, to);
    to->scale = p->tiny ? c->taesd.scaling_factor : c->vae.scaling_factor;
    resize(p, to);
    set_effects(p, s, to);
    if (noise_reserve(&p->stream.noise, &p->seeds))
        return scope_fail_field(err, SCOPE_ENOMEM, "seeds", "Out of memory for the noise.");
    if (has_failed(p, err)) /* before a plan forgets it */
        return -1;
    if (replan(p, host, stream_rows(to), s->width, s->height, err))
        return -1;
    k_release(p->k, 0);
    if (texts && set_texts(p, s, err))
        return -1;
    stream_set(p->k, &p->stream, to);
    set_time(p, &to->schedule, embedded);
    pipeline_refresh_noise(p);
    return has_failed(p, err);
}

/* The time rows, and what joined them, are those of nothing. */
static void void_time(pipeline *p)
{
    p->timed = p->unwanted_timed = 0;
    p->wanted.known = p->unwanted.known = 0;
}

/* What was under way when a failure came is void. */
static void forget(pipeline *p)
{
    if (!p->k->status)
        return;
    void_time(p);
    p->stream.noise.drawn = p->stream.filled = 0;
    conditioning_forget(p->text);
    effects_reset(p->effects);
    p->width = p->height = 0;
    p->k->status = 0;
}

/* The last good settings again, with the texts that are in force. */
static int go_back(pipeline *p)
{
    scope_error ignored;
    stream_plan to;
    forget(p);
    return p->good.width && !choose(p, &p->good, &to, &ignored) &&
           conditioning_known(p->text, needs_unwanted(&to)) &&
           !put_in_force(p, NULL, &p->good, &to, 0, &ignored);
}

static int set(pipeline *p, const scope_host *host, const pipeline_settings *s, scope_error *err)
{
    stream_plan to;
    if (choose(p, s, &to, err))
        return -1; /* nothing has changed */
    if (!p->ready)
        forget(p); /* a new attempt */
    p->ready = 0;
    if (put_in_force(p, host, s, &to, 1, err)) {
        p->ready = go_back(p);
        return -1;
    }
    p->good = *s;
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

void pipeline_reweigh(pipeline *p)
{
    conditioning_hold(p->text);
}

void pipeline_reweighted(pipeline *p, int any, int text)
{
    conditioning_release(p->text, any, text);
    if (any)
        void_time(p);
}
