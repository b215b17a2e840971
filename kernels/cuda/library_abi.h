/* library_abi.h - what we use of two libraries that may be here or not: numbers, opaque pointers
 * and functions by name. Facts of their binary interfaces: cuDNN 9 (its backend API), cuBLASLt 12
 * and 13. So neither's headers are needed for a build, and library.c finds the functions with
 * dlsym.
 */
#ifndef KERNELS_CUDA_LIBRARY_ABI_H
#define KERNELS_CUDA_LIBRARY_ABI_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

/* ---- cuDNN ---------------------------------------------------------------------------------- */

enum { DNN_FLOAT = 0, DNN_HALF = 2, DNN_BFLOAT16 = 9 }; /* cudnnDataType_t */

/* cudnnBackendAttributeType_t */
enum {
    DNN_T_HANDLE = 0,
    DNN_T_DATA_TYPE = 1,
    DNN_T_BOOLEAN = 2,
    DNN_T_INT64 = 3,
    DNN_T_FLOAT = 4,
    DNN_T_VOID_PTR = 6,
    DNN_T_CONVOLUTION_MODE = 7,
    DNN_T_HEUR_MODE = 8,
    DNN_T_NUMERICAL_NOTE = 11,
    DNN_T_POINTWISE_MODE = 14,
    DNN_T_DESCRIPTOR = 15,
    DNN_T_BEHAVIOR_NOTE = 19,
    DNN_T_CHAR = 24,
};

/* cudnnBackendDescriptorType_t */
enum {
    DNN_POINTWISE = 0,
    DNN_CONVOLUTION = 1,
    DNN_ENGINE = 2,
    DNN_ENGINE_CONFIG = 3,
    DNN_HEURISTICS = 4,
    DNN_EXECUTION_PLAN = 5,
    DNN_OPERATION_CONVOLUTION_FORWARD = 10,
    DNN_OPERATION_POINTWISE = 13,
    DNN_OPERATION_GRAPH = 15,
    DNN_VARIANT_PACK = 16,
    DNN_TENSOR = 17,
    DNN_DEVICE_PROPERTIES = 38, /* since 9.8 */
};

/* cudnnBackendAttributeName_t */
enum {
    DNN_POINTWISE_MODE = 0,
    DNN_POINTWISE_PRECISION = 1,
    DNN_CONVOLUTION_TYPE = 100,
    DNN_CONVOLUTION_MODE = 101,
    DNN_CONVOLUTION_DILATIONS = 102,
    DNN_CONVOLUTION_STRIDES = 103,
    DNN_CONVOLUTION_PADS_AFTER = 104,
    DNN_CONVOLUTION_PADS_BEFORE = 105,
    DNN_CONVOLUTION_SPATIAL = 106,
    DNN_HEURISTICS_MODE = 200,
    DNN_HEURISTICS_GRAPH = 201,
    DNN_HEURISTICS_RESULTS = 202,
    DNN_HEURISTICS_DEVICE = 204,
    DNN_CONFIG_ENGINE = 300,
    DNN_PLAN_HANDLE = 400,
    DNN_PLAN_CONFIG = 401,
    DNN_PLAN_WORKSPACE = 402,
    DNN_PLAN_DEVICE = 407,
    DNN_FORWARD_ALPHA = 700,
    DNN_FORWARD_BETA = 701,
    DNN_FORWARD_CONVOLUTION = 702,
    DNN_FORWARD_W = 703,
    DNN_FORWARD_X = 704,
    DNN_FORWARD_Y = 705,
    DNN_OP_POINTWISE = 750,
    DNN_OP_X = 751,
    DNN_OP_B = 752,
    DNN_OP_Y = 753,
    DNN_GRAPH_HANDLE = 800,
    DNN_GRAPH_OPS = 801,
    DNN_TENSOR_ALIGNMENT = 900,
    DNN_TENSOR_TYPE = 901,
    DNN_TENSOR_DIMENSIONS = 902,
    DNN_TENSOR_STRIDES = 903,
    DNN_TENSOR_ID = 906,
    DNN_TENSOR_VIRTUAL = 907,
    DNN_PACK_IDS = 1000,
    DNN_PACK_POINTERS = 1001,
    DNN_PACK_WORKSPACE = 1003,
    DNN_ENGINE_NUMERICS = 1303,
    DNN_ENGINE_BEHAVIOR = 1305,
    DNN_DEVICE_JSON = 2702, /* since 9.8 */
};

