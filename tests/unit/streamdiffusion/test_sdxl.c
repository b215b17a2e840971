/* test_sdxl.c - two text encoders, pooled text and sizes: what they are made of, and that they are
 * kept in step with the prompt, the size and guidance. Their numbers are in test_golden.c. */
#include "tiny.h"

#include "lora_file.h"

#include "plugin/streamdiffusion/added.h"
#include "plugin/streamdiffusion/loras.h"

enum { SIDE = 64, N = 3 * SIDE * SIDE, MOST = 3 * 96 * 96 };

static char dir[64];
static const model *m;
static scope_error err;

static void setup(void)
{
    snprintf(dir, sizeof dir, "%s", tiny_folder());
    tiny_make(dir, (tiny_options){.xl = 1});
    m = model_acquire(NULL, &(model_options){.path = dir, .taesd = "", .device = "cpu"}, &err);
    ck_assert_msg(m != NULL, "%s", err.text);
}

static void teardown(void)
{
    model_release(m);
    tiny_remove(dir);
}

static double distance(const float *x, const float *y, size_t n)
{
    double d = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        s += (double)y[i] * y[i];
    }
    ck_assert(isfinite(d) && s > 0);
    return sqrt(d / s);
}

/* ---- text ------------------------------------------------------------------------------------ */

enum { WIDTH = 56, FIRST = 32, POOLED = 20, FLAT = 77 * WIDTH + POOLED };

/* Text is encoded once as a plan and once for real. */
static void encode(const int32_t *ids, int skip, float *flat)
{
    char why[K_WHY];
    k_ctx *k = k_open(m->device, why);
    k_tensor in = k_keep(k, K_I32, 1, 1, TOKENIZER_LENGTH, 1);
    k_put(k, in, ids);
    k_plan_begin(k);
    text_encode(k, m, in, skip, NULL);
    ck_assert_msg(!k_plan_end(k), "%s", k->where);
    text_encode(k, m, in, skip, flat);
    ck_assert_msg(!k->status, "%s", k->where);
    ck_assert_uint_eq(k_mark(k), 0);
    k_drop(k, &in);
    k_close(k);
}

START_TEST(sizes_of_a_text)
{
    ck_assert_ptr_nonnull(m->text_2);
    ck_assert_int_eq(m->pad_2, 0); /* "!" */
    ck_assert_int_eq(text_width(m), WIDTH);
    ck_assert_int_eq(text_pooled(m), POOLED);
    ck_assert_uint_eq(text_size(m), FLAT);
    ck_assert_int_eq(unet_added_channels(m->unet), 64);
}
END_TEST

/* Causal: what comes after the end token changes neither the rows before it nor the pooled text.
 * The second encoder does not see how the first's texts are padded. */
START_TEST(the_second_encoder_has_its_own_padding)
{
    static float a[FLAT], b[FLAT];
    int32_t ids[TOKENIZER_LENGTH];
    int n = tokenizer_encode(m->tokens, "a cat", ids);
    encode(ids, 0, a);
    ck_assert_int_eq(ids[n + 1], tokenizer_eos(m->tokens));
    for (int i = n + 2; i < TOKENIZER_LENGTH; i++)
        ids[i] = 4;
    encode(ids, 0, b);
    ck_assert(!memcmp(a + 77 * WIDTH, b + 77 * WIDTH, POOLED * sizeof *a));
    for (int t = 0; t < TOKENIZER_LENGTH; t++) {
        ck_assert_double_lt(distance(b + t * WIDTH + FIRST, a + t * WIDTH + FIRST, WIDTH - FIRST),
                            1e-6);
        if (t > n + 1)
            ck_assert_double_gt(distance(b + t * WIDTH, a + t * WIDTH, FIRST), 1e-3);
    }
    ids[1] += 2;
    encode(ids, 0, b);
    ck_assert_double_gt(distance(b + 77 * WIDTH, a + 77 * WIDTH, POOLED), 1e-3);
}
END_TEST

/* SDXL stops one layer early; clip skip adds to it and ends at the first layer. The pooled text is
 * always of the last. */
