/* test_daydream_map.c - Daydream's parameters and the values of a plugin: what they are to it, what
 * it cannot do, and the way back. */
#include "daydream_fixture.h"
#include "host/http/daydream_map.h"
#include "host/http/daydream_models.h"

static schema *sd; /* of the plugin that ships */

static json_t *mapped(const char *change, const char *base, json_t *warnings)
{
    json_t *params = merged(NULL, change), *from = base ? parse(base) : NULL;
    const char *id = json_string_value(json_object_get(params, "model_id"));
    json_t *v = daydream_map(params, sd, daydream_family(NULL, id), from, "/assets", warnings);
    schema_error err;
    json_t *full = schema_complete(sd, v, &err);
    ck_assert_msg(full != NULL, "%s: %s: %s", change, err.path, err.text);
    json_decref(full);
    json_decref(from);
    json_decref(params);
    return v;
}

static void maps_to(const char *change, const char *path, const char *text)
{
    json_t *v = mapped(change, NULL, NULL);
    is(v, path, text);
    json_decref(v);
}

START_TEST(mapping)
{
    static const char *const cases[][3] = {
        {"{}", "cfg_type", "\"self\""},
        {"{}", "model_id_or_path", "\"stabilityai/sd-turbo\""},
        {"{}", "input_mode", "\"video\""},
        {"{}", "enabled", "true"},
        {"{}", "lora_dir", "\"/assets\""},
        {"{\"skip_diffusion\": true}", "enabled", "false"},
        {"{\"prompt\": \"a cat\"}", "prompts", "[{\"text\":\"a cat\",\"weight\":1.0}]"},
        {"{\"prompt\": [[\"a\", 0.25], [\"b\", 1]]}", "prompts.1.text", "\"b\""},
        {"{\"prompt\": [[\"a\", 0.25], [\"b\", 1]]}", "prompts.0.weight", "0.25"},
        {"{\"prompt\": [[\"a\", -1]]}", "prompts.0.weight", "0.0"},
        {"{\"seed\": 5}", "seed", "5"},
        {"{\"seed\": 5}", "seeds", "[]"},
        {"{\"seed\": 2147483648}", "seed", "0"},
        {"{\"seed\": -1}", "seed", "2147483647"},
        {"{\"seed\": [[7, 0.5], [8, 0.5]]}", "seeds",
         "[{\"seed\":7,\"weight\":0.5},{\"seed\":8,\"weight\":0.5}]"},
        {"{\"guidance_scale\": 20}", "guidance_scale", "8.0"},
        {"{\"delta\": 0.5}", "delta", "0.5"},
        {"{}", "t_index_list", "[12,20,32]"},
        {"{\"t_index_list\": [50]}", "t_index_list", "[49]"},
        {"{\"num_inference_steps\": 4, \"t_index_list\": [0, 2, 4]}", "t_index_list", "[0,2,3]"},
        {"{\"num_inference_steps\": 1, \"t_index_list\": [1]}", "t_index_list", "[0]"},
        {"{\"num_inference_steps\": 100, \"t_index_list\": [0, 31, 99, 100]}", "t_index_list",
         "[0,15,49,49]"},
        {"{\"num_inference_steps\": 100}", "num_inference_steps", "50"},
        {"{\"enable_similar_image_filter\": true}", "similar_image_filter_enabled", "true"},
        {"{\"enable_similar_image_filter\": true, \"similar_image_filter_max_skip_frame\": 0}",
         "similar_image_filter_enabled", "false"},
        {"{\"similar_image_filter_max_skip_frame\": 9007199254740991}",
         "similar_image_filter_max_skip", "1000"},
        {"{\"width\": 768, \"height\": 448}", "width", "768"},
        {"{\"use_denoising_batch\": false}", "use_denoising_batch", "false"},
        {"{\"lora_dict\": {\"a\": 0.5, \"b\": 9}}", "loras",
         "[{\"path\":\"a\",\"scale\":0.5},{\"path\":\"b\",\"scale\":4.0}]"},
        {"{}", "use_lcm_lora", "false"}, /* Turbo */
        {"{\"model_id\": \"Lykon/dreamshaper-8\"}", "use_lcm_lora", "true"},
        {"{\"model_id\": \"Lykon/dreamshaper-8\", \"use_lcm_lora\": false}", "use_lcm_lora",
         "false"},
        {"{}", "latent_feedback", "0.0"},
        {"{\"latent_preprocessing\": {\"processors\": [{\"type\": \"latent_feedback\"}]}}",
         "latent_feedback", "0.15"},
        {"{\"latent_preprocessing\": {\"enabled\": false, \"processors\": [{\"type\": "
         "\"latent_feedback\"}]}}",
         "latent_feedback", "0.0"},
        {"{\"latent_preprocessing\": {\"processors\": [{\"type\": \"latent_feedback\", \"params\": "
         "{\"feedback_strength\": 0.25}}]}}",
         "latent_feedback", "0.25"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        maps_to(cases[i][0], cases[i][1], cases[i][2]);
}
END_TEST

START_TEST(base_values)
{
    json_t *v = mapped("{\"width\": 256}",
                       "{\"model_id_or_path\": \"/m\", \"width\": 64, \"lora_dir\": \"/l\"}", NULL);
    is(v, "model_id_or_path", "\"/m\"");
    is(v, "width", "256");
    is(v, "lora_dir", "\"/l\"");
    json_decref(v);
}
END_TEST

static void warns(const char *change, const char *words)
{
    json_t *warnings = json_array();
    json_decref(mapped(change, NULL, warnings));
    char *all = json_dumps(warnings, 0);
    ck_assert_msg(words ? strstr(all, words) != NULL : json_array_size(warnings) == 0, "%s: %s",
                  change, all);
    free(all);
    json_decref(warnings);
}

START_TEST(warnings)
{
    warns("{}", NULL);
    warns("{\"model_id\": \"stabilityai/sdxl-turbo\"}", NULL);
    warns("{\"controlnets\": [{\"model_id\": \"thibaud/controlnet-sd21-hed-diffusers\", "
          "\"preprocessor\": \"hed\"}]}",
          "controlnets");
    warns("{\"controlnets\": [{\"model_id\": \"thibaud/controlnet-sd21-hed-diffusers\", "
          "\"preprocessor\": \"hed\", \"enabled\": false}]}",
          NULL);
    warns("{\"model_id\": \"stabilityai/sdxl-turbo\", \"ip_adapter\": {}}", "ip_adapter");
    warns("{\"model_id\": \"stabilityai/sdxl-turbo\", \"cached_attention\": {\"enabled\": true, "
          "\"max_frames\": 1, \"interval\": 1}}",
          "cached_attention");
    warns("{\"image_postprocessing\": {\"processors\": [{\"type\": \"upscale\"}]}}",
          "image_postprocessing");
    warns("{\"image_postprocessing\": {\"enabled\": false, \"processors\": [{\"type\": "
          "\"upscale\"}]}}",
          NULL);
    warns("{\"use_safety_checker\": true}", "safety checker");
    warns("{\"guidance_scale\": 20}", "guidance_scale is 20; the plugin takes 8");
    warns("{\"seed\": [[1, 1]], \"normalize_seed_weights\": false}", "normalize_seed_weights");
    warns("{\"model_id\": \"Lykon/dreamshaper-8\"}",
          "scope model get latent-consistency/lcm-lora-sdv1-5");
}
END_TEST

/* A plugin without any of it gets what it has. */
START_TEST(other_plugins)
{
    schema_error at;
    schema *s = schema_parse("{\"properties\": {\"enabled\": {\"$ref\": \"base.json#/enabled\"}, "
                             "\"gain\": {\"type\": \"number\", \"default\": 1}}}",
                             &at);
    ck_assert_ptr_nonnull(s);
    json_t *params = merged(NULL, "{}"),
           *v = daydream_map(params, s, DAYDREAM_SD21, NULL, "/a", NULL);
    char *text = json_dumps(v, JSON_COMPACT);
    ck_assert_str_eq(text, "{\"enabled\":true}");
    free(text);
    json_decref(v);
    json_decref(params);
    schema_free(s);
}
END_TEST

START_TEST(back)
{
    static const char *const cases[][3] = {
        {"{\"prompts\": \"a dog\"}", "prompt", "\"a dog\""},
        {"{\"prompts\": [{\"text\": \"a\", \"weight\": 2}, {\"text\": \"b\"}]}", "prompt",
         "[[\"a\",2.0],[\"b\",1.0]]"},
        {"{\"seed\": 9}", "seed", "9"},
        {"{\"seeds\": [{\"seed\": 3, \"weight\": 1}]}", "seed", "[[3,1.0]]"},
        {"{\"guidance_scale\": 2.5}", "guidance_scale", "2.5"},
        {"{\"t_index_list\": [30]}", "t_index_list", "[30]"},
        {"{\"t_index_list\": []}", "t_index_list", "[12,20,32]"},
        {"{\"num_inference_steps\": 40}", "num_inference_steps", "40"},
        {"{\"enabled\": false}", "skip_diffusion", "true"},
        {"{\"loras\": [{\"path\": \"x\", \"scale\": 0.5}]}", "lora_dict", "{\"x\":0.5}"},
        {"{\"width\": 640}", "width", "640"},
        {"{\"similar_image_filter_enabled\": true}", "enable_similar_image_filter", "true"},
        {"{\"similar_image_filter_max_skip\": 3}", "similar_image_filter_max_skip_frame", "3"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        schema_error at;
        json_t *params = merged(NULL, "{\"guidance_scale\": 20}");
        json_t *v = daydream_map(params, sd, DAYDREAM_SD21, NULL, NULL, NULL);
        json_t *asked = schema_complete(sd, v, &at), *change = parse(cases[i][0]);
        ck_assert(!daydream_map_back(params, asked, asked));
        is(params, "guidance_scale", "20.0"); /* as it was said, not as it was taken */
        json_object_update(v, change);
        json_t *now = schema_complete(sd, v, &at);
        ck_assert_msg(now != NULL, "%s", at.text);
        daydream_map_back(params, asked, now);
        is(params, cases[i][1], cases[i][2]);
        json_decref(now);
        json_decref(change);
        json_decref(asked);
        json_decref(v);
        json_decref(params);
    }
}
END_TEST

int main(void)
{
    char *text;
    schema_error err;
    if (!g_file_get_contents(SOURCE_DIR "/plugin/streamdiffusion/schema.json", &text, NULL, NULL) ||
        !(sd = schema_parse(text, &err)))
        return EXIT_FAILURE;
    g_free(text);
    g_setenv("XDG_DATA_HOME", "/nowhere", TRUE); /* no LoRA of the person's own */
    Suite *suite = suite_create("daydream map");
    TCase *c = tcase_create("map");
    tcase_add_test(c, mapping);
    tcase_add_test(c, base_values);
    tcase_add_test(c, warnings);
    tcase_add_test(c, other_plugins);
    tcase_add_test(c, back);
    suite_add_tcase(suite, c);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    schema_free(sd);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
