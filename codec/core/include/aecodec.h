/* The core of aecodec: numbers in, numbers out.
 *
 * Functions return 0 or one of the errors below, unless they say otherwise. They check all sizes
 * and read and write nothing beyond them, whatever the values are. None keeps anything between
 * calls except in the memory that it is given, so threads may call them at the same time with
 * memory of their own; models are only read. Samples and latents that are not numbers, or beyond
 * 1e15, are taken as zeros, and nothing that is computed of states that were made here is a NaN.
 *
 * Arrays are contiguous, and followed by the number of their elements. Their sizes are given in
 * brackets, of which the last one varies fastest. NULL stands for arrays without elements; where
 * anything else is NULL, a function returns an error, or the size 0. */

#ifndef AECODEC_H
#define AECODEC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define AEC_EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define AEC_EXPORT __attribute__((visibility("default")))
#else
#define AEC_EXPORT
#endif

/* Changes with every change of what follows. */
#define AEC_INTERFACE 5

enum {
    AEC_ERROR_ARGUMENT = -1, /* sizes are impossible, or do not fit each other */
    AEC_ERROR_MEMORY = -2,   /* there is no memory for a model */
    AEC_ERROR_KERNEL = -3,   /* AECODEC_KERNEL names no kernel of this processor */
    AEC_ERROR_CODE = -4,     /* a code is beyond its codebook */
    AEC_ERROR_ORDER = -5,    /* an order of codes does not have each of them once */
    AEC_ERROR_INEXACT = -6,  /* a sum or an entry of a context model could be too large */
    AEC_ERROR_MODEL = -7     /* a tensor is missing, has another size than it should have, or
                                values that are not numbers */
};

/* AEC_INTERFACE of the library, to be compared with that of the header. */
AEC_EXPORT int aec_interface(void);

/* Name of the kernel that models are created with: the environment's AECODEC_KERNEL, else the
 * fastest one of this processor; NULL if that names none. All of them compute the same. */
AEC_EXPORT const char *aec_kernel(void);

/* ---- Context models: the probabilities of codes, given the codes before them ----
 *
 * All arithmetic is in integers. Rows are sequences that do not depend on each other. */

typedef struct aec_context aec_context;

typedef struct {
    uint32_t num_codebooks; /* K */
    uint32_t codebook_size; /* a power of two, 2 to 2^16 */
    uint32_t entry_dim;     /* d, numbers that stand for a code */
    uint32_t width;         /* W, channels of the convolutions over past frames */
    uint32_t hidden;        /* h, hidden units of each codebook */
} aec_context_sizes;        /* each at most 2^16 */

/* Sums of a context model must be below this. */
#define AEC_LARGEST_SUM (1 << 23)

/* Create a model. A code is two symbols, of which the first has F = 2^ceil(bits / 2) values and the
 * second S = 2^floor(bits / 2).
 *
 * dilations: frames between the two taps of each convolution, 1 to 2^16.
 * weights: one after the other past [K * d, W], counts [W, K], context [W, K * h], inner
 *     [K * d, K * h], hidden [K, h, h], first [K, h, F], second [K, F, h, S], for each dilation
 *     taps [2 * W, W] and project [W, W], and at last entries [K, codebook_size, d].
 * biases: of each of these but the entries, [..., outputs] without the inputs, in the same order.
 * order: [K, codebook_size], for each code its index among the codes sorted by first symbol.
 * largest: [7 + 2 * num_dilations], is given the largest sum that each product can have (that of
 *     context includes inner), which must be below AEC_LARGEST_SUM. */
AEC_EXPORT int aec_context_create(const aec_context_sizes *sizes, const uint32_t *dilations,
                                  size_t num_dilations, const int8_t *weights, size_t num_weights,
                                  const int32_t *biases, size_t num_biases, const uint16_t *order,
                                  size_t num_order, int64_t *largest, size_t num_largest,
                                  aec_context **model);

AEC_EXPORT void aec_context_destroy(aec_context *model);

/* Bytes that a model remembers of the frames before, for each row. At the beginning they are zero;
 * they may be copied, and are meaningful to models of the same weights on any machine. */
AEC_EXPORT size_t aec_context_state_size(const aec_context *model);

/* Bytes of memory that the functions below work in. num_rows is the number of rows of a packet, or
 * that of channels and candidates of the search; 0 if there are too many. */
AEC_EXPORT size_t aec_context_scratch_size(const aec_context *model, size_t num_rows);

/* How codes lie in packets. Rows of a packet are its segments, and in each its channels. */
typedef struct {
    uint32_t num_packets;   /* N */
    uint32_t channels;      /* C */
    uint32_t num_codebooks; /* k, at most K */
    uint32_t num_frames;    /* T, of the longest packet */
    uint32_t segments;      /* parts of a packet, each of ceil(T / segments) frames until they end,
                               which do not depend on each other */
    int32_t variable;       /* whether frames have different numbers of codes, at least one */
    int32_t pauses;         /* whether frames may have none at all */
} aec_packets;

