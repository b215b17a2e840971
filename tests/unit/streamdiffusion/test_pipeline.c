/* test_pipeline.c - what a frame depends on, what a change costs, and that a warm frame is free of
 * allocations. On tiny random checkpoints. */
#include "tiny.h"

/* ---- counting allocations -------------------------------------------------------------------- */

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

extern char __executable_start, etext;

static _Thread_local int counting;
static _Thread_local long allocations;

/* AddressSanitizer brings an allocator of its own. */
#if defined(__SANITIZE_ADDRESS__)
enum { COUNTS = 0 };
#else
enum { COUNTS = 1 };

/* Ours are linked into this program; what oneDNN does inside of an execution is its own. */
static void count(const void *caller)
{
    const char *at = caller;
    allocations += counting && at >= &__executable_start && at < &etext;
}

void *malloc(size_t size)
{
    count(__builtin_return_address(0));
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    count(__builtin_return_address(0));
    return __libc_calloc(n, size);
}

void *realloc(void *block, size_t size)
{
    count(__builtin_return_address(0));
    return __libc_realloc(block, size);
}
#endif

/* ---- frames ---------------------------------------------------------------------------------- */

enum { SIDE = 64, PIXELS = 3 * 128 * 128 };

static const char *dir;
static const model *m;
static pipeline *p;
static scope_error err;

static const model *open_with(int memory)
{
    const model_options o = {.path = dir, .taesd = "", .device = "cpu", .memory = memory};
    const model *got = model_acquire(NULL, &o, &err);
    ck_assert_msg(got != NULL, "%s", err.text);
    return got;
}

static void open_tiny(tiny_options o)
{
    dir = tiny_folder();
    tiny_make(dir, o);
    m = open_with(K_MEMORY_NORMAL);
    p = pipeline_open(m, &err);
    ck_assert_msg(p != NULL, "%s", err.text);
}

static void close_tiny(void)
{
    pipeline_close(p);
    model_release(m);
    tiny_remove(dir);
}

static void setup(void)
{
    open_tiny((tiny_options){0});
}

static pipeline_settings usual(void)
{
    return (pipeline_settings){.width = SIDE,
                               .height = SIDE,
                               .fit = FIT_CROP,
                               .use_taesd = 1,
                               .prompt = {.count = 1, .text = {"a cat"}, .weight = {1}},
                               .negative_prompt = "",
                               .seed = 42,
                               .steps = 2,
                               .strength = 0.8,
                               .do_add_noise = 1,
                               .effects = {.loopback_mix = 1,
                                           .loopback_zoom = 1,
                                           .mask_source = MASK_ALPHA,
                                           .mask_strength = 1,
                                           .similar_threshold = 0.98,
                                           .similar_max_skip = 10}};
}

/* All that remembers, and all that composites. */
static void everything(effects_settings *e)
{
    e->loopback = e->masked = e->loopback_mirror = 1;
    e->loopback_mix = 0.5;
    e->loopback_zoom = 1.02;
    e->loopback_rotate = 2;
    e->loopback_decay = 0.1;
    e->mask_source = MASK_INPUT;
    e->mask_feather = 5;
    e->mask_strength = 0.8;
    e->latent_feedback = 0.2;
}

static k_image picture(uint8_t *data, int h, int w)
{
    return (k_image){.data = data,
                     .dtype = K_U8,
                     .t = 1,
                     .h = h,
                     .w = w,
                     .c = 3,
                     .stride_t = 3 * h * w,
                     .stride_h = 3 * w};
}

/* Waves, so that a crop is not the whole. */
static void draw(uint8_t *data, int h, int w)
{
    for (int i = 0; i < h * w * 3; i++)
        data[i] = (uint8_t)(128 + 100 * sin(0.05 * i / 3 + 0.002 * (i % 97) * (i / w)));
}

static void set(const pipeline_settings *s)
{
    ck_assert_msg(!pipeline_set(p, s, &err), "%s", err.text);
}

