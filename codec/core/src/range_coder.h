/* A range coder: symbols of known probabilities to bytes and back (Martin, 1979).
 *
 * The coder narrows an interval of integers by every symbol, in proportion to its frequency, and
 * writes the leading bytes of the interval as soon as they are certain. */

#ifndef AEC_RANGE_CODER_H
#define AEC_RANGE_CODER_H

#include <stddef.h>
#include <stdint.h>

enum { AEC_TOTAL_BITS = 16, AEC_TOTAL = 1 << AEC_TOTAL_BITS };

/* Where a symbol lies among the frequencies of all symbols, whose sum is AEC_TOTAL. */
struct aec_interval {
    uint32_t start; /* sum of the frequencies of the symbols before it */
    uint32_t frequency;
};

struct aec_range_encoder {
    uint64_t low, range;
    uint8_t *bytes;
    size_t length, capacity;
};

struct aec_range_encoder aec_range_encoder_in(uint8_t *bytes, size_t capacity);

/* Symbols take 16 bits at most, and the end 4 bytes. What is beyond the capacity is not written. */
void aec_range_encode(struct aec_range_encoder *encoder, struct aec_interval symbol);

/* The number of bytes, which are the fewest that stand for all symbols: zeros may follow them. */
size_t aec_range_finish(struct aec_range_encoder *encoder);

struct aec_range_decoder {
    uint64_t range;
    uint64_t number; /* relative to the lower end of the interval */
    const uint8_t *bytes;
    size_t position, length;
};

struct aec_range_decoder aec_range_decoder_of(const uint8_t *bytes, size_t length);

/* A number below AEC_TOTAL. Above it are the remainder of the division of the interval, and damaged
 * bytes: they belong to the last symbol. */
uint32_t aec_range_peek(const struct aec_range_decoder *decoder);

/* Go on after the symbol in which that number lies. */
void aec_range_skip(struct aec_range_decoder *decoder, struct aec_interval symbol);

#endif
