/* test_config.c - the configs of published checkpoints, defaults, and what is refused in which
 * words. */
#include "plugin/streamdiffusion/config.h"

#include "kernels/kernels.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define GOLDEN SOURCE_DIR "/tests/golden/configs/"

static char root[64];

static void setup(void)
{
    snprintf(root, sizeof root, "/tmp/test_config.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    ck_assert_int_eq(system(command), 0);
}

/* Write root/name; `name` may have a folder. NULL removes. */
static void put(const char *name, const char *text)
{
    char path[256];
    const char *slash = strchr(name, '/');
    if (slash) {
        snprintf(path, sizeof path, "%s/%.*s", root, (int)(slash - name), name);
        mkdir(path, 0777);
    }
    snprintf(path, sizeof path, "%s/%s", root, name);
    unlink(path);
    FILE *f = text ? fopen(path, "wb") : NULL;
    if (f) {
        fputs(text, f);
        fclose(f);
    }
}

static model_config read_golden(const char *name)
{
    char path[512];
    model_config c;
    scope_error err;
    snprintf(path, sizeof path, GOLDEN "%s", name);
    ck_assert_msg(!config_read(&c, path, &err), "%s", err.text);
    return c;
}

START_TEST(published_checkpoints)
{
    model_config c = read_golden("sd15");
    static const int channels[] = {320, 640, 1280, 1280}, cross[] = {1, 1, 1, 0},
                     up[] = {0, 1, 1, 1};
    ck_assert_str_eq(c.pipeline, "StableDiffusionPipeline");
    ck_assert_int_eq(c.unet.blocks, 4);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(c.unet.block_channels[i], channels[i]);
        ck_assert_int_eq(c.unet.down_attention[i], cross[i]);
        ck_assert_int_eq(c.unet.up_attention[i], up[i]);
        ck_assert_int_eq(c.unet.layers[i], 2);
        ck_assert_int_eq(c.unet.transformer_layers[i], 1);
        ck_assert_int_eq(c.unet.heads[i], 8);
    }
    ck_assert_int_eq(c.unet.cross_attention_dim, 768);
    ck_assert_int_eq(c.unet.time_embed_dim, 1280);
    ck_assert_int_eq(c.unet.time_cond_proj_dim, 0);
    ck_assert_int_eq(c.unet.act, K_SILU);
    ck_assert_int_eq(c.unet.sin_first, 0);
    ck_assert_int_eq(c.text.act, K_QUICK_GELU);
    ck_assert_int_eq(c.text.eos_token_id, 2);
    ck_assert_int_eq(c.text.projection, 0);
    ck_assert(c.has_vae && c.has_taesd);
    ck_assert_str_eq(c.taesd_dir, "taesd");
    ck_assert_float_eq(c.vae.scaling_factor, 0.18215f);
    ck_assert_int_eq(c.vae.mid_attention, 1);
    ck_assert_int_eq(c.taesd.encoder_blocks[0], 1);
    ck_assert_int_eq(c.taesd.decoder_blocks[3], 1);
    ck_assert_int_eq(c.scheduler.prediction, PREDICT_EPSILON);
    ck_assert_int_eq(c.scheduler.scaled_linear, 1);
    ck_assert_int_eq(c.scheduler.original_steps, 50);

    c = read_golden("sd21");
    ck_assert_int_eq(c.unet.heads[0], 5);
    ck_assert_int_eq(c.unet.heads[3], 20);
    ck_assert(c.unet.linear_projection && c.unet.upcast_attention);
    ck_assert_int_eq(c.unet.sample_size, 96);
    ck_assert_int_eq(c.text.layers, 23);
    ck_assert_int_eq(c.text.act, K_GELU);
    ck_assert_int_eq(c.scheduler.prediction, PREDICT_V);
    ck_assert_int_eq(read_golden("sd-turbo").scheduler.prediction, PREDICT_EPSILON);
    ck_assert_int_eq(read_golden("lcm").unet.time_cond_proj_dim, 256);
}
END_TEST

