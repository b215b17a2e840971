/* test_effects.c - what surrounds the networks, with simple functions in the networks' place. */
#include "plugin/streamdiffusion/effects.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 32, PIXELS = SIDE * SIDE };

static k_device *device;
static k_ctx *k;
static effects *e;
static effects_settings set;
static effects_frame shape;
static float in[2 * 4 * PIXELS], out[3 * 4 * PIXELS], fed[3 * 4 * PIXELS];
static float painted; /* what the "network" decodes everywhere; < 0: what it was fed, halved */
static int channels, made;
static int lost; /* what effects_finish said last */

/* ---- frames ---- */

static k_image image(float *data, int h, int w, int c)
{
    return (k_image){.data = data,
                     .dtype = K_F32,
                     .t = 1,
                     .h = h,
                     .w = w,
                     .c = c,
                     .stride_t = 4 * (int64_t)h * w * c,
                     .stride_h = 4 * (int64_t)w * c};
}

static void put(void)
{
    effects_set(e, &set, &shape);
    k_image largest = image(in, SIDE, SIDE, 4);
    k_plan_begin(k);
    effects_plan(e, &largest);
    k_temp(k, K_F32, 1, shape.height, shape.width, 3);
    ck_assert_msg(!k_plan_end(k), "%s", k->where);
}

static void setup(void)
{
    char why[K_WHY];
    scope_error err = {0};
    device = k_device_open("cpu", NULL, why);
    k = k_open(device, why);
    e = effects_open(k, &err);
    ck_assert_ptr_nonnull(e);
    set = (effects_settings){.loopback_mix = 1,
                             .loopback_zoom = 1,
                             .mask_source = MASK_ALPHA,
                             .mask_strength = 1,
                             .similar_threshold = 0.98,
                             .similar_max_skip = 10};
    shape = (effects_frame){
        .width = SIDE, .height = SIDE, .frames = 1, .channels = 4, .latent_scale = 1, .seed = 42};
    painted = 0.75f;
    channels = 3;
    made = 0;
    for (int i = 0; i < 4 * PIXELS; i++)
        in[i] = (float)(i * 31 % 97) / 97;
    put();
}

static void teardown(void)
{
    effects_close(e);
    k_close(k);
    k_device_close(device);
}

static void frame_with(const k_image *from, const k_image *mask, double shown)
{
    k_image to = image(out, shape.height, shape.width, 3);
    int one = 3 * shape.height * shape.width;
    to.t = shape.frames;
    k_release(k, 0);
    if (!effects_begin(e, from, mask, shown)) {
        made++;
        k_get(k, effects_input(e), fed);
        k_tensor picture = k_temp(k, K_F32, 1, shape.height, shape.width, 3);
        for (int f = 0; f < shape.frames; f++) {
            for (int i = 0; i < one; i++)
                ((float *)picture.data)[i] = painted < 0 ? fed[f * one + i] / 2 : painted;
            effects_decoded(e, f, picture, 1, 0);
        }
        k_release(k, 0);
    }
    lost = effects_finish(e, &to);
    ck_assert_msg(!k->status, "%s", k->where);
}

static void frame(void)
{
    k_image from = image(in, SIDE, SIDE, channels);
    frame_with(&from, NULL, 1);
}

static void all_are(const float *x, float value)
{
    for (int i = 0; i < 3 * PIXELS; i++)
        ck_assert_float_eq_tol(x[i], value, 1e-6f);
}

static void is_input(const float *x)
{
    for (int i = 0; i < PIXELS; i++)
        for (int c = 0; c < 3; c++)
            ck_assert_float_eq_tol(x[3 * i + c], in[channels * i + c], 1e-6f);
}

START_TEST(nothing_is_on)
{
    frame();
    is_input(fed);
    all_are(out, 0.75f);
    frame();
    is_input(fed);
    ck_assert_int_eq(made, 2);
}
END_TEST

/* ---- frames that are lost ---- */

