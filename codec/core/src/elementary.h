/* Elementary functions of single precision: the same bits with every compiler and processor.
 *
 * Nothing but IEEE operations, written without branches, so that loops over them become vectors.
 * Polynomials were fitted to the smallest error over the ranges given. Which NaN an operation gives
 * differs among processors, so none decides anything by its bits: of exponential functions and of
 * logarithms it is the least value, of a sine some NaN. */

#ifndef AEC_ELEMENTARY_H
#define AEC_ELEMENTARY_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define AEC_INLINE static inline __attribute__((always_inline))

/* Added to a value below 2^22, this leaves the nearest whole number (of two, the even one) in the
 * lowest bits of the sum. */
#define AEC_ROUNDER 12582912.0f

AEC_INLINE uint32_t aec_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

AEC_INLINE float aec_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

AEC_INLINE float aec_clamp(float x, float low, float high) {
    x = x > low ? x : low;
    return x < high ? x : high;
}

/* A sample or a coefficient; nothing in place of what no audio is, and would become infinite or
 * NaN. */
AEC_INLINE float aec_usable(float x) { return fabsf(x) < 1e15f ? x : 0.0f; }

static inline void aec_keep_usable(float *x, size_t length) {
    for (size_t i = 0; i < length; i++) x[i] = aec_usable(x[i]);
}

/* Nearest whole number, for |x| < 2^22. */
AEC_INLINE float aec_round(float x) { return (x + AEC_ROUNDER) - AEC_ROUNDER; }

/* Within 2e-7 of the true value, relative; of x from -80 to 80, beyond which it stays. */
AEC_INLINE float aec_exp(float x) {
    x = aec_clamp(x, -80.0f, 80.0f);
    float shifted = x * 1.44269504f + AEC_ROUNDER;
    float whole = shifted - AEC_ROUNDER;
    /* The logarithm of two in two parts; the first has few enough bits for an exact product. */
    float r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    float p = 0.00139505f;
    p = p * r + 0.00836888f;
    p = p * r + 0.04166621f;
    p = p * r + 0.16666519f;
    p = p * r + 0.5f;
    p = (p * r) * r + r + 1.0f;
    return p * aec_float((aec_bits(shifted) << 23) + 0x3f800000u);
}

/* Natural logarithm, within 2e-7 of the greater of it and 1; of the least normal number of all that
 * is not greater. */
AEC_INLINE float aec_log(float x) {
    x = x > 0x1p-126f ? x : 0x1p-126f;
    /* x = m * 2^e with m between the roots of 1/2 and of 2. */
    uint32_t bits = aec_bits(x) - 0x3f3504f3u;
    int32_t exponent = (int32_t)bits >> 23;
    float m = aec_float((bits & 0x7fffffu) + 0x3f3504f3u);
    float s = (m - 1.0f) / (m + 1.0f), z = s * s;
    float p = 0.22222222f;
    p = p * z + 0.28571429f;
    p = p * z + 0.4f;
    p = p * z + 0.66666667f;
    p = (p * z) * s + 2.0f * s;
    float whole = (float)exponent;
    return p + whole * 0.693147181f;
}

AEC_INLINE float aec_power(float x, float exponent) { return aec_exp(exponent * aec_log(x)); }

AEC_INLINE float aec_sigmoid(float x) { return 1.0f / (1.0f + aec_exp(-x)); }

AEC_INLINE float aec_tanh(float x) { return 1.0f - 2.0f / (1.0f + aec_exp(2.0f * x)); }

/* Sine of an angle in turns, |x| < 2^20; within 4e-8 + 2^-22 |x|. */
AEC_INLINE float aec_sin_turns(float x) {
    float shifted = 2.0f * x + AEC_ROUNDER;
    float r = x - 0.5f * (shifted - AEC_ROUNDER), z = r * r;
    float p = 39.53886899f;
    p = p * z - 76.55010777f;
    p = p * z + 81.60102087f;
    p = p * z - 41.34165537f;
    p = p * z + 6.28318516f;
    /* Each half turn changes the sign. */
    return aec_float(aec_bits(p * r) ^ (aec_bits(shifted) << 31));
}

AEC_INLINE float aec_cos_turns(float x) { return aec_sin_turns(x + 0.25f); }

/* Angle of the point (x, y) in turns, -0.5 to 0.5; 0 for the origin. */
AEC_INLINE float aec_angle_turns(float y, float x) {
    float ax = fabsf(x), ay = fabsf(y);
    float low = ax < ay ? ax : ay, high = ax < ay ? ay : ax;
    float a = low / (high + 1e-35f), z = a * a;
    float p = 0.00039121f;
    p = p * z - 0.00229299f;
    p = p * z + 0.0063331f;
    p = p * z - 0.01151631f;
    p = p * z + 0.01671054f;
    p = p * z - 0.0225386f;
    p = p * z + 0.03180861f;
    p = p * z - 0.05305048f;
    p = p * z + 0.15915493f;
    p = p * a;
    p = ay > ax ? 0.25f - p : p;
    p = x < 0.0f ? 0.5f - p : p;
    return y < 0.0f ? -p : p;
}

#endif