START_TEST(sdxl)
{
    static const int depth[] = {1, 2, 10}, heads[] = {5, 10, 20}, down[] = {0, 1, 1},
                     up[] = {1, 1, 0};
    model_config c = read_golden("sdxl");
    ck_assert_int_eq(c.unet.blocks, 3);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(c.unet.transformer_layers[i], depth[i]);
        ck_assert_int_eq(c.unet.heads[i], heads[i]);
        ck_assert_int_eq(c.unet.down_attention[i], down[i]);
        ck_assert_int_eq(c.unet.up_attention[i], up[i]);
    }
    ck_assert(c.unet.text_time && c.unet.linear_projection);
    ck_assert_int_eq(c.unet.addition_time_embed_dim, 256);
    ck_assert_int_eq(c.unet.addition_input_dim, 1280 + 6 * 256);
    ck_assert(c.has_text_2 && c.zero_empty);
    ck_assert_int_eq(c.text_2.width, 1280);
    ck_assert_int_eq(c.text_2.projection, 1280);
    ck_assert_int_eq(c.text_2.act, K_GELU);
    ck_assert_int_eq(c.text_2.layers, 32);
    ck_assert_int_eq(c.text.width + c.text_2.width, c.unet.cross_attention_dim);
    ck_assert_float_eq(c.vae.scaling_factor, 0.13025f);
    c = read_golden("sd15");
    ck_assert(!c.has_text_2 && !c.zero_empty);
}
END_TEST

/* A TAESD of SD fits SDXL and the other way round; only names can tell. */
START_TEST(a_foreign_taesd_is_told_by_its_names)
{
    model_config xl = read_golden("sdxl"), sd = read_golden("sd15");
    ck_assert(!config_taesd_is_foreign(&xl, "/models/taesd")); /* its config says taesdxl */
    xl.taesd.origin[0] = 0;
    ck_assert(config_taesd_is_foreign(&xl, "/models/taesd"));
    ck_assert(!config_taesd_is_foreign(&xl, "/models/taesd/taesdxl"));
    ck_assert(!config_taesd_is_foreign(&xl, "/models/tiny"));
    ck_assert(config_taesd_is_foreign(&sd, "/hub/models--madebyollin--TAESDXL/snapshots/1"));
    ck_assert(!config_taesd_is_foreign(&sd, "/models/taesd"));
}
END_TEST

START_TEST(defaults_are_diffusers)
{
    unet_config u;
    clip_config t;
    vae_config v;
    taesd_config e;
    scheduler_config s;
    scope_error err;
    put("config.json", "{}");
    put("scheduler_config.json", "{}");
    ck_assert_msg(!config_read_unet(&u, root, &err), "%s", err.text);
    ck_assert_int_eq(u.blocks, 4);
    ck_assert_int_eq(u.block_channels[3], 1280);
    ck_assert_int_eq(u.cross_attention_dim, 1280);
    ck_assert_int_eq(u.down_attention[2], 1);
    ck_assert_int_eq(u.down_attention[3], 0);
    ck_assert_int_eq(u.up_attention[0], 0);
    ck_assert_int_eq(u.up_attention[3], 1);
    ck_assert_float_eq(u.norm_eps, 1e-5f);
    ck_assert(!config_read_clip(&t, root, &err));
    ck_assert_int_eq(t.width, 512);
    ck_assert_int_eq(t.eos_token_id, 49407);
    ck_assert(!config_read_vae(&v, root, &err));
    ck_assert_int_eq(v.blocks, 1);
    ck_assert_int_eq(v.block_channels[0], 64);
    ck_assert_int_eq(v.layers, 1);
    ck_assert(v.quant_conv && v.post_quant_conv);
    ck_assert(!config_read_taesd(&e, root, &err));
    put("config.json", NULL);
    ck_assert(!config_read_taesd(&e, root, &err)); /* madebyollin's has no config */
    ck_assert_int_eq(e.stages, 4);
    ck_assert_int_eq(e.decoder_blocks[0], 3);
    ck_assert(!config_read_scheduler(&s, root, &err));
    ck_assert_double_eq(s.beta_start, 0.00085);
}
END_TEST

