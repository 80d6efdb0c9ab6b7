/* The context model inside: how likely each code is, given the codes before it.
 *
 *   entries of the frame before -> dilated convolutions over past frames -> context
 *   context, entries of the codes before in this frame -> hidden units -> first, second symbol
 *
 * Weights and activations are integers of 8 bits. A product is followed by a shift that rounds
 * down, and a limit. Entries of absent codes are zero. */

#ifndef AEC_CONTEXT_H
#define AEC_CONTEXT_H

#include "aecodec.h"
#include "arena.h"
#include "distribution.h"
#include "kernel.h"
#include "memory.h"

struct aec_layer {
    size_t dilation;
    size_t state; /* where its inputs of the last `dilation` frames are in a row's state */
    struct aec_matrix taps, project;
};

struct aec_codebook {
    struct aec_matrix units; /* context, and entries of the codes before */
    struct aec_matrix hidden, first;
    struct aec_matrix *second; /* after each first symbol */
    int8_t *entries;           /* [codebook_size, entry_dim] of codes */
    uint16_t *order, *codes;   /* index of each code, code of each index */
};

struct aec_context {
    struct aec_arena memory;
    aec_context_sizes sizes;
    size_t num_layers;
    uint32_t first_values, second_values;
    const struct aec_kernel *kernel;
    struct aec_matrix past, counts;
    struct aec_layer *layers;
    struct aec_codebook *codebooks;
    struct aec_matrix *seconds; /* of all codebooks */
    uint32_t table[AEC_TABLE_SIZE];
    size_t entries_size; /* bytes of the entries of a frame */
    size_t context_size; /* bytes of what is known before it */
    size_t state_size;   /* of a row */
    size_t most_outputs; /* of a matrix */
};

/* Frames of rows that are computed together: more would not be faster, and need more memory. */
enum { AEC_FRAMES_TOGETHER = 64 };

/* What functions work in, for a number of frames of any rows. */
struct aec_workspace {
    const aec_context *model;
    int8_t *frames; /* [num_frames, context_size + entries_size]: context and entries of each */
    int8_t *taps;   /* [num_frames, inputs of the taps] */
    int8_t *units;  /* [num_frames, most_outputs]: of a hidden layer, or of a convolution */
    int8_t *hidden; /* the same after it */
    int32_t *sums;  /* [num_frames, most_outputs] */
    const int8_t **inputs; /* [num_frames] */
    uint8_t **states;      /* [num_frames], of rows */
};

/* Take the memory of a workspace. */
struct aec_workspace aec_workspace_in(const aec_context *model, size_t num_frames,
                                      struct aec_block *block);

static inline int8_t *aec_frame_context(const struct aec_workspace *work, size_t frame) {
    return work->frames + frame * (work->model->context_size + work->model->entries_size);
}

static inline int8_t *aec_frame_entries(const struct aec_workspace *work, size_t frame) {
    return aec_frame_context(work, frame) + work->model->context_size;
}

/* Entry of a code in the entries of a frame, which are zero before. */
void aec_set_entry(const aec_context *model, int8_t *entries, uint32_t codebook, uint32_t code);

/* What is known before each of [num_rows, num_frames] frames: their contexts, from the entries of
 * the frames before and the rows' states, in which the layers' inputs are replaced. */
void aec_compute_context(struct aec_workspace *work, size_t num_rows, size_t num_frames);

/* The last entries of each row become those that its state remembers. */
void aec_remember_entries(struct aec_workspace *work, size_t num_rows, size_t num_frames);

/* sums [count, outputs] of inputs[0 .. count - 1]. */
static inline void aec_multiply_inputs(const struct aec_workspace *work,
                                       const struct aec_matrix *matrix, size_t count) {
    work->model->kernel->multiply(matrix, work->inputs, count, work->sums);
}

/* Hidden units of a codebook for `count` listed frames: hidden [count, outputs], which then are the
 * inputs of the first symbol. */
void aec_compute_units(struct aec_workspace *work, uint32_t codebook, const uint32_t *frames,
                       size_t count);

/* The distribution of values from their sums, which become weights. */
struct aec_distribution aec_distribution_after(const aec_context *model, int32_t *sums,
                                               uint32_t num_values);

#endif
