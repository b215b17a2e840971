/* ldm.c - see ldm.h. */
#include "ldm.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum style { PLAIN = 1, UNET_BLOCKS, VAE_LEVELS, CLIP_BARE, OPEN_CLIP };

/* What is renamed: the start of a name, and what stands for it. */
typedef struct rule {
    const char *from, *to;
} rule;

static const struct {
    int part;
    const char *label;
    const char *prefix[3];
} parts[] = {
    {LDM_UNET, "unet", {"model.diffusion_model."}},
    {LDM_VAE, "vae", {"first_stage_model.", "vae."}},
    {LDM_TEXT,
     "text_encoder",
     {"cond_stage_model.transformer.", "cond_stage_model.model.",
      "conditioner.embedders.0.transformer."}},
    {LDM_TEXT2, "text_encoder_2", {"conditioner.embedders.1.model."}},
};
enum { PARTS = sizeof parts / sizeof *parts };

int ldm_part_of(const char *label)
{
    for (int i = 0; i < PARTS; i++) {
        if (!strcmp(parts[i].label, label))
            return parts[i].part;
    }
    return 0;
}

/* ---- what a file has ------------------------------------------------------------------------- */

static int starts(const char *text, const char *with)
{
    return !strncmp(text, with, strlen(with));
}

/* What follows `head` in the text, or NULL. */
static const char *after(const char *text, const char *head)
{
    return starts(text, head) ? text + strlen(head) : NULL;
}

static int has_prefix(const st_file *f, const char *prefix)
{
    for (int i = 0; i < st_count(f); i++) {
        if (starts(st_at(f, i)->name, prefix))
            return 1;
    }
    return 0;
}

__attribute__((format(printf, 3, 4))) static int has(const ldm *l, const st_file *f,
                                                     const char *format, ...)
{
    char rest[128], name[LDM_NAME];
    va_list ap;
    va_start(ap, format);
    vsnprintf(rest, sizeof rest, format, ap);
    va_end(ap);
    snprintf(name, sizeof name, "%s%s", l->prefix, rest);
    return st_find(f, name) != NULL;
}

int ldm_whole(const st_file *f)
{
    static const char *const others[] = {"cond_stage_model.", "conditioner."};
    for (int i = 0; i < PARTS; i++) {
        for (int j = 0; j < 3 && parts[i].prefix[j]; j++) {
            if (has_prefix(f, parts[i].prefix[j]))
                return 1;
        }
    }
    return has_prefix(f, others[0]) || has_prefix(f, others[1]);
}

int ldm_open_clip(const ldm *l)
{
    return l->style == OPEN_CLIP;
}

/* The levels of the UNet's two flat lists: one ends with its halving or doubling convolution. */
static void number_blocks(ldm *l, const st_file *f)
{
    int level = 0, layer = 0;
    for (int i = 1; i < LDM_MAX_BLOCKS; i++) {
        int halves = has(l, f, "input_blocks.%d.0.op.weight", i);
        l->in_level[i] = level;
        l->in_layer[i] = layer++;
        if (halves) {
            level++;
            layer = 0;
        }
    }
    level = layer = 0;
    for (int i = 0; i < LDM_MAX_BLOCKS; i++) {
        l->out_level[i] = level;
        l->out_layer[i] = layer++;
        if (has(l, f, "output_blocks.%d.1.conv.weight", i) ||
            has(l, f, "output_blocks.%d.2.conv.weight", i)) {
            level++;
            layer = 0;
        }
    }
}

static void find_style(ldm *l, const st_file *f)
{
    l->style = PLAIN;
    if (l->part == LDM_UNET && has(l, f, "input_blocks.0.0.weight")) {
        l->style = UNET_BLOCKS;
        number_blocks(l, f);
    } else if (l->part == LDM_VAE && (has(l, f, "decoder.mid.block_1.conv1.weight") ||
                                      has(l, f, "encoder.mid.block_1.conv1.weight"))) {
        l->style = VAE_LEVELS;
        while (has(l, f, "decoder.up.%d.block.0.norm1.weight", l->ups))
            l->ups++;
    } else if (l->part >= LDM_TEXT && has(l, f, "transformer.resblocks.0.ln_1.weight")) {
        l->style = OPEN_CLIP;
        while (has(l, f, "transformer.resblocks.%d.ln_1.weight", l->blocks))
            l->blocks++;
        /* SD 2 was trained on what the last layer but one of ViT-H says */
        if (l->part == LDM_TEXT && l->blocks == 24)
            l->blocks = 23;
    } else if (l->part >= LDM_TEXT && has(l, f, "embeddings.token_embedding.weight")) {
        l->style = CLIP_BARE;
    }
}

