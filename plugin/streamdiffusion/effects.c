/* effects.c - see effects.h.
 *
 * Sits between pipeline.c, which calls it around the networks, and the picture ops of kernels.h.
 * Numbers that change with the settings lie in kept tensors, as everywhere in the pipeline.
 */
#include "effects.h"

#include "alloc.h"
#include "net.h"

#include <math.h>
#include <stdlib.h>

/* Latents of sane pictures lie within a few units once scaled; what feeds back must not grow. */
static const double latent_limit = 10;

/* Good calls in a row after which what went wrong is over. */
enum { GOOD_RUN = 30 };

/* Columns of `ok`. */
enum { OK_LATENT, OK_PICTURE, OKS };

/* Rows of `coef`, for k_ops.mix. */
enum { ROW_COPY, ROW_LOOP, ROW_MASK, ROW_SHOWN, ROWS };

/* The input of a call, and its mask, until its result is there. */
typedef struct slot {
    k_tensor input; /* [frames, h, w, 3] */
    k_tensor mask;  /* [frames, h, w, 1], while compositing is on */
    int composited; /* mask counts */
} slot;

struct effects {
    k_ctx *k; /* borrowed */
    effects_settings set;
    effects_frame frame;

    /* Kept. */
    slot slot[EFFECTS_DELAY_MAX + 1];
    k_tensor result;          /* [frames, h, w, 3] */
    k_tensor fed;             /* the same, while loopback is on */
    k_tensor reference;       /* the same, while the filter is on: the last processed input */
    k_tensor soft;            /* [1, h, w, 1], while masks are blurred */
    k_tensor latent;          /* [1, h / 8, w / 8, channels] */
    k_tensor coef;            /* [1, 1, 1, 3] each */
    k_tensor map, ease, like; /* [1, 1, 1, 6], [1, 1, 1, 2], [frames, 1, 1, 1] */
    k_tensor ok;              /* [frames, 1, 1, OKS]: 1 for what is all numbers */
    k_tensor row[ROWS];       /* views of coef */

    similar filter;
    int has_result, has_latent, has_reference; /* they hold something */
    int had_result;                            /* before this call */
    int liked;                                 /* `like` holds the call before's */
    int refresh;                               /* do not skip the next call */
    int slots, at, earlier;                    /* slots in use; this call's; those before it */
    int given, made, fed_back;                 /* of the call under way */
    double shown;
    int64_t repeats;
    unsigned lost; /* effects_lost */
    int good;      /* calls in a row */
};

/* ---- settings -------------------------------------------------------------------------------- */

void effects_map(float map[6], int width, int height, double zoom, double degrees)
{
    const double pi = 3.14159265358979323846;
    double c = cos(degrees * pi / 180) / zoom, s = sin(degrees * pi / 180) / zoom;
    double x = 0.5 * width, y = 0.5 * height;
    /* Where a pixel comes from: turned back and brought closer to the middle. */
    map[0] = (float)c;
    map[1] = (float)s;
    map[2] = (float)(x - c * x - s * y);
    map[3] = (float)-s;
    map[4] = (float)c;
    map[5] = (float)(y + s * x - c * y);
}

/* t is there, in this shape, exactly while it is wanted. 1 when it is new. */
static int need(effects *e, k_tensor *t, int wanted, int n, int h, int w, int c)
{
    if (wanted && t->n == n && t->h == h && t->w == w && t->c == c)
        return 0;
    k_drop(e->k, t);
    if (wanted)
        *t = k_keep(e->k, K_F32, n, h, w, c);
    return wanted;
}

/* The last result at the new size, stretched; the last of the frames is what feeds back. */
static void resize_result(effects *e, int n, int h, int w)
{
    k_tensor old = e->result;
    if (old.n == n && old.h == h && old.w == w)
        return;
    e->result = k_keep(e->k, K_F32, n, h, w, 3);
    if (e->has_result && old.dtype) {
        const float map[6] = {(float)old.w / (float)w, 0, 0, 0, (float)old.h / (float)h, 0};
        k_put(e->k, e->map, map);
        for (int i = 0; i < n; i++)
            K_CALL(e->k, warp, net_image(e->result, i), net_image(old, old.n - 1), e->map, 0);
    }
    k_drop(e->k, &old);
}

static void put_numbers(effects *e)
{
    k_ctx *k = e->k;
    const effects_settings *s = &e->set;
    const float row[3][3] = {
        [ROW_COPY] = {1, 0, 0},
        [ROW_LOOP] = {(float)(1 - s->loopback_mix),
                      (float)(s->loopback_mix * (1 - s->loopback_decay)), 0},
        [ROW_MASK] = {(float)s->mask_strength, 0, 0},
    };
    const float ease[2] = {(float)s->latent_feedback,
                           (float)(latent_limit / e->frame.latent_scale)};
    float map[6];
    for (int i = ROW_COPY; i <= ROW_MASK; i++)
        k_put(k, e->row[i], row[i]);
    if (s->loopback) {
        effects_map(map, e->frame.width, e->frame.height, s->loopback_zoom, s->loopback_rotate);
        k_put(k, e->map, map);
    }
    k_put(k, e->ease, ease);
}

