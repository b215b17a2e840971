/* lora.c - see lora.h.
 *
 * All keys of a file are first dealt to slots, one for each module; then each slot becomes a piece.
 * Factors stay in the mapped file, but for those that do not lie aligned in it and those that are
 * multiplied out.
 */
#include "lora.h"

#include "alloc.h"
#include "safetensors.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

struct lora {
    char *label; /* owned: the file's last name, for sentences */
    st_file *file;
    lora_piece *piece; /* owned */
    int pieces;
    void **copy; /* owned */
    int copies;
    char notice[256];
};

/* What a file has for one module, by role. */
typedef struct slot {
    const st_tensor *of[LORA_MAGNITUDE + 1];
} slot;

typedef struct reader {
    lora *l;
    const lora_names *n;
    slot *slot;     /* owned, one for each module */
    json_t *config; /* owned: PEFT's configurations, from the metadata; NULL: none */
    int unknown, named;
    char names[120];
    scope_error *err;
} reader;

__attribute__((format(printf, 2, 3))) static int refuse(const reader *r, const char *format, ...)
{
    char cause[200];
    va_list ap;
    va_start(ap, format);
    vsnprintf(cause, sizeof cause, format, ap);
    va_end(ap);
    return scope_fail(r->err, SCOPE_EIO, "%.60s: %s", r->l->label, cause);
}

static int no_memory(const reader *r)
{
    return scope_fail(r->err, SCOPE_ENOMEM, "%.60s: out of memory", r->l->label);
}

/* ---- numbers --------------------------------------------------------------------------------- */

static int float_type(const st_tensor *t)
{
    return t->dtype == ST_F32    ? K_F32
           : t->dtype == ST_F16  ? K_F16
           : t->dtype == ST_BF16 ? K_BF16
                                 : 0;
}

/* Every exponent of all ones is an infinity or no number. */
static int all_finite(const st_tensor *t)
{
    const char *at = t->data;
    uint32_t bad = 0;
    if (t->dtype == ST_F32) {
        for (size_t i = 0; i < t->bytes; i += 4) {
            uint32_t v;
            memcpy(&v, at + i, 4);
            bad |= (v & 0x7f800000) == 0x7f800000;
        }
        return !bad;
    }
    uint16_t ones = t->dtype == ST_F16 ? 0x7c00 : 0x7f80;
    for (size_t i = 0; i < t->bytes; i += 2) {
        uint16_t v;
        memcpy(&v, at + i, 2);
        bad |= (v & ones) == ones;
    }
    return !bad;
}

static float number_at(const st_tensor *t, size_t i)
{
    uint32_t bits;
    uint16_t half;
    float f;
    if (t->dtype == ST_F32) {
        memcpy(&f, (const char *)t->data + 4 * i, 4);
        return f;
    }
    memcpy(&half, (const char *)t->data + 2 * i, 2);
    if (t->dtype == ST_BF16) {
        bits = (uint32_t)half << 16;
        memcpy(&f, &bits, 4);
        return f;
    }
    int exponent = half >> 10 & 31;
    f = exponent ? ldexpf((float)(1024 + (half & 1023)), exponent - 25)
                 : ldexpf((float)(half & 1023), -24);
    return half & 0x8000 ? -f : f;
}

/* A tensor of one number of any type; NaN when it is none. */
static double scalar(const st_tensor *t)
{
    double d = NAN;
    int64_t i = 0;
    int32_t j = 0;
    size_t size = t->dtype == ST_F64 || t->dtype == ST_I64 ? 8 : t->dtype == ST_I32 ? 4 : 0;
    if (size && t->bytes != size)
        return NAN;
    if (t->dtype == ST_F64)
        memcpy(&d, t->data, 8);
    else if (t->dtype == ST_I64)
        d = (double)(memcpy(&i, t->data, 8), i);
    else if (t->dtype == ST_I32)
        d = (double)(memcpy(&j, t->data, 4), j);
    else if (float_type(t) && t->bytes == (t->dtype == ST_F32 ? 4u : 2u) && all_finite(t))
        d = (double)number_at(t, 0);
    return d;
}

/* ---- factors --------------------------------------------------------------------------------- */

static int64_t numbers(const st_tensor *t)
{
    return (int64_t)(t->bytes / (t->dtype == ST_F32 ? 4 : 2));
}

