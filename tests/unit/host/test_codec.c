/* test_codec.c - the live encoders and decoders: pictures, colours and sound there and back, key
 * frames, bitrates, drops, broken packets.
 */
#include "host/media/decoder.h"
#include "host/media/elements.h"
#include "host/media/encoder.h"

#include <check.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FRAME_US = 33333, START_US = 1000000000, WAIT_US = 20000000 };

static frame_pool *pool;
static GAsyncQueue *packets, *pictures, *sounds; /* what the callbacks bring */
static gint keys_wanted;

static const struct {
    enum codec codec;
    const char *h264;
    double psnr; /* of the test picture, dB */
} codecs[] = {
    {CODEC_VP8, NULL, 34},
    {CODEC_H264, "x264enc", 34},
    {CODEC_H264, "openh264enc", 34},
    {CODEC_JPEG, NULL, 33},
};

static void on_packet(void *ctx, packet *p)
{
    (void)ctx;
    g_async_queue_push(packets, packet_ref(p));
}

static void on_picture(void *ctx, frame *f)
{
    (void)ctx;
    g_async_queue_push(pictures, frame_ref(f));
}

static void on_sound(void *ctx, GstBuffer *sound)
{
    (void)ctx;
    g_async_queue_push(sounds, sound);
}

static void on_need_key(void *ctx)
{
    (void)ctx;
    g_atomic_int_inc(&keys_wanted);
}

static const decoder_calls calls = {
    .picture = on_picture, .sound = on_sound, .need_key = on_need_key};

static void setup(void)
{
    pool = frame_pool_new();
    packets = g_async_queue_new_full((GDestroyNotify)packet_unref);
    pictures = g_async_queue_new_full((GDestroyNotify)frame_unref);
    sounds = g_async_queue_new_full((GDestroyNotify)gst_buffer_unref);
    keys_wanted = 0;
}

static void teardown(void)
{
    g_async_queue_unref(packets);
    g_async_queue_unref(pictures);
    g_async_queue_unref(sounds);
    frame_pool_free(pool);
}

/* ---- pictures -------------------------------------------------------------------------------- */

static frame *new_frame(int w, int h, int64_t pts_us)
{
    scope_video shape = {.t = 1, .h = h, .w = w, .c = 3, .dtype = SCOPE_U8};
    scope_error err;
    frame *f = frame_new(pool, &shape, &err);
    ck_assert_ptr_nonnull(f);
    f->v.pts_us = pts_us;
    return f;
}

/* A soft pattern that moves with `n`. */
static frame *test_picture(int w, int h, int n)
{
    frame *f = new_frame(w, h, START_US + (int64_t)n * FRAME_US);
    uint8_t *p = f->v.data;
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w; x++, p += 3) {
            p[0] = (uint8_t)(128 + 100 * sin((x + 2 * n) * 0.05));
            p[1] = (uint8_t)(128 + 100 * sin((y + n) * 0.04));
            p[2] = (uint8_t)(128 + 100 * sin((x + y) * 0.03));
        }
    }
    return f;
}

static frame *plain_picture(int w, int h, const uint8_t *rgb, int n)
{
    frame *f = new_frame(w, h, START_US + (int64_t)n * FRAME_US);
    for (int i = 0; i < w * h; i++)
        memcpy((uint8_t *)f->v.data + 3 * i, rgb, 3);
    return f;
}

static frame *noise_picture(int w, int h, int n, GRand *rand)
{
    frame *f = new_frame(w, h, START_US + (int64_t)n * FRAME_US);
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < 3 * w; x++)
            ((uint8_t *)f->v.data)[y * 3 * w + x] =
                (uint8_t)(x % 64 < 32 ? (int)(g_rand_int(rand) & 255) : y + n);
    }
    return f;
}

static double psnr(const frame *a, const frame *b)
{
    ck_assert_int_eq(a->v.w, b->v.w);
    ck_assert_int_eq(a->v.h, b->v.h);
    double sum = 0;
    int n = a->v.w * a->v.h * 3;
    for (int i = 0; i < n; i++) {
        int d = ((uint8_t *)a->v.data)[i] - ((uint8_t *)b->v.data)[i];
        sum += d * d;
    }
    return 10 * log10(255.0 * 255 * n / (sum + 1e-9));
}

/* ---- there and back -------------------------------------------------------------------------- */

static encoder *open_encoder(enum codec codec, const char *h264, int w, int h, int bitrate)
{
    scope_error err = {0};
    encoder *e = encoder_open(
        &(encoder_options){.codec = codec, .w = w, .h = h, .bitrate = bitrate, .h264 = h264},
        on_packet, NULL, &err);
    ck_assert_msg(e != NULL, "%s", err.text);
    return e;
}

