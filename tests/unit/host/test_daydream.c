/* test_daydream.c - Daydream's parameters: what is taken, what is refused and with which field, and
 * how changes are merged. */
#include "daydream_fixture.h"
#include "host/http/daydream_models.h"

/* ---- complete objects ------------------------------------------------------------------------ */

static const char *const always[] = {"model_id",
                                     "prompt",
                                     "prompt_interpolation_method",
                                     "normalize_prompt_weights",
                                     "normalize_seed_weights",
                                     "negative_prompt",
                                     "guidance_scale",
                                     "delta",
                                     "num_inference_steps",
                                     "t_index_list",
                                     "use_safety_checker",
                                     "width",
                                     "height",
                                     "lora_dict",
                                     "use_lcm_lora",
                                     "lcm_lora_id",
                                     "acceleration",
                                     "use_denoising_batch",
                                     "do_add_noise",
                                     "seed",
                                     "seed_interpolation_method",
                                     "enable_similar_image_filter",
                                     "similar_image_filter_threshold",
                                     "similar_image_filter_max_skip_frame",
                                     "skip_diffusion",
                                     "image_preprocessing",
                                     "image_postprocessing",
                                     "latent_preprocessing",
                                     "latent_postprocessing",
                                     "controlnets"};

START_TEST(complete)
{
    const struct {
        const char *change;
        size_t count;
    } cases[] = {{"{}", 30},
                 {"{\"model_id\": \"stabilityai/sd-turbo\"}", 30},
                 {"{\"model_id\": \"stabilityai/sdxl-turbo\"}", 33},
                 {"{\"model_id\": \"Lykon/dreamshaper-8\"}", 33},
                 {"{\"model_id\": \"prompthero/openjourney-v4\"}", 33}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_t *o = merged(NULL, cases[i].change);
        for (size_t k = 0; k < G_N_ELEMENTS(always); k++)
            ck_assert_msg(json_object_get(o, always[k]) != NULL, "%s lacks %s", cases[i].change,
                          always[k]);
        ck_assert_uint_eq(json_object_size(o), cases[i].count);
        json_decref(o);
    }
    ck_assert_uint_eq(G_N_ELEMENTS(always), 30);
}
END_TEST

START_TEST(defaults)
{
    json_t *o = merged(NULL, "{}");
    is(o, "model_id", "\"stabilityai/sd-turbo\"");
    is(o, "prompt", "\"flowers\"");
    is(o, "num_inference_steps", "50");
    is(o, "t_index_list", "[12,20,32]");
    is(o, "width", "512");
    is(o, "seed", "789");
    is(o, "lora_dict", "null");
    is(o, "controlnets", "[]");
    is(o, "image_preprocessing", "null");
    is(o, "use_safety_checker", "false"); /* there is none */
    is(o, "ip_adapter", "absent");
    is(o, "gop_size", "absent"); /* told where it was given */
    json_decref(o);
    o = merged(NULL, "{\"model_id\": \"stabilityai/sdxl-turbo\"}");
    is(o, "ip_adapter.enabled", "false");
    is(o, "ip_adapter.type", "\"regular\"");
    is(o, "cached_attention", "{\"enabled\":false,\"max_frames\":1,\"interval\":1}");
    is(o, "ip_adapter_style_image_url", "null");
    json_decref(o);
}
END_TEST

START_TEST(nested_objects_are_complete)
{
    json_t *o = merged(NULL, "{\"model_id\": \"stabilityai/sdxl-turbo\","
                             " \"controlnets\": [{\"model_id\": "
                             "\"xinsir/controlnet-canny-sdxl-1.0\", \"preprocessor\": \"canny\"}],"
                             " \"image_preprocessing\": {\"processors\": [{\"type\": \"blur\"}]},"
                             " \"ip_adapter\": {\"scale\": 2}}");
    json_t *net = json_array_get(json_object_get(o, "controlnets"), 0);
    ck_assert_uint_eq(json_object_size(net), 7);
    is(net, "conditioning_scale", "1.0");
    is(net, "preprocessor_params", "{}");
    is(net, "control_guidance_end", "1.0");
    is(o, "image_preprocessing.enabled", "true");
    is(o, "image_preprocessing.processors.0", "{\"type\":\"blur\",\"enabled\":true,\"params\":{}}");
    is(o, "ip_adapter.enabled", "true"); /* given, and not said to be off */
    is(o, "ip_adapter.weight_type", "\"linear\"");
    json_decref(o);
}
END_TEST

