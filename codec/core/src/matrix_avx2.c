#include "kernel.h"
#include "matrix.h"

#ifdef AEC_X86

#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline)) TARGET

/* The instruction for bytes saturates at 16 bits, so activations and weights are widened. Each
 * output gets two sums, of two inputs each, which are joined at the end.
 *
 * Sums of `num_rows` rows (2 at most) and 16 outputs, see matrix_vnni.c. */
INLINE void tile(const struct aec_matrix *matrix, const int8_t *const *rows, int num_rows,
                 size_t output, int32_t *sums) {
    const int8_t *weights = matrix->weights + 4 * output;
    __m256i found[2][4];
    for (int r = 0; r < num_rows; r++)
        for (int c = 0; c < 4; c++)
            found[r][c] = _mm256_setzero_si256();
    for (size_t i = 0; i < matrix->inputs; i += 4, weights += 4 * (size_t)matrix->outputs) {
        __m256i w[4];
        for (int c = 0; c < 4; c++)
            w[c] = _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)weights + c));
        for (int r = 0; r < num_rows; r++) {
            __m128i four = _mm_cvtepi8_epi16(_mm_cvtsi32_si128(aec_four(rows[r] + i)));
            __m256i x = _mm256_broadcastq_epi64(four);
            for (int c = 0; c < 4; c++)
                found[r][c] = _mm256_add_epi32(found[r][c], _mm256_madd_epi16(x, w[c]));
        }
    }
    for (int r = 0; r < num_rows; r++)
        for (int c = 0; c < 2; c++) {
            __m256i joined = _mm256_hadd_epi32(found[r][2 * c], found[r][2 * c + 1]);
            size_t first = output + 8 * (size_t)c;
            joined = _mm256_permute4x64_epi64(joined, 0xd8);
            joined = _mm256_add_epi32(
                joined, _mm256_load_si256((const __m256i *)(matrix->biases + first)));
            _mm256_storeu_si256((__m256i *)(sums + r * (size_t)matrix->outputs + first), joined);
        }
}

INLINE void strip(const struct aec_matrix *matrix, const int8_t *const *rows, int num_rows,
                  int32_t *sums) {
    for (size_t output = 0; output < matrix->outputs; output += 16)
        tile(matrix, rows, num_rows, output, sums);
}

TARGET void aec_multiply_avx2(const struct aec_matrix *matrix, const int8_t *const *rows,
                              size_t num_rows, int32_t *sums) {
    for (; num_rows >= 2; num_rows -= 2, rows += 2, sums += 2 * (size_t)matrix->outputs)
        strip(matrix, rows, 2, sums);
    if (num_rows)
        strip(matrix, rows, 1, sums);
}

#endif
