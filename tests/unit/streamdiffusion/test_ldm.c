/* test_ldm.c - single files: every tensor of the published checkpoints finds its place, configs are
 * read off shapes, what is no checkpoint is named, fp8 is exact.
 *
 * tests/golden/tensors/ldm-*.txt are the names and shapes of the published files (single.py wrote
 * them, diffusers' conversion agreed); the files made of them here are sparse.
 */
#include "tensor_list.h"
#include "tiny.h"

#include "plugin/streamdiffusion/checkpoint.h"
#include "plugin/streamdiffusion/config_shapes.h"
#include "plugin/streamdiffusion/fp8.h"
#include "plugin/streamdiffusion/inspect.h"
#include "plugin/streamdiffusion/ldm.h"
#include "plugin/streamdiffusion/parts.h"

#include <fcntl.h>

static char path[64];

static void setup(void)
{
    snprintf(path, sizeof path, "/tmp/test_ldm.XXXXXX.safetensors");
    int fd = mkstemps(path, 12);
    ck_assert_int_ge(fd, 0);
    close(fd);
}

static void teardown(void)
{
    unlink(path);
}

/* ---- a file of names ------------------------------------------------------------------------- */

typedef struct header {
    char *text;
    size_t used, data;
    const char *dtype;
} header;

static void begin(header *h, const char *dtype)
{
    *h = (header){.text = calloc(1, 1 << 20), .used = 1, .dtype = dtype};
    h->text[0] = '{';
}

