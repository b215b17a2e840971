/* test_stream.c - several frames deep: what comes out when, what a change does to what is on its
 * way, and each point in which we differ from the programs that this replaces. On tiny random
 * checkpoints. */
#include "tiny.h"

enum { SIDE = 64, SIZE = 3 * SIDE * SIDE, FILM = 12 };

static const char *dir;
static const model *m;
static pipeline *p;
static scope_error err;
static uint8_t film[FILM][SIZE];

static pipeline *open_pipeline(void)
{
    pipeline *got = pipeline_open(m, &err);
    ck_assert_msg(got != NULL, "%s", err.text);
    return got;
}

static void setup(void)
{
    dir = tiny_folder();
    tiny_make(dir, (tiny_options){0});
    const model_options o = {.path = dir, .taesd = "", .device = "cpu"};
    m = model_acquire(NULL, &o, &err);
    ck_assert_msg(m != NULL, "%s", err.text);
    p = open_pipeline();
    /* Pictures that have nothing in common. */
    for (int k = 0; k < FILM; k++) {
        for (int i = 0; i < SIZE; i++)
            film[k][i] = (uint8_t)(128 + 110 * sin(0.02 * (k + 1) * i / 3 + 0.3 * k * (i / 192)));
    }
}

static void teardown(void)
{
    pipeline_close(p);
    model_release(m);
    tiny_remove(dir);
}

static pipeline_settings usual(int steps)
{
    return (pipeline_settings){.width = SIDE,
                               .height = SIDE,
                               .fit = FIT_CROP,
                               .use_taesd = 1,
                               .prompt = {.count = 1, .text = {"a cat"}, .weight = {1}},
                               .negative_prompt = "rain",
                               .seed = 42,
                               .delta = 0.7,
                               .steps = steps,
                               .strength = 0.9,
                               .do_add_noise = 1,
                               .use_denoising_batch = 1,
                               .frame_buffer_size = 1};
}

static void set(const pipeline_settings *s)
{
    ck_assert_msg(!pipeline_set(p, s, &err), "%s", err.text);
}

/* One call with film frames k, k + 1, ..; the output as floats. */
static void call(int k, int frames, float *out)
{
    k_image from = {film[k], K_U8, frames, SIDE, SIDE, 3, SIZE, 3 * SIDE};
    k_image to = {out, K_F32, frames, SIDE, SIDE, 3, 4 * SIZE, 12 * SIDE};
    ck_assert_msg(!pipeline_frame(p, &from, &to, &err), "%s", err.text);
}

static double difference(const float *a, const float *b)
{
    double most = 0;
    for (int i = 0; i < SIZE; i++) {
        ck_assert(isfinite(a[i]) && isfinite(b[i]));
        most = fmax(most, fabs((double)a[i] - b[i]));
    }
    return most;
}

/* A batch and single images differ in the order of summation; residual guidance magnifies it. */
static const double same = 2e-4, visible = 2e-3;

static float alone[FILM][SIZE], got[FILM][SIZE], other[SIZE];

/* Each frame of the film by itself, through all its steps. */
static void make_alone(pipeline_settings s)
{
    s.use_denoising_batch = 0;
    s.frame_buffer_size = 1;
    set(&s);
    for (int k = 0; k < FILM; k++)
        call(k, 1, alone[k]);
    for (int k = 1; k < FILM; k++)
        ck_assert_double_gt(difference(alone[k], alone[k - 1]), visible);
}

static const struct {
    int steps, kind;
    double scale;
} cases[] = {{1, GUIDE_FULL, 0},       {2, GUIDE_FULL, 0},       {4, GUIDE_FULL, 0},
             {8, GUIDE_FULL, 0},       {2, GUIDE_FULL, 2},       {1, GUIDE_SELF, 2},
             {2, GUIDE_SELF, 2},       {4, GUIDE_SELF, 2},       {1, GUIDE_INITIALIZE, 2},
             {2, GUIDE_INITIALIZE, 2}, {4, GUIDE_INITIALIZE, 2}, {3, GUIDE_NONE, 2}};

/* The batch makes the frames that single frames would be, n - 1 calls later, and until then it
 * shows the first one whole: never an empty buffer, as the originals do. Q5: one step of residual
 * guidance is the same in both ways, because S_0 = E_0 for each frame (the originals feed the
 * residual of one frame into the next); Q4: and so are several, whose sequence here updates S and
 * keeps E (there it does neither, and one frame's latent is the next one's noise). */
