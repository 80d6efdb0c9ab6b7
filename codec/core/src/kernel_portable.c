/* The kernel in plain C, for every processor. Products of two bytes fit 16 bits. */

#include <string.h>

#define KERNEL_NAME portable
#define KERNEL_TARGET
#define WIDTH 4
#define TOGETHER 1
#define OFFSET 0

#include "kernel.h"

static void multiply(const struct aec_matrix *matrix, const int8_t *const *rows, size_t num_rows,
                     int32_t *sums) {
    const size_t outputs = matrix->outputs;
    for (size_t r = 0; r < num_rows; r++, sums += outputs) {
        const int8_t *weights = matrix->weights;
        memcpy(sums, matrix->biases, outputs * sizeof *sums);
        for (size_t i = 0; i < matrix->inputs; i++, weights += outputs) {
            const int8_t value = rows[r][i];
            for (size_t o = 0; o < outputs; o++) sums[o] += (int16_t)(value * weights[o]);
        }
    }
}

static void product(const struct aec_linear *matrix, const struct aec_quantized *const *rows,
                    size_t num_rows, size_t tap, float *out, size_t out_stride, int add) {
    const struct aec_weights *weights = matrix->weights;
    for (size_t first = 0; first < matrix->outputs; first += AEC_LANES) {
        for (size_t r = 0; r < num_rows; r++) {
            const struct aec_weights *w = weights;
            float sums[AEC_LANES];
            for (int o = 0; o < AEC_LANES; o++) sums[o] = matrix->bias[first + (size_t)o];
            for (size_t t = 0; t < matrix->taps; t++) {
                const struct aec_quantized *x = rows[r] + t * tap;
                for (size_t b = 0; b < matrix->blocks; b++, w++, x++) {
                    const int8_t *values = (const int8_t *)w->values;
                    int32_t whole[AEC_LANES] = {0};
                    for (int i = 0; i < AEC_BLOCK; i++)
                        for (int o = 0; o < AEC_LANES; o++)
                            whole[o] += (int16_t)(x->values[i] * values[i * AEC_LANES + o]);
                    for (int o = 0; o < AEC_LANES; o++)
                        sums[o] += (float)whole[o] * (w->scales[o] * x->scale);
                }
            }
            float *y = out + r * out_stride + first;
            for (int o = 0; o < AEC_LANES; o++) y[o] = add ? y[o] + sums[o] : sums[o];
        }
        weights += matrix->taps * matrix->blocks;
    }
}

#include "loops_body.h"
