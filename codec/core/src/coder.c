/* Steps of encoders and decoders: some frames of some rows, cut into pieces of bounded size. */

#include <stdlib.h>
#include <string.h>

#include "elementary.h"
#include "float_mode.h"
#include "model.h"

/* Greatest sizes of the memory of a coder. */
struct sizes {
    uint64_t floats, blocks, places, row;
};

static void fit(uint64_t *size, uint64_t needed) {
    if (*size < needed) *size = needed;
}

/* Room for the rows of a matrix, which has `frames` of them for a frame of the latent. */
static void fit_linear(struct sizes *sizes, const struct aec_linear *matrix, size_t frames,
                       size_t context) {
    const uint64_t num_rows = AEC_TILE * frames, length = matrix->blocks * AEC_BLOCK;
    fit(&sizes->floats, num_rows * length);
    fit(&sizes->floats, num_rows * matrix->outputs);
    fit(&sizes->blocks, (num_rows + AEC_TILE * context) * matrix->blocks);
    fit(&sizes->places, num_rows);
    fit(&sizes->row, length);
}

static void fit_conv(struct sizes *sizes, const struct aec_conv *conv, size_t frames) {
    fit_linear(sizes, &conv->matrix, frames, conv->context);
}

static void fit_units(struct sizes *sizes, const struct aec_unit *units, size_t count,
                      size_t frames) {
    for (size_t u = 0; u < count; u++) {
        fit_conv(sizes, &units[u].conv, frames);
        fit_linear(sizes, &units[u].project, frames, 0);
    }
}

static struct sizes find_sizes(const struct aec_model *model) {
    struct sizes sizes = {0};
    size_t frames = 1;
    for (size_t l = (size_t)model->config.num_levels; l-- > 0; frames *= model->encoder[l].stride) {
        fit_conv(&sizes, &model->encoder[l].down, frames);
        fit_units(&sizes, model->encoder[l].units, model->encoder[l].num_units, frames);
        fit_units(&sizes, model->decoder[l].units, model->decoder[l].num_units, frames);
        if (l || !model->config.lapped_transform)
            fit_linear(&sizes, &model->decoder[l].up.matrix, frames, 0);
        else {
            fit_linear(&sizes, &model->head.head, frames, 0);
            fit_linear(&sizes, &model->head.hidden, frames, 0);
            fit_linear(&sizes, &model->head.gain, frames, 0);
        }
        if (!l && model->config.fine_stride) {
            const struct aec_fine *fine = &model->fine;
            const size_t short_frames = frames * fine->ratio;
            fit_conv(&sizes, &fine->pitch, frames);
            fit_linear(&sizes, &fine->logits, frames, 0);
            fit_linear(&sizes, &fine->condition, frames, 0);
            fit_conv(&sizes, &fine->enter, short_frames);
            fit_units(&sizes, fine->units, fine->num_units, short_frames);
            fit_linear(&sizes, &fine->hidden, short_frames, 0);
            fit_linear(&sizes, &fine->gain, short_frames, 0);
            fit_linear(&sizes, &fine->gains, short_frames, 0);
            fit_linear(&sizes, &fine->change, short_frames, 0);
        }
    }
    fit_linear(&sizes, &model->project, 1, 0);
    fit_conv(&sizes, &model->enter, 1);
    fit(&sizes.floats, AEC_TILE * model->dim);
    fit(&sizes.row, model->latent);
    /* The weights of the interpolation of six samples. */
    if (model->config.fine_stride) fit(&sizes.floats, 3 * AEC_TILE * model->hop);
    return sizes;
}

static void allocate_fine(struct aec_coder *coder, struct aec_arena *memory) {
    const struct aec_fine *fine = &coder->model->fine;
    const uint64_t frames = AEC_TILE * coder->model->hop / fine->block;
    const uint64_t short_frames = frames * fine->ratio, length = frames * fine->block;
    const size_t results = fine->gain.outputs + fine->gains.outputs + 2 * fine->change.outputs;
    coder->logits = aec_allocate(memory, frames * fine->logits.outputs, sizeof(float));
    coder->conditions = aec_allocate(memory, frames * fine->condition.outputs, sizeof(float));
    coder->sources = aec_allocate(memory, AEC_SPECTRA * length, sizeof(float));
    coder->period = aec_allocate(memory, length, sizeof(float));
    coder->back = aec_allocate(memory, length, sizeof(int32_t));
    coder->spectra =
        aec_allocate(memory, short_frames * 2 * AEC_SPECTRA * fine->padded, sizeof(float));
    coder->seen = aec_allocate(memory, short_frames * (fine->row > results ? fine->row : results),
                               sizeof(float));
    coder->envelope = aec_allocate(memory, short_frames * fine->padded, sizeof(float));
    coder->pulses = aec_allocate(memory, 5 * aec_row(fine->block), sizeof(float));
}