/* The result before, bit by bit, is shown and fed back; then all goes on. */
START_TEST(a_lost_frame_is_not_shown)
{
    static const float bad[] = {NAN, INFINITY, -NAN};
    float last[3 * PIXELS];
    set.loopback = 1;
    put();
    for (int i = 0; i < 3; i++) {
        painted = 0.1f * (float)i;
        in[i] += 0.1f;
        frame();
        ck_assert_int_eq(lost, 0);
        memcpy(last, out, sizeof last);
        painted = bad[i];
        frame();
        ck_assert_int_eq(lost, 1);
        ck_assert_uint_eq(effects_lost(e), EFFECTS_LOST_PICTURE);
        ck_assert_mem_eq(out, last, sizeof last);
        ck_assert_int_eq(effects_repeats(e), i + 1);
    }
    painted = 0.5f;
    frame();
    ck_assert_mem_eq(fed, last, sizeof last);
    all_are(out, 0.5f);
    ck_assert_int_eq(made, 7);
    for (int i = 1; i < 30; i++) {
        ck_assert_uint_eq(effects_lost(e), EFFECTS_LOST_PICTURE);
        frame();
    }
    ck_assert_uint_eq(effects_lost(e), 0);
    painted = NAN;
    frame();
    effects_reset(e);
    ck_assert_uint_eq(effects_lost(e), 0);
}
END_TEST

/* A lost frame is no reason to skip the next one, which is like it. */
START_TEST(what_was_lost_is_made_again)
{
    set.similar = 1;
    put();
    frame();
    painted = NAN;
    frame();
    all_are(out, 0.75f);
    painted = 0.5f;
    frame();
    all_are(out, 0.5f);
    ck_assert_int_eq(made, 3);
    ck_assert_int_eq(effects_repeats(e), 1);
}
END_TEST

START_TEST(a_first_frame_that_is_lost)
{
    set.loopback = 1;
    put();
    painted = NAN;
    for (int i = 0; i < 2; i++) {
        frame();
        is_input(out);
        is_input(fed);
        in[0] += 0.25f;
    }
    frame_with(NULL, NULL, 1);
    all_are(out, 0);
    painted = 0.25f;
    frame();
    is_input(fed);
    all_are(out, 0.25f);
    effects_reset(e);
    painted = NAN;
    frame();
    is_input(out);
}
END_TEST

START_TEST(a_lost_frame_under_a_mask)
{
    float last[3 * PIXELS], grey[PIXELS];
    for (int i = 0; i < PIXELS; i++)
        grey[i] = 0.5f;
    set.masked = 1;
    set.mask_source = MASK_INPUT;
    shape.delay = 1;
    put();
    k_image from = image(in, SIDE, SIDE, 3), mask = image(grey, SIDE, SIDE, 1);
    frame_with(&from, &mask, 1);
    memcpy(last, out, sizeof last);
    for (int i = 0; i < PIXELS; i++)
        in[i] = 1 - in[i];
    painted = INFINITY;
    frame_with(&from, &mask, 1);
    ck_assert_mem_eq(out, last, sizeof last);
    painted = 0.5f;
    frame_with(&from, &mask, 1); /* begins anew, with its own input */
    for (int i = 0; i < 3 * PIXELS; i++)
        ck_assert_float_eq_tol(out[i], (in[i] + 0.5f) / 2, 1e-6f);
}
END_TEST

/* Only those frames of a call that are lost stay as they were. */
START_TEST(lost_frames_of_a_call)
{
    set.latent_feedback = 0.5;
    shape.frames = 2;
    put();
    k_tensor z = k_keep(k, K_F32, 2, SIDE / 8, SIDE / 8, 4);
    float *at = z.data, last[6 * PIXELS];
    k_image from = image(in, SIDE, SIDE, 3);
    from.t = 2;
    frame_with(&from, NULL, 1);
    memcpy(last, out, sizeof last);
    painted = 0.25f;
    at[4] = NAN;
    effects_latent_out(e, z);
    frame_with(&from, NULL, 1);
    ck_assert_int_eq(lost, 1);
    ck_assert_uint_eq(effects_lost(e), EFFECTS_LOST_LATENT);
    ck_assert_mem_eq(out, last, sizeof last / 2);
    all_are(out + 3 * PIXELS, 0.25f);
    ck_assert_int_eq(effects_repeats(e), 1);
    at[4] = 1;
    effects_latent_in(e, z);
    ck_assert_float_eq(at[4], 1); /* nothing of the latent before */
    effects_latent_out(e, z);
    frame_with(&from, NULL, 1);
    ck_assert_int_eq(lost, 0);
    all_are(out, 0.25f);
    k_drop(k, &z);
}
END_TEST