enum { DNN_CROSS_CORRELATION = 1 };         /* cudnnConvolutionMode_t */
enum { DNN_ADD = 0, DNN_RELU = 100 };       /* cudnnPointwiseMode_t */
enum { DNN_HEUR_A = 3 };                    /* cudnnBackendHeurMode_t */
enum { DNN_COMPILES = 0 };                  /* cudnnBackendBehaviorNote_t */
enum { DNN_TENSOR_CORE = 0, DNN_NANS = 9 }; /* cudnnBackendNumericalNote_t */

typedef void *dnn_handle, *dnn_object; /* cudnnHandle_t, cudnnBackendDescriptor_t */

typedef struct dnn_api {
    size_t (*version)(void);
    size_t (*cuda_version)(void);
    const char *(*error)(int status);
    int (*create)(dnn_handle *handle);
    int (*destroy)(dnn_handle handle);
    int (*set_stream)(dnn_handle handle, cudaStream_t stream);
    int (*make)(int type, dnn_object *object);
    int (*drop)(dnn_object object);
    int (*set)(dnn_object object, int name, int type, int64_t count, const void *values);
    int (*get)(dnn_object object, int name, int type, int64_t room, int64_t *count, void *values);
    int (*done)(dnn_object object);
    int (*execute)(dnn_handle handle, dnn_object plan, dnn_object pack);
} dnn_api;

/* ---- cuBLASLt ------------------------------------------------------------------------------- */

enum { LT_R_32F = 0, LT_R_16F = 2, LT_R_16BF = 14 };                       /* cudaDataType */
enum { LT_COMPUTE_32F = 68 };                                              /* cublasComputeType_t */
enum { LT_OP_N = 0, LT_OP_T = 1 };                                         /* cublasOperation_t */
enum { LT_EPILOGUE_NONE = 1, LT_EPILOGUE_RELU = 2, LT_EPILOGUE_BIAS = 4 }; /* they add up */
enum { LT_REDUCE_IN_FLOAT = 2 }; /* cublasLtReductionScheme_t ..._COMPUTE_TYPE */

/* cublasLtMatmulDescAttributes_t, cublasLtMatmulPreferenceAttributes_t */
enum { LT_DESC_TRANSA = 3, LT_DESC_TRANSB = 4, LT_DESC_EPILOGUE = 7, LT_DESC_BIAS = 8 };
enum { LT_PREF_WORKSPACE = 1, LT_PREF_REDUCTION = 3, LT_PREF_ALIGN_A = 5 }; /* A, B, C, D */

typedef void *lt_handle, *lt_desc, *lt_layout, *lt_preference;

typedef struct lt_algo {
    uint64_t data[8];
} lt_algo;

typedef struct lt_result {
    lt_algo algo;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
} lt_result;

typedef struct lt_api {
    size_t (*version)(void);
    const char *(*error)(int status);
    int (*create)(lt_handle *handle);
    int (*destroy)(lt_handle handle);
    int (*desc_new)(lt_desc *desc, int compute, int scale);
    int (*desc_free)(lt_desc desc);
    int (*desc_set)(lt_desc desc, int name, const void *value, size_t bytes);
    int (*layout_new)(lt_layout *layout, int type, uint64_t rows, uint64_t columns, int64_t ld);
    int (*layout_free)(lt_layout layout);
    int (*preference_new)(lt_preference *preference);
    int (*preference_free)(lt_preference preference);
    int (*preference_set)(lt_preference preference, int name, const void *value, size_t bytes);
    int (*heuristics)(lt_handle handle, lt_desc desc, lt_layout a, lt_layout b, lt_layout c,
                      lt_layout d, lt_preference preference, int room, lt_result *results,
                      int *count);
    int (*multiply)(lt_handle handle, lt_desc desc, const void *alpha, const void *a, lt_layout al,
                    const void *b, lt_layout bl, const void *beta, const void *c, lt_layout cl,
                    void *d, lt_layout dl, const lt_algo *algo, void *workspace, size_t bytes,
                    cudaStream_t stream);
} lt_api;

#endif