/* ---- merging --------------------------------------------------------------------------------- */

START_TEST(changes_are_merged)
{
    json_t *a = merged(NULL, "{\"prompt\": \"cats\", \"seed\": 5, \"width\": 256}");
    json_t *b = merged(a, "{\"prompt\": [[\"dogs\", 1], [\"cats\", 0.5]], \"gop_size\": 60}");
    is(b, "prompt", "[[\"dogs\",1.0],[\"cats\",0.5]]");
    is(b, "seed", "5");
    is(b, "width", "256");
    is(b, "gop_size", "60");
    is(a, "prompt", "\"cats\""); /* what was is not touched */
    json_t *c = merged(b, "{\"seed\": null, \"gop_size\": null}");
    is(c, "seed", "789");
    is(c, "gop_size", "absent");
    is(c, "width", "256");
    json_decref(a);
    json_decref(b);
    json_decref(c);
}
END_TEST

START_TEST(objects_merge_and_lists_replace)
{
    json_t *a = merged(NULL, "{\"model_id\": \"Lykon/dreamshaper-8\","
                             " \"ip_adapter\": {\"scale\": 0.3, \"weight_type\": \"ease in\"},"
                             " \"image_preprocessing\": {\"processors\": [{\"type\": \"blur\"}]},"
                             " \"lora_dict\": {\"a\": 1, \"b\": 2}}");
    json_t *b = merged(a, "{\"ip_adapter\": {\"enabled\": false},"
                          " \"image_preprocessing\": {\"enabled\": false},"
                          " \"lora_dict\": {\"c\": 1}}");
    is(b, "ip_adapter.scale", "0.3");
    is(b, "ip_adapter.enabled", "false");
    is(b, "ip_adapter.weight_type", "\"ease in\"");
    is(b, "image_preprocessing.processors.0.type", "\"blur\"");
    is(b, "image_preprocessing.enabled", "false");
    is(b, "lora_dict", "{\"c\":1}");
    json_t *c = merged(b, "{\"lora_dict\": {}, \"image_preprocessing\": []}");
    is(c, "lora_dict", "null");
    is(c, "image_preprocessing", "null");
    json_decref(a);
    json_decref(b);
    json_decref(c);
}
END_TEST

START_TEST(another_family)
{
    json_t *a =
        merged(NULL, "{\"model_id\": \"stabilityai/sdxl-turbo\", \"prompt\": \"cats\","
                     " \"ip_adapter\": {\"scale\": 0.3}, \"controlnets\": [{\"model_id\": "
                     "\"xinsir/controlnet-canny-sdxl-1.0\", \"preprocessor\": \"canny\"}]}");
    json_t *b = merged(a, "{\"model_id\": \"stabilityai/sd-turbo\"}");
    is(b, "prompt", "\"cats\"");
    is(b, "controlnets", "[]");
    is(b, "ip_adapter", "absent");
    json_t *c = merged(a, "{\"model_id\": \"Lykon/dreamshaper-8\"}");
    is(c, "ip_adapter.scale", "1.0");
    is(c, "controlnets", "[]");
    refused_by(&plain, a, "{\"model_id\": \"stabilityai/sd-turbo\", \"ip_adapter\": {}}",
               "ip_adapter", "not for this model");
    json_decref(a);
    json_decref(b);
    json_decref(c);
}
END_TEST

START_TEST(step_indices_follow)
{
    json_t *a = merged(NULL, "{\"num_inference_steps\": 4}");
    is(a, "t_index_list", "[1,2,3]");
    json_t *b = merged(a, "{\"num_inference_steps\": 100}");
    is(b, "t_index_list", "[1,2,3]"); /* they still fit */
    json_t *c = merged(b, "{\"num_inference_steps\": 1}");
    is(c, "t_index_list", "[0,0,0]");
    refused_by(&plain, b, "{\"num_inference_steps\": 2, \"t_index_list\": [0, 3]}", "t_index_list",
               "t_index_list[1] is 3; allowed is 0 to num_inference_steps, which is 2");
    json_decref(a);
    json_decref(b);
    json_decref(c);
}
END_TEST

