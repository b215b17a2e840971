/* arith.cpp - instructions that compute each lane of one result from the same lane of its sources.
 * They always compute all 32 lanes, in loops the compiler can vectorise; the caller keeps the
 * lanes that count. */
#include "sim.h"

#include <math.h>

#include <cmath>
#include <type_traits>

/* ---- numbers ---- */

template <class To, class From> static To bits_as(From f)
{
    static_assert(sizeof(To) == sizeof(From), "");
    To t;
    memcpy(&t, &f, sizeof t);
    return t;
}

float half_to_float(u16 h)
{
    u32 m = h & 0x7fff;
    float f = bits_as<float>(m << 13) * 0x1p112f; /* also right for subnormal halves */
    u32 u = bits_as<u32>(f) | (m >= 0x7c00 ? 0x7f800000 : 0);
    return bits_as<float>(u | (u32)(h & 0x8000) << 16);
}

u16 float_to_half(float f) /* to nearest even */
{
    u32 u = bits_as<u32>(f), sign = u >> 16 & 0x8000, m = u & 0x7fffffff;
    u32 normal = (m - 0x38000000 + 0xfff + (m >> 13 & 1)) >> 13;
    u32 subnormal = bits_as<u32>(bits_as<float>(m) + 0.5f) - bits_as<u32>(0.5f);
    u32 r = m < 0x38800000 ? subnormal : m >= 0x47800000 ? 0x7c00 : normal;
    return m > 0x7f800000 ? 0x7fff : sign | r;
}

static float bf16_to_float(u16 h)
{
    return bits_as<float>((u32)h << 16);
}