static decoder *open_decoder(enum codec codec)
{
    scope_error err = {0};
    decoder *d = decoder_open(codec, pool, &calls, &err);
    ck_assert_msg(d != NULL, "%s", err.text);
    return d;
}

static packet *encode(encoder *e, frame *f)
{
    ck_assert(encoder_push(e, f));
    packet *p = g_async_queue_timeout_pop(packets, WAIT_US);
    scope_error err = {0};
    ck_assert_msg(p != NULL, "no packet: %s", encoder_failed(e, &err) ? err.text : "");
    return p;
}

static void push(decoder *d, const packet *p)
{
    gsize n;
    const void *bytes = g_bytes_get_data(p->bytes, &n);
    decoder_push(d, bytes, n, p->pts_us, p->key);
}

static frame *decode(decoder *d, const packet *p)
{
    push(d, p);
    frame *f = g_async_queue_timeout_pop(pictures, WAIT_US);
    ck_assert_ptr_nonnull(f);
    return f;
}

START_TEST(names)
{
    for (enum codec c = CODEC_VP8; c <= CODEC_OPUS; c++)
        ck_assert_int_eq(codec_from_name(codec_name(c)), c);
    ck_assert_int_eq(codec_from_name("av1"), 0);
}
END_TEST

/* One picture goes in, one packet comes out, one picture comes back, with its time. */
START_TEST(round_trip)
{
    enum { W = 320, H = 240 };
    encoder *e = open_encoder(codecs[_i].codec, codecs[_i].h264, W, H, 0);
    decoder *d = open_decoder(codecs[_i].codec);
    for (int n = 0; n < 30; n++) {
        frame *f = test_picture(W, H, n);
        packet *p = encode(e, f);
        ck_assert_int_eq(p->codec, codecs[_i].codec);
        ck_assert_int_eq(p->key, n == 0 || p->codec == CODEC_JPEG);
        ck_assert_int_eq(p->pts_us, f->v.pts_us);
        ck_assert(p->w == W && p->h == H && p->made_us > 0);
        frame *back = decode(d, p);
        ck_assert_int_eq(back->v.pts_us, f->v.pts_us);
        double db = psnr(f, back);
        ck_assert_msg(n < 5 || db >= codecs[_i].psnr, "frame %d: %.1f dB", n, db);
        packet_unref(p);
        frame_unref(f);
        frame_unref(back);
    }
    ck_assert_int_eq(decoder_broken(d), 0);
    ck_assert_int_eq(keys_wanted, 0);
    encoder_close(e);
    decoder_close(d);
}
END_TEST

/* Pure colours come back as they were, small and large pictures alike. */
START_TEST(colours)
{
    static const uint8_t rgb[][3] = {{255, 0, 0},   {0, 255, 0},    {0, 0, 255},     {255, 255, 0},
                                     {0, 255, 255}, {255, 0, 255},  {255, 255, 255}, {0, 0, 0},
                                     {10, 10, 10},  {200, 120, 60}, {30, 90, 150}};
    static const int sizes[][2] = {{64, 48}, {1280, 720}};
    for (int s = 0; s < 2; s++) {
        encoder *e =
            open_encoder(codecs[_i].codec, codecs[_i].h264, sizes[s][0], sizes[s][1], 4000000);
        decoder *d = open_decoder(codecs[_i].codec);
        if (codecs[_i].codec == CODEC_H264)
            decoder_colours(d, "smpte170m", false); /* openh264enc does not mark it */
        for (int c = 0, n = 0; c < (int)G_N_ELEMENTS(rgb); c++) {
            double error = 0;
            for (int i = 0; i < 3; i++, n++) { /* rate control takes a frame or two */
                frame *f = plain_picture(sizes[s][0], sizes[s][1], rgb[c], n);
                encoder_keyframe(e);
                packet *p = encode(e, f);
                frame *back = decode(d, p);
                error = 0;
                int all = f->v.w * f->v.h * 3;
                for (int b = 0; b < all; b++)
                    error += abs(((uint8_t *)f->v.data)[b] - ((uint8_t *)back->v.data)[b]);
                error /= all;
                packet_unref(p);
                frame_unref(f);
                frame_unref(back);
            }
            ck_assert_msg(error <= 3, "%s: colour %d is off by %.2f levels at %d",
                          codec_name(codecs[_i].codec), c, error, sizes[s][0]);
        }
        encoder_close(e);
        decoder_close(d);
    }
}
END_TEST

