/* test_sdp.c - real offers narrowed down, line by line, and broken ones refused with the reason. */
#include "host/media/sdp.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN SOURCE_DIR "/tests/golden/sdp/"

static char *load(const char *name)
{
    char *path = g_strconcat(GOLDEN, name, ".sdp", NULL), *text = NULL;
    ck_assert_msg(g_file_get_contents(path, &text, NULL, NULL), "cannot read %s", path);
    g_free(path);
    return text;
}

/* The offer with the first `from` made `to`; `from` must be there. */
static char *with(const char *offer, const char *from, const char *to)
{
    const char *at = strstr(offer, from);
    ck_assert_msg(at, "'%s' is not in the offer", from);
    return g_strdup_printf("%.*s%s%s", (int)(at - offer), offer, to, at + strlen(from));
}

/* The same for every `from`. */
static char *with_all(const char *offer, const char *from, const char *to)
{
    char **part = g_strsplit(offer, from, -1), *text = g_strjoinv(to, part);
    ck_assert_msg(part[1], "'%s' is not in the offer", from);
    g_strfreev(part);
    return text;
}

static char *narrow(const char *offer, enum codec prefer, sdp_choice *c)
{
    scope_error err = {0};
    char *text = sdp_narrow(offer, prefer, c, &err);
    ck_assert_msg(text, "refused: %s", err.text);
    return text;
}

static void same_lines(const char *text, const char *const *want)
{
    char **line = g_strsplit(text, "\r\n", -1);
    int i = 0;
    for (; want[i]; i++)
        ck_assert_msg(line[i] && !strcmp(line[i], want[i]), "line %d is '%s', not '%s'", i + 1,
                      line[i] ? line[i] : "missing", want[i]);
    ck_assert_str_eq(line[i], ""); /* after the last line's end */
    ck_assert_ptr_null(line[i + 1]);
    g_strfreev(line);
}

START_TEST(chromium_publishes)
{
    static const char *const want[] = {
        "v=0",
        "o=- 7972679315133637254 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1",
        "a=msid-semantic: WMS",
        "m=video 9 UDP/TLS/RTP/SAVPF 108",
        "c=IN IP4 0.0.0.0",
        "a=ice-ufrag:gUvk",
        "a=ice-pwd:/j+hTqLSajFt8m4tCUKj/c/t",
        "a=fingerprint:sha-256 10:9E:4A:2F:AD:6C:4D:B4:CE:6F:AF:E7:A5:2D:DD:72:AE:1D:E5:4C:34:D8:"
        "B2:B8:F5:6C:DC:D5:8B:B7:38:06",
        "a=setup:actpass",
        "a=rtcp-mux",
        "a=sendonly",
        "a=extmap:4 "
        "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
        "a=extmap:8 http://www.webrtc.org/experiments/rtp-hdrext/color-space",
        "a=rtcp:9 IN IP4 0.0.0.0",
        "a=ice-options:trickle",
        "a=mid:0",
        "a=msid:- 1236a4ee-4dd4-440f-bec9-07d79879dd4c",
        "a=rtcp-rsize",
        "a=rtpmap:108 H264/90000",
        "a=rtcp-fb:108 goog-remb",
        "a=rtcp-fb:108 transport-cc",
        "a=rtcp-fb:108 ccm fir",
        "a=rtcp-fb:108 nack",
        "a=rtcp-fb:108 nack pli",
        "a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        "a=ssrc:2790623391 cname:AxVpizxLwg/nyxlm",
        "a=ssrc:2790623391 msid:- 1236a4ee-4dd4-440f-bec9-07d79879dd4c",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 0.0.0.0",
        "a=ice-ufrag:gUvk",
        "a=ice-pwd:/j+hTqLSajFt8m4tCUKj/c/t",
        "a=fingerprint:sha-256 10:9E:4A:2F:AD:6C:4D:B4:CE:6F:AF:E7:A5:2D:DD:72:AE:1D:E5:4C:34:D8:"
        "B2:B8:F5:6C:DC:D5:8B:B7:38:06",
        "a=setup:actpass",
        "a=rtcp-mux",
        "a=sendonly",
        "a=rtcp:9 IN IP4 0.0.0.0",
        "a=ice-options:trickle",
        "a=mid:1",
        "a=msid:- 8ae3adcb-d716-4b26-8f0d-8c8f3b3716a4",
        "a=rtcp-rsize",
        "a=rtpmap:111 opus/48000/2",
        "a=rtcp-fb:111 transport-cc",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=ssrc:67313565 cname:AxVpizxLwg/nyxlm",
        "a=ssrc:67313565 msid:- 8ae3adcb-d716-4b26-8f0d-8c8f3b3716a4",
        NULL};
    char *offer = load("whip_offer_chromium156_h264");
    sdp_choice c;
    char *text = narrow(offer, CODEC_VP8, &c); /* there is none: the best of what there is */
    same_lines(text, want);
    ck_assert_int_eq(c.video, CODEC_H264);
    ck_assert_int_eq(c.video_pt, 108);
    ck_assert_int_eq(c.rtx_pt, 0);
    ck_assert_int_eq(c.audio, CODEC_OPUS);
    ck_assert_int_eq(c.audio_pt, 111);
    ck_assert_int_eq(c.twcc_id, 4);
    ck_assert_int_eq(c.playout_id, 0); /* for what is shown to it */
    ck_assert(c.sends && !c.receives);
    g_free(text);
    g_free(offer);
}
END_TEST

