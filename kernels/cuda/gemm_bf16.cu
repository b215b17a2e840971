/* gemm_bf16.cu - the tiles of the matrix product for bf16: the same places as in gemm_f16.cu, those
 * that pay most. */
#include "gemm.cuh"

const gemm_tile gemm_tiles_bf16[GEMM_TILES] = {
    tile_of<tile<__nv_bfloat16, 128, 128, 32, 2, 2>>(),
    tile_of<tile<__nv_bfloat16, 128, 64, 32, 2, 2>>(),
    {},
    tile_of<tile<__nv_bfloat16, 64, 64, 64, 2, 2>>(),
    tile_of<tile<__nv_bfloat16, 128, 256, 32, 2, 4>>(),
    {},
    {},
    tile_of<tile<__nv_bfloat16, 128, 16, 64, 4, 1>>(),
};
