/* test_storm.c - 10,000 random changes of parameters over 500 frames, drawn from the schema itself.
 *
 * Every frame is made, or refused by a named field; then the stream goes on. What is in force is
 * what was set: now and then the next frames are compared, to the bit, with those of an instance
 * that was loaded with the same parameters, and with those of one that never had others than the
 * defaults. SEED=n draws another storm.
 */
#include "plugin_host.h"
#include "tiny.h"

#include "schema/schema.h"

#include <malloc.h>
#include <omp.h>

#define GOLDEN SOURCE_DIR "/tests/golden/"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1, FRAMES = 250 }; /* as many changes a frame, in bearable time */
#else
enum { SANITIZED = 0, FRAMES = 500 };
#endif
enum { CHANGES = 20, CHECK_EVERY = 25, SIDE_MAX = 128, SHOTS = 3 };
enum { SHOT_BYTES = SHOTS * SIDE_MAX * SIDE_MAX * 4 * 4 };

static plugin_host host;
static const scope_plugin *plugin;
static schema *parsed;
static const schema_field *hot[64]; /* fields that may change while running */
static int hot_count;
static unsigned long seed;
static uint64_t drawn;

/* One instance, and what it was given. */
typedef struct subject {
    void *self;
    json_t *values; /* owned: complete */
    scope_kwargs *kw;
    uint64_t generation;
    scope_error err;
    scope_video out;
} subject;

/* ---- random values --------------------------------------------------------------------------- */

static uint64_t bits(void)
{
    uint64_t x = seed * 0xd1342543de82ef95u + ++drawn * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static int below(int n)
{
    return (int)(bits() >> 33) % n;
}

static double unit(void)
{
    return (double)(bits() >> 11) * 0x1p-53;
}

/* Texts that a field of this name is drawn from; the last is wrong, and comes once in 24 times. */
static const struct {
    const char *name, *text[10];
} texts[] = {
    {"text",
     {"", "a cat", "a (red:1.4) fox", "[rain]+ over (hills)-", "<lora:mid:0.5>a dog",
      "a tree <lora:kohya:-0.3><lora:peft>",
      "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
      "sixteen seventeen eighteen nineteen twenty twenty-one twenty-two twenty-three",
      "a bird<lora:nowhere:1>"}},
    {"negative_prompt", {"", "blurry", "(text:1.2), noise", "rain"}},
    {"style", {"", "ink", "oil", "inks"}},
    {"path", {"mid", "kohya", "blocks.safetensors", "old", "peft", "dora", "golden"}},
    {"lora_dir", {GOLDEN "lora", GOLDEN "lora", ""}},
    {"lcm_lora_path", {"", "mid", "old", "nowhere"}},
};

/* Ranges narrower than the schema's, so that frames stay small and things happen in few of them. */
static const struct {
    const char *name;
    int min, max, rare; /* once in `rare` the schema's own range counts; 0: never */
} ranges[] = {
    {"bypass_fade", 0, 4, 50},     {"transition_steps", 0, 6, 50},
    {"num_steps", 0, 6, 50},       {"clip_skip", 0, 2, 5},
    {"noise_refresh", 0, 5, 10},   {"num_inference_steps", 1, 4, 60},
    {"original_size", 0, 512, 10}, {"similar_image_filter_max_skip", 1, 4, 10},
    {"timesteps", 0, 999, 20},     {"width", 8, 16, 0},
    {"height", 8, 16, 0},
};

static json_t *draw_text(const char *name)
{
    int n = 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strcmp(texts[i].name, name))
            continue;
        while (n < 10 && texts[i].text[n])
            n++;
        return json_string(texts[i].text[below(24) ? below(n - 1) : n - 1]);
    }
    ck_abort_msg("no texts to draw %s from: add it to the table above", name);
}

