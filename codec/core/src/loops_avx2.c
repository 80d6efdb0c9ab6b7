/* The kernel for AVX2: values are widened to 16 bits, whose products in pairs fit 32. */

#if defined(__x86_64__)

#include <immintrin.h>

#include "loops.h"

#define KERNEL_NAME avx2
#define KERNEL_TARGET __attribute__((target("avx2")))
#define PACK pack
#define WIDTH 8

static void pack(const int8_t *weights, size_t stride, uint8_t *packed) {
    for (size_t i = 0; i < AEC_BLOCK; i += 2)
        for (size_t o = 0; o < AEC_LANES; o++)
            for (size_t k = 0; k < 2; k++) *packed++ = (uint8_t)weights[o * stride + i + k];
}

/* `count` rows, one or two, of AEC_LANES outputs. */
static inline __attribute__((always_inline)) KERNEL_TARGET void
rows_of(const struct aec_linear *matrix, size_t first, const struct aec_quantized *const *rows,
        int count, size_t tap, float *out, size_t out_stride, int add) {
    const size_t depth = matrix->taps * matrix->blocks;
    const struct aec_weights *w = matrix->weights + first / AEC_LANES * depth;
    __m256 sums[2][2];
    for (int r = 0; r < count; r++)
        for (int half = 0; half < 2; half++)
            sums[r][half] = _mm256_loadu_ps(matrix->bias + first + 8 * half);
    for (size_t t = 0; t < matrix->taps; t++)
        for (size_t b = 0; b < matrix->blocks; b++, w++) {
            __m256i wide[2][2], whole[2][2];
            for (int r = 0; r < count; r++) {
                const __m128i *values = (const __m128i *)rows[r][t * tap + b].values;
                for (int half = 0; half < 2; half++) {
                    wide[r][half] = _mm256_cvtepi8_epi16(_mm_loadu_si128(values + half));
                    whole[r][half] = _mm256_setzero_si256();
                }
            }
            int32_t pairs[2][AEC_BLOCK / 2];
            for (int r = 0; r < count; r++)
                for (int half = 0; half < 2; half++)
                    _mm256_storeu_si256((__m256i *)(pairs[r] + 8 * half), wide[r][half]);
            const __m128i *weights = (const __m128i *)w->values;
            for (int i = 0; i < AEC_BLOCK / 2; i++)
                for (int half = 0; half < 2; half++) {
                    __m256i two = _mm256_cvtepi8_epi16(_mm_load_si128(weights + 2 * i + half));
                    for (int r = 0; r < count; r++)
                        whole[r][half] = _mm256_add_epi32(
                            whole[r][half],
                            _mm256_madd_epi16(two, _mm256_set1_epi32(pairs[r][i])));
                }
            for (int r = 0; r < count; r++) {
                __m256 scale = _mm256_set1_ps(rows[r][t * tap + b].scale);
                for (int half = 0; half < 2; half++) {
                    __m256 scales = _mm256_mul_ps(_mm256_load_ps(w->scales + 8 * half), scale);
                    sums[r][half] = _mm256_add_ps(
                        sums[r][half], _mm256_mul_ps(_mm256_cvtepi32_ps(whole[r][half]), scales));
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
        for (; r + 2 <= num_rows; r += 2)
            rows_of(matrix, first, rows + r, 2, tap, out + r * out_stride, out_stride, add);
        if (r < num_rows)
            rows_of(matrix, first, rows + r, 1, tap, out + r * out_stride, out_stride, add);
    }
}

#include "loops_body.h"

#endif
