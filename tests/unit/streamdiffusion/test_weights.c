/* test_weights.c - which files make a set, how names and shapes are met, and that the networks ask
 * for exactly the tensors of the published checkpoints (tests/golden/tensors: names front-coded, "N
 * rest dims": N characters shared with the name before). */
#include "tensor_list.h"

#include "plugin/streamdiffusion/clip.h"
#include "plugin/streamdiffusion/taesd.h"
#include "plugin/streamdiffusion/unet.h"
#include "plugin/streamdiffusion/vae.h"

#include <check.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];
static k_device *device;

static void setup(void)
{
    char why[K_WHY];
    snprintf(root, sizeof root, "/tmp/test_weights.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    device = k_device_open("cpu", &(k_device_options){.threads = 1}, why);
    ck_assert_msg(device != NULL, "%s", why);
}

static void teardown(void)
{
    char command[128];
    k_device_close(device);
    snprintf(command, sizeof command, "rm -rf %s", root);
    ck_assert_int_eq(system(command), 0);
}

/* ---- files --------------------------------------------------------------------------------- */

static void put_bytes(const char *name, const void *bytes, size_t n)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *f = fopen(path, "wb");
    ck_assert(f && fwrite(bytes, 1, n, f) == n && !fclose(f));
}

/* A safetensors file of the tensors in `list`, "name dtype dims..." apart by commas, all zeros;
 * `pad` spaces end the header. */
static void put_tensors(const char *name, const char *list, int pad)
{
    char header[4096] = "{", text[1024], data[16384] = "", *save, *save2;
    size_t at = 0, n = 1;
    snprintf(text, sizeof text, "%s", list);
    for (char *t = strtok_r(text, ",", &save); t; t = strtok_r(NULL, ",", &save)) {
        const char *tensor = strtok_r(t, " ", &save2), *dtype = strtok_r(NULL, " ", &save2), *dim;
        size_t bytes = strstr(dtype, "64") ? 8 : strstr(dtype, "32") ? 4 : 2;
        n += (size_t)snprintf(header + n, sizeof header - n,
                              "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", n > 1 ? "," : "", tensor,
                              dtype);
        for (int first = 1; (dim = strtok_r(NULL, " ", &save2)); first = 0) {
            bytes *= (size_t)atoi(dim);
            n += (size_t)snprintf(header + n, sizeof header - n, first ? "%s" : ",%s", dim);
        }
        n += (size_t)snprintf(header + n, sizeof header - n, "],\"data_offsets\":[%zu,%zu]}", at,
                              at + bytes);
        at += bytes;
    }
    n += (size_t)snprintf(header + n, sizeof header - n, "}%*s", pad, "");
    for (int i = 0; i < 8; i++)
        data[i] = (char)(n >> (8 * i));
    memcpy(data + 8, header, n);
    ck_assert_uint_lt(8 + n + at, sizeof data);
    put_bytes(name, data, 8 + n + at);
}

static weights *opened(void)
{
    scope_error err;
    weights *w = weights_open(device, root, "net", &err);
    ck_assert_msg(w != NULL, "%s", err.text);
    return w;
}

static void refuse(const char *says)
{
    scope_error err;
    ck_assert_ptr_null(weights_open(device, root, "net", &err));
    ck_assert_int_eq(err.status, SCOPE_EIO);
    ck_assert_msg(strstr(err.text, says) != NULL, "\"%s\" lacks \"%s\"", err.text, says);
}

START_TEST(files_are_chosen)
{
    char path[80];
    scope_error err;
    snprintf(path, sizeof path, "%s/none", root);
    ck_assert_ptr_null(weights_open(device, path, "net", &err));
    ck_assert_ptr_nonnull(strstr(err.text, "there is no folder"));
    refuse("holds no .safetensors");
    put_bytes("diffusion_pytorch_model.bin", "x", 1);
    refuse("diffusion_pytorch_model.bin is a pickle, which is not read; convert it");
    static const char *const order[] = {"model.bf16", "model.fp16", "diffusion_pytorch_model.fp16",
                                        "model", "diffusion_pytorch_model"};
    for (int i = 0; i < 5; i++) { /* each is preferred over those before */
        char name[64], list[32];
        snprintf(name, sizeof name, "%s.safetensors", order[i]);
        snprintf(list, sizeof list, "t%d F16 1", i);
        put_tensors(name, list, 0);
        weights *w = opened();
        snprintf(list, sizeof list, "t%d", i);
        ck_assert_msg(weights_has(w, list), "%s", name);
        weights_close(w);
    }
    put_bytes("diffusion_pytorch_model.safetensors", "version https://git-lfs", 23);
    refuse("git lfs pull");
}
END_TEST

