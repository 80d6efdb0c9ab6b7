/* Residual quantizers: those of codec/network/vq.py and codec/network/fsq.py. */

#include <string.h>

#include "elementary.h"
#include "model.h"

/* The value of a code, in `coder->row`. */
static const float *value_of(const struct aec_piece *piece, const struct aec_stage *stage,
                             size_t code) {
    float *row = piece->coder->row;
    const float *vector = stage->vectors + code * piece->coder->model->dim;
    piece->loops->dense(&stage->expand, stage->bias, vector, 0, 1, row, stage->expand.outputs);
    return row;
}

/* The code of rounded coordinates. */
static size_t rounded(const struct aec_stage *stage, const float *x) {
    size_t code = 0;
    for (int32_t d = 0, shift = 0; d < AEC_MOST_BITS && stage->bits[d]; shift += stage->bits[d++]) {
        const float levels = (float)(1 << stage->bits[d]);
        float level = (aec_tanh(x[d]) + 1.0f) * (0.5f * levels);
        code |= (size_t)aec_clamp(level, 0.0f, levels - 1.0f) << shift;
    }
    return code;
}

void aec_encode_latent(const struct aec_piece *piece, const float *latent, size_t frames,
                       size_t num_codebooks, int64_t *codes, size_t row_stride,
                       size_t codebook_stride, float *errors) {
    struct aec_coder *coder = piece->coder;
    const struct aec_model *model = coder->model;
    const size_t length = model->latent, num_rows = piece->rows * frames, dim = model->dim;
    float *residual = coder->y, *reduced = coder->hidden;
    memcpy(residual, latent, num_rows * length * sizeof(float));
    for (size_t k = 0; k < num_codebooks; k++) {
        const struct aec_stage *stage = &model->stages[k];
        piece->loops->dense(&stage->reduce, stage->reduce_bias, residual, length, num_rows, reduced,
                            dim);
        for (size_t r = 0; r < piece->rows; r++)
            for (size_t t = 0; t < frames; t++) {
                float *left = residual + (r * frames + t) * length;
                const float *x = reduced + (r * frames + t) * dim;
                size_t code = model->config.scalar_quantizer
                                  ? rounded(stage, x)
                                  : piece->loops->nearest(&stage->entries, stage->offsets, x);
                piece->loops->subtract(value_of(piece, stage, code), length, left);
                const size_t place = r * row_stride + k * codebook_stride + t;
                codes[place] = (int64_t)code;
                if (!errors) continue;
                const float error =
                    piece->loops->power(left, length, (size_t)model->config.latent_dim);
                errors[place] = error < INFINITY ? error : INFINITY; /* not a NaN */
            }
    }
}

void aec_decode_codes(const struct aec_piece *piece, const int64_t *codes, size_t frames,
                      size_t num_codebooks, size_t row_stride, size_t codebook_stride,
                      float *latent) {
    const struct aec_model *model = piece->coder->model;
    memset(latent, 0, piece->rows * frames * model->latent * sizeof(float));
    for (size_t k = 0; k < num_codebooks; k++)
        for (size_t r = 0; r < piece->rows; r++)
            for (size_t t = 0; t < frames; t++) {
                int64_t code = codes[r * row_stride + k * codebook_stride + t];
                if (code >= 0)
                    piece->loops->add(value_of(piece, &model->stages[k], (size_t)code),
                                      model->latent, latent + (r * frames + t) * model->latent);
            }
}
