/* test_networks.c - the networks' structure: what they ask for, what they show, what they hold to.
 *
 * Their numbers are compared with diffusers elsewhere (tests/oracle, tests/golden).
 */
#include "tiny.h"

static const char *dir;
static const model *m;

static void open_model(tiny_options o)
{
    scope_error err = {0};
    dir = tiny_folder();
    tiny_make(dir, o);
    m = model_acquire(NULL, &(model_options){.path = dir, .taesd = "", .device = "cpu"}, &err);
    ck_assert_msg(m != NULL, "%s", err.text);
}

static void setup(void)
{
    open_model((tiny_options){0});
}

static void teardown(void)
{
    model_release(m);
    tiny_remove(dir);
}

/* ---- what a config asks for ------------------------------------------------------------------ */

static size_t recorded(weights *w, int *tensors)
{
    const char *name;
    const int64_t *dim;
    int ndim;
    size_t numbers = 0;
    for (*tensors = 0; weights_recorded(w, *tensors, &name, &ndim, &dim); ++*tensors)
        numbers += tiny_count(ndim, dim);
    weights_close(w);
    return numbers;
}

static unet_config sd_unet(int cross, int linear)
{
    unet_config c = {.in_channels = 4,
                     .out_channels = 4,
                     .blocks = 4,
                     .block_channels = {320, 640, 1280, 1280},
                     .down_attention = {1, 1, 1, 0},
                     .up_attention = {0, 1, 1, 1},
                     .layers = {2, 2, 2, 2},
                     .transformer_layers = {1, 1, 1, 1},
                     .heads = {8, 8, 8, 8},
                     .cross_attention_dim = cross,
                     .linear_projection = linear,
                     .norm_groups = 32,
                     .norm_eps = 1e-5f,
                     .act = K_SILU,
                     .time_embed_dim = 1280};
    return c;
}

static unet_config sdxl_unet(void)
{
    unet_config c = {.in_channels = 4,
                     .out_channels = 4,
                     .blocks = 3,
                     .block_channels = {320, 640, 1280},
                     .down_attention = {0, 1, 1},
                     .up_attention = {1, 1, 0},
                     .layers = {2, 2, 2},
                     .transformer_layers = {1, 2, 10},
                     .heads = {5, 10, 20},
                     .cross_attention_dim = 2048,
                     .linear_projection = 1,
                     .norm_groups = 32,
                     .norm_eps = 1e-5f,
                     .act = K_SILU,
                     .time_embed_dim = 1280,
                     .text_time = 1,
                     .addition_time_embed_dim = 256,
                     .addition_input_dim = 2816};
    return c;
}