START_TEST(shards)
{
#define INDEX "diffusion_pytorch_model.safetensors.index.json"
#define MAP(...)                                                                                   \
    put_bytes(INDEX, text, (size_t)snprintf(text, sizeof text, "{\"weight_map\": {" __VA_ARGS__))
    char text[512];
    put_tensors("a.safetensors", "x.weight F32 2 3,x.bias F32 2", 0);
    put_tensors("b.safetensors", "y.weight F16 4", 0);
    MAP("\"x.weight\": \"a.safetensors\", \"x.bias\": \"a.safetensors\", \"y.weight\": "
        "\"b.safetensors\"}}");
    weights *w = opened();
    ck_assert(weights_has(w, "x.weight") && weights_has(w, "y.weight"));
    ck_assert_ptr_nonnull(weights_linear(w, "x", 2, 3, 1));
    weights_release_pages(w);
    weights_close(w);
    MAP("\"y.weight\": \"a.safetensors\"}}");
    refuse("shard a.safetensors lacks y.weight");
    MAP("\"y.weight\": \"c.safetensors\"}}");
    refuse("c.safetensors: cannot be opened");
    MAP("\"y.weight\": \"../b.safetensors\"}}");
    refuse("no file of the folder");
    MAP("\"y.weight\": 1}}");
    refuse("names no shard for y.weight");
    MAP("}}");
    refuse("no weight_map");
    MAP("");
    refuse("shard index cannot be read");
    put_tensors("b.safetensors", "y.weight F16 4,x.bias F32 2", 0);
    MAP("\"x.bias\": \"a.safetensors\", \"y.weight\": \"b.safetensors\"}}");
    refuse("two files hold the tensor x.bias");
}
END_TEST

/* ---- requests ------------------------------------------------------------------------------ */

START_TEST(every_kind_is_met)
{
    for (int pad = 0; pad < 2; pad++) { /* the second time nothing lies aligned in the file */
        put_tensors("model.safetensors",
                    "c.weight F16 2 3 3 3,c.bias F16 2,l.weight BF16 4 5,q.weight F32 4 4,"
                    "k.weight F32 4 4,v.weight F32 4 4,q.bias F32 4,k.bias F32 4,v.bias F32 "
                    "4,n.weight F32 6,"
                    "n.bias F32 6,t.weight F16 7 8,one.weight F32 3 3 1 1,two.weight F32 3 3",
                    pad);
        weights *w = opened();
        scope_error err = {0};
        ck_assert_ptr_nonnull(weights_conv(w, "c", 2, 3, 3, 1));
        ck_assert_ptr_nonnull(weights_linear(w, "l", 4, 5, 0));
        ck_assert_ptr_nonnull(weights_joined(w, (const char *[]){"q", "k", "v"}, 3, 4, 4, 1));
        ck_assert_ptr_nonnull(weights_norm(w, "n", 6));
        ck_assert_ptr_nonnull(weights_table(w, "t.weight", 7, 8));
        ck_assert_ptr_nonnull(weights_linear(w, "one", 3, 3, 0));  /* a matrix as 1x1 convolution */
        ck_assert_ptr_nonnull(weights_conv(w, "two", 3, 3, 1, 0)); /* and the other way round */
        ck_assert_msg(!weights_finish(w, NULL, &err), "%s", err.text);
        weights_close(w);
    }
}
END_TEST

static char logged[4096];

static void keep_log(const scope_host *host, int level, const char *line)
{
    (void)host;
    size_t n = strlen(logged);
    snprintf(logged + n, sizeof logged - n, "%d %s\n", level, line);
}

static void unfit(weights *w, const char *says)
{
    scope_error err = {0};
    ck_assert_int_eq(weights_finish(w, &(scope_host){.log = keep_log}, &err), SCOPE_EIO);
    ck_assert_msg(strstr(err.text, says) != NULL, "\"%s\" lacks \"%s\"", err.text, says);
    weights_close(w);
}