static void add(header *h, const char *name, int ndim, const int64_t *dim)
{
    size_t bytes = !strncmp(h->dtype, "F8", 2) ? 1 : !strcmp(h->dtype, "F32") ? 4 : 2;
    h->used += (size_t)sprintf(h->text + h->used, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[",
                               h->used > 1 ? "," : "", name, h->dtype);
    for (int i = 0; i < ndim; i++) {
        h->used += (size_t)sprintf(h->text + h->used, i ? ",%lld" : "%lld", (long long)dim[i]);
        bytes *= (size_t)dim[i];
    }
    h->used += (size_t)sprintf(h->text + h->used, "],\"data_offsets\":[%zu,%zu]}", h->data,
                               h->data + bytes);
    h->data += bytes;
}

static void add1(header *h, const char *name, int64_t n)
{
    add(h, name, 1, &n);
}

/* Zeros, which take no room on the disk. */
static void finish(header *h, const char *metadata)
{
    char size[8];
    if (metadata)
        h->used += (size_t)sprintf(h->text + h->used, ",\"__metadata__\":{%s}", metadata);
    h->used += (size_t)sprintf(h->text + h->used, "}");
    while (h->used % 8)
        h->text[h->used++] = ' ';
    for (int i = 0; i < 8; i++)
        size[i] = (char)(h->used >> (8 * i));
    int fd = open(path, O_WRONLY | O_TRUNC);
    ck_assert(fd >= 0 && write(fd, size, 8) == 8 &&
              write(fd, h->text, h->used) == (ssize_t)h->used &&
              !ftruncate(fd, (off_t)(8 + h->used + h->data)));
    close(fd);
    free(h->text);
}

/* The tensors of a list, but for those whose names begin with `without`. */
static void file_without(const char *without, const char *list, const char *dtype)
{
    int count;
    long long parameters;
    header h;
    tensor *t = read_list(list, &count, &parameters);
    begin(&h, dtype);
    for (int i = 0; i < count; i++) {
        if (strncmp(t[i].name, without, strlen(without)))
            add(&h, t[i].name, t[i].ndim, t[i].dim);
    }
    /* what files carry besides, and nobody asks for */
    add1(&h, "model_ema.diffusion_modelout2bias", 4);
    add1(&h, "alphas_cumprod", 1000);
    finish(&h, NULL);
    free(t);
}

static void file_of(const char *list, const char *dtype)
{
    file_without("no such name", list, dtype);
}

/* ---- the published --------------------------------------------------------------------------- */

/* The part of the file is the list: names, shapes (but for 1x1), and as many numbers. */
static void part_is(const char *part, const char *list)
{
    int count;
    long long parameters, sum = 0;
    scope_error err;
    weights_index x;
    tensor *want = read_list(list, &count, &parameters);
    ck_assert_msg(!weights_index_open(&x, path, part, &err), "%s", err.text);
    ck_assert_msg(x.count == count, "%s: %d tensors, %s has %d", part, x.count, list, count);
    for (int i = 0; i < count; i++) {
        const named *e = weights_index_find(&x, want[i].name);
        long long n = 1;
        ck_assert_msg(e != NULL, "%s: %s is missing", part, want[i].name);
        for (int d = 0; d < 4; d++) {
            int turned = e->transposed && d < 2 ? 1 - d : d;
            int64_t is = turned < e->tensor.ndim ? e->tensor.dim[turned] : 1;
            int64_t asked = d < want[i].ndim ? want[i].dim[d] : 1;
            ck_assert_msg(is == asked, "%s: dimension %d is %lld, not %lld", e->name, d,
                          (long long)is, (long long)asked);
            n *= is;
        }
        ck_assert_uint_eq(e->tensor.bytes, 2 * (size_t)n);
        sum += n;
    }
    ck_assert_int_eq(sum, parameters);
    weights_index_close(&x);
    free(want);
}

static int recognised(void)
{
    char why[256];
    checkpoint is;
    st_file *f = st_open(path, why);
    ck_assert_msg(f != NULL, "%s", why);
    checkpoint_recognise(&is, f);
    st_close(f);
    return is.family;
}

/* The config read off the file is the one of the published config.json. */
static void config_is(const char *configs)
{
    char dir[256];
    model_config shapes, want;
    scope_error err;
    snprintf(dir, sizeof dir, SOURCE_DIR "/tests/golden/configs/%s", configs);
    ck_assert_msg(!config_read(&want, dir, &err), "%s", err.text);
    ck_assert_msg(!checkpoint_config(&shapes, path, &err), "%s", err.text);
    want.unet.upcast_attention = 0; /* a hint, which no shape gives */
    want.unet.sample_size = shapes.unet.sample_size;
    ck_assert_mem_eq(&shapes.unet, &want.unet, sizeof want.unet);
    want.text.eos_token_id = shapes.text.eos_token_id;
    ck_assert_mem_eq(&shapes.text, &want.text, sizeof want.text);
    ck_assert_mem_eq(&shapes.vae, &want.vae, sizeof want.vae);
    ck_assert(shapes.has_vae);
}

START_TEST(sd15_maps_whole)
{
    file_of("ldm-sd15", "F16");
    ck_assert_int_eq(recognised(), CHECKPOINT_SD1);
    part_is("unet", "sd15-unet");
    part_is("text_encoder", "sd15-text");
    part_is("vae", "vae");
    config_is("sd15");
}
END_TEST

START_TEST(sd21_maps_whole)
{
    file_of("ldm-sd21", "BF16");
    ck_assert_int_eq(recognised(), CHECKPOINT_SD2);
    part_is("unet", "sd21-unet");
    part_is("text_encoder", "sd21-text"); /* 23 layers of 24 */
    part_is("vae", "vae");
    config_is("sd21");
}
END_TEST

START_TEST(sdxl_maps_whole)
{
    model_config c;
    scope_error err;
    file_of("ldm-sdxl", "F16");
    ck_assert_int_eq(recognised(), CHECKPOINT_SDXL);
    part_is("unet", "sdxl-unet");
    part_is("text_encoder", "sd15-text"); /* ViT-L again */
    part_is("text_encoder_2", "sdxl-text-2");
    part_is("vae", "vae");
    ck_assert_msg(!checkpoint_config(&c, path, &err), "%s", err.text);
    ck_assert_str_eq(c.pipeline, "StableDiffusionXLPipeline");
    ck_assert(c.has_text_2 && c.zero_empty && c.unet.text_time && c.has_vae);
    ck_assert_int_eq(c.unet.blocks, 3);
    ck_assert_int_eq(c.unet.transformer_layers[2], 10);
    ck_assert_int_eq(c.unet.transformer_layers[1], 2);
    ck_assert(!c.unet.down_attention[0] && !c.unet.up_attention[2] && c.unet.up_attention[0]);
    ck_assert_int_eq(c.unet.heads[2], 20);
    ck_assert_int_eq(c.unet.addition_input_dim, 2816);
    ck_assert_int_eq(c.unet.cross_attention_dim, 2048);
    ck_assert_int_eq(c.text_2.layers, 32);
    ck_assert_int_eq(c.text_2.heads, 20);
    ck_assert_int_eq(c.text_2.projection, 1280);
    ck_assert_int_eq(c.text_2.act, K_GELU);
    ck_assert_int_eq(c.text.act, K_QUICK_GELU);
    ck_assert_float_eq_tol(c.vae.scaling_factor, 0.13025f, 1e-9f);
}
END_TEST

/* ---- what is no checkpoint ------------------------------------------------------------------- */

static void refused_as(const char *name, const char *also, const char *says)
{
    model_config c;
    scope_error err;
    header h;
    begin(&h, "F32");
    add1(&h, name, 1);
    if (also)
        add1(&h, also, 1);
    finish(&h, NULL);
    ck_assert_int_eq(checkpoint_config(&c, path, &err), SCOPE_EIO);
    ck_assert_msg(strstr(err.text, says) != NULL, "\"%s\" lacks \"%s\"", err.text, says);
}

START_TEST(other_families_are_named)
{
    refused_as("model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight", NULL,
               "Stable Diffusion 3, which is not supported");
    refused_as("model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale", NULL, "FLUX");
    refused_as("double_blocks.0.img_attn.qkv.weight", NULL, "FLUX");
    refused_as("blocks.0.cross_attn.kv_linear.weight", NULL, "PixArt");
    refused_as("blocks.0.cross_attn.kv_linear.weight", "blocks.0.cross_attn.q_linear.weight",
               "Sana");
    refused_as("clip_txt_mapper.weight", NULL, "Stable Cascade");
    refused_as("model.diffusion_model.input_blocks.1.0.time_stack.emb_layers.1.bias", NULL,
               "Stable Video Diffusion");
    refused_as("model.diffusion_model.patchify_proj.weight", NULL, "LTX-Video");
    refused_as("head.modulation", NULL, "Wan video");
    refused_as("conditioner.embedders.0.model.text_projection", NULL, "the refiner of SDXL");
    refused_as("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", NULL, "a LoRA");
    refused_as("control_model.time_embed.0.weight", NULL, "a ControlNet");
    refused_as("encoder.layers.0.weight", NULL, "a TAESD alone, not a model");
    refused_as("decoder.mid.block_1.conv1.weight", NULL, "this file as vae_path");
    refused_as("text_model.embeddings.token_embedding.weight", NULL, "as text_encoder_path");
    refused_as("input_blocks.0.0.weight", NULL, "as unet_path");
    refused_as("something.else", NULL, "of no architecture that is known here");
    refused_as("first_stage_model.decoder.conv_in.weight", NULL, "holds no UNet");
}
END_TEST

START_TEST(inpainting_is_named)
{
    model_config c;
    scope_error err;
    header h;
    int64_t dim[4] = {320, 9, 3, 3};
    begin(&h, "F16");
    add(&h, "model.diffusion_model.input_blocks.0.0.weight", 4, dim);
    finish(&h, NULL);
    ck_assert_int_eq(checkpoint_config(&c, path, &err), SCOPE_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "an inpainting checkpoint (its UNet takes 9 channels)"));
}
END_TEST

