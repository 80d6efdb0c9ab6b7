#include "context.h"

#include <stdlib.h>
#include <string.h>

#include "float_mode.h"

enum {
    LIMIT = 127,         /* largest activation */
    WEIGHT_BITS = 6,     /* weights count 1/64 */
    ACTIVATION_BITS = 5, /* activations count 1/32 */
    TABLE_SHIFT = WEIGHT_BITS + ACTIVATION_BITS - AEC_STEP_BITS,
    LARGEST_SIZE = 1 << 16,
};

/* ---- Creation ---- */

/* A product as it is given: several matrices [inputs, outputs], one after the other. */
struct product {
    uint64_t count, inputs, outputs;
    const int8_t *weights;
    const int32_t *biases;
};

enum { PAST, COUNTS, CONTEXT, INNER, HIDDEN, FIRST, SECOND, LAYERS };

static struct product product_of(const aec_context_sizes *sizes, uint32_t first, uint32_t second,
                                 size_t index) {
    uint64_t k = sizes->num_codebooks, d = sizes->entry_dim, w = sizes->width, h = sizes->hidden;
    switch (index) {
    case PAST:
        return (struct product){1, k * d, w, NULL, NULL};
    case COUNTS:
        return (struct product){1, w, k, NULL, NULL};
    case CONTEXT:
        return (struct product){1, w, k * h, NULL, NULL};
    case INNER:
        return (struct product){1, k * d, k * h, NULL, NULL};
    case HIDDEN:
        return (struct product){k, h, h, NULL, NULL};
    case FIRST:
        return (struct product){k, h, first, NULL, NULL};
    case SECOND:
        return (struct product){k * first, h, second, NULL, NULL};
    default: /* taps and project in turn */
        return (struct product){1, (index - LAYERS) % 2 ? w : 2 * w, w, NULL, NULL};
    }
}

/* Add the largest sums that the outputs of one matrix of a product can have. */
static void add_largest(const struct product *product, uint64_t index, int64_t *sums) {
    const int8_t *weights = product->weights + index * product->inputs * product->outputs;
    const int32_t *biases = product->biases + index * product->outputs;
    for (uint64_t output = 0; output < product->outputs; output++)
        sums[output] += llabs(biases[output]);
    for (uint64_t input = 0; input < product->inputs; input++, weights += product->outputs)
        for (uint64_t output = 0; output < product->outputs; output++)
            sums[output] += LIMIT * abs(weights[output]);
}

/* The largest sum of a product, to which another one may be added; -1 without memory. */
static int64_t largest_sum(const struct product *product, const struct product *added) {
    int64_t largest = 0;
    int64_t *sums = calloc((size_t)product->outputs, sizeof *sums);
    if (!sums) return -1;
    for (uint64_t index = 0; index < product->count; index++) {
        memset(sums, 0, (size_t)product->outputs * sizeof *sums);
        add_largest(product, index, sums);
        if (added) add_largest(added, index, sums);
        for (uint64_t output = 0; output < product->outputs; output++)
            largest = sums[output] > largest ? sums[output] : largest;
    }
    free(sums);
    return largest;
}

static int check_sizes(const aec_context_sizes *sizes, const uint32_t *dilations,
                       size_t num_dilations) {
    const uint32_t all[] = {sizes->num_codebooks, sizes->codebook_size, sizes->entry_dim,
                            sizes->width, sizes->hidden};
    for (size_t index = 0; index < sizeof all / sizeof *all; index++)
        if (all[index] < 1 || all[index] > LARGEST_SIZE) return AEC_ERROR_ARGUMENT;
    if (sizes->codebook_size < 2 || (sizes->codebook_size & (sizes->codebook_size - 1)))
        return AEC_ERROR_ARGUMENT;
    if (num_dilations > LARGEST_SIZE) return AEC_ERROR_ARGUMENT;
    for (size_t layer = 0; layer < num_dilations; layer++)
        if (dilations[layer] < 1 || dilations[layer] > LARGEST_SIZE) return AEC_ERROR_ARGUMENT;
    return 0;
}

