/* The loops that all kernels share. A kernel's file defines
 *
 *   KERNEL_NAME       its name, such as avx2
 *   TOGETHER, OFFSET  see struct aec_kernel
 *   multiply, product see matrix.h and loops.h
 *
 * and what vectors.h needs, and includes this. Where loops are short and plain, the compiler makes
 * vectors of them by itself. */

#include <math.h>

#include "elementary.h"
#include "kernel.h"
#include "vectors.h"

/* Rows and vectors of a tile of `dense`: as many as there are registers for sums. */
#if WIDTH == 16
enum { TILE_ROWS = 4, TILE_VECTORS = 4 };
#elif WIDTH == 8
enum { TILE_ROWS = 4, TILE_VECTORS = 2 };
#else
enum { TILE_ROWS = 2, TILE_VECTORS = 4 };
#endif

INLINE void dense_tile(const struct aec_dense *map, const float *start, const float *x,
                       size_t x_stride, float *out, size_t out_stride, size_t column, int rows,
                       int vectors) {
    vector sums[TILE_ROWS][TILE_VECTORS];
    const float *weights = map->weights + column;
    for (int v = 0; v < vectors; v++) {
        vector first = start ? LOAD(start + column + v * WIDTH) : (vector){0};
        for (int r = 0; r < rows; r++) sums[r][v] = first;
    }
    for (size_t i = 0; i < map->inputs; i++, weights += map->outputs)
        for (int r = 0; r < rows; r++) {
            float value = x[(size_t)r * x_stride + i];
            for (int v = 0; v < vectors; v++) sums[r][v] += value * LOAD(weights + v * WIDTH);
        }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            STORE(out + (size_t)r * out_stride + column + v * WIDTH, sums[r][v]);
}

FUNCTION void dense(const struct aec_dense *map, const float *start, const float *x,
                    size_t x_stride, size_t num_rows, float *out, size_t out_stride) {
    enum { COLUMNS = TILE_VECTORS * WIDTH };
    size_t column = 0;
    for (; column + COLUMNS <= map->outputs; column += COLUMNS) {
        size_t r = 0;
        for (; r + TILE_ROWS <= num_rows; r += TILE_ROWS)
            dense_tile(map, start, x + r * x_stride, x_stride, out + r * out_stride, out_stride,
                       column, TILE_ROWS, TILE_VECTORS);
        for (; r < num_rows; r++)
            dense_tile(map, start, x + r * x_stride, x_stride, out + r * out_stride, out_stride,
                       column, 1, TILE_VECTORS);
    }
    for (; column < map->outputs; column += AEC_LANES) {
        size_t r = 0;
        for (; r + TILE_ROWS <= num_rows; r += TILE_ROWS)
            dense_tile(map, start, x + r * x_stride, x_stride, out + r * out_stride, out_stride,
                       column, TILE_ROWS, LANE_VECTORS);
        for (; r < num_rows; r++)
            dense_tile(map, start, x + r * x_stride, x_stride, out + r * out_stride, out_stride,
                       column, 1, LANE_VECTORS);
    }
}

FUNCTION void quantize(const float *restrict x, size_t num_blocks,
                       struct aec_quantized *restrict out) {
    for (; num_blocks; num_blocks--, out++, x += AEC_BLOCK) {
        /* Of magnitudes, the greatest as a float is the greatest as an integer. */
        int32_t greatest = 0, sum = 0;
        for (int i = 0; i < AEC_BLOCK; i++) {
            int32_t magnitude = (int32_t)(aec_bits(x[i]) & 0x7fffffffu);
            greatest = magnitude > greatest ? magnitude : greatest;
        }
        float most = aec_float((uint32_t)greatest);
        /* What is too faint for a reciprocal, infinite or not a number becomes silence. */
        if (!(most > 1e-30f && most < 1e30f)) {
            memset(out, 0, sizeof *out);
            continue;
        }
        const float inverse = 127.0f / most;
        int32_t rounded[AEC_BLOCK];
        for (int i = 0; i < AEC_BLOCK; i++) {
            rounded[i] = (int32_t)aec_bits(x[i] * inverse + AEC_ROUNDER) - (int32_t)0x4b400000;
            sum += rounded[i];
        }
        for (int i = 0; i < AEC_BLOCK; i++) out->values[i] = (int8_t)rounded[i];
        out->scale = most / 127.0f;
        out->sum = sum;
    }
}

