/* The core of aecodec: numbers in, numbers out.
 *
 * Functions return 0 or one of the errors below, unless they say otherwise. They check all sizes
 * and read and write nothing beyond them, whatever the values are. None keeps anything between
 * calls but in the memory that it is given, so different threads may call them at the same time
 * with different memory. */

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
#define AEC_INTERFACE 1

#define AEC_ERROR_ARGUMENT (-1) /* a size or a value is impossible */
#define AEC_ERROR_MEMORY (-2)   /* there is not enough memory */
#define AEC_ERROR_KERNEL (-3)   /* this processor has no kernel of that name */
#define AEC_ERROR_MODEL (-4)    /* a tensor is missing, or of another size than it should have */

/* AEC_INTERFACE of the library, to be compared with that of the header. */
AEC_EXPORT int aec_interface(void);

/* The network: a model, which is not changed after it was made; coders, each with memory for the
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

/* A tensor of a model, by the name that codec/core/quantize.py gives it. */
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