START_TEST(a_batch_is_late_and_nothing_else)
{
    pipeline_settings s = usual(cases[_i].steps);
    s.cfg_type = cases[_i].kind;
    s.guidance_scale = cases[_i].scale;
    make_alone(s);
    set(&s);
    pipeline_reset(p);
    int late = cases[_i].steps - 1;
    ck_assert_int_eq(pipeline_latency(p), late);
    for (int k = 0; k < FILM; k++) {
        call(k, 1, other);
        ck_assert_double_lt(difference(other, alone[k < late ? 0 : k - late]), same);
    }
}
END_TEST

/* Q2: frames that share a call shift together, and all of them come out; the originals shift by one
 * row, return the last and reuse one row of noise. How many share it does not show. */
START_TEST(frame_buffers)
{
    static const int of[][2] = {{1, 2}, {2, 2}, {3, 2}, {2, 3}, {4, 4}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        int steps = of[i][0], frames = of[i][1], late = (steps - 1) * frames;
        pipeline_settings s = usual(steps);
        s.guidance_scale = 2;
        s.cfg_type = i % 2 ? GUIDE_SELF : GUIDE_INITIALIZE;
        make_alone(s);
        s.frame_buffer_size = frames;
        set(&s);
        ck_assert_int_eq(pipeline_latency(p), late);
        for (int k = 0; k < FILM; k += frames)
            call(k, frames, got[k]);
        for (int k = 0; k < FILM; k++) {
            int shows = k < late ? k % frames : k - late;
            ck_assert_msg(difference(got[k], alone[shows]) < same, "%d steps, %d frames: frame %d",
                          steps, frames, k);
        }
    }
}
END_TEST

START_TEST(more_steps_than_a_batch_holds)
{
    pipeline_settings s = usual(9);
    set(&s);
    ck_assert_int_eq(pipeline_latency(p), 0);
    ck_assert_ptr_nonnull(strstr(pipeline_notice(p), "9 steps"));
    call(0, 1, got[0]);
    s.use_denoising_batch = 0;
    set(&s);
    ck_assert_str_eq(pipeline_notice(p), "");
    call(0, 1, got[1]);
    ck_assert_double_eq(difference(got[0], got[1]), 0);
}
END_TEST

/* After each of these the next output is the present frame, whole. */
START_TEST(what_begins_anew)
{
    pipeline_settings s = usual(3), text = s;
    text.from_text = 1;
    make_alone(s);
    set(&s);
    for (int k = 0; k < 5; k++)
        call(k, 1, other);
    pipeline_reset(p);
    call(5, 1, other);
    ck_assert_double_lt(difference(other, alone[5]), same);
    k_image to = {other, K_F32, 1, SIDE, SIDE, 3, 4 * SIZE, 12 * SIDE};
    set(&text);
    ck_assert_int_eq(pipeline_frame(p, NULL, &to, &err), 0);
    set(&s);
    call(6, 1, other); /* back from text */
    ck_assert_double_lt(difference(other, alone[6]), same);
    call(7, 1, other);
    s.steps = 2; /* another length */
    make_alone(s);
    s.steps = 3;
    set(&s);
    call(7, 1, other);
    s.steps = 2;
    set(&s);
    call(8, 1, other);
    ck_assert_double_lt(difference(other, alone[8]), same);
    call(9, 1, other);
    ck_assert_double_lt(difference(other, alone[8]), same);
    call(10, 1, other);
    ck_assert_double_lt(difference(other, alone[9]), same);
}
END_TEST

/* Other noise levels: what is on its way goes on from the new ones, as if it had always been
 * there. A step of the old list is the same estimate, so only a last step can tell. */
START_TEST(levels_change_under_way)
{
    pipeline_settings s = usual(50);
    s.index_count = 2;
    s.index[0] = 20;
    s.index[1] = 35;
    set(&s);
    for (int k = 0; k < 4; k++)
        call(k, 1, other);
    s.index[1] = 45; /* frame 3 has done step 0, and waits for step 1 */
    set(&s);
    call(4, 1, other);
    make_alone(s);
    ck_assert_double_lt(difference(other, alone[3]), same);
    ck_assert_double_gt(difference(other, alone[4]), visible);
}
END_TEST

/* Guidance begins under way without a flash: what was not guided has the noise that it was given.
 */