int aec_coder_create(const aec_model *model, aec_coder **coder) {
    if (!coder) return AEC_ERROR_ARGUMENT;
    *coder = NULL;
    if (!model) return AEC_ERROR_ARGUMENT;
    struct aec_coder *made = calloc(1, sizeof *made);
    if (!made) return AEC_ERROR_MEMORY;
    const struct sizes sizes = find_sizes(model);
    const struct aec_fine *fine = &model->fine;
    struct aec_arena *memory = &made->memory;
    uint64_t past = (uint64_t)model->config.strides[0];
    fit(&past, fine->reach);
    made->model = model;
    made->x = aec_allocate(memory, sizes.floats, sizeof(float));
    made->y = aec_allocate(memory, sizes.floats, sizeof(float));
    /* Layers keep up to two rows and a frame there, and the powers before the first frame. */
    made->hidden = aec_allocate(
        memory, 2 * sizes.floats + 2 * past + AEC_ENVELOPE_FRAMES * fine->padded, sizeof(float));
    made->row = aec_allocate(memory, sizes.row, sizeof(float));
    made->blocks = aec_allocate(memory, sizes.blocks, sizeof *made->blocks);
    made->places = aec_allocate(memory, sizes.places, sizeof *made->places);
    made->samples =
        aec_allocate(memory, AEC_TILE * model->hop * (size_t)model->config.channels, sizeof(float));
    made->audio = aec_allocate(memory, AEC_TILE * model->hop + past, sizeof(float));
    if (model->config.fine_stride) allocate_fine(made, memory);
    if (memory->failed) {
        aec_coder_destroy(made);
        return AEC_ERROR_MEMORY;
    }
    *coder = made;
    return 0;
}

void aec_coder_destroy(aec_coder *coder) {
    if (!coder) return;
    aec_release(&coder->memory);
    free(coder);
}

size_t aec_encoder_state_size(const aec_model *model) { return model ? model->encoder_state : 0; }
size_t aec_decoder_state_size(const aec_model *model) { return model ? model->decoder_state : 0; }

int aec_encoder_init(const aec_model *model, void *states, size_t size) {
    if (!model || (size && !states) || size % model->encoder_state) return AEC_ERROR_ARGUMENT;
    if (size) memset(states, 0, size);
    return 0;
}

int aec_decoder_init(const aec_model *model, void *states, size_t size) {
    if (!model || (size && !states) || size % model->decoder_state) return AEC_ERROR_ARGUMENT;
    if (size) memset(states, 0, size);
    if (!model->config.fine_stride) return 0;
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    struct aec_oscillator first = {.pitch = AEC_LOWEST_PITCH};
    first.frequency = AEC_LOWEST_PITCH / (float)model->config.sample_rate;
    aec_set_float_mode(mode);
    for (size_t place = 0; place < size; place += model->decoder_state)
        memcpy((char *)states + place + model->fine.oscillator, &first, sizeof first);
    return 0;
}

/* Audio of a piece to the rows that the first convolution takes: [frames][stride * channels]. */
static void interleave(const struct aec_model *model, const float *samples, size_t rows,
                       size_t frames, float *x) {
    const size_t channels = (size_t)model->config.channels;
    const size_t stride = (size_t)model->config.strides[0], row = aec_row(stride * channels);
    const size_t length = frames * stride;
    for (size_t r = 0; r < rows; r++)
        for (size_t t = 0; t < frames; t++, x += row) {
            memset(x, 0, row * sizeof(float));
            for (size_t c = 0; c < channels; c++)
                for (size_t i = 0; i < stride; i++)
                    x[i * channels + c] = samples[(r * channels + c) * length + t * stride + i];
        }
}

