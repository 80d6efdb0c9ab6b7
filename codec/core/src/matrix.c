#include "matrix.h"

#include <string.h>

void aec_matrix_place(struct aec_matrix *matrix, size_t inputs, size_t outputs,
                      struct aec_arena *memory) {
    matrix->inputs = (uint32_t)AEC_PADDED(inputs, AEC_INPUTS_TOGETHER);
    matrix->outputs = (uint32_t)AEC_PADDED(outputs, AEC_OUTPUTS_TOGETHER);
    matrix->weights = aec_allocate(memory, matrix->inputs, matrix->outputs);
    matrix->biases = aec_allocate(memory, matrix->outputs, sizeof(int32_t));
    matrix->shifted = aec_allocate(memory, matrix->outputs, sizeof(int32_t));
}

void aec_matrix_fill(struct aec_matrix *matrix, size_t together, size_t first,
                     const int8_t *weights, size_t inputs, size_t outputs, size_t stride) {
    for (size_t i = first; i < first + inputs; i++, weights += stride) {
        int8_t *row = matrix->weights + i / together * together * matrix->outputs + i % together;
        for (size_t o = 0; o < outputs; o++) row[together * o] = weights[o];
    }
}

void aec_matrix_bias(struct aec_matrix *matrix, size_t together, const int32_t *biases,
                     size_t outputs) {
    const int8_t *weights = matrix->weights;
    memcpy(matrix->biases, biases, outputs * sizeof *biases);
    memcpy(matrix->shifted, biases, outputs * sizeof *biases);
    for (size_t i = 0; i < matrix->inputs; i += together)
        for (size_t o = 0; o < matrix->outputs; o++)
            for (size_t k = 0; k < together; k++) matrix->shifted[o] -= 128 * *weights++;
}