START_TEST(guidance_begins_under_way)
{
    pipeline_settings s = usual(4);
    set(&s);
    for (int k = 0; k < 6; k++)
        call(0, 1, got[k]);
    s.guidance_scale = 1.4;
    s.cfg_type = GUIDE_SELF;
    set(&s);
    for (int k = 6; k < FILM; k++)
        call(0, 1, got[k]);
    double whole = difference(got[FILM - 1], got[0]), step = difference(got[6], got[5]);
    ck_assert_double_gt(whole, visible);
    ck_assert_double_lt(step, 3 * whole + 0.05);
    ck_assert_double_lt(difference(got[10], got[11]), same); /* settled after n calls */
}
END_TEST

/* Q13: guidance of 1 or less is none, where the originals fail for want of a negative prompt. */
START_TEST(guidance_kinds_differ)
{
    pipeline_settings s = usual(2);
    int n = 0;
    s.use_denoising_batch = 0;
    s.guidance_scale = 2;
    for (int kind = GUIDE_FULL; kind <= GUIDE_INITIALIZE; kind++) {
        s.cfg_type = kind;
        set(&s);
        call(0, 1, got[n++]);
        for (int i = 0; i < n - 1; i++)
            ck_assert_double_gt(difference(got[i], got[n - 1]), visible);
    }
    s.negative_prompt = "sun"; /* full and initialize read it, none and self do not */
    for (int kind = GUIDE_FULL; kind <= GUIDE_INITIALIZE; kind++) {
        s.cfg_type = kind;
        set(&s);
        call(0, 1, other);
        int reads = kind == GUIDE_FULL || kind == GUIDE_INITIALIZE;
        ck_assert_int_eq(difference(other, got[kind]) > 1e-6, reads);
    }
    s.negative_prompt = "rain";
    s.delta = 1.3; /* self and initialize read it */
    for (int kind = GUIDE_FULL; kind <= GUIDE_INITIALIZE; kind++) {
        s.cfg_type = kind;
        set(&s);
        call(0, 1, other);
        ck_assert_int_eq(difference(other, got[kind]) > visible, kind >= GUIDE_SELF);
        s.guidance_scale = 1; /* none of them acts, whatever else is set */
        set(&s);
        call(0, 1, other);
        ck_assert_double_eq(difference(other, got[GUIDE_NONE]), 0);
        s.guidance_scale = 2;
    }
}
END_TEST

/* Q12: the negative prompt changes together with the guidance that reads it; the originals then
 * have rows of the one and not of the other. */
START_TEST(texts_of_guidance_follow)
{
    pipeline_settings s = usual(2);
    set(&s);
    call(0, 1, other);
    s.guidance_scale = 2;
    s.cfg_type = GUIDE_INITIALIZE;
    s.prompt.text[0] = "a dog";
    s.negative_prompt = "sun";
    make_alone(s);
    set(&s);
    pipeline_reset(p);
    call(0, 1, other);
    ck_assert_double_lt(difference(other, alone[0]), same);
}
END_TEST

/* ---- noise ----------------------------------------------------------------------------------- */

static void first_latent(const pipeline_settings *s, float *out)
{
    set(s);
    k_image to = {out, K_F32, 1, SIDE, SIDE, 3, 4 * SIZE, 12 * SIDE};
    ck_assert_msg(!pipeline_frame(p, NULL, &to, &err), "%s", err.text);
}

/* Q3: text starts from the noise of the seeds, so that the same seed is the same picture; the
 * originals draw it from a generator that nobody seeds. */
START_TEST(seeds_blend)
{
    pipeline_settings s = usual(1), one = s;
    s.from_text = one.from_text = 1;
    one.seed = 7;
    first_latent(&one, got[0]);
    s.seeds = (noise_seeds){.count = 2, .seed = {7, 8}, .weight = {1, 0}};
    first_latent(&s, other);
    ck_assert_double_eq(difference(other, got[0]), 0); /* a weight of 0 is no seed */
    s.seeds.weight[1] = 1;
    first_latent(&s, got[1]);
    ck_assert_double_gt(difference(got[1], got[0]), visible);
    s.seeds.weight[0] = s.seeds.weight[1] = 30; /* proportions count */
    first_latent(&s, other);
    ck_assert_double_lt(difference(other, got[1]), 1e-5);
    s.seeds.slerp = 1;
    s.seeds.weight[0] = 10;
    first_latent(&s, got[2]);
    s.seeds.slerp = 0;
    first_latent(&s, other);
    ck_assert_double_gt(difference(other, got[2]), 1e-5);
    s.seeds = (noise_seeds){.count = 2, .seed = {7, 7}, .weight = {1, 1}};
    first_latent(&s, other);
    ck_assert_double_eq(difference(other, got[0]), 0); /* the same seed twice is that seed */
    s.seeds = (noise_seeds){.count = 3, .seed = {7, 8, 9}, .slerp = 1};
    first_latent(&s, other); /* no weights: equal ones; three: linear */
}
END_TEST