/* All that follows from the sizes, with memory for it. */
static void place(struct aec_context *model, const uint32_t *dilations) {
    struct aec_arena *memory = &model->memory;
    const aec_context_sizes *sizes = &model->sizes;
    size_t dim = sizes->entry_dim, width = sizes->width, hidden = sizes->hidden;
    size_t entries = sizes->num_codebooks * dim;
    model->context_size = AEC_PADDED(width, AEC_INPUTS_TOGETHER);
    model->entries_size = AEC_PADDED(entries, AEC_INPUTS_TOGETHER);
    aec_matrix_place(&model->past, entries, width, memory);
    aec_matrix_place(&model->counts, width, sizes->num_codebooks, memory);
    model->state_size = model->entries_size;
    for (size_t index = 0; index < model->num_layers; index++) {
        struct aec_layer *layer = model->layers + index;
        layer->dilation = dilations[index];
        layer->state = model->state_size;
        const uint64_t past = (uint64_t)layer->dilation * width;
        if (past > AEC_TOO_LARGE - model->state_size) {
            memory->failed = 1;
            return;
        }
        model->state_size += (size_t)past;
        aec_matrix_place(&layer->taps, 2 * width, width, memory);
        aec_matrix_place(&layer->project, width, width, memory);
    }
    for (uint32_t k = 0; k < sizes->num_codebooks; k++) {
        struct aec_codebook *book = model->codebooks + k;
        aec_matrix_place(&book->units, model->context_size + k * dim, hidden, memory);
        aec_matrix_place(&book->hidden, hidden, hidden, memory);
        aec_matrix_place(&book->first, hidden, model->first_values, memory);
        book->second = model->seconds + (size_t)k * model->first_values;
        for (uint32_t first = 0; first < model->first_values; first++)
            aec_matrix_place(book->second + first, hidden, model->second_values, memory);
        book->entries = aec_allocate(memory, sizes->codebook_size, dim);
        book->order = aec_allocate(memory, sizes->codebook_size, sizeof(uint16_t));
        book->codes = aec_allocate(memory, sizes->codebook_size, sizeof(uint16_t));
    }
    const size_t outputs[] = {model->past.outputs, model->counts.outputs,
                              model->codebooks->hidden.outputs, model->codebooks->first.outputs};
    model->most_outputs = 0;
    for (size_t index = 0; index < sizeof outputs / sizeof *outputs; index++)
        if (outputs[index] > model->most_outputs) model->most_outputs = outputs[index];
}

static void fill(struct aec_matrix *matrix, size_t together, const struct product *product,
                 uint64_t index) {
    const size_t inputs = product->inputs, outputs = product->outputs;
    const int8_t *weights = product->weights + index * inputs * outputs;
    aec_matrix_fill(matrix, together, 0, weights, inputs, outputs, outputs);
    aec_matrix_bias(matrix, together, product->biases + index * outputs, outputs);
}

static void fill_all(struct aec_context *model, const struct product *products,
                     const int8_t *entries, const uint16_t *order) {
    const aec_context_sizes *sizes = &model->sizes;
    size_t dim = sizes->entry_dim, hidden = sizes->hidden, size = sizes->codebook_size;
    size_t together = model->kernel->together, stride = sizes->num_codebooks * hidden;
    fill(&model->past, together, products + PAST, 0);
    fill(&model->counts, together, products + COUNTS, 0);
    for (size_t layer = 0; layer < model->num_layers; layer++) {
        fill(&model->layers[layer].taps, together, products + LAYERS + 2 * layer, 0);
        fill(&model->layers[layer].project, together, products + LAYERS + 2 * layer + 1, 0);
    }
    for (size_t k = 0; k < sizes->num_codebooks; k++) {
        struct aec_codebook *book = model->codebooks + k;
        aec_matrix_fill(&book->units, together, 0, products[CONTEXT].weights + k * hidden,
                        sizes->width, hidden, stride);
        /* Of the codes before it alone: what a file says of others is not looked at. */
        aec_matrix_fill(&book->units, together, model->context_size,
                        products[INNER].weights + k * hidden, k * dim, hidden, stride);
        aec_matrix_bias(&book->units, together, products[CONTEXT].biases + k * hidden, hidden);
        fill(&book->hidden, together, products + HIDDEN, k);
        fill(&book->first, together, products + FIRST, k);
        for (size_t first = 0; first < model->first_values; first++)
            fill(book->second + first, together, products + SECOND,
                 k * model->first_values + first);
        memcpy(book->entries, entries + k * size * dim, size * dim);
        memcpy(book->order, order + k * size, size * sizeof *order);
        for (size_t code = 0; code < size; code++) book->codes[book->order[code]] = (uint16_t)code;
    }
}

