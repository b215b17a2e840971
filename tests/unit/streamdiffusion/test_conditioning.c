/* test_conditioning.c - texts to embeddings, and how these change from frame to frame. On a tiny
 * random checkpoint, against the text encoder itself and the formulas of the headers. */
#include "tiny.h"

enum { WIDTH = 32, N = TOKENIZER_LENGTH * WIDTH };

static const char *dir;
static const model *m;
static k_ctx *k;
static conditioning *c;
static scope_error err;

static void setup(void)
{
    char why[K_WHY];
    dir = tiny_folder();
    tiny_make(dir, (tiny_options){0});
    const model_options o = {.path = dir, .taesd = "", .device = "cpu"};
    m = model_acquire(NULL, &o, &err);
    ck_assert_msg(m != NULL, "%s", err.text);
    k = k_open(m->device, why);
    c = conditioning_open(k, m, &err);
    ck_assert_msg(c != NULL, "%s", err.text);
    k_plan_begin(k);
    conditioning_plan(c);
    ck_assert_int_eq(k_plan_end(k), 0);
}

static void teardown(void)
{
    conditioning_close(c);
    k_close(k);
    model_release(m);
    tiny_remove(dir);
}

static conditioning_settings one(const char *text)
{
    return (conditioning_settings){.prompt = {.count = 1, .text = {text}, .weight = {1}},
                                   .negative = ""};
}

static void set(const conditioning_settings *s)
{
    ck_assert_msg(!conditioning_set(c, s, &err), "%s", err.text);
}

/* The embedding of the next frame. */
static void next(float *e)
{
    conditioning_advance(c);
    memcpy(e, conditioning_shown(c), N * sizeof *e);
}

static void show(const conditioning_settings *s, float *e)
{
    set(s);
    next(e);
}

static void show_text(const char *text, float *e)
{
    const conditioning_settings s = one(text);
    show(&s, e);
}

static double apart(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < N; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(sum);
}

static float a[N], b[N], e[N], empty[N], last[N];

/* ---- texts ----------------------------------------------------------------------------------- */

START_TEST(a_plain_prompt_is_the_encoders_own)
{
    const char *text = "a photo (of a cat, it's 50% [off) C++ \\o/ :)";
    int32_t ids[TOKENIZER_LENGTH];
    ck_assert_int_gt(tokenizer_encode(m->tokens, text, ids), 0);
    char why[K_WHY];
    k_ctx *own = k_open(m->device, why);
    for (int pass = 0; pass < 2; pass++) {
        if (!pass)
            k_plan_begin(own);
        k_tensor y = k_temp(own, K_F32, 1, 1, TOKENIZER_LENGTH, WIDTH);
        k_tensor in = k_temp(own, K_I32, 1, 1, TOKENIZER_LENGTH, 1);
        k_put(own, in, ids);
        clip_forward(own, m->text, y, in, NULL);
        k_get(own, y, a);
        if (!pass)
            k_plan_end(own);
    }
    ck_assert_int_eq(own->status, 0);
    k_close(own);
    show_text(text, b);
    ck_assert_mem_eq(a, b, sizeof a);
}
END_TEST

/* The empty text's state is what emphasis measures from, under whichever letters it came first. */
START_TEST(blanks_are_the_empty_text)
{
    show_text(" ", a);
    show_text("a (cat:1.5)", b);
    show_text("", empty);
    ck_assert_mem_eq(a, empty, sizeof a);
    long n = conditioning_encoded(c);
    show_text("a cat", e);
    ck_assert_int_eq(conditioning_encoded(c), n + 1);
    for (int i = 0; i < N; i++) {
        int token = i / WIDTH;
        float w = token >= 2 && token <= 4 ? 1.5f : 1;
        ck_assert_float_eq_tol(b[i], empty[i] + w * (e[i] - empty[i]), 1e-5f);
    }
}
END_TEST

/* Texts are known by the layers that are left out, too; emphasis is measured from the empty text
 * of as many. */