START_TEST(variants_are_read)
{
    unet_config u;
    clip_config t;
    taesd_config e;
    scheduler_config s;
    scope_error err;
    put("config.json",
        "{\"block_out_channels\": [32, 64], \"down_block_types\": [\"CrossAttnDownBlock2D\","
        "\"DownBlock2D\"], \"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\"],"
        "\"layers_per_block\": [1, 3], \"attention_head_dim\": [2, 4], \"sample_size\": [8, 9],"
        "\"transformer_layers_per_block\": [2, 1], \"num_attention_heads\": [4, 8],"
        "\"time_embedding_dim\": 99, \"flip_sin_to_cos\": false, \"freq_shift\": 1,"
        "\"only_cross_attention\": [false, false], \"cross_attention_dim\": [7, 7]}");
    ck_assert_msg(!config_read_unet(&u, root, &err), "%s", err.text);
    ck_assert_int_eq(u.layers[1], 3);
    ck_assert_int_eq(u.heads[1], 8);
    ck_assert_int_eq(u.transformer_layers[0], 2);
    ck_assert_int_eq(u.time_embed_dim, 99);
    ck_assert_int_eq(u.sample_size, 8);
    ck_assert_int_eq(u.cross_attention_dim, 7);
    ck_assert(u.sin_first && u.freq_shift == 1);
    put("config.json",
        "{\"architectures\": [\"CLIPTextModelWithProjection\"], \"projection_dim\": 40}");
    ck_assert(!config_read_clip(&t, root, &err));
    ck_assert_int_eq(t.projection, 40);
    put("config.json",
        "{\"num_encoder_blocks\": [0, 0, 2, 16], \"num_decoder_blocks\": [3, 3, 1, 0]}");
    ck_assert_msg(!config_read_taesd(&e, root, &err), "%s", err.text);
    ck_assert(e.stages == 4 && e.encoder_blocks[0] == 0 && e.encoder_blocks[3] == 16);
    ck_assert_int_eq(e.decoder_blocks[3], 0);
    put("scheduler_config.json", "{\"beta_schedule\": \"linear\", \"prediction_type\": \"sample\","
                                 "\"rescale_betas_zero_snr\": true, \"num_train_timesteps\": 40}");
    ck_assert_msg(!config_read_scheduler(&s, root, &err), "%s", err.text);
    ck_assert(!s.scaled_linear && s.zero_terminal_snr && s.prediction == PREDICT_SAMPLE);
    ck_assert_int_eq(s.original_steps, 40);
}
END_TEST

typedef union any {
    unet_config u;
    clip_config t;
    vae_config v;
    taesd_config e;
    scheduler_config s;
} any;

static int read_any(char kind, scope_error *err)
{
    any a;
    return kind == 'u'   ? config_read_unet(&a.u, root, err)
           : kind == 't' ? config_read_clip(&a.t, root, err)
           : kind == 'v' ? config_read_vae(&a.v, root, err)
           : kind == 'e' ? config_read_taesd(&a.e, root, err)
                         : config_read_scheduler(&a.s, root, err);
}

