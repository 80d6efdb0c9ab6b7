/* The second stage: FineSynthesis of codec/network/fine.py.
 *
 * A spectrum is a row of real parts and one of imaginary parts, each of `padded` bins. Rows of the
 * network's input hold the four spectra and the conditions. */

#include <string.h>

#include "elementary.h"
#include "model.h"

static size_t spectrum_of(const struct aec_fine *fine) { return 2 * fine->padded; }

/* Pulses and the audio of earlier periods of a row: `sources` becomes [AEC_SPECTRA][samples]. */
static void make_sources(const struct aec_piece *piece, const struct aec_fine *fine, size_t r,
                         const float *audio, const float *logits, size_t frames) {
    struct aec_coder *coder = piece->coder;
    const size_t block = fine->block, length = frames * block, reach = fine->reach;
    const char *from = (const char *)piece->from + r * piece->state;
    char *to = (char *)piece->to + r * piece->state;
    struct aec_pulse_tables tables = {
        .block = block,
        .sample_rate = (float)coder->model->config.sample_rate,
        .ramp = fine->ramp,
        .triangle = fine->triangle,
        .scratch = coder->pulses,
    };
    float *padded = coder->pulses + 4 * aec_row(block); /* a block of audio, and zeros */
    float *pulses = coder->sources + (AEC_SPECTRA - 1) * length;
    struct aec_oscillator state;
    memcpy(&state, from + fine->oscillator, sizeof state);
    for (size_t t = 0; t < frames; t++) {
        const float *posterior = logits + t * fine->logits.outputs;
        float pitch = piece->loops->pitch(posterior, fine->log_pitches, AEC_PITCH_STEPS);
        pitch = pitch > AEC_LOWEST_PITCH ? pitch : AEC_LOWEST_PITCH;
        pitch = pitch < AEC_HIGHEST_PITCH ? pitch : AEC_HIGHEST_PITCH;
        memcpy(padded, audio + t * block, block * sizeof(float));
        piece->loops->pulses(&state, &tables, padded, pitch, pulses + t * block,
                             coder->period + t * block);
    }
    memcpy(to + fine->oscillator, &state, sizeof state);

    memcpy(coder->sources, audio, length * sizeof(float));
    float *weights = coder->hidden;
    piece->loops->interpolation(coder->period, length, fine->longest, coder->back, weights);
    for (size_t p = 0; p < AEC_PERIODS; p++) {
        const size_t place = fine->past + p * reach * sizeof(float);
        const float *source = coder->sources + p * length;
        memcpy(coder->audio, from + place, reach * sizeof(float));
        memcpy(coder->audio + reach, source, length * sizeof(float));
        piece->loops->earlier(coder->audio + reach, coder->back, weights, length,
                              coder->sources + (p + 1) * length);
        memcpy(to + place, coder->audio + length, reach * sizeof(float));
    }
}

/* The spectra of all sources of a row, in frames of `stride`. */
static void analyze(const struct aec_piece *piece, const struct aec_fine *fine, size_t r,
                    size_t length, float *spectra) {
    const struct aec_fourier *fourier = &fine->analysis;
    const size_t stride = fine->stride, kept = stride * sizeof(float), padded = fine->padded;
    const size_t num_frames = length / stride, spectrum = spectrum_of(fine);
    float *samples = piece->coder->audio, *even = piece->coder->hidden;
    float *odd = even + num_frames * padded;
    for (size_t s = 0; s < AEC_SPECTRA; s++) {
        const size_t place = r * piece->state + fine->samples + s * kept;
        memcpy(samples, piece->from + place, kept);
        memcpy(samples + stride, piece->coder->sources + s * length, length * sizeof(float));
        memcpy(piece->to + place, samples + length, kept);
        for (size_t t = 0; t < num_frames; t++)
            piece->loops->fold(samples + t * stride, fourier->window, stride, even + t * padded,
                               odd + t * padded);
        float *out = spectra + s * spectrum;
        const size_t row = AEC_SPECTRA * spectrum;
        piece->loops->dense(&fourier->cosines, NULL, even, padded, num_frames, out, row);
        piece->loops->dense(&fourier->sines, NULL, odd, padded, num_frames, out + padded, row);
    }
}

static void find_envelope(const struct aec_piece *piece, const struct aec_fine *fine, size_t r,
                          size_t num_frames, const float *spectra, float *envelope) {
    const size_t padded = fine->padded, row = AEC_SPECTRA * spectrum_of(fine);
    const size_t kept = (AEC_ENVELOPE_FRAMES - 1) * padded * sizeof(float);
    const size_t place = r * piece->state + fine->powers;
    float *powers = piece->coder->hidden;
    memcpy(powers, piece->from + place, kept);
    for (size_t t = 0; t < num_frames; t++)
        piece->loops->smooth_power(spectra + t * row, fine->bins, padded,
                                   powers + (t + AEC_ENVELOPE_FRAMES - 1) * padded);
    for (size_t t = 0; t < num_frames; t++)
        piece->loops->envelope(powers + t * padded, padded, padded, envelope + t * padded);
    memcpy(piece->to + place, powers + num_frames * padded, kept);
}