START_TEST(chromium_watches)
{
    char *offer = load("whep_offer_chromium156");
    sdp_choice c;
    char *text = narrow(offer, CODEC_VP8, &c);
    ck_assert_int_eq(c.video, CODEC_VP8);
    ck_assert_int_eq(c.video_pt, 96);
    ck_assert_int_eq(c.rtx_pt, 97);
    ck_assert_int_eq(c.twcc_id, 4);
    ck_assert_int_eq(c.playout_id, 5);
    ck_assert_int_eq(c.colour_id, 8);
    ck_assert(!c.sends && c.receives);
    ck_assert_ptr_nonnull(strstr(text, "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n"));
    ck_assert_ptr_nonnull(strstr(text, "a=fmtp:97 apt=96\r\n"));
    ck_assert_ptr_null(strstr(text, "H264"));
    ck_assert_ptr_null(strstr(text, "goog-remb\r\na=rtcp-fb:98"));
    g_free(text);
    text = narrow(offer, CODEC_H264, &c);
    ck_assert_int_eq(c.video, CODEC_H264);
    ck_assert_int_eq(c.video_pt, 108); /* 42e01f in mode 1, not the first, 42001f */
    ck_assert_int_eq(c.rtx_pt, 109);
    g_free(text);
    text = narrow(offer, 0, &c);
    ck_assert_int_eq(c.video, CODEC_VP8); /* what Chromium names first */
    g_free(text);
    g_free(offer);
}
END_TEST

START_TEST(firefox)
{
    sdp_choice c;
    char *offer = load("whip_offer_firefox153"), *text = narrow(offer, CODEC_VP8, &c);
    ck_assert_int_eq(c.video, CODEC_VP8);
    ck_assert_int_eq(c.audio, CODEC_OPUS);
    ck_assert(c.sends);
    ck_assert_int_gt(c.twcc_id, 0);
    /* Firefox says the fingerprint once, for the session. */
    const char *m = strstr(text, "m=");
    ck_assert_ptr_null(g_strstr_len(text, m - text, "a=fingerprint"));
    const char *first = strstr(m, "a=fingerprint:sha-256 ");
    ck_assert_ptr_nonnull(first);
    ck_assert_ptr_nonnull(strstr(first + 1, "a=fingerprint:sha-256 "));
    g_free(text);
    g_free(offer);
    offer = load("whep_offer_firefox153");
    text = narrow(offer, CODEC_VP8, &c);
    ck_assert_int_eq(c.video, CODEC_VP8);
    ck_assert(c.receives && !c.sends);
    /* "6/recvonly" is fine, and said plainly further on */
    char *line = g_strdup_printf("a=extmap:%d http://www.webrtc.org/experiments/rtp-hdrext/"
                                 "playout-delay\r\n",
                                 c.playout_id);
    ck_assert_int_gt(c.playout_id, 0);
    ck_assert_ptr_nonnull(strstr(text, line));
    g_free(line);
    g_free(text);
    g_free(offer);
}
END_TEST

