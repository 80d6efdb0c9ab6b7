/* The kernel in plain C, for every processor. */

#include "loops.h"

#define KERNEL_NAME portable
#define KERNEL_TARGET
#define PACK pack
#define WIDTH 4

static void pack(const int8_t *weights, size_t stride, uint8_t *packed) {
    for (size_t i = 0; i < AEC_BLOCK; i++)
        for (size_t o = 0; o < AEC_LANES; o++) *packed++ = (uint8_t)weights[o * stride + i];
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
