/* sdp.c - reading offers and narrowing them down to what is answered; see sdp.h. Under rtc.
 *
 * Works on lines. Must stay true: what is let through is a list of what webrtcbin needs, not a list
 * of what it must not see; no name that a stranger wrote is ever resolved; and nothing of an offer
 * gets into an error text but printable ASCII.
 */
#include "sdp.h"
#include "../error.h"

#include <gio/gio.h>
#include <string.h>

enum {
    OFFER_MAX = 64 << 10, /* bytes; browsers send 4 to 12 KiB */
    CANDIDATES_MAX = 32,
    EXTENSION_MAX = 14, /* of one-byte RTP header extensions, RFC 8285 */
};

typedef struct section {
    int first, end; /* lines, the first is its m= line; end 0: there is none */
} section;

typedef struct offer {
    char **line; /* owned; NULL-terminated, without their ends */
    section session, video, audio;
    section tagged; /* the first of the bundle, whose transport all share; RFC 9143 section 7.2.1 */
} offer;

/* What is kept of one section. */
typedef struct kept {
    int pt, rtx, twcc, playout, colour; /* 0: none */
    const char *direction;              /* static */
} kept;

/* ---- lines ----------------------------------------------------------------------------------- */

/* The start of a line, fit for an error text. */
static const char *quote(const char *line, char text[48])
{
    size_t n = 0;
    for (; line[n] && n < 44; n++)
        text[n] = line[n] < ' ' || line[n] > '~' || line[n] == '\'' ? '?' : line[n];
    strcpy(text + n, line[n] ? "..." : "");
    return text;
}

/* What follows `start` in a line, or NULL. */
static const char *after(const char *line, const char *start)
{
    size_t n = strlen(start);
    return strncmp(line, start, n) ? NULL : line + n;
}

/* The value of the first "a=NAME:VALUE" of a section ("" for "a=NAME"), or NULL. */
static const char *own_attribute(const offer *o, section s, const char *name)
{
    for (int i = s.first; i < s.end; i++) {
        const char *value = after(o->line[i], "a=");
        value = value ? after(value, name) : NULL;
        if (value && (*value == ':' || !*value))
            return value + (*value == ':');
    }
    return NULL;
}

/* The same, or what the session says for all sections. */
static const char *attribute(const offer *o, section s, const char *name)
{
    const char *value = own_attribute(o, s, name);
    return value ? value : own_attribute(o, o->session, name);
}

/* A payload type and what ends it, or -1. */
static int payload_type(const char *text, char end, const char **rest)
{
    char *stop;
    if (!g_ascii_isdigit(*text))
        return -1;
    guint64 pt = g_ascii_strtoull(text, &stop, 10);
    if (pt > 127 || stop - text > 3 || (*stop && *stop != end))
        return -1;
    *rest = stop + (*stop != 0);
    return (int)pt;
}

/* The value of "a=NAME:PT VALUE", or NULL. */
static const char *format_attribute(const offer *o, section s, const char *name, int pt)
{
    for (int i = s.first; i < s.end; i++) {
        const char *value = after(o->line[i], name), *rest;
        if (value && payload_type(value, ' ', &rest) == pt)
            return rest;
    }
    return NULL;
}

/* A parameter of an fmtp ("apt=96;x=y"), for g_free; or NULL. */
static char *parameter(const char *fmtp, const char *name)
{
    char **all = g_strsplit(fmtp ? fmtp : "", ";", 64), *value = NULL;
    for (int i = 0; all[i] && !value; i++) {
        const char *v = after(g_strstrip(all[i]), name);
        value = v && *v == '=' ? g_strdup(v + 1) : NULL;
    }
    g_strfreev(all);
    return value;
}

/* ---- codecs ---------------------------------------------------------------------------------- */

/* How gladly an H.264 format is taken, 0: not at all. What we send is constrained baseline (42e0),
 * which decoders of higher profiles know too, in packets that mode 0 does not allow. */
static int h264_worth(const char *fmtp, bool sent)
{
    char *mode = parameter(fmtp, "packetization-mode"), *id = parameter(fmtp, "profile-level-id");
    bool split = mode && !strcmp(mode, "1");
    int worth = !split                                       ? !sent
                : !id || !g_ascii_strncasecmp(id, "42e0", 4) ? 4
                : !g_ascii_strncasecmp(id, "42", 2)          ? 3
                                                             : 2;
    g_free(mode);
    g_free(id);
    return worth;
}

static bool is_codec(const char *rtpmap, const char *name)
{
    return rtpmap && !g_ascii_strcasecmp(rtpmap, name);
}