/* ---- loopback ---- */

START_TEST(loopback_replaces_and_mixes)
{
    set.loopback = 1;
    put();
    frame();
    is_input(fed); /* there is no result before the first frame */
    frame();
    all_are(fed, 0.75f);
    painted = 0.25f;
    frame();
    all_are(fed, 0.75f); /* the frame before's, not this one's */
    frame();
    all_are(fed, 0.25f);
    set.loopback_decay = 0.2;
    put();
    frame();
    all_are(fed, 0.2f);
    set.loopback_mix = 0.25;
    put();
    frame();
    for (int i = 0; i < 3 * PIXELS; i++)
        ck_assert_float_eq_tol(fed[i], 0.75f * in[i] + 0.25f * 0.2f, 1e-6f);
    effects_reset(e);
    frame();
    is_input(fed);
}
END_TEST

/* Switching it on takes the result that is there. */
START_TEST(loopback_is_hot)
{
    frame();
    set.loopback = 1;
    put();
    frame();
    all_are(fed, 0.75f);
}
END_TEST

START_TEST(loopback_of_text)
{
    set.loopback = 1;
    set.loopback_decay = 0.5;
    put();
    frame_with(NULL, NULL, 1);
    all_are(fed, 0.5f);
    frame_with(NULL, NULL, 1);
    all_are(fed, 0.375f);
}
END_TEST

static void point(const float map[6], double x, double y, double u, double v)
{
    ck_assert_double_eq_tol((double)map[0] * x + (double)map[1] * y + (double)map[2], u, 1e-4);
    ck_assert_double_eq_tol((double)map[3] * x + (double)map[4] * y + (double)map[5], v, 1e-4);
}

START_TEST(maps)
{
    float map[6];
    effects_map(map, 64, 32, 1, 0);
    point(map, 7, 9, 7, 9);
    effects_map(map, 64, 32, 2, 0); /* twice as large: what is seen lies half as far out */
    point(map, 32, 16, 32, 16);
    point(map, 64, 0, 48, 8);
    effects_map(map, 64, 64, 1, 90); /* clockwise: on the right stands what was on top */
    point(map, 32, 32, 32, 32);
    point(map, 64, 32, 32, 0);
    point(map, 32, 64, 64, 32);
    effects_map(map, 100, 50, 0.5, 30);
    point(map, 50, 25, 50, 25);
    point(map, 60, 25, 50 + 20 * cos(acos(-1.0) / 6), 25 - 20 * sin(acos(-1.0) / 6));
}
END_TEST

/* A quarter turn each frame is exact: four of them are none. */
START_TEST(loopback_turns_and_mirrors)
{
    set.loopback = 1;
    set.loopback_rotate = 90;
    put();
    painted = -1;
    for (int i = 0; i < 5; i++)
        frame();
    for (int i = 0; i < 3 * PIXELS; i++)
        ck_assert_float_eq_tol(fed[i], in[i] / 16, 1e-5f);
    float turned[3 * PIXELS];
    effects_reset(e);
    frame();
    frame();
    memcpy(turned, fed, sizeof turned);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            ck_assert_float_eq_tol(turned[3 * (y * SIDE + x)],
                                   in[3 * ((SIDE - 1 - x) * SIDE + y)] / 2, 1e-5f);
    set.loopback_rotate = 0;
    set.loopback_zoom = 0.5;
    float edge[2];
    for (set.loopback_mirror = 0; set.loopback_mirror < 2; set.loopback_mirror++) {
        put();
        effects_reset(e);
        frame();
        frame();
        edge[set.loopback_mirror] = fed[3 * (SIDE / 2)]; /* the top: outside of the small picture */
        if (!set.loopback_mirror) /* clamped, the top row repeats down to the picture's edge */
            for (int y = 1; y < SIDE / 4; y++)
                ck_assert_float_eq_tol(fed[3 * (y * SIDE + SIDE / 2)], edge[0], 1e-6f);
    }
    ck_assert_float_ne(edge[0], edge[1]);
}
END_TEST

