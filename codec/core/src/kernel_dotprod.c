/* The kernel for processors of ARM with dot products. On others the portable one becomes vectors
 * of NEON. */

#include "kernel.h"

#if defined(AEC_DOTPROD)

#include <arm_neon.h>

#define KERNEL_NAME dotprod
#if defined(__ARM_FEATURE_DOTPROD)
#define KERNEL_TARGET
#else
#define KERNEL_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#define WIDTH 4
#define TOGETHER 4
#define OFFSET 0
#define WEIGHTS(p) (*(const whole_vector *)(p))
#define DOT(sums, first, second) \
    ((whole_vector)vdotq_s32((int32x4_t)(sums), (int8x16_t)(first), (int8x16_t)(second)))

enum { ROWS = 3, GROUPS = 1, MATRIX_ROWS = 4 };

#include "products.h"
#include "loops_body.h"

#endif
