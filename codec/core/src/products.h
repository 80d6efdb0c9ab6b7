/* Products of 8 bits, for a kernel with an instruction that joins several of them. Its file defines
 *
 *   TOGETHER     products that are joined: of four bytes, or of two numbers of 16 bits
 *   OFFSET       128 if the first factors are bytes without a sign, else 0
 *   WEIGHTS(p)   whole_vector of the weights at p, as factors
 *   DOT(sums, first, second)
 *   ROWS, GROUPS rows and AEC_LANES outputs of the network at a time: as many as keep the
 *                multipliers busy, and as there are registers for
 *   MATRIX_ROWS  rows of a context model at a time
 *
 * Numbers of rows and vectors are constants where functions are inlined, so that loops over them
 * are unrolled. */

#include <string.h>

#include "kernel.h"
#include "vectors.h"

/* Activations as factors: four bytes for TOGETHER of them. */
INLINE const void *factors_of(const int8_t *activations, size_t count, int16_t *room) {
    if (TOGETHER == 4) return activations;
    for (size_t i = 0; i < count; i++) room[i] = activations[i];
    return room;
}

/* The same factors in all lanes. */
INLINE whole_vector in_all_lanes(const void *factors, size_t index) {
    int32_t four;
    memcpy(&four, (const char *)factors + 4 * index, sizeof four);
    return (whole_vector){0} + four;
}

/* Sums of `num_rows` rows and WIDTH * `columns` outputs of a matrix of a context model. */
INLINE void tile(const struct aec_matrix *matrix, const int8_t *const *rows, int num_rows,
                 size_t output, int columns, int32_t *sums) {
    const whole_vector sign = (whole_vector){0} + (int32_t)(OFFSET ? 0x80808080u : 0);
    const size_t inputs = matrix->inputs, outputs = matrix->outputs;
    const int32_t *start = (OFFSET ? matrix->shifted : matrix->biases) + output;
    const int8_t *weights = matrix->weights + TOGETHER * output;
    whole_vector found[MATRIX_ROWS][4];
    for (int r = 0; r < num_rows; r++)
        for (int c = 0; c < columns; c++) found[r][c] = *(const whole_vector *)(start + c * WIDTH);
    for (size_t first = 0; first < inputs; first += AEC_BLOCK) {
        const size_t count = inputs - first < AEC_BLOCK ? inputs - first : AEC_BLOCK;
        const void *x[MATRIX_ROWS];
        int16_t room[MATRIX_ROWS][AEC_BLOCK];
        for (int r = 0; r < num_rows; r++) x[r] = factors_of(rows[r] + first, count, room[r]);
        for (size_t i = 0; i < count / TOGETHER; i++, weights += TOGETHER * outputs) {
            whole_vector w[4];
            for (int c = 0; c < columns; c++) w[c] = WEIGHTS(weights + TOGETHER * WIDTH * c);
            for (int r = 0; r < num_rows; r++) {
                whole_vector values = in_all_lanes(x[r], i) ^ sign;
                for (int c = 0; c < columns; c++) found[r][c] = DOT(found[r][c], values, w[c]);
            }
        }
    }
    for (int r = 0; r < num_rows; r++)
        for (int c = 0; c < columns; c++)
            *(whole_vector *)(sums + (size_t)r * outputs + output + c * WIDTH) = found[r][c];
}

INLINE void strip(const struct aec_matrix *matrix, const int8_t *const *rows, int num_rows,
                  int32_t *sums) {
    size_t output = 0, outputs = matrix->outputs;
    for (; output + 4 * WIDTH <= outputs; output += 4 * WIDTH)
        tile(matrix, rows, num_rows, output, 4, sums);
    for (; output + 2 * WIDTH <= outputs; output += 2 * WIDTH)
        tile(matrix, rows, num_rows, output, 2, sums);
    if (output < outputs) tile(matrix, rows, num_rows, output, 1, sums);
}