START_TEST(clip_skip_encodes_anew_once)
{
    conditioning_settings s = one("a (cat:1.5)");
    show(&s, a);
    long n = conditioning_encoded(c);
    s.clip_skip = 1;
    show(&s, b);
    ck_assert_int_eq(conditioning_encoded(c), n + 2); /* and the empty text */
    ck_assert_double_gt(apart(a, b), 1e-3);
    s.clip_skip = 0;
    show(&s, e);
    ck_assert_mem_eq(a, e, sizeof a);
    ck_assert_int_eq(conditioning_encoded(c), n + 2);
    s.clip_skip = 1;
    show(&s, e);
    ck_assert_mem_eq(b, e, sizeof a);
    ck_assert_int_eq(conditioning_encoded(c), n + 2);
    s = one("a cat");
    s.clip_skip = 1;
    show(&s, last);
    s = one("");
    s.clip_skip = 1;
    show(&s, empty);
    for (int i = 0; i < N; i++) {
        int token = i / WIDTH;
        float w = token >= 2 && token <= 4 ? 1.5f : 1;
        ck_assert_float_eq_tol(b[i], empty[i] + w * (last[i] - empty[i]), 1e-5f);
    }
}
END_TEST

/* Of the tiny tokenizer a letter is a token: "a cat" is BOS a c a t EOS. */
START_TEST(emphasis_moves_the_tokens_that_it_names)
{
    show_text("a cat", a);
    show_text("", empty);
    show_text("a (cat:1.5)", e);
    for (int t = 0; t < TOKENIZER_LENGTH; t++) {
        for (int i = t * WIDTH; i < (t + 1) * WIDTH; i++) {
            double want = t >= 2 && t <= 4 ? empty[i] + 1.5 * ((double)a[i] - empty[i]) : a[i];
            ck_assert_double_eq_tol(e[i], want, t >= 2 && t <= 4 ? 1e-6 : 1e-12);
        }
    }
    show_text("a (cat:0)", e);
    ck_assert_mem_eq(e + 2 * WIDTH, empty + 2 * WIDTH, 3 * WIDTH * sizeof *e);
    show_text("a (cat:1)", e);
    ck_assert_mem_eq(e, a, sizeof e);
    ck_assert_int_eq(conditioning_encoded(c), 4); /* of weight 1 it is "a cat" again */
    show_text(" a  (cat:1.50)", e);
    show_text("a (Cat:1.5)", e);
    ck_assert_int_eq(conditioning_encoded(c), 4);
}
END_TEST

START_TEST(a_very_long_prompt_says_what_is_cut)
{
    static char text[10001], head[90], twice[200];
    for (int i = 0; i < 10000; i++)
        text[i] = i % 6 == 5 ? ' ' : (char)('a' + i / 6 % 26);
    memcpy(head, text, 89); /* 15 words of 5 letters, each a token */
    show_text(text, a);
    ck_assert_ptr_nonnull(strstr(conditioning_notice(c), "8334 tokens"));
    ck_assert_ptr_nonnull(strstr(conditioning_notice(c), "reads 75, not \"ppppp qqqqq"));
    show_text(head, b);
    ck_assert_str_eq(conditioning_notice(c), "");
    ck_assert_mem_eq(a, b, sizeof a);
    show_text(text, a); /* known by now, and told again */
    ck_assert_ptr_nonnull(strstr(conditioning_notice(c), "8334 tokens"));
    snprintf(twice, sizeof twice, "(%.60s) %.60s", text, text); /* cut in its second piece */
    show_text(twice, a);
    ck_assert_ptr_nonnull(strstr(conditioning_notice(c), "100 tokens"));
    ck_assert_ptr_nonnull(strstr(conditioning_notice(c), "not \"fffff ggggg"));
}
END_TEST

START_TEST(weights_that_are_not_normalised)
{
    conditioning_settings s = one("a cat");
    show(&s, a);
    s.prompt.weight[0] = 0.5;
    show(&s, b);
    ck_assert_mem_eq(a, b, sizeof a);
    s.prompt.raw = 1;
    show(&s, b);
    for (int i = 0; i < N; i++)
        ck_assert(b[i] == a[i] / 2);
}
END_TEST

START_TEST(a_negative_without_guidance)
{
    conditioning_settings s = one("a cat");
    show(&s, a);
    s.negative_scale = 1.5; /* an empty negative is none */
    show(&s, b);
    ck_assert_mem_eq(a, b, sizeof a);
    ck_assert_int_eq(conditioning_encoded(c), 1);
    s.negative = "rain";
    show(&s, e);
    show_text("rain", last);
    show_text("", empty);
    blend_away(b, last, empty, 1.5, (blend_shape){TOKENIZER_LENGTH, WIDTH, 0});
    ck_assert_mem_eq(e, b, sizeof e);
    ck_assert_double_gt(apart(a, e), 0.1);
    s.guided = 1; /* the UNet sees to it */
    show(&s, e);
    ck_assert_mem_eq(e, a, sizeof e);
}
END_TEST