/* Encode packets of T frames.
 *
 * codes: [N, C, k, T], negative for absent ones.
 * state: [N * segments * C, state_size], is replaced by that after these frames.
 * bytes: [N, capacity], each packet with a capacity of aec_packet_capacity.
 * lengths: [N], is given the bytes of each packet.
 * bits: empty, or [N, T], is given the bits of the codes of each frame. */
AEC_EXPORT int aec_encode_packets(const aec_context *model, const aec_packets *shape,
                                  const int32_t *codes, size_t num_codes, uint8_t *state,
                                  size_t num_state, uint8_t *bytes, size_t num_bytes,
                                  uint32_t *lengths, size_t num_lengths, double *bits,
                                  size_t num_bits, void *scratch, size_t scratch_size);

/* The most bytes of a packet of this shape; 0 if it is impossible. */
AEC_EXPORT size_t aec_packet_capacity(const aec_packets *shape);

/* Decode packets side by side. Any bytes decode to some codes.
 *
 * bytes: the packets one after the other.
 * lengths, frames: [N], bytes and frames of each packet.
 * codebooks: [T], codebooks of each frame, at most k.
 * state: as in aec_encode_packets; each row's is that after its own last frame.
 * codes: [N, C, k, T], is given the codes, -1 where there are none. */
AEC_EXPORT int aec_decode_packets(const aec_context *model, const aec_packets *shape,
                                  const uint8_t *bytes, size_t num_bytes, const uint32_t *lengths,
                                  size_t num_lengths, const uint32_t *frames, size_t num_frames,
                                  const uint32_t *codebooks, size_t num_codebooks, uint8_t *state,
                                  size_t num_state, int32_t *codes, size_t num_codes, void *scratch,
                                  size_t scratch_size);

/* The state after known codes [num_rows, k, T] of frames that are not coded. */
AEC_EXPORT int aec_context_advance(const aec_context *model, uint32_t num_rows,
                                   uint32_t num_codebooks, uint32_t num_frames,
                                   const int32_t *codes, size_t num_codes, uint8_t *state,
                                   size_t num_state, void *scratch, size_t scratch_size);

/* Choose one of the candidates of each frame, with the least sum of its error and of lambda times
 * the bits of its codes after those chosen before, in a packet of num_frames frames with segments
 * as above.
 *
 * candidates: [C, T, num_candidates, k], negative for absent codes.
 * errors: [C, T, num_candidates].
 * chosen: [C, T], is given the index of the candidate. */
AEC_EXPORT int aec_search_codes(const aec_context *model, const aec_packets *shape,
                                uint32_t num_candidates, const int32_t *candidates,
                                size_t num_codes, const float *errors, size_t num_errors,
                                double lambda, uint32_t *chosen, size_t num_chosen, void *scratch,
                                size_t scratch_size);

/* ---- Frames of audio: what is filtered out of them, and what decides how many codes they get ----
 *
 * Frames of a channel follow one another: [channels][frames * length], or [frames][length]. */

/* Doubles of the state of aec_high_pass for each channel; at the beginning they are zero. */
#define AEC_HIGH_PASS_STATE 13

/* Filters out rumble below 25 Hz, as far as there is any (codec/highpass.py).
 *
 * hop: samples of a frame, of which there may be any number.
 * audio, filtered: [channels][frames * hop], in different memory.
 * state: [channels][AEC_HIGH_PASS_STATE], is replaced by that after these frames. */
AEC_EXPORT int aec_high_pass(uint32_t sample_rate, uint32_t hop, uint32_t channels,
                             const float *audio, size_t num_audio, double *state, size_t num_state,
                             float *filtered, size_t num_filtered);

/* Levels of frames in dB of full scale, and the weights of their errors: their power to 0.3. If one
 * of its samples is not a number, a frame has the least of both. */
AEC_EXPORT int aec_measure_frames(uint32_t frame_length, const float *audio, size_t num_audio,
                                  float *levels, size_t num_levels, float *weights,
                                  size_t num_weights);

/* Levels of windowed frames without the first bins of their spectra.
 *
 * scratch: three floats for each sample of a frame. */
AEC_EXPORT int aec_levels_above(uint32_t frame_length, uint32_t bin, const float *audio,
                                size_t num_audio, float *levels, size_t num_levels, float *scratch,
                                size_t num_scratch);

/* The mean power spectrum of the differences of the samples of each frame, windowed.
 *
 * spectrum: [(frame_length - 1) / 2 + 1].
 * scratch: 19 floats for each sample of a frame. */