FUNCTION void multiply(const struct aec_matrix *matrix, const int8_t *const *rows, size_t num_rows,
                       int32_t *sums) {
    size_t r = 0;
    for (; r + MATRIX_ROWS <= num_rows; r += MATRIX_ROWS)
        strip(matrix, rows + r, MATRIX_ROWS, sums + r * matrix->outputs);
    for (; r < num_rows; r++) strip(matrix, rows + r, 1, sums + r * matrix->outputs);
}

/* `count` rows of GROUPS * AEC_LANES outputs of the network. */
INLINE void rows_of(const struct aec_linear *matrix, size_t first,
                    const struct aec_quantized *const *rows, int count, size_t tap, float *out,
                    size_t out_stride, int add) {
    enum { VECTORS = GROUPS * LANE_VECTORS };
    const size_t depth = matrix->taps * matrix->blocks;
    const struct aec_weights *w = matrix->weights + first / AEC_LANES * depth;
    vector sums[ROWS][VECTORS];
    for (int r = 0; r < count; r++)
        for (int v = 0; v < VECTORS; v++) sums[r][v] = LOAD(matrix->bias + first + v * WIDTH);
    for (size_t t = 0; t < matrix->taps; t++)
        for (size_t b = 0; b < matrix->blocks; b++, w++) {
            const struct aec_quantized *x[ROWS];
            const void *factors[ROWS];
            int16_t room[ROWS][AEC_BLOCK];
            whole_vector whole[ROWS][VECTORS];
            for (int r = 0; r < count; r++) {
                x[r] = rows[r] + t * tap + b;
                factors[r] = factors_of(x[r]->values, AEC_BLOCK, room[r]);
                for (int v = 0; v < VECTORS; v++)
                    whole[r][v] = (whole_vector){0} + (OFFSET ? aec_surplus(x[r]) : 0);
            }
            for (size_t i = 0; i < AEC_BLOCK / TOGETHER; i++) {
                whole_vector weights[VECTORS];
                for (size_t v = 0; v < VECTORS; v++)
                    weights[v] = WEIGHTS(w[v / LANE_VECTORS * depth].values +
                                         TOGETHER * (AEC_LANES * i + v % LANE_VECTORS * WIDTH));
                for (int r = 0; r < count; r++) {
                    whole_vector values = in_all_lanes(factors[r], i);
                    for (int v = 0; v < VECTORS; v++)
                        whole[r][v] = DOT(whole[r][v], weights[v], values);
                }
            }
            for (int r = 0; r < count; r++)
                for (size_t v = 0; v < VECTORS; v++) {
                    const float *scales = w[v / LANE_VECTORS * depth].scales;
                    vector scale = LOAD(scales + v % LANE_VECTORS * WIDTH) * x[r]->scale;
                    sums[r][v] += __builtin_convertvector(whole[r][v], vector) * scale;
                }
        }
    for (int r = 0; r < count; r++)
        for (int v = 0; v < VECTORS; v++) {
            float *y = out + (size_t)r * out_stride + first + v * WIDTH;
            vector sum = sums[r][v];
            if (add) sum += LOAD(y);
            STORE(y, sum);
        }
}

FUNCTION void product(const struct aec_linear *matrix, const struct aec_quantized *const *rows,
                      size_t num_rows, size_t tap, float *out, size_t out_stride, int add) {
    for (size_t first = 0; first < matrix->outputs; first += GROUPS * AEC_LANES) {
        size_t r = 0;
        for (; r + ROWS <= num_rows; r += ROWS)
            rows_of(matrix, first, rows + r, ROWS, tap, out + r * out_stride, out_stride, add);
        for (; ROWS > 2 && r + 2 <= num_rows; r += 2)
            rows_of(matrix, first, rows + r, 2, tap, out + r * out_stride, out_stride, add);
        if (r < num_rows)
            rows_of(matrix, first, rows + r, 1, tap, out + r * out_stride, out_stride, add);
    }
}