static void deinterleave(const struct aec_model *model, const float *x, size_t rows, size_t frames,
                         float *samples) {
    const size_t channels = (size_t)model->config.channels;
    const size_t stride = (size_t)model->config.strides[0], row = aec_row(stride * channels);
    const size_t length = frames * stride;
    for (size_t r = 0; r < rows; r++)
        for (size_t t = 0; t < frames; t++, x += row)
            for (size_t c = 0; c < channels; c++)
                for (size_t i = 0; i < stride; i++)
                    samples[(r * channels + c) * length + t * stride + i] = x[i * channels + c];
}

/* The latent of `coder->samples`, in `coder->x`. */
static void encode_piece(const struct aec_piece *piece, size_t frames) {
    struct aec_coder *coder = piece->coder;
    const struct aec_model *model = coder->model;
    float *x = coder->x, *y = coder->y;
    frames *= model->hop / model->encoder[0].stride;
    if (model->config.lapped_transform) {
        aec_run_mdct(piece, &model->analysis, coder->samples, frames, y);
        piece->loops->compand(y, piece->rows * frames * aec_row(model->analysis.stride));
    } else
        interleave(model, coder->samples, piece->rows, frames, y);
    for (size_t l = 0; l < (size_t)model->config.num_levels; l++) {
        const struct aec_level *level = &model->encoder[l];
        if (l) frames /= level->stride;
        aec_run_conv(piece, &level->down, y, frames, NULL, 0, x);
        for (size_t u = 0; u < level->num_units; u++)
            aec_run_unit(piece, &level->units[u], x, frames);
        float *other = x;
        x = y;
        y = other;
    }
    aec_run_linear(piece, &model->project, y, piece->rows * frames, NULL, 0, coder->hidden);
    /* Quiet frames keep their level, and only loud ones are bounded. */
    const size_t num_rows = piece->rows * frames;
    for (size_t r = 0; r < num_rows; r++)
        piece->loops->normalize(coder->hidden + r * model->latent, NULL, model->latent,
                                (size_t)model->config.latent_dim, 1.0f,
                                coder->x + r * model->latent);
    aec_keep_usable(coder->x, num_rows * model->latent);
}

/* The audio of the latent in `coder->x`, in `coder->samples`. */
static void decode_piece(const struct aec_piece *piece, size_t frames) {
    struct aec_coder *coder = piece->coder;
    const struct aec_model *model = coder->model;
    float *x = coder->y, *y = coder->x;
    aec_run_conv(piece, &model->enter, y, frames, NULL, 0, x);
    for (size_t l = (size_t)model->config.num_levels; l-- > 0;) {
        const struct aec_level *level = &model->decoder[l];
        for (size_t u = 0; u < level->num_units; u++)
            aec_run_unit(piece, &level->units[u], x, frames);
        if (!l && model->config.lapped_transform) {
            aec_run_head(piece, &model->head, x, frames, y);
            aec_run_inverse_mdct(piece, &model->synthesis, y, frames, coder->samples);
        } else {
            aec_run_transposed(piece, &level->up, x, frames, y);
            float *other = x;
            x = y;
            y = other;
            if (l) frames *= level->stride;
        }
    }
    if (!model->config.lapped_transform)
        deinterleave(model, x, piece->rows, frames, coder->samples);
    if (model->config.fine_stride) aec_run_fine(piece, &model->fine, coder->samples, x, frames);
}

/* Whether `length` is the product of three sizes. */
static int is_product(size_t length, size_t a, size_t b, size_t c) {
    if (!a || !b || !c) return !length;
    return !(length % a) && !(length / a % b) && length / a / b == c;
}

/* What encoding and decoding are called with. */
struct call {
    size_t rows, frames, num_codebooks, audio_length, state, state_size, num_codes;
    int has_audio, has_states, has_codes;
};

static int is_valid(const struct aec_model *model, const struct call *call) {
    const size_t channels = (size_t)model->config.channels;
    return call->num_codebooks <= (size_t)model->config.num_codebooks &&
           call->frames <= SIZE_MAX / model->hop && call->rows <= SIZE_MAX / channels &&
           is_product(call->audio_length, call->rows * channels, call->frames, model->hop) &&
           is_product(call->state_size, call->rows, call->state, 1) &&
           is_product(call->num_codes, call->rows, call->num_codebooks, call->frames) &&
           (call->has_audio || !call->audio_length) && (call->has_states || !call->state_size) &&
           (call->has_codes || !call->num_codes);
}