/* ---- prediction ------------------------------------------------------------------------------ */

static int predicts_v(const float *bias, int n)
{
    st_tensor t = {.dtype = ST_F32, .ndim = 1, .dim = {n}, .data = bias, .bytes = 4 * (size_t)n};
    char name[] = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias";
    named e = {.name = name, .tensor = t};
    return config_shape_predicts_v(&(weights_index){.entry = &e, .count = 1});
}

START_TEST(wide_biases_mean_v)
{
    static const float narrow[] = {0.05f, -0.08f, 0.03f, 0}, wide[] = {0.5f, -0.3f, 0.2f, 0};
    static const float shifted[] = {0.5f, 0.55f, 0.45f, 0.5f}; /* the mean does not count */
    ck_assert(!predicts_v(narrow, 4));
    ck_assert(predicts_v(wide, 4));
    ck_assert(!predicts_v(shifted, 4));
}
END_TEST

/* ---- fp8 ------------------------------------------------------------------------------------- */

static double half(uint16_t bits)
{
    int e = bits >> 10 & 31, m = bits & 1023;
    double v = e == 31 ? m ? NAN : INFINITY
               : e     ? ldexp(1 + m / 1024.0, e - 15)
                       : ldexp(m / 1024.0, -14);
    return bits & 0x8000 ? -v : v;
}