int ldm_init(ldm *l, const st_file *f, int part)
{
    int whole = ldm_whole(f);
    memset(l, 0, sizeof *l);
    l->part = part;
    l->prefix = whole ? NULL : "";
    for (int i = 0; whole && i < PARTS; i++) {
        for (int j = 0; parts[i].part == part && j < 3 && parts[i].prefix[j]; j++) {
            if (!l->prefix && has_prefix(f, parts[i].prefix[j]))
                l->prefix = parts[i].prefix[j];
        }
    }
    if (!l->prefix)
        return 0;
    find_style(l, f);
    return 1;
}

/* ---- names ----------------------------------------------------------------------------------- */

/* out = head + rest, where the first rule that fits changes rest's start. */
static void renamed(char out[LDM_NAME], const char *head, const char *rest, const rule *rules)
{
    const char *tail = rest;
    for (; rules && rules->from; rules++) {
        if ((tail = after(rest, rules->from))) {
            snprintf(out, LDM_NAME, "%s%s%s", head, rules->to, tail);
            return;
        }
    }
    snprintf(out, LDM_NAME, "%s%s", head, rest);
}

/* "12.0.rest": the numbers and the rest; NULL when it is not that. */
static const char *numbers(const char *text, int count, int out[2])
{
    for (int i = 0; i < count; i++) {
        char *end;
        long n = strtol(text, &end, 10);
        if (end == text || *end != '.' || n < 0 || n >= LDM_MAX_BLOCKS)
            return NULL;
        out[i] = (int)n;
        text = end + 1;
    }
    return text;
}

static void unet_name(const ldm *l, char out[LDM_NAME], const char *name)
{
    static const rule resnet[] = {{"in_layers.0.", "norm1."},
                                  {"in_layers.2.", "conv1."},
                                  {"emb_layers.1.", "time_emb_proj."},
                                  {"out_layers.0.", "norm2."},
                                  {"out_layers.3.", "conv2."},
                                  {"skip_connection.", "conv_shortcut."},
                                  {0, 0}};
    static const rule ends[] = {{"time_embed.0.", "time_embedding.linear_1."},
                                {"time_embed.2.", "time_embedding.linear_2."},
                                {"time_embed.cond_proj.", "time_embedding.cond_proj."},
                                {"label_emb.0.0.", "add_embedding.linear_1."},
                                {"label_emb.0.2.", "add_embedding.linear_2."},
                                {"input_blocks.0.0.", "conv_in."},
                                {"middle_block.1.", "mid_block.attentions.0."},
                                {"out.0.", "conv_norm_out."},
                                {"out.2.", "conv_out."},
                                {0, 0}};
    const char *in = after(name, "input_blocks."), *up = after(name, "output_blocks."), *rest, *op;
    const char *mid0 = after(name, "middle_block.0."), *mid2 = after(name, "middle_block.2.");
    char head[64];
    int at[2];
    if (in && (rest = numbers(in, 2, at)) && at[0] > 0) {
        if ((op = after(rest, "op.")))
            snprintf(head, sizeof head, "down_blocks.%d.downsamplers.0.conv.", l->in_level[at[0]]);
        else
            snprintf(head, sizeof head, "down_blocks.%d.%s.%d.", l->in_level[at[0]],
                     at[1] ? "attentions" : "resnets", l->in_layer[at[0]]);
        renamed(out, head, op ? op : rest, at[1] ? NULL : resnet);
    } else if (up && (rest = numbers(up, 2, at))) {
        if (starts(rest, "conv."))
            snprintf(head, sizeof head, "up_blocks.%d.upsamplers.0.", l->out_level[at[0]]);
        else
            snprintf(head, sizeof head, "up_blocks.%d.%s.%d.", l->out_level[at[0]],
                     at[1] ? "attentions" : "resnets", l->out_layer[at[0]]);
        renamed(out, head, rest, at[1] ? NULL : resnet);
    } else if (mid0 || mid2) {
        renamed(out, mid0 ? "mid_block.resnets.0." : "mid_block.resnets.1.", mid0 ? mid0 : mid2,
                resnet);
    } else {
        renamed(out, "", name, ends);
    }
}