START_TEST(a_new_size_resamples_the_result)
{
    set.loopback = 1;
    put();
    painted = -1;
    for (int i = 0; i < PIXELS; i++)
        in[3 * i] = in[3 * i + 1] = in[3 * i + 2] = (float)(i % SIDE) / SIDE; /* a ramp */
    frame();
    shape.width = 2 * SIDE;
    shape.height = 8;
    put();
    frame();
    for (int x = 1; x < 2 * SIDE - 1; x++) {
        double want = fmax(0, (x + 0.5) / 2 - 0.5) / SIDE / 2;
        ck_assert_double_eq_tol((double)fed[3 * x], want, 1e-5);
    }
}
END_TEST

/* ---- masks ---- */

/* The left half is covered. */
static void half(float alpha[PIXELS])
{
    for (int i = 0; i < PIXELS; i++)
        alpha[i] = i % SIDE < SIDE / 2;
}

START_TEST(mask_of_alpha)
{
    float alpha[PIXELS];
    half(alpha);
    channels = 4;
    for (int i = 0; i < PIXELS; i++)
        in[4 * i + 3] = alpha[i];
    set.masked = 1;
    put();
    frame();
    for (int i = 0; i < 3 * PIXELS; i++)
        ck_assert_float_eq_tol(out[i], alpha[i / 3] > 0 ? 0.75f : in[i / 3 * 4 + i % 3], 1e-6f);
    set.mask_strength = 0.5;
    put();
    frame();
    for (int i = 0; i < 3 * PIXELS; i++) {
        float under = in[i / 3 * 4 + i % 3], m = alpha[i / 3] / 2;
        ck_assert_float_eq_tol(out[i], under + m * (0.75f - under), 1e-6f);
    }
    set.mask_strength = 0; /* off */
    put();
    frame();
    all_are(out, 0.75f);
    set.mask_strength = 1;
    put();
    channels = 3; /* no alpha: opaque */
    frame();
    all_are(out, 0.75f);
    set.mask_strength = 0.25;
    put();
    frame();
    for (int i = 0; i < 3 * PIXELS; i++)
        ck_assert_float_eq_tol(out[i], in[i] + 0.25f * (0.75f - in[i]), 1e-6f);
}
END_TEST

START_TEST(mask_of_an_input)
{
    float grey[PIXELS], wide[2 * PIXELS];
    half(grey);
    for (int i = 0; i < 2 * PIXELS; i++)
        wide[i] = i % (2 * SIDE) < SIDE;
    set.masked = 1;
    set.mask_source = MASK_INPUT;
    put();
    k_image from = image(in, SIDE, SIDE, 3), mask = image(grey, SIDE, SIDE, 1);
    frame_with(&from, &mask, 1);
    for (int i = 0; i < 3 * PIXELS; i++)
        ck_assert_float_eq_tol(out[i], grey[i / 3] > 0 ? 0.75f : in[i], 1e-6f);
    float exact[3 * PIXELS];
    memcpy(exact, out, sizeof exact);
    mask = image(wide, SIDE, 2 * SIDE, 1); /* of another size */
    frame_with(&from, &mask, 1);
    for (int i = 0; i < 3 * PIXELS; i++) {
        if (abs(i / 3 % SIDE - SIDE / 2) > 1)
            ck_assert_float_eq_tol(out[i], exact[i], 1e-6f);
    }
    frame_with(&from, NULL, 1);
    all_are(out, 0.75f);
    frame_with(NULL, &mask, 1); /* text: there is nothing beneath */
    all_are(out, 0.75f);
}
END_TEST

/* A full mask stays full at the picture's edges, and an edge inside becomes a slope. */
START_TEST(feather)
{
    float grey[PIXELS];
    for (int i = 0; i < PIXELS; i++)
        grey[i] = 1;
    set.masked = 1;
    set.mask_source = MASK_INPUT;
    set.mask_feather = 8;
    put();
    k_image from = image(in, SIDE, SIDE, 3), mask = image(grey, SIDE, SIDE, 1);
    frame_with(&from, &mask, 1);
    all_are(out, 0.75f);
    half(grey);
    memset(in, 0, sizeof in);
    frame_with(&from, &mask, 1);
    for (int x = 1; x < SIDE; x++) {
        for (int y = 1; y < SIDE; y++)
            ck_assert_float_eq_tol(out[3 * (y * SIDE + x)], out[3 * x], 1e-6f);
        ck_assert_float_le(out[3 * x], out[3 * (x - 1)] + 1e-6f);
    }
    /* sigma is 4: beyond 8 pixels 2.3 % are left of a whole slope, halfway one half */
    ck_assert_float_gt(out[3 * (SIDE / 2 - 9)], 0.96f * 0.75f);
    ck_assert_float_lt(out[3 * (SIDE / 2 + 8)], 0.04f * 0.75f);
    ck_assert_float_eq_tol(out[3 * (SIDE / 2 - 1)] + out[3 * (SIDE / 2)], 0.75f, 1e-3f);
}
END_TEST