/* How gladly a format is taken, and which codec it is. `sent`: by us. */
static int format_worth(const offer *o, section s, int pt, bool sent, enum codec *codec)
{
    const char *map = format_attribute(o, s, "a=rtpmap:", pt);
    if (is_codec(map, "VP8/90000"))
        return *codec = CODEC_VP8, 1;
    if (is_codec(map, "opus/48000/2"))
        return *codec = CODEC_OPUS, 1;
    if (is_codec(map, "H264/90000"))
        return *codec = CODEC_H264, h264_worth(format_attribute(o, s, "a=fmtp:", pt), sent);
    return 0;
}

static bool is_video(enum codec c)
{
    return c != CODEC_OPUS;
}

/* The formats of an m= line, or NULL for "m=video 9 UDP/TLS/RTP/SAVPF". */
static const char *formats(const char *m)
{
    for (int i = 0; m && i < 3; i++)
        m = (m = strchr(m, ' ')) ? m + 1 : NULL;
    return m;
}

/* The best format of a section, in the peer's order where two are as good; 0 in *codec: none. */
static int pick(const offer *o, section s, bool video, enum codec prefer, bool sent,
                enum codec *codec)
{
    int best = 0, best_pt = 0;
    *codec = 0;
    for (const char *at = formats(o->line[s.first]); at && *at;) {
        enum codec c = 0;
        int pt = payload_type(at, ' ', &at), worth = format_worth(o, s, pt, sent, &c);
        if (!worth || is_video(c) != video)
            continue;
        /* The peer's first codec unless ours is there; within a codec the best format. */
        int rank = (c == prefer ? 16 : *codec && c != *codec ? 0 : 8) + worth;
        if (rank > best && rank > 8)
            best = rank, best_pt = pt, *codec = c;
    }
    return best_pt;
}

/* The format that repeats lost packets of `pt`, or 0. */
static int find_rtx(const offer *o, section s, int pt)
{
    int found = 0;
    for (const char *at = formats(o->line[s.first]); at && *at && !found;) {
        int other = payload_type(at, ' ', &at);
        if (!is_codec(format_attribute(o, s, "a=rtpmap:", other), "rtx/90000"))
            continue;
        char *apt = parameter(format_attribute(o, s, "a=fmtp:", other), "apt");
        const char *rest;
        if (apt && payload_type(apt, 0, &rest) == pt)
            found = other;
        g_free(apt);
    }
    return found;
}

/* The number in "4 URI", "4/sendonly URI ..."; 0 when it is another extension, or cannot be used.
 */
static int extension(const char *value, const char *name)
{
    char *end;
    guint64 id = g_ascii_strtoull(value, &end, 10);
    const char *uri = strchr(end, ' '), *rest = uri ? after(uri + 1, name) : NULL;
    bool ours = rest && (!*rest || *rest == ' ') && (*end == ' ' || *end == '/');
    return ours && id >= 1 && id <= EXTENSION_MAX ? (int)id : 0;
}

static int find_extension(const offer *o, section s, const char *name)
{
    int id = 0;
    for (int i = s.first; i < s.end && !id; i++) {
        const char *value = after(o->line[i], "a=extmap:");
        id = value ? extension(value, name) : 0;
    }
    return id;
}

/* ---- what an offer must have ----------------------------------------------------------------- */

static int bad_line(scope_error *err, const offer *o, int i, const char *what)
{
    char text[48];
    return error_set(err, SCOPE_EINVAL, "offer", "line %d of the offer, '%s', %s", i + 1,
                     quote(o->line[i], text), what);
}

static int check_m_line(const offer *o, int i, scope_error *err)
{
    const char *at = formats(o->line[i]);
    if (!at || !*at)
        return bad_line(err, o, i, "lists no formats; m=KIND PORT PROTOCOL FORMATS is expected");
    if (!strstr(o->line[i], " UDP/TLS/RTP/SAVPF ") && !strstr(o->line[i], " TCP/TLS/RTP/SAVPF "))
        return bad_line(err, o, i, "does not speak UDP/TLS/RTP/SAVPF, the protocol of WebRTC");
    while (*at) {
        if (payload_type(at, ' ', &at) < 0)
            return bad_line(err, o, i, "lists a format that is no number from 0 to 127");
    }
    return 0;
}

static int open_section(offer *o, int i, scope_error *err)
{
    bool video = after(o->line[i], "m=video ") != NULL;
    section *s = video ? &o->video : after(o->line[i], "m=audio ") ? &o->audio : NULL;
    if (!s)
        return bad_line(err, o, i, "is neither video nor audio; offer nothing else");
    if (s->end)
        return bad_line(err, o, i, "is a second one of its kind; offer one video and one audio");
    s->first = i;
    s->end = i + 1;
    return check_m_line(o, i, err);
}