static void vae_name(const ldm *l, char out[LDM_NAME], const char *name)
{
    static const rule inner[] = {
        {"mid.block_1.nin_shortcut.", "mid_block.resnets.0.conv_shortcut."},
        {"mid.block_1.", "mid_block.resnets.0."},
        {"mid.block_2.nin_shortcut.", "mid_block.resnets.1.conv_shortcut."},
        {"mid.block_2.", "mid_block.resnets.1."},
        {"mid.attn_1.norm.", "mid_block.attentions.0.group_norm."},
        {"mid.attn_1.q.", "mid_block.attentions.0.to_q."},
        {"mid.attn_1.k.", "mid_block.attentions.0.to_k."},
        {"mid.attn_1.v.", "mid_block.attentions.0.to_v."},
        {"mid.attn_1.proj_out.", "mid_block.attentions.0.to_out.0."},
        {"norm_out.", "conv_norm_out."},
        {0, 0}};
    static const rule shortcut[] = {{"nin_shortcut.", "conv_shortcut."}, {0, 0}};
    const char *side = starts(name, "encoder.")   ? "encoder."
                       : starts(name, "decoder.") ? "decoder."
                                                  : "";
    const char *rest = name + strlen(side), *level, *block, *sample;
    char head[64];
    int at[2];
    int down = starts(rest, "down.");
    if (*side && (down || starts(rest, "up.")) && (level = numbers(rest + (down ? 5 : 3), 1, at))) {
        int number = down ? at[0] : l->ups - 1 - at[0];
        int n = snprintf(head, sizeof head, "%s%s_blocks.%d.", side, down ? "down" : "up", number);
        if ((block = after(level, "block.")) && (block = numbers(block, 1, at))) {
            snprintf(head + n, sizeof head - (size_t)n, "resnets.%d.", at[0]);
            renamed(out, head, block, shortcut);
            return;
        }
        if ((sample = after(level, down ? "downsample." : "upsample."))) {
            snprintf(head + n, sizeof head - (size_t)n, "%s.0.",
                     down ? "downsamplers" : "upsamplers");
            renamed(out, head, sample, NULL);
            return;
        }
    }
    renamed(out, side, rest, inner);
}

/* Returns how many views the tensor has. */
static int open_clip(const ldm *l, const char *name, ldm_view view[LDM_VIEWS])
{
    static const rule layer[] = {{"ln_1.", "layer_norm1."},
                                 {"ln_2.", "layer_norm2."},
                                 {"mlp.c_fc.", "mlp.fc1."},
                                 {"mlp.c_proj.", "mlp.fc2."},
                                 {"attn.out_proj.", "self_attn.out_proj."},
                                 {0, 0}};
    static const rule ends[] = {{"token_embedding.", "embeddings.token_embedding."},
                                {"positional_embedding", "embeddings.position_embedding.weight"},
                                {"ln_final.", "final_layer_norm."},
                                {0, 0}};
    const char *block = after(name, "transformer.resblocks."), *joined;
    char head[64];
    int at[2];
    if (!strcmp(name, "text_projection") || !strcmp(name, "text_projection.weight")) {
        snprintf(view->name, LDM_NAME, "text_projection.weight");
        view->transposed = !strcmp(name, "text_projection"); /* a matrix that x is multiplied by */
        return l->part == LDM_TEXT2;                         /* SD 2 has no use for it */
    }
    if (!block || !(block = numbers(block, 1, at))) {
        renamed(view->name, "text_model.", name, ends);
        return 1;
    }
    if (at[0] >= l->blocks)
        return 0;
    snprintf(head, sizeof head, "text_model.encoder.layers.%d.", at[0]);
    if (!(joined = after(block, "attn.in_proj_"))) {
        renamed(view->name, head, block, layer);
        return 1;
    }
    for (int i = 0; i < 3; i++) {
        snprintf(view[i].name, LDM_NAME, "%sself_attn.%c_proj.%s", head, "qkv"[i], joined);
        view[i].part = i;
        view[i].parts = 3;
    }
    return 3;
}

/* Left-overs of training and of other networks. */
static int useless(const char *name)
{
    static const char *const starting[] = {"model_ema.",    "loss.",   "logit_scale",
                                           "vision_model.", "visual.", "visual_projection",
                                           "attn_mask"};
    for (size_t i = 0; i < sizeof starting / sizeof *starting; i++) {
        if (starts(name, starting[i]))
            return 1;
    }
    return 0;
}

int ldm_views(const ldm *l, const char *name, ldm_view view[LDM_VIEWS])
{
    const char *rest = after(name, l->prefix);
    if (!rest || useless(rest))
        return 0;
    memset(view, 0, LDM_VIEWS * sizeof *view);
    for (int i = 0; i < LDM_VIEWS; i++)
        view[i].parts = 1;
    if (l->style == OPEN_CLIP)
        return open_clip(l, rest, view);
    if (l->style == UNET_BLOCKS)
        unet_name(l, view->name, rest);
    else if (l->style == VAE_LEVELS)
        vae_name(l, view->name, rest);
    else
        snprintf(view->name, LDM_NAME, "%s%s",
                 l->style == CLIP_BARE && !starts(rest, "text_projection") ? "text_model." : "",
                 rest);
    return 1;
}