/* What is fed back is the composite. */
START_TEST(masks_feed_back)
{
    set.masked = set.loopback = 1;
    set.mask_strength = 0.5;
    put();
    frame();
    frame();
    for (int i = 0; i < 3 * PIXELS; i++)
        ck_assert_float_eq_tol(fed[i], (in[i] + 0.75f) / 2, 1e-6f);
}
END_TEST

/* ---- latents ---- */

enum { Z = SIDE / 8 * SIDE / 8 * 4 };

static void latent(k_tensor z, float value)
{
    for (int i = 0; i < Z; i++)
        ((float *)z.data)[i] = value;
}

START_TEST(latent_feedback)
{
    set.latent_feedback = 0.25;
    put();
    k_tensor z = k_keep(k, K_F32, 1, SIDE / 8, SIDE / 8, 4);
    float *at = z.data;
    latent(z, 1);
    effects_latent_in(e, z);
    ck_assert_float_eq(at[0], 1); /* no frame before */
    latent(z, 3);
    effects_latent_out(e, z);
    latent(z, 1);
    effects_latent_in(e, z);
    for (int i = 0; i < Z; i++)
        ck_assert_float_eq_tol(at[i], 1.5f, 1e-6f);
    latent(z, NAN); /* a broken frame does not live on */
    effects_latent_out(e, z);
    latent(z, 1);
    effects_latent_in(e, z);
    ck_assert_float_eq(at[Z - 1], 1);
    latent(z, -1000);
    effects_latent_out(e, z);
    latent(z, 0);
    effects_latent_in(e, z);
    ck_assert_float_eq_tol(at[0], -2.5f, 1e-6f); /* -10 of it */
    shape.latent_scale = 0.5;                    /* another autoencoder */
    put();
    latent(z, 1);
    effects_latent_in(e, z);
    ck_assert_float_eq(at[0], 1);
    latent(z, 5);
    effects_latent_out(e, z);
    effects_reset(e);
    latent(z, 1);
    effects_latent_in(e, z);
    ck_assert_float_eq(at[0], 1);
    k_drop(k, &z);
    shape.height = 2 * SIDE;
    z = k_keep(k, K_F32, 1, SIDE / 4, SIDE / 8, 4);
    put();
    effects_latent_in(e, z);
    effects_latent_out(e, z);
    set.latent_feedback = 0;
    put();
    ((float *)z.data)[0] = 7;
    effects_latent_in(e, z);
    ck_assert_float_eq(((float *)z.data)[0], 7);
    ck_assert_msg(!k->status, "%s", k->where);
    k_drop(k, &z);
}
END_TEST

/* ---- skipping ---- */

START_TEST(still_pictures_are_skipped)
{
    set.similar = 1;
    put();
    for (int i = 0; i < 30; i++) {
        painted = 0.01f * (float)i;
        frame();
        /* The likeness of frame 1 is known at frame 2; frames 12, 23 are forced. */
        int makes = i < 2 || i % 11 == 1;
        ck_assert_msg((fabsf(out[0] - painted) < 1e-6f) == makes, "frame %d", i);
    }
    ck_assert_int_eq(made, 4);
    ck_assert_int_eq(effects_repeats(e), 26);
}
END_TEST

/* Frame 5 shows another picture: seen at frame 6. */
START_TEST(a_cut_is_seen_a_frame_later)
{
    set.similar = 1;
    put();
    for (int i = 0; i < 9; i++) {
        painted = 0.01f * (float)i;
        if (i == 5)
            for (int j = 0; j < 3 * PIXELS; j++)
                in[j] = 1 - in[j];
        frame();
        int makes = i < 2 || i == 6 || i == 7; /* 7: frame 6 was unlike what was last processed */
        ck_assert_msg((fabsf(out[0] - painted) < 1e-6f) == makes, "frame %d", i);
    }
}
END_TEST

