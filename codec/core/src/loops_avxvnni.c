/* The kernel for AVX2 with AVX-VNNI; see loops_vnni.c for how weights are stored. */

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "loops.h"

#define KERNEL_NAME avxvnni
#define KERNEL_TARGET __attribute__((target("avx2,avxvnni")))
#define PACK aec_pack_unsigned
#define WIDTH 8

enum { MOST_ROWS = 3 };

/* `count` rows of AEC_LANES outputs. */
static inline __attribute__((always_inline)) KERNEL_TARGET void
rows_of(const struct aec_linear *matrix, size_t first, const struct aec_quantized *const *rows,
        int count, size_t tap, float *out, size_t out_stride, int add) {
    const size_t depth = matrix->taps * matrix->blocks;
    const struct aec_weights *w = matrix->weights + first / AEC_LANES * depth;
    __m256 sums[MOST_ROWS][2];
    for (int r = 0; r < count; r++)
        for (int half = 0; half < 2; half++)
            sums[r][half] = _mm256_loadu_ps(matrix->bias + first + 8 * half);
    for (size_t t = 0; t < matrix->taps; t++)
        for (size_t b = 0; b < matrix->blocks; b++, w++) {
            const struct aec_quantized *x[MOST_ROWS];
            __m256i whole[MOST_ROWS][2];
            for (int r = 0; r < count; r++) {
                x[r] = rows[r] + t * tap + b;
                whole[r][0] = whole[r][1] = _mm256_set1_epi32(aec_surplus(x[r]));
            }
            const __m256i *weights = (const __m256i *)w->values;
            for (int i = 0; i < AEC_BLOCK / 4; i++) {
                __m256i w0 = _mm256_load_si256(weights + 2 * i);
                __m256i w1 = _mm256_load_si256(weights + 2 * i + 1);
                for (int r = 0; r < count; r++) {
                    int32_t four;
                    memcpy(&four, x[r]->values + 4 * i, sizeof four);
                    __m256i values = _mm256_set1_epi32(four);
                    whole[r][0] = _mm256_dpbusd_avx_epi32(whole[r][0], w0, values);
                    whole[r][1] = _mm256_dpbusd_avx_epi32(whole[r][1], w1, values);
                }
            }
            for (int r = 0; r < count; r++) {
                __m256 scale = _mm256_set1_ps(x[r]->scale);
                for (int half = 0; half < 2; half++) {
                    __m256 scales = _mm256_mul_ps(_mm256_load_ps(w->scales + 8 * half), scale);
                    __m256 term = _mm256_mul_ps(_mm256_cvtepi32_ps(whole[r][half]), scales);
                    sums[r][half] = _mm256_add_ps(sums[r][half], term);
                }
            }
        }
    for (int r = 0; r < count; r++)
        for (int half = 0; half < 2; half++) {
            float *y = out + (size_t)r * out_stride + first + 8 * half;
            __m256 sum = sums[r][half];
            _mm256_storeu_ps(y, add ? _mm256_add_ps(_mm256_loadu_ps(y), sum) : sum);
        }
}

static KERNEL_TARGET void product(const struct aec_linear *matrix,
                                  const struct aec_quantized *const *rows, size_t num_rows,
                                  size_t tap, float *out, size_t out_stride, int add) {
    for (size_t first = 0; first < matrix->outputs; first += AEC_LANES) {
        size_t r = 0;
        for (; r + MOST_ROWS <= num_rows; r += MOST_ROWS)
            rows_of(matrix, first, rows + r, MOST_ROWS, tap, out + r * out_stride, out_stride, add);
        for (; r < num_rows; r++)
            rows_of(matrix, first, rows + r, 1, tap, out + r * out_stride, out_stride, add);
    }
}

#include "loops_body.h"

#endif
