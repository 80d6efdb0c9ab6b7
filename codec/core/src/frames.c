/* What is measured of frames of audio, and decides how many codes they get: levels, perceptual
 * weights, spectra, and the slopes of errors. */

#include <math.h>

#include "aecodec.h"
#include "elementary.h"
#include "float_mode.h"
#include "sums.h"

/* Perceptual weights are the power of a frame to this: codec/rate/allocation.py. */
#define LOUDNESS 0.3f

/* In dB of full scale, of a power that is not negative. */
static float level_of(float power) { return 4.3429448f * aec_log(power + 1e-12f); }

int aec_measure_frames(uint32_t frame_length, const float *audio, size_t num_audio, float *levels,
                       size_t num_levels, float *weights, size_t num_weights) {
    if (!frame_length || num_audio % frame_length || num_levels != num_audio / frame_length ||
        num_weights != num_levels || (num_audio && (!audio || !levels || !weights)))
        return AEC_ERROR_ARGUMENT;
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    for (size_t t = 0; t < num_levels; t++) {
        const float *frame = audio + t * frame_length;
        const float power = aec_inner_product(frame, frame, frame_length) / (float)frame_length;
        levels[t] = level_of(power);
        weights[t] = aec_power(power + 1e-10f, LOUDNESS);
    }
    aec_set_float_mode(mode);
    return 0;
}

/* A window of Hann, which is zero at both ends; cosines and sines of a turn in `length` steps. */
static void make_tables(size_t length, float *window, float *cosines, float *sines) {
    const float last = length > 1 ? (float)(length - 1) : 1.0f, all = (float)length;
    for (size_t i = 0; i < length; i++) {
        window[i] = length > 1 ? 0.5f - 0.5f * aec_cos_turns((float)i / last) : 1.0f;
        cosines[i] = aec_cos_turns((float)i / all);
        sines[i] = aec_sin_turns((float)i / all);
    }
}

/* The power of a windowed frame from a bin of its spectrum on, as far as that is below the half of
 * the sampling rate: what all bins have (Parseval) but for those below it. */
static double power_above(const float *x, size_t length, size_t bin, const float *window,
                          const float *cosines, const float *sines) {
    double all = 0.0, constant = 0.0, alternating = 0.0, below = 0.0;
    for (size_t i = 0; i < length; i++) {
        const double y = (double)aec_usable(x[i]) * (double)window[i];
        all += y * y;
        constant += y;
        alternating += i % 2 ? -y : y;
    }
    if (length % 2) alternating = 0.0;
    for (size_t k = 0; k < bin; k++) {
        double real = 0.0, imaginary = 0.0;
        for (size_t i = 0, place = 0; i < length; i++) {
            const double y = (double)aec_usable(x[i]) * (double)window[i];
            real += y * (double)cosines[place];
            imaginary += y * (double)sines[place];
            place += k;
            if (place >= length) place -= length;
        }
        below += real * real + imaginary * imaginary;
    }
    const double above = (double)length * all + constant * constant + alternating * alternating;
    return above / 2.0 - below > 0.0 ? above / 2.0 - below : 0.0;
}

int aec_levels_above(uint32_t frame_length, uint32_t bin, const float *audio, size_t num_audio,
                     float *levels, size_t num_levels, float *scratch, size_t num_scratch) {
    if (!frame_length || bin > frame_length / 2 || num_audio % frame_length ||
        num_levels != num_audio / frame_length || num_scratch / 3 < frame_length ||
        (num_audio && (!audio || !levels)) || !scratch)
        return AEC_ERROR_ARGUMENT;
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    float *window = scratch, *cosines = window + frame_length, *sines = cosines + frame_length;
    make_tables(frame_length, window, cosines, sines);
    double scale = 0.0;
    for (size_t i = 0; i < frame_length; i++) scale += (double)window[i] * (double)window[i];
    for (size_t t = 0; t < num_levels; t++) {
        const double power =
            power_above(audio + t * frame_length, frame_length, bin, window, cosines, sines);
        levels[t] = level_of((float)(2.0 * power / ((double)frame_length * scale)));
    }
    aec_set_float_mode(mode);
    return 0;
}

/* The spectra of AEC_LANES frames, [length][AEC_LANES], side by side: adds their powers. */
static void add_powers(const float *frames, size_t length, const float *cosines, const float *sines,
                       float *spectrum) {
    for (size_t k = 0; k <= length / 2; k++) {
        float real[AEC_LANES] = {0}, imaginary[AEC_LANES] = {0};
        const float *x = frames;
        for (size_t i = 0, place = 0; i < length; i++, x += AEC_LANES) {
            const float c = cosines[place], s = sines[place];
            for (size_t l = 0; l < AEC_LANES; l++) {
                real[l] += x[l] * c;
                imaginary[l] += x[l] * s;
            }
            place += k;
            if (place >= length) place -= length;
        }
        for (size_t l = 0; l < AEC_LANES; l++)
            spectrum[k] += real[l] * real[l] + imaginary[l] * imaginary[l];
    }
}

int aec_mean_spectrum(uint32_t frame_length, const float *audio, size_t num_audio, float *spectrum,
                      size_t num_spectrum, float *scratch, size_t num_scratch) {
    if (frame_length < 2 || !num_audio || num_audio % frame_length ||
        num_spectrum != (frame_length - 1) / 2 + 1 ||
        num_scratch / (3 + AEC_LANES) < frame_length || !audio || !spectrum || !scratch)
        return AEC_ERROR_ARGUMENT;
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    const size_t length = frame_length - 1, num_frames = num_audio / frame_length;
    float *window = scratch, *cosines = window + length, *sines = cosines + length;
    float *frames = sines + length;
    make_tables(length, window, cosines, sines);
    for (size_t k = 0; k < num_spectrum; k++) spectrum[k] = 0.0f;
    for (size_t first = 0; first < num_frames; first += AEC_LANES) {
        for (size_t l = 0; l < AEC_LANES; l++) {
            const size_t t = first + l;
            const float *x = t < num_frames ? audio + t * frame_length : NULL;
            for (size_t i = 0; i < length; i++)
                frames[i * AEC_LANES + l] = x ? aec_usable(x[i + 1] - x[i]) * window[i] : 0.0f;
        }
        add_powers(frames, length, cosines, sines, spectrum);
    }
    for (size_t k = 0; k < num_spectrum; k++) spectrum[k] /= (float)num_frames;
    aec_set_float_mode(mode);
    return 0;
}

int aec_slopes(const double *errors, size_t num_errors, const double *bits, size_t num_bits,
               double *slopes, size_t num_slopes) {
    if (!num_bits || num_errors % num_bits || num_slopes != num_errors || !bits ||
        (num_errors && (!errors || !slopes)))
        return AEC_ERROR_ARGUMENT;
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    for (size_t t = 0; t < num_errors; t += num_bits) {
        const double *error = errors + t;
        double steepest = INFINITY;
        slopes[t] = steepest;
        for (size_t k = 0; k + 1 < num_bits; k++) {
            /* The steepest of those from this codebook to each after it. */
            double most = -INFINITY, between = 0.0;
            for (size_t j = k + 1; j < num_bits; j++) {
                between += bits[j];
                const double slope = (error[k] - error[j]) / between;
                most = slope > most ? slope : most;
            }
            steepest = most < steepest ? most : steepest;
            slopes[t + k + 1] = steepest;
        }
    }
    aec_set_float_mode(mode);
    return 0;
}