static json_t *draw_integer(const schema_field *f, const char *name)
{
    double min = f->has_min ? f->min : 0, max = f->has_max ? f->max : 1 << 30;
    int size = !strcmp(name, "width") || !strcmp(name, "height");
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        if (!strcmp(ranges[i].name, name) && !(ranges[i].rare && !below(ranges[i].rare))) {
            min = ranges[i].min;
            max = ranges[i].max;
        }
    }
    json_int_t value = (json_int_t)(min + floor(unit() * (max - min + 1)));
    return json_integer(size ? 8 * value : value);
}

static json_t *draw(const schema_field *f, const char *name);

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Steps in their order, most of the time. */
static json_t *in_order(json_t *list, int falling)
{
    int at[8], n = (int)json_array_size(list);
    for (int i = 0; i < n; i++)
        at[i] = (int)json_integer_value(json_array_get(list, (size_t)i));
    if (below(10))
        qsort(at, (size_t)n, sizeof *at, by_number);
    for (int i = 0; i < n; i++)
        json_array_set_new(list, (size_t)(falling ? n - 1 - i : i), json_integer(at[i]));
    return list;
}

static json_t *draw_list(const schema_field *f, const char *name)
{
    int steps = !strcmp(name, "t_index_list"), times = !strcmp(name, "timesteps");
    json_t *list = json_array();
    int n = below(4) ? below(4) : 0;
    if (steps || times)
        n = below(2) ? n : 0; /* else num_inference_steps would hardly ever count */
    n = n < f->min_items ? f->min_items : n;
    for (int i = 0; i < n; i++)
        json_array_append_new(list, draw(f->items, f->items->name[0] ? f->items->name : name));
    return steps || times ? in_order(list, times) : list;
}

static json_t *draw_number(const schema_field *f)
{
    int end = below(8);
    return json_real(end == 0 ? f->min : end == 1 ? f->max : f->min + unit() * (f->max - f->min));
}

/* Any value that the schema allows for the field, or one that it has to leave to the plugin. */
static json_t *draw(const schema_field *f, const char *name)
{
    json_t *object;
    if (f->choices)
        return json_incref(
            json_array_get(f->choices, (size_t)below((int)json_array_size(f->choices))));
    switch (f->type) {
    case SCOPE_BOOL:
        return json_boolean(strcmp(name, "enabled") ? below(2) : below(8));
    case SCOPE_INT:
        return draw_integer(f, name);
    case SCOPE_NUM:
        return draw_number(f);
    case SCOPE_STR:
        return draw_text(name);
    case SCOPE_LIST:
        return draw_list(f, name);
    default:
        object = json_object();
        for (int i = 0; i < f->count; i++)
            json_object_set_new(object, f->properties[i].name,
                                draw(&f->properties[i], f->properties[i].name));
        if (!json_array_size(json_object_get(object, "target_prompts")) && below(10))
            json_object_del(object, "num_steps"); /* a way to nowhere */
        return object;
    }
}

/* ---- an instance ----------------------------------------------------------------------------- */

/* What a host does: merge, complete by the schema, bind. Takes more. */
static void set(subject *s, json_t *more)
{
    schema_error cause = {0};
    json_t *merged = json_deep_copy(s->values);
    json_object_update(merged, more);
    json_decref(more);
    json_decref(s->values);
    s->values = schema_complete(parsed, merged, &cause);
    ck_assert_msg(s->values != NULL, "%s: %s", cause.path, cause.text);
    json_decref(merged);
    free(s->kw);
    s->kw = schema_bind(parsed, s->values, ++s->generation, &cause);
    ck_assert_msg(s->kw != NULL, "%s: %s", cause.path, cause.text);
}

static int begin(subject *s, const json_t *values)
{
    *s = (subject){.values = json_object()};
    set(s, json_deep_copy(values));
    scope_video want = {.t = 1, .c = 3, .dtype = SCOPE_U8, .device = SCOPE_CPU};
    host.done = 0;
    return plugin->init(&host.host, s->kw, &want, &s->self, &s->err);
}

static void end(subject *s)
{
    if (s->self)
        plugin->fini(s->self);
    free(s->kw);
    json_decref(s->values);
}