static const struct {
    char kind;
    const char *text, *says;
} bad[] = {
    {'u', "[]", "not a JSON object"},
    {'u', "{\"a\": 1, \"a\": 1}", "duplicate"},
    {'u', "{", "config.json:1:"},
    {'u', "{\"in_channels\": \"4\"}", "in_channels is \"4\"; it must be an integer from 1 to 64"},
    {'u', "{\"in_channels\": 4.0}", "in_channels is 4.0"},
    {'u', "{\"in_channels\": 0}", "in_channels is 0"},
    {'u', "{\"block_out_channels\": 320}", "block_out_channels is 320"},
    {'u', "{\"block_out_channels\": []}", "block_out_channels is []"},
    {'u', "{\"block_out_channels\": [1,1,1,1,1,1,1]}", "list of 1 to 6"},
    {'u', "{\"block_out_channels\": [320, 1e9, 3, 3]}", "it must be an integer"},
    {'u', "{\"block_out_channels\": [320, 99999, 3, 3]}", "block_out_channels is 99999"},
    {'u', "{\"block_out_channels\": [320, 640]}", "down_block_types is missing"},
    {'u', "{\"down_block_types\": [\"DownBlock2D\"]}", "has 1 entries for 4 blocks"},
    {'u', "{\"down_block_types\": [\"A\",\"A\",\"A\",\"A\"]}", "unsupported block type: A"},
    {'u', "{\"down_block_types\": [1]}", "list of 1 to 6 strings"},
    {'u', "{\"attention_head_dim\": 7}", "cannot be split into 7 attention heads"},
    {'u', "{\"norm_num_groups\": 7}", "cannot be split into 7 norm groups"},
    {'u', "{\"cross_attention_dim\": [7, 7, 7, 8]}", "cross_attention_dim differs"},
    {'u', "{\"_class_name\": \"UNetSpatioTemporal\"}",
     "unsupported architecture: UNetSpatioTemporal"},
    {'u', "{\"class_embed_type\": \"timestep\"}",
     "class_embed_type = \"timestep\" is not supported"},
    {'u', "{\"only_cross_attention\": true}", "only_cross_attention"},
    {'u', "{\"conv_in_kernel\": 1}", "conv_in_kernel = 1"},
    {'u', "{\"addition_embed_type\": \"image\"}", "addition_embed_type \"image\""},
    {'u', "{\"mid_block_type\": \"UNetMidBlock2D\"}", "mid_block_type"},
    {'u', "{\"transformer_layers_per_block\": [1, [2, 2], [4, 4], 1]}", "a depth for each layer"},
    {'u', "{\"act_fn\": \"mish\"}", "act_fn \"mish\""},
    {'u', "{\"norm_eps\": true}", "norm_eps is true"},
    {'u', "{\"flip_sin_to_cos\": 1}", "it must be true or false"},
    {'t', "{\"architectures\": [\"T5EncoderModel\"]}", "unsupported architecture: T5EncoderModel"},
    {'t', "{\"max_position_embeddings\": 64}", "max_position_embeddings is 64"},
    {'t', "{\"num_attention_heads\": 7}", "7 attention heads"},
    {'v', "{\"_class_name\": \"VQModel\"}", "unsupported architecture: VQModel"},
    {'v', "{\"block_out_channels\": [32, 32]}", "down_block_types has 1 entries for 2 blocks"},
    {'v', "{\"down_block_types\": [\"AttnDownEncoderBlock2D\"]}", "unsupported block type"},
    {'v', "{\"scaling_factor\": 0}", "scaling_factor is 0"},
    {'v', "{\"latents_mean\": [0]}", "latents_mean"},
    {'e', "{\"_class_name\": \"AutoencoderKL\"}", "unsupported architecture: AutoencoderKL"},
    {'e', "{\"num_encoder_blocks\": [1]}", "differ in length"},
    {'e', "{\"num_encoder_blocks\": [-1, 1, 1, 1]}", "num_encoder_blocks is -1"},
    {'e', "{\"num_decoder_blocks\": [1, 17, 1, 1]}", "num_decoder_blocks is 17"},
    {'e', "{\"upsample_fn\": \"bilinear\"}", "upsample_fn"},
    {'s', "{\"_class_name\": \"FlowMatchEulerDiscreteScheduler\"}", "unsupported scheduler"},
    {'s', "{\"beta_schedule\": \"squaredcos_cap_v2\"}", "beta_schedule \"squaredcos_cap_v2\""},
    {'s', "{\"prediction_type\": \"flow\"}", "prediction_type \"flow\""},
    {'s', "{\"num_train_timesteps\": 1000000}", "num_train_timesteps is 1000000"},
    {'s', "{\"trained_betas\": [0.1]}", "trained_betas"},
    {'s', "{\"beta_end\": 1e400}", "config.json:1:"},
};

START_TEST(bad_values_are_named)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        scope_error err;
        put("config.json", bad[i].text);
        put("scheduler_config.json", bad[i].text);
        ck_assert_msg(read_any(bad[i].kind, &err) == SCOPE_EIO, "accepted %s", bad[i].text);
        ck_assert_msg(strstr(err.text, bad[i].says), "%s: \"%s\" lacks \"%s\"", bad[i].text,
                      err.text, bad[i].says);
    }
}
END_TEST

/* A golden folder with one file replaced. */
static void refuse_one_of(const char *golden, const char *name, const char *text, const char *says)
{
    char command[512];
    model_config c;
    scope_error err;
    snprintf(command, sizeof command, "rm -rf %s/* && cp -r " GOLDEN "%s/. %s", root, golden, root);
    ck_assert_int_eq(system(command), 0);
    put(name, text);
    ck_assert_msg(config_read(&c, root, &err) == SCOPE_EIO, "accepted %s", says);
    ck_assert_msg(strstr(err.text, says) != NULL, "\"%s\" lacks \"%s\"", err.text, says);
}

static void refuse_folder(const char *name, const char *text, const char *says)
{
    refuse_one_of("sd15", name, text, says);
}

#define PARTS                                                                                      \
    "\"unet\": [\"diffusers\", \"UNet2DConditionModel\"], \"vae\": [\"diffusers\", "               \
    "\"AutoencoderKL\"],"                                                                          \
    "\"text_encoder\": [\"transformers\", \"CLIPTextModel\"]"

