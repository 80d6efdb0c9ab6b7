/* Vectors of GCC, which clang has as well, for the file of a kernel, which defines
 *
 *   KERNEL_TARGET attributes of its functions: the instructions that they may use
 *   WIDTH         floats in a vector, 4, 8 or 16 */

#ifndef AEC_VECTORS_H
#define AEC_VECTORS_H

#include "loops.h"

typedef float vector __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t whole_vector __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

#define LANE_VECTORS (AEC_LANES / WIDTH)
#define LOAD(p) (*(const vector *)(p))
#define STORE(p, x) (*(vector *)(p) = (x))
#define FUNCTION static KERNEL_TARGET
#define INLINE static inline __attribute__((always_inline)) KERNEL_TARGET

#endif