START_TEST(changes_are_not_skipped)
{
    set.similar = 1;
    put();
    for (int i = 0; i < 4; i++)
        frame();
    ck_assert_int_eq(made, 2);
    set.mask_strength = 0.3;
    put();
    frame();
    ck_assert_int_eq(made, 3);
    frame();
    ck_assert_int_eq(made, 3);
    effects_refresh(e);
    frame();
    ck_assert_int_eq(made, 4);
    frame();
    ck_assert_int_eq(made, 4);
    effects_reset(e);
    frame();
    frame();
    ck_assert_int_eq(made, 6);
    set.similar = 0;
    put();
    for (int i = 0; i < 4; i++)
        frame();
    ck_assert_int_eq(made, 10);
    set.similar = 1;
    put();
    frame();
    frame();
    frame();
    ck_assert_int_eq(made, 12);
    for (int i = 0; i < 4; i++)
        frame_with(NULL, NULL, 1); /* text has no input that could be alike */
    ck_assert_int_eq(made, 16);
}
END_TEST

START_TEST(moving_pictures_are_made)
{
    set.similar = 1;
    put();
    for (int i = 0; i < 20; i++) {
        for (int j = 0; j < 3 * PIXELS; j++)
            in[j] = (float)((j * 31 + i * 977) % 97) / 97;
        frame();
    }
    ck_assert_int_eq(made, 20);
}
END_TEST

/* ---- bypass ---- */

START_TEST(fades_and_rests)
{
    set.loopback = 1;
    put();
    k_image from = image(in, SIDE, SIDE, 3);
    frame_with(&from, NULL, 0.25);
    for (int i = 0; i < 3 * PIXELS; i++)
        ck_assert_float_eq_tol(out[i], 0.25f * 0.75f + 0.75f * in[i], 1e-6f);
    frame_with(&from, NULL, 0.5);
    all_are(fed, 0.75f); /* the result feeds back, not the fade */
    ck_assert_int_eq(made, 2);
    frame_with(&from, NULL, 0);
    is_input(out);
    ck_assert_int_eq(made, 2);
    frame_with(&from, NULL, 1);
    is_input(fed); /* what was before the pause is forgotten */
    frame_with(NULL, NULL, 0.5);
    all_are(out, 0.75f); /* nothing to fade to */
}
END_TEST

/* ---- several frames a call, and results that come late ---- */

START_TEST(frames_of_a_call)
{
    float grey[2 * PIXELS];
    for (int i = 0; i < 2 * 3 * PIXELS; i++)
        in[i] = (float)(i * 31 % 89) / 89;
    half(grey);
    for (int i = 0; i < PIXELS; i++)
        grey[PIXELS + i] = 1 - grey[i];
    set.masked = set.loopback = 1;
    set.mask_source = MASK_INPUT;
    set.loopback_mix = 0.5;
    shape.frames = 2;
    put();
    k_image from = image(in, SIDE, SIDE, 3), mask = image(grey, SIDE, SIDE, 1);
    from.t = mask.t = 2;
    frame_with(&from, &mask, 1);
    for (int i = 0; i < 2 * 3 * PIXELS; i++)
        ck_assert_float_eq_tol(out[i], grey[i / 3] > 0 ? 0.75f : in[i], 1e-6f);
    float last[3 * PIXELS];
    memcpy(last, out + 3 * PIXELS, sizeof last);
    mask.t = 1; /* one mask for all of them */
    frame_with(&from, &mask, 0.5);
    for (int i = 0; i < 2 * 3 * PIXELS; i++) {
        /* the newest result feeds both */
        ck_assert_float_eq_tol(fed[i], (in[i] + last[i % (3 * PIXELS)]) / 2, 1e-6f);
        float result = grey[i / 3 % PIXELS] > 0 ? 0.75f : in[i];
        ck_assert_float_eq_tol(out[i], (result + in[i]) / 2, 1e-6f);
    }
    set.masked = set.loopback = 0;
    set.similar = 1;
    put();
    for (int i = 0; i < 4; i++)
        frame_with(&from, NULL, 1);
    ck_assert_int_eq(effects_repeats(e), 4); /* of two calls */
    for (int i = 3 * PIXELS; i < 2 * 3 * PIXELS; i++)
        in[i] = 1 - in[i]; /* one of the two has changed */
    frame_with(&from, NULL, 1);
    frame_with(&from, NULL, 1);
    ck_assert_int_eq(effects_repeats(e), 6);
    set.latent_feedback = 0.5;
    put();
    k_tensor z = k_keep(k, K_F32, 2, SIDE / 8, SIDE / 8, 4);
    for (int i = 0; i < 2 * Z; i++)
        ((float *)z.data)[i] = i < Z ? 1 : 3;
    effects_latent_out(e, z);
    effects_latent_in(e, z);
    ck_assert_float_eq(((float *)z.data)[0], 2);
    ck_assert_float_eq(((float *)z.data)[Z], 3);
    k_drop(k, &z);
}
END_TEST

