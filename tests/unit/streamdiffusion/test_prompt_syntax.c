/* test_prompt_syntax.c - emphasis in prompts: what is syntax, what is text, and what it weighs. */
#include "plugin/streamdiffusion/alloc.h"
#include "plugin/streamdiffusion/prompt_syntax.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "{text}weight{text}weight" of a prompt. */
static const char *pieces(const char *text)
{
    static char said[4096];
    prompt_pieces p;
    size_t n = 0;
    ck_assert_int_eq(prompt_syntax_parse(&p, text), 0);
    said[0] = 0;
    for (int i = 0; i < p.count; i++)
        n += (size_t)snprintf(said + n, sizeof said - n, "{%s}%.4g", p.piece[i].text,
                              (double)p.piece[i].weight);
    prompt_syntax_free(&p);
    return said;
}

static const struct {
    const char *text, *pieces;
} cases[] = {
    {"", ""},
    {"a cat", "{a cat}1"},
    {"a (cat)", "{a }1{cat}1.1"},
    {"(a) (b)+ (c)++, (d)- (e)--", "{a}1.1{ }1{b}1.1{ }1{c}1.21{, }1{d}0.9{ }1{e}0.81"},
    {"(word:1.3) x", "{word}1.3{ x}1"},
    {"(word: 0.5 )", "{word}0.5"},
    {"(word:+.5)", "{word}0.5"},
    {"(word:2.)", "{word}2"},
    {"(word:1.5)+", "{word}1.65"},
    {"[word]", "{word}0.9091"},
    {"[word:2]", "{word:2}0.9091"},
    /* nesting multiplies, within bounds */
    {"((x))", "{x}1.21"},
    {"(a (b:1.5) c:2)", "{a }2{b}3{ c}2"},
    {"([x])", "{x}1"},
    {"((x:8):8)", "{x}10"},
    {"(x:-3)", "{x}0"},
    {"(x:99999999999999999999999999)", "{x}10"},
    {"a (x:1.0)y", "{a xy}1"},
    /* what only looks like it */
    {"a :) b", "{a :) b}1"},
    {"(open", "{(open}1"},
    {"close)", "{close)}1"},
    {"(word)-art", "{word}1.1{-art}1"},
    {"(word)+1", "{word}1.1{+1}1"},
    {"(word)+-", "{word}1.1{+-}1"},
    {"(word)+\xc3\xa9", "{word}1.1{+\xc3\xa9}1"},
    {"(a: b)", "{a: b}1.1"},
    {"(a:1.2.3)", "{a:1.2.3}1.1"},
    {"(a:1e5)", "{a:1e5}1.1"},
    {"(a:.)", "{a:.}1.1"},
    {"(a:)", "{a:}1.1"},
    {"([)]", "{(}1{)}0.9091"},
    {"C++ and a--", "{C++ and a--}1"},
    /* escapes */
    {"\\(a\\) \\[b\\] \\\\ \\c \\", "{(a) [b] \\ \\c \\}1"},
    {"(a\\):1.5)", "{a)}1.5"},
    /* other people's tags */
    {"a <lora:my(style):0.8> b", "{a <lora:my(style):0.8> b}1"},
    {"(a <lora:x:0.8>:1.2)", "{a <lora:x:0.8>}1.2"},
    {"a < (b) > c", "{a < }1{b}1.1{ > c}1"},
    {"<lora:(x)", "{<lora:}1{x}1.1"},
    /* nothing inside */
    {"()", ""},
    {"(:2)", ""},
    {"a()b", "{ab}1"},
};

START_TEST(all)
{
    const char *said = pieces(cases[_i].text);
    ck_assert_msg(!strcmp(said, cases[_i].pieces), "%s is %s, not %s", cases[_i].text, said,
                  cases[_i].pieces);
}
END_TEST

/* As deep as it likes, and in no more than a moment. */
START_TEST(deep)
{
    enum { N = 60000 };
    char *text = malloc(2 * N + 2);
    prompt_pieces p;
    memset(text, '(', N);
    text[N] = 'x';
    memset(text + N + 1, ')', N);
    text[2 * N + 1] = 0;
    ck_assert_int_eq(prompt_syntax_parse(&p, text), 0);
    ck_assert_int_eq(p.count, 1);
    ck_assert(p.piece[0].weight == 10);
    prompt_syntax_free(&p);
    for (int i = 0; i <= 2 * N; i++)
        text[i] = "<a:(1"[i % 5];
    ck_assert_int_eq(prompt_syntax_parse(&p, text), 0);
    ck_assert_int_eq(p.count, 1);
    prompt_syntax_free(&p);
    free(text);
}
END_TEST

START_TEST(out_of_memory)
{
    prompt_pieces p;
    for (int n = 1; n <= 4; n++) {
        sd_alloc_fail_at(n);
        int rc = prompt_syntax_parse(&p, "a (b)");
        sd_alloc_fail_at(0);
        ck_assert_int_eq(rc, -1);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("prompt_syntax");
    TCase *tc = tcase_create("prompt_syntax");
    tcase_add_loop_test(tc, all, 0, sizeof cases / sizeof *cases);
    tcase_add_test(tc, deep);
    tcase_add_test(tc, out_of_memory);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
