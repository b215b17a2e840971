/* convert.cpp - conversions from one type to another, and comparisons, whose results are
 * predicates.
 */
#include "lanes.h"

/* ---- conversions ---- */

template <class T> struct Low : Num<T> { /* of a register that is wider */
    static T get(const void *r, int l, int)
    {
        return (T)load<u64>(r, l);
    }
};

template <class From, class To> static void convert(const Warp &w, const Inst &in, void *d)
{
    const void *a = w.row(in.op[1]);
    EACH_LANE To::put(d, l, 0, (typename To::V)From::get(a, l, 0));
}

/* With a rounding of its own, or a result that may be out of range. */
template <class To> static void convert_rounded(const Warp &w, const Inst &in, void *d)
{
    typedef typename To::V V;
    typedef long double Exact; /* holds every s64, u64 and double */
    const void *a = w.row(in.op[1]);
    for (int l = 0; l < 32; l++) {
        Exact x = visit(in.from, [&](auto f) { return (Exact) decltype(f)::get(a, l, 0); });
        if (in.option)
            x = in.mode == 'n'   ? rintl(x)
                : in.mode == 'z' ? truncl(x)
                : in.mode == 'm' ? floorl(x)
                                 : ceill(x);
        if constexpr (std::is_floating_point<V>::value) {
            V r = (V)(in.type.extra != 's' ? x : x > 0 ? x < 1 ? x : 1 : 0);
            bool up = !in.option && r < x && (in.mode == 'p' || (in.mode == 'z' && x < 0));
            bool down = !in.option && r > x && (in.mode == 'm' || (in.mode == 'z' && x > 0));
            To::put(d, l, 0, up || down ? std::nextafter(r, (V)(up ? INFINITY : -INFINITY)) : r);
        } else {
            Exact most = std::numeric_limits<V>::max(), least = std::numeric_limits<V>::min();
            To::put(d, l, 0, x != x ? 0 : (V)std::min(std::max(x, least), most));
        }
    }
}

template <class T> static void convert_pair(const Warp &w, const Inst &in, void *d)
{
    const void *a = w.row(in.op[1]), *b = w.row(in.op[2]);
    EACH_LANE for (int h = 0; h < 2; h++) T::put(d, l, h, load<float>(h ? a : b, l));
}

Pure pick_cvt(Draft &d)
{
    Type to = d.types[0], from = d.in.from = d.types[d.types.size() - 1];
    if (d.has("relu") || d.has("satfinite") || d.types.size() != 2 || d.in.wide != (to.bits == 64))
        return nullptr;
    for (const string &m : d.mods)
        if (m.size() >= 2 && m.size() <= 3 && m[0] == 'r' && strchr("nzmp", m[1])) {
            d.in.mode = m[1];
            d.in.option = m.size() == 3; /* .rni and so on: to a whole number */
        }
    if (to.lanes == 2)
        return d.in.mode != 'n' ? nullptr
               : to.kind == 'q' ? convert_pair<Bf16x2>
                                : convert_pair<Half2>;
    bool exact = !d.in.option && (!d.in.mode || d.in.mode == 'n') && d.in.type.extra != 's';
    if (is_real(to) && to.bits == 16 && !exact && !d.in.option)
        return nullptr;
    from.extra = to.extra = d.in.from.extra = 0;
    if (d.src[0].kind == LONG && from.bits < 64)
        return !exact || is_real(from) ? nullptr : visit(to, [&](auto t) {
            return visit_int(from, [](auto f) -> Pure {
                return convert<Low<typename decltype(f)::V>, decltype(t)>;
            });
        });
    if (!exact)
        return visit(to, [](auto t) -> Pure { return convert_rounded<decltype(t)>; });
    return visit(to, [&](auto t) {
        return visit(from, [](auto f) -> Pure { return convert<decltype(f), decltype(t)>; });
    });
}

/* ---- predicates ---- */

