/* lora_names.c - see lora_names.h. One sorted table of spellings over all modules. */
#include "lora_names.h"

#include "alloc.h"

#include <stdlib.h>

typedef struct spelling {
    char *text; /* owned */
    int module;
} spelling;

struct lora_names {
    lora_module *module; /* owned */
    int modules;
    spelling *spelling; /* owned, sorted */
    int spellings;
    int layers;        /* resnets of a down block: what the original block numbers count */
    unsigned attended; /* up blocks with attention, a bit each */
};

/* ---- keys of a file -------------------------------------------------------------------------- */

static const struct {
    const char *end;
    int role;
} ends[] = {
    {".lora_down.weight", LORA_DOWN},
    {".lora_up.weight", LORA_UP},
    {".lora_mid.weight", LORA_MID},
    {".alpha", LORA_ALPHA},
    {".dora_scale", LORA_MAGNITUDE},
    {".lora_A.weight", LORA_DOWN},
    {".lora_B.weight", LORA_UP},
    {".lora_magnitude_vector", LORA_MAGNITUDE},
    {".lora_magnitude_vector.weight", LORA_MAGNITUDE},
    {".lora_linear_layer.down.weight", LORA_DOWN},
    {".lora_linear_layer.up.weight", LORA_UP},
    {".lora.down.weight", LORA_DOWN},
    {".lora.up.weight", LORA_UP},
    {"_lora.down.weight", LORA_DOWN},
    {"_lora.up.weight", LORA_UP},
};

/* The beginnings of names, and how the table begins in their place. The first that fits. */
static const struct {
    const char *begin, *table;
} begins[] = {
    {"lora_unet_", "unet_"},
    {"lora_te_", "te_"},
    {"lora_te1_", "te_"},
    {"lora_te2_", "te2_"},
    {"base_model.model.text_model.", "te_text_model_"},
    {"base_model.model.", "unet_"},
    {"unet.", "unet_"},
    {"text_encoder.", "te_"},
    {"text_encoder_2.", "te2_"},
    {"model.diffusion_model.", "unet_"},
    {"diffusion_model.", "unet_"},
    {"text_model.", "te_text_model_"},
    {"", "unet_"}, /* attention processors, saved on their own */
};

/* "attn1.processor.to_out" is today's "attn1.to_out.0". */
static void modern(char base[LORA_NAME])
{
    char *at = strstr(base, "processor.");
    if (at)
        memmove(at, at + 10, strlen(at + 10) + 1);
    size_t n = strlen(base);
    if (at && n > 6 && n + 3 < LORA_NAME && !strcmp(base + n - 6, "to_out"))
        memcpy(base + n, ".0", 3);
}

/* PEFT in memory: ".lora_A.NAME.weight", with the name of the adapter. */
static int with_adapter(const char *key, size_t *end)
{
    static const struct {
        const char *word;
        int role;
    } words[] = {{".lora_A.", LORA_DOWN},
                 {".lora_B.", LORA_UP},
                 {".lora_magnitude_vector.", LORA_MAGNITUDE}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const char *at = strstr(key, words[i].word);
        const char *dot = at ? strchr(at + strlen(words[i].word), '.') : NULL;
        if (dot && at > key && !strcmp(dot, ".weight")) {
            *end = (size_t)(at - key);
            return words[i].role;
        }
    }
    return LORA_NONE;
}

/* The role by the key's end; *end: where that begins, never 0. */
static int role_of(const char *key, size_t *end)
{
    size_t length = strlen(key);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t n = strlen(ends[i].end);
        if (length > n && !strcmp(key + length - n, ends[i].end)) {
            *end = length - n;
            return ends[i].role;
        }
    }
    return with_adapter(key, end);
}