/* Of the noise itself: the variance of a linear blend is 1, of slerp, too; a pure function. */
START_TEST(noise_keeps_its_strength)
{
    char why[K_WHY];
    k_device *device = k_device_open("cpu", NULL, why);
    k_ctx *k = k_open(device, why);
    noise z = {0};
    static float first[4][4096], again[4][4096];
    for (int slerp = 0; slerp < 2; slerp++) {
        noise_seeds s = noise_seeds_of(
            &(noise_seeds){.count = 2, .seed = {1, 2}, .weight = {1, 3}, .slerp = slerp});
        noise_resize(k, &z, 2, 2, 32, 32, 4);
        ck_assert_int_eq(noise_reserve(&z, &s), 0);
        k_plan_begin(k);
        k_temp(k, K_F32, 1, 32, 32, 4);
        ck_assert_int_eq(k_plan_end(k), 0);
        ck_assert_int_eq(noise_draw(k, &z, &s, 0), 1);
        ck_assert_int_eq(noise_draw(k, &z, &s, 0), 0);
        k_get(k, z.e, first);
        for (int i = 0; i < 4; i++) {
            double square = 0;
            for (int j = 0; j < 4096; j++)
                square += (double)first[i][j] * first[i][j];
            ck_assert_double_eq_tol(square / 4096, 1, 0.12); /* five standard errors */
        }
        ck_assert_int_eq(memcmp(first[0], first[1], sizeof *first), 0); /* repeated */
        ck_assert_int_ne(memcmp(first[0], first[2], sizeof *first), 0); /* another step */
        noise_draw(k, &z, &s, 5);
        k_get(k, z.e, again);
        ck_assert_int_ne(memcmp(first, again, sizeof first), 0);
        noise_draw(k, &z, &s, 0);
        k_get(k, z.e, again);
        ck_assert_int_eq(memcmp(first, again, sizeof first), 0);
    }
    ck_assert_int_eq(k->status, 0);
    noise_fini(k, &z);
    k_close(k);
    k_device_close(device);
}
END_TEST

/* Q17: the noise sticks to the screen by design; noise_refresh is the way out, and deterministic.
 */
START_TEST(noise_refreshes)
{
    pipeline_settings s = usual(1);
    s.noise_refresh = 2;
    set(&s);
    for (int k = 0; k < 6; k++)
        call(0, 1, got[k]);
    for (int k = 1; k < 6; k++)
        ck_assert_int_eq(difference(got[k], got[k - 1]) > visible, k % 2 == 0);
    long drawn = pipeline_count(p).noises;
    pipeline_reset(p);
    for (int k = 0; k < 6; k++) {
        call(0, 1, other);
        ck_assert_double_eq(difference(other, got[k]), 0);
    }
    ck_assert_int_eq(pipeline_count(p).noises, drawn + 3);
    s.noise_refresh = 0;
    set(&s);
    call(0, 1, other);
    ck_assert_double_eq(difference(other, got[0]), 0);
}
END_TEST

/* ---- settings that cannot be ----------------------------------------------------------------- */

static void refused(pipeline_settings s, const char *field, const char *says)
{
    ck_assert_int_lt(pipeline_set(p, &s, &err), 0);
    ck_assert_str_eq(err.field, field);
    ck_assert_msg(strstr(err.text, says) != NULL, "%s", err.text);
    ck_assert(pipeline_ready(p));
}

