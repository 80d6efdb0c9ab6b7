/* How many codes frames get: the lambda that a budget allows, and the control of a mean bitrate
 * (codec/rate/allocation.py says why). */

#include <math.h>
#include <string.h>

#include "aecodec.h"
#include "float_mode.h"
#include "rounding.h"

/* Numbers of the state. Behind them lie the slopes of the newest frames of a live stream. */
enum { TARGET, LAMBDA, FRAME_RATE, BITS_PER_CODE, RATIO, EXCESS, AGE, NEXT, FILLED };

/* In live streams lambda is chosen by the newest frames, so many seconds. */
#define WINDOW_SECONDS 8.0
/* Within so long they make up for bits that were spent too much or too little, */
#define HORIZON_SECONDS 2.0
/* by this share of the target at most. */
#define MOST_CORRECTION 0.5
/* Their lambda holds at least so long: it would change little from one frame to the next. */
#define CHOICE_SECONDS 0.2
/* Time over which the ratio of coded to plain bits is averaged, and the first value of it. */
#define RATIO_SECONDS 4.0
#define FIRST_RATIO 0.85

enum { DIGIT_BITS = 11, NUM_DIGITS = 1 << DIGIT_BITS };

/* Whole numbers in the order of the doubles. */
static uint64_t key_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
}