START_TEST(names_of_others)
{
    json_t *a = merged(NULL, "{\"model_id\": \"Lykon/dreamshaper-8\", \"ip_adapter\": {\"scale\": "
                             "0.5, \"image_url\": \"https://example.org/a.png\"},"
                             " \"video_codec\": \"h264\", \"video_bframes\": 2}");
    is(a, "ip_adapter_style_image_url", "\"https://example.org/a.png\"");
    is(a, "ip_adapter.image_url", "absent");
    is(a, "video_codec", "\"h264\"");
    is(a, "video_bframes", "2");
    json_decref(a);
}
END_TEST

/* ---- refusals -------------------------------------------------------------------------------- */

START_TEST(refusals)
{
    static const struct {
        const char *change, *field, *words;
    } cases[] = {
        {"{\"promt\": \"x\"}", "promt", "did you mean prompt?"},
        {"{\"entirely_else\": 1}", "entirely_else", "there is no parameter entirely_else"},
        {"{\"model_id\": \"runwayml/stable-diffusion-v1-5\"}", "model_id", "stabilityai/sd-turbo"},
        {"{\"model_id\": 5}", "model_id", "a text"},
        {"{\"prompt\": 5}", "prompt", "a text or"},
        {"{\"prompt\": []}", "prompt", "0 entries"},
        {"{\"prompt\": [[\"\", 1]]}", "prompt[0]", "1 to"},
        {"{\"prompt\": [[\"a\"]]}", "prompt[0]", "[text, weight]"},
        {"{\"prompt\": [\"a\", 1]}", "prompt[0]", "[text, weight]"},
        {"{\"prompt_interpolation_method\": \"cubic\"}", "prompt_interpolation_method",
         "linear, slerp"},
        {"{\"normalize_prompt_weights\": 1}", "normalize_prompt_weights", "true or false"},
        {"{\"guidance_scale\": \"1\"}", "guidance_scale", "a number"},
        {"{\"num_inference_steps\": 0}", "num_inference_steps", "1 to 100"},
        {"{\"num_inference_steps\": 101}", "num_inference_steps", "1 to 100"},
        {"{\"num_inference_steps\": 3.5}", "num_inference_steps", "a whole number"},
        {"{\"t_index_list\": []}", "t_index_list", "0 entries; 1 to 4"},
        {"{\"t_index_list\": [1,2,3,4,5]}", "t_index_list", "5 entries; 1 to 4"},
        {"{\"t_index_list\": [2,1]}", "t_index_list", "rising"},
        {"{\"t_index_list\": [51]}", "t_index_list", "0 to num_inference_steps"},
        {"{\"t_index_list\": [-1]}", "t_index_list", "0 to num_inference_steps"},
        {"{\"t_index_list\": [\"1\"]}", "t_index_list[0]", "a whole number"},
        {"{\"width\": 100}", "width", "multiples of 8"},
        {"{\"height\": 4096}", "height", "64 to 2048"},
        {"{\"seed\": 9007199254740992}", "seed", "a whole number"},
        {"{\"seed\": [[1.5, 1]]}", "seed[0]", "[seed, weight]"},
        {"{\"lora_dict\": {\"a\": \"b\"}}", "lora_dict.a", "a number"},
        {"{\"lora_dict\": {\"\": 1}}", "lora_dict", "without a name"},
        {"{\"acceleration\": \"cuda\"}", "acceleration", "none, xformers, tensorrt"},
        {"{\"similar_image_filter_threshold\": 1.5}", "similar_image_filter_threshold", "0 to 1"},
        {"{\"similar_image_filter_max_skip_frame\": -1}", "similar_image_filter_max_skip_frame",
         "0 to"},
        {"{\"controlnets\": {}}", "controlnets", "a list"},
        {"{\"controlnets\": [1]}", "controlnets[0]", "an object"},
        {"{\"controlnets\": [{\"preprocessor\": \"canny\"}]}", "controlnets[0].model_id",
         "is missing"},
        {"{\"controlnets\": [{\"model_id\": \"xinsir/controlnet-canny-sdxl-1.0\", "
         "\"preprocessor\": \"canny\"}]}",
         "controlnets[0].model_id", "no ControlNet of this model's family"},
        {"{\"controlnets\": [{\"model_id\": \"thibaud/controlnet-sd21-hed-diffusers\", "
         "\"preprocessor\": \"cany\"}]}",
         "controlnets[0].preprocessor", "did you mean \"canny\"?"},
        {"{\"controlnets\": [{\"model_id\": \"thibaud/controlnet-sd21-hed-diffusers\", "
         "\"preprocessor\": \"hed\"}, {\"model_id\": \"thibaud/controlnet-sd21-hed-diffusers\", "
         "\"preprocessor\": \"hed\"}]}",
         "controlnets[1].model_id", "twice"},
        {"{\"image_preprocessing\": {\"processors\": [{\"type\": \"warp\"}]}}",
         "image_preprocessing.processors[0].type", "none of the 19"},
        {"{\"latent_preprocessing\": {\"processors\": [{\"type\": \"blur\"}]}}",
         "latent_preprocessing.processors[0].type", "latent_feedback"},
        {"{\"ip_adapter\": {}}", "ip_adapter", "SD 1.5 and SDXL"},
        {"{\"model_id\": \"Lykon/dreamshaper-8\", \"ip_adapter\": {\"type\": \"faceid\"}}",
         "ip_adapter.type", "SDXL alone"},
        {"{\"model_id\": \"Lykon/dreamshaper-8\", \"acceleration\": \"none\", "
         "\"cached_attention\": {\"enabled\": true, \"max_frames\": 1, \"interval\": 1}}",
         "cached_attention", "tensorrt"},
        {"{\"model_id\": \"stabilityai/sdxl-turbo\", \"cached_attention\": {\"enabled\": true, "
         "\"max_frames\": 2, \"interval\": 1}}",
         "cached_attention.max_frames", "with 3 steps SDXL takes 1"},
        {"{\"model_id\": \"Lykon/dreamshaper-8\", \"ip_adapter_style_image_url\": \"ftp://x\"}",
         "ip_adapter_style_image_url", "neither"},
        {"{\"model_id\": \"Lykon/dreamshaper-8\", \"ip_adapter_style_image_url\": "
         "\"data:image/png;base64,a*\"}",
         "ip_adapter_style_image_url", "base64"},
        {"{\"video_codec\": \"av1\"}", "video_codec", "h264, h265, vp9"},
        {"{\"gop_size\": 301}", "gop_size", "1 to 300"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        refused_by(&plain, NULL, cases[i].change, cases[i].field, cases[i].words);
}
END_TEST

/* What is quoted is cut between characters. */
START_TEST(quoted_texts)
{
    GString *long_name = g_string_new("{\"");
    for (int i = 0; i < 100; i++)
        g_string_append(long_name, "ü€");
    g_string_append(long_name, "\": 1}");
    scope_error err = {0};
    json_t *o = parse(long_name->str);
    ck_assert_ptr_null(daydream_params_merge(NULL, o, &plain, &err));
    ck_assert(g_utf8_validate(err.text, -1, NULL));
    ck_assert(g_utf8_validate(err.field, -1, NULL));
    json_decref(o);
    g_string_free(long_name, TRUE);
}
END_TEST

START_TEST(style_pictures)
{
    const char *head = "{\"model_id\": \"Lykon/dreamshaper-8\", \"ip_adapter_style_image_url\": "
                       "\"data:image/png;base64,";
    json_t *o = merged(NULL, "{\"model_id\": \"Lykon/dreamshaper-8\", "
                             "\"ip_adapter_style_image_url\": \"data:image/png;base64,AAAA\"}");
    is(o, "ip_adapter_style_image_url", "\"data:image/png;base64,AAAA\"");
    json_decref(o);
    size_t sizes[] = {(5 << 20) / 3 * 4, (5 << 20) / 3 * 4 + 8};
    for (int i = 0; i < 2; i++) {
        char *text = g_strdup_printf("%s%*s\"}", head, (int)sizes[i], "");
        memset(text + strlen(head), 'A', sizes[i]);
        if (i == 0)
            json_decref(merged(NULL, text));
        else
            refused_by(&plain, NULL, text, "ip_adapter_style_image_url", "at most 5");
        g_free(text);
    }
}
END_TEST

START_TEST(sizes)
{
    const daydream_rules strict = {.model = "stabilityai/sd-turbo", .strict_sizes = true};
    json_decref(merged(NULL, "{\"width\": 768, \"height\": 448}"));
    json_decref(merged(NULL, "{\"width\": 64, \"height\": 2048}"));
    json_decref(merged_by(&strict, NULL, "{\"width\": 1024, \"height\": 384}"));
    refused_by(&strict, NULL, "{\"width\": 256}", "width", "multiples of 64 from 384 to 1024");
    refused_by(&strict, NULL, "{\"height\": 520}", "height", "multiples of 64 from 384 to 1024");
}
END_TEST

START_TEST(reloads)
{
    static const struct {
        const char *change, *field;
    } cases[] = {{"{\"prompt\": \"x\", \"seed\": 1, \"t_index_list\": [1]}", NULL},
                 {"{\"controlnets\": [], \"negative_prompt\": \"\"}", NULL},
                 {"{\"prompt\": \"x\", \"width\": 512}", "width"},
                 {"{\"model_id\": \"stabilityai/sd-turbo\"}", "model_id"}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_t *o = parse(cases[i].change);
        ck_assert_pstr_eq(daydream_params_reloads(o), cases[i].field);
        json_decref(o);
    }
}
END_TEST

/* ---- models ---------------------------------------------------------------------------------- */

START_TEST(models)
{
    json_t *config =
        parse("{\"stabilityai/sd-turbo\": {\"values\": {\"model_id_or_path\": \"/m\"}},"
              " \"mine\": {\"plugin\": \"invert\", \"family\": \"sdxl\"},"
              " \"other\": {}, \"wrong\": {\"values\": 5}}");
    ck_assert_uint_eq(daydream_family(NULL, "stabilityai/sd-turbo"), DAYDREAM_SD21);
    ck_assert_uint_eq(daydream_family(NULL, "prompthero/openjourney-v4"), DAYDREAM_SD15);
    ck_assert_uint_eq(daydream_family(NULL, "mine"), 0);
    ck_assert_uint_eq(daydream_family(config, "mine"), DAYDREAM_SDXL);
    ck_assert_uint_eq(daydream_family(config, "other"), DAYDREAM_SD15);
    const char *plugin;
    json_t *values;
    scope_error err = {0};
    ck_assert_int_eq(daydream_model_link(config, "stabilityai/sd-turbo", &plugin, &values, &err),
                     0);
    ck_assert_str_eq(plugin, "streamdiffusion");
    is(values, "model_id_or_path", "\"/m\"");
    json_decref(values);
    ck_assert_int_eq(daydream_model_link(config, "mine", &plugin, &values, &err), 0);
    ck_assert_str_eq(plugin, "invert");
    json_decref(values);
    ck_assert_int_eq(daydream_model_link(NULL, "Lykon/dreamshaper-8", &plugin, &values, &err), 0);
    ck_assert_ptr_null(values);
    ck_assert_int_lt(daydream_model_link(config, "wrong", &plugin, &values, &err), 0);
    const daydream_rules rules = {.model = "stabilityai/sd-turbo", .models = config};
    json_t *o = merged_by(&rules, NULL, "{\"model_id\": \"mine\", \"ip_adapter\": {}}");
    is(o, "ip_adapter.enabled", "true");
    json_decref(o);
    json_decref(config);
}
END_TEST

/* ---- schemas --------------------------------------------------------------------------------- */

/* The schemas for people have every field. */
START_TEST(told)
{
    static const struct {
        enum daydream_shape shape;
        size_t required;
    } cases[] = {{DAYDREAM_REQUEST, 0}, {DAYDREAM_HOT_REQUEST, 0}, {DAYDREAM_ANSWER, 30}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_t *o = daydream_params_schema(cases[i].shape);
        json_t *properties = json_object_get(o, "properties");
        size_t count = 0;
        for (const daydream_field *f = daydream_fields(); f->name; f++) {
            bool there = cases[i].shape != DAYDREAM_HOT_REQUEST || f->flags & DAYDREAM_HOT;
            ck_assert_msg((json_object_get(properties, f->name) != NULL) == there, "%s", f->name);
            count += there;
        }
        ck_assert_uint_eq(json_object_size(properties), count);
        ck_assert_uint_eq(json_array_size(json_object_get(o, "required")), cases[i].required);
        json_decref(o);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daydream");
    TCase *c = tcase_create("daydream");
    tcase_add_test(c, complete);
    tcase_add_test(c, defaults);
    tcase_add_test(c, nested_objects_are_complete);
    tcase_add_test(c, changes_are_merged);
    tcase_add_test(c, objects_merge_and_lists_replace);
    tcase_add_test(c, another_family);
    tcase_add_test(c, step_indices_follow);
    tcase_add_test(c, names_of_others);
    tcase_add_test(c, refusals);
    tcase_add_test(c, quoted_texts);
    tcase_add_test(c, style_pictures);
    tcase_add_test(c, sizes);
    tcase_add_test(c, reloads);
    tcase_add_test(c, models);
    tcase_add_test(c, told);
    suite_add_tcase(suite, c);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