/* The sum of AEC_LANES partial sums: halves are added until one is left. */
INLINE float sum_of_lanes(const vector *sums) {
    float lanes[AEC_LANES];
    for (int v = 0; v < LANE_VECTORS; v++) STORE(lanes + v * WIDTH, sums[v]);
    typedef float quarter __attribute__((vector_size(16), aligned(4), may_alias));
    const quarter *q = (const quarter *)lanes;
    quarter sum = (q[0] + q[2]) + (q[1] + q[3]);
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

/* The sum of products of two rows. */
INLINE float inner_product(const float *x, const float *y, size_t length) {
    vector sums[LANE_VECTORS] = {{0}};
    for (size_t i = 0; i < length; i += AEC_LANES)
        for (int v = 0; v < LANE_VECTORS; v++)
            sums[v] += LOAD(x + i + v * WIDTH) * LOAD(y + i + v * WIDTH);
    return sum_of_lanes(sums);
}

FUNCTION float power(const float *x, size_t row, size_t channels) {
    return inner_product(x, x, row) / (float)channels;
}

FUNCTION void normalize(const float *x, const float *weights, size_t row, size_t channels,
                        float floor, float *y) {
    float scale = 1.0f / sqrtf(power(x, row, channels) + floor * floor);
    for (size_t i = 0; i < row; i += WIDTH) {
        vector scaled = LOAD(x + i) * scale;
        if (weights) scaled *= LOAD(weights + i);
        STORE(y + i, scaled);
    }
}

FUNCTION void silu(float *x, size_t length, float limit) {
    for (size_t i = 0; i < length; i++) {
        float value = x[i] < limit ? x[i] : limit;
        x[i] = value * aec_sigmoid(value);
    }
}

FUNCTION void add(const float *restrict x, size_t length, float *restrict y) {
    for (size_t i = 0; i < length; i++) y[i] += x[i];
}

FUNCTION void subtract(const float *restrict x, size_t length, float *restrict y) {
    for (size_t i = 0; i < length; i++) y[i] -= x[i];
}

FUNCTION void overlap(const float *restrict now, const float *restrict tail,
                      const float *restrict bias, size_t length, float *restrict y) {
    for (size_t i = 0; i < length; i++) y[i] = (now[i] + tail[i]) + bias[i];
}

/* Companding as in codec/network/lapped.py: exponent 0.6, scale 4, floor of power 1e-6. */
INLINE float companding(float power) { return 4.0f * aec_power(power + 1e-6f, -0.2f); }
INLINE float expanding(float power) { return aec_power(power + 2.5118864e-4f, 0.33333333f); }

FUNCTION void compand(float *x, size_t length) {
    for (size_t i = 0; i < length; i++) x[i] *= companding(x[i] * x[i]);
}

FUNCTION void expand(float *restrict x, const float *restrict gains, size_t length) {
    for (size_t i = 0; i < length; i++) {
        float value = 0.25f * x[i];
        x[i] = value * expanding(value * value) * (2.0f * aec_sigmoid(gains[i]));
    }
}

FUNCTION void compand_complex(const float *restrict x, size_t bins, float *restrict y) {
    for (size_t i = 0; i < bins; i++) {
        float real = x[i], imaginary = x[bins + i];
        float gain = companding(real * real + imaginary * imaginary);
        y[i] = real * gain;
        y[bins + i] = imaginary * gain;
    }
}

FUNCTION void smooth_power(const float *restrict x, size_t bins, size_t padded, float *restrict y) {
    const float *imaginary = x + padded;
    float first = x[0] * x[0] + imaginary[0] * imaginary[0], before = first, now = first;
    for (size_t i = 0; i < bins; i++) {
        size_t next = i + 1 < bins ? i + 1 : i;
        float after = x[next] * x[next] + imaginary[next] * imaginary[next];
        y[i] = ((before + 2.0f * now) + after) * 0.25f;
        before = now;
        now = after;
    }
    for (size_t i = bins; i < padded; i++) y[i] = 0.0f;
}

FUNCTION void envelope(const float *restrict powers, size_t stride, size_t length,
                       float *restrict y) {
    for (size_t i = 0; i < length; i++) {
        float sum = powers[i] + powers[stride + i];
        sum += powers[2 * stride + i];
        sum += powers[3 * stride + i];
        sum += powers[4 * stride + i];
        sum += powers[5 * stride + i];
        y[i] = sqrtf(sum / 6.0f + 1e-10f);
    }
}

FUNCTION void shape(const float *restrict x, const float *restrict gain,
                    const float *restrict change, size_t bins, float *restrict y) {
    for (size_t i = 0; i < bins; i++) {
        float real = 0.25f * change[i], imaginary = 0.25f * change[bins + i];
        float expansion = expanding(real * real + imaginary * imaginary);
        float factor = 2.0f * aec_sigmoid(gain[i]);
        y[i] = x[i] * factor + real * expansion;
        y[bins + i] = x[bins + i] * factor + imaginary * expansion;
    }
}

INLINE void turn_by(const float *restrict x, const float *restrict envelope,
                    const float *restrict turns, size_t bins, float *restrict y) {
    for (size_t i = 0; i < bins; i++) {
        float level = envelope ? envelope[i] : 1.0f;
        float a = x[i] * level, b = x[bins + i] * level;
        float c = 2.0f * aec_tanh(turns[i]), d = 2.0f * aec_tanh(turns[bins + i]);
        y[i] += a * c - b * d;
        y[bins + i] += a * d + b * c;
    }
}

FUNCTION void turn(const float *x, const float *envelope, const float *turns, size_t bins,
                   float *y) {
    if (envelope)
        turn_by(x, envelope, turns, bins, y);
    else
        turn_by(x, NULL, turns, bins, y);
}

FUNCTION void fold(const float *restrict frame, const float *restrict window, size_t half,
                   float *restrict even, float *restrict odd) {
    even[0] = frame[0] * window[0];
    odd[0] = 0.0f;
    for (size_t i = 1; i < half; i++) {
        float a = frame[i] * window[i], b = frame[2 * half - i] * window[2 * half - i];
        even[i] = a + b;
        odd[i] = a - b;
    }
    even[half] = frame[half] * window[half];
}

FUNCTION void unfold(const float *restrict even, const float *restrict odd,
                     const float *restrict window, size_t half, float *restrict frame) {
    frame[0] = even[0] * window[0];
    for (size_t i = 1; i < half; i++) {
        frame[i] = (even[i] + odd[i]) * window[i];
        frame[2 * half - i] = (even[i] - odd[i]) * window[2 * half - i];
    }
    frame[half] = even[half] * window[half];
}

/* The mean of log(pitch) under the posterior softmax(3 * logits). */
FUNCTION float pitch_of(const float *restrict logits, const float *restrict log_pitches,
                        size_t steps) {
    enum { MOST = 128 };
    float weights[MOST], ones[MOST];
    float greatest = -1e30f;
    for (size_t i = 0; i < steps; i++) greatest = logits[i] > greatest ? logits[i] : greatest;
    for (size_t i = 0; i < MOST; i++) ones[i] = i < steps ? 1.0f : 0.0f;
    for (size_t i = 0; i < MOST; i++)
        weights[i] = i < steps ? aec_exp(3.0f * (logits[i] - greatest)) : 0.0f;
    float total = inner_product(weights, ones, MOST);
    return aec_exp(inner_product(weights, log_pitches, MOST) / total);
}

/* Steps of the phase of an oscillator whose pitch goes from `last` to `pitch`, the phase after each
 * in turns, and its cosine and sine. The phase is a sum of steps, in closed form. It begins at zero
 * in every block. */
INLINE void oscillate(float last, float pitch, float rate, int32_t block,
                      const float *restrict ramp, const float *restrict triangle,
                      float *restrict steps, float *restrict cycles, float *restrict cosines,
                      float *restrict sines) {
    for (int32_t i = 0; i < block; i++) {
        steps[i] = (last + (pitch - last) * ramp[i]) / rate;
        float cycle = ((float)(i + 1) * last + (pitch - last) * triangle[i]) / rate;
        cycles[i] = cycle;
        cosines[i] = aec_cos_turns(cycle);
        sines[i] = aec_sin_turns(cycle);
    }
}

/* Names follow Excitation.forward of codec/network/excitation.py. There the phase of the oscillator
 * goes on from block to block; here it begins anew, and what is remembered of earlier blocks is
 * turned by what it would have been. So a state does not depend on what was long ago. */
FUNCTION void pulses(struct aec_oscillator *state, const struct aec_pulse_tables *tables,
                     const float *restrict audio, float pitch, float *restrict pulse,
                     float *restrict period) {
    static const float window[4] = {0.12f, 0.28f, 0.35f, 0.25f};
    const size_t block = tables->block, row = aec_row(block);
    const float *restrict ramp = tables->ramp, *restrict triangle = tables->triangle;
    float *restrict steps = tables->scratch, *restrict cycles = steps + row;
    float *restrict cosines = cycles + row, *restrict sines = cosines + row;
    const float rate = tables->sample_rate, last = state->pitch;

    oscillate(last, pitch, rate, (int32_t)block, ramp, triangle, steps, cycles, cosines, sines);
    for (size_t i = block; i < row; i++) cosines[i] = sines[i] = 0.0f;
    float total = ((float)block * last + (pitch - last) * triangle[block - 1]) / rate;
    total = aec_clamp(total, 0.0f, 1e6f); /* whatever a state holds that was not made here */

    float real = inner_product(audio, cosines, row) / (float)block;
    float imaginary = -inner_product(audio, sines, row) / (float)block;
    float *restrict reals = state->reals, *restrict imaginaries = state->imaginaries;
    float x1 = reals[0] * window[0], y1 = imaginaries[0] * window[0];
    x1 += reals[1] * window[1];
    y1 += imaginaries[1] * window[1];
    x1 += reals[2] * window[2];
    y1 += imaginaries[2] * window[2];
    x1 += real * window[3];
    y1 += imaginary * window[3];
    float size = sqrtf(x1 * x1 + y1 * y1) + 1e-6f;
    x1 /= size;
    y1 /= size;
    const float x0 = reals[3], y0 = imaginaries[3];

    for (size_t i = 0; i < block; i++) {
        float x = x0 + (x1 - x0) * ramp[i], y = y0 + (y1 - y0) * ramp[i];
        float cycle = cycles[i] + aec_angle_turns(y, x);
        float distance = (cycle - aec_round(cycle)) / steps[i];
        float radius = 0.25f / steps[i];
        radius = radius < 12.0f ? radius : 12.0f;
        float level = 2.0f * (x * x + y * y);
        level = (level < 1.0f ? level : 1.0f) / sqrtf(steps[i]);
        float near = fabsf(distance) < 1e-5f ? 1.0f : distance;
        float sinc = aec_sin_turns(0.5f * near) / (3.14159265f * near);
        sinc = fabsf(distance) < 1e-5f ? 1.0f : sinc;
        float shape = 0.5f + 0.5f * aec_cos_turns(0.5f * aec_clamp(distance / radius, -1.0f, 1.0f));
        pulse[i] = (sinc * shape) * level;
    }

    float across = x0 * y1 - y0 * x1, along = x0 * x1 + y0 * y1;
    float turn = aec_angle_turns(across, along) * aec_clamp(2.0f + 2.0f * along, 0.0f, 1.0f);
    float mean = total / (float)block;
    float deviation = aec_clamp(turn / (float)block / mean, -0.1f, 0.1f);
    float before = state->frequency, after = mean * (1.0f + deviation);
    for (size_t i = 0; i < block; i++) period[i] = 1.0f / (before + (after - before) * ramp[i]);
    state->pitch = pitch;
    state->frequency = after;
    /* Turned by what the phase would be, for the next block. */
    const float rest = total - aec_round(total);
    const float cosine = aec_cos_turns(rest), sine = aec_sin_turns(rest);
    const float x[4] = {reals[1], reals[2], real, x1};
    const float y[4] = {imaginaries[1], imaginaries[2], imaginary, y1};
    for (int p = 0; p < 4; p++) {
        reals[p] = x[p] * cosine - y[p] * sine;
        imaginaries[p] = x[p] * sine + y[p] * cosine;
    }
}

/* Where a period before each sample begins, and the weights of the six samples around it: a
 * windowed sinc. Sines and cosines of taps follow from those of the fraction of a sample by the
 * addition theorems, since taps are whole samples apart. */
FUNCTION void interpolation(const float *restrict period, size_t length, float longest,
                            int32_t *restrict back, float *restrict weights) {
    const float root = 0.86602540f; /* of 3/4, the sine of a sixth of a turn */
    for (size_t i = 0; i < length; i++) {
        /* Two samples at least, as three of the six follow the place. */
        float distance = aec_clamp(period[i], 2.0f, longest);
        int32_t whole = (int32_t)distance;
        float fraction = 1.0f - (distance - (float)whole);
        float sine = aec_sin_turns(0.5f * fraction) * 0.318309886f;
        float c = aec_cos_turns(fraction * 0.16666667f);
        float s = aec_sin_turns(fraction * 0.16666667f) * root;
        float at0 = fraction < 1e-4f ? 1.0f : fraction;
        float at1 = fraction > 0.9999f ? 1.0f : fraction - 1.0f;
        float sinc0 = fraction < 1e-4f ? 1.0f : sine / at0;
        float sinc1 = fraction > 0.9999f ? 1.0f : -sine / at1;
        back[i] = whole + 1;
        weights[i] = sine / (fraction + 2.0f) * (0.5f + 0.5f * (-0.5f * c - s));
        weights[length + i] = -sine / (fraction + 1.0f) * (0.5f + 0.5f * (0.5f * c - s));
        weights[2 * length + i] = sinc0 * (0.5f + 0.5f * c);
        weights[3 * length + i] = sinc1 * (0.5f + 0.5f * (0.5f * c + s));
        weights[4 * length + i] = sine / (fraction - 2.0f) * (0.5f + 0.5f * (s - 0.5f * c));
        weights[5 * length + i] = -sine / (fraction - 3.0f) * (0.5f - 0.5f * c);
    }
}

FUNCTION void earlier(const float *restrict sound, const int32_t *restrict back,
                      const float *restrict weights, size_t length, float *restrict found) {
    for (size_t i = 0; i < length; i++) {
        const float *x = sound + ((ptrdiff_t)i - back[i] - 2), *w = weights + i;
        float sum = x[0] * w[0] + x[1] * w[length];
        sum += x[2] * w[2 * length];
        sum += x[3] * w[3 * length];
        sum += x[4] * w[4 * length];
        sum += x[5] * w[5 * length];
        found[i] = sum;
    }
}

INLINE vector choose(whole_vector mask, vector a, vector b) {
    return (vector)(((whole_vector)a & mask) | ((whole_vector)b & ~mask));
}

FUNCTION size_t nearest(const struct aec_dense *entries, const float *offsets, const float *x) {
    enum { GROUP = 4 }; /* vectors at a time */
    /* In each lane the best score so far, and the group in which it was found. */
    vector best[GROUP];
    whole_vector found[GROUP], now = {0};
    for (int v = 0; v < GROUP; v++) {
        best[v] = (vector){0} - INFINITY;
        found[v] = (whole_vector){0};
    }
    for (size_t first = 0; first < entries->outputs; first += GROUP * WIDTH, now += 1) {
        const float *weights = entries->weights + first;
        vector sums[GROUP];
        for (int v = 0; v < GROUP; v++) sums[v] = -LOAD(offsets + first + v * WIDTH);
        for (size_t i = 0; i < entries->inputs; i++, weights += entries->outputs)
            for (int v = 0; v < GROUP; v++) sums[v] += x[i] * LOAD(weights + v * WIDTH);
        for (int v = 0; v < GROUP; v++) {
            whole_vector better = sums[v] > best[v];
            best[v] = choose(better, sums[v], best[v]);
            found[v] = (found[v] & ~better) | (now & better);
        }
    }
    /* Of equal scores the first entry wins, as if they had been compared one by one. */
    float most = -INFINITY;
    size_t entry = 0;
    for (int v = 0; v < GROUP; v++)
        for (int lane = 0; lane < WIDTH; lane++) {
            size_t place = ((size_t)found[v][lane] * GROUP + (size_t)v) * WIDTH + (size_t)lane;
            if (best[v][lane] > most || (best[v][lane] == most && place < entry)) {
                most = best[v][lane];
                entry = place;
            }
        }
    return entry;
}

#define JOINED_(a, b) a##b
#define JOINED(a, b) JOINED_(a, b)
#define TEXT_(name) #name
#define TEXT(name) TEXT_(name)

const struct aec_kernel JOINED(aec_, KERNEL_NAME) = {
    .name = TEXT(KERNEL_NAME),
    .together = TOGETHER,
    .offset = OFFSET,
    .multiply = multiply,
    .loops =
        {
            .product = product,
            .dense = dense,
            .quantize = quantize,
            .power = power,
            .normalize = normalize,
            .silu = silu,
            .add = add,
            .subtract = subtract,
            .overlap = overlap,
            .compand = compand,
            .expand = expand,
            .compand_complex = compand_complex,
            .smooth_power = smooth_power,
            .envelope = envelope,
            .shape = shape,
            .turn = turn,
            .fold = fold,
            .unfold = unfold,
            .pitch = pitch_of,
            .pulses = pulses,
            .interpolation = interpolation,
            .earlier = earlier,
            .nearest = nearest,
        },
};
