#include "kernel.h"
#include "matrix.h"

#ifdef AEC_X86

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) TARGET

/* Sums of `num_rows` rows (4 at most) and 16 * `columns` outputs (64 at most): as many as keep the
 * multipliers busy, which take several cycles for each. Both numbers are constants where this is
 * inlined, so the loops over them are unrolled. */
INLINE void tile(const struct aec_matrix *matrix, const int8_t *const *rows, int num_rows,
                 size_t output, int columns, int32_t *sums) {
    const __m512i sign = _mm512_set1_epi8((char)0x80);
    const int8_t *weights = matrix->weights + 4 * output;
    __m512i found[4][4];
    for (int c = 0; c < columns; c++)
        for (int r = 0; r < num_rows; r++)
            found[r][c] = _mm512_load_si512(matrix->shifted + output + 16 * c);
    for (size_t i = 0; i < matrix->inputs; i += 4, weights += 4 * (size_t)matrix->outputs) {
        __m512i w[4];
        for (int c = 0; c < columns; c++)
            w[c] = _mm512_load_si512(weights + 64 * c);
        for (int r = 0; r < num_rows; r++) {
            __m512i x = _mm512_xor_si512(_mm512_set1_epi32(aec_four(rows[r] + i)), sign);
            for (int c = 0; c < columns; c++)
                found[r][c] = _mm512_dpbusd_epi32(found[r][c], x, w[c]);
        }
    }
    for (int r = 0; r < num_rows; r++)
        for (int c = 0; c < columns; c++)
            _mm512_storeu_si512(sums + r * (size_t)matrix->outputs + output + 16 * c, found[r][c]);
}

INLINE void strip(const struct aec_matrix *matrix, const int8_t *const *rows, int num_rows,
                  int32_t *sums) {
    size_t output = 0, outputs = matrix->outputs;
    for (; output + 64 <= outputs; output += 64)
        tile(matrix, rows, num_rows, output, 4, sums);
    for (; output + 32 <= outputs; output += 32)
        tile(matrix, rows, num_rows, output, 2, sums);
    if (output < outputs)
        tile(matrix, rows, num_rows, output, 1, sums);
}

TARGET void aec_multiply_vnni(const struct aec_matrix *matrix, const int8_t *const *rows,
                              size_t num_rows, int32_t *sums) {
    for (; num_rows >= 4; num_rows -= 4, rows += 4, sums += 4 * (size_t)matrix->outputs)
        strip(matrix, rows, 4, sums);
    for (; num_rows; num_rows--, rows++, sums += matrix->outputs)
        strip(matrix, rows, 1, sums);
}

#endif
