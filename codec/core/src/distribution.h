/* Probabilities of the values of a symbol, from sums that are their logarithms. */

#ifndef AEC_DISTRIBUTION_H
#define AEC_DISTRIBUTION_H

#include <stddef.h>
#include <stdint.h>

#include "range_coder.h"

/* Sums are logarithms to the base 2. The table has 128 steps for one bit, and ends where a
 * probability would be 2^-16. */
enum { AEC_STEP_BITS = 7, AEC_TABLE_SIZE = AEC_TOTAL_BITS << AEC_STEP_BITS };

/* Powers of two from 2^16 downwards, rounded: the same on every machine, since none of them is as
 * close to a half as products of doubles are inexact. */
void aec_distribution_table(uint32_t *table);

/* Values with their weights, whose sum is the total. */
struct aec_distribution {
    const int32_t *weights;
    uint32_t count;
    uint64_t total;
};

/* Replace sums by weights: table entries, by how far sums are below the largest one, in steps of
 * 2^shift. */
struct aec_distribution aec_distribution_of(const uint32_t *table, int32_t *sums, uint32_t count,
                                            int shift);

/* Where a value lies: each has a frequency of at least one, the others are shared by weight. */
struct aec_interval aec_interval_of(const struct aec_distribution *distribution, uint32_t value);

/* The next value; the first one, for which nothing was coded, if there is no other. */
uint32_t aec_decode_value(const struct aec_distribution *distribution,
                          struct aec_range_decoder *decoder);

/* Information content of intervals, as the product of their probabilities. It is found by
 * operations that are the same to the bit on every machine. */
struct aec_information {
    double probability;
    uint32_t scalings; /* by 2^-900 */
};

void aec_information_add(struct aec_information *information, struct aec_interval interval);

double aec_information_bits(const struct aec_information *information);

#endif