static int keep(reader *r, void *data)
{
    r->l->copy[r->l->copies] = data;
    r->l->copies += data != NULL;
    return data ? 0 : no_memory(r);
}

/* The tensor's numbers where they lie, or in a copy that is aligned. */
static int factor(reader *r, const st_tensor *t, k_array *to)
{
    int type = float_type(t);
    if (!type)
        return refuse(r, "%.80s is %s; convert the file to F16, BF16 or F32", t->name,
                      st_dtype_name(t->dtype));
    if (!all_finite(t))
        return refuse(r,
                      "%.80s holds numbers that are not finite; the file is damaged or its "
                      "training failed",
                      t->name);
    *to = (k_array){t->data, type};
    if ((uintptr_t)t->data % (type == K_F32 ? 4 : 2) == 0)
        return 0;
    void *copy = sd_malloc(t->bytes + 1);
    if (keep(r, copy))
        return -1;
    to->data = memcpy(copy, t->data, t->bytes);
    return 0;
}

/* down'[p][i][tap] = sum of mid[p][q][tap] * down[q][i]: both factors as one, in fp32. */
static int with_mid(reader *r, const st_tensor *mid, const st_tensor *down, int in, int taps,
                    k_array *to)
{
    int64_t outer = mid->dim[0], inner = mid->dim[1];
    float *all = sd_calloc((size_t)outer * (size_t)in * (size_t)taps, sizeof *all);
    float *narrow = sd_malloc((size_t)down->bytes * 2 + 4);
    if (keep(r, all) || !narrow) {
        free(narrow);
        return no_memory(r);
    }
    for (int64_t i = 0; i < inner * in; i++)
        narrow[i] = number_at(down, (size_t)i);
    for (int64_t p = 0; p < outer; p++)
        for (int64_t q = 0; q < inner; q++)
            for (int tap = 0; tap < taps; tap++) {
                float m = number_at(mid, (size_t)((p * inner + q) * taps + tap));
                float *row = all + p * in * taps + tap;
                for (int i = 0; i < in; i++)
                    row[(int64_t)i * taps] += m * narrow[q * in + i];
            }
    free(narrow);
    *to = (k_array){all, K_F32};
    return 0;
}

/* ---- one module ------------------------------------------------------------------------------ */

static const char *shape_text(char out[64], const st_tensor *t)
{
    int n = snprintf(out, 64, "[");
    for (int i = 0; i < t->ndim && n < 60; i++)
        n += snprintf(out + n, (size_t)(64 - n), i ? ", %lld" : "%lld", (long long)t->dim[i]);
    if (n < 63)
        snprintf(out + n, (size_t)(64 - n), "]");
    return out;
}

static int64_t dim_at(const st_tensor *t, int i)
{
    return i < t->ndim ? t->dim[i] : 1;
}

/* [a, b, c, d], where trailing ones may be left out. */
static int shaped(const st_tensor *t, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return t->ndim >= 1 && t->ndim <= 4 && dim_at(t, 0) == a && dim_at(t, 1) == b &&
           dim_at(t, 2) == c && dim_at(t, 3) == d;
}

static int misfit(const reader *r, const st_tensor *t, const weights_module *m)
{
    char shape[64];
    return refuse(r, "%.80s is %s, which does not fit the model's [%d, %d, %d, %d]", t->name,
                  shape_text(shape, t), m->out, m->in, m->k, m->k);
}

static int check_shapes(const reader *r, const slot *s, const weights_module *m)
{
    const st_tensor *up = s->of[LORA_UP], *down = s->of[LORA_DOWN], *mid = s->of[LORA_MID];
    int64_t rank = dim_at(up, 1), inner = dim_at(down, 0);
    if (rank < 1 || rank > 1 << 16 || !shaped(up, m->out, rank, 1, 1))
        return misfit(r, up, m);
    if (!mid)
        return shaped(down, rank, m->in, m->k, m->k) ? 0 : misfit(r, down, m);
    if (inner < 1 || inner > 1 << 16 || !shaped(down, inner, m->in, 1, 1))
        return misfit(r, down, m);
    return shaped(mid, rank, inner, m->k, m->k) ? 0 : misfit(r, mid, m);
}