int lora_key(const char *key, char base[LORA_NAME])
{
    char name[LORA_NAME];
    size_t end = 0, b = 0;
    int role = role_of(key, &end);
    base[0] = 0;
    if (role == LORA_NONE || end >= LORA_NAME - 16) /* room for a longer beginning */
        return LORA_NONE;
    snprintf(name, sizeof name, "%.*s", (int)end, key);
    modern(name);
    while (strncmp(name, begins[b].begin, strlen(begins[b].begin)))
        b++;
    snprintf(base, LORA_NAME, "%s%.*s", begins[b].table, LORA_NAME - 16,
             name + strlen(begins[b].begin));
    for (char *c = base; *c; c++)
        *c = *c == '.' ? '_' : *c;
    return role;
}

/* ---- the original names of the UNet's blocks ------------------------------------------------- */

/* Inner names of a resnet, and the modules outside of the blocks. */
static const char *const inner[][2] = {
    {"conv1", "in_layers_2"},
    {"time_emb_proj", "emb_layers_1"},
    {"conv2", "out_layers_3"},
    {"conv_shortcut", "skip_connection"},
};
static const char *const outer[][2] = {
    {"conv_in", "input_blocks_0_0"},
    {"conv_out", "out_2"},
    {"time_embedding.linear_1", "time_embed_0"},
    {"time_embedding.linear_2", "time_embed_2"},
    {"add_embedding.linear_1", "label_emb_0_0"},
    {"add_embedding.linear_2", "label_emb_0_2"},
};

static const char *resnet_word(const char *word)
{
    for (size_t i = 0; i < sizeof inner / sizeof *inner; i++) {
        if (!strcmp(inner[i][0], word))
            return inner[i][1];
    }
    return word;
}

/* A UNet's module by its block number in the original code; 0: it has no such name. */
static int original(const lora_names *n, const char *name, char out[LORA_NAME])
{
    int b, l, at = 0, each = n->layers + 1;
    for (size_t i = 0; i < sizeof outer / sizeof *outer; i++) {
        if (!strcmp(outer[i][0], name))
            return snprintf(out, LORA_NAME, "%s", outer[i][1]);
    }
    if (sscanf(name, "down_blocks.%d.resnets.%d.%n", &b, &l, &at) == 2 && at)
        return snprintf(out, LORA_NAME, "input_blocks_%d_0_%s", 1 + b * each + l,
                        resnet_word(name + at));
    if (sscanf(name, "down_blocks.%d.attentions.%d.%n", &b, &l, &at) == 2 && at)
        return snprintf(out, LORA_NAME, "input_blocks_%d_1_%s", 1 + b * each + l, name + at);
    if (sscanf(name, "down_blocks.%d.downsamplers.0.conv%n", &b, &at) == 1 && at)
        return snprintf(out, LORA_NAME, "input_blocks_%d_0_op", (b + 1) * each);
    if (sscanf(name, "mid_block.resnets.%d.%n", &l, &at) == 1 && at)
        return snprintf(out, LORA_NAME, "middle_block_%d_%s", 2 * l, resnet_word(name + at));
    if (sscanf(name, "mid_block.attentions.%d.%n", &l, &at) == 1 && at)
        return snprintf(out, LORA_NAME, "middle_block_1_%s", name + at);
    if (sscanf(name, "up_blocks.%d.resnets.%d.%n", &b, &l, &at) == 2 && at)
        return snprintf(out, LORA_NAME, "output_blocks_%d_0_%s", b * each + l,
                        resnet_word(name + at));
    if (sscanf(name, "up_blocks.%d.attentions.%d.%n", &b, &l, &at) == 2 && at)
        return snprintf(out, LORA_NAME, "output_blocks_%d_1_%s", b * each + l, name + at);
    if (sscanf(name, "up_blocks.%d.upsamplers.0.conv%n", &b, &at) == 1 && at && b < 32)
        return snprintf(out, LORA_NAME, "output_blocks_%d_%d_conv", b * each + n->layers,
                        n->attended >> b & 1 ? 2 : 1);
    return 0;
}