/* Every line has the form of one, and belongs somewhere. */
static int read_sections(offer *o, scope_error *err)
{
    section *now = &o->session;
    for (int i = 0; o->line[i]; i++) {
        char *line = o->line[i];
        if (!g_ascii_islower(line[0]) || line[1] != '=')
            return bad_line(err, o, i, "is not of the form x=value");
        for (const char *c = line; *c; c++) {
            if ((unsigned char)*c < ' ' || *c == 0x7f)
                return bad_line(err, o, i, "holds a control character");
        }
        if (line[0] == 'm') {
            if (open_section(o, i, err))
                return -1;
            now = after(line, "m=video ") ? &o->video : &o->audio;
        }
        now->end = i + 1;
    }
    if (!o->video.end)
        return error_set(err, SCOPE_EINVAL, "offer", "the offer has no picture: no line m=video");
    return 0;
}

static bool ice_text(const char *text, size_t min)
{
    size_t n = text ? strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                   "0123456789+/-_=")
                    : 0;
    return n >= min && n <= 256 && !text[n];
}

/* "sha-256 D1:DE:..." */
static bool fingerprint_text(const char *text)
{
    const char *hex = strchr(text, ' ');
    size_t n = hex ? strlen(++hex) : 0;
    if (n < 3 * 20 - 1 || n > 3 * 64 - 1 || n % 3 != 2)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (i % 3 == 2 ? hex[i] != ':' : !g_ascii_isxdigit(hex[i]))
            return false;
    }
    return true;
}

/* RFC 8839 section 5.4 (RFC 8445 says how long), RFC 8122, RFC 8842. */
static int check_transport(const offer *o, section s, const char *kind, scope_error *err)
{
    const char *finger = attribute(o, s, "fingerprint"), *setup = attribute(o, s, "setup");
    if (!ice_text(attribute(o, s, "ice-ufrag"), 4))
        return error_set(err, SCOPE_EINVAL, "offer",
                         "the offer's %s lacks a=ice-ufrag with 4 to 256 characters", kind);
    if (!ice_text(attribute(o, s, "ice-pwd"), 22))
        return error_set(err, SCOPE_EINVAL, "offer",
                         "the offer's %s lacks a=ice-pwd with 22 to 256 characters", kind);
    if (!finger || !fingerprint_text(finger))
        return error_set(err, SCOPE_EINVAL, "offer",
                         "the offer's %s lacks a=fingerprint with the hash of its certificate",
                         kind);
    if (!setup || (strcmp(setup, "actpass") && strcmp(setup, "active") && strcmp(setup, "passive")))
        return error_set(err, SCOPE_EINVAL, "offer",
                         "the offer's %s lacks a=setup:actpass, active or passive", kind);
    if (!attribute(o, s, "rtcp-mux"))
        return error_set(err, SCOPE_EINVAL, "offer",
                         "the offer's %s lacks a=rtcp-mux; RTP and RTCP share one port here", kind);
    return 0;
}

/* The words of a group, or none. */
static char **bundle_of(const offer *o)
{
    const char *group = own_attribute(o, o->session, "group");
    group = group ? after(group, "BUNDLE ") : NULL;
    return g_strsplit(group ? group : "", " ", 64);
}

/* RFC 9143: picture and sound share one transport. */
static int check_bundle(offer *o, scope_error *err)
{
    const section all[] = {o->video, o->audio};
    char **mids = bundle_of(o), *first = NULL;
    int rc = 0;
    for (int i = 0; i < 2 && all[i].end && !rc; i++) {
        const char *kind = i ? "audio" : "video", *mid = own_attribute(o, all[i], "mid");
        if (!mid || !*mid || strlen(mid) > 64 || strchr(mid, ' '))
            rc = error_set(err, SCOPE_EINVAL, "offer", "the offer's %s lacks a name, a=mid:", kind);
        else if (first && !strcmp(mid, first))
            rc = error_set(err, SCOPE_EINVAL, "offer",
                           "the offer's video and audio have the same name, a=mid:");
        else if ((mids[0] || o->audio.end) && !g_strv_contains((const char *const *)mids, mid))
            rc = error_set(err, SCOPE_EINVAL, "offer",
                           "the offer's %s is not in a=group:BUNDLE; picture and sound share one "
                           "transport here",
                           kind);
        else if (!mids[0] || !strcmp(mid, mids[0]))
            o->tagged = all[i];
        first = first ? first : (char *)mid;
    }
    if (!rc && !o->tagged.end)
        rc = error_set(err, SCOPE_EINVAL, "offer",
                       "the first name in a=group:BUNDLE is that of no section of the offer");
    g_strfreev(mids);
    return rc;
}