START_TEST(refused_settings_change_nothing)
{
    pipeline_settings good = usual(3), s;
    make_alone(good);
    set(&good);
    call(0, 1, other);
    call(1, 1, other);
#define REFUSED(field, says, ...)                                                                  \
    s = good;                                                                                      \
    s.seed = 1;                                                                                    \
    __VA_ARGS__;                                                                                   \
    refused(s, field, says)
    REFUSED("t_index_list", "is 50", s.index_count = 1, s.index[0] = 50);
    REFUSED("t_index_list", "is 3, after 9", s.index_count = 2, s.index[0] = 9, s.index[1] = 3);
    REFUSED("timesteps", "is 1000", s.timestep_count = 1, s.timestep[0] = 1000);
    REFUSED("timesteps", "is -1", s.timestep_count = 1, s.timestep[0] = -1);
    REFUSED("timesteps", "is 9, after 3", s.timestep_count = 2, s.timestep[0] = 3,
            s.timestep[1] = 9);
    REFUSED("num_inference_steps", "is 0", s.steps = 0);
    REFUSED("num_inference_steps", "is 51", s.steps = 51);
    REFUSED("frame_buffer_size", "is 9", s.frame_buffer_size = 9);
    REFUSED("width", "72", s.width = 70);
#undef REFUSED
    for (int k = 2; k < 6; k++) { /* the stream goes on as if nothing had been said */
        call(k, 1, other);
        ck_assert_double_lt(difference(other, alone[k - 2]), same);
    }
}
END_TEST

/* A size beyond memory fails when its tensors are there already: the settings before come back. */
START_TEST(back_from_a_size_beyond_memory)
{
    pipeline_settings good = usual(2), s = good;
    make_alone(good);
    set(&good);
    call(0, 1, other);
    s.width = s.height = 1 << 20;
    ck_assert_int_lt(pipeline_set(p, &s, &err), 0);
    ck_assert_int_gt((int)strlen(err.text), 20);
    ck_assert(pipeline_ready(p));
    call(3, 1, other);
    ck_assert_double_lt(difference(other, alone[3]), same);
}
END_TEST

START_TEST(timesteps_of_any_grid)
{
    pipeline_settings s = usual(50), t = usual(1);
    s.index_count = t.timestep_count = 2;
    s.index[0] = 16, s.index[1] = 32;
    t.timestep[0] = 679, t.timestep[1] = 359; /* the same on the grid of 50 */
    make_alone(s);
    t.use_denoising_batch = 0;
    set(&t);
    call(0, 1, other);
    ck_assert_double_eq(difference(other, alone[0]), 0);
    t.timestep_count = 4;
    t.timestep[0] = 999, t.timestep[1] = 749, t.timestep[2] = 499, t.timestep[3] = 249;
    set(&t);
    call(0, 1, other);
    ck_assert_double_gt(difference(other, alone[0]), visible);
}
END_TEST

/* Only shapes cost a plan; everything else is numbers. */
START_TEST(what_a_change_costs)
{
    pipeline_settings s = usual(4);
    set(&s);
    long plans = pipeline_count(p).plans;
    s.guidance_scale = 2, s.cfg_type = GUIDE_SELF, s.delta = 0.5, s.seed = 1, s.strength = 0.6;
    set(&s);
    s.cfg_type = GUIDE_FULL, s.do_add_noise = 0, s.noise_refresh = 3;
    s.timestep_count = 4;
    s.timestep[0] = 900, s.timestep[1] = 600, s.timestep[2] = 300, s.timestep[3] = 100;
    set(&s);
    ck_assert_int_eq(pipeline_count(p).plans, plans);
    s.timestep_count = 2; /* a pass of another size */
    set(&s);
    ck_assert_int_eq(pipeline_count(p).plans, plans + 1);
    s.use_denoising_batch = 0;
    set(&s);
    ck_assert_int_eq(pipeline_count(p).plans, plans + 2);
    s.timestep_count = 4; /* one after the other: the same size */
    set(&s);
    ck_assert_int_eq(pipeline_count(p).plans, plans + 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stream");
    TCase *t = tcase_create("stream");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 240);
    tcase_add_loop_test(t, a_batch_is_late_and_nothing_else, 0, sizeof cases / sizeof *cases);
    tcase_add_test(t, frame_buffers);
    tcase_add_test(t, more_steps_than_a_batch_holds);
    tcase_add_test(t, what_begins_anew);
    tcase_add_test(t, levels_change_under_way);
    tcase_add_test(t, guidance_begins_under_way);
    tcase_add_test(t, guidance_kinds_differ);
    tcase_add_test(t, texts_of_guidance_follow);
    tcase_add_test(t, seeds_blend);
    tcase_add_test(t, noise_keeps_its_strength);
    tcase_add_test(t, noise_refreshes);
    tcase_add_test(t, refused_settings_change_nothing);
    tcase_add_test(t, back_from_a_size_beyond_memory);
    tcase_add_test(t, timesteps_of_any_grid);
    tcase_add_test(t, what_a_change_costs);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