/* Whether each code of each codebook has an index of its own; 0 without memory, too. */
static int has_each_once(const aec_context_sizes *sizes, const uint16_t *order) {
    size_t size = sizes->codebook_size;
    uint8_t *seen = malloc(size);
    int each = seen != NULL;
    for (size_t k = 0; each && k < sizes->num_codebooks; k++, order += size) {
        memset(seen, 0, size);
        for (size_t code = 0; each && code < size; code++)
            each = order[code] < size && !seen[order[code]]++;
    }
    free(seen);
    return each;
}

static int check_values(const aec_context_sizes *sizes, const struct product *products,
                        size_t num_products, const int8_t *entries, const uint16_t *order,
                        int64_t *largest) {
    int error = 0;
    for (size_t index = 0; index < num_products; index++) {
        /* Context and inner are added up before they are shifted. */
        largest[index] = largest_sum(products + index, index == CONTEXT ? products + INNER : NULL);
        if (largest[index] < 0) return AEC_ERROR_MEMORY;
        if (largest[index] >= AEC_LARGEST_SUM) error = AEC_ERROR_INEXACT;
    }
    size_t num_entries = (size_t)sizes->num_codebooks * sizes->codebook_size * sizes->entry_dim;
    for (size_t index = 0; index < num_entries; index++)
        if (entries[index] < -LIMIT) error = AEC_ERROR_INEXACT;
    return !error && !has_each_once(sizes, order) ? AEC_ERROR_ORDER : error;
}

/* A model whose weights are zero; NULL without memory. */
static struct aec_context *allocate(const aec_context_sizes *sizes, const uint32_t *dilations,
                                    size_t num_dilations, uint32_t first, uint32_t second) {
    struct aec_context *model = calloc(1, sizeof *model);
    if (!model) return NULL;
    model->sizes = *sizes;
    model->num_layers = num_dilations;
    model->first_values = first;
    model->second_values = second;
    struct aec_arena *memory = &model->memory;
    model->layers = aec_allocate(memory, num_dilations, sizeof *model->layers);
    model->codebooks = aec_allocate(memory, sizes->num_codebooks, sizeof *model->codebooks);
    const size_t num_seconds = (size_t)sizes->num_codebooks * first;
    model->seconds = aec_allocate(memory, num_seconds, sizeof *model->seconds);
    if (!memory->failed) place(model, dilations);
    if (!memory->failed) return model;
    aec_context_destroy(model);
    return NULL;
}

