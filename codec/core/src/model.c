/* A model from its tensors. Whatever they are, nothing is read beyond them: each must have the size
 * that the configuration asks for. */

#include "model.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "float_mode.h"
#include "kernel.h"

struct builder {
    struct aec_model *model;
    const struct aec_kernel *kernel;
    const aec_tensor *tensors;
    size_t num_tensors;
    int error;
    size_t *state; /* bytes of the state so far */
};

static const double PI = 3.14159265358979323846;

static void *new_array(struct builder *b, uint64_t count, size_t size) {
    return aec_allocate(&b->model->memory, count, size);
}

static float *new_floats(struct builder *b, size_t count) {
    return new_array(b, count, sizeof(float));
}

static size_t new_state(struct builder *b, uint64_t bytes) {
    const size_t place = *b->state;
    const uint64_t end = place + (bytes + 7) / 8 * 8;
    if (end > SIZE_MAX / 2)
        b->model->memory.failed = 1;
    else
        *b->state = (size_t)end;
    return place;
}

/* Whether values can be read, and are numbers. */
static int is_sound(const aec_tensor *tensor) {
    const float *values = tensor->values;
    if (!values || tensor->type != AEC_FLOAT32) return values != NULL;
    if ((uintptr_t)values % sizeof *values) return 0;
    for (size_t i = 0; i < tensor->count; i++)
        if (!(fabsf(values[i]) < INFINITY)) return 0;
    return 1;
}

