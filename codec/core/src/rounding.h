/* Rounding of doubles without libm. */

#ifndef AEC_ROUNDING_H
#define AEC_ROUNDING_H

#include <stdint.h>

/* The nearest whole number of one from 0 to 2^62, of two the even one. */
static inline uint64_t aec_nearest(double x) {
    const uint64_t whole = (uint64_t)x;
    const double rest = x - (double)whole;
    return whole + (rest > 0.5 || (rest == 0.5 && whole % 2));
}

#endif