/* Tensors and parameters of the published checkpoints. */
START_TEST(full_size_counts)
{
    char why[K_WHY];
    scope_error err = {0};
    int tensors;
    k_device *device = k_device_open("cpu", NULL, why);
    weights *w = weights_open_recorder(device, "unet", &err);
    unet_config c = sd_unet(768, 0);
    unet *u = unet_open(w, &c, &err);
    ck_assert_uint_eq(recorded(w, &tensors), 859520964); /* SD 1.5 */
    ck_assert_int_eq(tensors, 686);
    unet_close(u);

    w = weights_open_recorder(device, "unet", &err);
    c = sd_unet(1024, 1);
    u = unet_open(w, &c, &err);
    ck_assert_uint_eq(recorded(w, &tensors), 865910724); /* SD 2.1 */
    ck_assert_int_eq(tensors, 686);
    unet_close(u);

    w = weights_open_recorder(device, "unet", &err);
    c = sdxl_unet();
    u = unet_open(w, &c, &err);
    ck_assert_uint_eq(recorded(w, &tensors), 2567463684); /* SDXL */
    ck_assert_int_eq(tensors, 1680);
    unet_close(u);

    w = weights_open_recorder(device, "vae", &err);
    vae_config v = {.in_channels = 3,
                    .out_channels = 3,
                    .latent_channels = 4,
                    .blocks = 4,
                    .block_channels = {128, 256, 512, 512},
                    .layers = 2,
                    .act = K_SILU,
                    .norm_groups = 32,
                    .mid_attention = 1,
                    .quant_conv = 1,
                    .post_quant_conv = 1};
    vae *coder = vae_open(w, &v, &err);
    ck_assert_uint_eq(recorded(w, &tensors), 83653863);
    ck_assert_int_eq(tensors, 248);
    vae_close(coder);

    w = weights_open_recorder(device, "text_encoder", &err);
    clip_config l = {.vocab_size = 49408,
                     .width = 768,
                     .intermediate = 3072,
                     .layers = 12,
                     .heads = 12,
                     .positions = 77,
                     .act = K_QUICK_GELU};
    clip *text = clip_open(w, &l, &err);
    ck_assert_uint_eq(recorded(w, &tensors), 123060480); /* ViT-L/14 */
    ck_assert_int_eq(tensors, 196);
    clip_close(text);

    w = weights_open_recorder(device, "text_encoder_2", &err);
    clip_config g = {.vocab_size = 49408,
                     .width = 1280,
                     .intermediate = 5120,
                     .layers = 32,
                     .heads = 20,
                     .positions = 77,
                     .act = K_GELU,
                     .projection = 1280};
    text = clip_open(w, &g, &err);
    ck_assert_uint_eq(recorded(w, &tensors), 694659840); /* bigG/14 */
    ck_assert_int_eq(tensors, 517);
    clip_close(text);

    w = weights_open_recorder(device, "taesd", &err);
    taesd_config t = {.in_channels = 3,
                      .out_channels = 3,
                      .latent_channels = 4,
                      .stages = 4,
                      .encoder_channels = {64, 64, 64, 64},
                      .encoder_blocks = {1, 3, 3, 3},
                      .decoder_channels = {64, 64, 64, 64},
                      .decoder_blocks = {3, 3, 3, 1},
                      .act = K_RELU};
    taesd *tiny = taesd_open(w, &t, &err);
    ck_assert_uint_eq(recorded(w, &tensors), 2445063);
    ck_assert_int_eq(tensors, 134);
    taesd_close(tiny);
    k_device_close(device);
}
END_TEST

START_TEST(too_large_a_config_is_refused)
{
    char why[K_WHY];
    scope_error err = {0};
    k_device *device = k_device_open("cpu", NULL, why);
    weights *w = weights_open_recorder(device, "unet", &err);
    unet_config c = sd_unet(768, 0);
    c.layers[1] = 9;
    ck_assert_ptr_null(unet_open(w, &c, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "9 layers"));
    c = sd_unet(768, 0);
    c.transformer_layers[2] = 16;
    ck_assert_ptr_null(unet_open(w, &c, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "16 deep"));
    vae_config v = {.blocks = 4, .layers = 2, .shift_factor = 0.1f, .norm_groups = 1};
    ck_assert_ptr_null(vae_open(w, &v, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "shift_factor"));
    weights_close(w);
    k_device_close(device);
}
END_TEST

/* ---- running --------------------------------------------------------------------------------- */

typedef struct seen {
    char names[4096];
    int count;
    double sum; /* of |x|, over everything shown */
} seen;

static void see(void *ctx, const char *name, k_tensor x)
{
    seen *s = ctx;
    strncat(s->names, name, sizeof s->names - strlen(s->names) - 2);
    strcat(s->names, " ");
    s->count++;
    float *dense = malloc(sizeof *dense * (size_t)(k_rows(x) * x.c));
    for (int64_t r = 0; r < k_rows(x); r++) {
        for (int c = 0; c < x.c; c++)
            s->sum += fabs(((float *)x.data)[r * x.ld + c]);
    }
    free(dense);
}

typedef struct unet_run {
    int h, w, guidance;
    float timestep;
    float text; /* every number of the text states */
    const net_tap *tap;
} unet_run;