static u16 float_to_bf16(float f)
{
    u32 u = bits_as<u32>(f);
    return (u & 0x7fffffff) > 0x7f800000 ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

/* What a lane of a row is. V: the type to compute with; N: values a lane. 16 bits and less lie in
 * the low part of 4 bytes. */
template <class T> struct Num {
    typedef T V;
    enum { N = 1 };
    static T get(const void *r, int l, int)
    {
        if constexpr (sizeof(T) < 4)
            return (T)load<u32>(r, l);
        else
            return load<T>(r, l);
    }
    static void put(void *r, int l, int, T v)
    {
        if constexpr (sizeof(T) < 4)
            store<u32>(r, l, (u32)v);
        else
            store<T>(r, l, v);
    }
};
struct Flushed : Num<float> { /* .ftz */
    static float flush(float f)
    {
        return fabsf(f) < 0x1p-126f ? copysignf(0, f) : f;
    }
    static float get(const void *r, int l, int)
    {
        return flush(load<float>(r, l));
    }
    static void put(void *r, int l, int, float v)
    {
        store<float>(r, l, flush(v));
    }
};
struct Saturated : Num<float> { /* .sat */
    static void put(void *r, int l, int, float v)
    {
        store<float>(r, l, v > 0 ? v < 1 ? v : 1 : 0);
    }
};
template <float (*Widen)(u16), u16 (*Narrow)(float), int n> struct Short { /* f16, bf16, and x2 */
    typedef float V;
    enum { N = n };
    static float get(const void *r, int l, int h)
    {
        return Widen(n == 2 ? load<u16>(r, 2 * l + h) : (u16)load<u32>(r, l));
    }
    static void put(void *r, int l, int h, float v)
    {
        if (n == 2)
            store<u16>(r, 2 * l + h, Narrow(v));
        else
            store<u32>(r, l, Narrow(v));
    }
};
typedef Short<half_to_float, float_to_half, 1> Half;
typedef Short<half_to_float, float_to_half, 2> Half2;
typedef Short<bf16_to_float, float_to_bf16, 1> Bf16;
typedef Short<bf16_to_float, float_to_bf16, 2> Bf16x2;

/* ---- loops ---- */

#define EACH_LANE _Pragma("GCC ivdep") for (int l = 0; l < 32; l++)

template <class T, class F, int n> static void apply(const Warp &w, const Inst &in, void *d)
{
    const void *a = w.row(in.op[1]), *b = n > 1 ? w.row(in.op[2]) : a,
               *c = n > 2 ? w.row(in.op[3]) : a;
    EACH_LANE for (int h = 0; h < T::N; h++)
    {
        if constexpr (n == 1)
            T::put(d, l, h, F()(T::get(a, l, h)));
        else if constexpr (n == 2)
            T::put(d, l, h, F()(T::get(a, l, h), T::get(b, l, h)));
        else
            T::put(d, l, h, F()(T::get(a, l, h), T::get(b, l, h), T::get(c, l, h)));
    }
}

template <class F, int n> static Pure ints(Type t)
{
    bool s = t.kind == 's';
    if (t.lanes == 2)
        return nullptr;
    if (t.bits == 16)
        return s ? apply<Num<s16>, F, n> : apply<Num<u16>, F, n>;
    if (t.bits == 32)
        return s ? apply<Num<s32>, F, n> : apply<Num<u32>, F, n>;
    return s ? apply<Num<s64>, F, n> : apply<Num<u64>, F, n>;
}

template <class F, int n> static Pure bits(Type t) /* where the sign makes no difference */
{
    return t.bits == 64 ? apply<Num<u64>, F, n> : apply<Num<u32>, F, n>;
}

template <class F, int n> static Pure floats(const Draft &d)
{
    Type t = d.in.type;
    if (d.has("rz") || d.has("rm") || d.has("rp") || d.has("relu"))
        return nullptr;
    if (t.bits == 64)
        return apply<Num<double>, F, n>;
    if (t.bits == 32)
        return d.has("sat")   ? apply<Saturated, F, n>
               : d.has("ftz") ? apply<Flushed, F, n>
                              : apply<Num<float>, F, n>;
    if (d.has("sat"))
        return nullptr;
    if (t.kind == 'q')
        return t.lanes == 2 ? apply<Bf16x2, F, n> : apply<Bf16, F, n>;
    return t.lanes == 2 ? apply<Half2, F, n> : apply<Half, F, n>;
}

template <class F, int n> static Pure any(const Draft &d)
{
    bool real = d.in.type.kind == 'f' || d.in.type.kind == 'q';
    return real ? floats<F, n>(d) : d.has("sat") ? nullptr : bits<F, n>(d.in.type);
}

#define OP1(name, result)                                                                          \
    struct name {                                                                                  \
        template <class T> T operator()(T a) const                                                 \
        {                                                                                          \
            return result;                                                                         \
        }                                                                                          \
    };
#define OP2(name, result)                                                                          \
    struct name {                                                                                  \
        template <class T> T operator()(T a, T b) const                                            \
        {                                                                                          \
            return result;                                                                         \
        }                                                                                          \
    };
#define OP3(name, result)                                                                          \
    struct name {                                                                                  \
        template <class T> T operator()(T a, T b, T c) const                                       \
        {                                                                                          \
            return result;                                                                         \
        }                                                                                          \
    };

template <class T> static T divided(T a, T b) /* never traps, as on a GPU */
{
    if constexpr (std::is_signed<T>::value)
        return b == 0 ? (T)-1 : b == -1 ? (T)(0 - (u64)a) : a / b;
    else
        return b == 0 ? (T)-1 : a / b;
}

template <class T> static T remainder_of(T a, T b)
{
    return b == 0 ? a : b + 1 == 0 && std::is_signed<T>::value ? 0 : a % b;
}

template <class T> static T high_product(T a, T b)
{
    if constexpr (sizeof(T) == 8)
        return std::is_signed<T>::value ? (T)((__int128)a * b >> 64)
                                        : (T)((unsigned __int128)a * b >> 64);
    else if constexpr (std::is_signed<T>::value)
        return (T)((s64)a * b >> sizeof(T) * 8);
    else
        return (T)((u64)a * b >> sizeof(T) * 8);
}

static u64 reversed(u64 v, int n)
{
    u64 r = 0;
    for (int i = 0; i < n; i++)
        r |= (v >> i & 1) << (n - 1 - i);
    return r;
}

static float mul_add(float a, float b, float c)
{
    return fmaf(a, b, c);
}

static double mul_add(double a, double b, double c)
{
    return fma(a, b, c);
}

OP2(Add, a + b)
OP2(Sub, a - b)
OP2(Mul, a *b)
OP3(Mad, a *b + c)
OP3(Fma, mul_add(a, b, c))
OP2(MulHi, high_product(a, b))
OP3(MadHi, high_product(a, b) + c)
OP2(DivInt, divided(a, b))
OP2(Rem, remainder_of(a, b))
OP2(Div, a / b)
OP2(And, a &b)
OP2(Or, a | b)
OP2(Xor, a ^ b)
OP1(Not, ~a)
OP1(Neg, -a)
OP1(NegInt, 0 - a)
OP1(AbsInt, a < 0 ? 0 - a : a)
OP1(Abs, std::abs(a))
OP2(MinInt, a < b ? a : b)
OP2(MaxInt, a > b ? a : b)
OP2(Min, b != b || a < b ? a : b)
OP2(Max, b != b || a > b ? a : b)
OP2(MinNan, a != a || a < b ? a : b)
OP2(MaxNan, a != a || a > b ? a : b)
OP2(Copysign, (T)copysign(b, a))
OP1(Brev, (T)reversed(a, sizeof a * 8))
OP1(Rcp, 1 / a)
OP1(Sqrt, std::sqrt(a))
OP1(Rsqrt, 1 / std::sqrt(a))
OP1(Ex2, std::exp2(a))
OP1(Lg2, std::log2(a))
OP1(Sin, std::sin(a))
OP1(Cos, std::cos(a))
OP1(Tanh, std::tanh(a))
OP1(Same, a)

template <class T, bool left> static void shift(const Warp &w, const Inst &in, void *d)
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]);
    const u32 n = sizeof(T) * 8;
    EACH_LANE
    {
        T v = Num<T>::get(a, l, 0);
        u32 by = load<u32>(b, l);
        T most = std::is_signed<T>::value && v < 0 ? (T)-1 : 0; /* all bits shifted out */
        T in_range = left ? (T)((u64)v << (by & (n - 1))) : (T)(v >> (by & (n - 1)));
        Num<T>::put(d, l, 0, by < n ? in_range : left ? 0 : most);
    }
}