static int check(offer *o, scope_error *err)
{
    if (!o->line[0] || strcmp(o->line[0], "v=0"))
        return error_set(err, SCOPE_EINVAL, "offer",
                         "this is no SDP: an offer begins with the line v=0");
    if (read_sections(o, err) || check_transport(o, o->video, "video", err) ||
        (o->audio.end && check_transport(o, o->audio, "audio", err)))
        return -1;
    return check_bundle(o, err);
}

/* ---- writing --------------------------------------------------------------------------------- */

static bool keep_candidate(const char *value)
{
    /* foundation component protocol priority address port typ ...; RFC 8839 section 5.1 */
    char **part = g_strsplit(value, " ", 8);
    bool keep = g_strv_length(part) == 8 && g_hostname_is_ip_address(part[4]);
    g_strfreev(part);
    return keep;
}

/* Said in each section, once more, since webrtcbin looks there; what is said elsewhere than in the
 * tagged section or for the session would be of a transport that is not used. */
static const char *const of_transport[] = {"ice-ufrag", "ice-pwd", "fingerprint", "setup",
                                           "rtcp-mux"};

static bool in_list(const char *name, const char *const *list, size_t n)
{
    size_t i = 0;
    while (i < n && strcmp(name, list[i]))
        i++;
    return i < n;
}

/* Is this attribute (without "a=") let through? `k` is NULL for the session's. */
static bool keep_attribute(const char *a, const kept *k)
{
    static const char *const of_session[] = {"group", "msid-semantic", "ice-options", "ice-lite"};
    static const char *const of_section[] = {
        "mid",  "msid",       "ssrc",        "ssrc-group",
        "rtcp", "rtcp-rsize", "ice-options", "end-of-candidates"};
    char name[32];
    size_t n = strcspn(a, ":");
    const char *value = a + n + (a[n] == ':'), *rest;
    if (n >= sizeof name)
        return false;
    memcpy(name, a, n);
    name[n] = 0;
    if (!k)
        return in_list(name, of_session, G_N_ELEMENTS(of_session));
    if (!strcmp(name, "rtpmap") || !strcmp(name, "fmtp") || !strcmp(name, "rtcp-fb")) {
        int pt = payload_type(value, ' ', &rest);
        return pt >= 0 && (pt == k->pt || (k->rtx && pt == k->rtx));
    }
    if (!strcmp(name, "candidate"))
        return keep_candidate(value);
    return in_list(name, of_section, G_N_ELEMENTS(of_section));
}

static void write_session(GString *to, const offer *o)
{
    for (int i = 0; i < o->session.end; i++) {
        const char *a = after(o->line[i], "a=");
        if (a ? keep_attribute(a, NULL) : strchr("vostc", o->line[i][0]) != NULL)
            g_string_append_printf(to, "%s\r\n", o->line[i]);
    }
}

static void write_section(GString *to, const offer *o, section s, const kept *k)
{
    bool video = s.first == o->video.first;
    /* Not the offer's port: with a=bundle-only it is 0, which says nothing. */
    g_string_append_printf(to, "m=%s 9 UDP/TLS/RTP/SAVPF %d", video ? "video" : "audio", k->pt);
    if (k->rtx)
        g_string_append_printf(to, " %d", k->rtx);
    g_string_append(to, "\r\nc=IN IP4 0.0.0.0\r\n");
    for (size_t i = 0; i < G_N_ELEMENTS(of_transport); i++) {
        const char *value = attribute(o, o->tagged, of_transport[i]);
        g_string_append_printf(to, "a=%s%s%s\r\n", of_transport[i], *value ? ":" : "", value);
    }
    g_string_append_printf(to, "a=%s\r\n", k->direction);
    if (k->twcc)
        g_string_append_printf(to, "a=extmap:%d " SDP_TWCC "\r\n", k->twcc);
    if (k->colour)
        g_string_append_printf(to, "a=extmap:%d " SDP_COLOUR "\r\n", k->colour);
    if (k->playout)
        g_string_append_printf(to, "a=extmap:%d " SDP_PLAYOUT "\r\n", k->playout);
    for (int i = s.first + 1, candidates = 0; i < s.end; i++) {
        const char *a = after(o->line[i], "a=");
        bool candidate = a && after(a, "candidate:");
        if (candidate && (s.first != o->tagged.first || ++candidates > CANDIDATES_MAX))
            continue;
        if (a && keep_attribute(a, k))
            g_string_append_printf(to, "a=%s\r\n", a);
    }
}

