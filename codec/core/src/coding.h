/* What encoding, decoding and the search have in common. */

#ifndef AEC_CODING_H
#define AEC_CODING_H

#include "context.h"

/* A workspace, and arrays of the functions that use it, for as many frames of any rows. */
struct aec_coder {
    struct aec_workspace work;
    size_t num_frames;                             /* elements of each array, unless it says more */
    struct aec_interval *intervals;                /* [num_frames, 2 + 2 * K] */
    struct aec_range_decoder *decoders;            /* of packets */
    struct aec_distribution *of_first, *of_second; /* of candidates */
    struct aec_information *information;           /* of candidates */
    int32_t *sums;                                 /* [num_frames, most_outputs] */
    uint8_t *states;                               /* [num_frames, state_size] */
    uint8_t *present;                              /* whether a row has codes */
    uint32_t *rows, *lengths, *steps; /* rows that have a frame, frames of rows, of segments */
    uint32_t *counts;                 /* codes of a frame */
    /* Frames that have a code of a codebook, the index of that code, its first symbol, the frame
     * before with the same one, and where the sums of its second symbol are. */
    uint32_t *list, *symbols, *firsts, *before, *slots;
    const int8_t **grouped; /* inputs of frames with the same first symbol */
    uint32_t *leaders;      /* of candidates */
};

/* A coder in memory of a caller, for at least so many rows; an error if the memory is too small. */
int aec_coder_in(struct aec_coder *coder, const aec_context *model, uint64_t num_rows,
                 void *scratch, size_t scratch_size);

/* Products of sizes, or UINT64_MAX if they are larger than that. */
static inline uint64_t aec_times(uint64_t a, uint64_t b) {
    return b && a > UINT64_MAX / b ? UINT64_MAX : a * b;
}

static inline uint64_t aec_times4(uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    return aec_times(aec_times(a, b), aec_times(c, d));
}

/* Whether an array is not where it should be. */
static inline int aec_lacks(const void *array, size_t count) { return count && !array; }

/* Whether a model can have such packets. */
int aec_fits(const aec_context *model, const aec_packets *shape);

static inline uint32_t aec_ceil_div(uint32_t a, uint32_t b) { return a / b + (a % b != 0); }

/* Whether codes are absent or in their codebooks. */
int aec_are_codes(const aec_context *model, const int32_t *codes, size_t count);

#endif