/* One magnitude for each output; older LyCORIS files have one for each input. */
static int magnitude(reader *r, const st_tensor *t, const weights_module *m, k_array *to)
{
    int ours =
        dim_at(t, 0) == m->out || strstr(t->name, ".lora_magnitude_vector"); /* PEFT: [1, out] */
    if (float_type(t) && numbers(t) == m->out && ours)
        return factor(r, t, to);
    if (dim_at(t, 0) == 1 && dim_at(t, 1) == m->in)
        return refuse(r,
                      "%.80s scales inputs; only magnitudes of outputs are understood "
                      "(LyCORIS: wd_on_output=True)",
                      t->name);
    return misfit(r, t, m);
}

/* An entry of PEFT's configuration of a network, which diffusers writes into the metadata. */
static const json_t *configured(const reader *r, int network, const char *name)
{
    char key[64];
    static const char *const begins[MODEL_PARTS] = {
        [MODEL_TEXT] = "text_encoder", [MODEL_TEXT_2] = "text_encoder_2", [MODEL_UNET] = "unet"};
    snprintf(key, sizeof key, "%s.%s", begins[network], name);
    return json_object_get(r->config, key);
}

/* alpha of a module by that configuration, or 0: of a pattern that its name ends in, else of all.
 */
static double configured_alpha(const reader *r, const lora_module *m)
{
    const char *pattern;
    json_t *value;
    size_t length = strlen(m->m.name);
    json_object_foreach((json_t *)configured(r, m->network, "alpha_pattern"), pattern, value)
    {
        size_t n = strlen(pattern);
        const char *end = n <= length ? m->m.name + length - n : "";
        if (n && !strcmp(end, pattern) && (n == length || end[-1] == '.'))
            return json_number_value(value);
    }
    return json_number_value(configured(r, m->network, "lora_alpha"));
}

/* alpha / rank */
static int strength(const reader *r, const slot *s, const lora_module *m, int rank, float *to)
{
    const st_tensor *t = s->of[LORA_ALPHA];
    double named = configured_alpha(r, m), alpha = t ? scalar(t) : named > 0 ? named : rank;
    if (!isfinite(alpha) || fabs(alpha) > 1e6)
        return refuse(r, "%.80s is not a usable number", t ? t->name : "lora_alpha");
    int root = !t && json_is_true(configured(r, m->network, "use_rslora"));
    *to = (float)(alpha / (root ? sqrt(rank) : rank));
    return 0;
}

static int read_slot(reader *r, int module)
{
    const slot *s = &r->slot[module];
    const weights_module *m = &lora_names_at(r->n, module)->m;
    const st_tensor *up = s->of[LORA_UP], *down = s->of[LORA_DOWN], *mid = s->of[LORA_MID];
    lora_piece *p = &r->l->piece[r->l->pieces];
    k_array none;
    *p = (lora_piece){.module = module, .delta.part = m->part};
    if (!up || !down)
        return refuse(r, "%.80s has no %s; the file is incomplete, download it again", m->name,
                      up ? "down factor" : "up factor");
    p->delta.rank = (int32_t)dim_at(up, 1);
    if (check_shapes(r, s, m) || factor(r, up, &p->delta.up) || factor(r, down, &p->delta.down) ||
        (mid &&
         (factor(r, mid, &none) || with_mid(r, mid, down, m->in, m->k * m->k, &p->delta.down))) ||
        (s->of[LORA_MAGNITUDE] && magnitude(r, s->of[LORA_MAGNITUDE], m, &p->delta.magnitude)) ||
        strength(r, s, lora_names_at(r->n, module), p->delta.rank, &p->delta.scale))
        return -1;
    r->l->pieces++;
    return 0;
}

/* ---- the file -------------------------------------------------------------------------------- */

static const char *family(int width)
{
    return width == 768 ? "SD 1.x" : width == 1024 ? "SD 2.x" : width == 2048 ? "SDXL" : "other";
}

/* The text's width tells families apart; SD 1.x files have no other mark. */
static int check_family(const reader *r)
{
    char base[LORA_NAME];
    int ours = lora_names_text_width(r->n);
    for (int i = 0; i < st_count(r->l->file); i++) {
        const st_tensor *t = st_at(r->l->file, i);
        if (lora_key(t->name, base) != LORA_DOWN || !strstr(base, "attn2_to_k") || !ours)
            continue;
        int64_t theirs = dim_at(t, 1);
        if (theirs != ours)
            return refuse(r,
                          "this LoRA is for %s models (text width %lld); the model that is loaded "
                          "is of the %s family (%d)",
                          family((int)theirs), (long long)theirs, family(ours), ours);
        return 0;
    }
    return 0;
}

