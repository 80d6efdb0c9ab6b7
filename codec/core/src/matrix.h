/* Products of activations and weights of 8 bits, with sums of 32 bits.
 *
 * Sums of integers are the same in any order, so kernels agree to the bit. */

#ifndef AEC_MATRIX_H
#define AEC_MATRIX_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "memory.h"

enum { AEC_INPUTS_TOGETHER = 4, AEC_OUTPUTS_TOGETHER = 16 };

#define AEC_PADDED(count, together) (((count) + (together) - 1) / (together) * (together))

struct aec_matrix {
    uint32_t inputs;  /* a multiple of AEC_INPUTS_TOGETHER */
    uint32_t outputs; /* a multiple of AEC_OUTPUTS_TOGETHER */
    /* [inputs / 4, outputs, 4]: four inputs of an output are beside each other, as instructions
     * for sums of four products expect. */
    int8_t *weights;
    int32_t *biases;
    /* Biases less the sums of 128 times the weights, for instructions whose activations have no
     * sign: they are given activations plus 128. */
    int32_t *shifted;
};

/* Set the sizes and take the memory; weights and biases are zero once the block is. */
void aec_matrix_place(struct aec_matrix *matrix, size_t inputs, size_t outputs,
                      struct aec_block *block);

/* Set weights [inputs, outputs] with `stride` weights from one input to the next, from the input
 * `first` on. */
void aec_matrix_fill(struct aec_matrix *matrix, size_t first, const int8_t *weights, size_t inputs,
                     size_t outputs, size_t stride);

/* Set the biases, after the weights. */
void aec_matrix_bias(struct aec_matrix *matrix, const int32_t *biases, size_t outputs);

/* sums [num_rows, outputs] = rows of activations [inputs] times weights, plus biases. */
typedef void aec_multiply(const struct aec_matrix *matrix, const int8_t *const *rows,
                          size_t num_rows, int32_t *sums);

aec_multiply aec_multiply_portable, aec_multiply_avx2, aec_multiply_avxvnni, aec_multiply_vnni;

/* That of a kernel of kernel.h. */
aec_multiply *aec_multiply_of(int kernel);

/* Four activations as they are in memory. */
static inline int32_t aec_four(const int8_t *activations) {
    int32_t four;
    memcpy(&four, activations, sizeof four);
    return four;
}

#endif
