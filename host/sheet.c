/* sheet.c - the contact sheet of a run. */
#include "sheet.h"
#include "error.h"
#include "media/convert.h"

#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 6, KEPT = 2 * COLUMNS, THUMB = 256, GAP = 8, PAPER = 24 };

struct sheet {
    frame_pool *pool;   /* borrowed until sheet_free */
    converter *convert; /* owned */
    int w, h;           /* of a thumbnail, from the first output */
    int seen, every;    /* frames offered; every n-th is kept */
    int kept;
    frame *source[KEPT]; /* owned references; NULL where there is none */
    frame *output[KEPT]; /* owned references */
};

sheet *sheet_new(frame_pool *pool)
{
    sheet *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->pool = pool;
    s->every = 1;
    s->convert = converter_new(pool);
    return s;
}

static void drop(sheet *s, int i)
{
    frame_unref(s->source[i]);
    frame_unref(s->output[i]);
    s->source[i] = s->output[i] = NULL;
}

void sheet_free(sheet *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->kept; i++)
        drop(s, i);
    converter_free(s->convert);
    free(s);
}

/* Keep every other frame of those that are there. */
static void thin_out(sheet *s)
{
    for (int i = 0; i < s->kept; i++) {
        if (i % 2) {
            drop(s, i);
        } else if (i) {
            s->source[i / 2] = s->source[i];
            s->output[i / 2] = s->output[i];
            s->source[i] = s->output[i] = NULL;
        }
    }
    s->kept = (s->kept + 1) / 2;
    s->every *= 2;
}

static frame *thumbnail(sheet *s, frame *f, scope_error *err)
{
    scope_video want = {.t = 1, .h = s->h, .w = s->w, .c = 3, .dtype = SCOPE_U8};
    return converter_run(s->convert, f, &want, MEDIA_PAD, err);
}

int sheet_offer(sheet *s, frame *source, frame *output, scope_error *err)
{
    if (s->seen++ % s->every)
        return 0;
    if (s->kept == KEPT) {
        thin_out(s);
        if ((s->seen - 1) % s->every)
            return 0;
    }
    if (!s->w) {
        int side = output->v.w > output->v.h ? output->v.w : output->v.h;
        double scale = side > THUMB ? (double)THUMB / side : 1;
        s->w = (int)(output->v.w * scale + 0.5);
        s->h = (int)(output->v.h * scale + 0.5);
        s->w += !s->w;
        s->h += !s->h;
    }
    frame *below = thumbnail(s, output, err);
    frame *above = below && source ? thumbnail(s, source, err) : NULL;
    if (!below || (source && !above)) {
        frame_unref(below);
        return -1;
    }
    s->output[s->kept] = below;
    s->source[s->kept++] = above;
    return 0;
}

static void paste(const frame *from, frame *to, int x, int y)
{
    for (int row = 0; row < from->v.h; row++)
        memcpy((char *)to->v.data + (y + row) * to->v.stride_h + 3 * x,
               (const char *)from->v.data + row * from->v.stride_h, 3 * (size_t)from->v.w);
}

frame *sheet_draw(sheet *s, scope_error *err)
{
    if (!s->kept) {
        error_set(err, SCOPE_EINVAL, "",
                  "a contact sheet needs at least one frame; there was none");
        return NULL;
    }
    int columns = s->kept < COLUMNS ? s->kept : COLUMNS;
    int rows = s->source[0] ? 2 : 1;
    scope_video shape = {.t = 1,
                         .h = GAP + rows * (s->h + GAP),
                         .w = GAP + columns * (s->w + GAP),
                         .c = 3,
                         .dtype = SCOPE_U8};
    frame *page = frame_new(s->pool, &shape, err);
    if (!page)
        return NULL;
    memset(page->v.data, PAPER, (size_t)page->v.stride_t);
    for (int c = 0; c < columns; c++) {
        int i = columns > 1 ? c * (s->kept - 1) / (columns - 1) : 0;
        int x = GAP + c * (s->w + GAP);
        if (s->source[i])
            paste(s->source[i], page, x, GAP);
        paste(s->output[i], page, x, page->v.h - GAP - s->h);
    }
    return page;
}
