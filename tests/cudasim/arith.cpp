/* arith.cpp - instructions that compute each lane of a result from the same lane of the sources.
 * They compute all 32 lanes, in loops the compiler can vectorise; the caller keeps those that
 * count. */
#include "lanes.h"

#include <fenv.h>

/* ---- functions of one to three numbers ---- */

template <class T> static T magnitude(T a)
{
    if constexpr (std::is_floating_point<T>::value)
        return std::fabs(a);
    else
        return a < 0 ? 0 - a : a;
}
template <class T> static T divided(T a, T b) /* integers never trap */
{
    if constexpr (std::is_floating_point<T>::value)
        return a / b;
    else if constexpr (std::is_signed<T>::value)
        return b == 0 ? (T)-1 : b == -1 ? (T)(0 - (u64)a) : a / b;
    else
        return b == 0 ? (T)-1 : a / b;
}
template <class T> static T remainder_of(T a, T b)
{
    return b == 0 ? a : std::is_signed<T>::value && b == (T)-1 ? 0 : a % b;
}
template <class T> static T high_product(T a, T b)
{
    typedef
        typename std::conditional<std::is_signed<T>::value, __int128, unsigned __int128>::type W;
    return (T)((W)a * (W)b >> sizeof(T) * 8);
}
template <class T> static T reversed(T a)
{
    T r = 0;
    for (u32 i = 0; i < sizeof(T) * 8; i++)
        r |= (a >> i & 1) << (sizeof(T) * 8 - 1 - i);
    return r;
}
static u64 low_bits(u32 n)
{
    return n >= 64 ? ~0ull : (1ull << n) - 1;
}

/* ---- loops over lanes ---- */

template <class T, class F, int n> static void apply(const Warp &w, const Inst &in, void *d)
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[n > 1 ? 2 : 1]), *c = w.row(in.op[n]);
    EACH_LANE for (int h = 0; h < T::N; h++)
        T::put(d, l, h, F::of(T::get(a, l, h), T::get(b, l, h), T::get(c, l, h)));
}

/* .rz .rm .rp: the processor rounds the same way. */
template <class T, class F, int n> static void rounded(const Warp &w, const Inst &in, void *d)
{
    Pure p = apply<T, F, n>;
    fesetround(in.mode == 'z' ? FE_TOWARDZERO : in.mode == 'm' ? FE_DOWNWARD : FE_UPWARD);
    asm volatile("" : "+r"(p)); /* keeps the computation between the two */
    p(w, in, d);
    fesetround(FE_TONEAREST);
}

/* The forms of a function: of reals, of integers (the sign matters), of bits (it does not). */
template <class F, int n> static Pure reals(Draft &d)
{
    d.in.mode = d.has("rz") ? 'z' : d.has("rm") ? 'm' : d.has("rp") ? 'p' : 0;
    if (d.has("relu") || (d.in.mode && (d.in.type.bits == 16 || d.in.type.extra)))
        return nullptr;
    if (d.in.mode)
        return d.in.type.bits == 64 ? rounded<Num<double>, F, n> : rounded<Num<float>, F, n>;
    return visit_real(d.in.type, [](auto t) -> Pure { return apply<decltype(t), F, n>; });
}
template <class F, int n> static Pure ints(Draft &d)
{
    if (d.has("sat") || d.in.type.lanes == 2)
        return nullptr;
    return visit_int(d.in.type, [](auto t) -> Pure { return apply<decltype(t), F, n>; });
}
template <class F, int n> static Pure bits(Draft &d)
{
    if (d.has("sat"))
        return nullptr;
    return d.in.type.bits == 64 ? apply<Num<u64>, F, n> : apply<Num<u32>, F, n>;
}
template <class F, int n> static Pure all(Draft &d)
{
    return is_real(d.in.type) ? reals<F, n>(d) : bits<F, n>(d);
}
template <class F, int n> static Pure both(Draft &d)
{
    return is_real(d.in.type) ? reals<F, n>(d) : ints<F, n>(d);
}