/* The value that `rank` others are below or equal to, found digit by digit. */
static double value_of_rank(const double *values, size_t count, size_t rank) {
    uint64_t found = 0, known = 0; /* the first digits, and a mask of them */
    for (unsigned shift = 64; shift > 0;) {
        const unsigned width = shift < DIGIT_BITS ? shift : DIGIT_BITS;
        const uint64_t mask = ((uint64_t)1 << width) - 1;
        size_t counts[NUM_DIGITS] = {0};
        shift -= width;
        for (size_t i = 0; i < count; i++) {
            const uint64_t key = key_of(values[i]);
            if ((key & known) == found) counts[key >> shift & mask]++;
        }
        uint64_t digit = 0;
        while (digit < mask && rank >= counts[digit]) rank -= counts[digit++];
        found |= digit << shift;
        known |= mask << shift;
    }
    const uint64_t bits = found >> 63 ? found ^ (uint64_t)1 << 63 : ~found;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The lambda at which `rows` frames of `size` slopes take about `budget` bits. */
static double lambda_for(const double *slopes, size_t rows, size_t size, double budget,
                         double bits_per_code) {
    /* The steepest slope that is not affordable any more is not above lambda. */
    const size_t count = rows * size;
    if (!(budget < (double)count * bits_per_code)) return -INFINITY;
    size_t affordable = rows;
    if (budget > (double)rows * bits_per_code) {
        affordable = (size_t)(budget / bits_per_code);
        if ((double)affordable * bits_per_code > budget) affordable--; /* it was rounded up */
    }
    if (affordable < rows) affordable = rows;
    return affordable < count ? value_of_rank(slopes, count, count - 1 - affordable) : -INFINITY;
}

int aec_lambda(uint32_t num_codebooks, const double *slopes, size_t num_slopes, double budget,
               double bits_per_code, double *lambda, size_t num_lambda) {
    if (!num_codebooks || num_slopes % num_codebooks || (num_slopes && !slopes) ||
        !(bits_per_code > 0.0 && bits_per_code < INFINITY) || num_lambda != 1 || !lambda)
        return AEC_ERROR_ARGUMENT;
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    *lambda = lambda_for(slopes, num_slopes / num_codebooks, num_codebooks, budget, bits_per_code);
    aec_set_float_mode(mode);
    return 0;
}

size_t aec_rate_size(double frame_rate, uint32_t channels, uint32_t num_codebooks) {
    if (!(frame_rate > 0.0 && frame_rate < 1e6) || !channels || !num_codebooks ||
        channels > 0xffff || num_codebooks > 0xffff)
        return 0;
    const uint64_t frames = aec_nearest(WINDOW_SECONDS * frame_rate);
    const uint64_t rows = (frames ? frames : 1) * channels;
    if (rows > (SIZE_MAX / 16 - AEC_RATE_STATE) / num_codebooks) return 0;
    return AEC_RATE_STATE + (size_t)rows * num_codebooks;
}

int aec_rate_init(double target, double frame_rate, double bits_per_code, double *state,
                  size_t num_state) {
    if (num_state < AEC_RATE_STATE || !state || !(frame_rate > 0.0) ||
        !(bits_per_code > 0.0 && bits_per_code < INFINITY))
        return AEC_ERROR_ARGUMENT;
    memset(state, 0, num_state * sizeof *state);
    state[TARGET] = target;
    state[LAMBDA] = INFINITY;
    state[FRAME_RATE] = frame_rate;
    state[BITS_PER_CODE] = bits_per_code;
    state[RATIO] = FIRST_RATIO;
    state[AGE] = INFINITY;
    return 0;
}

/* Whether a state is one that `aec_rate_init` could have made, and slopes are those of frames. */
static int fits(const double *state, size_t num_state, uint32_t channels, uint32_t num_codebooks,
                const double *slopes, size_t num_slopes) {
    return state && num_state >= AEC_RATE_STATE && channels && num_codebooks &&
           num_slopes % num_codebooks == 0 && (!num_slopes || slopes) && state[FRAME_RATE] > 0.0 &&
           state[BITS_PER_CODE] > 0.0 && state[BITS_PER_CODE] < INFINITY;
}

static void set_lambda(double *state, const double *slopes, size_t rows, size_t size, double bits) {
    state[LAMBDA] = lambda_for(slopes, rows, size, bits / state[RATIO], state[BITS_PER_CODE]);
}

int aec_rate_share(uint32_t channels, uint32_t num_codebooks, double num_frames,
                   const double *slopes, size_t num_slopes, double *state, size_t num_state) {
    if (!fits(state, num_state, channels, num_codebooks, slopes, num_slopes))
        return AEC_ERROR_ARGUMENT;
    if (!num_slopes) return 0;
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    const double budget = state[TARGET] * num_frames - state[EXCESS];
    set_lambda(state, slopes, num_slopes / num_codebooks, num_codebooks, budget * channels);
    aec_set_float_mode(mode);
    return 0;
}

/* The newest frames, of which old ones are replaced. */
static void keep(double *state, size_t window, size_t size, const double *slopes, size_t rows) {
    size_t next = (size_t)state[NEXT], filled = (size_t)state[FILLED];
    for (size_t i = rows > window ? rows - window : 0; i < rows; i++) {
        double *place = state + AEC_RATE_STATE + next * size;
        memcpy(place, slopes + i * size, size * sizeof *place);
        next = next + 1 < window ? next + 1 : 0;
        if (filled < window) filled++;
    }
    state[NEXT] = (double)next;
    state[FILLED] = (double)filled;
}

int aec_rate_follow(uint32_t channels, uint32_t num_codebooks, double num_frames,
                    const double *slopes, size_t num_slopes, double *state, size_t num_state) {
    if (!fits(state, num_state, channels, num_codebooks, slopes, num_slopes) ||
        (num_state - AEC_RATE_STATE) % num_codebooks)
        return AEC_ERROR_ARGUMENT;
    const size_t window = (num_state - AEC_RATE_STATE) / num_codebooks;
    if (!window || !(state[NEXT] >= 0.0 && state[NEXT] < (double)window) ||
        !(state[FILLED] >= 0.0 && state[FILLED] <= (double)window))
        return AEC_ERROR_ARGUMENT;
    if (!num_slopes) return 0;
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    keep(state, window, num_codebooks, slopes, num_slopes / num_codebooks);
    state[AGE] += num_frames / state[FRAME_RATE];
    if (state[AGE] >= CHOICE_SECONDS) {
        double correction = state[EXCESS] / (HORIZON_SECONDS * state[FRAME_RATE] * state[TARGET]);
        correction = correction > -MOST_CORRECTION ? correction : -MOST_CORRECTION;
        correction = correction < MOST_CORRECTION ? correction : MOST_CORRECTION;
        const double bits = state[TARGET] * (1.0 - correction) * state[FILLED];
        set_lambda(state, state + AEC_RATE_STATE, (size_t)state[FILLED], num_codebooks, bits);
        state[AGE] = 0.0;
    }
    aec_set_float_mode(mode);
    return 0;
}

int aec_rate_spent(uint32_t channels, double num_frames, double bits, double num_codes,
                   double *state, size_t num_state) {
    if (!fits(state, num_state, channels, 1, NULL, 0)) return AEC_ERROR_ARGUMENT;
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    state[EXCESS] += bits / channels - state[TARGET] * num_frames;
    const double plain = state[BITS_PER_CODE] * num_codes;
    if (plain > 0.0) {
        /* 1 - exp(-x), within x^4 / 720 of it. */
        const double x = num_frames / state[FRAME_RATE] / RATIO_SECONDS;
        state[RATIO] += x / (1.0 + x / 2.0 + x * x / 12.0) * (bits / plain - state[RATIO]);
    }
    aec_set_float_mode(mode);
    return 0;
}
