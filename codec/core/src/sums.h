/* Sums over arrays of any length, in the order of the loops of the network. */

#ifndef AEC_SUMS_H
#define AEC_SUMS_H

#include "loops.h"

/* The sum of products, of which AEC_LANES parts are added as a tree. */
static inline float aec_inner_product(const float *x, const float *y, size_t length) {
    float lanes[AEC_LANES] = {0};
    size_t i = 0;
    for (; i + AEC_LANES <= length; i += AEC_LANES)
        for (size_t l = 0; l < AEC_LANES; l++) lanes[l] += x[i + l] * y[i + l];
    for (size_t l = 0; i < length; i++, l++) lanes[l] += x[i] * y[i];
    for (size_t half = AEC_LANES / 2; half; half /= 2)
        for (size_t l = 0; l < half; l++) lanes[l] += lanes[l + half];
    return lanes[0];
}

#endif