/* The values of a tensor; NULL and an error if there is none of this name, type and size. */
static const void *find(struct builder *b, int32_t type, uint64_t count, const char *format, ...) {
    char name[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    for (size_t i = 0; i < b->num_tensors; i++) {
        const aec_tensor *tensor = &b->tensors[i];
        if (tensor->name && !strcmp(tensor->name, name) && tensor->type == type &&
            tensor->count == count && is_sound(tensor))
            return tensor->values;
    }
    if (!b->error) b->error = AEC_ERROR_MODEL;
    return NULL;
}

/* A row of a tensor's values, with zeros behind. */
static float *row_of(struct builder *b, const char *name, size_t count) {
    const void *values = find(b, AEC_FLOAT32, count, "%s", name);
    float *row = new_floats(b, aec_row(count));
    if (values && row) memcpy(row, values, count * sizeof(float));
    return row;
}

/* Weights [AEC_LANES][AEC_BLOCK] in the order of a kernel. */
static void pack(const struct aec_kernel *kernel, const int8_t *weights, size_t stride,
                 uint8_t *packed) {
    for (size_t i = 0; i < AEC_BLOCK; i += kernel->together)
        for (size_t o = 0; o < AEC_LANES; o++)
            for (size_t k = 0; k < kernel->together; k++)
                *packed++ = (uint8_t)(weights[o * stride + i + k] + kernel->offset);
}

static void set_linear(struct builder *b, struct aec_linear *matrix, const char *name, size_t taps,
                       size_t inputs, size_t outputs) {
    matrix->taps = taps;
    matrix->blocks = inputs / AEC_BLOCK;
    matrix->outputs = outputs;
    const size_t depth = taps * matrix->blocks, length = depth * AEC_BLOCK;
    const int8_t *weights = find(b, AEC_INT8, (uint64_t)outputs * length, "%s.weight", name);
    const float *scales = find(b, AEC_FLOAT32, (uint64_t)outputs * depth, "%s.scale", name);
    const float *bias = find(b, AEC_FLOAT32, outputs, "%s.bias", name);
    if (b->error) return;
    matrix->weights = new_array(b, outputs / AEC_LANES * depth, sizeof *matrix->weights);
    matrix->bias = new_floats(b, outputs);
    if (b->model->memory.failed) return;
    memcpy(matrix->bias, bias, outputs * sizeof(float));
    struct aec_weights *packed = matrix->weights;
    for (size_t first = 0; first < outputs; first += AEC_LANES)
        for (size_t d = 0; d < depth; d++, packed++) {
            for (size_t o = 0; o < AEC_LANES; o++)
                packed->scales[o] = scales[(first + o) * depth + d];
            pack(b->kernel, weights + first * length + d * AEC_BLOCK, length, packed->values);
        }
}

static void set_conv(struct builder *b, struct aec_conv *conv, const char *name, size_t taps,
                     size_t dilation, size_t inputs, size_t outputs) {
    set_linear(b, &conv->matrix, name, taps, inputs, outputs);
    conv->dilation = dilation;
    conv->context = (taps - 1) * dilation;
    conv->state =
        new_state(b, (uint64_t)conv->context * conv->matrix.blocks * sizeof(struct aec_quantized));
}

static void set_unit(struct builder *b, struct aec_unit *unit, const char *name, size_t channels,
                     size_t dilation) {
    const size_t row = aec_row(channels);
    char part[112];
    unit->channels = channels;
    snprintf(part, sizeof part, "%s.norm.weight", name);
    unit->norm = row_of(b, part, channels);
    snprintf(part, sizeof part, "%s.conv.linear", name);
    set_conv(b, &unit->conv, part, (size_t)b->model->config.kernel_size, dilation, row, row);
    snprintf(part, sizeof part, "%s.project", name);
    set_linear(b, &unit->project, part, 1, row, row);
}

/* sin(2 pi a / n), in operations that are the same everywhere. */
static double sine(uint64_t a, uint64_t n) {
    double x = (double)(a % n) / (double)n;
    if (x > 0.75)
        x -= 1.0;
    else if (x > 0.25)
        x = 0.5 - x;
    x *= 2.0 * PI;
    double term = x, sum = x;
    for (int i = 2; i < 26; i += 2) {
        term *= -x * x / (double)(i * (i + 1));
        sum += term;
    }
    return sum;
}

static double cosine(uint64_t a, uint64_t n) { return sine(4 * a + n, 4 * n); }

static void set_dense(struct builder *b, struct aec_dense *map, size_t inputs, size_t outputs) {
    map->inputs = inputs;
    map->outputs = outputs;
    map->weights = new_array(b, inputs * outputs, sizeof(float));
}

/* A sine over two strides, with a factor. */
static float *new_window(struct builder *b, size_t stride, double factor) {
    float *window = new_floats(b, 2 * stride);
    if (window)
        for (size_t i = 0; i < 2 * stride; i++)
            window[i] = (float)(sine(2 * i + 1, 8 * stride) * factor);
    return window;
}

static void set_mdct(struct builder *b, struct aec_mdct *mdct, size_t stride) {
    const size_t row = aec_row(stride);
    mdct->stride = stride;
    mdct->window = new_window(b, stride, sqrt(2.0 / (double)stride));
    set_dense(b, &mdct->map, stride, row);
    mdct->state = new_state(b, stride * sizeof(float));
    float *cosines = new_floats(b, 8 * stride);
    if (b->model->memory.failed) return;
    for (size_t i = 0; i < 8 * stride; i++) cosines[i] = (float)cosine(i, 8 * stride);
    for (size_t i = 0; i < stride; i++)
        for (size_t k = 0; k < stride; k++)
            mdct->map.weights[i * row + k] = cosines[(2 * i + 1) * (2 * k + 1) % (8 * stride)];
}

/* The two directions differ in the factors of bins, which stand for their mirror images, too. */
static void set_fourier(struct builder *b, struct aec_fourier *fourier, size_t stride,
                        int inverse) {
    const size_t bins = stride + 1, padded = aec_row(bins);
    fourier->stride = stride;
    fourier->padded = padded;
    fourier->window = new_window(b, stride, sqrt(1.0 / (double)stride));
    set_dense(b, &fourier->cosines, bins, padded);
    set_dense(b, &fourier->sines, stride, padded);
    if (b->model->memory.failed) return;
    for (size_t i = 0; i < bins; i++)
        for (size_t k = 0; k < bins; k++) {
            double factor = inverse && (i == 0 || i == stride) ? 0.5 : 1.0;
            fourier->cosines.weights[i * padded + k] = (float)(factor * cosine(i * k, 2 * stride));
        }
    for (size_t i = 1; i < stride; i++)
        for (size_t k = 1; k < stride; k++)
            fourier->sines.weights[i * padded + k] = (float)-sine(i * k, 2 * stride);
}

static size_t level_units(struct builder *b, struct aec_level *level, const char *side,
                          size_t layer, size_t channels, const int32_t *dilations, size_t count) {
    char name[64];
    level->num_units = count;
    level->channels = channels;
    for (size_t u = 0; u < count; u++, layer++) {
        snprintf(name, sizeof name, "%s.body.layers.%zu", side, layer);
        set_unit(b, &level->units[u], name, channels, (size_t)dilations[u]);
    }
    return layer;
}

static void set_encoder(struct builder *b) {
    struct aec_model *model = b->model;
    const aec_config *config = &model->config;
    size_t layer = 0, channels = 0;
    char name[64];
    b->state = &model->encoder_state;
    for (size_t l = 0; l < (size_t)config->num_levels; l++) {
        struct aec_level *level = &model->encoder[l];
        const size_t stride = (size_t)config->strides[l];
        const size_t width = (size_t)config->encoder_channels[l], row = aec_row(width);
        level->stride = stride;
        if (!l && config->lapped_transform) {
            set_mdct(b, &model->analysis, stride);
            snprintf(name, sizeof name, "encoder.body.layers.%zu.project", layer++);
            set_conv(b, &level->down, name, 1, 1, aec_row(stride), row);
        } else {
            size_t patch =
                l ? stride * aec_row(channels) : aec_row(stride * (size_t)config->channels);
            snprintf(name, sizeof name, "encoder.body.layers.%zu.linear", layer++);
            set_conv(b, &level->down, name, 2, 1, patch, row);
        }
        layer = level_units(b, level, "encoder", layer, width, config->encoder_dilations[l],
                            (size_t)config->encoder_depths[l]);
        channels = width;
    }
    set_linear(b, &model->project, "encoder.project", 1, aec_row(channels), model->latent);
}

static void set_fine(struct builder *b) {
    const aec_config *config = &b->model->config;
    struct aec_fine *fine = &b->model->fine;
    const size_t block = (size_t)config->strides[0], stride = (size_t)config->fine_stride;
    const size_t width = (size_t)config->fine_channels, row = aec_row(width);
    const size_t channels = (size_t)config->decoder_channels[0], features = aec_row(channels);
    const double longest = (double)config->sample_rate / (60.0 * 0.9);
    char name[64];
    fine->block = block;
    fine->stride = stride;
    fine->ratio = block / stride;
    fine->bins = stride + 1;
    fine->padded = aec_row(fine->bins);
    fine->channels = channels;
    fine->width = width;
    fine->conditions = aec_row(3 * width / 4);
    fine->row = 2 * AEC_SPECTRA * fine->padded + fine->conditions;
    const size_t whole = (size_t)longest, rounded_up = whole + ((double)whole < longest);
    fine->longest = (float)rounded_up;
    fine->reach = rounded_up + 3;
    set_fourier(b, &fine->analysis, stride, 0);
    set_fourier(b, &fine->synthesis, stride, 1);

    fine->ones = new_floats(b, features);
    fine->log_pitches = new_floats(b, 128);
    fine->ramp = new_floats(b, aec_row(block));
    fine->triangle = new_floats(b, aec_row(block));
    if (b->model->memory.failed) return;
    for (size_t i = 0; i < channels; i++) fine->ones[i] = 1.0f;
    /* Even steps of the logarithm of 60 Hz to that of 500 Hz. */
    for (size_t i = 0; i < AEC_PITCH_STEPS; i++)
        fine->log_pitches[i] = (float)(4.0943445622221007 + 2.1202635362000910 * (double)i /
                                                                (double)(AEC_PITCH_STEPS - 1));
    for (size_t i = 0; i < block; i++) {
        fine->ramp[i] = (float)((double)(i + 1) / (double)block);
        fine->triangle[i] = (float)((double)(i + 1) * (double)(i + 2) / (double)(2 * block));
    }

    fine->pitch_norm = row_of(b, "decoder.fine.pitch.norm.weight", channels);
    set_conv(b, &fine->pitch, "decoder.fine.pitch.conv.linear", 3, 1, features, AEC_PITCH_CHANNELS);
    set_linear(b, &fine->logits, "decoder.fine.pitch.logits", 1, AEC_PITCH_CHANNELS, 128);
    set_linear(b, &fine->condition, "decoder.fine.condition", 1, features,
               fine->ratio * fine->conditions);
    set_conv(b, &fine->enter, "decoder.fine.enter.linear", 1, 1, fine->row, row);
    fine->num_units = (size_t)config->fine_depth;
    for (size_t u = 0; u < fine->num_units; u++) {
        snprintf(name, sizeof name, "decoder.fine.units.layers.%zu", u);
        set_unit(b, &fine->units[u], name, width, (size_t)config->fine_dilations[u]);
    }
    fine->norm = row_of(b, "decoder.fine.norm.weight", width);
    set_linear(b, &fine->hidden, "decoder.fine.hidden", 1, row, row);
    set_linear(b, &fine->gain, "decoder.fine.gain", 1, row, fine->padded);
    set_linear(b, &fine->gains, "decoder.fine.gains", 1, row, 2 * (AEC_SPECTRA - 1) * fine->padded);
    set_linear(b, &fine->change, "decoder.fine.change", 1, row, 2 * fine->padded);
    fine->oscillator = new_state(b, sizeof(struct aec_oscillator));
    fine->past = new_state(b, AEC_PERIODS * fine->reach * sizeof(float));
    fine->samples = new_state(b, AEC_SPECTRA * stride * sizeof(float));
    fine->powers = new_state(b, (AEC_ENVELOPE_FRAMES - 1) * fine->padded * sizeof(float));
    fine->tail = new_state(b, stride * sizeof(float));
}

static void set_decoder(struct builder *b) {
    struct aec_model *model = b->model;
    const aec_config *config = &model->config;
    size_t layer = 1, channels = (size_t)config->decoder_channels[config->num_levels - 1];
    char name[80];
    b->state = &model->decoder_state;
    set_conv(b, &model->enter, "decoder.body.layers.0.linear", (size_t)config->kernel_size, 1,
             model->latent, aec_row(channels));
    for (size_t l = (size_t)config->num_levels; l-- > 0;) {
        struct aec_level *level = &model->decoder[l];
        const size_t stride = (size_t)config->strides[l], row = aec_row(channels);
        level->stride = stride;
        layer = level_units(b, level, "decoder", layer, channels, config->decoder_dilations[l],
                            (size_t)config->decoder_depths[l]);
        if (!l && config->lapped_transform) {
            struct aec_head *head = &model->head;
            head->channels = channels;
            snprintf(name, sizeof name, "decoder.body.layers.%zu.norm.weight", layer);
            head->norm = row_of(b, name, channels);
            snprintf(name, sizeof name, "decoder.body.layers.%zu.head", layer);
            set_linear(b, &head->head, name, 1, row, aec_row(stride));
            snprintf(name, sizeof name, "decoder.body.layers.%zu.hidden", layer);
            set_linear(b, &head->hidden, name, 1, row, row);
            snprintf(name, sizeof name, "decoder.body.layers.%zu.gain", layer);
            set_linear(b, &head->gain, name, 1, row, aec_row(stride));
            set_mdct(b, &model->synthesis, stride);
        } else {
            struct aec_transposed *up = &level->up;
            channels = l ? (size_t)config->decoder_channels[l - 1] : 0;
            up->patch = l ? stride * aec_row(channels) : aec_row(stride * (size_t)config->channels);
            snprintf(name, sizeof name, "decoder.body.layers.%zu.linear", layer);
            set_linear(b, &up->matrix, name, 1, row, 2 * up->patch);
            snprintf(name, sizeof name, "decoder.body.layers.%zu.bias", layer++);
            up->bias = row_of(b, name, up->patch);
            up->state = new_state(b, up->patch * sizeof(float));
        }
    }
    if (config->fine_stride) set_fine(b);
}

/* The map of `outputs` rows of `inputs` values, transposed; and its bias. */
static void set_map(struct builder *b, struct aec_dense *map, float **bias, size_t number,
                    const char *name, size_t inputs, size_t outputs, size_t row) {
    const char *format = "quantizer.stages.%zu.%s.%s";
    const float *weights = find(b, AEC_FLOAT32, outputs * inputs, format, number, name, "weight");
    const float *start = find(b, AEC_FLOAT32, outputs, format, number, name, "bias");
    set_dense(b, map, inputs, row);
    *bias = new_floats(b, row);
    if (b->error || b->model->memory.failed) return;
    memcpy(*bias, start, outputs * sizeof(float));
    for (size_t o = 0; o < outputs; o++)
        for (size_t i = 0; i < inputs; i++) map->weights[i * row + o] = weights[o * inputs + i];
}

/* Entries of unit length, and what the search needs. In double precision, and upwards. */
static void set_vectors(struct builder *b, struct aec_stage *stage, size_t number) {
    const aec_config *config = &b->model->config;
    const size_t size = (size_t)config->codebook_size, dim = (size_t)config->codebook_dim;
    const size_t latent = (size_t)config->latent_dim, row = b->model->dim;
    const size_t padded = (size + AEC_ENTRIES - 1) / AEC_ENTRIES * AEC_ENTRIES;
    const float *codebook =
        find(b, AEC_FLOAT32, size * dim, "quantizer.stages.%zu.codebook", number);
    set_map(b, &stage->expand, &stage->bias, number, "project", dim, latent, b->model->latent);
    set_dense(b, &stage->reduce, latent, row);
    set_dense(b, &stage->entries, dim, padded);
    stage->offsets = new_floats(b, padded);
    stage->vectors = new_floats(b, size * row);
    if (b->error || b->model->memory.failed) return;
    const float *map = stage->expand.weights;
    const size_t length = stage->expand.outputs;
    /* |r - b - e M|^2 is least where r M e - (e M M e / 2 + b M e) is greatest. */
    double *products = new_array(b, dim * (dim + 1), sizeof *products);
    if (!products) return;
    for (size_t d = 0; d < dim; d++)
        for (size_t e = 0; e <= dim; e++) {
            const float *other = e < dim ? map + e * length : stage->bias;
            double sum = 0.0;
            for (size_t i = 0; i < latent; i++)
                sum += (double)map[d * length + i] * (double)other[i];
            products[e < dim ? d * dim + e : dim * dim + d] = sum;
        }
    for (size_t i = 0; i < latent; i++)
        for (size_t d = 0; d < dim; d++) stage->reduce.weights[i * row + d] = map[d * length + i];
    for (size_t code = 0; code < padded; code++) stage->offsets[code] = INFINITY;
    for (size_t code = 0; code < size; code++) {
        const float *entry = codebook + code * dim;
        float *vector = stage->vectors + code * row;
        double power = 0.0, offset = 0.0;
        for (size_t d = 0; d < dim; d++) power += (double)entry[d] * (double)entry[d];
        for (size_t d = 0; d < dim; d++) {
            vector[d] = power > 0.0 ? (float)((double)entry[d] / sqrt(power)) : 0.0f;
            stage->entries.weights[d * padded + code] = vector[d];
        }
        for (size_t d = 0; d < dim; d++) {
            double sum = products[dim * dim + d];
            for (size_t e = 0; e < dim; e++) sum += 0.5 * products[d * dim + e] * (double)vector[e];
            offset += (double)vector[d] * sum;
        }
        stage->offsets[code] = (float)offset;
    }
}

/* ScalarQuantizer of codec/network/fsq.py: the bits of a code, spread over the dimensions. */
static void set_scalars(struct builder *b, struct aec_stage *stage, size_t number) {
    const aec_config *config = &b->model->config;
    const size_t latent = (size_t)config->latent_dim, row = b->model->dim;
    int32_t num_bits = 0;
    while ((1 << (num_bits + 1)) <= config->codebook_size) num_bits++;
    const int32_t dims = num_bits < config->codebook_dim ? num_bits : config->codebook_dim;
    set_map(b, &stage->reduce, &stage->reduce_bias, number, "reduce", latent, (size_t)dims, row);
    set_map(b, &stage->expand, &stage->bias, number, "expand", (size_t)dims, latent,
            b->model->latent);
    stage->vectors = new_floats(b, (size_t)config->codebook_size * row);
    if (b->error || b->model->memory.failed) return;
    for (int32_t d = 0; d < dims; d++)
        stage->bits[d] = num_bits / dims + (d < num_bits % dims ? 1 : 0);
    for (int32_t code = 0; code < config->codebook_size; code++)
        for (int32_t d = 0, rest = code; d < dims; rest >>= stage->bits[d++]) {
            int32_t levels = 1 << stage->bits[d], level = rest & (levels - 1);
            float half = 0.5f * (float)levels;
            stage->vectors[(size_t)code * row + (size_t)d] = ((float)level + 0.5f) / half - 1.0f;
        }
}

static void set_quantizer(struct builder *b) {
    struct aec_model *model = b->model;
    const size_t count = (size_t)model->config.num_codebooks;
    model->dim = ((size_t)model->config.codebook_dim + AEC_LANES - 1) / AEC_LANES * AEC_LANES;
    model->stages = new_array(b, count, sizeof *model->stages);
    for (size_t k = 0; model->stages && k < count; k++)
        if (model->config.scalar_quantizer)
            set_scalars(b, &model->stages[k], k);
        else
            set_vectors(b, &model->stages[k], k);
}

static int in_range(const int32_t *values, size_t count, int32_t low, int32_t high) {
    for (size_t i = 0; i < count; i++)
        if (values[i] < low || values[i] > high) return 0;
    return 1;
}

static int is_possible(const aec_config *c) {
    enum { MOST = 1 << 14 };
    if (!in_range(&c->num_levels, 1, 1, AEC_MOST_LEVELS)) return 0;
    const size_t levels = (size_t)c->num_levels;
    for (size_t l = 0; l < levels; l++)
        if (!in_range(&c->encoder_depths[l], 1, 0, AEC_MOST_UNITS) ||
            !in_range(&c->decoder_depths[l], 1, 0, AEC_MOST_UNITS) ||
            !in_range(c->encoder_dilations[l], (size_t)c->encoder_depths[l], 1, MOST) ||
            !in_range(c->decoder_dilations[l], (size_t)c->decoder_depths[l], 1, MOST))
            return 0;
    if (!in_range(c->strides, levels, 1, MOST) || !in_range(c->encoder_channels, levels, 1, MOST) ||
        !in_range(c->decoder_channels, levels, 1, MOST) ||
        !in_range(&c->sample_rate, 1, 1, 1 << 20) || !in_range(&c->channels, 1, 1, 64) ||
        !in_range(&c->lapped_transform, 1, 0, 1) || !in_range(&c->latent_dim, 1, 1, MOST) ||
        !in_range(&c->kernel_size, 1, 1, 64) || !in_range(&c->num_codebooks, 1, 1, 1024) ||
        !in_range(&c->codebook_size, 1, 1, 1 << 16) || !in_range(&c->codebook_dim, 1, 1, 1024) ||
        !in_range(&c->scalar_quantizer, 1, 0, 1) || !in_range(&c->fine_stride, 1, 0, MOST))
        return 0;
    if (c->scalar_quantizer &&
        (c->codebook_size < 2 || (c->codebook_size & (c->codebook_size - 1))))
        return 0;
    uint64_t hop = 1;
    for (size_t l = 0; l < levels; l++)
        if ((hop *= (uint64_t)c->strides[l]) > 1 << 20) return 0;
    if (c->lapped_transform && (c->channels != 1 || c->strides[0] % 2)) return 0;
    if (!c->fine_stride) return 1;
    return c->lapped_transform && c->strides[0] % c->fine_stride == 0 && c->sample_rate >= 1000 &&
           in_range(&c->fine_channels, 1, 1, MOST) &&
           in_range(&c->fine_depth, 1, 0, AEC_MOST_UNITS) &&
           in_range(c->fine_dilations, (size_t)c->fine_depth, 1, MOST);
}

int aec_model_create(const aec_config *config, const aec_tensor *tensors, size_t num_tensors,
                     aec_model **model) {
    if (!model) return AEC_ERROR_ARGUMENT;
    *model = NULL;
    if (!config || !tensors || !is_possible(config)) return AEC_ERROR_ARGUMENT;
    const struct aec_kernel *kernel = aec_choose_kernel();
    if (!kernel) return AEC_ERROR_KERNEL;
    struct aec_model *made = calloc(1, sizeof *made);
    if (!made) return AEC_ERROR_MEMORY;
    made->config = *config;
    made->loops = &kernel->loops;
    made->latent = aec_row((size_t)config->latent_dim);
    made->hop = 1;
    for (int l = 0; l < config->num_levels; l++) made->hop *= (size_t)config->strides[l];
    struct builder builder = {made, kernel, tensors, num_tensors, 0, NULL};
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    set_encoder(&builder);
    set_quantizer(&builder);
    set_decoder(&builder);
    aec_set_float_mode(mode);
    if (made->memory.failed) builder.error = AEC_ERROR_MEMORY;
    if (builder.error)
        aec_model_destroy(made);
    else
        *model = made;
    return builder.error;
}

void aec_model_destroy(aec_model *model) {
    if (!model) return;
    aec_release(&model->memory);
    free(model);
}
