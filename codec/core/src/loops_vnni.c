/* The kernel for AVX-512 with VNNI, whose instruction multiplies bytes with and without a sign.
 *
 * Weights are stored with 128 added; the surplus, 128 times the sum of the activations, is taken
 * off before the products are added. */

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "loops.h"

#define KERNEL_NAME vnni
#define KERNEL_TARGET __attribute__((target("avx2,avx512f,avx512bw,avx512vl,avx512vnni")))
#define PACK aec_pack_unsigned
#define WIDTH 16

enum { MOST_ROWS = 6 };

/* `count` rows of 2 * AEC_LANES outputs. */
static inline __attribute__((always_inline)) KERNEL_TARGET void
rows_of(const struct aec_linear *matrix, size_t first, const struct aec_quantized *const *rows,
        int count, size_t tap, float *out, size_t out_stride, int add) {
    const size_t depth = matrix->taps * matrix->blocks;
    const struct aec_weights *w = matrix->weights + first / AEC_LANES * depth;
    __m512 sums[MOST_ROWS][2];
    for (int r = 0; r < count; r++)
        for (int g = 0; g < 2; g++)
            sums[r][g] = _mm512_loadu_ps(matrix->bias + first + AEC_LANES * (size_t)g);
    for (size_t t = 0; t < matrix->taps; t++)
        for (size_t b = 0; b < matrix->blocks; b++, w++) {
            const struct aec_quantized *x[MOST_ROWS];
            __m512i whole[MOST_ROWS][2];
            for (int r = 0; r < count; r++) {
                x[r] = rows[r] + t * tap + b;
                whole[r][0] = whole[r][1] = _mm512_set1_epi32(aec_surplus(x[r]));
            }
            for (int i = 0; i < AEC_BLOCK / 4; i++) {
                __m512i w0 = _mm512_load_si512(w->values + 64 * i);
                __m512i w1 = _mm512_load_si512(w[depth].values + 64 * i);
                for (int r = 0; r < count; r++) {
                    int32_t four;
                    memcpy(&four, x[r]->values + 4 * i, sizeof four);
                    __m512i values = _mm512_set1_epi32(four);
                    whole[r][0] = _mm512_dpbusd_epi32(whole[r][0], w0, values);
                    whole[r][1] = _mm512_dpbusd_epi32(whole[r][1], w1, values);
                }
            }
            for (int r = 0; r < count; r++) {
                __m512 scale = _mm512_set1_ps(x[r]->scale);
                for (size_t g = 0; g < 2; g++) {
                    __m512 scales = _mm512_mul_ps(_mm512_load_ps(w[g * depth].scales), scale);
                    __m512 term = _mm512_mul_ps(_mm512_cvtepi32_ps(whole[r][g]), scales);
                    sums[r][g] = _mm512_add_ps(sums[r][g], term);
                }
            }
        }
    for (int r = 0; r < count; r++)
        for (int g = 0; g < 2; g++) {
            float *y = out + (size_t)r * out_stride + first + AEC_LANES * g;
            __m512 sum = sums[r][g];
            _mm512_storeu_ps(y, add ? _mm512_add_ps(_mm512_loadu_ps(y), sum) : sum);
        }
}

static KERNEL_TARGET void product(const struct aec_linear *matrix,
                                  const struct aec_quantized *const *rows, size_t num_rows,
                                  size_t tap, float *out, size_t out_stride, int add) {
    for (size_t first = 0; first < matrix->outputs; first += 2 * AEC_LANES) {
        size_t r = 0;
        for (; r + MOST_ROWS <= num_rows; r += MOST_ROWS)
            rows_of(matrix, first, rows + r, MOST_ROWS, tap, out + r * out_stride, out_stride, add);
        for (; r + 2 <= num_rows; r += 2)
            rows_of(matrix, first, rows + r, 2, tap, out + r * out_stride, out_stride, add);
        if (r < num_rows)
            rows_of(matrix, first, rows + r, 1, tap, out + r * out_stride, out_stride, add);
    }
}

#include "loops_body.h"

#endif