/* By the definition of the format, not by way of binary16. */
static double small(unsigned b, int mantissa, int bias, int finite)
{
    int top = 1 << (7 - mantissa), e = (int)(b & 0x7f) >> mantissa;
    int m = (int)b & ((1 << mantissa) - 1), last = m == (1 << mantissa) - 1;
    double f = (double)m / (1 << mantissa);
    double v = e == top - 1 && finite && last  ? NAN
               : e == top - 1 && !finite && !m ? INFINITY
               : e == top - 1 && !finite       ? NAN
               : e                             ? ldexp(1 + f, e - bias)
                                               : ldexp(f, 1 - bias);
    return b & 0x80 ? -v : v;
}

START_TEST(every_fp8_is_exact)
{
    for (unsigned b = 0; b < 256; b++) {
        uint8_t x = (uint8_t)b;
        uint16_t y[2];
        double want[2] = {small(b, 3, 7, 1), small(b, 2, 15, 0)};
        fp8_widen(&y[0], &x, 1, ST_F8_E4M3);
        fp8_widen(&y[1], &x, 1, ST_F8_E5M2);
        for (int i = 0; i < 2; i++) {
            double is = half(y[i]);
            ck_assert_msg(isnan(want[i]) ? isnan(is)
                                         : is == want[i] && signbit(is) == signbit(want[i]),
                          "format %d: %02x is %g, not %g", i, b, is, want[i]);
        }
    }
}
END_TEST

/* ---- parts of their own ---------------------------------------------------------------------- */

START_TEST(parts_stand_in)
{
    const char *golden = SOURCE_DIR "/tests/golden/networks";
    char model[256], other[256];
    scope_error err;
    model_config c;
    parts p;
    snprintf(model, sizeof model, "%s/ldm2/model.safetensors", golden);
    snprintf(other, sizeof other, "%s/ldm1/model.safetensors", golden);
    const char *asked[ASKED] = {[ASKED_MODEL] = model};
    ck_assert(!parts_ask(&p, asked, &err));
    ck_assert_int_eq(parts_find(&p, &c, NULL, &err), SCOPE_EIO);
    ck_assert_str_eq(err.field, "vae_path");
    parts_fini(&p);
    asked[ASKED_VAE] = other;
    ck_assert(!parts_ask(&p, asked, &err));
    p.prediction = PREDICT_SAMPLE;
    ck_assert_msg(!parts_find(&p, &c, NULL, &err), "%s", err.text);
    ck_assert_str_eq(p.at[PART_VAE], p.asked[ASKED_VAE]);
    ck_assert_str_eq(p.at[PART_UNET], p.asked[ASKED_MODEL]);
    ck_assert_int_eq(p.pad, 0); /* SD 2 pads with "!" */
    ck_assert_int_eq(c.scheduler.prediction, PREDICT_SAMPLE);
    parts_fini(&p);
    asked[ASKED_UNET] = "/no/such";
    ck_assert_int_eq(parts_ask(&p, asked, &err), SCOPE_EIO);
    ck_assert_str_eq(err.field, "unet_path");
    parts_fini(&p);
}
END_TEST

/* ---- SDXL, as a folder and as a file --------------------------------------------------------- */

enum { SIDE = 64, PIXELS = 3 * SIDE * SIDE };

