/* The network as it lies in memory. Names follow codec/network. */

#ifndef AEC_MODEL_H
#define AEC_MODEL_H

#include "aecodec.h"
#include "loops.h"
#include "arena.h"

#define AEC_NORM_FLOOR 0.1f
#define AEC_HIDDEN_LIMIT 6.0f
#define AEC_UNLIMITED 3e38f
#define AEC_MOST_BITS 16 /* of a code */
#define AEC_PITCH_STEPS 120
#define AEC_PITCH_CHANNELS 128
#define AEC_LOWEST_PITCH 60.0f
#define AEC_HIGHEST_PITCH 500.0f

/* Causal convolution. Its state is the quantized left context. */
struct aec_conv {
    struct aec_linear matrix;
    size_t dilation, context; /* in frames */
    size_t state;             /* where its state begins in that of a row, in bytes */
};

/* Transposed convolution. Its state is the second half of the newest frame. */
struct aec_transposed {
    struct aec_linear matrix;
    size_t patch; /* floats that a frame becomes */
    float *bias;  /* [patch] */
    size_t state;
};

struct aec_unit {
    size_t channels;
    float *norm;
    struct aec_conv conv;
    struct aec_linear project;
};

/* MDCT of frames of two strides by folding to a DCT-IV, and its inverse. */
struct aec_mdct {
    size_t stride;
    float *window; /* [2 * stride] */
    struct aec_dense map;
    size_t state;
};

/* Short-time Fourier transform by its even and odd part; the spectrum has `padded` bins, twice. */
struct aec_fourier {
    size_t stride, padded;
    float *window; /* [2 * stride] */
    struct aec_dense cosines, sines;
};

struct aec_head {
    size_t channels;
    float *norm;
    struct aec_linear head, hidden, gain;
};

struct aec_level {
    size_t stride;
    size_t channels; /* of its units */
    size_t num_units;
    struct aec_unit units[AEC_MOST_UNITS];
    struct aec_conv down;     /* in an encoder, before the units */
    struct aec_transposed up; /* in a decoder, after them */
};

enum { AEC_PERIODS = 2, AEC_SPECTRA = AEC_PERIODS + 2, AEC_ENVELOPE_FRAMES = 6 };

struct aec_fine {
    size_t block, stride, ratio, bins, padded, channels, conditions, row;
    size_t reach;  /* samples that the earlier periods look back */
    float longest; /* period */
    struct aec_fourier analysis, synthesis;
    float *pitch_norm, *log_pitches, *ramp, *triangle;
    struct aec_conv pitch;
    struct aec_linear logits, condition, hidden, gain, gains, change;
    struct aec_conv enter;
    size_t num_units, width;
    struct aec_unit units[AEC_MOST_UNITS];
    float *norm, *ones;
    /* States: */
    size_t oscillator, past, samples, powers, tail;
};

/* A codebook. Its codes stand for vectors of a few dimensions, which a map turns into latents. */
struct aec_stage {
    struct aec_dense reduce; /* latent to these dimensions */
    struct aec_dense expand; /* and back */
    float *bias;             /* of the latter */
    float *vectors;          /* [size][dim] */
    /* Of a vector quantizer, whose codes are those of the nearest vectors: */
    struct aec_dense entries;
    float *offsets;
    /* Of a scalar quantizer, whose codes are rounded coordinates: */
    float *reduce_bias;
    int32_t bits[AEC_MOST_BITS]; /* of every dimension; a code begins with the lowest */
};

struct aec_model {
    struct aec_arena memory;
    const struct aec_loops *loops;
    aec_config config;
    size_t hop, latent; /* latent: length of a row */

    struct aec_mdct analysis;
    struct aec_level encoder[AEC_MOST_LEVELS];
    struct aec_linear project;
    size_t encoder_state;

    struct aec_stage *stages;
    size_t dim; /* of an entry, as a row of AEC_LANES */

    struct aec_conv enter;
    struct aec_level decoder[AEC_MOST_LEVELS];
    struct aec_head head;
    struct aec_mdct synthesis;
    struct aec_fine fine;
    size_t decoder_state;
};

/* Frames of the latent that a step takes at once, of all rows together. Results do not depend on
 * it: more of them read the weights less often, fewer need less memory. */
enum { AEC_TILE = 32 };

/* Memory that a step computes in. */
struct aec_coder {
    struct aec_arena memory;
    const struct aec_model *model;
    float *x, *y, *hidden;               /* rows of activations, each for the longest layer */
    float *row;                          /* one row */
    float *samples;                      /* [rows][frames * hop] of the piece */
    struct aec_quantized *blocks;        /* quantized rows with their context */
    const struct aec_quantized **places; /* where rows begin among them */
    float *audio;                        /* samples with their past */
    /* Of the second stage: */
    float *logits, *conditions, *sources, *period, *spectra, *seen, *envelope, *pulses;
    int32_t *back;
};

/* Some frames of some rows in a step. */
struct aec_piece {
    struct aec_coder *coder;
    const struct aec_loops *loops;
    size_t rows;
    const uint8_t *from; /* states of the rows before the piece */
    uint8_t *to;         /* and after it, which may be the same */
    size_t state;        /* bytes of one of them */
};

/* Layers. x: [rows * frames] rows of activations. */
void aec_quantize_rows(const struct aec_piece *piece, const float *x, size_t num_rows,
                       size_t num_blocks, const float *norm, size_t channels);
void aec_run_linear(const struct aec_piece *piece, const struct aec_linear *matrix, const float *x,
                    size_t num_rows, const float *norm, size_t channels, float *out);
void aec_run_conv(const struct aec_piece *piece, const struct aec_conv *conv, const float *x,
                  size_t frames, const float *norm, size_t channels, float *out);
void aec_run_unit(const struct aec_piece *piece, const struct aec_unit *unit, float *x,
                  size_t frames);
void aec_run_transposed(const struct aec_piece *piece, const struct aec_transposed *layer,
                        const float *x, size_t frames, float *out);
void aec_run_head(const struct aec_piece *piece, const struct aec_head *head, const float *x,
                  size_t frames, float *out);
/* audio: [rows][frames * stride], out: rows of aec_row(stride). */
void aec_run_mdct(const struct aec_piece *piece, const struct aec_mdct *mdct, const float *audio,
                  size_t frames, float *out);
void aec_run_inverse_mdct(const struct aec_piece *piece, const struct aec_mdct *mdct,
                          const float *x, size_t frames, float *audio);
/* audio: [rows][frames * block], replaced by that of the second stage. */
void aec_run_fine(const struct aec_piece *piece, const struct aec_fine *fine, float *audio,
                  const float *features, size_t frames);

void aec_encode_latent(const struct aec_piece *piece, const float *latent, size_t frames,
                       size_t num_codebooks, int64_t *codes, size_t row_stride,
                       size_t codebook_stride, float *errors);
void aec_decode_codes(const struct aec_piece *piece, const int64_t *codes, size_t frames,
                      size_t num_codebooks, size_t row_stride, size_t codebook_stride,
                      float *latent);

#endif