START_TEST(layers_are_left_out)
{
    static float flat[4][FLAT];
    int32_t ids[TOKENIZER_LENGTH];
    tokenizer_encode(m->tokens, "a cat", ids);
    for (int skip = 0; skip < 4; skip++)
        encode(ids, skip, flat[skip]);
    /* Of two layers one is left at once; of three, after one more. */
    for (int t = 0; t < TOKENIZER_LENGTH; t++) {
        const float *one = flat[0] + t * WIDTH, *two = flat[1] + t * WIDTH;
        ck_assert(!memcmp(one, two, FIRST * sizeof *one));
        ck_assert_double_gt(distance(two + FIRST, one + FIRST, WIDTH - FIRST), 1e-3);
    }
    ck_assert(!memcmp(flat[1], flat[2], sizeof flat[1]));
    ck_assert(!memcmp(flat[1], flat[3], sizeof flat[1]));
    ck_assert(!memcmp(flat[0] + 77 * WIDTH, flat[1] + 77 * WIDTH, POOLED * sizeof(float)));
}
END_TEST

START_TEST(the_pooled_row)
{
    weights *w = weights_open_recorder(m->device, "text", &err);
    clip_config c = m->config.text_2;
    static const int32_t ids[] = {188, 7, 189, 189, 0}, none[] = {5, 5, 5, 5, 5};
    clip *old = clip_open(w, &c, &err);
    ck_assert_int_eq(c.eos_token_id, 2);
    ck_assert_int_eq(clip_pooled_row(old, ids, 5), 2); /* the first of the largest */
    ck_assert_int_eq(clip_pooled_row(old, none, 5), 0);
    clip_close(old);
    c.eos_token_id = 7;
    clip *today = clip_open(w, &c, &err);
    ck_assert_int_eq(clip_pooled_row(today, ids, 5), 1);
    ck_assert_int_eq(clip_pooled_row(today, none, 5), 0);
    clip_close(today);
    weights_close(w);
}
END_TEST

/* ---- the added row --------------------------------------------------------------------------- */

START_TEST(the_added_row_follows_text_and_size)
{
    static float flat[FLAT], first[64], then[64];
    char why[K_WHY];
    added a;
    k_ctx *k = k_open(m->device, why);
    ck_assert(!added_init(k, m, &a));
    k_plan_begin(k);
    added_plan(k, m, &a);
    k_plan_end(k);
    added_size size = {64, 96, 0};
    for (int i = 0; i < FLAT; i++)
        flat[i] = tiny_random((uint64_t)i);
    ck_assert_int_eq(added_set(k, m, &a, flat, size), 1);
    ck_assert_int_eq(added_set(k, m, &a, flat, size), 0);
    k_get(k, a.row, first);
    flat[3] += 1; /* the rows are none of its business */
    ck_assert_int_eq(added_set(k, m, &a, flat, size), 0);
    size.original = 64; /* what it is anyway */
    ck_assert_int_eq(added_set(k, m, &a, flat, size), 0);
    size.original = 512;
    ck_assert_int_eq(added_set(k, m, &a, flat, size), 1);
    k_get(k, a.row, then);
    ck_assert_double_gt(distance(then, first, 64), 1e-3);
    size.original = 0;
    ck_assert_int_eq(added_set(k, m, &a, flat, size), 1);
    k_get(k, a.row, then);
    ck_assert(!memcmp(first, then, sizeof first));
    flat[FLAT - 1] += 1;
    ck_assert_int_eq(added_set(k, m, &a, flat, size), 1);
    k_get(k, a.row, then);
    ck_assert_double_gt(distance(then, first, 64), 1e-3);
    ck_assert_msg(!k->status, "%s", k->where);
    added_fini(k, &a);
    k_close(k);
}
END_TEST

/* ---- frames ---------------------------------------------------------------------------------- */

static pipeline_settings usual(void)
{
    return (pipeline_settings){.width = SIDE,
                               .height = SIDE,
                               .fit = FIT_STRETCH,
                               .use_taesd = 1,
                               .prompt = {.count = 1, .text = {"a cat"}, .weight = {1}},
                               .negative_prompt = "",
                               .guidance_scale = 2.5,
                               .seed = 42,
                               .steps = 2,
                               .strength = 0.8,
                               .do_add_noise = 1};
}