template <class From, class To, bool add> static void wide(const Warp &w, const Inst &in, void *d)
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]), *c = add ? w.row(in.op[3]) : a;
    EACH_LANE
    {
        u64 v = (u64)(To)Num<From>::get(a, l, 0) * (u64)(To)Num<From>::get(b, l, 0);
        Num<To>::put(d, l, 0, (To)(add ? v + (u64)Num<To>::get(c, l, 0) : v));
    }
}

template <class T> static void count_bits(const Warp &w, const Inst &in, void *d)
{
    const void *a = w.row(in.op[1]);
    EACH_LANE
    {
        u64 v = Num<T>::get(a, l, 0);
        u32 top = v ? 63 - __builtin_clzll(v) : ~0u;
        store<u32>(d, l,
                   in.mode == 'p'   ? (u32)__builtin_popcountll(v)
                   : in.mode == 'c' ? (u32)sizeof(T) * 8 - 1 - top
                                    : top);
    }
}

static u64 low_bits(u32 n)
{
    return n >= 64 ? ~0ull : (1ull << n) - 1;
}

template <class T> static void bit_field(const Warp &w, const Inst &in, void *d) /* bfe */
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]), *c = w.row(in.op[3]);
    const u32 n = sizeof(T) * 8;
    EACH_LANE
    {
        T v = load<T>(a, l);
        u32 from = load<u32>(b, l) & 255, size = load<u32>(c, l) & 255;
        u32 sign = from + size - 1 < n - 1 ? from + size - 1 : n - 1;
        u64 r = from < n ? (u64)v >> from & low_bits(n - from) & low_bits(size) : 0;
        if (std::is_signed<T>::value && size && (u64)v >> sign & 1)
            r |= ~low_bits(from < n ? (size < n - from ? size : n - from) : 0);
        store<T>(d, l, (T)r);
    }
}

template <class T> static void insert_field(const Warp &w, const Inst &in, void *d) /* bfi */
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]), *c = w.row(in.op[3]),
               *e = w.row(in.op[4]);
    EACH_LANE
    {
        u32 from = load<u32>(c, l) & 255, size = load<u32>(e, l) & 255;
        u64 mask = from < sizeof(T) * 8 ? low_bits(size) << from : 0;
        u64 put = from < 64 ? (u64)load<T>(a, l) << from : 0;
        store<T>(d, l, (T)((load<T>(b, l) & ~mask) | (put & mask)));
    }
}

