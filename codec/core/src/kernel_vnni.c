/* The kernel for AVX-512 with VNNI, whose instruction multiplies bytes with and without a sign. */

#if defined(__x86_64__)

#include <immintrin.h>

#define KERNEL_NAME vnni
#define KERNEL_TARGET __attribute__((target("avx2,avx512f,avx512bw,avx512vl,avx512vnni")))
#define WIDTH 16
#define TOGETHER 4
#define OFFSET 128
#define WEIGHTS(p) (*(const whole_vector *)(p))
#define DOT(sums, first, second) \
    ((whole_vector)_mm512_dpbusd_epi32((__m512i)(sums), (__m512i)(first), (__m512i)(second)))

enum { ROWS = 6, GROUPS = 2, MATRIX_ROWS = 4 };

#include "products.h"
#include "loops_body.h"

#endif
