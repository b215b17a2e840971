/* emit.c - the schema for other readers: JSON for a UI, help for a terminal, Markdown for a manual.
 *
 * All three walk the fields in schema_ordered's order and say the same things about each.
 */
#include <string.h>

#include "internal.h"

/* ---- JSON ---------------------------------------------------------------------------------- */

/* A shown field always tells its label and order, so that no UI repeats those rules. */
static int fill_ui(json_t *doc, const schema_field *f)
{
    json_t *ui = json_object_get(doc, "ui");
    json_t *properties = json_object_get(doc, "properties");
    if (ui && (json_object_set_new(ui, "label", json_string(f->ui.label)) != 0 ||
               json_object_set_new(ui, "order", json_integer(f->ui.order)) != 0))
        return -1;
    if (f->items && fill_ui(json_object_get(doc, "items"), f->items) != 0)
        return -1;
    for (int i = 0; i < f->count; i++) {
        const schema_field *p = &f->properties[i];
        if (fill_ui(json_object_get(properties, p->name), p) != 0)
            return -1;
    }
    return 0;
}

json_t *schema_json(const schema *s)
{
    json_t *doc = json_deep_copy(s->doc);
    if (doc && fill_ui(doc, &s->root) == 0 &&
        (json_object_get(doc, "type") ||
         json_object_set_new(doc, "type", json_string("object")) == 0))
        return doc;
    json_decref(doc);
    return NULL;
}

/* ---- words --------------------------------------------------------------------------------- */

/* The heading a field stands under. */
static const char *group_of(const schema_field *f)
{
    if (!f->ui.shown)
        return "Not shown in the UI";
    if (f->ui.group)
        return f->ui.group;
    return strcmp(f->ui.category, "input") == 0 ? "Input" : "Configuration";
}

typedef struct writer {
    FILE *out;
    bool table; /* inside a Markdown table cell: no pipes, no line breaks */
} writer;

static int write_bytes(const char *text, size_t n, void *data)
{
    writer *w = data;
    for (size_t i = 0; i < n; i++) {
        if (w->table && text[i] == '|')
            fputs("\\|", w->out);
        else if (w->table && (text[i] == '\n' || text[i] == '\r'))
            fputc(' ', w->out);
        else
            fputc(text[i], w->out);
    }
    return 0;
}

static void write_text(writer *w, const char *text)
{
    write_bytes(text, strlen(text), w);
}