static void run_unet(const unet_run *o, float *out)
{
    char why[K_WHY];
    unet_text text;
    k_ctx *k = k_open(m->device, why);
    float *states = malloc(sizeof *states * 77 * 32), *x = malloc(sizeof *x * 4096);
    for (int i = 0; i < 77 * 32; i++)
        states[i] = o->text * tiny_random((uint64_t)i);
    for (int i = 0; i < o->h * o->w * 4; i++)
        x[i] = tiny_random(99 + (uint64_t)i);
    unet_text_keep(k, m->unet, &text, 1, 77);
    for (int pass = 0; pass < 2; pass++) {
        if (!pass)
            k_plan_begin(k);
        k_tensor in = k_temp(k, K_F32, 1, o->h, o->w, 4), y = k_temp(k, K_F32, 1, o->h, o->w, 4);
        k_tensor s = k_temp(k, K_F32, 1, 1, 77, 32), t = k_temp(k, K_F32, 1, 1, 1, 1), g = {0};
        k_tensor time = k_temp(k, K_F32, 1, 1, 1, unet_time_channels(m->unet));
        if (o->guidance)
            g = k_temp(k, K_F32, 1, 1, 1, 1);
        k_put(k, in, x);
        k_put(k, s, states);
        k_put(k, t, &o->timestep);
        if (o->guidance)
            k_put(k, g, &(float){1000.0f * (float)(o->guidance - 1)});
        unet_text_set(k, m->unet, &text, s);
        unet_time(k, m->unet, time, t, g, (k_tensor){0}, o->tap);
        unet_forward(k, m->unet, y, in, time, &text, o->tap);
        k_get(k, y, out);
        ck_assert_uint_eq(k_mark(k), k->arena.used);
        k_release(k, 0);
        if (!pass)
            ck_assert_msg(!k_plan_end(k), "%s", k->where);
    }
    ck_assert_msg(!k->status, "%s", k->where);
    unet_text_drop(k, &text);
    k_close(k);
    free(states);
    free(x);
}

static double distance(const float *a, const float *b, int n)
{
    double d = 0, s = 0;
    for (int i = 0; i < n; i++) {
        d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        s += (double)b[i] * b[i];
    }
    ck_assert(isfinite(s) && s > 0);
    return sqrt(d / s);
}

START_TEST(unet_shows_every_block)
{
    float y[8 * 8 * 4];
    seen s = {.names = ""};
    net_tap tap = {see, &s};
    run_unet(&(unet_run){.h = 8, .w = 8, .timestep = 499, .text = 1, .tap = &tap}, y);
    ck_assert_str_eq(s.names,
                     "time_embedding conv_in down_blocks.0.resnets.0 down_blocks.0.attentions.0 "
                     "down_blocks.0.downsamplers.0 down_blocks.1.resnets.0 mid_block.resnets.0 "
                     "mid_block.attentions.0 mid_block.resnets.1 mid_block up_blocks.0.resnets.0 "
                     "up_blocks.0.resnets.1 up_blocks.0.upsamplers.0 up_blocks.1.resnets.0 "
                     "up_blocks.1.attentions.0 up_blocks.1.resnets.1 up_blocks.1.attentions.1 "
                     "conv_out ");
    ck_assert(isfinite(s.sum) && s.sum > 0);
}
END_TEST

/* The output depends on the timestep, on the text, and on nothing that was run before. */
START_TEST(unet_depends_on_its_inputs)
{
    float a[256], b[256];
    unet_run run = {.h = 8, .w = 8, .timestep = 499, .text = 1};
    run_unet(&run, a);
    run_unet(&run, b);
    ck_assert_int_eq(memcmp(a, b, sizeof a), 0);
    run.timestep = 19;
    run_unet(&run, b);
    ck_assert_double_gt(distance(b, a, 256), 1e-3);
    run.timestep = 499;
    run.text = 2;
    run_unet(&run, b);
    ck_assert_double_gt(distance(b, a, 256), 1e-3);
}
END_TEST

/* Latents that do not halve evenly: the way up follows the skips. */
START_TEST(unet_takes_any_size)
{
    static const int size[][2] = {{8, 8}, {9, 7}, {1, 1}, {5, 12}};
    float y[5 * 12 * 4 + 16];
    for (int i = 0; i < 4; i++) {
        int n = size[i][0] * size[i][1] * 4;
        run_unet(&(unet_run){.h = size[i][0], .w = size[i][1], .timestep = 999, .text = 1}, y);
        for (int j = 0; j < n; j++)
            ck_assert(isfinite(y[j]));
    }
}
END_TEST