/* Whether states begin where words do. */
static int are_words(const void *from, const void *to) {
    return !(((uintptr_t)from | (uintptr_t)to) % sizeof(uint64_t));
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

int aec_encode(aec_coder *coder, size_t rows, size_t frames, size_t num_codebooks,
               const float *audio, size_t audio_length, const void *from, void *to,
               size_t state_size, int64_t *codes, size_t num_codes, float *errors, float *latent,
               size_t latent_length) {
    if (!coder) return AEC_ERROR_ARGUMENT;
    const struct aec_model *model = coder->model;
    const size_t channels = (size_t)model->config.channels, hop = model->hop;
    const size_t state = model->encoder_state, dim = (size_t)model->config.latent_dim;
    const struct call call = {rows,       frames,    num_codebooks, audio_length, state,
                              state_size, num_codes, audio != NULL, from && to,   codes != NULL};
    if (!is_valid(model, &call) || !are_words(from, to) ||
        (latent && !is_product(latent_length, rows, frames, dim)))
        return AEC_ERROR_ARGUMENT;
    if (!frames && state_size) memmove(to, from, state_size);
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    for (size_t r = 0; r < rows; r += AEC_TILE) {
        struct aec_piece piece = {coder,
                                  model->loops,
                                  least(rows - r, AEC_TILE),
                                  (const uint8_t *)from + r * state,
                                  (uint8_t *)to + r * state,
                                  state};
        const size_t most = AEC_TILE / piece.rows;
        for (size_t t = 0, count; t < frames; t += count, piece.from = piece.to) {
            count = least(frames - t, most);
            for (size_t c = 0; c < piece.rows * channels; c++)
                memcpy(coder->samples + c * count * hop,
                       audio + ((r * channels + c) * frames + t) * hop,
                       count * hop * sizeof(float));
            aec_keep_usable(coder->samples, piece.rows * channels * count * hop);
            encode_piece(&piece, count);
            for (size_t i = 0; latent && i < piece.rows * count; i++)
                memcpy(latent + ((r + i / count) * frames + t + i % count) * dim,
                       coder->x + i * model->latent, dim * sizeof(float));
            const size_t place = num_codebooks ? r * num_codebooks * frames + t : 0;
            aec_encode_latent(&piece, coder->x, count, num_codebooks, codes + place,
                              num_codebooks * frames, frames, errors ? errors + place : NULL);
        }
    }
    aec_set_float_mode(mode);
    return 0;
}

int aec_decode(aec_coder *coder, size_t rows, size_t frames, size_t num_codebooks,
               const int64_t *codes, size_t num_codes, const void *from, void *to,
               size_t state_size, float *audio, size_t audio_length) {
    if (!coder) return AEC_ERROR_ARGUMENT;
    const struct aec_model *model = coder->model;
    const size_t channels = (size_t)model->config.channels, hop = model->hop;
    const size_t state = model->decoder_state;
    const struct call call = {rows,       frames,    num_codebooks, audio_length, state,
                              state_size, num_codes, audio != NULL, from && to,   codes != NULL};
    if (!is_valid(model, &call) || !are_words(from, to)) return AEC_ERROR_ARGUMENT;
    for (size_t i = 0; i < num_codes; i++)
        if (codes[i] >= model->config.codebook_size) return AEC_ERROR_CODE;
    if (!frames && state_size) memmove(to, from, state_size);
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    for (size_t r = 0; r < rows; r += AEC_TILE) {
        struct aec_piece piece = {coder,
                                  model->loops,
                                  least(rows - r, AEC_TILE),
                                  (const uint8_t *)from + r * state,
                                  (uint8_t *)to + r * state,
                                  state};
        const size_t most = AEC_TILE / piece.rows;
        for (size_t t = 0, count; t < frames; t += count, piece.from = piece.to) {
            count = least(frames - t, most);
            const size_t place = num_codebooks ? r * num_codebooks * frames + t : 0;
            aec_decode_codes(&piece, codes + place, count, num_codebooks, num_codebooks * frames,
                             frames, coder->x);
            decode_piece(&piece, count);
            for (size_t c = 0; c < piece.rows * channels; c++)
                memcpy(audio + ((r * channels + c) * frames + t) * hop,
                       coder->samples + c * count * hop, count * hop * sizeof(float));
        }
    }
    aec_set_float_mode(mode);
    return 0;
}