static void funnel(const Warp &w, const Inst &in, void *d) /* shf */
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]), *c = w.row(in.op[3]);
    EACH_LANE
    {
        u64 v = load<u32>(a, l) | (u64)load<u32>(b, l) << 32;
        u32 by = load<u32>(c, l);
        by = in.trans ? (by < 32 ? by : 32) : by & 31; /* trans: .clamp */
        store<u32>(d, l, (u32)(in.mode == 'l' ? v << by >> 32 : v >> by));
    }
}

static void permute(const Warp &w, const Inst &in, void *d) /* prmt */
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]), *c = w.row(in.op[3]);
    EACH_LANE
    {
        u64 v = load<u32>(a, l) | (u64)load<u32>(b, l) << 32;
        u32 how = load<u32>(c, l), r = 0;
        for (int i = 0; i < 4; i++) {
            u32 q = how >> 4 * i & 15, byte = (u32)(v >> 8 * (q & 7) & 255);
            r |= (q & 8 ? byte & 128 ? 255u : 0u : byte) << 8 * i;
        }
        store<u32>(d, l, r);
    }
}

static void logic3(const Warp &w, const Inst &in, void *d) /* lop3 */
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]), *c = w.row(in.op[3]);
    u32 table = load<u32>(w.row(in.op[4]), 0);
    EACH_LANE
    {
        u32 x = load<u32>(a, l), y = load<u32>(b, l), z = load<u32>(c, l), r = 0;
        for (int i = 0; i < 8; i++)
            r |= table >> i & 1 ? (i & 4 ? x : ~x) & (i & 2 ? y : ~y) & (i & 1 ? z : ~z) : 0;
        store<u32>(d, l, r);
    }
}

template <class T> static void select(const Warp &w, const Inst &in, void *d) /* selp */
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]);
    u32 p = w.pred[in.op[3]];
    EACH_LANE store<T>(d, l, p >> l & 1 ? load<T>(a, l) : load<T>(b, l));
}

template <class C> static void select_sign(const Warp &w, const Inst &in, void *d) /* slct */
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]), *c = w.row(in.op[3]);
    EACH_LANE store<u32>(d, l, load<C>(c, l) >= 0 ? load<u32>(a, l) : load<u32>(b, l));
}

/* Packs the parts of a vector: mov.b32 d, {a, b}. */
static void pack(const Warp &w, const Inst &in, void *d)
{
    int n = in.srcs, part = in.type.bits / n;
    for (int l = 0; l < 32; l++) {
        u64 v = 0;
        for (int i = 0; i < n; i++)
            v |= (load<u32>(w.row(in.op[1 + i]), l) & low_bits(part)) << i * part;
        if (in.wide_result)
            store<u64>(d, l, v);
        else
            store<u32>(d, l, (u32)v);
    }
}

static void pack_halves(const Warp &w, const Inst &in, void *d) /* the usual pack */
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]);
    EACH_LANE store<u32>(d, l, (load<u32>(a, l) & 0xffff) | load<u32>(b, l) << 16);
}

static const u64 windows[] = {0, 0, 1ull << 60, 1ull << 61, 1ull << 62};

static void to_window(const Warp &w, const Inst &in, void *d) /* cvta */
{
    const void *a = w.row(in.op[1]);
    u64 add = in.mode == 't' ? -windows[in.space] : windows[in.space];
    EACH_LANE store<u64>(d, l, load<u64>(a, l) + add);
}

/* ---- conversions ---- */

template <class F, class T> static void simple_cvt(const Warp &w, const Inst &in, void *d)
{
    const void *a = w.row(in.op[1]);
    EACH_LANE T::put(d, l, 0, (typename T::V)F::get(a, l, 0));
}

template <class T> static void pair_cvt(const Warp &w, const Inst &in, void *d)
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]);
    EACH_LANE
    {
        T::put(d, l, 1, load<float>(a, l));
        T::put(d, l, 0, load<float>(b, l));
    }
}

typedef long double Exact; /* holds every s64, u64 and double */

