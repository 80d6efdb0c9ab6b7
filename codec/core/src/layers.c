#include <string.h>

#include "elementary.h"
#include "model.h"

void aec_quantize_rows(const struct aec_piece *piece, const float *x, size_t num_rows,
                       size_t num_blocks, const float *norm, size_t channels) {
    struct aec_coder *coder = piece->coder;
    const size_t row = num_blocks * AEC_BLOCK;
    for (size_t r = 0; r < num_rows; r++, x += row) {
        const float *source = x;
        if (norm) {
            piece->loops->normalize(x, norm, row, channels, AEC_NORM_FLOOR, coder->row);
            source = coder->row;
        }
        struct aec_quantized *blocks = coder->blocks + r * num_blocks;
        piece->loops->quantize(source, num_blocks, blocks);
        coder->places[r] = blocks;
    }
}

static void run_linear(const struct aec_piece *piece, const struct aec_linear *matrix,
                       const float *x, size_t num_rows, const float *norm, size_t channels,
                       float *out, int add) {
    aec_quantize_rows(piece, x, num_rows, matrix->blocks, norm, channels);
    piece->loops->product(matrix, piece->coder->places, num_rows, 0, out, matrix->outputs, add);
}

void aec_run_linear(const struct aec_piece *piece, const struct aec_linear *matrix, const float *x,
                    size_t num_rows, const float *norm, size_t channels, float *out) {
    run_linear(piece, matrix, x, num_rows, norm, channels, out, 0);
}

void aec_run_conv(const struct aec_piece *piece, const struct aec_conv *conv, const float *x,
                  size_t frames, const float *norm, size_t channels, float *out) {
    struct aec_coder *coder = piece->coder;
    const size_t num_blocks = conv->matrix.blocks, row = num_blocks * AEC_BLOCK;
    const size_t kept = conv->context * num_blocks * sizeof(struct aec_quantized);
    for (size_t r = 0; r < piece->rows; r++) {
        struct aec_quantized *blocks = coder->blocks + r * (conv->context + frames) * num_blocks;
        memcpy(blocks, piece->from + r * piece->state + conv->state, kept);
        struct aec_quantized *new = blocks + conv->context *num_blocks;
        for (size_t t = 0; t < frames; t++, x += row) {
            const float *source = x;
            if (norm) {
                piece->loops->normalize(x, norm, row, channels, AEC_NORM_FLOOR, coder->row);
                source = coder->row;
            }
            piece->loops->quantize(source, num_blocks, new + t *num_blocks);
            coder->places[r * frames + t] = blocks + t * num_blocks;
        }
        memcpy(piece->to + r * piece->state + conv->state, blocks + frames * num_blocks, kept);
    }
    piece->loops->product(&conv->matrix, coder->places, piece->rows * frames,
                          conv->dilation * num_blocks, out, conv->matrix.outputs, 0);
}

void aec_run_unit(const struct aec_piece *piece, const struct aec_unit *unit, float *x,
                  size_t frames) {
    const size_t num_rows = piece->rows * frames;
    float *hidden = piece->coder->hidden;
    aec_run_conv(piece, &unit->conv, x, frames, unit->norm, unit->channels, hidden);
    piece->loops->silu(hidden, num_rows * unit->conv.matrix.outputs, AEC_HIDDEN_LIMIT);
    run_linear(piece, &unit->project, hidden, num_rows, NULL, 0, x, 1);
}

void aec_run_transposed(const struct aec_piece *piece, const struct aec_transposed *layer,
                        const float *x, size_t frames, float *out) {
    const size_t patch = layer->patch, kept = patch * sizeof(float);
    float *pairs = piece->coder->hidden;
    aec_run_linear(piece, &layer->matrix, x, piece->rows * frames, NULL, 0, pairs);
    aec_keep_usable(pairs, piece->rows * frames * 2 * patch);
    for (size_t r = 0; r < piece->rows; r++) {
        const float *tail = (const float *)(piece->from + r * piece->state + layer->state);
        for (size_t t = 0; t < frames; t++, pairs += 2 * patch, out += patch) {
            piece->loops->overlap(pairs, tail, layer->bias, patch, out);
            tail = pairs + patch;
        }
        memmove(piece->to + r * piece->state + layer->state, tail, kept);
    }
}