static void write_value(writer *w, const json_t *v)
{
    char text[32];
    if (json_is_real(v))
        write_text(w, schema_text_number(json_real_value(v), text, sizeof text));
    else
        json_dump_callback(v, write_bytes, w, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
}

static void write_type(writer *w, const schema_field *f)
{
    if (f->type != SCOPE_LIST) {
        write_text(w, schema_type_name(f->type));
        return;
    }
    write_text(w, "list of ");
    write_type(w, f->items);
}

/* "0 to 32 px, step 1": what a value must be. False when there is nothing to say. */
static bool write_limits(writer *w, const schema_field *f)
{
    char text[72];
    bool any = false;
    if (f->choices) {
        size_t i;
        json_t *choice;
        json_array_foreach(f->choices, i, choice)
        {
            write_text(w, i ? ", " : "");
            write_value(w, choice);
        }
        any = true;
    }
    if (schema_text_range(f, text, sizeof text)[0]) {
        write_text(w, any ? "; " : "");
        write_text(w, text);
        any = true;
    }
    if (f->ui.unit) {
        write_text(w, any ? " " : "in ");
        write_text(w, f->ui.unit);
        any = true;
    }
    if (f->step > 0) {
        write_text(w, any ? ", step " : "step ");
        write_text(w, schema_text_number(f->step, text, sizeof text));
        any = true;
    }
    if (f->min_items > 0 || f->max_items >= 0) {
        if (f->max_items >= 0)
            snprintf(text, sizeof text, "%d to %d items", f->min_items, f->max_items);
        else
            snprintf(text, sizeof text, "at least %d items", f->min_items);
        write_text(w, any ? ", " : "");
        write_text(w, text);
        any = true;
    }
    if (f->items && (f->items->choices || f->items->has_min || f->items->has_max)) {
        write_text(w, any ? "; each " : "each ");
        any = write_limits(w, f->items);
    }
    return any;
}

/* Calls `each` for the fields of every group, groups in order of their first field. */
static void for_groups(const schema *s, writer *w, void (*head)(writer *, const char *),
                       void (*each)(writer *, const schema_field *))
{
    int n;
    const schema_field *const *list = schema_ordered(s, &n);
    for (int i = 0; i < n; i++) {
        bool begun = false;
        for (int j = 0; j < i && !begun; j++)
            begun = !strcmp(group_of(list[i]), group_of(list[j]));
        if (begun)
            continue;
        head(w, group_of(list[i]));
        for (int j = i; j < n; j++) {
            if (!strcmp(group_of(list[i]), group_of(list[j])))
                each(w, list[j]);
        }
    }
}

/* ---- help ---------------------------------------------------------------------------------- */

static void help_head(writer *w, const char *group)
{
    fprintf(w->out, "%s:\n", group);
}

static void help_field(writer *w, const schema_field *f)
{
    static const char *const metavars[] = {
        [SCOPE_BOOL] = "true|false", [SCOPE_INT] = "N",     [SCOPE_NUM] = "X",
        [SCOPE_STR] = "TEXT",        [SCOPE_LIST] = "LIST", [SCOPE_OBJ] = "OBJECT",
    };
    fputs("  --", w->out);
    for (const char *c = f->name; *c; c++)
        fputc(*c == '_' ? '-' : *c, w->out);
    fprintf(w->out, " %s%s\n      ", metavars[f->type],
            f->ui.is_load_param ? "   [load: fixed while running]" : "");
    fprintf(w->out, "%s%s%s\n      ", f->ui.label, f->description[0] ? ". " : "", f->description);
    if (write_limits(w, f))
        fputs("; ", w->out);
    fputs("default ", w->out);
    write_value(w, f->def);
    fputc('\n', w->out);
}

void schema_help(const schema *s, FILE *out)
{
    writer w = {out, false};
    for_groups(s, &w, help_head, help_field);
}

/* ---- Markdown ------------------------------------------------------------------------------ */

static void page_head(writer *w, const char *group)
{
    fprintf(w->out, "\n## %s\n\n", group);
    fputs("| Parameter | Type | Allowed | Default | Changes | Meaning |\n"
          "|---|---|---|---|---|---|\n",
          w->out);
}

/* One row, then a row for each property inside: `prompts[].weight`. */
static void page_row(writer *w, const schema_field *f, const char *name, const char *changes)
{
    const schema_field *inside = f->type == SCOPE_LIST ? f->items : f;
    fprintf(w->out, "| `%s` | ", name);
    w->table = true;
    write_type(w, f);
    fputs(" | ", w->out);
    write_limits(w, f);
    fputs(" | `", w->out);
    write_value(w, f->def);
    fprintf(w->out, "` | %s | ", changes);
    write_text(w, f->ui.label);
    write_text(w, f->description[0] ? ". " : "");
    write_text(w, f->description);
    fputs(" |\n", w->out);
    w->table = false;
    for (int i = 0; i < inside->count; i++) {
        char deeper[SCHEMA_DEPTH_MAX * (SCHEMA_NAME_MAX + 4)];
        snprintf(deeper, sizeof deeper, "%s%s.%s", name, f->type == SCOPE_LIST ? "[]" : "",
                 inside->properties[i].name);
        page_row(w, &inside->properties[i], deeper, changes);
    }
}

static void page_field(writer *w, const schema_field *f)
{
    page_row(w, f, f->name, f->ui.is_load_param ? "**load**" : "live");
}

void schema_markdown(const schema *s, const char *id, const char *version, FILE *out)
{
    writer w = {out, false};
    fprintf(out, "# %s\n\n`%s` %s\n", schema_title(s)[0] ? schema_title(s) : id, id, version);
    if (schema_description(s)[0])
        fprintf(out, "\n%s\n", schema_description(s));
    for_groups(s, &w, page_head, page_field);
    if (s->root.count > 0)
        fputs("\n**load** parameters are fixed while the plugin runs; changing one loads it anew.\n"
              "The others take effect from the next frame.\n",
              out);
}