static Exact read_exact(Type t, const void *row, int l)
{
    if (t.kind == 'f')
        return t.bits == 64   ? load<double>(row, l)
               : t.bits == 32 ? load<float>(row, l)
                              : half_to_float((u16)load<u32>(row, l));
    if (t.kind == 'q')
        return bf16_to_float((u16)load<u32>(row, l));
    u64 v = t.bits == 64 ? load<u64>(row, l) : load<u32>(row, l) & low_bits(t.bits);
    if (t.kind == 's')
        return (Exact)((s64)(v << (64 - t.bits)) >> (64 - t.bits));
    return (Exact)v;
}

/* The float next to x towards up or down, for a type of 16 or 32 bits in the upper bits of f. */
static float step(float f, bool up, u32 unit)
{
    u32 u = bits_as<u32>(f);
    if (f == 0)
        return bits_as<float>(unit | (up ? 0 : 0x80000000));
    return bits_as<float>((f > 0) == up ? u + unit : u - unit);
}

static u64 write_float(Type t, Exact x, char mode)
{
    if (t.bits == 64)
        return bits_as<u64>((double)x);
    float f = (float)x;
    if (t.bits == 32) {
        bool up = mode == 'p' || (mode == 'z' && x < 0);
        if (mode != 'n' && f != x && (f < x) == up && (mode == 'p' || mode == 'm' || mode == 'z'))
            f = step(f, up, 1);
        return bits_as<u32>(f);
    }
    if (t.kind == 'q') {
        u32 u = bits_as<u32>(f);
        return mode == 'z' ? u >> 16 : float_to_bf16(f);
    }
    u16 h = float_to_half(f);
    if (mode == 'z' && fabsf(half_to_float(h)) > fabsf(f))
        h--;
    return h;
}

/* Any cvt. mode: how to round (n z m p), trans: to an integer (.rni and so on). */
static void any_cvt(const Warp &w, const Inst &in, void *d)
{
    Type to = in.type, from = {(char)(in.target >> 8), (u8)(in.target & 255), 1};
    bool real = to.kind == 'f' || to.kind == 'q';
    for (int l = 0; l < 32; l++) {
        Exact x = read_exact(from, w.row(in.op[1]), l);
        if (in.trans)
            x = in.mode == 'n'   ? rintl(x)
                : in.mode == 'z' ? truncl(x)
                : in.mode == 'm' ? floorl(x)
                                 : ceill(x);
        u64 v;
        if (real) {
            if (in.nc) /* .sat */
                x = x > 0 ? x < 1 ? x : 1 : 0;
            v = write_float(to, x, in.trans ? 'n' : in.mode);
        } else {
            bool s = to.kind == 's';
            Exact low = s ? -ldexpl(1, to.bits - 1) : 0, high = ldexpl(1, to.bits - s) - 1;
            x = x != x ? 0 : x < low ? low : x > high ? high : x;
            v = s ? (u64)(s64)x : (u64)x;
        }
        if (to.bits == 64)
            store<u64>(d, l, v);
        else
            store<u32>(d, l, (u32)v);
    }
}

template <class F> static Pure cvt_from(Type to)
{
    bool s = to.kind == 's';
    if (to.kind == 'f')
        return to.bits == 64   ? simple_cvt<F, Num<double>>
               : to.bits == 32 ? simple_cvt<F, Num<float>>
                               : simple_cvt<F, Half>;
    if (to.kind == 'q')
        return simple_cvt<F, Bf16>;
    if (to.bits == 64)
        return s ? simple_cvt<F, Num<s64>> : simple_cvt<F, Num<u64>>;
    if (to.bits == 32)
        return s ? simple_cvt<F, Num<s32>> : simple_cvt<F, Num<u32>>;
    if (to.bits == 16)
        return s ? simple_cvt<F, Num<s16>> : simple_cvt<F, Num<u16>>;
    return s ? simple_cvt<F, Num<s8>> : simple_cvt<F, Num<u8>>;
}