typedef Pure (*Maker)(Draft &d);
static std::map<string, Maker> &makers(void)
{
    static std::map<string, Maker> m;
    return m;
}
static bool make(const char *name, Maker maker)
{
    makers()[name] = maker;
    return true;
}

/* An instruction, the types it has, the number of its sources a b c, and its result. */
#define FUNCTION(name, types, n, result)                                                           \
    struct name##_function {                                                                       \
        template <class T> static T of(T a, T b, T c)                                              \
        {                                                                                          \
            (void)a, (void)b, (void)c;                                                             \
            return (T)(result);                                                                    \
        }                                                                                          \
    };                                                                                             \
    static bool name##_made = make(#name, types<name##_function, n>);

FUNCTION(add, all, 2, a + b)
FUNCTION(sub, all, 2, a - b)
FUNCTION(mul, all, 2, a *b)
FUNCTION(mad, bits, 3, a *b + c)
FUNCTION(fma, reals, 3, std::fma(a, b, c))
FUNCTION(neg, all, 1, -a)
FUNCTION(abs, both, 1, magnitude(a))
FUNCTION(div, both, 2, divided(a, b))
FUNCTION(rem, ints, 2, remainder_of(a, b))
FUNCTION(min, both, 2, b != b || a < b ? a : b)
FUNCTION(max, both, 2, b != b || a > b ? a : b)
FUNCTION(min_nan, reals, 2, a != a || a < b ? a : b)
FUNCTION(max_nan, reals, 2, a != a || a > b ? a : b)
FUNCTION(mul_hi, ints, 2, high_product(a, b))
FUNCTION(mad_hi, ints, 3, high_product(a, b) + c)
FUNCTION(mov, bits, 1, a)
FUNCTION(and_b, bits, 2, a &b)
FUNCTION(or_b, bits, 2, a | b)
FUNCTION(xor_b, bits, 2, a ^ b)
FUNCTION(not_b, bits, 1, ~a)
FUNCTION(brev, bits, 1, reversed(a))
FUNCTION(copysign, reals, 2, std::copysign(b, a))
FUNCTION(rcp, reals, 1, 1 / a)
FUNCTION(sqrt, reals, 1, std::sqrt(a))
FUNCTION(rsqrt, reals, 1, 1 / std::sqrt(a))
FUNCTION(ex2, reals, 1, std::exp2(a))
FUNCTION(lg2, reals, 1, std::log2(a))
FUNCTION(sin, reals, 1, std::sin(a))
FUNCTION(cos, reals, 1, std::cos(a))
FUNCTION(tanh, reals, 1, std::tanh(a))

/* ---- functions with sources of several types ---- */

template <class T, bool left> static void shift(const Warp &w, const Inst &in, void *d)
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]);
    const u32 n = sizeof(typename T::V) * 8;
    EACH_LANE
    {
        auto v = T::get(a, l, 0);
        u32 by = load<u32>(b, l), most = by < n ? by : n - 1;
        T::put(d, l, 0, left ? by < n ? (u64)v << most : 0 : by < n || v < 0 ? v >> most : 0);
    }
}
static Pure shl(Draft &d)
{
    return visit_int(d.in.type, [](auto t) -> Pure { return shift<decltype(t), true>; });
}
static Pure shr(Draft &d)
{
    return visit_int(d.in.type, [](auto t) -> Pure { return shift<decltype(t), false>; });
}

template <class From, class To, bool add> static void wide(const Warp &w, const Inst &in, void *d)
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]), *c = w.row(in.op[add ? 3 : 1]);
    EACH_LANE
    {
        u64 v = (u64)(To)Num<From>::get(a, l, 0) * (u64)(To)Num<From>::get(b, l, 0);
        store<To>(d, l, (To)(add ? v + (u64)load<To>(c, l) : v));
    }
}
template <bool add> static Pure pick_wide(Draft &d)
{
    bool s = d.in.type.kind == 's', narrow = d.in.type.bits == 16;
    return narrow ? s ? wide<s16, s32, add> : wide<u16, u32, add>
           : s ? wide<s32, s64, add>
                  : wide<u32, u64, add>;
}