static void resize_slots(effects *e, int masked, int n, int h, int w)
{
    int slots = masked ? e->frame.delay + 1 : 1, fresh = slots != e->slots;
    for (int i = 0; i <= EFFECTS_DELAY_MAX; i++) {
        fresh |= need(e, &e->slot[i].input, i < slots, n, h, w, 3);
        need(e, &e->slot[i].mask, masked && i < slots, n, h, w, 1);
        if (!masked)
            e->slot[i].composited = 0;
    }
    e->slots = slots;
    if (fresh)
        e->at = e->earlier = e->made = 0;
}

void effects_set(effects *e, const effects_settings *s, const effects_frame *f)
{
    int n = f->frames, h = f->height, w = f->width, masked = s->masked && s->mask_strength > 0;
    if (need(e, &e->latent, 1, 1, h / 8, w / 8, f->channels) ||
        e->frame.latent_scale != f->latent_scale)
        e->has_latent = 0;
    e->frame = *f;
    e->set = *s;
    e->set.masked = masked;
    resize_result(e, n, h, w);
    resize_slots(e, masked, n, h, w);
    need(e, &e->fed, s->loopback, n, h, w, 3);
    e->fed_back = 0; /* was of the last call; planning asks for an input before the next */
    need(e, &e->soft, masked && s->mask_feather > 0, 1, h, w, 1);
    need(e, &e->like, 1, n, 1, 1, 1);
    if (need(e, &e->ok, 1, n, 1, 1, OKS)) { /* what is not looked at is good */
        static const float ones[EFFECTS_FRAMES_MAX * OKS] = {1, 1, 1, 1, 1, 1, 1, 1,
                                                             1, 1, 1, 1, 1, 1, 1, 1};
        k_put(e->k, e->ok, ones);
    }
    if (need(e, &e->reference, s->similar, n, h, w, 3) || !s->similar)
        e->has_reference = e->liked = 0;
    put_numbers(e);
    e->refresh = 1;
    if (e->k->status)
        effects_reset(e);
}

void effects_plan(effects *e, const k_image *largest)
{
    k_ctx *k = e->k;
    int h = e->frame.height, w = e->frame.width;
    /* Masks need what image_in needs, whether or not there will be any. */
    k_tensor input = k_temp(k, K_F32, 1, h, w, 3), mask = k_temp(k, K_F32, 1, h, w, 1);
    K_CALL(k, image_in, input, largest, 1.0f, 0.0f);
    K_CALL(k, mask_in, mask, largest);
    K_CALL(k, finite, k_slice(e->ok, OK_LATENT, 1),
           k_temp(k, K_F32, e->frame.frames, h / 8, w / 8, e->frame.channels));
    k_temp(k, K_F32, e->frame.frames, h, w, 3); /* of effects_finish */
}

void effects_reset(effects *e)
{
    e->filter = (similar){0};
    e->has_result = e->has_latent = e->has_reference = e->liked = 0;
    e->at = e->earlier = e->made = 0;
    e->lost = 0;
}

void effects_refresh(effects *e)
{
    e->refresh = 1;
}

/* ---- before the networks --------------------------------------------------------------------- */

/* All images of t, which is dense, as one whose rows are lines: k_ops.mix has coefficients for each
 * image and works row by row. */
static k_tensor flat(k_tensor t)
{
    return (k_tensor){.data = t.data,
                      .dtype = t.dtype,
                      .n = 1,
                      .h = t.n * t.h,
                      .w = 1,
                      .c = t.w * t.c,
                      .ld = t.w * t.c};
}

static void copy(effects *e, k_tensor to, k_tensor from)
{
    const k_tensor none = {0};
    K_CALL(e->k, mix, flat(to), e->row[ROW_COPY], flat(from), none, none);
}

static k_tensor input_of(const effects *e)
{
    return e->slot[e->at].input;
}

/* The newest of the frames of a call, as a view. */
static k_tensor last_of(k_tensor t)
{
    return net_image(t, t.n - 1);
}

/* The least likeness of the frames of the call before; NAN where there is none. */
static double likeness(const effects *e)
{
    float like[EFFECTS_FRAMES_MAX];
    if (!e->liked || !e->has_result || e->refresh)
        return (double)NAN;
    k_get(e->k, e->like, like);
    double least = (double)like[0];
    for (int i = 1; i < e->frame.frames; i++)
        least = (double)like[i] >= least ? least : (double)like[i];
    return least;
}