AEC_EXPORT int aec_mean_spectrum(uint32_t frame_length, const float *audio, size_t num_audio,
                                 float *spectrum, size_t num_spectrum, float *scratch,
                                 size_t num_scratch);

/* Whether frames are steady noise: levels of like height, and a spectrum without tones from a bin
 * on (codec/activity/pauses.py).
 *
 * levels: [frames], from aec_measure_frames, one at least.
 * found: [1], is given 1 or 0.
 * scratch: aec_pauses_scratch. */
AEC_EXPORT int aec_is_noise(uint32_t frame_length, uint32_t bin, const float *audio,
                            size_t num_audio, const float *levels, size_t num_levels,
                            uint32_t *found, size_t num_found, float *scratch, size_t num_scratch);

/* Floats of memory for aec_is_noise and aec_find_pauses, of so many frames of all channels; 0 if
 * there are too many. */
AEC_EXPORT size_t aec_pauses_scratch(uint32_t hop, size_t num_limits);

/* Find pauses in the next packet of a file.
 *
 * audio: [channels][frames * hop], filtered.
 * loudest: [1], level in dB of what was loudest before, -200 at the beginning; is replaced.
 * limits: [channels][frames], is given the most codes of each frame: 0 in pauses, 1 in the frames
 *     that stand for them, 255 in all others. */
AEC_EXPORT int aec_find_pauses(uint32_t sample_rate, uint32_t hop, uint32_t channels,
                               const float *audio, size_t num_audio, double *loudest,
                               size_t num_loudest, uint8_t *limits, size_t num_limits,
                               float *scratch, size_t num_scratch);

/* By how much each codebook lowers the error of a frame per bit, on the convex hull
 * (codec/rate/allocation.py).
 *
 * errors: [frames][K], which remain after each codebook.
 * bits: [K], of a code of each codebook.
 * slopes: [frames][K], is given them; those of the first codebook are infinite. */
AEC_EXPORT int aec_slopes(const double *errors, size_t num_errors, const double *bits,
                          size_t num_bits, double *slopes, size_t num_slopes);

/* ---- Rate: how many codes each frame gets ----
 *
 * A frame gets the codes whose slopes (aec_slopes) are above lambda. Codes have bits_per_code bits
 * before they are entropy-coded. */

/* The lambda at which frames [frames][K] of slopes take about `budget` bits in all.
 *
 * lambda: [1], is given it. */
AEC_EXPORT int aec_lambda(uint32_t num_codebooks, const double *slopes, size_t num_slopes,
                          double budget, double bits_per_code, double *lambda, size_t num_lambda);

/* Doubles of the state of a stream of a mean bitrate that shares its bits among packets which are
 * known (aec_rate_share). The first one is the target, bits of a frame and channel in the mean,
 * which may be changed at any time; the second one is lambda, to be read. */
#define AEC_RATE_STATE 9

/* Doubles of the state of a live stream, which cannot wait (aec_rate_follow); 0 if the sizes are
 * impossible. */
AEC_EXPORT size_t aec_rate_size(double frame_rate, uint32_t channels, uint32_t num_codebooks);

/* The state before any packet. */
AEC_EXPORT int aec_rate_init(double target, double frame_rate, double bits_per_code, double *state,
                             size_t num_state);

/* Set lambda for the next packet by the slopes of all frames that are known, its own included.
 *
 * num_frames: known frames of a channel.
 * slopes: [frames][K], of those of all channels that compete for bits; without any, lambda stays.
 */
AEC_EXPORT int aec_rate_share(uint32_t channels, uint32_t num_codebooks, double num_frames,
                              const double *slopes, size_t num_slopes, double *state,
                              size_t num_state);

/* The same for a live stream, by the newest frames; here all arguments are those of the packet. */
AEC_EXPORT int aec_rate_follow(uint32_t channels, uint32_t num_codebooks, double num_frames,
                               const double *slopes, size_t num_slopes, double *state,
                               size_t num_state);

/* Take into account what a packet took: frames of a channel; bits and codes of all channels. */
AEC_EXPORT int aec_rate_spent(uint32_t channels, double num_frames, double bits, double num_codes,
                              double *state, size_t num_state);

/* ---- Search: codes that are nearer to a latent than the nearest entries one by one ----
 *
 * A beam has memory for one thread at a time. */

typedef struct aec_beam aec_beam;

typedef struct {
    uint32_t dim;            /* d, numbers of a vector */
    uint32_t latent_dim;     /* D */
    uint32_t num_candidates; /* M, that are kept of each frame */
} aec_beam_sizes;            /* each at most 2^16 */

/* Code c of codebook k stands for vectors[k][c] * maps[k] + biases[k].
 *
 * codebook_sizes: [K], each at most 2^16.
 * vectors: [codebook_size][d] of one codebook after the other; maps: [K][d][D]; biases: [K][D]. */