START_TEST(aiortc)
{
    sdp_choice c;
    char *offer = load("whip_offer_aiortc"), *text = narrow(offer, CODEC_H264, &c);
    ck_assert_int_eq(c.video_pt, 101);
    ck_assert_int_eq(c.rtx_pt, 102);
    ck_assert_int_eq(c.twcc_id, 0);
    ck_assert(c.sends && c.receives);
    const char *audio = strstr(text, "m=audio"), *video = strstr(text, "m=video");
    ck_assert(audio < video); /* the order is the peer's */
    ck_assert_ptr_nonnull(strstr(text, " 192.0.2.2 41760 typ host"));
    ck_assert_ptr_null(strstr(text, "sha-512"));
    /* Its sections have transports of their own; the first one's is what a bundle uses. */
    ck_assert_ptr_null(strstr(text, "60521"));
    ck_assert_ptr_null(strstr(text, "a=ice-ufrag:99UX"));
    ck_assert_ptr_nonnull(strstr(video, "a=ice-ufrag:ypRg\r\na=ice-pwd:5rIQ1Li1VKykLf42Gjx1Cu"));
    g_free(text);
    /* A name instead of an address is not looked up. */
    char *named = with_all(offer, " 192.0.2.2 41760", " 5ab2c1.local 41760");
    text = narrow(named, CODEC_H264, &c);
    ck_assert_ptr_null(strstr(text, "41760"));
    ck_assert_ptr_nonnull(strstr(text, "fd00::2"));
    g_free(text);
    g_free(named);
    g_free(offer);
}
END_TEST

START_TEST(formats)
{
    char *offer = load("whep_offer_chromium156");
    sdp_choice c;
    /* Mode 0 cannot carry what we send, a publisher may use it. */
    char *mode0 = with_all(offer, "packetization-mode=1", "packetization-mode=0");
    char *text = narrow(mode0, CODEC_H264, &c);
    ck_assert_int_eq(c.video, CODEC_VP8);
    g_free(text);
    char *sends = with(mode0, "a=recvonly", "a=sendonly");
    text = narrow(sends, CODEC_H264, &c);
    ck_assert_int_eq(c.video, CODEC_H264);
    g_free(text);
    g_free(sends);
    g_free(mode0);
    /* A refused or unknown sound is answered inactive, with a format of the peer's. */
    static const char *const from[] = {"m=audio 9", "opus/48000/2"},
                             *to[] = {"m=audio 0", "OPUS/8"};
    for (int i = 0; i < 2; i++) {
        char *mute = with(offer, from[i], to[i]);
        text = narrow(mute, CODEC_VP8, &c);
        ck_assert_int_eq(c.audio, 0);
        const char *audio = strstr(text, "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n");
        ck_assert_ptr_nonnull(audio);
        ck_assert_ptr_nonnull(strstr(audio, "a=inactive\r\n"));
        ck_assert_ptr_null(strstr(audio, "a=recvonly\r\n"));
        g_free(text);
        g_free(mute);
    }
    /* A port of 0 that only says that the section shares a transport. */
    char *only = with(offer, "m=audio 9", "m=audio 0"),
         *bundled = with(only, "a=mid:1", "a=mid:1\r\na=bundle-only");
    text = narrow(bundled, CODEC_VP8, &c);
    ck_assert_int_eq(c.audio, CODEC_OPUS);
    ck_assert_ptr_nonnull(strstr(text, "m=audio 9 "));
    g_free(text);
    g_free(bundled);
    g_free(only);
    /* An extension number that needs longer headers is not used. */
    char *near = with_all(offer, "a=extmap:4 ", "a=extmap:15 "),
         *far = with_all(near, "a=extmap:5 ", "a=extmap:4294967297 ");
    g_free(near);
    text = narrow(far, CODEC_VP8, &c);
    ck_assert_int_eq(c.twcc_id, 0);
    ck_assert_ptr_null(strstr(text, "extmap:15"));
    ck_assert_ptr_null(strstr(text, "playout"));
    g_free(text);
    g_free(far);
    g_free(offer);
}
END_TEST

START_TEST(without_sound)
{
    char *offer = load("whip_offer_chromium156_h264"), *audio = strstr(offer, "m=audio");
    *audio = 0;
    char *alone = with(offer, "a=group:BUNDLE 0 1\r\n", ""); /* one section needs no bundle */
    sdp_choice c;
    char *text = narrow(alone, CODEC_H264, &c);
    ck_assert_int_eq(c.audio, 0);
    ck_assert_ptr_null(strstr(text, "audio"));
    g_free(text);
    g_free(alone);
    /* Plain line ends, and none after the last line, are fine. */
    char *plain = with_all(offer, "\r\n", "\n"), *end = g_strchomp(g_strdup(plain));
    text = narrow(end, CODEC_H264, &c);
    ck_assert_int_eq(c.video_pt, 108);
    g_free(text);
    g_free(end);
    g_free(plain);
    g_free(offer);
}
END_TEST