START_TEST(what_does_not_fit_is_named)
{
    put_tensors("model.safetensors",
                "c.weight F32 2 3 3 3,d.weight F64 2 2,n.weight F32 6,n.bias F32 5,"
                "v.weight F32 6 1,text_model.embeddings.position_ids I64 1 7",
                0);
    weights *w = opened();
    ck_assert_ptr_null(weights_conv(w, "c", 2, 4, 3, 0));
    unfit(w,
          "net: 1 tensor does not fit: c.weight is [2, 3, 3, 3], the config asks [2, 4, 3, 3]; are "
          "config.json");
    w = opened();
    ck_assert_ptr_null(weights_linear(w, "d", 2, 2, 0));
    unfit(w, "d.weight is F64; convert");
    w = opened();
    ck_assert_ptr_null(weights_norm(w, "n", 6));
    ck_assert_ptr_null(weights_norm(w, "v", 6)); /* a vector is no matrix */
    unfit(w, "net: 3 tensors do not fit: n.bias is [5], the config asks [6], v.weight is [6, 1]");
    w = opened();
    logged[0] = '\0';
    for (int i = 0; i < 30; i++) {
        char name[64];
        snprintf(name, sizeof name, "block.%d.with_a_rather_long_name", i);
        ck_assert_ptr_null(weights_linear(w, name, 3, 3, 1));
    }
    unfit(w, "net: 60 tensors do not fit: block.0.with_a_rather_long_name.weight is missing");
    ck_assert_ptr_nonnull(
        strstr(logged, "net: block.9.with_a_rather_long_name.weight is missing\n"));
    ck_assert_ptr_nonnull(strstr(logged, "net: and 40 more\n"));
}
END_TEST

START_TEST(what_nobody_asked_for_is_logged)
{
    scope_error err = {0};
    put_tensors("model.safetensors",
                "a.weight F32 2 2,b F32 1,text_model.embeddings.position_ids I64 1 7", 0);
    weights *w = opened();
    logged[0] = '\0';
    weights_linear(w, "a", 2, 2, 0);
    ck_assert(!weights_finish(w, &(scope_host){.log = keep_log}, &err));
    ck_assert_str_eq(logged, "2 net: 1 tensor of the file is not used: b\n");
    weights_close(w);
}
END_TEST

START_TEST(other_spellings)
{
    put_tensors("model.safetensors",
                "encoder.mid_block.attentions.0.query.weight F32 2 2,"
                "encoder.mid_block.attentions.0.key.bias F32 "
                "2,encoder.mid_block.attentions.0.value.bias F32 2,"
                "encoder.mid_block.attentions.0.proj_attn.weight F32 2 2 1 1,key.weight F32 1",
                0);
    weights *w = opened();
    ck_assert(weights_has(w, "encoder.mid_block.attentions.0.to_q.weight"));
    ck_assert(weights_has(w, "encoder.mid_block.attentions.0.to_k.bias"));
    ck_assert(weights_has(w, "encoder.mid_block.attentions.0.to_v.bias"));
    ck_assert(weights_has(w, "encoder.mid_block.attentions.0.to_out.0.weight"));
    ck_assert(weights_has(w, "key.weight"));
    weights_close(w);
    put_tensors("model.safetensors",
                "embeddings.token_embedding.weight F32 2 2,final_layer_norm.bias F32 1,"
                "text_projection.weight F32 2 2",
                0);
    w = opened();
    ck_assert(weights_has(w, "text_model.embeddings.token_embedding.weight"));
    ck_assert(weights_has(w, "text_model.final_layer_norm.bias"));
    ck_assert(weights_has(w, "text_projection.weight"));
    weights_close(w);
    unlink(strcat(strcpy((char[128]){0}, root), "/model.safetensors"));
    put_tensors("taesd_encoder.safetensors", "0.weight F32 1,1.conv.0.bias F32 1", 0);
    refuse("taesd_decoder.safetensors: cannot be opened");
    put_tensors("taesd_decoder.safetensors", "1.weight F32 1,3.conv.2.bias F32 1,19.bias F32 1", 0);
    w = opened();
    ck_assert(weights_has(w, "encoder.layers.0.weight") &&
              weights_has(w, "encoder.layers.1.conv.0.bias"));
    ck_assert(weights_has(w, "decoder.layers.0.weight") &&
              weights_has(w, "decoder.layers.2.conv.2.bias"));
    ck_assert(weights_has(w, "decoder.layers.18.bias"));
    weights_close(w);
}
END_TEST