/* Of the section, or of the session, or both ways. */
static const char *read_direction(const offer *o, section s)
{
    static const char *const all[] = {"sendonly", "recvonly", "sendrecv", "inactive"};
    for (int own = 1; own >= 0; own--) {
        for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
            if (own_attribute(o, own ? s : o->session, all[i]))
                return all[i];
        }
    }
    return "sendrecv";
}

static bool is_refused(const offer *o, section s)
{
    return after(strchr(o->line[s.first], ' '), " 0 ") && !own_attribute(o, s, "bundle-only");
}

static int choose_video(const offer *o, enum codec prefer, kept *k, sdp_choice *choice,
                        scope_error *err)
{
    if (is_refused(o, o->video))
        return bad_line(err, o, o->video.first, "refuses its own picture: its port is 0");
    k->direction = read_direction(o, o->video);
    choice->sends = g_str_has_prefix(k->direction, "send");
    choice->receives = strstr(k->direction, "rec") != NULL;
    k->pt = pick(o, o->video, true, prefer, choice->receives, &choice->video);
    if (!choice->video)
        return error_set(err, SCOPE_EINVAL, "codec",
                         "the offer has no codec in common with this server, which knows VP8, and "
                         "H.264 with packetization-mode=1");
    choice->video_pt = k->pt;
    choice->rtx_pt = k->rtx = find_rtx(o, o->video, k->pt);
    choice->twcc_id = k->twcc = find_extension(o, o->video, SDP_TWCC);
    k->colour = find_extension(o, o->video, SDP_COLOUR);
    if (choice->receives)
        k->playout = find_extension(o, o->video, SDP_PLAYOUT);
    if (k->playout == k->twcc)
        k->playout = 0;
    if (k->colour == k->twcc || k->colour == k->playout)
        k->colour = 0;
    choice->colour_id = k->colour;
    choice->playout_id = k->playout;
    return 0;
}

/* What sound there is can be done without: the section stays, inactive, with its first format. */
static int choose_audio(const offer *o, kept *k, sdp_choice *choice, scope_error *err)
{
    const char *rest;
    k->direction = read_direction(o, o->audio);
    k->pt = pick(o, o->audio, false, CODEC_OPUS, false, &choice->audio);
    if (!choice->audio || is_refused(o, o->audio)) {
        choice->audio = 0;
        k->direction = "inactive";
        k->pt = payload_type(formats(o->line[o->audio.first]), ' ', &rest);
    }
    choice->audio_pt = choice->audio ? k->pt : 0;
    if (k->pt == choice->video_pt || (choice->rtx_pt && k->pt == choice->rtx_pt))
        return error_set(err, SCOPE_EINVAL, "offer",
                         "the offer gives the number %d to a format of its video and to one of its "
                         "audio, which share a transport",
                         k->pt);
    return 0;
}

static char *narrow(const offer *o, enum codec prefer, sdp_choice *choice, scope_error *err)
{
    kept video = {0}, audio = {0};
    if (choose_video(o, prefer, &video, choice, err) ||
        (o->audio.end && choose_audio(o, &audio, choice, err)))
        return NULL;
    GString *to = g_string_new(NULL);
    bool audio_first = o->audio.end && o->audio.first < o->video.first;
    write_session(to, o);
    if (audio_first)
        write_section(to, o, o->audio, &audio);
    write_section(to, o, o->video, &video);
    if (o->audio.end && !audio_first)
        write_section(to, o, o->audio, &audio);
    return g_string_free(to, FALSE);
}

char *sdp_narrow(const char *text, enum codec prefer, sdp_choice *choice, scope_error *err)
{
    *choice = (sdp_choice){0};
    size_t n = strlen(text);
    if (n > OFFER_MAX) {
        error_set(err, SCOPE_EINVAL, "offer", "the offer has %zu bytes; %d are taken at most", n,
                  OFFER_MAX);
        return NULL;
    }
    if (!g_utf8_validate(text, -1, NULL)) {
        error_set(err, SCOPE_EINVAL, "offer", "the offer is not UTF-8 text");
        return NULL;
    }
    char *copy = g_strchomp(g_strdup(text));
    offer o = {.line = g_strsplit(copy, "\n", -1)};
    for (int i = 0; o.line[i]; i++) {
        size_t length = strlen(o.line[i]);
        if (length && o.line[i][length - 1] == '\r')
            o.line[i][length - 1] = 0;
    }
    char *narrowed = check(&o, err) ? NULL : narrow(&o, prefer, choice, err);
    g_strfreev(o.line);
    g_free(copy);
    return narrowed;
}