START_TEST(refusals)
{
    static const struct {
        const char *from, *to, *words, *field;
    } cases[] = {
        {"v=0", "v=1", "begins with the line v=0", "offer"},
        {"s=-", "nonsense", "line 3 of the offer, 'nonsense', is not of the form", "offer"},
        {"s=-", "s=\x01", "control character", "offer"},
        {"s=-", "s=\xff", "not UTF-8", "offer"},
        {"m=video 9", "m=application 9", "neither video nor audio", "offer"},
        {"m=audio 9", "m=video 9", "second one of its kind", "offer"},
        {"m=video 9 UDP/TLS/RTP/SAVPF 102 104 108 114 116 39", "m=video 9", "lists no formats",
         "offer"},
        {"UDP/TLS/RTP/SAVPF", "RTP/AVP", "does not speak", "offer"},
        {"SAVPF 102", "SAVPF 128", "0 to 127", "offer"},
        {"SAVPF 102", "SAVPF x", "0 to 127", "offer"},
        {"m=video 9", "m=video 0", "refuses its own picture", "offer"},
        {"a=ice-ufrag:gUvk", "a=ice-ufrag:gUv", "video lacks a=ice-ufrag", "offer"},
        {"a=ice-pwd:/j", "a=ice-pwd:/ j", "video lacks a=ice-pwd", "offer"},
        {"a=fingerprint:sha-256 10:9E", "a=fingerprint:sha-256 10:9", "lacks a=fingerprint",
         "offer"},
        {"a=setup:actpass", "a=setup:holdconn", "lacks a=setup", "offer"},
        {"a=rtcp-mux\r\n", "", "lacks a=rtcp-mux", "offer"},
        {"a=mid:0\r\n", "", "video lacks a name", "offer"},
        {"a=mid:1\r\n", "a=mid:0\r\n", "same name", "offer"},
        {"BUNDLE 0 1", "BUNDLE 0", "audio is not in a=group:BUNDLE", "offer"},
        {"BUNDLE 0 1", "BUNDLE 2 0 1", "first name in a=group:BUNDLE", "offer"},
        {"a=group:BUNDLE 0 1\r\n", "", "video is not in a=group:BUNDLE", "offer"},
    };
    char *offer = load("whip_offer_chromium156_h264");
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        char *broken = with(offer, cases[i].from, cases[i].to);
        scope_error err = {0};
        sdp_choice c;
        ck_assert_msg(!sdp_narrow(broken, 0, &c, &err), "'%s' was taken", cases[i].to);
        ck_assert_int_eq(err.status, SCOPE_EINVAL);
        ck_assert_msg(strstr(err.text, cases[i].words), "'%s': %s", cases[i].to, err.text);
        ck_assert_str_eq(err.field, cases[i].field);
        g_free(broken);
    }
    scope_error err = {0};
    sdp_choice c;
    char *other = with_all(offer, "H264/90000", "AV1/90000");
    ck_assert_ptr_null(sdp_narrow(other, CODEC_H264, &c, &err));
    ck_assert_str_eq(err.field, "codec");
    ck_assert_ptr_nonnull(strstr(err.text, "no codec in common"));
    g_free(other);
    char *clash = with_all(offer, "108", "111");
    ck_assert_ptr_null(sdp_narrow(clash, CODEC_H264, &c, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "number 111"));
    g_free(clash);
    char *pad = g_strnfill(70000, 'x'), *s = g_strconcat("s=", pad, NULL),
         *huge = with(offer, "s=-", s);
    ck_assert_ptr_null(sdp_narrow(huge, CODEC_H264, &c, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "65536 are taken"));
    g_free(huge);
    g_free(s);
    g_free(pad);
    ck_assert_ptr_null(sdp_narrow("", CODEC_H264, &c, &err));
    ck_assert_ptr_null(sdp_narrow("v=0\r\n", CODEC_H264, &c, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "no picture"));
    g_free(offer);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sdp");
    TCase *t = tcase_create("sdp");
    tcase_add_test(t, chromium_publishes);
    tcase_add_test(t, chromium_watches);
    tcase_add_test(t, firefox);
    tcase_add_test(t, aiortc);
    tcase_add_test(t, formats);
    tcase_add_test(t, without_sound);
    tcase_add_test(t, refusals);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