int aec_context_create(const aec_context_sizes *sizes, const uint32_t *dilations,
                       size_t num_dilations, const int8_t *weights, size_t num_weights,
                       const int32_t *biases, size_t num_biases, const uint16_t *order,
                       size_t num_order, int64_t *largest, size_t num_largest,
                       aec_context **model) {
    if (!model) return AEC_ERROR_ARGUMENT;
    *model = NULL;
    if (!sizes || (num_dilations && !dilations) || !weights || !biases || !order || !largest)
        return AEC_ERROR_ARGUMENT;
    int error = check_sizes(sizes, dilations, num_dilations), bits = 0;
    size_t num_products = LAYERS + 2 * num_dilations;
    if (error || num_largest != num_products) return AEC_ERROR_ARGUMENT;
    while (sizes->codebook_size >> (bits + 1)) bits++;
    uint32_t first = 1u << (bits + 1) / 2, second = 1u << bits / 2;
    struct product *products = calloc(num_products, sizeof *products);
    if (!products) return AEC_ERROR_MEMORY;
    uint64_t used = 0, added = 0; /* weights and biases; sizes of 16 bits cannot overflow them */
    for (size_t index = 0; index < num_products; index++) {
        struct product *product = products + index;
        *product = product_of(sizes, first, second, index);
        product->weights = weights + used;
        product->biases = biases + added;
        used += product->count * product->inputs * product->outputs;
        added += product->count * product->outputs;
        if (used > num_weights || added > num_biases) break;
    }
    uint64_t codes = (uint64_t)sizes->num_codebooks * sizes->codebook_size;
    if (used + codes * sizes->entry_dim != num_weights || added != num_biases || codes != num_order)
        error = AEC_ERROR_ARGUMENT;
    const struct aec_kernel *kernel = aec_choose_kernel();
    if (!error && !kernel) error = AEC_ERROR_KERNEL;
    if (!error) error = check_values(sizes, products, num_products, weights + used, order, largest);
    if (!error && !(*model = allocate(sizes, dilations, num_dilations, first, second)))
        error = AEC_ERROR_MEMORY;
    if (!error) {
        (*model)->kernel = kernel;
        fill_all(*model, products, weights + used, order);
        const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
        aec_distribution_table((*model)->table);
        aec_set_float_mode(mode);
    }
    free(products);
    return error;
}

void aec_context_destroy(aec_context *model) {
    if (!model) return;
    aec_release(&model->memory);
    free(model);
}

size_t aec_context_state_size(const aec_context *model) { return model ? model->state_size : 0; }

/* ---- Computation ---- */

struct aec_workspace aec_workspace_in(const aec_context *model, size_t num_frames,
                                      struct aec_block *block) {
    struct aec_workspace work = {.model = model};
    size_t taps = model->num_layers ? model->layers->taps.inputs : 0;
    work.frames = aec_take(block, num_frames, model->context_size + model->entries_size);
    work.taps = aec_take(block, num_frames, taps);
    work.units = aec_take(block, num_frames, model->most_outputs);
    work.hidden = aec_take(block, num_frames, model->most_outputs);
    work.sums = aec_take(block, num_frames, model->most_outputs * sizeof *work.sums);
    work.inputs = aec_take(block, num_frames, sizeof *work.inputs);
    work.states = aec_take(block, num_frames, sizeof *work.states);
    return work;
}

static inline int8_t limited(int32_t sum, int32_t lowest) {
    /* Compilers shift the sign in, which rounds down. */
    int32_t shifted = sum >> WEIGHT_BITS;
    shifted = shifted < lowest ? lowest : shifted;
    return (int8_t)(shifted > LIMIT ? LIMIT : shifted);
}

static void activate(const int32_t *sums, size_t count, int32_t lowest, int8_t *activations) {
    for (size_t index = 0; index < count; index++)
        activations[index] = limited(sums[index], lowest);
}

/* Inputs are rows of an array. */
static void set_inputs(struct aec_workspace *work, const int8_t *rows, size_t stride,
                       size_t count) {
    for (size_t row = 0; row < count; row++) work->inputs[row] = rows + row * stride;
}

void aec_set_entry(const aec_context *model, int8_t *entries, uint32_t codebook, uint32_t code) {
    size_t dim = model->sizes.entry_dim;
    memcpy(entries + codebook * dim, model->codebooks[codebook].entries + code * dim, dim);
}

/* Inputs of the taps: what the layer was given `dilation` frames ago, and now. */
static void gather_taps(struct aec_workspace *work, const struct aec_layer *layer, size_t row,
                        size_t num_frames) {
    size_t width = work->model->sizes.width, inputs = layer->taps.inputs;
    const int8_t *past = (const int8_t *)work->states[row] + layer->state;
    for (size_t frame = 0; frame < num_frames; frame++) {
        size_t index = row * num_frames + frame;
        int8_t *taps = work->taps + index * inputs;
        const int8_t *before = frame < layer->dilation
                                   ? past + frame * width
                                   : aec_frame_context(work, index - layer->dilation);
        memcpy(taps, before, width);
        memcpy(taps + width, aec_frame_context(work, index), width);
        memset(taps + 2 * width, 0, inputs - 2 * width);
    }
}