/* The frame of these settings for a fixed input, as floats. */
static void frame(const pipeline_settings *s, float *out)
{
    static uint8_t in[3 * SIDE * SIDE];
    draw(in, SIDE, SIDE);
    set(s);
    k_image from = picture(in, SIDE, SIDE);
    k_image to = {.data = out,
                  .dtype = K_F32,
                  .t = 1,
                  .h = s->height,
                  .w = s->width,
                  .c = 3,
                  .stride_h = 12 * (int64_t)s->width};
    ck_assert_msg(!pipeline_frame(p, s->from_text ? NULL : &from, &to, &err), "%s", err.text);
}

static double difference(const float *a, const float *b, int n)
{
    double most = 0;
    for (int i = 0; i < n; i++) {
        ck_assert(isfinite(a[i]) && isfinite(b[i]));
        most = fmax(most, fabs((double)a[i] - b[i]));
    }
    return most;
}

static float a[PIXELS], b[PIXELS];
enum { N = 3 * SIDE * SIDE };
static const double visible = 1e-4;

START_TEST(same_settings_same_frame)
{
    pipeline_settings s = usual();
    frame(&s, a);
    frame(&s, b);
    ck_assert_int_eq(memcmp(a, b, sizeof *a * N), 0);
    pipeline_close(p);
    p = pipeline_open(m, &err);
    frame(&s, b);
    ck_assert_int_eq(memcmp(a, b, sizeof *a * N), 0);
    pipeline_counts c = pipeline_count(p);
    ck_assert_int_eq(c.plans, 1);
    ck_assert_int_eq(c.texts, 1);
    ck_assert_int_eq(c.noises, 1);
}
END_TEST