/* ---- transitions ----------------------------------------------------------------------------- */

static void ends(float *from, float *to)
{
    show_text("dog", to);
    show_text("a cat", from);
}

START_TEST(a_transition_lands_on_its_target)
{
    static const double wants[][4] = {[EASE_LINEAR] = {.25, .5, .75, 1},
                                      [EASE_IN] = {.0625, .25, .5625, 1},
                                      [EASE_OUT] = {.4375, .75, .9375, 1},
                                      [EASE_IN_OUT] = {.15625, .5, .84375, 1}};
    for (int slerp = 0; slerp < 2; slerp++) {
        for (int easing = EASE_LINEAR; easing <= EASE_IN_OUT; easing++) {
            conditioning_settings s = one("dog");
            ends(a, b);
            const float *both[] = {a, b};
            s.transition = (conditioning_transition){4, slerp, easing, 0};
            set(&s);
            for (int j = 0; j < 4; j++) {
                double t = wants[easing][j];
                next(e);
                blend_embeddings(last, both, (double[]){1 - t, t}, 2,
                                 (blend_shape){TOKENIZER_LENGTH, WIDTH, 0},
                                 slerp ? BLEND_SLERP : BLEND_LINEAR);
                if (j < 3)
                    ck_assert_mem_eq(e, last, sizeof e);
                set(&s); /* the same again, as a host may */
            }
            ck_assert_mem_eq(e, b, sizeof e);
            ck_assert_int_eq(conditioning_advance(c), 0);
        }
    }
    conditioning_settings s = one("dog");
    ends(a, b);
    s.transition.steps = 1; /* one frame is a cut */
    show(&s, e);
    ck_assert_mem_eq(e, b, sizeof e);
}
END_TEST

/* Wherever it turns, no frame is farther from the one before than the longest way allows. */
START_TEST(a_change_on_the_way_goes_on_from_there)
{
    static const char *const texts[] = {"dog", "a bird", "dog", "", "a cat", "x y z"};
    enum { K = 20 };
    conditioning_settings s = one("a cat");
    show(&s, last);
    s.transition.steps = K;
    double most = 0;
    for (int i = 0; i < 60; i++) {
        s.prompt.text[0] = texts[i / 5 % 6];
        show(&s, e);
        most = fmax(most, apart(e, last));
        ck_assert_double_gt(apart(e, last), 0);
        memcpy(last, e, sizeof e);
    }
    double longest = 0;
    for (int i = 0; i < 6; i++) {
        for (int j = 0; j < i; j++) {
            show_text(texts[i], a);
            show_text(texts[j], b);
            longest = fmax(longest, apart(a, b));
        }
    }
    ck_assert_double_lt(most, 2 * longest / K);
}
END_TEST

/* What was set while loading was never shown. */
START_TEST(nothing_leads_to_the_first_frame)
{
    conditioning_settings s = one("a cat");
    set(&s);
    s.prompt.text[0] = "dog";
    s.transition.steps = 5;
    s.live = 1; /* nor is the first frame made before its text is there */
    show(&s, e);
    show_text("dog", b);
    ck_assert_mem_eq(e, b, sizeof e);
}
END_TEST

/* Nor does anything lead from one stream to the next. */
START_TEST(a_reset_ends_transitions)
{
    conditioning_settings s = one("a cat");
    ends(a, b); /* a cat, dog */
    show(&s, e);
    s.prompt.text[0] = "dog";
    s.transition.steps = 5;
    show(&s, e);
    ck_assert_double_gt(apart(e, b), 0);
    conditioning_reset(c);
    show(&s, e);
    ck_assert_mem_eq(e, b, sizeof e);
    conditioning_reset(c);
    s.prompt.text[0] = "a cat";
    show(&s, e);
    ck_assert_mem_eq(e, a, sizeof e);
}
END_TEST

START_TEST(a_transition_of_its_own)
{
    conditioning_settings s = one("dog"), steady = one("a cat");
    ends(a, b);
    s.transition = (conditioning_transition){.steps = 4, .asked = 1};
    show(&s, e);
    show(&s, last); /* the same again does not begin it again */
    ck_assert_double_lt(apart(last, b), apart(e, b));
    s.transition.steps = 10; /* another turns off from here */
    show(&s, e);
    ck_assert_double_lt(apart(e, last), apart(a, b) / 10);
    for (int i = 0; i < 8; i++)
        show(&s, e);
    ck_assert_double_gt(apart(e, b), 0);
    show(&s, e);
    ck_assert_mem_eq(e, b, sizeof e);
    steady.transition.steps = 2; /* without it the prompts are back, their own way */
    show(&steady, e);
    ck_assert_double_gt(apart(e, a), 0);
    show(&steady, e);
    ck_assert_mem_eq(e, a, sizeof e);
    s.transition.steps = 0; /* a cut */
    show(&s, e);
    ck_assert_mem_eq(e, b, sizeof e);
}
END_TEST