/* Odd sizes lose a row or column, and the size may change with a key frame. */
START_TEST(sizes)
{
    static const int sizes[][2] = {{161, 91}, {320, 240}, {64, 64}};
    decoder *d = open_decoder(codecs[_i].codec);
    for (int s = 0; s < 3; s++) {
        encoder *e = open_encoder(codecs[_i].codec, codecs[_i].h264, sizes[s][0], sizes[s][1], 0);
        for (int n = 0; n < 3; n++) {
            frame *f = test_picture(sizes[s][0], sizes[s][1], 3 * s + n);
            packet *p = encode(e, f);
            frame *back = decode(d, p);
            ck_assert_int_eq(back->v.w, sizes[s][0] & ~1);
            ck_assert_int_eq(back->v.h, sizes[s][1] & ~1);
            ck_assert_int_eq(back->v.pts_us, f->v.pts_us);
            packet_unref(p);
            frame_unref(f);
            frame_unref(back);
        }
        frame *other = test_picture(32, 32, 100);
        ck_assert(!encoder_push(e, other)); /* not its size */
        frame_unref(other);
        encoder_close(e);
    }
    ck_assert_int_eq(decoder_broken(d), 0);
    decoder_close(d);
}
END_TEST

/* NAL units of a type in a byte stream. */
static int nals(const packet *p, int type)
{
    gsize n;
    const uint8_t *b = g_bytes_get_data(p->bytes, &n);
    int count = 0;
    for (gsize i = 0; i + 3 < n; i++)
        count += !b[i] && !b[i + 1] && b[i + 2] == 1 && (b[i + 3] & 31) == type;
    return count;
}

/* On demand at once, by itself after keyframe_s, and complete. */
START_TEST(key_frames)
{
    scope_error err;
    encoder *e = encoder_open(&(encoder_options){.codec = codecs[_i].codec,
                                                 .w = 128,
                                                 .h = 128,
                                                 .keyframe_s = 1,
                                                 .h264 = codecs[_i].h264},
                              on_packet, NULL, &err);
    ck_assert_ptr_nonnull(e);
    for (int n = 0; n < 80; n++) {
        if (n == 10 || n == 11)
            encoder_keyframe(e);
        frame *f = test_picture(128, 128, n);
        packet *p = encode(e, f);
        bool key = n == 0 || n == 10 || n == 11 || n == 42 || n == 73;
        if (p->codec != CODEC_JPEG)
            ck_assert_msg(p->key == key, "packet %d: key %d", n, p->key);
        if (p->codec == CODEC_H264) {
            ck_assert_int_eq(nals(p, 7), key);
            ck_assert_int_eq(nals(p, 8), key);
            ck_assert_int_eq(nals(p, 5), key);
        }
        packet_unref(p);
        frame_unref(f);
    }
    encoder_close(e);
}
END_TEST

static int64_t bytes_of(encoder *e, int from, int count, GRand *rand)
{
    int64_t sum = 0;
    for (int n = from; n < from + count; n++) {
        frame *f = noise_picture(320, 240, n, rand);
        packet *p = encode(e, f);
        sum += n >= from + count / 2 ? (int64_t)g_bytes_get_size(p->bytes) : 0;
        packet_unref(p);
        frame_unref(f);
    }
    return sum;
}

START_TEST(bitrates)
{
    if (codecs[_i].codec == CODEC_JPEG)
        return; /* has a quality, not a rate */
    GRand *rand = g_rand_new_with_seed(7);
    encoder *e = open_encoder(codecs[_i].codec, codecs[_i].h264, 320, 240, 4000000);
    int64_t high = bytes_of(e, 0, 60, rand);
    encoder_bitrate(e, 1500000);
    int64_t low = bytes_of(e, 60, 60, rand);
    encoder_bitrate(e, 4000000);
    int64_t again = bytes_of(e, 120, 60, rand);
    ck_assert_msg(low < high * 2 / 3, "%" PRId64 " bytes, then %" PRId64, high, low);
    ck_assert_msg(low < again * 2 / 3, "%" PRId64 " bytes, then %" PRId64, low, again);
    g_rand_free(rand);
    encoder_close(e);
}
END_TEST

/* A burst is not queued: what is taken comes out, what is not is said. */
START_TEST(drops)
{
    enum { COUNT = 40 };
    GRand *rand = g_rand_new_with_seed(7);
    encoder *e = open_encoder(codecs[_i].codec, codecs[_i].h264, 1280, 720, 0);
    frame *f = noise_picture(1280, 720, 0, rand);
    int taken = 0;
    for (int n = 0; n < COUNT; n++) {
        f->v.pts_us = START_US; /* the same time again and again */
        taken += encoder_push(e, f);
    }
    ck_assert_int_ge(taken, 1);
    ck_assert_int_lt(taken, COUNT);
    int64_t last = 0;
    for (int n = 0; n < taken; n++) {
        packet *p = g_async_queue_timeout_pop(packets, WAIT_US);
        ck_assert_ptr_nonnull(p);
        ck_assert_int_gt(p->pts_us, last);
        last = p->pts_us;
        packet_unref(p);
    }
    frame_unref(f);
    g_rand_free(rand);
    encoder_close(e);
}
END_TEST

