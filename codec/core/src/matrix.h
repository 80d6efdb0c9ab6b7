/* Products of activations and weights of 8 bits, with sums of 32 bits.
 *
 * Sums of integers are the same in any order, so kernels agree to the bit. */

#ifndef AEC_MATRIX_H
#define AEC_MATRIX_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "arena.h"

enum { AEC_INPUTS_TOGETHER = 4, AEC_OUTPUTS_TOGETHER = 16 };

#define AEC_PADDED(count, together) (((count) + (together)-1) / (together) * (together))

struct aec_matrix {
    uint32_t inputs;  /* a multiple of AEC_INPUTS_TOGETHER */
    uint32_t outputs; /* a multiple of AEC_OUTPUTS_TOGETHER */
    int8_t *weights;  /* [inputs / together, outputs, together], see kernel.h */
    int32_t *biases;
    /* Biases less the sums of 128 times the weights, for instructions whose activations have no
     * sign: they are given activations plus 128. */
    int32_t *shifted;
};

/* Set the sizes and allocate zeros. */
void aec_matrix_place(struct aec_matrix *matrix, size_t inputs, size_t outputs,
                      struct aec_arena *memory);

/* Set weights [inputs, outputs] with `stride` weights from one input to the next, from the input
 * `first` on. */
void aec_matrix_fill(struct aec_matrix *matrix, size_t together, size_t first,
                     const int8_t *weights, size_t inputs, size_t outputs, size_t stride);

/* Set the biases, after the weights. */
void aec_matrix_bias(struct aec_matrix *matrix, size_t together, const int32_t *biases,
                     size_t outputs);

/* sums [num_rows, outputs] = rows of activations [inputs] times weights, plus biases. */
typedef void aec_multiply(const struct aec_matrix *matrix, const int8_t *const *rows,
                          size_t num_rows, int32_t *sums);

#endif
