/* The kernel for WebAssembly with vectors, -msimd128: factors are widened to 16 bits, as for AVX2.
 * The dot products of relaxed vectors are not the same on every machine. */

#if defined(__wasm_simd128__)

#include <wasm_simd128.h>

#define KERNEL_NAME wasm
#define KERNEL_TARGET
#define WIDTH 4
#define TOGETHER 2
#define OFFSET 0
#define WEIGHTS(p) ((whole_vector)wasm_i16x8_load8x8(p))
#define DOT(sums, first, second) \
    ((sums) + (whole_vector)wasm_i32x4_dot_i16x8((v128_t)(first), (v128_t)(second)))

enum { ROWS = 2, GROUPS = 1, MATRIX_ROWS = 2 };

#include "products.h"
#include "loops_body.h"

#endif