static void frame(pipeline *p, const pipeline_settings *s, float *out)
{
    static uint8_t in[3 * SIDE * SIDE];
    for (int i = 0; i < 3 * SIDE * SIDE; i++)
        in[i] = (uint8_t)(128 + 100 * sin(0.02 * i));
    ck_assert_msg(!pipeline_set(p, s, &err), "%s", err.text);
    k_image from = {.data = in,
                    .dtype = K_U8,
                    .t = 1,
                    .h = SIDE,
                    .w = SIDE,
                    .c = 3,
                    .stride_t = sizeof in,
                    .stride_h = 3 * SIDE};
    k_image to = {.data = out,
                  .dtype = K_F32,
                  .t = 1,
                  .h = s->height,
                  .w = s->width,
                  .c = 3,
                  .stride_h = 12 * (int64_t)s->width};
    ck_assert_msg(!pipeline_frame(p, &from, &to, &err), "%s", err.text);
}

/* One thing else than usual. */
static pipeline_settings variant(int i)
{
    pipeline_settings s = usual();
    switch (i) {
    case 0:
        s.prompt.text[0] = "a dog";
        break;
    case 1:
        s.negative_prompt = "blur";
        break;
    case 2:
        s.guidance_scale = 0;
        break;
    case 3:
        s.original_size = 1024;
        break;
    case 4:
        s.clip_skip = 1;
        break;
    case 5:
        s.width = 96;
        break;
    case 6:
        s.steps = 1;
        break;
    case 7:
        s.cfg_type = GUIDE_INITIALIZE;
        s.delta = 1;
        break;
    default:
        s.prompt = (prompt_blend){.count = 2, .text = {"a cat", "a dog"}, .weight = {1, 1}};
        break;
    }
    return s;
}

/* Each change has an effect, and leaves nothing behind: the frame is that of a new pipeline. */
START_TEST(changes_are_followed_and_forgotten)
{
    static float first[MOST], other[MOST], fresh[MOST];
    pipeline_settings s = usual(), t = variant(_i);
    size_t n = 3 * (size_t)SIDE * (size_t)t.width;
    pipeline *p = pipeline_open(m, &err), *q = pipeline_open(m, &err);
    ck_assert_msg(p && q, "%s", err.text);
    frame(p, &s, first);
    frame(p, &t, other);
    frame(q, &t, fresh);
    ck_assert(!memcmp(other, fresh, n * sizeof *other));
    if (s.width == t.width)
        ck_assert_double_gt(distance(other, first, n), 1e-5);
    frame(p, &s, other);
    ck_assert(!memcmp(other, first, 3 * SIDE * SIDE * sizeof *other));
    pipeline_close(p);
    pipeline_close(q);
}
END_TEST

/* An empty negative prompt is zeros, unless the index says otherwise. */
START_TEST(no_negative_prompt_is_zeros)
{
    static float zeros[MOST], encoded[MOST], unguided[MOST];
    char other[64];
    ck_assert(text_is_zero(m, "") && !text_is_zero(m, "blur"));
    snprintf(other, sizeof other, "%s", tiny_folder());
    tiny_make(other, (tiny_options){.xl = 1});
    tiny_text(other, ".", "model_index.json",
              "{\"_class_name\": \"StableDiffusionXLImg2ImgPipeline\","
              " \"unet\": [\"diffusers\", \"UNet2DConditionModel\"],"
              " \"text_encoder\": [\"transformers\", \"CLIPTextModel\"],"
              " \"text_encoder_2\": [\"transformers\", \"CLIPTextModelWithProjection\"],"
              " \"vae\": [\"diffusers\", \"AutoencoderKL\"],"
              " \"force_zeros_for_empty_prompt\": false}");
    const model_options o = {.path = other, .taesd = "", .device = "cpu"};
    const model *n = model_acquire(NULL, &o, &err);
    ck_assert_msg(n && !text_is_zero(n, ""), "%s", err.text);
    pipeline *p = pipeline_open(m, &err), *q = pipeline_open(n, &err);
    pipeline_settings s = usual();
    frame(p, &s, zeros);
    frame(q, &s, encoded);
    ck_assert_double_gt(distance(zeros, encoded, 3 * SIDE * SIDE), 1e-4);
    s.guidance_scale = 0;
    frame(p, &s, zeros);
    frame(q, &s, unguided);
    ck_assert(!memcmp(zeros, unguided, 3 * SIDE * SIDE * sizeof *zeros));
    pipeline_close(p);
    pipeline_close(q);
    model_release(n);
    tiny_remove(other);
}
END_TEST