START_TEST(every_setting_has_an_effect)
{
    pipeline_settings base = usual(), s = base;
    frame(&base, a);
#define CHANGED(...)                                                                               \
    s = base;                                                                                      \
    __VA_ARGS__;                                                                                   \
    frame(&s, b);                                                                                  \
    ck_assert_msg(difference(a, b, N) > visible, "no effect: %s", #__VA_ARGS__)
    CHANGED(s.prompt.text[0] = "a dog");
    CHANGED(s.seed = 43);
    CHANGED(s.guidance_scale = 3);
    CHANGED(s.steps = 4);
    CHANGED(s.strength = 0.3);
    CHANGED(s.do_add_noise = 0);
    CHANGED(s.use_taesd = 0);
    CHANGED(s.from_text = 1);
    CHANGED(s.index_count = 2, s.steps = 50, s.index[0] = 20, s.index[1] = 40);
    CHANGED(s.negative_prompt = "rain", s.negative_scale = 1);
    base.guidance_scale = 3;
    frame(&base, a);
    CHANGED(s.negative_prompt = "rain");
#undef CHANGED
    ck_assert_int_eq(pipeline_count(p).plans, 2); /* the other autoencoder, and nothing else */
}
END_TEST

START_TEST(settings_without_a_part_to_play)
{
    pipeline_settings s = usual();
    frame(&s, a);
    s.negative_prompt = "rain"; /* guidance is off */
    s.prompt.slerp = 1;         /* one prompt */
    s.prompt.weight[0] = 3;
    frame(&s, b);
    ck_assert_double_eq(difference(a, b, N), 0);
    s.steps = 1;
    frame(&s, a);
    s.do_add_noise = 0; /* there is no second step */
    frame(&s, b);
    ck_assert_double_eq(difference(a, b, N), 0);
    s.from_text = 1;
    frame(&s, a);
    s.strength = 0.1;
    frame(&s, b);
    ck_assert_double_eq(difference(a, b, N), 0);
}
END_TEST

START_TEST(texts_are_encoded_once)
{
    pipeline_settings s = usual();
    s.prompt = (prompt_blend){.count = 2, .text = {"red", "blue"}, .weight = {1, 0}};
    frame(&s, a);
    ck_assert_int_eq(pipeline_count(p).texts, 2);
    s.prompt.weight[1] = 1;
    frame(&s, b);
    ck_assert_double_gt(difference(a, b, N), visible);
    s.prompt.slerp = 1;
    frame(&s, b);
    s.prompt = (prompt_blend){.count = 1, .text = {"red"}, .weight = {2}};
    frame(&s, b);
    ck_assert_int_eq(pipeline_count(p).texts, 2);
    ck_assert_double_lt(difference(a, b, N), 1e-5); /* the same single text as at first */
    s.seed = 7;
    frame(&s, b);
    s.prompt.count = 0; /* no prompt is the empty prompt */
    frame(&s, a);
    ck_assert_int_eq(pipeline_count(p).texts, 3);
    s.prompt = (prompt_blend){.count = 1, .text = {""}, .weight = {1}};
    frame(&s, b);
    ck_assert_int_eq(pipeline_count(p).texts, 3);
    ck_assert_double_eq(difference(a, b, N), 0);
}
END_TEST

START_TEST(many_texts_come_and_go)
{
    pipeline_settings s = usual();
    char text[100][24];
    frame(&s, a);
    for (int i = 0; i < 100; i++) {
        snprintf(text[i], sizeof text[i], "text %d", i);
        s.prompt.text[0] = text[i];
        set(&s);
    }
    s = usual();
    frame(&s, b);
    ck_assert_double_eq(difference(a, b, N), 0);
    ck_assert_int_eq(pipeline_count(p).texts, 102); /* the first was forgotten meanwhile */
}
END_TEST

START_TEST(noise_is_drawn_when_it_changes)
{
    pipeline_settings s = usual();
    set(&s);
    s.strength = 0.5;
    s.prompt.text[0] = "other";
    set(&s);
    ck_assert_int_eq(pipeline_count(p).noises, 1);
    s.seed++;
    set(&s);
    ck_assert_int_eq(pipeline_count(p).noises, 2);
    s.steps++;
    set(&s);
    ck_assert_int_eq(pipeline_count(p).noises, 3);
    s.width += 8;
    set(&s);
    ck_assert_int_eq(pipeline_count(p).noises, 4);
}
END_TEST

/* Q15: what is prepared is known by its numbers (sizes, weights), never by the model's name, so a
 * size that came later cannot meet what was made for another. */
START_TEST(size_changes_without_reload)
{
    static const int size[][2] = {{72, 64}, {128, 96}, {8, 16}, {64, 64}};
    pipeline_settings s = usual();
    frame(&s, a);
    for (int i = 0; i < 4; i++) {
        s.width = size[i][0];
        s.height = size[i][1];
        frame(&s, b);
        difference(b, b, 3 * s.width * s.height); /* finite everywhere */
    }
    ck_assert_double_eq(difference(a, b, N), 0); /* back at the first size */
    ck_assert_int_eq(pipeline_count(p).plans, 5);
}
END_TEST

START_TEST(crop_takes_the_middle)
{
    static uint8_t wide[3 * 128 * 64], middle[3 * 64 * 64];
    pipeline_settings s = usual();
    s.height = s.width = 64;
    draw(wide, 64, 128);
    for (int y = 0; y < 64; y++)
        memcpy(middle + y * 3 * 64, wide + y * 3 * 128 + 3 * 32, 3 * 64);
    k_image to = {.data = a, .dtype = K_F32, .t = 1, .h = 64, .w = 64, .c = 3, .stride_h = 768};
    k_image from = picture(wide, 64, 128);
    set(&s);
    ck_assert_int_eq(pipeline_frame(p, &from, &to, &err), 0);
    to.data = b;
    from = picture(middle, 64, 64);
    ck_assert_int_eq(pipeline_frame(p, &from, &to, &err), 0);
    ck_assert_double_eq(difference(a, b, N), 0);
    s.fit = FIT_STRETCH;
    set(&s);
    from = picture(wide, 64, 128);
    ck_assert_int_eq(pipeline_frame(p, &from, &to, &err), 0);
    ck_assert_double_gt(difference(a, b, N), visible);
    s.fit = FIT_CROP; /* a column, a row and a single pixel */
    set(&s);
    static const int odd[][2] = {{1, 64}, {64, 1}, {1, 1}};
    for (int i = 0; i < 3; i++) {
        from = picture(wide, odd[i][0], odd[i][1]);
        ck_assert_msg(!pipeline_frame(p, &from, &to, &err), "%s", err.text);
    }
}
END_TEST

/* Q7: a network with a guidance embedding is told the scale; the originals leave it out. */
START_TEST(guidance_of_a_distilled_model)
{
    close_tiny();
    open_tiny((tiny_options){.lcm = 1, .no_vae = 1});
    pipeline_settings s = usual();
    frame(&s, a);
    s.guidance_scale = 8; /* what 0 stands for */
    s.negative_prompt = "rain";
    frame(&s, b);
    ck_assert_double_eq(difference(a, b, N), 0);
    ck_assert_int_eq(pipeline_count(p).texts, 1); /* no guidance by a negative prompt */
    s.guidance_scale = 2;
    frame(&s, b);
    ck_assert_double_gt(difference(a, b, N), 1e-5);
    ck_assert_str_eq(pipeline_notice(p), "");
    s.use_taesd = 0; /* there is nothing else here */
    set(&s);
    ck_assert_ptr_nonnull(strstr(pipeline_notice(p), "no vae"));
}
END_TEST

/* Q11: a picture is brought to -1..1 once, however bright it is; the originals do it again where no
 * pixel is dark. A few dark pixels change a bright picture a little, and only around them. */
START_TEST(bright_pictures_are_not_brightened)
{
    static uint8_t bright[3 * SIDE * SIDE];
    pipeline_settings s = usual();
    s.steps = 1;
    s.strength = 0.1;
    memset(bright, 150, sizeof bright);
    k_image from = picture(bright, SIDE, SIDE);
    k_image to = {.data = a, .dtype = K_F32, .t = 1, .h = SIDE, .w = SIDE, .c = 3};
    to.stride_h = 12 * SIDE;
    for (int taesd = 0; taesd < 2; taesd++) {
        s.use_taesd = taesd;
        set(&s);
        double moved[2];
        for (int dark = 0; dark < 2; dark++) { /* one pixel; or all, by as much as twice would */
            memset(bright, 150, sizeof bright);
            to.data = a;
            ck_assert_int_eq(pipeline_frame(p, &from, &to, &err), 0);
            memset(bright, dark ? 45 : 120, dark ? sizeof bright : 3);
            to.data = b;
            ck_assert_int_eq(pipeline_frame(p, &from, &to, &err), 0);
            moved[dark] = 0;
            for (int i = 0; i < N; i++)
                moved[dark] += fabs((double)a[i] - b[i]);
        }
        ck_assert_double_gt(moved[1], 0);
        ck_assert_double_lt(moved[0], moved[1] / 10);
    }
}
END_TEST

START_TEST(notices)
{
    char text[400] = "";
    close_tiny();
    open_tiny((tiny_options){.no_taesd = 1});
    pipeline_settings s = usual();
    set(&s);
    ck_assert_ptr_nonnull(strstr(pipeline_notice(p), "no TAESD"));
    s.use_taesd = 0;
    set(&s);
    ck_assert_str_eq(pipeline_notice(p), "");
    memset(text, 'x', sizeof text - 1);
    s.prompt.text[0] = text;
    set(&s);
    ck_assert_ptr_nonnull(strstr(pipeline_notice(p), "399 tokens"));
}
END_TEST

START_TEST(bad_settings_name_their_field)
{
    pipeline_settings s = usual();
    k_image to = {.data = a, .dtype = K_F32, .t = 1, .h = 64, .w = 64, .c = 3, .stride_h = 768};
    ck_assert_int_lt(pipeline_frame(p, NULL, &to, &err), 0); /* not set yet */
    s.width = 70;
    ck_assert_int_lt(pipeline_set(p, &s, &err), 0);
    ck_assert_str_eq(err.field, "width");
    ck_assert_ptr_nonnull(strstr(err.text, "72"));
    s = usual();
    s.index_count = 2;
    s.index[0] = 9;
    s.index[1] = 3;
    ck_assert_int_lt(pipeline_set(p, &s, &err), 0);
    ck_assert_str_eq(err.field, "t_index_list");
    s = usual();
    set(&s);
    ck_assert_int_lt(pipeline_frame(p, NULL, &to, &err), 0);
    ck_assert_str_eq(err.field, "input_mode");
    frame(&s, a); /* and it goes on */
}
END_TEST

/* For each text that is known, too: SDXL's rows of pooled text and size are made in place. */
START_TEST(a_warm_frame_allocates_nothing)
{
    static uint8_t in[3 * SIDE * SIDE], out[3 * SIDE * SIDE];
    static const char *const texts[] = {"a cat", "a dog"};
    pipeline_settings s = usual();
    if (_i) {
        close_tiny();
        open_tiny((tiny_options){.xl = 1});
    }
    s.prompt.text[0] = texts[1];
    set(&s);
    s.prompt.text[0] = texts[0];
    s.guidance_scale = 2;
    counting = 1;
    void *volatile block = malloc(1);
    counting = 0;
    free(block);
    ck_assert_int_eq(allocations, COUNTS);

    draw(in, SIDE, SIDE);
    k_image from = picture(in, SIDE, SIDE), to = picture(out, SIDE, SIDE);
    for (int taesd = 0; taesd < 2; taesd++) {
        s.use_taesd = taesd;
        set(&s);
        ck_assert_int_eq(pipeline_frame(p, &from, &to, &err), 0);
        size_t bytes = k_device_bytes(m->device);
        int failures = 0; /* an assertion of check allocates, too */
        allocations = 0;
        counting = 1;
        for (int i = 0; i < 4; i++) {
            s.prompt.text[0] = texts[i / 2];
            failures += pipeline_set(p, &s, &err) || pipeline_frame(p, &from, &to, &err);
        }
        counting = 0;
        ck_assert_int_eq(failures, 0);
        ck_assert_int_eq(allocations, 0);
        ck_assert_uint_eq(k_device_bytes(m->device), bytes);
    }
}
END_TEST

/* In a stream batch of two frames a call, with every kind of guidance, and noise drawn each call.
 */
START_TEST(a_warm_batch_allocates_nothing)
{
    static uint8_t in[2 * 3 * SIDE * SIDE], out[2 * 3 * SIDE * SIDE];
    pipeline_settings s = usual();
    s.use_denoising_batch = 1;
    s.frame_buffer_size = 2;
    s.guidance_scale = 2;
    s.delta = 0.7;
    s.noise_refresh = 1;
    s.seeds = (noise_seeds){.count = 2, .seed = {1, 2}, .weight = {1, 1}, .slerp = 1};
    draw(in, SIDE, SIDE);
    k_image from = picture(in, SIDE, SIDE), to = picture(out, SIDE, SIDE);
    from.t = to.t = 2;
    set(&s); /* also the text that full reads */
    for (int kind = GUIDE_FULL; kind <= GUIDE_INITIALIZE; kind++) {
        int failures = 0;
        allocations = 0;
        counting = 1;
        s.cfg_type = kind;
        s.seeds.weight[0] += 1;
        for (int i = 0; i < 3; i++)
            failures += pipeline_set(p, &s, &err) || pipeline_frame(p, &from, &to, &err);
        counting = 0;
        ck_assert_int_eq(failures, 0);
        ck_assert_int_eq(allocations, 0); /* nor does a change of kind or weight */
    }
}
END_TEST

/* With all effects on, and whether the frame is made or repeated. */
START_TEST(warm_effects_allocate_nothing)
{
    static uint8_t in[3 * SIDE * SIDE], out[3 * SIDE * SIDE], grey[SIDE * SIDE];
    pipeline_settings s = usual();
    everything(&s.effects);
    s.effects.similar = 1;
    s.effects.similar_max_skip = 2;
    draw(in, SIDE, SIDE);
    k_image from = picture(in, SIDE, SIDE), to = picture(out, SIDE, SIDE);
    k_image mask = {.data = grey,
                    .dtype = K_U8,
                    .t = 1,
                    .h = SIDE,
                    .w = SIDE,
                    .c = 1,
                    .stride_h = SIDE,
                    .stride_t = SIDE * SIDE};
    set(&s);
    pipeline_with(p, &mask, 0.5);
    ck_assert_int_eq(pipeline_frame(p, &from, &to, &err), 0);
    int failures = 0;
    allocations = 0;
    counting = 1;
    for (int i = 0; i < 8; i++) {
        pipeline_with(p, &mask, i % 4 / 3.0);
        failures += pipeline_frame(p, &from, &to, &err) != 0;
    }
    for (int i = 0; i < 8; i++)
        failures += pipeline_frame(p, &from, &to, &err) != 0;
    counting = 0;
    ck_assert_int_eq(failures, 0);
    ck_assert_int_eq(allocations, 0);
    ck_assert_int_gt(pipeline_repeats(p), 2);
}
END_TEST

/* The third of three frames. */
static void third(const pipeline_settings *s, float *to)
{
    pipeline_reset(p);
    for (int i = 0; i < 3; i++)
        frame(s, to);
}

START_TEST(every_effect_has_an_effect)
{
    pipeline_settings base = usual(), s;
    third(&base, a);
    frame(&base, b);
    ck_assert_double_eq(difference(a, b, N), 0); /* without effects there is no memory */
#define CHANGED(...)                                                                               \
    s = base;                                                                                      \
    __VA_ARGS__;                                                                                   \
    third(&s, b);                                                                                  \
    ck_assert_msg(difference(a, b, N) > visible, "no effect: %s", #__VA_ARGS__)
    CHANGED(s.effects.latent_feedback = 0.3);
    CHANGED(s.effects.loopback = 1);
    CHANGED(s.effects.masked = 1, s.effects.mask_strength = 0.5);
    base.effects.loopback = 1;
    third(&base, a);
    CHANGED(s.effects.loopback_mix = 0.5);
    CHANGED(s.effects.loopback_zoom = 1.1);
    CHANGED(s.effects.loopback_rotate = 5);
    CHANGED(s.effects.loopback_decay = 0.2);
    CHANGED(s.use_taesd = 0);
    base.effects.loopback_zoom = 0.8;
    third(&base, a);
    CHANGED(s.effects.loopback_mirror = 1);
#undef CHANGED
}
END_TEST

/* In a new pipeline, and after a reset, the first frame is that of a pipeline without memory. */
START_TEST(a_first_frame_has_no_past)
{
    pipeline_settings s = usual();
    frame(&s, a);
    pipeline_close(p);
    p = pipeline_open(m, &err);
    s.effects.loopback = 1;
    s.effects.latent_feedback = 0.3;
    for (int run = 0; run < 2; run++) {
        frame(&s, b);
        ck_assert_double_eq(difference(a, b, N), 0);
        frame(&s, b);
        ck_assert_double_gt(difference(a, b, N), visible);
        pipeline_reset(p);
    }
}
END_TEST

/* Known texts, their weights, transitions: nothing is taken for a change either. */
START_TEST(a_change_of_known_texts_allocates_nothing)
{
    static uint8_t in[3 * SIDE * SIDE], out[3 * SIDE * SIDE];
    pipeline_settings s = usual();
    if (_i) {
        close_tiny();
        open_tiny((tiny_options){.xl = 1});
    }
    draw(in, SIDE, SIDE);
    k_image from = picture(in, SIDE, SIDE), to = picture(out, SIDE, SIDE);
    for (int live = 0; live < 2; live++) {
        int failures = 0;
        s = usual();
        s.live = live;
        s.prompt = (prompt_blend){.count = 2, .text = {"(red)+", "blue"}, .weight = {1, 1}};
        s.negative_prompt = "rain";
        s.negative_scale = 1;
        set(&s);
        s.transition.steps = 3;
        allocations = 0;
        counting = 1;
        for (int i = 0; i < 12; i++) {
            s.prompt.slerp = i & 1;
            s.prompt.weight[1] = i / 4;
            failures += pipeline_set(p, &s, &err) || pipeline_frame(p, &from, &to, &err);
        }
        counting = 0;
        ck_assert_int_eq(failures, 0);
        ck_assert_int_eq(allocations, 0);
    }
}
END_TEST

/* Text that feeds itself: it needs no input, and strength decides. */
START_TEST(text_feeds_back_when_asked)
{
    pipeline_settings s = usual();
    s.from_text = 1;
    third(&s, a);
    frame(&s, b);
    ck_assert_double_eq(difference(a, b, N), 0);
    s.effects.loopback = 1;
    third(&s, b);
    ck_assert_double_gt(difference(a, b, N), visible);
    frame(&s, a);
    ck_assert_double_gt(difference(a, b, N), 1e-6); /* it moves on, by less and less */
    third(&s, a);
    ck_assert_double_eq(difference(a, b, N), 0); /* and a run repeats */
    s.strength = 0.3;
    third(&s, a);
    ck_assert_double_gt(difference(a, b, N), visible);
}
END_TEST

/* A size may change in the middle, with everything on. */
START_TEST(effects_survive_a_new_size)
{
    pipeline_settings s = usual();
    everything(&s.effects);
    for (int i = 0; i < 4; i++) {
        s.width = i % 2 ? 128 : 64;
        s.height = i > 1 ? 72 : 64;
        frame(&s, a);
        frame(&s, a);
        difference(a, a, 3 * s.width * s.height); /* finite everywhere */
    }
    s.effects.loopback = 0; /* and with loopback off in the same change */
    s.width = 96;
    frame(&s, a);
}
END_TEST

START_TEST(low_memory_makes_the_same_frame)
{
    pipeline_settings s = usual();
    for (int taesd = 0; taesd < 2; taesd++) {
        s.use_taesd = taesd;
        frame(&s, a);
        const model *low = open_with(K_MEMORY_LOW);
        pipeline *mine = p;
        p = pipeline_open(low, &err);
        ck_assert_msg(p != NULL, "%s", err.text);
        frame(&s, b);
        pipeline_close(p);
        model_release(low);
        p = mine;
        ck_assert_double_lt(difference(a, b, N), 1e-5);
    }
}
END_TEST

/* Q14: noise is a function of the seed, so no instance moves on another one's; in the originals all
 * draw from one generator. */
START_TEST(two_pipelines_on_one_model)
{
    pipeline_settings s = usual();
    frame(&s, a);
    pipeline *first = p;
    p = pipeline_open(m, &err);
    pipeline_settings other = usual();
    other.seed = 5;
    other.width = 128;
    frame(&other, b);
    pipeline_close(p);
    p = first;
    frame(&s, b);
    ck_assert_double_eq(difference(a, b, N), 0);
}
END_TEST

START_TEST(stages_add_up)
{
    scope_stage stage[8];
    pipeline_settings s = usual();
    frame(&s, a);
    int n = pipeline_stages(p, stage, 8);
    static const char *const name[] = {"text", "encode", "unet", "decode", "frame"};
    ck_assert_int_eq(n, 5);
    for (int i = 0; i < n; i++) {
        ck_assert_str_eq(stage[i].name, name[i]);
        ck_assert_double_gt(stage[i].ms, 0);
    }
    /* The frame holds its stages, and handing it over besides. */
    double sum = stage[1].ms + stage[2].ms + stage[3].ms;
    ck_assert_double_le(sum, stage[4].ms + 0.01);
    ck_assert_double_gt(sum, 0.7 * stage[4].ms);
    ck_assert_int_eq(pipeline_stages(p, stage, 1), 5);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pipeline");
    TCase *t = tcase_create("pipeline");
    tcase_add_checked_fixture(t, setup, close_tiny);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, same_settings_same_frame);
    tcase_add_test(t, every_setting_has_an_effect);
    tcase_add_test(t, settings_without_a_part_to_play);
    tcase_add_test(t, texts_are_encoded_once);
    tcase_add_test(t, many_texts_come_and_go);
    tcase_add_test(t, noise_is_drawn_when_it_changes);
    tcase_add_test(t, size_changes_without_reload);
    tcase_add_test(t, crop_takes_the_middle);
    tcase_add_test(t, guidance_of_a_distilled_model);
    tcase_add_test(t, bright_pictures_are_not_brightened);
    tcase_add_test(t, notices);
    tcase_add_test(t, bad_settings_name_their_field);
    tcase_add_loop_test(t, a_warm_frame_allocates_nothing, 0, 2);
    tcase_add_test(t, a_warm_batch_allocates_nothing);
    tcase_add_loop_test(t, a_change_of_known_texts_allocates_nothing, 0, 2);
    tcase_add_test(t, warm_effects_allocate_nothing);
    tcase_add_test(t, every_effect_has_an_effect);
    tcase_add_test(t, a_first_frame_has_no_past);
    tcase_add_test(t, text_feeds_back_when_asked);
    tcase_add_test(t, effects_survive_a_new_size);
    tcase_add_test(t, low_memory_makes_the_same_frame);
    tcase_add_test(t, two_pipelines_on_one_model);
    tcase_add_test(t, stages_add_up);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