/* SDXL's layers, and widths that a file's shapes explain: 64 channels a head, 32 norm groups. */
static void xl_folder(const char *dir)
{
    tiny_tokenizer(dir, "tokenizer");
    tiny_configs(dir, &(tiny_options){.no_taesd = 1, .xl = 1});
    tiny_text(
        dir, "unet", "config.json",
        "{\"_class_name\": \"UNet2DConditionModel\", \"block_out_channels\": [32, 64, 64],"
        " \"down_block_types\":"
        " [\"DownBlock2D\", \"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\"],"
        " \"up_block_types\": [\"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"UpBlock2D\"],"
        " \"transformer_layers_per_block\": [1, 1, 2], \"attention_head_dim\": [1, 1, 1],"
        " \"cross_attention_dim\": 128, \"use_linear_projection\": true,"
        " \"addition_embed_type\": \"text_time\", \"addition_time_embed_dim\": 256,"
        " \"projection_class_embeddings_input_dim\": 1600}");
    tiny_text(dir, "text_encoder", "config.json",
              "{\"architectures\": [\"CLIPTextModel\"], \"vocab_size\": 190, \"hidden_size\": 64,"
              " \"intermediate_size\": 96, \"num_hidden_layers\": 2, \"num_attention_heads\": 1,"
              " \"hidden_act\": \"quick_gelu\"}");
    tiny_text(dir, "text_encoder_2", "config.json",
              "{\"architectures\": [\"CLIPTextModelWithProjection\"], \"vocab_size\": 190,"
              " \"hidden_size\": 64, \"intermediate_size\": 96, \"num_hidden_layers\": 3,"
              " \"num_attention_heads\": 1, \"hidden_act\": \"gelu\", \"projection_dim\": 64,"
              " \"eos_token_id\": 2}");
    tiny_text(dir, "vae", "config.json",
              "{\"_class_name\": \"AutoencoderKL\", \"layers_per_block\": 2,"
              " \"block_out_channels\": [32, 32, 32, 32], \"scaling_factor\": 0.13025,"
              " \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\","
              " \"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],"
              " \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\","
              " \"UpDecoderBlock2D\", \"UpDecoderBlock2D\"]}");
    tiny_networks(dir);
}

/* Append tensors of a network, one behind the other along the rows, as the tensor `like` of a
 * published file. */
static void add_data(header *h, FILE *data, const st_tensor *like, const st_tensor *const *t,
                     const ldm_view *view, int views)
{
    int64_t dim[4] = {1, 1, 1, 1};
    for (int i = 0; i < t[0]->ndim; i++)
        dim[view->transposed ? 1 - i : i] = t[0]->dim[i];
    dim[0] *= views;
    add(h, like->name, like->ndim, dim);
    for (int i = 0; i < views; i++) {
        const float *x = t[i]->data;
        size_t n = t[i]->bytes / sizeof *x, columns = (size_t)(view->transposed ? dim[0] : 1);
        for (size_t j = 0; j < n; j++) /* [out, in] is stored [in, out] */
            fwrite(x + (view->transposed ? j % (size_t)dim[1] * columns + j / (size_t)dim[1] : j),
                   sizeof *x, 1, data);
    }
}

/* The networks of a folder as one file at `path`, under the names that the published file has. */
static void xl_file(const char *dir)
{
    static const char *const part[] = {"unet", "vae", "text_encoder", "text_encoder_2"};
    char name[160], why[256];
    ldm names;
    ldm_view view[LDM_VIEWS];
    header h;
    char *all;
    size_t bytes;
    FILE *data = open_memstream(&all, &bytes);
    file_of("ldm-sdxl", "F16");
    st_file *published = st_open(path, why);
    begin(&h, "F32");
    for (int p = 0; p < 4; p++) {
        int written = 0;
        snprintf(name, sizeof name, "%s/%s/%smodel.safetensors", dir, part[p],
                 p < 2 ? "diffusion_pytorch_" : "");
        st_file *network = st_open(name, why);
        ck_assert(network && ldm_init(&names, published, ldm_part_of(part[p])));
        for (int i = 0; i < st_count(published); i++) {
            const st_tensor *like = st_at(published, i), *t[LDM_VIEWS];
            int views = ldm_views(&names, like->name, view), found = 0;
            while (found < views && (t[found] = st_find(network, view[found].name)))
                found++;
            if (found && found == views)
                add_data(&h, data, like, t, view, views);
            written += found;
        }
        ck_assert_int_eq(written, st_count(network));
        st_close(network);
    }
    st_close(published);
    finish(&h, NULL);
    fclose(data);
    int fd = open(path, O_WRONLY);
    ck_assert(fd >= 0 && pwrite(fd, all, bytes, (off_t)(8 + h.used)) == (ssize_t)h.data);
    close(fd);
    free(all);
}