/* The layer's inputs in the last `dilation` frames. */
static void remember_inputs(struct aec_workspace *work, const struct aec_layer *layer, size_t row,
                            size_t num_frames) {
    size_t width = work->model->sizes.width;
    size_t kept = num_frames < layer->dilation ? layer->dilation - num_frames : 0;
    uint8_t *past = work->states[row] + layer->state;
    memmove(past, past + (layer->dilation - kept) * width, kept * width);
    for (size_t frame = kept; frame < layer->dilation; frame++) {
        size_t index = (row + 1) * num_frames - (layer->dilation - frame);
        memcpy(past + frame * width, aec_frame_context(work, index), width);
    }
}

static void add_residual(const int32_t *sums, int8_t *context, size_t size) {
    for (size_t index = 0; index < size; index++) {
        int32_t sum = context[index] + limited(sums[index], -LIMIT);
        sum = sum < -LIMIT ? -LIMIT : sum;
        context[index] = (int8_t)(sum > LIMIT ? LIMIT : sum);
    }
}

void aec_compute_context(struct aec_workspace *work, size_t num_rows, size_t num_frames) {
    const aec_context *model = work->model;
    size_t count = num_rows * num_frames, outputs = model->past.outputs;
    for (size_t row = 0; row < num_rows; row++)
        for (size_t frame = 0; frame < num_frames; frame++)
            work->inputs[row * num_frames + frame] =
                frame ? aec_frame_entries(work, row * num_frames + frame - 1)
                      : (const int8_t *)work->states[row];
    aec_multiply_inputs(work, &model->past, count);
    for (size_t index = 0; index < count; index++)
        activate(work->sums + index * outputs, model->context_size, -LIMIT,
                 aec_frame_context(work, index));
    for (size_t number = 0; number < model->num_layers; number++) {
        const struct aec_layer *layer = model->layers + number;
        for (size_t row = 0; row < num_rows; row++) {
            gather_taps(work, layer, row, num_frames);
            remember_inputs(work, layer, row, num_frames);
        }
        set_inputs(work, work->taps, layer->taps.inputs, count);
        aec_multiply_inputs(work, &layer->taps, count);
        activate(work->sums, count * outputs, 0, work->units);
        set_inputs(work, work->units, outputs, count);
        aec_multiply_inputs(work, &layer->project, count);
        for (size_t index = 0; index < count; index++)
            add_residual(work->sums + index * outputs, aec_frame_context(work, index),
                         model->context_size);
    }
}

void aec_remember_entries(struct aec_workspace *work, size_t num_rows, size_t num_frames) {
    for (size_t row = 0; row < num_rows; row++)
        memcpy(work->states[row], aec_frame_entries(work, (row + 1) * num_frames - 1),
               work->model->entries_size);
}

void aec_compute_units(struct aec_workspace *work, uint32_t codebook, const uint32_t *frames,
                       size_t count) {
    const struct aec_codebook *book = work->model->codebooks + codebook;
    size_t outputs = book->hidden.outputs;
    for (size_t index = 0; index < count; index++)
        work->inputs[index] = aec_frame_context(work, frames[index]);
    aec_multiply_inputs(work, &book->units, count);
    activate(work->sums, count * outputs, 0, work->units);
    set_inputs(work, work->units, outputs, count);
    aec_multiply_inputs(work, &book->hidden, count);
    activate(work->sums, count * outputs, 0, work->hidden);
    set_inputs(work, work->hidden, outputs, count);
}

struct aec_distribution aec_distribution_after(const aec_context *model, int32_t *sums,
                                               uint32_t num_values) {
    return aec_distribution_of(model->table, sums, num_values, TABLE_SHIFT);
}