/* Q20: halfway between two texts the time rows are those of their blend, and afterwards of the
 * second; of the negative prompt likewise. The originals keep the pooled text of the first prompt
 * for ever. */
START_TEST(a_transition_takes_the_pooled_text_along)
{
    static float half[MOST], whole[MOST], is[MOST];
    pipeline_settings s = usual(), blend = usual(), to = usual();
    s.negative_prompt = blend.negative_prompt = to.negative_prompt = "blur";
    blend.prompt = (prompt_blend){.count = 2, .text = {"a cat", "a dog"}, .weight = {1, 1}};
    to.prompt.text[0] = "a dog";
    pipeline *p = pipeline_open(m, &err), *q = pipeline_open(m, &err);
    frame(q, &blend, half);
    frame(q, &to, whole);
    frame(p, &s, is);
    to.transition.steps = 2;
    frame(p, &to, is);
    ck_assert(!memcmp(is, half, N * sizeof *is));
    frame(p, &to, is);
    ck_assert(!memcmp(is, whole, N * sizeof *is));
    to.negative_prompt = ""; /* zeros: another way than by encoding */
    frame(q, &to, half);
    frame(q, &to, whole);
    to.transition.steps = 1;
    frame(p, &to, is);
    ck_assert(!memcmp(is, whole, N * sizeof *is));
    pipeline_close(p);
    pipeline_close(q);
}
END_TEST

/* Watched live, frames show the old text until the new one is encoded, pooled text and all. */
START_TEST(live_texts_arrive_whole)
{
    static float first[MOST], want[MOST], is[MOST];
    pipeline_settings s = usual();
    int old = 0, frames = 0;
    pipeline *p = pipeline_open(m, &err), *q = pipeline_open(m, &err);
    s.live = 1;
    frame(p, &s, first);
    s.prompt.text[0] = "a dog";
    s.negative_prompt = "blur";
    s.clip_skip = 1;
    frame(q, &s, want);
    do {
        frame(p, &s, is);
        int same = !memcmp(is, first, N * sizeof *is);
        ck_assert(same || !memcmp(is, want, N * sizeof *is));
        old += same;
    } while (memcmp(is, want, N * sizeof *is) && ++frames < 100000);
    ck_assert_int_lt(frames, 100000);
    ck_assert_int_gt(old, 0);
    pipeline_close(p);
    pipeline_close(q);
}
END_TEST

/* ---- LoRAs ----------------------------------------------------------------------------------- */

static void reweighed(pipeline *p, loras *l, const lora_want *want, int networks, float *out)
{
    const pipeline_settings s = usual();
    pipeline_reweigh(p);
    ck_assert_int_eq(loras_set(l, want, want != NULL, &err), networks);
    pipeline_reweighted(p, 1, networks & LORAS_TEXT_2);
    frame(p, &s, out);
}

/* The second text encoder, its projection, and the embedding that joins the time rows. */
START_TEST(loras_of_what_sdxl_has_besides)
{
    static const lora_tensor file[3][2] = {
        {{"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", {2, 24}, 0.4f},
         {"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", {32, 2}, 0.4f}},
        {{"text_encoder_2.text_projection.lora_A.weight", {2, 24}, 0.4f},
         {"text_encoder_2.text_projection.lora_B.weight", {20, 2}, 0.4f}},
        {{"lora_unet_label_emb_0_0.lora_down.weight", {2, 68}, 0.4f},
         {"lora_unet_label_emb_0_0.lora_up.weight", {64, 2}, 0.4f}}};
    static float plain[MOST], is[MOST];
    const model_options o = {.path = dir, .device = "cpu", .own = 1};
    const pipeline_settings s = usual();
    const model *own = model_acquire(NULL, &o, &err);
    loras *l = loras_open(own, &err);
    pipeline *p = pipeline_open(own, &err);
    ck_assert_msg(l && p, "%s", err.text);
    frame(p, &s, plain);
    for (int i = 0; i < 3; i++) {
        const lora_want want = {lora_file(dir, "lora", file[i], 2), 1};
        int networks = i < 2 ? LORAS_TEXT_2 : LORAS_UNET;
        reweighed(p, l, &want, networks, is);
        ck_assert_double_gt(distance(is, plain, N), 1e-5);
        reweighed(p, l, NULL, networks, is);
        ck_assert(!memcmp(is, plain, N * sizeof *is));
    }
    loras_close(l);
    pipeline_close(p);
    model_release(own);
}
END_TEST