/* The defaults, but for what only loading sets. */
static json_t *at_rest(void)
{
    json_t *values = json_object();
    for (int i = 0; i < hot_count; i++)
        json_object_set(values, hot[i]->name, hot[i]->def);
    json_object_set_new(values, "width", json_integer(64));
    json_object_set_new(values, "height", json_integer(64));
    return values;
}

static json_t *at_first(void)
{
    json_t *values = at_rest();
    json_object_set_new(values, "model_id_or_path", json_string(GOLDEN "networks/sd1"));
    return values;
}

/* ---- frames ---------------------------------------------------------------------------------- */

static const struct {
    int w, h, c, dtype;
} shapes[] = {{64, 64, 3, SCOPE_F32}, {96, 40, 4, SCOPE_U8},  {33, 47, 1, SCOPE_U8},
              {80, 90, 4, SCOPE_F32}, {64, 64, 3, SCOPE_F16}, {128, 72, 3, SCOPE_F32}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* Frame n of a video; halves and floats lie in 0..1. */
static scope_video picture(int n, int shape)
{
    static float real[128 * 90 * 4];
    static unsigned char bytes[sizeof real / 4];
    static uint16_t half[sizeof real / 4];
    int w = shapes[shape].w, h = shapes[shape].h, c = shapes[shape].c, dtype = shapes[shape].dtype;
    for (int i = 0; i < w * h * c; i++) {
        bytes[i] = (unsigned char)(i * 7 + i / 96 + n * 31);
        real[i] = (float)bytes[i] / 255;
        half[i] = (uint16_t)(0x3400 + bytes[i]); /* 0.25 .. */
    }
    int size = dtype == SCOPE_U8 ? 1 : dtype == SCOPE_F16 ? 2 : 4;
    return (scope_video){.t = 1,
                         .h = h,
                         .w = w,
                         .c = c,
                         .dtype = dtype,
                         .device = SCOPE_CPU,
                         .stride_t = size * w * c * h,
                         .stride_h = size * w * c,
                         .data = size == 1   ? (void *)bytes
                                 : size == 2 ? (void *)half
                                             : (void *)real};
}

static int process(subject *s, const scope_video *in)
{
    s->out = (scope_video){0};
    s->err = (scope_error){0};
    return plugin->process(s->self, s->kw, in, &s->out, &s->err);
}

/* Bytes of the next frames in `to`, from a stream that begins; 0 when one is refused. */
static size_t shoot(subject *s, unsigned char to[SHOT_BYTES])
{
    size_t at = 0;
    plugin->reset(s->self);
    for (int i = 0; i < SHOTS; i++) {
        scope_video in = picture(i, 0);
        if (process(s, &in))
            return 0;
        for (int y = 0; y < s->out.h; y++) {
            size_t row = (size_t)s->out.w * (size_t)s->out.c * 4;
            memcpy(to + at, scope_row(&s->out, 0, y), row);
            at += row;
        }
    }
    return at;
}

static int wrong_number(const scope_video *v)
{
    for (int y = 0; v->dtype == SCOPE_F32 && y < v->h; y++) {
        const float *row = scope_row(v, 0, y);
        for (int i = 0; i < v->w * v->c; i++) {
            if (!(row[i] >= 0 && row[i] <= 1))
                return 1;
        }
    }
    return 0;
}

/* ---- the storm ------------------------------------------------------------------------------- */

/* What the frames of the instance are known to be. */
typedef struct truth {
    int width, height;
    int refused;
} truth;

static int value_of(const subject *s, const char *name)
{
    return (int)scope_int(s->kw, name);
}

static void change(subject *s)
{
    json_t *more = json_object();
    for (int i = 0; i < CHANGES; i++) {
        const schema_field *f = hot[below(hot_count)];
        json_object_set_new(more, f->name, draw(f, f->name));
    }
    set(s, more);
}

static void check_refusal(const subject *s, int frame)
{
    ck_assert_msg(s->err.status == SCOPE_EINVAL, "seed %lu, frame %d: %s: %s", seed, frame,
                  s->err.field, s->err.text);
    ck_assert_msg(schema_find(parsed, s->err.field) != NULL, "seed %lu, frame %d: [%s] %s", seed,
                  frame, s->err.field, s->err.text);
    ck_assert_msg(strlen(s->err.text) > 10, "seed %lu, frame %d", seed, frame);
}

static void check_shape(subject *s, const scope_video *in, const truth *t, int frame)
{
    const scope_video *v = &s->out;
    if (!value_of(s, "enabled") && !(in && value_of(s, "bypass_fade"))) {
        if (in)
            ck_assert_msg(v->w == in->w && v->h == in->h && v->c == in->c, "seed %lu, frame %d",
                          seed, frame);
        else
            ck_assert_ptr_null(v->data);
        return;
    }
    ck_assert_msg(v->w == t->width && v->h == t->height && v->c == 3 && v->t == 1,
                  "seed %lu, frame %d: %dx%d, not %dx%d", seed, frame, v->w, v->h, t->width,
                  t->height);
    ck_assert_msg(!wrong_number(v), "seed %lu, frame %d: a number is not in 0..1", seed, frame);
}

/* A frame under the parameters now. Where they are refused, the last good ones make it. */
static void one_frame(subject *s, truth *t, int frame)
{
    static unsigned char grey[48 * 40];
    const scope_video mask = {.t = 1,
                              .h = 40,
                              .w = 48,
                              .c = 1,
                              .dtype = SCOPE_U8,
                              .device = SCOPE_CPU,
                              .stride_t = 48 * 40,
                              .stride_h = 48,
                              .data = grey};
    memset(grey, below(256), sizeof grey / 2);
    host.mask = below(2) ? &mask : NULL;
    int text = !strcmp(scope_str(s->kw, "input_mode"), "text");
    scope_video in = picture(frame, below(SHAPES));
    const scope_video *given = text && below(2) ? NULL : &in;
    int status = process(s, given);
    if (status) {
        check_refusal(s, frame);
        t->refused++;
        given = &in; /* text mode may be what was refused */
        status = process(s, given);
        ck_assert_msg(!status, "seed %lu, frame %d, after a refusal: [%s] %s", seed, frame,
                      s->err.field, s->err.text);
    } else if (value_of(s, "enabled") || (given && value_of(s, "bypass_fade"))) {
        t->width = value_of(s, "width");
        t->height = value_of(s, "height");
    }
    check_shape(s, given, t, frame);
    host.mask = NULL;
}

/* ---- what is in force ------------------------------------------------------------------------ */

/* An instance that is loaded with s's parameters makes the same frames; or fails by the same field.
 * 1 when frames were compared. */
static int same_as_loaded(subject *s, int frame)
{
    static unsigned char is[SHOT_BYTES], loaded[SHOT_BYTES];
    subject other;
    int failed = begin(&other, s->values);
    set(s, json_object()); /* what was refused is said again */
    size_t bytes = shoot(s, is);
    scope_error why = s->err;
    if (failed) { /* LoRAs that cannot be had stop a load, and are only told to a stream */
        int by_lora = strstr(other.err.text, "LoRA") != NULL;
        ck_assert_msg(by_lora || !strcmp(why.field, other.err.field) || !value_of(s, "enabled"),
                      "seed %lu, frame %d: [%s] %s, but loaded: [%s] %s", seed, frame, why.field,
                      why.text, other.err.field, other.err.text);
    } else {
        size_t wanted = shoot(&other, loaded);
        ck_assert_msg(bytes == wanted, "seed %lu, frame %d: %s, but loaded: %s", seed, frame,
                      why.text, other.err.text);
        ck_assert_msg(!memcmp(is, loaded, bytes), "seed %lu, frame %d: the frames under %s differ",
                      seed, frame, json_dumps(s->values, JSON_REAL_PRECISION(17)));
    }
    end(&other);
    return !failed && bytes > 0;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static double heap_mb(void)
{
    struct mallinfo2 is = mallinfo2(); /* AddressSanitizer's are zeros */
    return (double)(is.uordblks + is.hblkhd) / 1e6;
}

static double resident_mb(void)
{
    long total, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld %ld", &total, &pages) != 2)
        pages = 0;
    if (f)
        fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1e6;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void setup(void)
{
    int count;
    schema_error cause = {0};
    plugin_host_open(&host);
    plugin = scope_entry.plugins[0];
    parsed = schema_parse(plugin->schema, &cause);
    ck_assert_msg(parsed != NULL, "%s: %s", cause.path, cause.text);
    const schema_field *fields = schema_fields(parsed, &count);
    hot_count = 0;
    for (int i = 0; i < count; i++) {
        if (!fields[i].ui.is_load_param)
            hot[hot_count++] = &fields[i];
    }
    seed = getenv("SEED") ? strtoul(getenv("SEED"), NULL, 10) : 1;
    drawn = 0;
}

static void teardown(void)
{
    schema_free(parsed);
    plugin_host_close(&host);
}

START_TEST(a_storm)
{
    subject s;
    truth t = {.width = 64, .height = 64};
    int compared = 0, checks = 0;
    double heap = 0, resident = 0;
    json_t *first = at_first();
    ck_assert_msg(!begin(&s, first), "[%s] %s", s.err.field, s.err.text);
    for (int i = 1; i <= FRAMES; i++) {
        change(&s);
        one_frame(&s, &t, i);
        if (i % CHECK_EVERY)
            continue;
        checks++;
        compared += same_as_loaded(&s, i);
        set(&s, at_rest());
        ck_assert(same_as_loaded(&s, i));
        t.width = t.height = 64;
        if (i == FRAMES / 2) {
            heap = heap_mb();
            resident = resident_mb();
        }
    }
    heap = heap_mb() - heap;
    resident = resident_mb() - resident;
    printf("storm %lu: %d changes over %d frames, %d refused; %d of %d states and all defaults are "
           "those of a load; second half: heap %+.2f MB, resident %+.1f MB\n",
           seed, FRAMES * CHANGES, FRAMES, t.refused, compared, checks, heap, resident);
    ck_assert_int_gt(compared, checks / 3);
    ck_assert_int_gt(t.refused, 0);
    ck_assert_double_lt(heap, 0.5);
    if (!SANITIZED) /* which keeps what was freed */
        ck_assert_double_lt(resident, 8);
    end(&s);
    json_decref(first);
}
END_TEST

/* Where texts are encoded beside the frames, the same holds once they have arrived. */
START_TEST(a_live_storm)
{
    static unsigned char is[SHOT_BYTES], loaded[SHOT_BYTES];
    subject s, other;
    truth t = {.width = 64, .height = 64};
    json_t *first = at_first();
    host.live = 1;
    ck_assert_msg(!begin(&s, first), "[%s] %s", s.err.field, s.err.text);
    ck_assert_msg(!begin(&other, first), "[%s] %s", other.err.field, other.err.text);
    size_t bytes = shoot(&other, loaded);
    end(&other);
    for (int i = 1; i <= FRAMES / 5; i++) {
        change(&s);
        one_frame(&s, &t, i);
        if (i % CHECK_EVERY)
            continue;
        set(&s, at_rest());
        t.width = t.height = 64;
        for (int tries = 0; shoot(&s, is) != bytes || memcmp(is, loaded, bytes); tries++) {
            ck_assert_msg(tries < 1000, "seed %lu, frame %d: the defaults do not come", seed, i);
            usleep(10000);
        }
    }
    end(&s);
    json_decref(first);
}
END_TEST

int main(void)
{
    omp_set_num_threads(1); /* frames are so small that threads would wait for each other */
    Suite *s = suite_create("storm");
    TCase *t = tcase_create("storm");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 240);
    tcase_add_test(t, a_storm);
    tcase_add_test(t, a_live_storm);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