void aec_run_head(const struct aec_piece *piece, const struct aec_head *head, const float *x,
                  size_t frames, float *out) {
    const size_t num_rows = piece->rows * frames, length = num_rows * head->head.outputs;
    float *hidden = piece->coder->hidden, *gains = hidden + num_rows * head->hidden.outputs;
    aec_run_linear(piece, &head->head, x, num_rows, NULL, 0, out);
    aec_run_linear(piece, &head->hidden, x, num_rows, head->norm, head->channels, hidden);
    piece->loops->silu(hidden, num_rows * head->hidden.outputs, AEC_UNLIMITED);
    aec_run_linear(piece, &head->gain, hidden, num_rows, NULL, 0, gains);
    piece->loops->expand(out, gains, length);
}

/* Let the strides of a frame be (a, b) and (c, d), halves in the order of time, and r mean
 * reversed. Its MDCT is the DCT-IV of (-c_r - d, a - b_r); the inverse transform of (u, v) is
 * (v, -v_r), (-u_r, -u). */
void aec_run_mdct(const struct aec_piece *piece, const struct aec_mdct *mdct, const float *audio,
                  size_t frames, float *out) {
    const size_t stride = mdct->stride, half = stride / 2, row = aec_row(stride);
    float *samples = piece->coder->audio, *folded = piece->coder->hidden;
    const float *w = mdct->window;
    for (size_t r = 0; r < piece->rows; r++, audio += frames * stride) {
        memcpy(samples, piece->from + r * piece->state + mdct->state, stride * sizeof(float));
        memcpy(samples + stride, audio, frames * stride * sizeof(float));
        for (size_t t = 0; t < frames; t++) {
            const float *x = samples + t * stride;
            float *y = folded + t * row;
            for (size_t i = 0; i < half; i++) {
                size_t b = stride - 1 - i, c = stride + half - 1 - i, d = stride + half + i;
                y[i] = -(x[c] * w[c]) - x[d] * w[d];
                y[half + i] = x[i] * w[i] - x[b] * w[b];
            }
        }
        memcpy(piece->to + r * piece->state + mdct->state, samples + frames * stride,
               stride * sizeof(float));
        piece->loops->dense(&mdct->map, NULL, folded, row, frames, out + r * frames * row, row);
    }
}

void aec_run_inverse_mdct(const struct aec_piece *piece, const struct aec_mdct *mdct,
                          const float *x, size_t frames, float *audio) {
    const size_t stride = mdct->stride, half = stride / 2, row = aec_row(stride);
    const float *w = mdct->window;
    float *unfolded = piece->coder->hidden;
    piece->loops->dense(&mdct->map, NULL, x, row, piece->rows * frames, unfolded, row);
    aec_keep_usable(unfolded, piece->rows * frames * row);
    for (size_t r = 0; r < piece->rows; r++) {
        float *tail = (float *)(piece->to + r * piece->state + mdct->state);
        memmove(tail, piece->from + r * piece->state + mdct->state, stride * sizeof(float));
        for (size_t t = 0; t < frames; t++, unfolded += row, audio += stride) {
            const float *u = unfolded, *v = unfolded + half;
            for (size_t i = 0; i < half; i++) {
                size_t b = stride - 1 - i;
                audio[i] = v[i] * w[i] + tail[i];
                audio[b] = tail[b] - v[i] * w[b];
            }
            for (size_t i = 0; i < half; i++) {
                size_t c = half - 1 - i, d = half + i;
                tail[c] = -u[i] * w[stride + c];
                tail[d] = -u[i] * w[stride + d];
            }
        }
    }
}