/* ---- folders --------------------------------------------------------------------------------- */

static char logged[512];

static void keep_log(const scope_host *host, int level, const char *text)
{
    (void)host;
    if (level == SCOPE_WARN)
        snprintf(logged, sizeof logged, "%s", text);
}

static void no_progress(const scope_host *host, double done, const char *phase)
{
    (void)host, (void)done, (void)phase;
}

static int never(const scope_host *host)
{
    (void)host;
    return 0;
}

/* Q8: TAESD of SD fits SDXL's shapes and gives wrong colours; the originals load it. */
START_TEST(a_taesd_of_the_other_family_is_warned_of)
{
    char taesd[80], renamed[80];
    const scope_host host = {.log = keep_log, .progress = no_progress, .cancelled = never};
    snprintf(taesd, sizeof taesd, "%s/taesd", dir);
    snprintf(renamed, sizeof renamed, "%s/taesdxl", dir);
    model_options o = {.path = dir, .taesd = taesd, .device = "cpu"};
    const model *got = model_acquire(&host, &o, &err);
    ck_assert_ptr_nonnull(got);
    ck_assert_msg(strstr(logged, "madebyollin/taesdxl") != NULL, "\"%s\"", logged);
    model_release(got);
    logged[0] = 0;
    ck_assert_int_eq(rename(taesd, renamed), 0);
    o.taesd = renamed;
    got = model_acquire(&host, &o, &err);
    ck_assert_ptr_nonnull(got);
    ck_assert_str_eq(logged, "");
    model_release(got);
}
END_TEST

START_TEST(the_second_tokenizer)
{
    char path[96];
    model_options o = {.path = dir, .taesd = "", .device = "cpu", .memory = K_MEMORY_LOW};
    FILE *f = tiny_file(dir, "tokenizer_2", "vocab.json"); /* the same letters, other numbers */
    fputc('{', f);
    for (int c = '!'; c <= '~'; c++) {
        const char *escape = c == '"' || c == '\\' ? "\\" : "";
        fprintf(f, "\"%s%c\": %d, \"%s%c</w>\": %d, ", escape, c, 2 * ('~' - c), escape, c,
                2 * ('~' - c) + 1);
    }
    fputs("\"<|startoftext|>\": 188, \"<|endoftext|>\": 189}", f);
    fclose(f);
    ck_assert_ptr_null(model_acquire(NULL, &o, &err));
    ck_assert_msg(strstr(err.text, "tokenizer and tokenizer_2") != NULL, "%s", err.text);
    ck_assert_str_eq(err.field, "model_id_or_path");
    snprintf(path, sizeof path, "%s/tokenizer_2", dir);
    tiny_remove(path);
    const model *got = model_acquire(NULL, &o, &err);
    ck_assert_msg(got != NULL, "%s", err.text);
    ck_assert_int_eq(got->pad_2, 0);
    model_release(got);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sdxl");
    TCase *t = tcase_create("sdxl");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, sizes_of_a_text);
    tcase_add_test(t, the_second_encoder_has_its_own_padding);
    tcase_add_test(t, layers_are_left_out);
    tcase_add_test(t, the_pooled_row);
    tcase_add_test(t, the_added_row_follows_text_and_size);
    tcase_add_loop_test(t, changes_are_followed_and_forgotten, 0, 9);
    tcase_add_test(t, a_transition_takes_the_pooled_text_along);
    tcase_add_test(t, live_texts_arrive_whole);
    tcase_add_test(t, loras_of_what_sdxl_has_besides);
    tcase_add_test(t, no_negative_prompt_is_zeros);
    tcase_add_test(t, a_taesd_of_the_other_family_is_warned_of);
    tcase_add_test(t, the_second_tokenizer);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