static void note_unknown(reader *r, const char *key)
{
    size_t n = strlen(r->names);
    r->unknown++;
    if (r->named < 2) {
        snprintf(r->names + n, sizeof r->names - n, "%s%.50s", n ? ", " : "", key);
        r->named++;
    }
}

/* Deal all keys to slots. */
static int deal(reader *r)
{
    char base[LORA_NAME];
    for (int i = 0; i < st_count(r->l->file); i++) {
        const st_tensor *t = st_at(r->l->file, i);
        int role = lora_key(t->name, base), module = role ? lora_names_find(r->n, base) : -1;
        if (module < 0) {
            note_unknown(r, t->name);
            continue;
        }
        const st_tensor **to = &r->slot[module].of[role];
        if (*to)
            return refuse(r, "the file mixes two spellings of one key: %.60s and %.60s",
                          (*to)->name, t->name);
        *to = t;
    }
    return 0;
}

static int read_all(reader *r)
{
    lora *l = r->l;
    size_t count = (size_t)lora_names_count(r->n);
    if (check_family(r))
        return -1;
    const char *config = st_metadata(l->file, "lora_adapter_metadata");
    r->config = config ? json_loads(config, JSON_REJECT_DUPLICATES, NULL) : NULL;
    r->slot = sd_calloc(count + 1, sizeof *r->slot);
    l->piece = sd_calloc(count + 1, sizeof *l->piece);
    l->copy = sd_calloc((size_t)st_count(l->file) + count + 1, sizeof *l->copy);
    if (!r->slot || !l->piece || !l->copy)
        return no_memory(r);
    if (deal(r))
        return -1;
    for (int i = 0; i < (int)count; i++) {
        static const slot empty = {0};
        if (memcmp(&r->slot[i], &empty, sizeof empty) && read_slot(r, i))
            return -1;
    }
    if (!l->pieces)
        return refuse(r, "no key of it is known (%s); is it a LoRA for this model?",
                      r->unknown ? r->names : "it is empty");
    if (r->unknown)
        snprintf(l->notice, sizeof l->notice,
                 "%.40s: %d of its %d keys %s not understood and left out: %s%s", l->label,
                 r->unknown, st_count(l->file), r->unknown > 1 ? "are" : "is", r->names,
                 r->unknown > r->named ? ", ..." : "");
    return 0;
}

/* Takes file, which is NULL where `why` tells the reason. */
static lora *read_file(const lora_names *n, st_file *file, const char *path, const char *why,
                       scope_error *err)
{
    const char *slash = strrchr(path, '/');
    lora *l = file ? sd_calloc(1, sizeof *l) : NULL;
    reader r = {.l = l, .n = n, .err = err};
    if (!file) {
        scope_fail(err, SCOPE_EIO, "%.200s", why);
        return NULL;
    }
    if (!l || !(l->label = sd_strdup(slash ? slash + 1 : path))) {
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while opening a LoRA.");
        free(l);
        st_close(file);
        return NULL;
    }
    l->file = file;
    int failed = read_all(&r);
    free(r.slot);
    json_decref(r.config);
    if (!failed)
        return l;
    lora_close(l);
    return NULL;
}

lora *lora_open(const lora_names *n, const char *path, scope_error *err)
{
    char why[256] = "";
    return read_file(n, st_open(path, why), path, why, err);
}

lora *lora_open_memory(const lora_names *n, const void *data, size_t size, const char *label,
                       scope_error *err)
{
    char why[256] = "";
    return read_file(n, st_open_memory(data, size, label, why), label, why, err);
}

void lora_close(lora *l)
{
    if (!l)
        return;
    for (int i = 0; i < l->copies; i++)
        free(l->copy[i]);
    free(l->copy);
    free(l->piece);
    st_close(l->file);
    free(l->label);
    free(l);
}

int lora_pieces(const lora *l)
{
    return l->pieces;
}

const lora_piece *lora_piece_at(const lora *l, int i)
{
    return &l->piece[i];
}

const char *lora_notice(const lora *l)
{
    return l->notice;
}

void lora_release_pages(const lora *l)
{
    st_release_pages(l->file);
}
