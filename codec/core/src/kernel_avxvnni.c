/* The kernel for AVX2 with AVX-VNNI: the instruction of VNNI in vectors of half the width. */

#if defined(__x86_64__)

#include <immintrin.h>

#define KERNEL_NAME avxvnni
#define KERNEL_TARGET __attribute__((target("avx2,avxvnni")))
#define WIDTH 8
#define TOGETHER 4
#define OFFSET 128
#define WEIGHTS(p) (*(const whole_vector *)(p))
#define DOT(sums, first, second) \
    ((whole_vector)_mm256_dpbusd_avx_epi32((__m256i)(sums), (__m256i)(first), (__m256i)(second)))

enum { ROWS = 3, GROUPS = 1, MATRIX_ROWS = 2 };

#include "products.h"
#include "loops_body.h"

#endif