static Pure pick_cvt(Draft &d)
{
    Type to = d.types[0], from = d.types.size() > 1 ? d.types[1] : to;
    bool real_to = to.kind == 'f' || to.kind == 'q', real = from.kind == 'f' || from.kind == 'q';
    char round = 0;
    for (const string &m : d.mods)
        if (m.size() >= 2 && m.size() <= 3 && m[0] == 'r' && strchr("nzmp", m[1])) {
            round = m[1];
            d.in.trans = m.size() == 3;
        }
    if (d.has("relu") || d.has("satfinite") || to.bits < 8 || from.kind == 0)
        return nullptr;
    if (to.lanes == 2)
        return round != 'n' ? nullptr : to.kind == 'q' ? pair_cvt<Bf16x2> : pair_cvt<Half2>;
    d.in.nc = d.has("sat");
    bool simple = !d.in.nc && !d.in.trans && (round == 0 || round == 'n') && real <= real_to;
    if (!simple) {
        d.in.mode = round;
        d.in.target = from.kind << 8 | from.bits;
        return any_cvt;
    }
    if (from.kind == 'q')
        return cvt_from<Bf16>(to);
    if (real)
        return from.bits == 64   ? cvt_from<Num<double>>(to)
               : from.bits == 32 ? cvt_from<Num<float>>(to)
                                 : cvt_from<Half>(to);
    bool s = from.kind == 's';
    if (from.bits == 64)
        return s ? cvt_from<Num<s64>>(to) : cvt_from<Num<u64>>(to);
    if (from.bits == 32)
        return s ? cvt_from<Num<s32>>(to) : cvt_from<Num<u32>>(to);
    if (from.bits == 16)
        return s ? cvt_from<Num<s16>>(to) : cvt_from<Num<u16>>(to);
    return s ? cvt_from<Num<s8>>(to) : cvt_from<Num<u8>>(to);
}

/* ---- predicates ---- */

template <class T, class F> static u32 compare_lanes(const void *a, const void *b, int h)
{
    u32 r = 0;
    for (int l = 0; l < 32; l++)
        r |= (u32)(bool)F()(T::get(a, l, h), T::get(b, l, h)) << l;
    return r;
}

OP2(Eq, a == b)
OP2(Ne, a<b || a> b)
OP2(Lt, a < b)
OP2(Le, a <= b)
OP2(Gt, a > b)
OP2(Ge, a >= b)
OP2(Equ, !(a < b || a > b))
OP2(Neu, a != b)
OP2(Ltu, !(a >= b))
OP2(Leu, !(a > b))
OP2(Gtu, !(a <= b))
OP2(Geu, !(a < b))
OP2(Nan, a != a || b != b)
OP2(Ordered, a == a && b == b)

typedef u32 (*Compare)(const void *, const void *, int);

template <class F> static Compare compare_of(Type t)
{
    bool s = t.kind == 's';
    if (t.kind == 'f')
        return t.bits == 64   ? compare_lanes<Num<double>, F>
               : t.bits == 32 ? compare_lanes<Num<float>, F>
               : t.lanes == 2 ? compare_lanes<Half2, F>
                              : compare_lanes<Half, F>;
    if (t.kind == 'q')
        return t.lanes == 2 ? compare_lanes<Bf16x2, F> : compare_lanes<Bf16, F>;
    if (t.bits == 64)
        return s ? compare_lanes<Num<s64>, F> : compare_lanes<Num<u64>, F>;
    if (t.bits == 32)
        return s ? compare_lanes<Num<s32>, F> : compare_lanes<Num<u32>, F>;
    return s ? compare_lanes<Num<s16>, F> : compare_lanes<Num<u16>, F>;
}

static Compare pick_comparison(const Draft &d, Type t)
{
    bool real = t.kind == 'f' || t.kind == 'q';
    return d.has("eq")                  ? compare_of<Eq>(t)
           : d.has("ne")                ? real ? compare_of<Ne>(t) : compare_of<Neu>(t)
                          : d.has("lt") || d.has("lo") ? compare_of<Lt>(t)
           : d.has("le") || d.has("ls") ? compare_of<Le>(t)
           : d.has("gt") || d.has("hi") ? compare_of<Gt>(t)
           : d.has("ge") || d.has("hs") ? compare_of<Ge>(t)
           : d.has("equ")               ? compare_of<Equ>(t)
           : d.has("neu")               ? compare_of<Neu>(t)
           : d.has("ltu")               ? compare_of<Ltu>(t)
           : d.has("leu")               ? compare_of<Leu>(t)
           : d.has("gtu")               ? compare_of<Gtu>(t)
           : d.has("geu")               ? compare_of<Geu>(t)
           : d.has("nan")               ? compare_of<Nan>(t)
           : d.has("num")               ? compare_of<Ordered>(t)
                                        : nullptr;
}