/* Closing in the middle of the work, from the thread that works. */
START_TEST(closing)
{
    encoder *first = open_encoder(codecs[_i].codec, codecs[_i].h264, 64, 64, 0);
    frame *f = test_picture(64, 64, 0);
    packet *p = encode(first, f);
    for (int i = 0; i < 30; i++) {
        encoder *e = open_encoder(codecs[_i].codec, codecs[_i].h264, 64, 64, 0);
        decoder *d = open_decoder(codecs[_i].codec);
        for (int n = 0; n < i % 4; n++) {
            encoder_push(e, f);
            push(d, p);
        }
        encoder_close(e);
        decoder_close(d);
    }
    packet_unref(p);
    frame_unref(f);
    encoder_close(first);
}
END_TEST

/* ---- what goes wrong ------------------------------------------------------------------------- */

/* Bytes of a packet, cut, changed or made up. */
static GBytes *spoil(const packet *p, GRand *rand)
{
    gsize n;
    const void *bytes = g_bytes_get_data(p->bytes, &n);
    int how = g_rand_int_range(rand, 0, 4);
    if (how == 0)
        n = (gsize)g_rand_int_range(rand, 1, (int)n);
    uint8_t *b = g_memdup2(bytes, n);
    int changes = how == 1 ? g_rand_int_range(rand, 1, 20) : how == 2 ? 1 : 0;
    for (int i = 0; i < changes; i++)
        b[g_rand_int_range(rand, 0, (int)n)] ^= (uint8_t)g_rand_int_range(rand, 1, 256);
    for (gsize i = 0; how == 3 && i < n; i++)
        b[i] = (uint8_t)g_rand_int(rand);
    return g_bytes_new_take(b, n);
}

static void expect_mended(decoder *d, encoder *e, int from)
{
    for (int n = from; n < from + 100; n++) {
        frame *f = test_picture(160, 96, n);
        if (n % 10 == 0)
            encoder_keyframe(e);
        packet *p = encode(e, f);
        push(d, p);
        frame *back = g_async_queue_timeout_pop(pictures, 200000);
        while (back && back->v.pts_us != p->pts_us) { /* pictures from before */
            frame_unref(back);
            back = g_async_queue_timeout_pop(pictures, 200000);
        }
        bool good = back && back->v.w == 160 && psnr(f, back) > 28;
        frame_unref(back);
        frame_unref(f);
        packet_unref(p);
        if (good)
            return;
    }
    ck_abort_msg("the picture did not come back");
}

START_TEST(garbage)
{
    GRand *rand = g_rand_new_with_seed(11);
    encoder *e = open_encoder(codecs[_i].codec, codecs[_i].h264, 160, 96, 0);
    decoder *d = open_decoder(codecs[_i].codec);
    for (int n = 0; n < 300; n++) {
        if (n % 20 == 0)
            encoder_keyframe(e);
        frame *f = test_picture(160, 96, n);
        packet *p = encode(e, f);
        GBytes *b = n % 3 ? spoil(p, rand) : g_bytes_ref(p->bytes);
        gsize size;
        const void *bytes = g_bytes_get_data(b, &size);
        decoder_push(d, bytes, size, p->pts_us, p->key || n % 7 == 0);
        g_bytes_unref(b);
        packet_unref(p);
        frame_unref(f);
    }
    decoder_push(d, "", 0, START_US, true);
    expect_mended(d, e, 300);
    ck_assert_int_gt(decoder_broken(d), 0);
    ck_assert_int_gt(keys_wanted, 0);
    /* from the middle: nothing is shown, and a key frame is asked for */
    decoder *late = open_decoder(codecs[_i].codec);
    keys_wanted = 0;
    if (codecs[_i].codec != CODEC_JPEG) {
        frame *f = test_picture(160, 96, 400);
        packet *p = encode(e, f);
        push(late, p);
        ck_assert_int_eq(keys_wanted, 1);
        packet_unref(p);
        frame_unref(f);
    }
    expect_mended(late, e, 401);
    g_rand_free(rand);
    encoder_close(e);
    decoder_close(d);
    decoder_close(late);
}
END_TEST