AEC_EXPORT int aec_beam_create(const aec_beam_sizes *sizes, const uint32_t *codebook_sizes,
                               size_t num_codebooks, const float *vectors, size_t num_vectors,
                               const float *maps, size_t num_maps, const float *biases,
                               size_t num_biases, aec_beam **beam);
AEC_EXPORT void aec_beam_destroy(aec_beam *beam);

/* The best codes that are found for each frame, the best first.
 *
 * latent: [frames][D].
 * counts: [frames], numbers of codes, at most K.
 * codes: [frames][M][K], is given them, -1 where they are absent.
 * errors: [frames][M], is given the mean squares of what they leave of the latent, infinite where
 *     there are fewer than M. */
AEC_EXPORT int aec_beam_search(aec_beam *beam, const float *latent, size_t num_latent,
                               const uint32_t *counts, size_t num_frames, int32_t *codes,
                               size_t num_codes, float *errors, size_t num_errors);

/* ---- The network: audio to codes, and codes to audio ----
 *
 * A model, which is not changed after it was made; coders, each with memory for the
 * steps of one thread at a time; and states, which are bytes that the caller keeps and may copy,
 * join and split: a state for each row, a signal that is coded on its own.
 *
 * Results depend neither on how a signal is divided into steps nor on how many rows share one, and
 * are the same to the bit on every processor. */

#define AEC_MOST_LEVELS 8
#define AEC_MOST_UNITS 16

/* Shape of a model: CodecConfig of codec/config.py. */
typedef struct aec_config {
    int32_t sample_rate, channels, lapped_transform, kernel_size;
    int32_t latent_dim, num_codebooks, codebook_size, codebook_dim;
    int32_t scalar_quantizer; /* 1: bottleneck "fsq", 0: "vq" */
    int32_t num_levels, strides[AEC_MOST_LEVELS];
    int32_t encoder_channels[AEC_MOST_LEVELS], decoder_channels[AEC_MOST_LEVELS];
    int32_t encoder_depths[AEC_MOST_LEVELS], decoder_depths[AEC_MOST_LEVELS];
    int32_t encoder_dilations[AEC_MOST_LEVELS][AEC_MOST_UNITS];
    int32_t decoder_dilations[AEC_MOST_LEVELS][AEC_MOST_UNITS];
    int32_t fine_stride, fine_channels, fine_depth, fine_dilations[AEC_MOST_UNITS];
} aec_config;

#define AEC_FLOAT32 0
#define AEC_INT8 1

/* A tensor of a model, by the name that codec/core/quantize.py gives it. Values of single precision
 * begin at a multiple of four bytes. */
typedef struct aec_tensor {
    const char *name;
    int32_t type;
    const void *values;
    size_t count;
} aec_tensor;

typedef struct aec_model aec_model;
typedef struct aec_coder aec_coder;

/* Copies what it needs of the tensors. */
AEC_EXPORT int aec_model_create(const aec_config *config, const aec_tensor *tensors,
                                size_t num_tensors, aec_model **model);
/* Coders of the model must be destroyed before. */
AEC_EXPORT void aec_model_destroy(aec_model *model);

/* Bytes of the state of one row, a multiple of eight; states begin at multiples of eight. */
AEC_EXPORT size_t aec_encoder_state_size(const aec_model *model);
AEC_EXPORT size_t aec_decoder_state_size(const aec_model *model);

/* States before any audio. `size`: bytes of those of all rows. */
AEC_EXPORT int aec_encoder_init(const aec_model *model, void *states, size_t size);
AEC_EXPORT int aec_decoder_init(const aec_model *model, void *states, size_t size);

AEC_EXPORT int aec_coder_create(const aec_model *model, aec_coder **coder);
AEC_EXPORT void aec_coder_destroy(aec_coder *coder);

/* Encodes the next frames of some rows.
 *
 * audio          [rows][channels][frames * hop]
 * from, to       states of all rows before and after, `state_size` bytes each; may be the same
 * codes          [rows][num_codebooks][frames]
 * errors         the same, mean squares of what each codebook leaves; or NULL
 * latent         [rows][frames][latent_dim], which the codes stand for; or NULL
 */
AEC_EXPORT int aec_encode(aec_coder *coder, size_t rows, size_t frames, size_t num_codebooks,
                          const float *audio, size_t audio_length, const void *from, void *to,
                          size_t state_size, int64_t *codes, size_t num_codes, float *errors,
                          float *latent, size_t latent_length);

/* Decodes the next frames of some rows. Negative codes are absent; a frame without any is what
 * follows the last one. */
AEC_EXPORT int aec_decode(aec_coder *coder, size_t rows, size_t frames, size_t num_codebooks,
                          const int64_t *codes, size_t num_codes, const void *from, void *to,
                          size_t state_size, float *audio, size_t audio_length);

#ifdef __cplusplus
}
#endif

#endif
