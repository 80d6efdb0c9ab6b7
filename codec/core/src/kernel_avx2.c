/* The kernel for AVX2, whose instruction for bytes saturates at 16 bits: factors are widened to 16
 * bits, whose products in pairs fit 32. */

#if defined(__x86_64__)

#include <immintrin.h>

#define KERNEL_NAME avx2
#define KERNEL_TARGET __attribute__((target("avx2")))
#define WIDTH 8
#define TOGETHER 2
#define OFFSET 0
#define WEIGHTS(p) ((whole_vector)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p))))
#define DOT(sums, first, second) \
    ((sums) + (whole_vector)_mm256_madd_epi16((__m256i)(first), (__m256i)(second)))

enum { ROWS = 2, GROUPS = 1, MATRIX_ROWS = 2 };

#include "products.h"
#include "loops_body.h"

#endif