static void put_predicate(Warp &w, u32 to, u32 value, u32 mask)
{
    w.pred[to] = (w.pred[to] & ~mask) | (value & mask);
}

static u32 combined(char mode, u32 a, u32 b)
{
    return mode == '&' ? a & b : mode == '|' ? a | b : mode == '^' ? a ^ b : mode == '~' ? ~a : a;
}

static void set_predicate(Warp &w, const Inst &in, u32 mask) /* setp.lt.and.f32 p|q, a, b, c */
{
    const void *a = w.row(in.op[in.dsts]), *b = w.row(in.op[in.dsts + 1]);
    u32 p = in.compare(a, b, 0), q = in.type.lanes == 2 ? in.compare(a, b, 1) : ~p;
    u32 c = in.srcs > 2 ? w.pred[in.op[in.dsts + 2]] ^ (in.trans ? ~0u : 0) : 0;
    put_predicate(w, in.op[0], combined(in.mode, p, c), mask);
    if (in.dsts > 1)
        put_predicate(w, in.op[1], combined(in.mode, q, c), mask);
}

static void set_value(Warp &w, const Inst &in, u32 mask) /* set.lt.f16x2.f16x2 d, a, b */
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]);
    u32 one = in.target, lanes[2] = {in.compare(a, b, 0), 0};
    if (in.type.lanes == 2)
        lanes[1] = in.compare(a, b, 1);
    for (int l = 0; l < 32; l++)
        if (mask >> l & 1)
            store<u32>(w.row(in.op[0]), l,
                       (lanes[0] >> l & 1 ? one : 0) | (lanes[1] >> l & 1 ? one << 16 : 0));
}

static void logic(Warp &w, const Inst &in, u32 mask) /* and.pred and so on */
{
    u32 b = in.srcs > 1 ? w.pred[in.op[2]] : 0;
    put_predicate(w, in.op[0], combined(in.mode, w.pred[in.op[1]], b), mask);
}

bool pick_compare(Draft &d)
{
    const string &n = d.name;
    if (n != "setp" && n != "set" && d.in.type.kind != 'p')
        return false;
    d.in.mode = d.has("and")   ? '&'
                : d.has("or")  ? '|'
                : d.has("xor") ? '^'
                : d.has("not") ? '~'
                               : 0;
    if (n == "setp") {
        d.in.act = set_predicate;
        d.in.compare = pick_comparison(d, d.in.type);
        return d.in.compare;
    }
    if (n == "set") {
        Type t = d.in.type;
        d.in.compare =
            d.mods.size() == 4 || d.has("ftz") ? pick_comparison(d, d.types.back()) : nullptr;
        d.in.act = set_value;
        d.in.target = t.kind == 'q'   ? 0x3f80
                      : t.kind != 'f' ? -1
                      : t.bits == 16  ? 0x3c00
                                      : 0x3f800000;
        return d.in.compare && d.types.size() == 2 && t.bits <= 32;
    }
    d.in.act = logic;
    return d.in.type.kind == 'p' && d.dst.size() == 1 && d.dst[0].kind == PREDICATE &&
           (n == "mov" || n == "and" || n == "or" || n == "xor" || n == "not");
}

/* ---- which instruction is which ---- */

template <bool add> static Pure pick_wide(Type t)
{
    bool s = t.kind == 's';
    if (t.bits == 16)
        return s ? wide<s16, s32, add> : wide<u16, u32, add>;
    return s ? wide<s32, s64, add> : wide<u32, u64, add>;
}