static void xl_frame(const char *model_path, const char *unwanted, float *out)
{
    scope_error err;
    const model_options o = {.path = model_path, .device = "cpu"};
    const pipeline_settings s = {.width = SIDE,
                                 .height = SIDE,
                                 .prompt = {.count = 1, .text = {"a (red:1.2) cat"}, .weight = {1}},
                                 .negative_prompt = unwanted,
                                 .guidance_scale = 2.5,
                                 .seed = 42,
                                 .steps = 2,
                                 .strength = 0.8};
    static uint8_t in[PIXELS];
    for (int i = 0; i < PIXELS; i++)
        in[i] = (uint8_t)(128 + 100 * sin(0.02 * i));
    const k_image from = {in, K_U8, 1, SIDE, SIDE, 3, PIXELS, 3 * SIDE};
    const k_image to = {out, K_F32, 1, SIDE, SIDE, 3, 4 * PIXELS, 12 * SIDE};
    const model *m = model_acquire(NULL, &o, &err);
    ck_assert_msg(m != NULL, "%s", err.text);
    ck_assert(m->text_2 && m->pad_2 == 0 && m->config.zero_empty);
    pipeline *p = pipeline_open(m, &err);
    ck_assert_msg(!pipeline_set(p, &s, &err) && !pipeline_frame(p, &from, &to, &err), "%s",
                  err.text);
    pipeline_close(p);
    model_release(m);
}

/* Its second tokenizer says how it pads; without one, SDXL's padding is known. */
START_TEST(sdxl_makes_the_frames_of_its_folder)
{
    static float folder[PIXELS], file[2][PIXELS];
    char dir[64], at[96], second[96];
    scope_error err;
    snprintf(dir, sizeof dir, "%s", tiny_folder());
    snprintf(at, sizeof at, "%s/one.safetensors", dir);
    snprintf(second, sizeof second, "%s/tokenizer_2", dir);
    xl_folder(dir);
    xl_file(dir);
    ck_assert_int_eq(rename(path, at), 0);
    char *told = inspect_model(at, &err);
    ck_assert_msg(told && strstr(told, "\"usable\":true") && strstr(told, "tokenizer_2"), "%s",
                  told);
    free(told);
    for (int i = 0; i < 3; i++) {
        if (i == 2)
            tiny_remove(second);
        xl_frame(dir, i ? "" : "blur", folder);
        xl_frame(at, i ? "" : "blur", file[i > 0]);
        ck_assert(!memcmp(folder, file[i > 0], sizeof folder));
    }
    ck_assert(memcmp(file[0], file[1], sizeof folder));
    tiny_remove(dir);
}
END_TEST

/* A file with one text encoder of the two is told apart from one that loads. */
START_TEST(sdxl_without_its_second_encoder)
{
    scope_error err;
    model_config c;
    parts p;
    unsigned missing = 0;
    const char *asked[ASKED] = {[ASKED_MODEL] = path};
    file_without("conditioner.embedders.1.", "ldm-sdxl", "F16");
    ck_assert(!parts_ask(&p, asked, &err));
    ck_assert_int_eq(parts_find(&p, &c, NULL, &err), SCOPE_EIO);
    ck_assert_msg(strstr(err.text, "SDXL has two text encoders") != NULL, "%s", err.text);
    ck_assert_str_eq(err.field, "model_id_or_path");
    ck_assert_int_eq(parts_find(&p, &c, &missing, &err), 0);
    ck_assert(missing >> PART_TEXT_2 & 1);
    parts_fini(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ldm");
    TCase *tc = tcase_create("ldm");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, sd15_maps_whole);
    tcase_add_test(tc, sd21_maps_whole);
    tcase_add_test(tc, sdxl_maps_whole);
    tcase_add_test(tc, other_families_are_named);
    tcase_add_test(tc, inpainting_is_named);
    tcase_add_test(tc, wide_biases_mean_v);
    tcase_add_test(tc, every_fp8_is_exact);
    tcase_add_test(tc, parts_stand_in);
    tcase_add_test(tc, sdxl_makes_the_frames_of_its_folder);
    tcase_add_test(tc, sdxl_without_its_second_encoder);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