/* 1 to skip. Everything that the decision reads is of calls before this one. */
static int filter(effects *e)
{
    const similar_settings o = {.threshold = e->set.similar_threshold,
                                .max_skip = e->set.similar_max_skip,
                                .seed = e->frame.seed};
    int skip = similar_skip(&e->filter, &o, likeness(e));
    e->liked = e->has_reference;
    if (e->has_reference)
        K_CALL(e->k, cosine, e->like, input_of(e), e->reference, 0.5f);
    if (!skip) {
        copy(e, e->reference, input_of(e));
        e->has_reference = 1;
    }
    return skip;
}

static void feed_back(effects *e)
{
    k_ctx *k = e->k;
    const k_tensor none = {0};
    e->fed_back = e->set.loopback && (e->has_result || !e->given);
    if (!e->fed_back)
        return;
    if (!e->has_result) { /* no input either: text begins with grey */
        K_CALL(k, affine, e->fed, e->fed, &(k_affine){0, 0.5f, 0.5f, 0.5f});
        return;
    }
    for (int i = 0; i < e->frame.frames; i++)
        K_CALL(k, warp, net_image(e->fed, i), last_of(e->result), e->map, e->set.loopback_mirror);
    if (e->given) {
        K_CALL(k, mix, flat(e->fed), e->row[ROW_LOOP], flat(input_of(e)), flat(e->fed), none);
    } else if (e->set.loopback_decay > 0) {
        const float kept = (float)(1 - e->set.loopback_decay);
        K_CALL(k, affine, e->fed, e->fed, &(k_affine){kept, 0, 0, 1});
    }
}

/* mask [1, h, w, 1] of one frame */
static void read_mask(effects *e, k_tensor mask, const k_image *from)
{
    float sigma = (float)e->set.mask_feather / 2;
    K_CALL(e->k, mask_in, mask, from);
    if (sigma > 0) {
        K_CALL(e->k, blur, e->soft, mask, sigma, 0);
        K_CALL(e->k, blur, mask, e->soft, sigma, 1);
    }
}

static void make_mask(effects *e, const k_image *in, const k_image *given)
{
    const k_tensor none = {0};
    slot *s = &e->slot[e->at];
    const k_image *from = e->set.mask_source == MASK_INPUT ? given : in;
    int opaque = !from || (e->set.mask_source == MASK_ALPHA && in->c != 4);
    s->composited = e->set.masked && e->given && !(opaque && e->set.mask_strength >= 1);
    if (!s->composited)
        return;
    for (int i = 0; i < e->frame.frames && !opaque; i++) {
        k_image one = *from;
        one.t = 1;
        one.data = (char *)one.data + (from->t > 1 ? i * from->stride_t : 0);
        read_mask(e, net_image(s->mask, i), &one);
    }
    if (opaque)
        K_CALL(e->k, affine, s->mask, s->mask, &(k_affine){0, 1, 1, 1});
    if (e->set.mask_strength < 1)
        K_CALL(e->k, mix, flat(s->mask), e->row[ROW_MASK], flat(s->mask), none, none);
}

/* The slot of this call: the one after the last call's, if that was made. */
static void next_slot(effects *e)
{
    if (!e->made)
        return;
    e->at = (e->at + 1) % e->slots;
    e->earlier += e->earlier < e->slots - 1;
    e->made = 0;
}

/* What is shown where the first result is lost: the input, or black. */
static void stand_in(effects *e)
{
    if (e->given)
        copy(e, e->result, input_of(e));
    else
        K_CALL(e->k, affine, e->result, e->result, &(k_affine){0, 0, 0, 0});
}

int effects_begin(effects *e, const k_image *in, const k_image *mask, double shown)
{
    next_slot(e);
    e->given = in != NULL;
    e->shown = in ? shown : 1;
    e->fed_back = 0;
    if (e->shown <= 0)
        effects_reset(e);
    if (in)
        K_CALL(e->k, image_in, input_of(e), in, 1.0f, 0.0f);
    if (e->shown <= 0)
        return 1;
    int skip = in && e->set.similar && filter(e);
    e->refresh = 0;
    if (skip) {
        e->repeats += e->frame.frames;
        return 1;
    }
    e->made = 1;
    e->had_result = e->has_result;
    if (!e->has_result)
        stand_in(e);
    feed_back(e);
    make_mask(e, in, mask);
    return 0;
}

k_tensor effects_input(const effects *e)
{
    return e->fed_back ? e->fed : input_of(e);
}

void effects_latent_in(effects *e, k_tensor z)
{
    if (!e->has_latent || e->set.latent_feedback <= 0)
        return;
    for (int i = 0; i < z.n; i++)
        K_CALL(e->k, ease, net_image(z, i), net_image(z, i), e->latent, e->ease);
}