/* ---- the published checkpoints --------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tensor *)a)->name, ((const tensor *)b)->name);
}

/* What w recorded must be the list, but for 1x1 dimensions at the end. */
static void check_recorded(weights *w, const char *list)
{
    int count, n = 0, ndim;
    long long parameters, sum = 0;
    const char *name;
    const int64_t *dim;
    scope_error err = {0};
    tensor *want = read_list(list, &count, &parameters);
    tensor *is = calloc((size_t)count + 1, sizeof *is);
    ck_assert_msg(!weights_finish(w, NULL, &err), "%s", err.text);
    for (; weights_recorded(w, n, &name, &ndim, &dim); n++) {
        ck_assert_msg(n < count, "%s: more than %d tensors, such as %s", list, count, name);
        snprintf(is[n].name, sizeof is[n].name, "%s", name);
        is[n].ndim = ndim;
        memcpy(is[n].dim, dim, (size_t)ndim * sizeof *dim);
    }
    ck_assert_int_eq(n, count);
    qsort(is, (size_t)n, sizeof *is, by_name);
    qsort(want, (size_t)n, sizeof *want, by_name);
    for (int i = 0; i < n; i++) {
        long long size = 1;
        ck_assert_str_eq(is[i].name, want[i].name);
        for (int d = 0; d < 4; d++) {
            int64_t have = d < is[i].ndim ? is[i].dim[d] : 1,
                    asked = d < want[i].ndim ? want[i].dim[d] : 1;
            ck_assert_msg(have == asked, "%s: dimension %d is %lld, not %lld", is[i].name, d,
                          (long long)have, (long long)asked);
            size *= have;
        }
        sum += size;
    }
    ck_assert_int_eq(sum, parameters);
    free(is);
    free(want);
    weights_close(w);
}

static void check_clip(const clip_config *c, const char *list)
{
    scope_error err;
    weights *w = weights_open_recorder(device, "text_encoder", &err);
    clip *text = clip_open(w, c, &err);
    clip_close(text);
    check_recorded(w, list);
}

static void check_family(const char *configs, const char *unet_list, const char *text_list)
{
    char path[256];
    model_config c;
    scope_error err;
    snprintf(path, sizeof path, SOURCE_DIR "/tests/golden/configs/%s", configs);
    ck_assert_msg(!config_read(&c, path, &err), "%s", err.text);

    weights *w = weights_open_recorder(device, "unet", &err);
    unet *u = unet_open(w, &c.unet, &err);
    ck_assert_msg(u != NULL, "%s", err.text);
    unet_close(u);
    check_recorded(w, unet_list);

    check_clip(&c.text, text_list);
    if (c.has_text_2)
        check_clip(&c.text_2, "sdxl-text-2");

    w = weights_open_recorder(device, "vae", &err);
    vae *v = vae_open(w, &c.vae, &err);
    vae_close(v);
    check_recorded(w, "vae");

    w = weights_open_recorder(device, "taesd", &err);
    taesd *t = taesd_open(w, &c.taesd, &err);
    taesd_close(t);
    check_recorded(w, "taesd");
}

START_TEST(networks_ask_for_the_published_tensors)
{
    check_family("sd15", "sd15-unet", "sd15-text");
    check_family("sd21", "sd21-unet", "sd21-text");
    check_family("sd-turbo", "sd21-unet", "sd21-text");
    check_family("sdxl", "sdxl-unet", "sd15-text");
}
END_TEST

START_TEST(lcm_adds_its_guidance)
{
    model_config c;
    scope_error err;
    const char *name;
    const int64_t *dim;
    int ndim, found = 0, n = 0;
    ck_assert(!config_read(&c, SOURCE_DIR "/tests/golden/configs/lcm", &err));
    weights *w = weights_open_recorder(device, "unet", &err);
    unet_close(unet_open(w, &c.unet, &err));
    for (; weights_recorded(w, n, &name, &ndim, &dim); n++)
        found |= !strcmp(name, "time_embedding.cond_proj.weight") && dim[0] == 320 && dim[1] == 256;
    ck_assert_int_eq(n, 687);
    ck_assert(found);
    weights_close(w);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("weights");
    TCase *tc = tcase_create("weights");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, files_are_chosen);
    tcase_add_test(tc, shards);
    tcase_add_test(tc, every_kind_is_met);
    tcase_add_test(tc, what_does_not_fit_is_named);
    tcase_add_test(tc, what_nobody_asked_for_is_logged);
    tcase_add_test(tc, other_spellings);
    tcase_add_test(tc, networks_ask_for_the_published_tensors);
    tcase_add_test(tc, lcm_adds_its_guidance);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