/* ---- live ------------------------------------------------------------------------------------ */

static void await(void)
{
    for (int i = 0; conditioning_waits(c); i++) {
        ck_assert_int_lt(i, 20000);
        usleep(1000);
        conditioning_advance(c);
    }
}

START_TEST(live_texts_arrive_between_frames)
{
    show_text("", empty);
    ends(a, b); /* all known */
    long before = conditioning_encoded(c);
    conditioning_settings s = one("a cat");
    s.live = 1;
    show(&s, e);
    ck_assert_mem_eq(e, a, sizeof e);
    s.prompt.text[0] = "dog"; /* known: at once */
    show(&s, e);
    ck_assert_mem_eq(e, b, sizeof e);
    char typed[] = "a bird on a wire";
    for (size_t n = 3; n < sizeof typed; n++) { /* typed, letter by letter */
        char part[sizeof typed] = "";
        memcpy(part, typed, n);
        s.prompt.text[0] = part;
        show(&s, e);
        ck_assert_mem_eq(e, b, sizeof e);
        ck_assert_int_eq(conditioning_waits(c), 1);
    }
    s.prompt.text[0] = typed;
    s.prompt.weight[0] = 2; /* a number may change while it waits */
    set(&s);
    await();
    next(e);
    ck_assert_double_gt(apart(e, b), 0.1);
    /* the last text, and one on the way for each 400 ms that this took on a busy machine */
    ck_assert_int_le(conditioning_encoded(c) - before, 5);
    show_text(typed, last);
    ck_assert_mem_eq(e, last, sizeof e);
    s.prompt.text[0] = "rain";
    set(&s);
    s.prompt.text[0] = "dog"; /* taken back */
    show(&s, e);
    ck_assert_int_eq(conditioning_waits(c), 0);
    ck_assert_mem_eq(e, b, sizeof e);
}
END_TEST

START_TEST(live_transitions_begin_when_the_text_is_there)
{
    conditioning_settings s = one("a cat");
    s.live = 1;
    show(&s, a);
    s.prompt.text[0] = "dog";
    s.transition.steps = 4;
    set(&s);
    await();
    next(e); /* await may have shown a frame or two */
    for (int i = 0; i < 4; i++)
        next(e);
    show_text("dog", b);
    ck_assert_mem_eq(e, b, sizeof e);
}
END_TEST

/* The parameters keep changing while a text waits: it comes all the same. */
START_TEST(modulated_numbers_do_not_hold_a_text_up)
{
    conditioning_settings s = one("a cat");
    s.live = 1;
    show(&s, a);
    s.prompt.text[0] = "dog";
    s.prompt.raw = 1;
    int i = 0;
    for (; i < 20000; i++) {
        s.prompt.weight[0] = 1 + 0.001 * (i % 10);
        set(&s);
        conditioning_advance(c);
        if (!conditioning_waits(c))
            break;
        usleep(1000);
    }
    ck_assert_int_lt(i, 20000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("conditioning");
    TCase *t = tcase_create("conditioning");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_plain_prompt_is_the_encoders_own);
    tcase_add_test(t, blanks_are_the_empty_text);
    tcase_add_test(t, clip_skip_encodes_anew_once);
    tcase_add_test(t, emphasis_moves_the_tokens_that_it_names);
    tcase_add_test(t, a_very_long_prompt_says_what_is_cut);
    tcase_add_test(t, weights_that_are_not_normalised);
    tcase_add_test(t, a_negative_without_guidance);
    tcase_add_test(t, a_transition_lands_on_its_target);
    tcase_add_test(t, a_change_on_the_way_goes_on_from_there);
    tcase_add_test(t, nothing_leads_to_the_first_frame);
    tcase_add_test(t, a_reset_ends_transitions);
    tcase_add_test(t, a_transition_of_its_own);
    tcase_add_test(t, live_texts_arrive_between_frames);
    tcase_add_test(t, live_transitions_begin_when_the_text_is_there);
    tcase_add_test(t, modulated_numbers_do_not_hold_a_text_up);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
