#include "matrix.h"

#include "kernel.h"

void aec_matrix_place(struct aec_matrix *matrix, size_t inputs, size_t outputs,
                      struct aec_block *block) {
    matrix->inputs = (uint32_t)AEC_PADDED(inputs, AEC_INPUTS_TOGETHER);
    matrix->outputs = (uint32_t)AEC_PADDED(outputs, AEC_OUTPUTS_TOGETHER);
    matrix->weights = aec_take(block, (size_t)matrix->inputs * matrix->outputs, 1);
    matrix->biases = aec_take(block, matrix->outputs, sizeof(int32_t));
    matrix->shifted = aec_take(block, matrix->outputs, sizeof(int32_t));
}

void aec_matrix_fill(struct aec_matrix *matrix, size_t first, const int8_t *weights, size_t inputs,
                     size_t outputs, size_t stride) {
    for (size_t i = first; i < first + inputs; i++, weights += stride) {
        int8_t *row = matrix->weights + i / 4 * 4 * matrix->outputs + i % 4;
        for (size_t o = 0; o < outputs; o++)
            row[4 * o] = weights[o];
    }
}

void aec_matrix_bias(struct aec_matrix *matrix, const int32_t *biases, size_t outputs) {
    const int8_t *weights = matrix->weights;
    memcpy(matrix->biases, biases, outputs * sizeof *biases);
    memcpy(matrix->shifted, biases, outputs * sizeof *biases);
    for (size_t i = 0; i < matrix->inputs; i += 4)
        for (size_t o = 0; o < matrix->outputs; o++, weights += 4)
            matrix->shifted[o] -= 128 * (weights[0] + weights[1] + weights[2] + weights[3]);
}

void aec_multiply_portable(const struct aec_matrix *matrix, const int8_t *const *rows,
                           size_t num_rows, int32_t *sums) {
    size_t outputs = matrix->outputs;
    for (size_t row = 0; row < num_rows; row++, sums += outputs) {
        const int8_t *weights = matrix->weights;
        memcpy(sums, matrix->biases, outputs * sizeof *sums);
        for (size_t i = 0; i < matrix->inputs; i += 4, weights += 4 * outputs) {
            const int8_t *x = rows[row] + i;
            int32_t a = x[0], b = x[1], c = x[2], d = x[3];
            for (size_t o = 0; o < outputs; o++) {
                const int8_t *w = weights + 4 * o;
                sums[o] += a * w[0] + b * w[1] + c * w[2] + d * w[3];
            }
        }
    }
}

aec_multiply *aec_multiply_of(int kernel) {
    switch (kernel) {
#ifdef AEC_X86
    case AEC_AVX2:
        return aec_multiply_avx2;
    case AEC_AVX_VNNI:
        return aec_multiply_avxvnni;
    case AEC_VNNI:
        return aec_multiply_vnni;
#endif
    default:
        return aec_multiply_portable;
    }
}
