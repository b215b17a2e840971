/* test_parse.c - the parser takes what README.md describes and refuses the rest with path and
 * remedy. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "schema/schema.h"

/* A schema with one field `x` that has these keywords. */
#define FIELD(body) "{\"properties\": {\"x\": {" body "}}}"
#define INT         "\"type\": \"integer\", \"default\": 1"
#define NUM         "\"type\": \"number\", \"default\": 1"
#define STR         "\"type\": \"string\", \"default\": \"\""
#define LIST        "\"type\": \"array\", \"default\": [], \"items\": {\"type\": \"integer\"}"

static const struct {
    const char *text, *path, *says;
} bad[] = {
    /* the text */
    {"", "", "not valid JSON"},
    {"{", "", "not valid JSON"},
    {"[]", "", "JSON object"},
    {"{\"properties\": {\"x\": {" INT ", \"type\": \"integer\"}}}", "", "duplicate"},
    {"{\"properties\": {\"x\": {" INT "}, \"x\": {" INT "}}}", "", "duplicate"},
    {FIELD(INT) " tail", "", "not valid JSON"},
    /* the root */
    {"{\"propertys\": {}}", "/propertys", "did you mean 'properties'"},
    {"{\"type\": \"array\"}", "/type", "must be \"object\""},
    {"{\"title\": 3}", "/title", "it must be a string"},
    {"{\"description\": []}", "/description", "it must be a string"},
    {"{\"properties\": []}", "/properties", "it must be an object"},
    {"{\"default\": {}}", "/default", "cannot stand here"},
    {"{\"ui\": {}}", "/ui", "cannot stand here"},
    {"{\"required\": [\"x\"]}", "/required", "every field has a default"},
    /* names */
    {"{\"properties\": {\"a-b\": {" INT "}}}", "/properties/a-b", "cannot be a name"},
    {"{\"properties\": {\"\": {" INT "}}}", "/properties/", "cannot be a name"},
    {"{\"properties\": {\"9a\": {" INT "}}}", "/properties/9a", "cannot be a name"},
    {"{\"properties\": {\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\": {" INT "}}}",
     "/properties/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "cannot be a name"},
    /* keywords */
    {"{\"properties\": {\"x\": 3}}", "/properties/x", "must be an object"},
    {FIELD("\"default\": 1"), "/properties/x", "needs a \"type\""},
    {FIELD("\"type\": \"int\", \"default\": 1"), "/properties/x/type", "unknown type 'int'"},
    {FIELD("\"type\": \"nubmer\", \"default\": 1"), "/properties/x/type", "mean 'number'"},
    {FIELD("\"type\": [\"integer\"], \"default\": 1"), "/properties/x/type", "one type"},
    {FIELD(INT ", \"minimun\": 0"), "/properties/x/minimun", "did you mean 'minimum'"},
    {FIELD(INT ", \"anyOf\": []"), "/properties/x/anyOf", "never null"},
    {FIELD(INT ", \"multipleOf\": 2"), "/properties/x/multipleOf", "use step"},
    {FIELD(INT ", \"minimum\": \"0\""), "/properties/x/minimum", "it must be a number"},
    {FIELD(INT ", \"enum\": 3"), "/properties/x/enum", "it must be a list"},
    {FIELD(INT ", \"title\": null"), "/properties/x/title", "it must be a string"},
    {FIELD(STR ", \"minimum\": 0"), "/properties/x/minimum", "no meaning for type string"},
    {FIELD(INT ", \"items\": {}"), "/properties/x/items", "no meaning for type integer"},
    {FIELD(LIST ", \"enum\": [[]]"), "/properties/x/enum", "no meaning for type array"},
    {FIELD(INT ", \"ui\": true"), "/properties/x/ui", "it must be an object"},
    /* limits */
    {FIELD(INT ", \"minimum\": 2, \"maximum\": 0"), "/properties/x/maximum", "below minimum 2"},
    {FIELD(INT ", \"minimum\": 0.5"), "/properties/x/minimum", "whole"},
    {FIELD(INT ", \"maximum\": 1e17"), "/properties/x/maximum", "2^53"},
    {FIELD(NUM ", \"step\": 0"), "/properties/x/step", "above 0"},
    {FIELD(INT ", \"step\": -8"), "/properties/x/step", "above 0"},
    {FIELD(INT ", \"step\": 0.5"), "/properties/x/step", "whole"},
    {FIELD(LIST ", \"minItems\": 2, \"maxItems\": 1"), "/properties/x/maxItems", "below minItems"},
    {FIELD(LIST ", \"minItems\": -1"), "/properties/x/minItems", "0 to"},
    {FIELD(LIST ", \"maxItems\": 1.5"), "/properties/x/maxItems", "whole number"},
    {FIELD(LIST ", \"maxItems\": 99999999999"), "/properties/x/maxItems", "0 to"},
    /* defaults */
    {FIELD("\"type\": \"integer\""), "/properties/x", "needs a \"default\""},
    {FIELD("\"type\": \"integer\", \"default\": 1.5"), "/properties/x/default", "whole number"},
    {FIELD("\"type\": \"integer\", \"default\": null"), "/properties/x/default", "null"},
    {FIELD("\"type\": \"boolean\", \"default\": 0"), "/properties/x/default", "true or false"},
    {FIELD(INT ", \"minimum\": 2"), "/properties/x/default", "at least 2"},
    {FIELD(INT ", \"maximum\": 0"), "/properties/x/default", "at most 0"},
    {FIELD(INT ", \"minimum\": 0, \"step\": 2"), "/properties/x/default", "0 and 2"},
    {FIELD(INT ", \"enum\": [2, 3]"), "/properties/x/default", "choose one of 2, 3"},
    {FIELD(LIST ", \"minItems\": 1"), "/properties/x/default", "at least 1"},
    {FIELD("\"type\": \"array\", \"default\": [1, \"a\"], \"items\": {\"type\": \"integer\"}"),
     "/properties/x/default/1", "whole number"},
    /* enum */
    {FIELD(INT ", \"enum\": []"), "/properties/x/enum", "empty"},
    {FIELD(INT ", \"enum\": [1, \"2\"]"), "/properties/x/enum/1", "whole number"},
    {FIELD(INT ", \"enum\": [1, 2, 1.0]"), "/properties/x/enum/2", "twice"},
    {FIELD(INT ", \"maximum\": 5, \"enum\": [1, 7]"), "/properties/x/enum/1", "at most 5"},
    {FIELD("\"type\": \"boolean\", \"default\": true, \"enum\": [true]"), "/properties/x/enum",
     "no meaning"},
    /* lists and objects */
    {FIELD("\"type\": \"array\", \"default\": []"), "/properties/x", "needs \"items\""},
    {FIELD("\"type\": \"array\", \"default\": [], \"items\": {" INT "}"),
     "/properties/x/items/default", "give it to the list itself"},
    {FIELD("\"type\": \"array\", \"default\": [], \"items\": {\"type\": \"string\", \"ui\": {}}"),
     "/properties/x/items/ui", "give it to the list itself"},
    {FIELD("\"type\": \"object\""), "/properties/x", "needs \"properties\""},
    {FIELD("\"type\": \"object\", \"properties\": {\"y\": {\"type\": \"string\"}}"),
     "/properties/x/properties/y", "needs a \"default\""},
    {FIELD("\"type\": \"object\", \"default\": {\"z\": 1}, \"properties\": {\"y\": {" INT "}}"),
     "/properties/x/default/z", "unknown field 'z'"},
    /* ui */
    {FIELD(INT ", \"ui\": {\"ordr\": 1}"), "/properties/x/ui/ordr", "did you mean 'order'"},
    {FIELD(INT ", \"ui\": {\"order\": 1.5}"), "/properties/x/ui/order", "whole number"},
    {FIELD(INT ", \"ui\": {\"order\": 1e9}"), "/properties/x/ui/order", "whole number"},
    {FIELD(INT ", \"ui\": {\"order\": 99999999}"), "/properties/x/ui/order", "million"},
    {FIELD(INT ", \"ui\": {\"label\": 3}"), "/properties/x/ui/label", "a string"},
    {FIELD(INT ", \"ui\": {\"category\": \"misc\"}"), "/properties/x/ui/category", "\"input\""},
    {FIELD(INT ", \"ui\": {\"modes\": [\"text\", \"text\"]}"), "/properties/x/ui/modes/1", "once"},
    {FIELD(INT ", \"ui\": {\"modes\": [\"audio\"]}"), "/properties/x/ui/modes/0", "\"video\""},
    {FIELD(INT ", \"ui\": {\"modes\": []}"), "/properties/x/ui/modes", "empty"},
    {FIELD(INT ", \"ui\": {\"multiline\": true}"), "/properties/x/ui/multiline", "no meaning"},
    {FIELD(STR ", \"ui\": {\"modulatable\": true}"), "/properties/x/ui/modulatable", "no meaning"},
    {FIELD(INT ", \"ui\": {\"modulatable\": true}"), "/properties/x/ui/modulatable", "range"},
    {FIELD(INT ", \"ui\": {\"modulatable_min\": 0}"), "/properties/x/ui/modulatable_min", "needs"},
    {FIELD(INT ", \"minimum\": 0, \"maximum\": 9, \"ui\": {\"modulatable\": true, "
               "\"modulatable_max\": 10}"),
     "/properties/x/ui/modulatable_max", "0 to 9"},
    {FIELD(INT ", \"ui\": {\"visible_if\": {\"y\": 1}}"), "/properties/x/ui/visible_if/y",
     "unknown neighbour 'y'"},
    {FIELD(INT ", \"ui\": {\"visible_if\": {\"x\": 1}}"), "/properties/x/ui/visible_if/x",
     "its own condition"},
    {FIELD(NUM ", \"minimum\": 0, \"maximum\": 9, \"ui\": {\"modulatable\": true, "
               "\"modulatable_min\": 5, \"modulatable_max\": 5}"),
     "/properties/x/ui/modulatable_min", "must leave a range"},
    {FIELD(INT ", \"ui\": {\"visible_if\": {}}"), "/properties/x/ui/visible_if", "takes one"},
    {"{\"properties\": {\"x\": {" INT ", \"ui\": {\"visible_if\": {\"y\": 3}}}, \"y\": {" STR "}}}",
     "/properties/x/ui/visible_if/y", "it must be a string"},
    {FIELD("\"type\": \"object\", \"properties\": {\"y\": {" INT
           ", \"ui\": {\"is_load_param\": true}}}"),
     "/properties/x/properties/y/ui/is_load_param", "outermost"},
    /* references */
    {FIELD("\"$ref\": \"base.json#/sede\""), "/properties/x/$ref", "did you mean 'seed'"},
    {FIELD("\"$ref\": \"other.json#/seed\""), "/properties/x/$ref", "cannot be followed"},
    {FIELD("\"$ref\": 3"), "/properties/x/$ref", "must be a string"},
    {FIELD("\"$ref\": \"base.json#/seed\", \"maximum\": 7"), "/properties/x/default", "0 to 7"},
    {FIELD("\"$ref\": \"base.json#/seed\", \"ui\": {\"ordr\": 7}"), "/properties/x/ui/ordr", "ord"},
    {FIELD("\"$ref\": \"base.json#/seed\", \"type\": \"string\""), "/properties/x/minimum",
     "no meaning"},
    {FIELD("\"$ref\": \"base.json#/seed\", \"default\": null"), "/properties/x",
     "needs a \"default"},
};

START_TEST(refused)
{
    schema_error err;
    schema *s = schema_parse(bad[_i].text, &err);
    ck_assert_msg(!s, "accepted: %s", bad[_i].text);
    ck_assert_msg(!strcmp(err.path, bad[_i].path), "%s\n  path \"%s\", expected \"%s\" (%s)",
                  bad[_i].text, err.path, bad[_i].path, err.text);
    ck_assert_msg(strstr(err.text, bad[_i].says), "%s\n  says \"%s\", expected \"%s\"",
                  bad[_i].text, err.text, bad[_i].says);
}
END_TEST

static schema *parse(const char *text)
{
    schema_error err = {"", ""};
    schema *s = schema_parse(text, &err);
    ck_assert_msg(s != NULL, "%s: %s\n%s", err.path, err.text, text);
    return s;
}

START_TEST(table)
{
    schema *s = parse(
        "{\"title\": \"T\", \"description\": \"D\", \"type\": \"object\", \"properties\": {"
        "\"num_steps\": {\"type\": \"integer\", \"default\": 4.0, \"minimum\": 1, \"maximum\": 10,"
        "  \"step\": 3, \"description\": \"d\", \"ui\": {\"order\": 5, \"modes\": [\"video\"],"
        "  \"unit\": \"steps\", \"group\": \"G\", \"is_load_param\": true, \"modulatable\": true,"
        "  \"modulatable_max\": 8, \"component\": \"c\", \"category\": \"input\","
        "  \"visible_if\": {\"b\": true}}},"
        "\"b\": {\"type\": \"boolean\", \"default\": true, \"title\": \"Bee\"},"
        "\"l\": {\"type\": \"array\", \"default\": \"a\", \"minItems\": 1, \"maxItems\": 2,"
        "  \"items\": {\"type\": \"string\", \"enum\": [\"a\", \"b\"]}, \"ui\": {\"label\": "
        "\"El\"}},"
        "\"o\": {\"type\": \"object\", \"properties\": {\"y\": {" NUM
        "}}, \"ui\": {\"order\": 5}}}}");
    int n;
    const schema_field *f = schema_fields(s, &n);
    ck_assert_int_eq(n, 4);
    ck_assert_str_eq(schema_title(s), "T");
    ck_assert_str_eq(schema_description(s), "D");
    ck_assert_str_eq(f[0].name, "num_steps");
    ck_assert_int_eq(f[0].type, SCOPE_INT);
    ck_assert(f[0].has_min && f[0].has_max && f[0].min == 1 && f[0].max == 10 && f[0].step == 3);
    ck_assert(json_is_integer(f[0].def) && json_integer_value(f[0].def) == 4);
    ck_assert_str_eq(f[0].ui.label, "Num steps");
    ck_assert_str_eq(f[0].ui.group, "G");
    ck_assert_str_eq(f[0].ui.unit, "steps");
    ck_assert_str_eq(f[0].ui.component, "c");
    ck_assert_str_eq(f[0].ui.category, "input");
    ck_assert(f[0].ui.shown && f[0].ui.is_load_param && f[0].ui.order == 5);
    ck_assert(f[0].ui.video_mode && !f[0].ui.text_mode);
    ck_assert(f[0].ui.modulatable && f[0].ui.modulatable_min == 1 && f[0].ui.modulatable_max == 8);
    ck_assert_str_eq(f[0].ui.visible_if, "b");
    ck_assert(json_is_true(f[0].ui.visible_if_value));
    ck_assert(!f[1].ui.shown && f[1].ui.order == 999 && f[1].ui.text_mode && f[1].ui.video_mode);
    ck_assert_str_eq(f[1].ui.label, "Bee");
    ck_assert_str_eq(f[1].ui.category, "configuration");
    ck_assert_str_eq(f[1].description, "");
    ck_assert(f[2].min_items == 1 && f[2].max_items == 2 && f[2].items->type == SCOPE_STR);
    ck_assert_uint_eq(json_array_size(f[2].items->choices), 2);
    ck_assert_uint_eq(json_array_size(f[2].def), 1);
    ck_assert(f[3].count == 1 && json_real_value(json_object_get(f[3].def, "y")) == 1.0);
    ck_assert_ptr_eq(schema_find(s, "l"), &f[2]);
    ck_assert_ptr_null(schema_find(s, "nope"));

    const schema_field *const *o = schema_ordered(s, &n);
    ck_assert_int_eq(n, 4);
    ck_assert_str_eq(o[0]->name, "num_steps");
    ck_assert_str_eq(o[1]->name, "o");
    ck_assert_str_eq(o[2]->name, "l");
    ck_assert_str_eq(o[3]->name, "b");
    schema_free(s);
    /* Equal orders go by name, whatever the declaration. */
    s = parse("{\"properties\": {\"z\": {" INT ", \"ui\": {}}, \"y\": {" INT
              ", \"ui\": {}}, \"b\": {" INT "}, \"a\": {" INT "}}}");
    o = schema_ordered(s, &n);
    ck_assert_str_eq(o[0]->name, "y");
    ck_assert_str_eq(o[1]->name, "z");
    ck_assert_str_eq(o[2]->name, "a");
    ck_assert_str_eq(o[3]->name, "b");
    schema_free(s);
}
END_TEST

START_TEST(references)
{
    schema *s =
        parse("{\"properties\": {\"seed\": {\"$ref\": \"base.json#/seed\"},"
              "\"w\": {\"$ref\": \"base.json#/width\", \"step\": null, \"default\": 100,"
              "  \"ui\": {\"order\": 3, \"unit\": null}},"
              "\"hidden\": {\"$ref\": \"base.json#/strength\", \"ui\": null},"
              "\"p\": {\"$ref\": \"base.json#/prompts\", \"items\": {\"properties\": {\"weight\":"
              "  {\"maximum\": 2}, \"lang\": {\"type\": \"string\", \"default\": \"en\"}}}},"
              "\"o\": {\"type\": \"object\", \"properties\": {\"s\": {\"$ref\": "
              "\"base.json#/seed\"}}}}}");
    const schema_field *f = schema_find(s, "seed");
    ck_assert_int_eq((int)json_integer_value(f->def), 42);
    ck_assert_str_eq(f->ui.label, "Seed");
    ck_assert_int_eq(f->ui.order, 13);
    ck_assert(f->max == 2147483647);
    f = schema_find(s, "w");
    ck_assert(f->step == 0 && f->max == 2048 && f->ui.order == 3 && !f->ui.unit);
    ck_assert_str_eq(f->ui.label, "Width");
    ck_assert(!schema_find(s, "hidden")->ui.shown);
    f = schema_find(s, "p")->items;
    ck_assert_int_eq(f->count, 3);
    ck_assert(f->properties[1].max == 2 && f->properties[1].min == 0);
    ck_assert_str_eq(f->properties[2].name, "lang");
    ck_assert_str_eq(
        json_string_value(json_object_get(json_array_get(schema_find(s, "p")->def, 0), "lang")),
        "en");
    ck_assert_int_eq((int)json_integer_value(json_object_get(schema_find(s, "o")->def, "s")), 42);
    schema_free(s);
}
END_TEST

START_TEST(bounds)
{
    /* Nine levels of lists are one too many; eight are fine. */
    for (int levels = 8; levels <= 9; levels++) {
        char text[2048] = "{\"properties\": {\"x\": {\"type\": \"array\", \"default\": []";
        for (int i = 1; i < levels; i++)
            strcat(text, ", \"items\": {\"type\": \"array\"");
        /* The innermost list lacks its items, so both fail; the reason tells them apart. */
        for (int i = 0; i <= levels; i++)
            strcat(text, "}");
        strcat(text, "}");
        schema_error err;
        ck_assert_ptr_null(schema_parse(text, &err));
        ck_assert_msg(!!strstr(err.text, "deeper") == (levels == 9), "%d: %s", levels, err.text);
    }
    /* Deep nonsense ends in an error, not in a stack overflow. */
    char *deep = malloc(200001);
    memset(deep, '[', 200000);
    deep[200000] = '\0';
    schema_error err;
    ck_assert_ptr_null(schema_parse(deep, &err));
    ck_assert(strstr(err.text, "depth") != NULL);
    free(deep);
    char *long_text = malloc((1 << 20) + 2);
    memset(long_text, ' ', (1 << 20) + 1);
    long_text[(1 << 20) + 1] = '\0';
    ck_assert_ptr_null(schema_parse(long_text, &err));
    ck_assert(strstr(err.text, "1048576") != NULL);
    free(long_text);
}
END_TEST

/* 257 properties are one too many. */
START_TEST(many)
{
    char *text = malloc(1 << 16), name[80];
    for (int count = 256; count <= 257; count++) {
        strcpy(text, "{\"properties\": {");
        for (int i = 0; i < count; i++) {
            snprintf(name, sizeof name, "%s\"x%d\": {" INT "}", i ? "," : "", i);
            strcat(text, name);
        }
        strcat(text, "}}");
        schema_error err;
        schema *s = schema_parse(text, &err);
        ck_assert(!s == (count == 257));
        if (!s)
            ck_assert(strstr(err.text, "at most 256") != NULL);
        schema_free(s);
    }
    free(text);
}
END_TEST

START_TEST(empty)
{
    const char *const texts[] = {"{}", "{\"type\": \"object\"}", "{\"properties\": {}}"};
    for (int i = 0; i < 3; i++) {
        int n = -1;
        schema *s = parse(texts[i]);
        schema_fields(s, &n);
        ck_assert_int_eq(n, 0);
        ck_assert_str_eq(schema_title(s), "");
        schema_free(s);
    }
    schema_free(NULL);
}
END_TEST

START_TEST(nearest)
{
    const char *const names[] = {"strength", "seed", "width", "height", "x"};
    const struct {
        const char *given, *near;
    } cases[] = {
        {"strenght", "strength"},
        {"STRENGTH", "strength"},
        {"sede", "seed"},
        {"witdh", "width"},
        {"heigth", "height"},
        {"y", "x"},
        {"banana", NULL},
        {"", NULL},
        {"strength", "strength"},
        {"qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"
         "qqqq",
         NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *near = schema_nearest(cases[i].given, names, 5);
        ck_assert_msg((!near && !cases[i].near) ||
                          (near && cases[i].near && !strcmp(near, cases[i].near)),
                      "'%s' gives '%s'", cases[i].given, near ? near : "nothing");
    }
    ck_assert_ptr_null(schema_nearest("x", NULL, 0));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("schema parse");
    TCase *tc = tcase_create("parse");
    tcase_add_loop_test(tc, refused, 0, (int)(sizeof bad / sizeof *bad));
    tcase_add_test(tc, table);
    tcase_add_test(tc, references);
    tcase_add_test(tc, bounds);
    tcase_add_test(tc, many);
    tcase_add_test(tc, empty);
    tcase_add_test(tc, nearest);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
