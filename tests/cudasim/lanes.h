/* lanes.h - what a lane of a row is: V, the type to compute with, and N, the values in a lane. */
#pragma once
#include "sim.h"

#include <cmath>
#include <limits>
#include <type_traits>

template <class T> struct Num { /* less than 4 bytes lie in the low part of 4 */
    typedef T V;
    typedef typename std::conditional<sizeof(T) < 4, u32, T>::type Row;
    enum { N = 1 };
    static T get(const void *r, int l, int)
    {
        return (T)load<Row>(r, l);
    }
    static void put(void *r, int l, int, T v)
    {
        store<Row>(r, l, (Row)v);
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
    typedef typename std::conditional<n == 2, u16, u32>::type Row;
    enum { N = n };
    static float get(const void *r, int l, int h)
    {
        return Widen((u16)load<Row>(r, n * l + h));
    }
    static void put(void *r, int l, int h, float v)
    {
        store<Row>(r, n * l + h, Narrow(v));
    }
};
typedef Short<half_to_float, float_to_half, 1> Half;
typedef Short<half_to_float, float_to_half, 2> Half2;
typedef Short<bf16_to_float, float_to_bf16, 1> Bf16;
typedef Short<bf16_to_float, float_to_bf16, 2> Bf16x2;

/* Call f with the kind of lane that a type has. */
template <class F> auto visit_int(Type t, F f)
{
    bool s = t.kind == 's';
    if (t.bits == 64)
        return s ? f(Num<s64>()) : f(Num<u64>());
    if (t.bits == 32)
        return s ? f(Num<s32>()) : f(Num<u32>());
    if (t.bits == 16)
        return s ? f(Num<s16>()) : f(Num<u16>());
    return s ? f(Num<s8>()) : f(Num<u8>());
}
template <class F> auto visit_real(Type t, F f)
{
    if (t.kind == 'q')
        return t.lanes == 2 ? f(Bf16x2()) : f(Bf16());
    if (t.bits == 16)
        return t.lanes == 2 ? f(Half2()) : f(Half());
    if (t.bits == 64)
        return f(Num<double>());
    return t.extra == 's' ? f(Saturated()) : t.extra == 'z' ? f(Flushed()) : f(Num<float>());
}
inline bool is_real(Type t)
{
    return t.kind == 'f' || t.kind == 'q';
}
template <class F> auto visit(Type t, F f)
{
    return is_real(t) ? visit_real(t, f) : visit_int(t, f);
}

#define EACH_LANE _Pragma("GCC ivdep") for (int l = 0; l < 32; l++)

Pure pick_cvt(Draft &d); /* convert.cpp */