/* What the network sees: companded spectra, that of the pulses at half its level, conditions. */
static void show(const struct aec_piece *piece, const struct aec_fine *fine, size_t num_frames,
                 const float *spectra, const float *conditions, float *seen) {
    const size_t spectrum = spectrum_of(fine);
    for (size_t t = 0; t < num_frames; t++, spectra += AEC_SPECTRA * spectrum, seen += fine->row) {
        for (size_t s = 0; s + 1 < AEC_SPECTRA; s++)
            piece->loops->compand_complex(spectra + s * spectrum, fine->padded,
                                          seen + s * spectrum);
        const float *pulses = spectra + (AEC_SPECTRA - 1) * spectrum;
        float *y = seen + (AEC_SPECTRA - 1) * spectrum;
        for (size_t i = 0; i < spectrum; i++) y[i] = 0.5f * pulses[i];
        memcpy(y + spectrum, conditions + t * fine->conditions, fine->conditions * sizeof(float));
    }
}

static void synthesize(const struct aec_piece *piece, const struct aec_fine *fine, size_t r,
                       size_t num_frames, const float *spectra, float *audio) {
    const struct aec_fourier *fourier = &fine->synthesis;
    const size_t stride = fine->stride, padded = fine->padded, spectrum = spectrum_of(fine);
    float *even = piece->coder->hidden, *odd = even + num_frames * padded;
    float *frame = odd + num_frames * padded;
    float *tail = (float *)(piece->to + r * piece->state + fine->tail);
    /* With the float that fills a word after an odd stride, so that no byte is left as it was. */
    memmove(tail, piece->from + r * piece->state + fine->tail,
            (stride + stride % 2) * sizeof(float));
    piece->loops->dense(&fourier->cosines, NULL, spectra, spectrum, num_frames, even, padded);
    piece->loops->dense(&fourier->sines, NULL, spectra + padded, spectrum, num_frames, odd, padded);
    for (size_t t = 0; t < num_frames; t++, audio += stride) {
        piece->loops->unfold(even + t * padded, odd + t * padded, fourier->window, stride, frame);
        aec_keep_usable(frame, 2 * stride);
        for (size_t i = 0; i < stride; i++) audio[i] = frame[i] + tail[i];
        memcpy(tail, frame + stride, stride * sizeof(float));
    }
}

void aec_run_fine(const struct aec_piece *piece, const struct aec_fine *fine, float *audio,
                  const float *features, size_t frames) {
    struct aec_coder *coder = piece->coder;
    const struct aec_loops *loops = piece->loops;
    const size_t length = frames * fine->block, num_frames = frames * fine->ratio;
    const size_t num_rows = piece->rows * frames, num_fine = piece->rows * num_frames;
    const size_t padded = fine->padded, spectrum = spectrum_of(fine);
    float *hidden = coder->hidden;

    /* logits and conditions, each in a place of its own */
    float *logits = coder->logits, *conditions = coder->conditions;
    aec_run_conv(piece, &fine->pitch, features, frames, fine->pitch_norm, fine->channels, hidden);
    loops->silu(hidden, num_rows * fine->pitch.matrix.outputs, AEC_UNLIMITED);
    aec_run_linear(piece, &fine->logits, hidden, num_rows, NULL, 0, logits);
    aec_run_linear(piece, &fine->condition, features, num_rows, fine->ones, fine->channels,
                   conditions);

    for (size_t r = 0; r < piece->rows; r++) {
        const size_t first = r * num_frames;
        float *spectra = coder->spectra + first * AEC_SPECTRA * spectrum;
        make_sources(piece, fine, r, audio + r * length, logits + r * frames * fine->logits.outputs,
                     frames);
        analyze(piece, fine, r, length, spectra);
        find_envelope(piece, fine, r, num_frames, spectra, coder->envelope + first * padded);
    }
    show(piece, fine, num_fine, coder->spectra, conditions, coder->seen);

    float *x = coder->y;
    aec_run_conv(piece, &fine->enter, coder->seen, num_frames, NULL, 0, x);
    for (size_t u = 0; u < fine->num_units; u++)
        aec_run_unit(piece, &fine->units[u], x, num_frames);

    /* From here on `seen` holds the results: gains of the spectra, the change, the sum. */
    float *gain = coder->seen, *gains = gain + num_fine * fine->gain.outputs;
    float *change = gains + num_fine * fine->gains.outputs;
    float *sum = change + num_fine * fine->change.outputs;
    aec_run_linear(piece, &fine->hidden, x, num_fine, fine->norm, fine->width, hidden);
    loops->silu(hidden, num_fine * fine->hidden.outputs, AEC_UNLIMITED);
    aec_run_linear(piece, &fine->gain, hidden, num_fine, NULL, 0, gain);
    aec_run_linear(piece, &fine->gains, hidden, num_fine, NULL, 0, gains);
    aec_run_linear(piece, &fine->change, x, num_fine, NULL, 0, change);
    for (size_t t = 0; t < num_fine; t++) {
        const float *sources = coder->spectra + t * AEC_SPECTRA * spectrum;
        const float *turns = gains + t * fine->gains.outputs;
        float *y = sum + t * spectrum;
        loops->shape(sources, gain + t * padded, change + t * spectrum, padded, y);
        for (size_t s = 1; s < AEC_SPECTRA; s++)
            loops->turn(sources + s * spectrum,
                        s + 1 < AEC_SPECTRA ? NULL : coder->envelope + t * padded,
                        turns + (s - 1) * spectrum, padded, y);
    }
    for (size_t r = 0; r < piece->rows; r++)
        synthesize(piece, fine, r, num_frames, sum + r * num_frames * spectrum, audio + r * length);
}
