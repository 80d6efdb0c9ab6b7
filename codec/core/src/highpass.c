/* The high-pass before coding: codec/highpass.py says why and how.
 *
 * Both filters are sections of second order that follow one another, in double precision, as their
 * poles lie near 1. The two run side by side as the halves of a vector. */

#include <math.h>

#include "aecodec.h"
#include "elementary.h"
#include "float_mode.h"

enum { NUM_SECTIONS = 3, HIGH = 0, LOW = 1 };

/* The high-pass, and the low-pass that measures rumble. */
typedef double pair __attribute__((vector_size(16)));

struct section {
    pair b0, b1, b2, a1, a2;
};

struct filter {
    struct section sections[NUM_SECTIONS];
    double direct; /* gain of the low-pass from a sample to the output at the same time */
    double weight; /* of a frame in the mean power of the rumble */
    size_t block;  /* samples from one measure of it to the next */
    size_t num_blocks;
};

/* An analog section: frequencies in Hz of its zeros, on the imaginary axis, and of its poles, and
 * the quality of these. The quality 0.5 stands for a single zero and pole, 0 for no section. */
struct analog {
    double zero, pole, quality;
};

/* Elliptic, of fifth order. From 44 Hz on it changes levels by 0.02 dB at most, below 25 Hz it
 * leaves less than 1 %, and of a constant nothing. */
static const struct analog HIGH_PASS[NUM_SECTIONS] = {
    {0.0, 52.18, 0.5}, {15.38, 43.74, 0.8852}, {23.65, 37.83, 3.483}};
/* Elliptic, of fourth order, with that gain at high frequencies. */
static const struct analog LOW_PASS[NUM_SECTIONS] = {
    {154.8, 13.78, 0.7966}, {66.16, 24.89, 3.888}, {0.0, 0.0, 0.0}};
static const double LOW_PASS_GAIN = 0.001;

/* Root mean square of what lies below 25 Hz from which on the high-pass acts, -50 dBFS; at the
 * double it acts fully. */
static const double RUMBLE = 0.0031622776601683795;
/* Time constant of that mean. */
static const double MEMORY_SECONDS = 0.5;
/* A state that has become so small is zero: processors are slow with far smaller numbers. */
static const double NEGLIGIBLE = 1e-15;

/* Coefficients of s^2 + width * s + frequency^2, where s is `rate` times (z - 1) / (z + 1). */
static void second_order(double rate, double frequency, double width, double *found) {
    const double squares = rate * rate + frequency * frequency;
    found[0] = squares + rate * width;
    found[1] = 2.0 * (frequency * frequency - rate * rate);
    found[2] = squares - rate * width;
}

/* A section by the bilinear transform. */
static void set_section(struct section *section, int side, const struct analog *analog,
                        double sample_rate) {
    const double rate = sample_rate / 3.141592653589793;
    double b[3] = {1.0, 0.0, 0.0}, a[3] = {1.0, 0.0, 0.0};
    if (analog->quality == 0.5) {
        b[0] = rate + analog->zero;
        b[1] = analog->zero - rate;
        a[0] = rate + analog->pole;
        a[1] = analog->pole - rate;
    } else if (analog->quality > 0.0) {
        second_order(rate, analog->zero, 0.0, b);
        second_order(rate, analog->pole, analog->pole / analog->quality, a);
    }
    section->b0[side] = b[0] / a[0];
    section->b1[side] = b[1] / a[0];
    section->b2[side] = b[2] / a[0];
    section->a1[side] = a[1] / a[0];
    section->a2[side] = a[2] / a[0];
}

static struct filter make_filter(double sample_rate, size_t hop) {
    struct filter filter;
    filter.direct = LOW_PASS_GAIN;
    for (int i = 0; i < NUM_SECTIONS; i++) {
        set_section(&filter.sections[i], HIGH, &HIGH_PASS[i], sample_rate);
        set_section(&filter.sections[i], LOW, &LOW_PASS[i], sample_rate);
        filter.direct *= filter.sections[i].b0[LOW];
    }
    /* 1 - exp(-x), within x^4 / 720 of it. */
    const double x = (double)hop / (MEMORY_SECONDS * sample_rate);
    filter.weight = x / (1.0 + x / 2.0 + x * x / 12.0);
    /* About as many measures in a frame as what lies below 25 Hz needs. */
    filter.num_blocks = (size_t)(sqrt((double)hop / 10.0) + 0.5);
    if (!filter.num_blocks) filter.num_blocks = 1;
    filter.block = (hop + filter.num_blocks - 1) / filter.num_blocks;
    return filter;
}

