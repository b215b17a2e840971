/* stream.c - see stream.h. */
#include "pipeline_state.h"

/* Rows of the kept tensor of coefficients, for R = n F rows of latents:
 *   START     F  X_0 = c0 z + c1 E_0
 *   DENOISE   R  d = c0 X + c1 output + c2 u
 *   RENOISE   R  X_i = c0 d_i-1 + c1 E_i; by the row that is written, so the first F are unused
 *   RESIDUAL  R  S_i+1 - E_i+1 = c0 S_i + c1 output + c2 X; by the row that is read
 *   TO_NOISE  F  S_0 = c0 X_0 + c1 output, of the negative prompt */
enum section { START, DENOISE, RENOISE, RESIDUAL, TO_NOISE };
enum { COEF_ROWS_MAX = 5 };

/* ---- rows ------------------------------------------------------------------------------------ */

static int all_rows(const stream *s)
{
    return s->plan.steps * s->plan.frames;
}

int stream_rows(const stream_plan *s)
{
    return s->batch ? s->steps * s->frames : s->frames;
}

int stream_latency(const stream_plan *s)
{
    return s->batch ? (s->steps - 1) * s->frames : 0;
}

/* Images [first, first + n) of x. */
static k_tensor rows(k_tensor x, int first, int n)
{
    x = net_image(x, first);
    x.n = n;
    return x;
}

static int coef_at(const stream *s, enum section of)
{
    int f = s->plan.frames, r = all_rows(s);
    const int at[] = {[START] = 0,
                      [DENOISE] = f,
                      [RENOISE] = f + r,
                      [RESIDUAL] = f + 2 * r,
                      [TO_NOISE] = f + 3 * r};
    return at[of];
}

static k_tensor coefs(const stream *s, enum section of, int first, int n)
{
    return rows(s->coef, coef_at(s, of) + first, n);
}

/* Shape of d's images, n of them. */
static k_tensor temp(k_ctx *k, const stream *s, int n)
{
    return k_temp(k, K_F32, n, s->plan.h, s->plan.w, s->plan.channels);
}

void stream_resize(k_ctx *k, stream *s, const stream_plan *to)
{
    const stream_plan *is = &s->plan;
    int r = to->steps * to->frames;
    noise_resize(k, &s->noise, to->steps, to->frames, to->h, to->w, to->channels);
    if (s->coef.data && is->steps == to->steps && is->frames == to->frames && is->h == to->h &&
        is->w == to->w)
        return;
    s->filled = 0;
    k_drop(k, &s->x);
    k_drop(k, &s->s);
    k_drop(k, &s->coef);
    s->x = k_keep(k, K_F32, r, to->h, to->w, to->channels);
    s->s = k_keep(k, K_F32, r, to->h, to->w, to->channels);
    s->coef = k_keep(k, K_F32, COEF_ROWS_MAX * r, 1, 1, 3);
    s->plan = *to;
}

void stream_fini(k_ctx *k, stream *s)
{
    k_drop(k, &s->x);
    k_drop(k, &s->s);
    k_drop(k, &s->coef);
    noise_fini(k, &s->noise);
}

/* ---- settings -------------------------------------------------------------------------------- */

/* Numbers of row i F + f are those of step i. */
static void put_rows(k_ctx *k, const stream *s, enum section of, double step[][3], int steps)
{
    int f = s->plan.frames;
    for (int i = 0; i < steps * f; i++) {
        const double *c = step[i / f];
        const float row[3] = {(float)c[0], (float)c[1], (float)c[2]};
        k_put(k, coefs(s, of, i, 1), row);
    }
}

/* Row i is a z + s E_i exactly, and a z' + s S_i by what is known of its own noise. Bring it to
 * the levels of another schedule: x' = b x + c E, b = a'/a, c = s' - b s (c = 0 where no noise was
 * put to it), and S' = (c E + b s S) / s'. */
static void relevel(k_ctx *k, stream *s, const scheduler *to)
{
    double move[SCHEDULER_MAX_STEPS][3] = {{0}}, known[SCHEDULER_MAX_STEPS][3] = {{0}};
    const scheduler *is = &s->plan.schedule;
    int f = s->plan.frames, r = all_rows(s) - f;
    const k_tensor none = {0};
    for (int i = 1; i < to->count; i++) {
        const scheduler_step *a = &is->step[i], *b = &to->step[i];
        if (!(a->alpha > 0)) {
            s->filled = 0;
            return;
        }
        double by = b->alpha / a->alpha;
        double e = s->plan.add_noise ? b->sigma - by * a->sigma : 0;
        move[i][0] = by;
        move[i][1] = e;
        known[i][0] = by * a->sigma / b->sigma;
        known[i][1] = e / b->sigma;
    }
    put_rows(k, s, DENOISE, move, to->count);
    put_rows(k, s, RENOISE, known, to->count);
    k_tensor x = rows(s->x, f, r), stock = rows(s->s, f, r), e = rows(s->noise.e, f, r);
    K_CALL(k, mix, x, coefs(s, DENOISE, f, r), x, e, none);
    K_CALL(k, mix, stock, coefs(s, RENOISE, f, r), stock, e, none);
}