template <class T, class F> static u32 compare_lanes(const void *a, const void *b, int h)
{
    u32 r = 0;
    for (int l = 0; l < 32; l++)
        r |= (u32)F::of(T::get(a, l, h), T::get(b, l, h)) << l;
    return r;
}
template <class F> static Compare comparison(Type t)
{
    return visit(t, [](auto k) -> Compare { return compare_lanes<decltype(k), F>; });
}
static std::map<string, Compare (*)(Type)> &comparisons(void)
{
    static std::map<string, Compare (*)(Type)> m;
    return m;
}
#define COMPARISON(name, result)                                                                   \
    struct name##_comparison {                                                                     \
        template <class T> static bool of(T a, T b)                                                \
        {                                                                                          \
            return result;                                                                         \
        }                                                                                          \
    };                                                                                             \
    static auto name##_known = comparisons()[#name] = comparison<name##_comparison>;

COMPARISON(eq, a == b)
COMPARISON(ne, a<b || a> b)
COMPARISON(lt, a < b)
COMPARISON(le, a <= b)
COMPARISON(gt, a > b)
COMPARISON(ge, a >= b)
COMPARISON(equ, !(a < b || a > b))
COMPARISON(neu, !(a == b))
COMPARISON(ltu, !(a >= b))
COMPARISON(leu, !(a > b))
COMPARISON(gtu, !(a <= b))
COMPARISON(geu, !(a < b))
COMPARISON(lo, a < b)
COMPARISON(ls, a <= b)
COMPARISON(hi, a > b)
COMPARISON(hs, a >= b)
COMPARISON(nan, !(a == a) || !(b == b))
COMPARISON(num, a == a && b == b)

static u32 combined(char mode, u32 a, u32 b)
{
    return mode == '&' ? a & b : mode == '|' ? a | b : mode == '^' ? a ^ b : mode == '~' ? ~a : a;
}
static void put_predicate(Warp &w, u32 to, u32 value, u32 mask)
{
    w.pred[to] = (w.pred[to] & ~mask) | (value & mask);
}

static void set_predicate(Warp &w, const Inst &in, u32 mask) /* setp.lt.and.f32 p|q, a, b, c */
{
    const u32 *s = in.op + in.dsts;
    u32 p = in.compare(w.row(s[0]), w.row(s[1]), 0), q = ~p;
    if (in.type.lanes == 2)
        q = in.compare(w.row(s[0]), w.row(s[1]), 1);
    u32 c = in.srcs > 2 ? w.pred[s[2]] ^ (in.option ? ~0u : 0) : 0;
    put_predicate(w, in.op[0], combined(in.mode, p, c), mask);
    if (in.dsts > 1)
        put_predicate(w, in.op[1], combined(in.mode, q, c), mask);
}

static void set_value(Warp &w, const Inst &in, u32 mask) /* set.lt.f16x2.f16x2 d, a, b */
{
    u32 one = in.target, low = in.compare(w.row(in.op[1]), w.row(in.op[2]), 0), high = 0;
    if (in.type.lanes == 2)
        high = in.compare(w.row(in.op[1]), w.row(in.op[2]), 1);
    EACH(mask) store<u32>(w.row(in.op[0]), l, (low >> l & 1) * one | (high >> l & 1) * one << 16);
}

static void logic(Warp &w, const Inst &in, u32 mask) /* and.pred and so on */
{
    u32 b = in.srcs > 1 ? w.pred[in.op[2]] : 0;
    put_predicate(w, in.op[0], combined(in.mode, w.pred[in.op[1]], b), mask);
}

bool pick_compare(Draft &d)
{
    Type t = d.in.type;
    bool set = d.name == "set", predicates = t.kind == 'p' && d.name != "vote";
    if (d.name != "setp" && !set && !predicates)
        return false;
    d.in.mode = d.has("and")   ? '&'
                : d.has("or")  ? '|'
                : d.has("xor") ? '^'
                : d.has("not") ? '~'
                               : 0;
    d.in.act = predicates ? logic : set ? set_value : set_predicate;
    d.in.target = t.kind == 'q' ? 0x3f80 : t.kind != 'f' ? -1 : t.bits == 16 ? 0x3c00 : 0x3f800000;
    for (const string &m : d.mods)
        if (comparisons().count(m))
            d.in.compare = comparisons()[m](d.types.back());
    return predicates || (d.in.compare && !(set && (d.in.mode || t.bits == 64)));
}