template <class T> static void count_bits(const Warp &w, const Inst &in, void *d)
{
    EACH_LANE
    {
        T a = load<T>(w.row(in.op[1]), l);
        u64 v = in.mode == 'b' && a < 0 ? ~a : a; /* bfind looks for what is not the sign */
        u32 top =
            v & low_bits(sizeof(T) * 8) ? 63 - __builtin_clzll(v & low_bits(sizeof(T) * 8)) : ~0u;
        u32 above = sizeof(T) * 8 - 1 - top;
        store<u32>(d, l,
                   in.mode == 'p'   ? __builtin_popcountll(v & low_bits(sizeof(T) * 8))
                   : in.mode == 'c' ? above
                   : in.option && v ? above
                                    : top);
    }
}
static Pure bit_count(Draft &d) /* popc, clz, bfind */
{
    bool s = d.in.type.kind == 's';
    d.in.mode = d.name[0];
    d.in.option = d.has("shiftamt");
    return d.in.type.bits == 64 ? s ? count_bits<s64> : count_bits<u64>
           : s ? count_bits<s32>
                                : count_bits<u32>;
}

template <class T> static void get_field(const Warp &w, const Inst &in, void *d)
{
    EACH_LANE
    {
        const u32 n = sizeof(T) * 8, from = load<u8>(w.row(in.op[2]), 4 * l);
        u32 size = load<u8>(w.row(in.op[3]), 4 * l), top = std::min(from + size, n) - 1;
        u64 v = load<T>(w.row(in.op[1]), l);
        u64 r = from < n ? (v & low_bits(n)) >> from & low_bits(size) : 0;
        if (std::is_signed<T>::value && size && v >> std::min(top, n - 1) & 1)
            r |= ~low_bits(from < n ? top - from + 1 : 0);
        store<T>(d, l, (T)r);
    }
}
static Pure bfe(Draft &d)
{
    bool s = d.in.type.kind == 's';
    return d.in.type.bits == 64 ? s ? get_field<s64> : get_field<u64>
           : s ? get_field<s32>
                                : get_field<u32>;
}

template <class T> static void put_field(const Warp &w, const Inst &in, void *d)
{
    EACH_LANE
    {
        u32 from = load<u8>(w.row(in.op[3]), 4 * l), size = load<u8>(w.row(in.op[4]), 4 * l);
        u64 mask = from < sizeof(T) * 8 ? low_bits(size) << from : 0;
        u64 put = (u64)load<T>(w.row(in.op[1]), l) << (from & 63);
        store<T>(d, l, (T)((load<T>(w.row(in.op[2]), l) & ~mask) | (put & mask)));
    }
}
static Pure bfi(Draft &d)
{
    return d.in.type.bits == 64 ? put_field<u64> : put_field<u32>;
}

/* Instructions of three 32-bit sources: shf, prmt, lop3. */
template <u32 (*f)(const Inst &in, u32 a, u32 b, u32 c, u32 table)>
static void three_words(const Warp &w, const Inst &in, void *d)
{
    u32 table = in.srcs > 3 ? load<u32>(w.row(in.op[4]), 0) : 0;
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]), *c = w.row(in.op[3]);
    EACH_LANE store<u32>(d, l, f(in, load<u32>(a, l), load<u32>(b, l), load<u32>(c, l), table));
}
static u32 funnel(const Inst &in, u32 a, u32 b, u32 c, u32)
{
    u64 v = a | (u64)b << 32;
    c = in.option ? std::min(c, 32u) : c & 31;
    return (u32)(in.mode == 'l' ? v << c >> 32 : v >> c);
}
static u32 permute(const Inst &, u32 a, u32 b, u32 c, u32)
{
    u64 v = a | (u64)b << 32;
    u32 r = 0;
    for (int i = 0; i < 4; i++) {
        u32 q = c >> 4 * i & 15, byte = v >> 8 * (q & 7) & 255;
        r |= (q & 8 ? byte & 128 ? 255u : 0u : byte) << 8 * i;
    }
    return r;
}
static u32 logic3(const Inst &, u32 a, u32 b, u32 c, u32 table)
{
    u32 r = 0;
    for (int i = 0; i < 8; i++)
        r |= table >> i & 1 ? (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c) : 0;
    return r;
}
static Pure pick_three(Draft &d)
{
    d.in.mode = d.has("l") ? 'l' : 'r';
    d.in.option = d.has("clamp");
    return d.name == "shf"     ? three_words<funnel>
           : d.name == "lop3"  ? three_words<logic3>
           : d.mods.size() > 2 ? nullptr
                               : three_words<permute>;
}

