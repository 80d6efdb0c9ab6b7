/* The inner loops of the network, compiled for several instruction sets.
 *
 * All kernels do the same operations in the same order, so their results are equal to the bit:
 * lanes of vectors are outputs, sums over inputs run upwards, and a sum over a row has AEC_LANES
 * parts, which are added as a tree.
 *
 * Rows are activations of one frame. Their lengths are multiples of AEC_BLOCK, with zeros behind
 * the channels, so that no loop has a remainder. */

#ifndef AEC_LOOPS_H
#define AEC_LOOPS_H

#include <stddef.h>
#include <stdint.h>

#define AEC_BLOCK 32
#define AEC_LANES 16
/* Entries of a codebook are padded to a multiple of this, with ones that are never the nearest. */
#define AEC_ENTRIES 64

/* Length of a row of so many channels. */
static inline size_t aec_row(size_t channels) {
    return (channels + AEC_BLOCK - 1) / AEC_BLOCK * AEC_BLOCK;
}

/* Activations of 8 bits: values[i] * scale. */
struct aec_quantized {
    float scale;
    int32_t sum; /* of the values; kernels with unsigned weights need it */
    int8_t values[AEC_BLOCK];
};

/* What 128 added to every weight takes from a sum with a block: unsigned, as a state that was not
 * made here may hold any sum. */
static inline int32_t aec_surplus(const struct aec_quantized *block) {
    return (int32_t)(0u - 128u * (uint32_t)block->sum);
}

/* Weights of a block of inputs to AEC_LANES outputs, in the order in which a kernel reads them:
 * [AEC_BLOCK / together][AEC_LANES][together], with its offset added. */
struct aec_weights {
    float scales[AEC_LANES];
    uint8_t values[AEC_BLOCK * AEC_LANES];
};

/* A linear map with weights of 8 bits. Its input is `taps` times `blocks` blocks. */
struct aec_linear {
    size_t taps, blocks;
    size_t outputs;              /* a multiple of AEC_BLOCK */
    struct aec_weights *weights; /* [outputs / AEC_LANES][taps * blocks] */
    float *bias;                 /* [outputs] */
};

/* A linear map in single precision. */
struct aec_dense {
    size_t inputs, outputs; /* outputs: a multiple of AEC_LANES */
    float *weights;         /* [inputs][outputs] */
};

/* Oscillator of the pulses, see fine.c: products of three blocks, and the correction. Parts lie
 * apart: of a product of complex numbers in pairs gcc makes an instruction that rounds once, even
 * if contraction is off. */
struct aec_oscillator {
    float pitch, frequency;
    float reals[4], imaginaries[4];
};

/* What a block of pulses is made with. Arrays have the length of a block, rounded up to a row. */
struct aec_pulse_tables {
    size_t block;
    float sample_rate;
    const float *ramp, *triangle;
    float *scratch; /* 4 rows */
};

struct aec_loops {
    /* out[r] = bias + weights * rows[r], or this added to out[r]. rows[r] is where the first tap of
     * a row begins, the next ones follow at distances of `tap` blocks. */
    void (*product)(const struct aec_linear *matrix, const struct aec_quantized *const *rows,
                    size_t num_rows, size_t tap, float *out, size_t out_stride, int add);

    /* out[r] = start + x[r] * weights, in single precision; start may be NULL, for zeros. */
    void (*dense)(const struct aec_dense *map, const float *start, const float *x, size_t x_stride,
                  size_t num_rows, float *out, size_t out_stride);

    void (*quantize)(const float *x, size_t num_blocks, struct aec_quantized *out);

    /* Mean square of a row. */
    float (*power)(const float *x, size_t row, size_t channels);

    /* y = x / rms(x) * weights, with a floor of the root mean square; weights may be NULL. */
    void (*normalize)(const float *x, const float *weights, size_t row, size_t channels,
                      float floor, float *y);

    /* x * sigmoid(x) of min(x, limit), in place. */
    void (*silu)(float *x, size_t length, float limit);

    void (*add)(const float *x, size_t length, float *y);      /* y += x */
    void (*subtract)(const float *x, size_t length, float *y); /* y -= x */

    /* The sum of three rows: overlap-add. */
    void (*overlap)(const float *now, const float *tail, const float *bias, size_t length,
                    float *y);

    /* sign(x) * |x|^0.6, scaled, in place. */
    void (*compand)(float *x, size_t length);
    /* x = expand(x) * 2 * sigmoid(gains), in place. */
    void (*expand)(float *x, const float *gains, size_t length);
    /* The same of the magnitudes of a spectrum, whose parts lie `bins` apart. */
    void (*compand_complex)(const float *x, size_t bins, float *y);

    /* The powers of a spectrum, smoothed over three bins. */
    void (*smooth_power)(const float *x, size_t bins, size_t padded, float *y);
    /* Root of the mean of six rows, which lie `stride` apart. */
    void (*envelope)(const float *powers, size_t stride, size_t length, float *y);
    /* y = x * 2 * sigmoid(gain) + expand(change). */
    void (*shape)(const float *x, const float *gain, const float *change, size_t bins, float *y);
    /* y += x * envelope * 2 * tanh(turns), a complex product; envelope may be NULL, for ones. */
    void (*turn)(const float *x, const float *envelope, const float *turns, size_t bins, float *y);

    /* A frame, windowed, less its symmetry: even part [half + 1], odd part [half]. */
    void (*fold)(const float *frame, const float *window, size_t half, float *even, float *odd);
    /* The inverse: two halves of a frame from its even and odd part. */
    void (*unfold)(const float *even, const float *odd, const float *window, size_t half,
                   float *frame);

    float (*pitch)(const float *logits, const float *log_pitches, size_t steps);
    void (*pulses)(struct aec_oscillator *state, const struct aec_pulse_tables *tables,
                   const float *audio, float pitch, float *pulses, float *period);
    /* For the sound a period before each sample: how far back its interpolation begins, and its
     * weights, [6][length]. */
    void (*interpolation)(const float *period, size_t length, float longest, int32_t *back,
                          float *weights);
    /* That sound; the longest period and three samples lie before `sound`. */
    void (*earlier)(const float *sound, const int32_t *back, const float *weights, size_t length,
                    float *found);

    /* The entry with the greatest score `x * entries - offsets`, the first of several. */
    size_t (*nearest)(const struct aec_dense *entries, const float *offsets, const float *x);
};

#endif
