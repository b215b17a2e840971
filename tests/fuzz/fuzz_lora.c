/* fuzz_lora.c - any bytes as a LoRA file, as a key of one, and as a prompt with tags: what is
 * accepted is in range and lies in memory, and names never lead out of their folder. */
#include "plugin/streamdiffusion/lora.h"
#include "plugin/streamdiffusion/lora_tags.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A model of six modules stands in for the real one, which would need the kernels. */
static const weights_module text_modules[] = {
    {"text_model.encoder.layers.0.mlp.fc1", NULL, 0, 4, 2, 1},
};
static const weights_module text_2_modules[] = {
    {"text_projection", NULL, 0, 4, 2, 1},
};
static const weights_module unet_modules[] = {
    {"down_blocks.0.resnets.0.conv1", NULL, 0, 2, 2, 3},
    {"mid_block.attentions.0.transformer_blocks.0.attn1.to_q", NULL, 0, 4, 4, 1},
    {"mid_block.attentions.0.transformer_blocks.0.attn1.to_k", NULL, 1, 4, 4, 1},
    {"mid_block.attentions.0.transformer_blocks.0.attn2.to_k", NULL, 0, 4, 6, 1},
};

weights *model_weights(const model *m, int part)
{
    (void)m;
    return part == MODEL_TEXT     ? (weights *)(uintptr_t)text_modules
           : part == MODEL_TEXT_2 ? (weights *)(uintptr_t)text_2_modules
                                  : (weights *)(uintptr_t)unet_modules;
}

int weights_module_at(const weights *w, int i, weights_module *m)
{
    const weights_module *list = (const void *)w;
    int count = list == unet_modules ? 4 : 1;
    if (i >= count)
        return 0;
    *m = list[i];
    return 1;
}

static void require(int holds)
{
    if (!holds)
        abort();
}

static void check_tags(const char *text)
{
    lora_tag tags[3];
    size_t length = strlen(text);
    char *out = malloc(length + 1), *again = malloc(length + 1);
    if (out && again) {
        int count = lora_tags_take(text, out, tags, 3);
        require(count >= 0 && strlen(out) <= length && (count || !strcmp(text, out)));
        for (int i = 0; i < count && i < 3; i++) {
            const char *name = tags[i].name;
            require(name[0] && name[0] != '/' && strcmp(name, "..") != 0);
            require(strncmp(name, "../", 3) != 0 && !strstr(name, "/../"));
            require(fabs(tags[i].scale) <= 4);
        }
        memcpy(again, text, length + 1);
        require(lora_tags_take(again, again, NULL, 0) == count && !strcmp(again, out));
    }
    free(out);
    free(again);
}

static void check_key(const lora_names *n, const char *text)
{
    char base[LORA_NAME];
    int role = lora_key(text, base), module = lora_names_find(n, base);
    require(role >= LORA_NONE && role <= LORA_MAGNITUDE && strlen(base) < LORA_NAME);
    require((role == LORA_NONE) == !base[0] && !strchr(base, '.'));
    require(module >= -1 && module < lora_names_count(n));
}

/* The sum of an array's bytes, so that a sanitizer sees every one of them read. */
static unsigned touch(k_array a, int64_t count)
{
    unsigned sum = 0;
    size_t bytes = (size_t)count * (a.dtype == K_F32 ? 4 : 2);
    for (size_t i = 0; i < bytes; i++)
        sum += ((const unsigned char *)a.data)[i];
    return sum;
}

static void check_file(const lora_names *n, const uint8_t *data, size_t size)
{
    static volatile unsigned sink;
    scope_error err = {0};
    lora *l = lora_open_memory(n, data, size, "fuzz", &err);
    if (!l) {
        require(err.status < 0 && err.text[0]);
        return;
    }
    require(lora_pieces(l) > 0);
    for (int i = 0; i < lora_pieces(l); i++) {
        const lora_piece *p = lora_piece_at(l, i);
        const weights_module *m = &lora_names_at(n, p->module)->m;
        require(!i || lora_piece_at(l, i - 1)->module < p->module);
        require(p->delta.part == m->part && p->delta.rank > 0 && isfinite(p->delta.scale));
        sink += touch(p->delta.up, (int64_t)m->out * p->delta.rank);
        sink += touch(p->delta.down, (int64_t)p->delta.rank * m->in * m->k * m->k);
        if (p->delta.magnitude.data)
            sink += touch(p->delta.magnitude, m->out);
    }
    lora_close(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lora_names *n;
    scope_error err;
    char *text = malloc(size + 1);
    if (!n && !(n = lora_names_open(NULL, &err)))
        abort();
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    check_tags(text);
    check_key(n, text);
    free(text);
    check_file(n, data, size);
    return 0;
}