static Pure pick_integer(Draft &d)
{
    Type t = d.in.type;
    const string &n = d.name;
    bool s = t.kind == 's';
    if (n == "mul" || n == "mad") {
        bool mad = n == "mad";
        if (d.has("wide"))
            return mad ? pick_wide<true>(t) : pick_wide<false>(t);
        if (d.has("hi"))
            return mad ? ints<MadHi, 3>(t) : ints<MulHi, 2>(t);
        return mad ? bits<Mad, 3>(t) : bits<Mul, 2>(t);
    }
    if (n == "shl")
        return t.bits == 64 ? shift<u64, true> : t.bits == 32 ? shift<u32, true> : shift<u16, true>;
    if (n == "shr")
        return t.bits == 64   ? s ? shift<s64, false> : shift<u64, false>
                 : t.bits == 32 ? s ? shift<s32, false> : shift<u32, false>
                 : s ? shift<s16, false>
                              : shift<u16, false>;
    if (n == "bfe")
        return t.bits == 64 ? s ? bit_field<s64> : bit_field<u64>
               : s ? bit_field<s32>
                            : bit_field<u32>;
    if (n == "bfi")
        return t.bits == 64 ? insert_field<u64> : insert_field<u32>;
    if (n == "popc" || n == "clz" || (n == "bfind" && !s && !d.has("shiftamt"))) {
        d.in.mode = n[0];
        return t.bits == 64 ? count_bits<u64> : count_bits<u32>;
    }
    if (n == "shf") {
        d.in.mode = d.has("l") ? 'l' : 'r';
        d.in.trans = d.has("clamp");
        return funnel;
    }
    if (n == "prmt")
        return d.mods.size() == 2 ? permute : nullptr;
    return n == "neg"    ? bits<NegInt, 1>(t)
           : n == "abs"  ? ints<AbsInt, 1>(t)
           : n == "div"  ? ints<DivInt, 2>(t)
           : n == "rem"  ? ints<Rem, 2>(t)
           : n == "min"  ? ints<MinInt, 2>(t)
           : n == "max"  ? ints<MaxInt, 2>(t)
           : n == "and"  ? bits<And, 2>(t)
           : n == "or"   ? bits<Or, 2>(t)
           : n == "xor"  ? bits<Xor, 2>(t)
           : n == "not"  ? bits<Not, 1>(t)
           : n == "brev" ? bits<Brev, 1>(t)
           : n == "lop3" ? logic3
                         : nullptr;
}

static Pure pick_float(Draft &d)
{
    const string &n = d.name;
    if (n == "min")
        return d.has("NaN") ? floats<MinNan, 2>(d) : floats<Min, 2>(d);
    if (n == "max")
        return d.has("NaN") ? floats<MaxNan, 2>(d) : floats<Max, 2>(d);
    return n == "mul"                 ? floats<Mul, 2>(d)
           : n == "fma" || n == "mad" ? floats<Fma, 3>(d)
           : n == "div"               ? floats<Div, 2>(d)
           : n == "neg"               ? floats<Neg, 1>(d)
           : n == "abs"               ? floats<Abs, 1>(d)
           : n == "sqrt"              ? floats<Sqrt, 1>(d)
           : n == "rcp"               ? floats<Rcp, 1>(d)
           : n == "rsqrt"             ? floats<Rsqrt, 1>(d)
           : n == "ex2"               ? floats<Ex2, 1>(d)
           : n == "lg2"               ? floats<Lg2, 1>(d)
           : n == "sin"               ? floats<Sin, 1>(d)
           : n == "cos"               ? floats<Cos, 1>(d)
           : n == "tanh"              ? floats<Tanh, 1>(d)
           : n == "copysign"          ? floats<Copysign, 2>(d)
                                      : nullptr;
}

bool pick_pure(Draft &d)
{
    Type t = d.in.type;
    const string &n = d.name;
    bool real = t.kind == 'f' || t.kind == 'q';
    Pure p = nullptr;
    d.in.flow = PURE;
    d.in.wide_result = !d.dst.empty() && d.dst[0].kind == LONG;
    if (d.dst.size() != 1 || d.dst[0].kind == PREDICATE || d.has("cc") || n == "addc" ||
        n == "subc")
        return false;
    if (n == "add")
        p = any<Add, 2>(d);
    else if (n == "sub")
        p = any<Sub, 2>(d);
    else if (n == "selp")
        p = t.bits == 64 ? select<u64> : select<u32>;
    else if (n == "slct" && t.bits == 32)
        p = d.types[1].kind == 'f' ? select_sign<float> : select_sign<s32>;
    else if (n == "cvt")
        p = pick_cvt(d);
    else if (n == "mov" && d.src.size() == 1)
        p = bits<Same, 1>(t);
    else if (n == "mov")
        p = d.src.size() == 2 && t.bits == 32 ? pack_halves : pack;
    else if (n == "cvta") {
        d.in.mode = d.has("to") ? 't' : 0;
        p = to_window;
    } else
        p = real ? pick_float(d) : pick_integer(d);
    d.in.pure = p;
    return p != nullptr;
}
