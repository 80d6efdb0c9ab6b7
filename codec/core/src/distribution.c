#include "distribution.h"

#include <string.h>

void aec_distribution_table(uint32_t *table) {
    double power = AEC_TOTAL;
    for (int step = 0; step < AEC_TABLE_SIZE; step++) {
        table[step] = (uint32_t)(power + 0.5);
        /* A new bit starts from an exact power, so that errors do not grow. */
        if ((step + 1) % (1 << AEC_STEP_BITS) == 0)
            power = AEC_TOTAL >> ((step + 1) >> AEC_STEP_BITS);
        else
            power *= 0x1.fd3c22b8f71f1p-1; /* 2^(-1 / 128) */
    }
}

struct aec_distribution aec_distribution_of(const uint32_t *table, int32_t *sums, uint32_t count,
                                            int shift) {
    struct aec_distribution found = {sums, count, 0};
    int32_t largest = sums[0];
    for (uint32_t value = 1; value < count; value++)
        largest = sums[value] > largest ? sums[value] : largest;
    for (uint32_t value = 0; value < count; value++) {
        uint32_t step = (uint32_t)(largest - sums[value]) >> shift;
        sums[value] = (int32_t)table[step < AEC_TABLE_SIZE ? step : AEC_TABLE_SIZE - 1];
        found.total += (uint64_t)sums[value];
    }
    return found;
}

/* Sum of the frequencies of the first values, whose weights have this sum. */
static uint32_t cumulative(const struct aec_distribution *distribution, uint32_t values,
                           uint64_t sum) {
    return values + (uint32_t)(sum * (AEC_TOTAL - distribution->count) / distribution->total);
}

static struct aec_interval interval_after(const struct aec_distribution *distribution,
                                          uint32_t value, uint64_t sum) {
    uint64_t next = sum + (uint64_t)distribution->weights[value];
    uint32_t start = cumulative(distribution, value, sum);
    return (struct aec_interval){start, cumulative(distribution, value + 1, next) - start};
}

struct aec_interval aec_interval_of(const struct aec_distribution *distribution, uint32_t value) {
    uint64_t sum = 0;
    for (uint32_t before = 0; before < value; before++)
        sum += (uint64_t)distribution->weights[before];
    return interval_after(distribution, value, sum);
}

uint32_t aec_decode_value(const struct aec_distribution *distribution,
                          struct aec_range_decoder *decoder) {
    uint32_t last = distribution->count - 1, value = 0;
    int64_t shared = AEC_TOTAL - (int64_t)distribution->count;
    uint64_t sum = 0;
    if (last == 0) return 0;
    /* The first value whose end is above the number, without a division for each:
     * floor(a / b) < c is a < b * c. */
    uint32_t peeked = aec_range_peek(decoder);
    int64_t number = peeked < 2 * AEC_TOTAL ? peeked : 2 * AEC_TOTAL;
    for (; value < last; value++) {
        uint64_t next = sum + (uint64_t)distribution->weights[value];
        if ((int64_t)next * shared >= (number - value) * (int64_t)distribution->total) break;
        sum = next;
    }
    aec_range_skip(decoder, interval_after(distribution, value, sum));
    return value;
}

static const double SCALING = 0x1p900;

void aec_information_add(struct aec_information *information, struct aec_interval interval) {
    information->probability *= interval.frequency * 0x1p-16;
    if (information->probability < 0x1p-900) {
        information->probability *= SCALING;
        information->scalings++;
    }
}

/* Logarithm to the base 2 of a normal number. */
static double log2_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    double exponent = (double)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffu) | 0x3ff0000000000000u;
    memcpy(&x, &bits, sizeof bits);
    if (x > 1.4142135623730951) {
        x *= 0.5;
        exponent += 1;
    }
    /* log(x) = 2 * artanh((x - 1) / (x + 1)), whose series ends below the precision. */
    double ratio = (x - 1) / (x + 1), square = ratio * ratio, sum = 0;
    for (int power = 23; power > 0; power -= 2) sum = sum * square + 1.0 / power;
    return exponent + 2 / 0.6931471805599453 * (ratio * sum);
}

double aec_information_bits(const struct aec_information *information) {
    return 900.0 * information->scalings - log2_of(information->probability);
}