/* A key frame that announces 16383 x 16383 pixels is not given to the decoder. */
START_TEST(too_large)
{
    static const uint8_t bomb[] = {0x10, 0,    0,    0x9d, 0x01, 0x2a, 0xff,
                                   0x3f, 0xff, 0x3f, 0,    0,    0,    0};
    decoder *d = open_decoder(CODEC_VP8);
    decoder_push(d, bomb, sizeof bomb, START_US, true);
    ck_assert_int_eq(decoder_broken(d), 1);
    ck_assert_int_eq(keys_wanted, 1);
    decoder_close(d);
}
END_TEST

START_TEST(refusals)
{
    scope_error err = {0};
    ck_assert_ptr_null(
        encoder_open(&(encoder_options){.codec = CODEC_H264, .w = 64, .h = 64, .h264 = "superenc"},
                     on_packet, NULL, &err));
    ck_assert_msg(strstr(err.text, "superenc") && strstr(err.text, "x264enc"), "%s", err.text);
    ck_assert_ptr_null(encoder_open(&(encoder_options){.codec = CODEC_VP8, .w = 1, .h = 64},
                                    on_packet, NULL, &err));
    ck_assert_msg(strstr(err.text, "1 x 64"), "%s", err.text);
}
END_TEST

/* ---- sound ----------------------------------------------------------------------------------- */

enum { BLOCK = 480, RATE = 48000 };

static GstBuffer *tone(int block)
{
    GstBuffer *s = gst_buffer_new_allocate(NULL, BLOCK * 4, NULL);
    GstMapInfo map;
    gst_buffer_map(s, &map, GST_MAP_WRITE);
    for (int i = 0; i < BLOCK * 2; i++)
        ((int16_t *)map.data)[i] =
            (int16_t)(10000 * sin((block * BLOCK + i / 2) * 2 * G_PI * 440 / RATE));
    gst_buffer_unmap(s, &map);
    GST_BUFFER_PTS(s) = (GstClockTime)START_US * 1000 + (GstClockTime)block * 10 * GST_MSECOND;
    GST_BUFFER_DURATION(s) = 10 * GST_MSECOND;
    return s;
}

/* A tone survives Opus, in its place in time. */
START_TEST(sound)
{
    encoder *e = open_encoder(CODEC_OPUS, NULL, 0, 0, 0);
    decoder *d = open_decoder(CODEC_OPUS);
    double energy = 0;
    int64_t samples = 0;
    int block = 0;
    while (block < 10)
        encoder_push_sound(e, tone(block++));
    for (int n = 0; n < 50; n++) {
        encoder_push_sound(e, tone(block++));
        encoder_push_sound(e, tone(block++));
        packet *p = g_async_queue_timeout_pop(packets, WAIT_US);
        ck_assert_ptr_nonnull(p);
        ck_assert(p->codec == CODEC_OPUS && p->key && p->w == 0);
        ck_assert_int_le(llabs(p->pts_us - START_US - n * 20000), 10000);
        push(d, p);
        GstBuffer *s = g_async_queue_timeout_pop(sounds, WAIT_US);
        ck_assert_ptr_nonnull(s);
        ck_assert_int_le(llabs((int64_t)GST_BUFFER_PTS(s) / 1000 - p->pts_us), 10000);
        GstMapInfo map;
        gst_buffer_map(s, &map, GST_MAP_READ);
        for (gsize i = 0; n > 5 && i < map.size / 2; i++, samples++)
            energy += pow(((int16_t *)map.data)[i], 2);
        gst_buffer_unmap(s, &map);
        gst_buffer_unref(s);
        packet_unref(p);
    }
    double loud = sqrt(energy / (double)samples);
    ck_assert_msg(fabs(loud - 10000 / sqrt(2)) < 500, "%.0f", loud);
    encoder_close(e);
    decoder_close(d);
}
END_TEST

int main(void)
{
    gst_init(NULL, NULL);
    Suite *s = suite_create("codec");
    TCase *c = tcase_create("codec");
    int n = G_N_ELEMENTS(codecs);
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, names);
    tcase_add_loop_test(c, round_trip, 0, n);
    tcase_add_loop_test(c, colours, 0, n);
    tcase_add_loop_test(c, sizes, 0, n);
    tcase_add_loop_test(c, key_frames, 0, n);
    tcase_add_loop_test(c, bitrates, 0, n);
    tcase_add_loop_test(c, drops, 0, n);
    tcase_add_loop_test(c, closing, 0, n);
    tcase_add_loop_test(c, garbage, 0, n);
    tcase_add_test(c, too_large);
    tcase_add_test(c, refusals);
    tcase_add_test(c, sound);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