START_TEST(guidance_embedding_has_effect)
{
    float a[256], b[256];
    model_release(m);
    tiny_remove(dir);
    open_model((tiny_options){.lcm = 1, .linear = 1});
    run_unet(&(unet_run){.h = 8, .w = 8, .timestep = 499, .text = 1, .guidance = 8}, a);
    run_unet(&(unet_run){.h = 8, .w = 8, .timestep = 499, .text = 1, .guidance = 2}, b);
    ck_assert_double_gt(distance(b, a, 256), 1e-4);
}
END_TEST

/* picture -> latent -> picture, on a constant and on a tall shape; the sizes come out right. */
static void code(int tiny, int h, int w)
{
    char why[K_WHY];
    k_ctx *k = k_open(m->device, why);
    int n = 8 * h * 8 * w * 3;
    float *x = malloc(sizeof *x * (size_t)n);
    for (int i = 0; i < n; i++)
        x[i] = 0.5f + 0.25f * tiny_random((uint64_t)i);
    for (int pass = 0; pass < 2; pass++) {
        if (!pass)
            k_plan_begin(k);
        k_tensor picture = k_temp(k, K_F32, 1, 8 * h, 8 * w, 3), z = k_temp(k, K_F32, 1, h, w, 4);
        size_t mark = k_mark(k);
        k_put(k, picture, x);
        if (tiny) {
            taesd_encode(k, m->taesd, z, picture, NULL);
            taesd_decode(k, m->taesd, picture, z, NULL);
        } else {
            vae_encode(k, m->vae, z, picture, NULL);
            vae_decode(k, m->vae, picture, z, NULL);
        }
        ck_assert_uint_eq(k_mark(k), mark); /* all that was taken is given back */
        k_get(k, picture, x);
        k_release(k, 0);
        if (!pass)
            k_plan_end(k);
    }
    ck_assert_msg(!k->status, "%s", k->where);
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += fabs(x[i]);
    ck_assert(isfinite(sum) && sum > 0);
    k_close(k);
    free(x);
}

START_TEST(autoencoders_keep_sizes)
{
    for (int tiny = 0; tiny < 2; tiny++) {
        code(tiny, 4, 4);
        code(tiny, 3, 1);
    }
}
END_TEST

/* Causal: later tokens do not change earlier rows, earlier tokens change later rows. */
START_TEST(clip_is_causal)
{
    char why[K_WHY];
    k_ctx *k = k_open(m->device, why);
    int32_t ids[77];
    static float y[2][77 * 32];
    for (int i = 0; i < 77; i++)
        ids[i] = i * 2;
    for (int pass = -1; pass < 2; pass++) {
        if (pass < 0)
            k_plan_begin(k);
        if (pass == 1)
            ids[40] = 7;
        k_tensor in = k_temp(k, K_I32, 1, 1, 77, 1), out = k_temp(k, K_F32, 1, 1, 77, 32);
        k_put(k, in, ids);
        clip_forward(k, m->text, out, in, NULL);
        k_get(k, out, y[pass == 1]);
        k_release(k, 0);
        if (pass < 0)
            k_plan_end(k);
    }
    ck_assert_msg(!k->status, "%s", k->where);
    ck_assert_double_lt(distance(y[1], y[0], 40 * 32), 1e-5);
    ck_assert_double_gt(distance(y[1] + 40 * 32, y[0] + 40 * 32, 32), 1e-3);
    ck_assert_double_gt(distance(y[1] + 76 * 32, y[0] + 76 * 32, 32), 1e-5);
    k_close(k);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("networks");
    TCase *plain = tcase_create("configs");
    tcase_set_timeout(plain, 60);
    tcase_add_test(plain, full_size_counts);
    tcase_add_test(plain, too_large_a_config_is_refused);
    suite_add_tcase(s, plain);
    TCase *t = tcase_create("running");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, unet_shows_every_block);
    tcase_add_test(t, unet_depends_on_its_inputs);
    tcase_add_test(t, unet_takes_any_size);
    tcase_add_test(t, guidance_embedding_has_effect);
    tcase_add_test(t, autoencoders_keep_sizes);
    tcase_add_test(t, clip_is_causal);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