START_TEST(folders_are_checked)
{
    refuse_folder("model_index.json", NULL, "model_index.json: No such file");
    refuse_folder(
        "model_index.json", "{\"_class_name\": \"StableDiffusion3Pipeline\"}",
        "unsupported architecture: StableDiffusion3Pipeline; this plugin loads SD 1.x, 2.x, "
        "SDXL, Turbo and LCM");
    refuse_folder("model_index.json", "{}", "no _class_name");
    refuse_folder("model_index.json", "{\"_class_name\": \"StableDiffusionXLPipeline\"," PARTS "}",
                  "the pipeline has no text_encoder_2");
    refuse_folder("model_index.json", "{\"_class_name\": \"StableDiffusionPipeline\"}",
                  "has no unet");
    refuse_folder("model_index.json", "{\"_class_name\": \"StableDiffusionPipeline\", \"unet\": 1}",
                  "unet must be [library, class]");
    refuse_folder("unet/config.json", NULL, "unet/config.json: No such file");
    refuse_folder("unet/config.json", "{}", "they are not of one checkpoint");
    refuse_folder("unet/config.json", "{\"in_channels\": 9, \"cross_attention_dim\": 768}",
                  "inpainting");
    refuse_folder("unet/config.json",
                  "{\"in_channels\": 8, \"out_channels\": 8, \"cross_attention_dim\": 768}",
                  "vae has 4 latent channels and the unet 8");
    refuse_folder("vae/config.json", "{}", "vae: 1 blocks");
    refuse_folder("taesd/config.json", "{\"in_channels\": 4}", "taesd: 4 input");
    refuse_folder("scheduler/scheduler_config.json", NULL, "scheduler/scheduler_config.json");
}
END_TEST

/* The parts of SDXL that must fit each other, and its relatives that are not it. */
START_TEST(sdxl_folders_are_checked)
{
    static const char index[] = "model_index.json", text_2[] = "text_encoder_2/config.json";
    refuse_one_of("sdxl", index, "{\"_class_name\": \"StableDiffusionPipeline\"," PARTS "}",
                  "a unet whose addition_embed_type is text_time");
    refuse_one_of("sdxl", index,
                  "{\"_class_name\": \"StableDiffusionXLImg2ImgPipeline\","
                  "\"requires_aesthetics_score\": true}",
                  "an SDXL refiner is not supported");
    refuse_one_of("sdxl", text_2, NULL, "text_encoder_2/config.json: No such file");
    refuse_one_of("sdxl", text_2, "{\"hidden_size\": 1024}",
                  "text encoders are together 1792 wide");
    refuse_one_of("sdxl", text_2, "{\"hidden_size\": 1280}", "text_encoder_2 has no projection");
    refuse_one_of("sdxl", text_2,
                  "{\"hidden_size\": 1280, \"projection_dim\": 1024, \"architectures\": "
                  "[\"CLIPTextModelWithProjection\"]}",
                  "projection_class_embeddings_input_dim is 2816, and the pooled text has 1024");
    refuse_one_of("sdxl", text_2, "{\"hidden_size\": 1280, \"vocab_size\": 600}",
                  "the text encoders have 49408 and 600 tokens");
    refuse_one_of("sdxl", text_2, "{\"hidden_size\": 1280, \"num_hidden_layers\": 1}",
                  "one of them has a single layer");
    refuse_one_of("sdxl", "vae/config.json",
                  "{\"latents_mean\": [0, 0, 0, 0], \"latents_std\": [1, 1, 1, 1]}",
                  "latents_mean");
}
END_TEST

START_TEST(a_tiny_vae_of_its_own)
{
    char command[512];
    model_config c;
    scope_error err;
    snprintf(command, sizeof command,
             "cp -r " GOLDEN "sd15/. %s && cp %s/taesd/config.json %s/vae && mv "
             "%s/taesd %s/vae_tiny",
             root, root, root, root, root);
    ck_assert_int_eq(system(command), 0);
    put("model_index.json",
        "{\"_class_name\": \"LatentConsistencyModelPipeline\", \"unet\": [\"diffusers\","
        "\"UNet2DConditionModel\"], \"vae\": [\"diffusers\", \"AutoencoderTiny\"],"
        "\"text_encoder\": [\"transformers\", \"CLIPTextModel\"], \"safety_checker\": [null, "
        "null]}");
    ck_assert_msg(!config_read(&c, root, &err), "%s", err.text);
    ck_assert(!c.has_vae && c.has_taesd);
    ck_assert_str_eq(c.taesd_dir, "vae");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *tc = tcase_create("config");
    tcase_set_timeout(tc, 30);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, published_checkpoints);
    tcase_add_test(tc, defaults_are_diffusers);
    tcase_add_test(tc, variants_are_read);
    tcase_add_test(tc, bad_values_are_named);
    tcase_add_test(tc, folders_are_checked);
    tcase_add_test(tc, sdxl);
    tcase_add_test(tc, sdxl_folders_are_checked);
    tcase_add_test(tc, a_foreign_taesd_is_told_by_its_names);
    tcase_add_test(tc, a_tiny_vae_of_its_own);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
