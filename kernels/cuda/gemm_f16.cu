/* gemm_f16.cu - the tiles of the matrix product for fp16. */
#include "gemm.cuh"

const gemm_tile gemm_tiles_f16[GEMM_TILES] = {
    tile_of<tile<__half, 128, 128, 32, 2, 2>>(), tile_of<tile<__half, 128, 64, 32, 2, 2>>(),
    tile_of<tile<__half, 64, 128, 32, 2, 2>>(),  tile_of<tile<__half, 64, 64, 64, 2, 2>>(),
    tile_of<tile<__half, 128, 256, 32, 2, 4>>(), tile_of<tile<__half, 128, 160, 32, 4, 2>>(),
    tile_of<tile<__half, 64, 160, 32, 2, 2>>(),  tile_of<tile<__half, 128, 16, 64, 4, 1>>(),
};
