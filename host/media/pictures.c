/* pictures.c - numbered pictures; see pictures.h. Under source and sink_pictures. */
#include "pictures.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>

bool picture_pattern_init(picture_pattern *p, const char *path)
{
    *p = (picture_pattern){0};
    const char *mark = strchr(path, '%');
    if (!mark || strchr(mark + 1, '%'))
        return false;
    const char *end = mark + 1;
    while (g_ascii_isdigit(*end))
        end++;
    if (*end != 'd' || end - mark > 3)
        return false;
    p->width = atoi(mark + 1);
    p->before = g_strndup(path, (gsize)(mark - path));
    p->after = g_strdup(end + 1);
    return true;
}

void picture_pattern_fini(picture_pattern *p)
{
    g_free(p->before);
    g_free(p->after);
    *p = (picture_pattern){0};
}

char *picture_pattern_name(const picture_pattern *p, int64_t number)
{
    return g_strdup_printf("%s%0*" G_GINT64_FORMAT "%s", p->before, p->width, number, p->after);
}

const char *picture_type(const char *path)
{
    char *low = g_ascii_strdown(path, -1);
    const char *type = g_str_has_suffix(low, ".png") ? "image/png"
                       : g_str_has_suffix(low, ".jpg") || g_str_has_suffix(low, ".jpeg")
                           ? "image/jpeg"
                           : NULL;
    g_free(low);
    return type;
}

static gint by_value(gconstpointer a, gconstpointer b)
{
    return strverscmp(*(const char *const *)a, *(const char *const *)b);
}

/* Is `name` before + digits + after? */
static bool matches(const char *name, const char *before, const char *after)
{
    if (!g_str_has_prefix(name, before))
        return false;
    const char *digits = name + strlen(before), *end = digits;
    while (g_ascii_isdigit(*end))
        end++;
    return end > digits && !strcmp(end, after);
}

/* Files of a folder that are before + digits + after, or, without `after`, pictures. */
static GPtrArray *scan(const char *folder, const char *before, const char *after)
{
    GPtrArray *found = g_ptr_array_new();
    GDir *dir = g_dir_open(folder, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        bool wanted = after ? matches(name, before, after) : name[0] != '.' && picture_type(name);
        if (wanted)
            g_ptr_array_add(found, g_build_filename(folder, name, NULL));
    }
    if (dir)
        g_dir_close(dir);
    g_ptr_array_sort(found, by_value);
    return found;
}

static GPtrArray *scan_pattern(const picture_pattern *p)
{
    char *folder = g_path_get_dirname(p->before);
    const char *slash = strrchr(p->before, '/');
    GPtrArray *found = scan(folder, slash ? slash + 1 : p->before, p->after);
    g_free(folder);
    return found;
}

/* One decoder reads a whole sequence: keep the pictures of the first one's kind. */
static void keep_one_type(GPtrArray *found)
{
    const char *type = found->len ? picture_type(found->pdata[0]) : NULL;
    for (guint i = 0; i < found->len;) {
        if (picture_type(found->pdata[i]) == type) {
            i++;
        } else {
            g_free(found->pdata[i]);
            g_ptr_array_remove_index(found, i);
        }
    }
}

char **pictures_list(const char *input, scope_error *err)
{
    picture_pattern pattern;
    GPtrArray *found;
    if (picture_pattern_init(&pattern, input)) {
        found = scan_pattern(&pattern);
        picture_pattern_fini(&pattern);
    } else if (g_file_test(input, G_FILE_TEST_IS_DIR)) {
        found = scan(input, "", NULL);
    } else {
        found = g_ptr_array_new();
        g_ptr_array_add(found, g_strdup(input));
    }
    keep_one_type(found);
    bool none = found->len == 0;
    g_ptr_array_add(found, NULL);
    char **list = (char **)g_ptr_array_free(found, FALSE);
    if (!none)
        return list;
    g_strfreev(list);
    error_set(err, SCOPE_EIO, "", "there are no PNG or JPEG pictures at '%s'", input);
    return NULL;
}
