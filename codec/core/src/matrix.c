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

static int8_t *weight_at(const struct aec_matrix *matrix, size_t input, size_t output) {
    size_t together = input / AEC_INPUTS_TOGETHER * matrix->outputs + output;
    return matrix->weights + together * AEC_INPUTS_TOGETHER + input % AEC_INPUTS_TOGETHER;
}

void aec_matrix_fill(struct aec_matrix *matrix, size_t first, const int8_t *weights, size_t inputs,
                     size_t outputs, size_t stride) {
    for (size_t i = 0; i < inputs; i++)
        for (size_t o = 0; o < outputs; o++)
            *weight_at(matrix, first + i, o) = weights[i * stride + o];
}

void aec_matrix_bias(struct aec_matrix *matrix, const int32_t *biases, size_t outputs) {
    for (size_t o = 0; o < outputs; o++) {
        int32_t sum = 0;
        for (size_t i = 0; i < matrix->inputs; i++)
            sum += *weight_at(matrix, i, o);
        matrix->biases[o] = biases[o];
        matrix->shifted[o] = biases[o] - 128 * sum;
    }
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