/* ---- the table ------------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
    return strcmp(((const spelling *)a)->text, ((const spelling *)b)->text);
}

static int spell(lora_names *n, const char *begin, const char *name, int module)
{
    size_t size = strlen(begin) + strlen(name) + 1;
    char *text = sd_malloc(size);
    if (!text)
        return -1;
    snprintf(text, size, "%s%s", begin, name);
    for (char *c = text; *c; c++)
        *c = *c == '.' ? '_' : *c;
    n->spelling[n->spellings++] = (spelling){text, module};
    return 0;
}

static void measure(lora_names *n)
{
    for (int i = 0; i < n->modules; i++) {
        int b, l, at = 0;
        const char *name = n->module[i].m.name;
        if (sscanf(name, "down_blocks.%d.resnets.%d.", &b, &l) == 2 && b == 0 && l >= n->layers)
            n->layers = l + 1;
        if (sscanf(name, "up_blocks.%d.attentions.%n", &b, &at) == 1 && at && b >= 0 && b < 32)
            n->attended |= 1u << b;
    }
}

static int fill(lora_names *n, const model *m)
{
    static const char *const begin[MODEL_PARTS] = {
        [MODEL_TEXT] = "te_", [MODEL_TEXT_2] = "te2_", [MODEL_UNET] = "unet_"};
    weights_module one;
    int count = 0;
    for (int p = 0; p < MODEL_PARTS; p++)
        for (int i = 0; weights_module_at(model_weights(m, p), i, &one); i++)
            count++;
    n->module = sd_calloc((size_t)count + 1, sizeof *n->module);
    n->spelling = sd_calloc(2 * (size_t)count + 1, sizeof *n->spelling);
    if (!n->module || !n->spelling)
        return -1;
    for (int p = 0; p < MODEL_PARTS; p++)
        for (int i = 0; weights_module_at(model_weights(m, p), i, &one); i++)
            n->module[n->modules++] = (lora_module){one, p};
    measure(n);
    for (int i = 0; i < n->modules; i++) {
        char other[LORA_NAME];
        const lora_module *l = &n->module[i];
        int unet = l->network == MODEL_UNET;
        if (spell(n, begin[l->network], l->m.name, i) ||
            (unet && original(n, l->m.name, other) && spell(n, "unet_", other, i)) ||
            (!unet && !strncmp(l->m.name, "text_model.", 11) && /* as transformers 5 has it */
             spell(n, begin[l->network], l->m.name + 11, i)))
            return -1;
    }
    qsort(n->spelling, (size_t)n->spellings, sizeof *n->spelling, by_text);
    return 0;
}

lora_names *lora_names_open(const model *m, scope_error *err)
{
    lora_names *n = sd_calloc(1, sizeof *n);
    if (n && !fill(n, m))
        return n;
    lora_names_close(n);
    scope_fail(err, SCOPE_ENOMEM, "Out of memory while preparing for LoRAs.");
    return NULL;
}

void lora_names_close(lora_names *n)
{
    if (!n)
        return;
    for (int i = 0; i < n->spellings; i++)
        free(n->spelling[i].text);
    free(n->spelling);
    free(n->module);
    free(n);
}

int lora_names_count(const lora_names *n)
{
    return n->modules;
}

const lora_module *lora_names_at(const lora_names *n, int i)
{
    return &n->module[i];
}

int lora_names_find(const lora_names *n, const char *base)
{
    spelling key = {.text = (char *)base};
    const spelling *s =
        bsearch(&key, n->spelling, (size_t)n->spellings, sizeof *n->spelling, by_text);
    return s ? s->module : -1;
}

int lora_names_text_width(const lora_names *n)
{
    for (int i = 0; i < n->modules; i++) {
        if (strstr(n->module[i].m.name, ".attn2.to_k"))
            return n->module[i].m.in;
    }
    return 0;
}
