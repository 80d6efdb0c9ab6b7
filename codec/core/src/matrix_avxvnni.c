#include "kernel.h"
#include "matrix.h"

#ifdef AEC_X86

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,avxvnni")))
#define INLINE static inline __attribute__((always_inline)) TARGET

/* Sums of `num_rows` rows (2 at most) and 8 * `columns` outputs (32 at most), see matrix_vnni.c. */
INLINE void tile(const struct aec_matrix *matrix, const int8_t *const *rows, int num_rows,
                 size_t output, int columns, int32_t *sums) {
    const __m256i sign = _mm256_set1_epi8((char)0x80);
    const int8_t *weights = matrix->weights + 4 * output;
    __m256i found[2][4];
    for (int c = 0; c < columns; c++)
        for (int r = 0; r < num_rows; r++)
            found[r][c] = _mm256_load_si256((const __m256i *)(matrix->shifted + output) + c);
    for (size_t i = 0; i < matrix->inputs; i += 4, weights += 4 * (size_t)matrix->outputs) {
        __m256i w[4];
        for (int c = 0; c < columns; c++)
            w[c] = _mm256_load_si256((const __m256i *)weights + c);
        for (int r = 0; r < num_rows; r++) {
            __m256i x = _mm256_xor_si256(_mm256_set1_epi32(aec_four(rows[r] + i)), sign);
            for (int c = 0; c < columns; c++)
                found[r][c] = _mm256_dpbusd_avx_epi32(found[r][c], x, w[c]);
        }
    }
    for (int r = 0; r < num_rows; r++)
        for (int c = 0; c < columns; c++)
            _mm256_storeu_si256((__m256i *)(sums + r * (size_t)matrix->outputs + output) + c,
                                found[r][c]);
}

INLINE void strip(const struct aec_matrix *matrix, const int8_t *const *rows, int num_rows,
                  int32_t *sums) {
    size_t output = 0, outputs = matrix->outputs;
    for (; output + 32 <= outputs; output += 32)
        tile(matrix, rows, num_rows, output, 4, sums);
    if (output < outputs)
        tile(matrix, rows, num_rows, output, 2, sums);
}

TARGET void aec_multiply_avxvnni(const struct aec_matrix *matrix, const int8_t *const *rows,
                                 size_t num_rows, int32_t *sums) {
    for (; num_rows >= 2; num_rows -= 2, rows += 2, sums += 2 * (size_t)matrix->outputs)
        strip(matrix, rows, 2, sums);
    if (num_rows)
        strip(matrix, rows, 1, sums);
}

#endif