/* A result is composited with the input that it was made of. */
START_TEST(late_results)
{
    float grey[PIXELS];
    half(grey);
    set.masked = 1;
    set.mask_source = MASK_INPUT;
    shape.delay = 2;
    put();
    k_image from = image(in, SIDE, SIDE, 3), mask = image(grey, SIDE, SIDE, 1);
    for (int run = 0; run < 2; run++) {
        for (int i = 0; i < 9; i++) {
            for (int j = 0; j < 3 * PIXELS; j++)
                in[j] = 0.1f * (float)i;
            frame_with(&from, &mask, 1);
            float want = 0.1f * (float)(i < 2 ? 0 : i - 2); /* the oldest there is, at first */
            ck_assert_float_eq_tol(out[3 * (SIDE - 1)], want, 1e-6f);
            ck_assert_float_eq_tol(out[0], 0.75f, 1e-6f);
        }
        effects_reset(e);
    }
    /* What is skipped does not advance. */
    set.similar = 1;
    put();
    for (int i = 0; i < 4; i++) {
        frame_with(&from, &mask, 1);
        ck_assert_float_eq_tol(out[3 * (SIDE - 1)], 0.8f, 1e-6f);
    }
    ck_assert_int_eq(made, 20);
    for (int j = 0; j < 3 * PIXELS; j++)
        in[j] = 0.1f;
    for (int i = 0; i < 4; i++)
        frame_with(&from, &mask, 1); /* skipped, made, made, skipped */
    ck_assert_int_eq(made, 22);
    ck_assert_float_eq_tol(out[3 * (SIDE - 1)], 0.8f, 1e-6f);
    frame_with(&from, &mask, 0);
    is_input(out);
    frame_with(&from, &mask, 1);
    ck_assert_float_eq_tol(out[3 * (SIDE - 1)], 0.1f, 1e-6f);
}
END_TEST

/* A failed frame leaves no history. */
START_TEST(failures_are_forgotten)
{
    set.loopback = 1;
    put();
    frame();
    k_image to = image(out, SIDE, SIDE, 3), from = image(in, SIDE, SIDE, 3);
    effects_begin(e, &from, NULL, 1);
    k_fail(k, "on purpose");
    effects_finish(e, &to);
    k->status = 0;
    frame();
    is_input(fed);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("effects");
    TCase *t = tcase_create("effects");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    const TTest *const tests[] = {nothing_is_on,
                                  a_lost_frame_is_not_shown,
                                  what_was_lost_is_made_again,
                                  a_first_frame_that_is_lost,
                                  a_lost_frame_under_a_mask,
                                  lost_frames_of_a_call,
                                  loopback_replaces_and_mixes,
                                  loopback_is_hot,
                                  loopback_of_text,
                                  maps,
                                  loopback_turns_and_mirrors,
                                  a_new_size_resamples_the_result,
                                  mask_of_alpha,
                                  mask_of_an_input,
                                  feather,
                                  masks_feed_back,
                                  latent_feedback,
                                  still_pictures_are_skipped,
                                  a_cut_is_seen_a_frame_later,
                                  changes_are_not_skipped,
                                  moving_pictures_are_made,
                                  fades_and_rests,
                                  frames_of_a_call,
                                  late_results,
                                  failures_are_forgotten};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(t, tests[i]);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
