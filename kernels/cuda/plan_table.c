/* plan_table.c - see plan_table.h. */
#include "plan_table.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char first_line[] = "# scope plans 1: shape, candidate, us, runner-up, us";

/* ---- rows ----------------------------------------------------------------------------------- */

static uint32_t hash(const char *key)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (; *key; key++)
        h = (h ^ (unsigned char)*key) * 16777619u;
    return h;
}

/* The slot of that key, or the free one where it would go. */
static int slot_of(const plan_table *t, const char *key)
{
    int at = (int)(hash(key) % (uint32_t)t->slot_count);
    while (t->slots[at] && strcmp(t->rows[t->slots[at] - 1].key, key))
        at = (at + 1) % t->slot_count;
    return at;
}

static int grow(plan_table *t)
{
    int room = t->room ? 2 * t->room : 64;
    plan_row *rows = realloc(t->rows, (size_t)room * sizeof *rows);
    if (!rows)
        return -1;
    t->rows = rows;
    int *slots = calloc((size_t)room * 2, sizeof *slots);
    if (!slots)
        return -1;
    free(t->slots);
    t->slots = slots;
    t->slot_count = 2 * room;
    t->room = room;
    for (int i = 0; i < t->count; i++)
        t->slots[slot_of(t, t->rows[i].key)] = i + 1;
    return 0;
}

plan_row *plan_table_find(const plan_table *t, const char *key)
{
    int row = t->slot_count ? t->slots[slot_of(t, key)] : 0;
    return row ? &t->rows[row - 1] : NULL;
}

static int printable(const char *text, size_t room)
{
    size_t n = 0;
    while (text[n] && n < room && !iscntrl((unsigned char)text[n]))
        n++;
    return n > 0 && n < room && !text[n];
}

plan_row *plan_table_row(plan_table *t, const char *key)
{
    plan_row *known = plan_table_find(t, key);
    if (known || !printable(key, PLAN_KEY) || *key == '#')
        return known;
    if (t->count == t->room && grow(t))
        return NULL;
    plan_row *row = &t->rows[t->count];
    *row = (plan_row){.candidate = -1};
    strcpy(row->key, key);
    t->slots[slot_of(t, key)] = ++t->count;
    return row;
}

/* ---- the file ------------------------------------------------------------------------------- */

/* The next column of *rest, which ends at a tab or the end. NULL: there is none. */
static char *column(char **rest)
{
    return *rest ? strsep(rest, "\t") : NULL;
}

static int microseconds(const char *text, double *us)
{
    char *end;
    *us = text ? strtod(text, &end) : -1;
    return text && end != text && !*end && isfinite(*us) && *us >= 0;
}

/* One line into the table, unless this process knows better. */
static void take_line(plan_table *t, char *line)
{
    plan_row r = {.candidate = -1};
    line[strcspn(line, "\r\n")] = 0;
    char *rest = line, *key = column(&rest), *name = column(&rest), *us = column(&rest),
         *second = column(&rest), *second_us = column(&rest);
    if (!key || !printable(key, PLAN_KEY) || *key == '#' || !name || !printable(name, PLAN_NAME) ||
        !microseconds(us, &r.us))
        return;
    strcpy(r.name, name);
    if (second && printable(second, PLAN_NAME) && microseconds(second_us, &r.second_us))
        strcpy(r.second, second);
    plan_row *row = plan_table_row(t, key);
    if (!row || row->candidate >= 0)
        return;
    strcpy(r.key, key);
    *row = r;
}

static void read_file(plan_table *t)
{
    FILE *f = t->path ? fopen(t->path, "re") : NULL;
    char *line = NULL;
    size_t room = 0;
    for (ssize_t n; f && (n = getline(&line, &room, f)) > 0;) {
        if (strlen(line) == (size_t)n && line[n - 1] == '\n')
            take_line(t, line);
    }
    free(line);
    if (f)
        fclose(f);
}

/* "$SCOPE_CACHE/name", owned by the caller; NULL: no folder is known. */
static char *path_of(const char *name)
{
    static const struct {
        const char *variable, *below;
    } folders[] = {{"SCOPE_CACHE", ""}, {"XDG_CACHE_HOME", "/scope"}, {"HOME", "/.cache/scope"}};
    char clean[256], *path = NULL;
    snprintf(clean, sizeof clean, "%s", name);
    for (char *c = clean; *c; c++) {
        if (!isalnum((unsigned char)*c) && !strchr(".-+", *c))
            *c = '_';
    }
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        const char *folder = getenv(folders[i].variable);
        if (folder && *folder)
            return asprintf(&path, "%s%s/%s", folder, folders[i].below, clean) < 0 ? NULL : path;
    }
    return NULL;
}

/* Make the folders on the way to path. */
static void make_folders(char *path)
{
    for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        mkdir(path, 0777);
        *at = '/';
    }
}

static int by_key(const void *a, const void *b)
{
    const plan_row *const *x = a, *const *y = b;
    return strcmp((*x)->key, (*y)->key);
}

static int write_rows(const plan_table *t, FILE *f)
{
    const plan_row **sorted = malloc((size_t)t->count * sizeof(void *) + 1);
    if (!sorted)
        return -1;
    for (int i = 0; i < t->count; i++)
        sorted[i] = &t->rows[i];
    qsort(sorted, (size_t)t->count, sizeof *sorted, by_key);
    fprintf(f, "%s\n", first_line);
    for (int i = 0; i < t->count; i++) {
        const plan_row *r = sorted[i];
        fprintf(f, "%s\t%s\t%.2f", r->key, r->name, r->us);
        if (*r->second)
            fprintf(f, "\t%s\t%.2f", r->second, r->second_us);
        fputc('\n', f);
    }
    free(sorted);
    return ferror(f) ? -1 : 0;
}

static void replace_file(plan_table *t)
{
    char *temp = NULL;
    if (asprintf(&temp, "%s.XXXXXX", t->path) < 0)
        return;
    int fd = mkostemp(temp, O_CLOEXEC);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (f) {
        int bad = write_rows(t, f);
        bad |= fchmod(fd, 0644);
        bad |= fclose(f);
        if (bad || rename(temp, t->path))
            unlink(temp);
    } else if (fd >= 0) {
        close(fd);
        unlink(temp);
    }
    free(temp);
}

void plan_table_save(plan_table *t)
{
    if (!t->dirty || !t->path)
        return;
    t->dirty = 0;
    make_folders(t->path);
    char *slash = strrchr(t->path, '/');
    *slash = 0; /* one process at a time reads what others wrote, and writes it again */
    int folder = open(*t->path ? t->path : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *slash = '/';
    if (folder < 0)
        return;
    while (flock(folder, LOCK_EX) && errno == EINTR)
        ;
    read_file(t);
    replace_file(t);
    close(folder);
}

void plan_table_open(plan_table *t, const char *name, int empty)
{
    *t = (plan_table){.path = name ? path_of(name) : NULL};
    if (!empty)
        read_file(t);
}

void plan_table_close(plan_table *t)
{
    plan_table_save(t);
    free(t->rows);
    free(t->slots);
    free(t->path);
    *t = (plan_table){0};
}
