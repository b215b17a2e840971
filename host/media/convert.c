/* convert.c - frames between the sizes, channels and element types that plugins and encoders want.
 *
 * Under chain and sink. Sizes are done by GStreamer's converter, the rest row by row in float.
 * Must stay true: a frame that already fits is passed on untouched and uncopied.
 */
#include "convert.h"
#include "../error.h"

#include <gst/video/video.h>
#include <math.h>

__extension__ typedef _Float16 half;

struct converter {
    frame_pool *pool;          /* borrowed until converter_free */
    GstVideoConverter *scaler; /* owned; for the shapes below */
    int in_w, in_h, out_w, out_h, c;
    enum media_fit fit;
    float *row; /* owned; two rows of row_cap floats */
    size_t row_cap;
};

converter *converter_new(frame_pool *pool)
{
    converter *c = g_new0(converter, 1);
    c->pool = pool;
    return c;
}

void converter_free(converter *c)
{
    if (!c)
        return;
    if (c->scaler)
        gst_video_converter_free(c->scaler);
    g_free(c->row);
    g_free(c);
}

static frame *frame_like(converter *c, const frame *in, int h, int w, int channels, int dtype,
                         scope_error *err)
{
    scope_video shape = {.t = in->v.t, .h = h, .w = w, .c = channels, .dtype = dtype};
    frame *out = frame_new(c->pool, &shape, err);
    if (out) {
        out->v.pts_us = in->v.pts_us;
        out->duration_us = in->duration_us;
    }
    return out;
}

/* ---- element type and channels, a row at a time ---------------------------------------------- */

static void load_row(int dtype, const void *from, float *to, size_t n)
{
    if (dtype == SCOPE_U8) {
        for (size_t i = 0; i < n; i++)
            to[i] = ((const uint8_t *)from)[i] * (1.0f / 255.0f);
    } else if (dtype == SCOPE_F16) {
        for (size_t i = 0; i < n; i++)
            to[i] = (float)((const half *)from)[i];
    } else {
        memcpy(to, from, n * sizeof *to);
    }
}

static void store_row(int dtype, const float *from, void *to, size_t n)
{
    if (dtype == SCOPE_U8) {
        for (size_t i = 0; i < n; i++) {
            float x = from[i] * 255.0f + 0.5f;
            /* Written so that NaN becomes 0. */
            ((uint8_t *)to)[i] = x >= 255.0f ? 255 : x > 0.0f ? (uint8_t)x : 0;
        }
    } else if (dtype == SCOPE_F16) {
        for (size_t i = 0; i < n; i++)
            ((half *)to)[i] = (half)from[i];
    } else {
        memcpy(to, from, n * sizeof *from);
    }
}

static void map_row(const float *from, int in_c, float *to, int out_c, int w)
{
    for (int x = 0; x < w; x++, from += in_c, to += out_c) {
        float r = from[0], g = from[in_c > 1 ? 1 : 0], b = from[in_c > 1 ? 2 : 0];
        if (in_c == 4 && out_c != 4) {
            r *= from[3];
            g *= from[3];
            b *= from[3];
        }
        if (out_c == 1) {
            to[0] = in_c == 1 ? r : 0.2126f * r + 0.7152f * g + 0.0722f * b;
            continue;
        }
        to[0] = r;
        to[1] = g;
        to[2] = b;
        if (out_c == 4)
            to[3] = in_c == 4 ? from[3] : 1.0f;
    }
}

static frame *remap(converter *c, const frame *in, int channels, int dtype, scope_error *err)
{
    const scope_video *a = &in->v;
    frame *out = frame_like(c, in, a->h, a->w, channels, dtype, err);
    if (!out)
        return NULL;
    size_t cap = (size_t)a->w * 4;
    if (cap > c->row_cap) {
        c->row = g_renew(float, c->row, 2 * cap);
        c->row_cap = cap;
    }
    float *wide = c->row + c->row_cap;
    for (int t = 0; t < a->t; t++) {
        for (int y = 0; y < a->h; y++) {
            const char *from = (const char *)a->data + t * a->stride_t + y * a->stride_h;
            char *to = (char *)out->v.data + t * out->v.stride_t + y * out->v.stride_h;
            load_row(a->dtype, from, c->row, (size_t)a->w * (size_t)a->c);
            const float *row = c->row;
            if (channels != a->c) {
                map_row(c->row, a->c, wide, channels, a->w);
                row = wide;
            }
            store_row(dtype, row, to, (size_t)a->w * (size_t)channels);
        }
    }
    return out;
}

/* ---- size ------------------------------------------------------------------------------------ */

/* The largest rectangle of the shape w:h, centred in a box. */
static void inscribe(int box_w, int box_h, int w, int h, int *x, int *y, int *rw, int *rh)
{
    double scale = fmin((double)box_w / w, (double)box_h / h);
    *rw = CLAMP((int)lround(w * scale), 1, box_w);
    *rh = CLAMP((int)lround(h * scale), 1, box_h);
    *x = (box_w - *rw) / 2;
    *y = (box_h - *rh) / 2;
}