template <class T> static void select(const Warp &w, const Inst &in, void *d)
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]);
    u32 p = w.pred[in.op[3]];
    EACH_LANE store<T>(d, l, p >> l & 1 ? load<T>(a, l) : load<T>(b, l));
}
static Pure selp(Draft &d)
{
    return d.in.type.bits == 64 ? select<u64> : select<u32>;
}

static void join(const Warp &w, const Inst &in, void *d) /* mov.b32 d, {a, b} */
{
    int part = in.type.bits / in.srcs;
    for (int l = 0; l < 32; l++) {
        u64 v = 0;
        for (int i = 0; i < in.srcs; i++)
            v |= (load<u32>(w.row(in.op[1 + i]), l) & low_bits(part)) << i * part;
        if (in.wide)
            store<u64>(d, l, v);
        else
            store<u32>(d, l, (u32)v);
    }
}
static void join_halves(const Warp &w, const Inst &in, void *d) /* the usual one */
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]);
    EACH_LANE store<u32>(d, l, (load<u32>(a, l) & 0xffff) | load<u32>(b, l) << 16);
}

static void to_window(const Warp &w, const Inst &in, void *d) /* spaces in the generic one */
{
    static const u64 windows[] = {0, 0, 1ull << 60, 1ull << 61, 1ull << 62};
    u64 add = in.option ? -windows[in.space] : windows[in.space];
    EACH_LANE store<u64>(d, l, load<u64>(w.row(in.op[1]), l) + add);
}
static Pure cvta(Draft &d)
{
    d.in.option = d.has("to");
    return to_window;
}

bool pick_pure(Draft &d)
{
    static const std::map<string, Maker> special = {{"shl", shl},
                                                    {"shr", shr},
                                                    {"popc", bit_count},
                                                    {"bfind", bit_count},
                                                    {"clz", bit_count},
                                                    {"bfe", bfe},
                                                    {"bfi", bfi},
                                                    {"shf", pick_three},
                                                    {"prmt", pick_three},
                                                    {"lop3", pick_three},
                                                    {"selp", selp},
                                                    {"cvta", cvta},
                                                    {"cvt", pick_cvt},
                                                    {"mul_wide", pick_wide<false>},
                                                    {"mad_wide", pick_wide<true>}};
    string n = d.name;
    d.in.flow = PURE;
    if (d.dst.size() != 1 || d.dst[0].kind == PREDICATE || d.has("cc"))
        return false;
    if (n == "mov" && d.src.size() > 1) {
        d.in.pure = d.src.size() == 2 && d.in.type.bits == 32 ? join_halves : join;
        return true;
    }
    if (n == "and" || n == "or" || n == "xor" || n == "not")
        n += "_b";
    else if (n == "mad" && is_real(d.in.type))
        n = "fma";
    else if (d.has("NaN"))
        n += "_nan";
    else if (d.has("wide") || d.has("hi"))
        n += d.has("hi") ? "_hi" : "_wide";
    auto s = special.find(n);
    auto m = makers().find(n);
    d.in.pure = s != special.end() ? s->second(d) : m != makers().end() ? m->second(d) : nullptr;
    return d.in.pure;
}