static double gain_of(double power) {
    const double gain = sqrt(power) / RUMBLE - 1.0;
    return gain > 0.0 ? (gain < 1.0 ? gain : 1.0) : 0.0;
}

static inline pair next(const struct section *section, pair *state, pair x) {
    const pair y = section->b0 * x + state[0];
    state[0] = (section->b1 * x + state[1]) - section->a1 * y;
    state[1] = section->b2 * x - section->a2 * y;
    return y;
}

/* A frame of a channel. `high` is given what the high-pass leaves; returns the mean square of what
 * the low-pass does. */
static double run_frame(const struct filter *filter, const float *x, size_t hop, pair *state,
                        float *high) {
    double power = 0.0;
    pair kept[2 * NUM_SECTIONS];
    for (int i = 0; i < 2 * NUM_SECTIONS; i++) kept[i] = state[i];
    for (size_t begin = 0; begin < hop; begin += filter->block) {
        const size_t end = begin + filter->block < hop ? begin + filter->block : hop;
        for (size_t i = begin; i < end; i++) {
            const double sample = (double)aec_usable(x[i]);
            pair y = {sample, LOW_PASS_GAIN * sample};
            for (int s = 0; s < NUM_SECTIONS; s++) y = next(&filter->sections[s], kept + 2 * s, y);
            high[i] = (float)y[HIGH];
            if (i == begin) {
                const double low = y[LOW] - filter->direct * sample;
                power += low * low;
            }
        }
    }
    for (int i = 0; i < 2 * NUM_SECTIONS; i++)
        for (int side = 0; side < 2; side++)
            state[i][side] = fabs(kept[i][side]) < NEGLIGIBLE ? 0.0 : kept[i][side];
    return power / (double)filter->num_blocks;
}

/* A number of a state, which the caller may have made. */
static double usable(double x) { return fabs(x) < 1e30 ? x : 0.0; }

/* Frames of a channel. Its state: those of the sections, and the mean power of the rumble. */
static void run_channel(const struct filter *filter, const float *x, size_t num_frames, size_t hop,
                        double *state, float *out) {
    pair sections[2 * NUM_SECTIONS];
    for (int i = 0; i < 2 * NUM_SECTIONS; i++)
        sections[i] = (pair){usable(state[2 * i]), usable(state[2 * i + 1])};
    double *power = state + 4 * NUM_SECTIONS;
    *power = usable(*power);
    for (size_t t = 0; t < num_frames; t++, x += hop, out += hop) {
        const double before = gain_of(*power);
        const double now = run_frame(filter, x, hop, sections, out);
        *power += filter->weight * (now - *power);
        const double rise = (gain_of(*power) - before) / (double)hop;
        if (before > 0.0 || rise > 0.0)
            for (size_t i = 0; i < hop; i++) {
                const double gain = before + rise * (double)(i + 1);
                const double sample = (double)aec_usable(x[i]);
                out[i] = (float)(sample + gain * ((double)out[i] - sample));
            }
        else
            for (size_t i = 0; i < hop; i++) out[i] = aec_usable(x[i]);
    }
    for (int i = 0; i < 2 * NUM_SECTIONS; i++) {
        state[2 * i] = sections[i][0];
        state[2 * i + 1] = sections[i][1];
    }
}

int aec_high_pass(uint32_t sample_rate, uint32_t hop, uint32_t channels, const float *audio,
                  size_t num_audio, double *state, size_t num_state, float *filtered,
                  size_t num_filtered) {
    if (!sample_rate || !hop || !channels || num_audio % ((uint64_t)hop * channels) ||
        num_filtered != num_audio || num_state / AEC_HIGH_PASS_STATE != channels ||
        num_state % AEC_HIGH_PASS_STATE || (num_audio && (!audio || !filtered)) || !state)
        return AEC_ERROR_ARGUMENT;
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    const struct filter filter = make_filter((double)sample_rate, hop);
    const size_t length = num_audio / channels;
    for (size_t c = 0; c < channels; c++)
        run_channel(&filter, audio + c * length, length / hop, hop, state + c * AEC_HIGH_PASS_STATE,
                    filtered + c * length);
    aec_set_float_mode(mode);
    return 0;
}