static GstVideoFormat format_of(int channels)
{
    return channels == 1   ? GST_VIDEO_FORMAT_GRAY8
           : channels == 3 ? GST_VIDEO_FORMAT_RGB
                           : GST_VIDEO_FORMAT_RGBA;
}

static void make_scaler(converter *c, const GstVideoInfo *from, const GstVideoInfo *to)
{
    int sx = 0, sy = 0, sw = c->in_w, sh = c->in_h, dx = 0, dy = 0, dw = c->out_w, dh = c->out_h;
    if (c->fit == MEDIA_CROP)
        inscribe(c->in_w, c->in_h, c->out_w, c->out_h, &sx, &sy, &sw, &sh);
    else if (c->fit == MEDIA_PAD)
        inscribe(c->out_w, c->out_h, c->in_w, c->in_h, &dx, &dy, &dw, &dh);
    GstStructure *how = gst_structure_new(
        "scale", GST_VIDEO_CONVERTER_OPT_SRC_X, G_TYPE_INT, sx, GST_VIDEO_CONVERTER_OPT_SRC_Y,
        G_TYPE_INT, sy, GST_VIDEO_CONVERTER_OPT_SRC_WIDTH, G_TYPE_INT, sw,
        GST_VIDEO_CONVERTER_OPT_SRC_HEIGHT, G_TYPE_INT, sh, GST_VIDEO_CONVERTER_OPT_DEST_X,
        G_TYPE_INT, dx, GST_VIDEO_CONVERTER_OPT_DEST_Y, G_TYPE_INT, dy,
        GST_VIDEO_CONVERTER_OPT_DEST_WIDTH, G_TYPE_INT, dw, GST_VIDEO_CONVERTER_OPT_DEST_HEIGHT,
        G_TYPE_INT, dh, GST_VIDEO_CONVERTER_OPT_FILL_BORDER, G_TYPE_BOOLEAN, TRUE, NULL);
    c->scaler = gst_video_converter_new(from, to, how);
}

/* Frame t of `v` as GStreamer sees it; the bytes stay ours. */
static GstBuffer *borrow(const scope_video *v, int t, GstVideoInfo *info)
{
    gst_video_info_set_format(info, format_of(v->c), (guint)v->w, (guint)v->h);
    gsize offset[GST_VIDEO_MAX_PLANES] = {0};
    gint stride[GST_VIDEO_MAX_PLANES] = {(gint)v->stride_h};
    GstBuffer *b =
        gst_buffer_new_wrapped_full(0, (char *)v->data + t * v->stride_t, (gsize)v->stride_t, 0,
                                    (gsize)v->stride_t, NULL, NULL);
    gst_buffer_add_video_meta_full(b, GST_VIDEO_FRAME_FLAG_NONE, format_of(v->c), (guint)v->w,
                                   (guint)v->h, 1, offset, stride);
    return b;
}

static void scale_one(converter *c, const frame *in, frame *out, int t)
{
    GstVideoInfo from, to;
    GstBuffer *a = borrow(&in->v, t, &from), *b = borrow(&out->v, t, &to);
    if (!c->scaler)
        make_scaler(c, &from, &to);
    GstVideoFrame src, dst;
    gst_video_frame_map(&src, &from, a, GST_MAP_READ);
    gst_video_frame_map(&dst, &to, b, GST_MAP_WRITE);
    gst_video_converter_frame(c->scaler, &src, &dst);
    gst_video_frame_unmap(&src);
    gst_video_frame_unmap(&dst);
    gst_buffer_unref(a);
    gst_buffer_unref(b);
}

static frame *resize(converter *c, const frame *in, int h, int w, enum media_fit fit,
                     scope_error *err)
{
    const scope_video *a = &in->v;
    frame *out = frame_like(c, in, h, w, a->c, SCOPE_U8, err);
    if (!out)
        return NULL;
    if (c->scaler && (c->in_w != a->w || c->in_h != a->h || c->out_w != w || c->out_h != h ||
                      c->c != a->c || c->fit != fit)) {
        gst_video_converter_free(c->scaler);
        c->scaler = NULL;
    }
    c->in_w = a->w, c->in_h = a->h, c->out_w = w, c->out_h = h, c->c = a->c, c->fit = fit;
    for (int t = 0; t < a->t; t++)
        scale_one(c, in, out, t);
    return out;
}

frame *converter_run(converter *c, frame *in, const scope_video *want, enum media_fit fit,
                     scope_error *err)
{
    int h = want->h ? want->h : in->v.h, w = want->w ? want->w : in->v.w;
    frame *now = frame_ref(in);
    if (h != in->v.h || w != in->v.w) {
        if (now->v.dtype != SCOPE_U8) {
            frame *bytes = remap(c, now, now->v.c, SCOPE_U8, err);
            frame_unref(now);
            now = bytes;
        }
        frame *scaled = now ? resize(c, now, h, w, fit, err) : NULL;
        frame_unref(now);
        now = scaled;
    }
    int channels = want->c ? want->c : in->v.c;
    if (now && (now->v.c != channels || now->v.dtype != want->dtype)) {
        frame *mapped = remap(c, now, channels, want->dtype, err);
        frame_unref(now);
        now = mapped;
    }
    return now;
}