/* The autoencoder's scale is folded into the first and the last step. */
static void set_coefficients(k_ctx *k, const stream *s)
{
    const stream_plan *p = &s->plan;
    const scheduler_step *at = p->schedule.step;
    int n = p->steps;
    double start[1][3] = {{p->from_text ? 1 : at->alpha * p->scale, at->sigma}};
    double denoise[SCHEDULER_MAX_STEPS][3], renoise[SCHEDULER_MAX_STEPS][3] = {{0}};
    double residual[SCHEDULER_MAX_STEPS][3] = {{0}};
    double to_noise[1][3] = {{at->to_noise[0], at->to_noise[1]}};
    for (int i = 0; i < n; i++) {
        guidance_denoise(p->guide, at + i, denoise[i]);
        for (int c = 0; c < 3 && i == n - 1; c++)
            denoise[i][c] /= p->scale;
        renoise[i][0] = at[i].alpha;
        renoise[i][1] = at[i].sigma;
        if (guidance_is_residual(p->guide) && i < n - 1)
            guidance_residual(p->guide, at + i, at + i + 1, residual[i]);
    }
    put_rows(k, s, START, start, 1);
    put_rows(k, s, DENOISE, denoise, n);
    put_rows(k, s, RENOISE, renoise, n);
    put_rows(k, s, RESIDUAL, residual, n);
    put_rows(k, s, TO_NOISE, to_noise, 1);
}

void stream_set(k_ctx *k, stream *s, const stream_plan *to)
{
    if (s->plan.from_text != to->from_text)
        s->filled = 0;
    if (s->filled && to->steps > 1) {
        int f = to->frames, r = all_rows(s) - f;
        /* What was not guided so far has the noise that was put to it. */
        if (guidance_is_residual(to->guide) && !guidance_is_residual(s->plan.guide))
            K_CALL(k, activate, rows(s->s, f, r), rows(s->noise.e, f, r), K_IDENTITY);
        if (!scheduler_same(&s->plan.schedule, &to->schedule))
            relevel(k, s, &to->schedule);
    }
    s->plan = *to;
    set_coefficients(k, s);
}

/* ---- one call -------------------------------------------------------------------------------- */

k_tensor stream_entry(const stream *s)
{
    return rows(s->x, 0, s->plan.frames);
}

void stream_noise(k_ctx *k, const stream *s)
{
    int f = s->plan.frames;
    const k_tensor none = {0};
    k_tensor x = stream_entry(s), e = rows(s->noise.e, 0, f), c = coefs(s, START, 0, f);
    if (s->plan.from_text)
        K_CALL(k, mix, x, c, e, none, none);
    else
        K_CALL(k, mix, x, c, x, e, none);
    K_CALL(k, activate, rows(s->s, 0, f), e, K_IDENTITY);
}

/* Rows [first, first + n) one step ahead: d are their clean latents, and the rows of their next
 * step, where there is one, are written. */
static void advance(pipeline *p, int first, int n, k_tensor d)
{
    k_ctx *k = p->k;
    stream *s = &p->stream;
    const k_tensor none = {0};
    size_t mark = k_mark(k);
    int f = s->plan.frames, kind = s->plan.guide.kind;
    k_tensor x = rows(s->x, first, n), time = rows(p->time, first, n), e = temp(k, s, n), u = none;
    k_tensor other = p->unwanted_time.dtype ? p->unwanted_time : p->time; /* SDXL: its own rows */
    unet_forward(k, p->m->unet, e, x, time, conditioning_wanted(p->text), NULL);
    if (kind == GUIDE_FULL) {
        u = temp(k, s, n);
        unet_forward(k, p->m->unet, u, x, rows(other, first, n), conditioning_unwanted(p->text),
                     NULL);
    } else if (kind != GUIDE_NONE) {
        u = rows(s->s, first, n);
    }
    if (kind == GUIDE_INITIALIZE && first == 0) {
        k_tensor y = temp(k, s, f), entry = rows(s->x, 0, f);
        unet_forward(k, p->m->unet, y, entry, rows(other, 0, f), conditioning_unwanted(p->text),
                     NULL);
        K_CALL(k, mix, rows(s->s, 0, f), coefs(s, TO_NOISE, 0, f), entry, y, none);
    }
    K_CALL(k, mix, d, coefs(s, DENOISE, first, n), x, e, u);
    int to = first + f, moved = n < all_rows(s) - to ? n : all_rows(s) - to;
    if (moved > 0 && guidance_is_residual(s->plan.guide)) {
        k_tensor y = temp(k, s, moved);
        K_CALL(k, mix, y, coefs(s, RESIDUAL, first, moved), rows(u, 0, moved), rows(e, 0, moved),
               rows(x, 0, moved));
        K_CALL(k, add, rows(s->s, to, moved), y, rows(s->noise.e, to, moved));
    }
    if (moved > 0)
        K_CALL(k, mix, rows(s->x, to, moved), coefs(s, RENOISE, to, moved), rows(d, 0, moved),
               s->plan.add_noise ? rows(s->noise.e, to, moved) : none, none);
    k_release(k, mark);
}

k_tensor stream_denoise(pipeline *p, k_tensor d)
{
    stream *s = &p->stream;
    int f = s->plan.frames, n = s->plan.steps;
    k_tensor out = rows(d, d.n - f, f);
    if (s->plan.batch && s->filled)
        advance(p, 0, n * f, d);
    else
        for (int i = 0; i < n; i++)
            advance(p, i * f, f, out);
    s->filled = !p->k->status;
    return out;
}

void stream_plan_passes(pipeline *p, k_tensor d)
{
    stream *s = &p->stream;
    guidance guide = s->plan.guide;
    int f = s->plan.frames;
    s->plan.guide.kind = GUIDE_FULL; /* needs the most room, whether or not it is on */
    advance(p, 0, f, rows(d, 0, f));
    if (d.n > f)
        advance(p, 0, d.n, d);
    s->plan.guide = guide;
}