/* ---- after them ------------------------------------------------------------------------------ */

void effects_latent_out(effects *e, k_tensor z)
{
    K_CALL(e->k, finite, k_slice(e->ok, OK_LATENT, 1), z);
    copy(e, e->latent, last_of(z));
    e->has_latent = !e->k->planning;
}

void effects_decoded(effects *e, int i, k_tensor picture, float scale, float bias)
{
    const slot *s = &e->slot[(e->at + e->slots - e->earlier) % e->slots];
    k_tensor to = net_image(e->result, i), ok = net_image(e->ok, i);
    const k_affine unit = {scale, bias, 0, 1}, same = {1, 0, 0, 1};
    K_CALL(e->k, finite, k_slice(ok, OK_PICTURE, 1), picture);
    if (s->composited) {
        K_CALL(e->k, affine, picture, picture, &unit);
        K_CALL(e->k, blend, picture, net_image(s->mask, i), picture, net_image(s->input, i));
    }
    K_CALL(e->k, affine_if, to, picture, ok, s->composited ? &same : &unit);
    e->has_result |= !e->k->planning; /* a new plan leaves what was */
}

/* Was a frame of this call lost? Then nothing that it has touched may live on. ok: the answer,
 * which the device, where it has decided what is shown, gives with the picture. */
static int judge(effects *e, float ok[EFFECTS_FRAMES_MAX][OKS])
{
    unsigned lost = 0;
    for (int i = 0; i < e->frame.frames; i++) {
        unsigned one = ok[i][OK_LATENT] == 0 ? EFFECTS_LOST_LATENT : 0;
        one |= ok[i][OK_PICTURE] == 0 ? EFFECTS_LOST_PICTURE : 0;
        e->repeats += one != 0;
        lost |= one;
    }
    e->good = lost ? 0 : e->good + (e->good < GOOD_RUN);
    e->lost = lost ? lost : e->good < GOOD_RUN ? e->lost : 0;
    if (!lost)
        return 0;
    e->has_result = e->had_result;
    e->has_latent = e->has_reference = e->liked = 0;
    e->at = e->earlier = e->made = 0;
    e->refresh = 1;
    return 1;
}

int effects_finish(effects *e, const k_image *out)
{
    k_ctx *k = e->k;
    const k_tensor none = {0};
    size_t mark = k_mark(k);
    k_tensor picture = e->shown > 0 ? e->result : input_of(e);
    if (e->shown > 0 && e->shown < 1) {
        picture = k_temp(k, K_F32, e->frame.frames, e->frame.height, e->frame.width, 3);
        const float row[3] = {(float)e->shown, (float)(1 - e->shown), 0};
        k_put(k, e->row[ROW_SHOWN], row);
        K_CALL(k, mix, flat(picture), e->row[ROW_SHOWN], flat(e->result), flat(input_of(e)), none);
    }
    float ok[EFFECTS_FRAMES_MAX][OKS];
    if (e->made)
        k_get_with(k, e->ok, ok);
    K_CALL(k, image_out, out, picture, 1.0f, 0.0f);
    k_release(k, mark);
    int lost = !k->status && e->made && judge(e, ok);
    if (k->status)
        effects_reset(e);
    return lost;
}

unsigned effects_lost(const effects *e)
{
    return e->lost;
}

int64_t effects_repeats(const effects *e)
{
    return e->repeats;
}

/* ---- life ------------------------------------------------------------------------------------ */

effects *effects_open(k_ctx *k, scope_error *err)
{
    effects *e = sd_calloc(1, sizeof *e);
    if (!e) {
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while opening the pipeline.");
        return NULL;
    }
    e->k = k;
    e->slots = 1;
    e->coef = k_keep(k, K_F32, ROWS, 1, 1, 3);
    e->map = k_keep(k, K_F32, 1, 1, 1, 6);
    e->ease = k_keep(k, K_F32, 1, 1, 1, 2);
    for (int i = 0; i < ROWS && !k->status; i++) {
        e->row[i] = e->coef;
        e->row[i].n = 1;
        e->row[i].data = (float *)e->coef.data + i * e->coef.ld;
    }
    return e;
}

void effects_close(effects *e)
{
    if (!e)
        return;
    for (int i = 0; i <= EFFECTS_DELAY_MAX; i++) {
        k_drop(e->k, &e->slot[i].input);
        k_drop(e->k, &e->slot[i].mask);
    }
    k_tensor *kept[] = {&e->result, &e->fed, &e->reference, &e->soft, &e->latent,
                        &e->coef,   &e->map, &e->ease,      &e->like, &e->ok};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        k_drop(e->k, kept[i]);
    free(e);
}
