/* table.c - the inner loops of one instruction set, tied together. */
#include "loops.h"

#define SIMD_TEXT2(a) #a
#define SIMD_TEXT(a)  SIMD_TEXT2(a)

const simd SIMD(simd) = {
    .name = SIMD_TEXT(ISA),
    .vl = VL,
    .mr = MR,
    .nr = NR,
    .tile = SIMD(tile),
    .tile_runs = SIMD(tile_runs),
    .dots = SIMD(dots),
    .epilogue = SIMD(epilogue),
    .epilogue_geglu = SIMD(epilogue_geglu),
    .widen = SIMD(widen),
    .narrow = SIMD(narrow),
    .merge = SIMD(merge),
    .pack = SIMD(pack),
    .panel = SIMD(panel),
    .wino_in = SIMD(wino_in),
    .wino_out = SIMD(wino_out),
    .wino_weight = SIMD(wino_weight),
    .attend = SIMD(attend),
    .sums = SIMD(sums),
    .normalise = SIMD(normalise),
    .layer_norm = SIMD(layer_norm),
    .activate = SIMD(activate),
    .soft_clamp = SIMD(soft_clamp),
    .add = SIMD(add),
    .mix = SIMD(mix),
};
