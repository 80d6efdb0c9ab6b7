#include "coding.h"

#include <string.h>

#include "float_mode.h"

/* ---- Memory and checks ---- */

static struct aec_coder take_coder(const aec_context *model, size_t num_rows,
                                   struct aec_block *block) {
    size_t count = num_rows > AEC_FRAMES_TOGETHER ? num_rows : AEC_FRAMES_TOGETHER;
    size_t symbols = 2 + 2 * (size_t)model->sizes.num_codebooks;
    struct aec_coder coder = {.num_frames = count};
    coder.work = aec_workspace_in(model, count, block);
    coder.intervals = aec_take(block, count, symbols * sizeof *coder.intervals);
    coder.decoders = aec_take(block, count, sizeof *coder.decoders);
    coder.of_first = aec_take(block, count, sizeof *coder.of_first);
    coder.of_second = aec_take(block, count, sizeof *coder.of_second);
    coder.information = aec_take(block, count, sizeof *coder.information);
    coder.sums = aec_take(block, count, model->most_outputs * sizeof *coder.sums);
    coder.states = aec_take(block, count, model->state_size);
    coder.grouped = aec_take(block, count, sizeof *coder.grouped);
    uint32_t **arrays[] = {&coder.list,   &coder.rows,    &coder.lengths, &coder.steps,
                           &coder.counts, &coder.symbols, &coder.firsts,  &coder.before,
                           &coder.slots,  &coder.leaders};
    for (size_t index = 0; index < sizeof arrays / sizeof *arrays; index++)
        *arrays[index] = aec_take(block, count, sizeof(uint32_t));
    coder.present = aec_take(block, count, 1);
    return coder;
}

size_t aec_context_scratch_size(const aec_context *model, size_t num_rows) {
    struct aec_block counted = {NULL, 0};
    if (!model || num_rows > UINT32_MAX) return 0;
    take_coder(model, num_rows, &counted);
    return counted.used < AEC_TOO_LARGE ? counted.used + AEC_ALIGNMENT : 0;
}

int aec_coder_in(struct aec_coder *coder, const aec_context *model, uint64_t num_rows,
                 void *scratch, size_t scratch_size) {
    if (num_rows > UINT32_MAX) return AEC_ERROR_ARGUMENT;
    size_t needed = aec_context_scratch_size(model, (size_t)num_rows);
    if (!needed || scratch_size < needed || !scratch) return AEC_ERROR_ARGUMENT;
    struct aec_block block = aec_block_in(scratch);
    *coder = take_coder(model, (size_t)num_rows, &block);
    return 0;
}

static uint64_t rows_of(const aec_packets *shape) {
    return (uint64_t)shape->segments * shape->channels;
}

int aec_fits(const aec_context *model, const aec_packets *shape) {
    return model && shape->channels && shape->segments && rows_of(shape) <= INT32_MAX &&
           shape->num_codebooks && shape->num_codebooks <= model->sizes.num_codebooks &&
           shape->num_packets <= INT32_MAX && shape->num_frames <= INT32_MAX;
}

int aec_are_codes(const aec_context *model, const int32_t *codes, size_t count) {
    int32_t size = (int32_t)model->sizes.codebook_size;
    for (size_t index = 0; index < count; index++)
        if (codes[index] >= size) return 0;
    return 1;
}

/* Products for the second symbols of all listed frames, whose first ones are in `firsts`: sums
 * [there, outputs], of which `slots` tells each frame's. Frames with the same first symbol have the
 * same weights, and are computed together. */
static void multiply_seconds(struct aec_coder *coder, const struct aec_codebook *book,
                             uint32_t there) {
    struct aec_workspace *work = &coder->work;
    uint32_t newest[1 << 8], *before = coder->before, used = 0;
    for (uint32_t first = 0; first < work->model->first_values; first++) newest[first] = UINT32_MAX;
    for (uint32_t index = 0; index < there; index++) {
        before[index] = newest[coder->firsts[index]];
        newest[coder->firsts[index]] = index;
    }
    for (uint32_t first = 0; first < work->model->first_values; first++) {
        int32_t *sums = coder->sums + used * (size_t)book->second->outputs;
        uint32_t count = 0;
        for (uint32_t index = newest[first]; index != UINT32_MAX; index = before[index]) {
            coder->grouped[count++] = work->inputs[index];
            coder->slots[index] = used++;
        }
        if (count) work->model->kernel->multiply(book->second + first, coder->grouped, count, sums);
    }
}

/* Distribution of the second symbol of a listed frame after that. */
static struct aec_distribution second_of(const struct aec_coder *coder,
                                         const struct aec_codebook *book, uint32_t index) {
    int32_t *sums = coder->sums + coder->slots[index] * (size_t)book->second->outputs;
    return aec_distribution_after(coder->work.model, sums, coder->work.model->second_values);
}

/* ---- Encoding ---- */

/* Frequency with which a frame has codes if, and only if, the frame before it in its row has. */
enum { STAYS = AEC_TOTAL - AEC_TOTAL / 64 };

static struct aec_interval presence(int present, int before) {
    uint32_t frequency = present == before ? STAYS : AEC_TOTAL - STAYS;
    return (struct aec_interval){present ? AEC_TOTAL - frequency : 0, frequency};
}

/* A packet and some frames of each of its rows, which are encoded together. */
struct part {
    const aec_packets *shape;
    const int32_t *codes; /* [C, k, T] */
    uint32_t steps;       /* frames of a row */
    uint32_t begin, num_frames;
};

enum { PRESENCE, COUNT, SYMBOLS }; /* what is coded for a frame, in this order */

/* Index of a row's frame in the packet; beyond its end in the last segments. */
static uint64_t frame_of(const struct part *part, uint32_t row, uint64_t frame) {
    return (uint64_t)(row / part->shape->channels) * part->steps + frame;
}

static int32_t code_at(const struct part *part, uint32_t row, uint32_t codebook, uint64_t frame) {
    const aec_packets *shape = part->shape;
    uint64_t index = frame_of(part, row, frame), channel = row % shape->channels;
    if (index >= shape->num_frames) return -1;
    return part->codes[(channel * shape->num_codebooks + codebook) * shape->num_frames + index];
}

/* Entries of the part's frames, and how many codes each has. */
static void load_codes(struct aec_coder *coder, const struct part *part, uint32_t num_rows) {
    const aec_context *model = coder->work.model;
    for (uint32_t row = 0, index = 0; row < num_rows; row++)
        for (uint32_t frame = 0; frame < part->num_frames; frame++, index++) {
            int8_t *entries = aec_frame_entries(&coder->work, index);
            memset(entries, 0, model->entries_size);
            coder->counts[index] = 0;
            for (uint32_t k = 0; k < part->shape->num_codebooks; k++) {
                int32_t code = code_at(part, row, k, part->begin + frame);
                if (code >= 0) {
                    aec_set_entry(model, entries, k, (uint32_t)code);
                    coder->counts[index]++;
                }
            }
        }
}

/* Intervals [symbols] of each frame, of which these are the first of one kind. */
static struct aec_interval *intervals_from(const struct aec_coder *coder, const struct part *part,
                                           uint32_t frame, size_t symbol) {
    size_t symbols = SYMBOLS + 2 * (size_t)part->shape->num_codebooks;
    return coder->intervals + frame * symbols + symbol;
}

static void find_presence(struct aec_coder *coder, const struct part *part, uint32_t count) {
    for (uint32_t index = 0; index < count; index++) {
        uint32_t row = index / part->num_frames;
        uint32_t frame = part->begin + index % part->num_frames;
        int before = !frame || code_at(part, row, 0, frame - 1) >= 0;
        if (frame_of(part, row, frame) < part->shape->num_frames)
            *intervals_from(coder, part, index, PRESENCE) =
                presence(code_at(part, row, 0, frame) >= 0, before);
    }
}

static void find_counts(struct aec_coder *coder, const struct part *part, uint32_t count) {
    struct aec_workspace *work = &coder->work;
    const aec_context *model = work->model;
    for (uint32_t index = 0; index < count; index++)
        work->inputs[index] = aec_frame_context(work, index);
    aec_multiply_inputs(work, &model->counts, count);
    for (uint32_t index = 0; index < count; index++)
        if (coder->counts[index]) {
            int32_t *sums = work->sums + (size_t)index * model->counts.outputs;
            struct aec_distribution counts =
                aec_distribution_after(model, sums, part->shape->num_codebooks);
            *intervals_from(coder, part, index, COUNT) =
                aec_interval_of(&counts, coder->counts[index] - 1);
        }
}

static void find_symbols(struct aec_coder *coder, const struct part *part, uint32_t count,
                         uint32_t codebook) {
    struct aec_workspace *work = &coder->work;
    const aec_context *model = work->model;
    const struct aec_codebook *book = model->codebooks + codebook;
    size_t symbol = SYMBOLS + 2 * (size_t)codebook;
    uint32_t there = 0;
    for (uint32_t index = 0; index < count; index++) {
        uint32_t row = index / part->num_frames;
        int32_t code = code_at(part, row, codebook, part->begin + index % part->num_frames);
        if (code < 0) continue;
        coder->symbols[there] = book->order[code];
        coder->firsts[there] = coder->symbols[there] / model->second_values;
        coder->list[there++] = index;
    }
    if (!there) return;
    aec_compute_units(work, codebook, coder->list, there);
    aec_multiply_inputs(work, &book->first, there);
    for (uint32_t index = 0; index < there; index++) {
        int32_t *sums = work->sums + (size_t)index * book->first.outputs;
        struct aec_distribution first = aec_distribution_after(model, sums, model->first_values);
        *intervals_from(coder, part, coder->list[index], symbol) =
            aec_interval_of(&first, coder->firsts[index]);
    }
    multiply_seconds(coder, book, there);
    for (uint32_t index = 0; index < there; index++) {
        struct aec_distribution second = second_of(coder, book, index);
        *intervals_from(coder, part, coder->list[index], symbol + 1) =
            aec_interval_of(&second, coder->symbols[index] % model->second_values);
    }
}

/* Intervals of all that is coded of the part's frames, with a frequency of 0 for all else. */
static void find_intervals(struct aec_coder *coder, const struct part *part, uint32_t num_rows) {
    uint32_t count = num_rows * part->num_frames;
    size_t size = sizeof *coder->intervals;
    memset(coder->intervals, 0,
           (size_t)(intervals_from(coder, part, count, 0) - coder->intervals) * size);
    if (part->shape->pauses) find_presence(coder, part, count);
    if (part->shape->variable) find_counts(coder, part, count);
    for (uint32_t k = 0; k < part->shape->num_codebooks; k++) find_symbols(coder, part, count, k);
}

/* Frame after frame, each symbol of all rows before the next one. */
static void write_intervals(const struct aec_coder *coder, const struct part *part,
                            uint32_t num_rows, struct aec_range_encoder *encoder) {
    size_t symbols = SYMBOLS + 2 * (size_t)part->shape->num_codebooks;
    for (uint32_t frame = 0; frame < part->num_frames; frame++)
        for (size_t symbol = 0; symbol < symbols; symbol++)
            for (uint32_t row = 0; row < num_rows; row++) {
                uint32_t index = row * part->num_frames + frame;
                struct aec_interval found = *intervals_from(coder, part, index, symbol);
                if (found.frequency && found.frequency < AEC_TOTAL)
                    aec_range_encode(encoder, found);
            }
}

static void add_bits(const struct aec_coder *coder, const struct part *part, uint32_t num_rows,
                     double *bits) {
    size_t symbols = SYMBOLS + 2 * (size_t)part->shape->num_codebooks;
    for (uint32_t index = 0; index < num_rows * part->num_frames; index++) {
        struct aec_information information = {1, 0};
        uint64_t frame = frame_of(part, index / part->num_frames,
                                  (uint64_t)part->begin + index % part->num_frames);
        for (size_t symbol = 0; symbol < symbols; symbol++) {
            struct aec_interval found = *intervals_from(coder, part, index, symbol);
            if (found.frequency) aec_information_add(&information, found);
        }
        if (frame < part->shape->num_frames) bits[frame] += aec_information_bits(&information);
    }
}

static uint32_t encode_packet(struct aec_coder *coder, const aec_packets *shape,
                              const int32_t *codes, uint8_t *bytes, size_t capacity, double *bits) {
    uint32_t num_rows = (uint32_t)rows_of(shape);
    uint32_t together = (uint32_t)(coder->num_frames / num_rows);
    struct part part = {shape, codes, aec_ceil_div(shape->num_frames, shape->segments), 0, 0};
    struct aec_range_encoder encoder = aec_range_encoder_in(bytes, capacity);
    for (; part.begin < part.steps; part.begin += part.num_frames) {
        uint32_t left = part.steps - part.begin;
        part.num_frames = left < together ? left : together;
        load_codes(coder, &part, num_rows);
        aec_compute_context(&coder->work, num_rows, part.num_frames);
        aec_remember_entries(&coder->work, num_rows, part.num_frames);
        find_intervals(coder, &part, num_rows);
        write_intervals(coder, &part, num_rows, &encoder);
        if (bits) add_bits(coder, &part, num_rows, bits);
    }
    return (uint32_t)aec_range_finish(&encoder);
}

size_t aec_packet_capacity(const aec_packets *shape) {
    if (!shape || !shape->segments || rows_of(shape) > INT32_MAX ||
        shape->num_codebooks > UINT16_MAX + 1)
        return 0;
    uint64_t steps = aec_ceil_div(shape->num_frames, shape->segments);
    uint64_t symbols = SYMBOLS + 2 * (uint64_t)shape->num_codebooks;
    uint64_t bytes = aec_times4(rows_of(shape), steps, symbols, AEC_TOTAL_BITS / 8);
    return bytes < UINT32_MAX - 4 ? (size_t)bytes + 4 : 0;
}

static void set_states(struct aec_coder *coder, uint8_t *state, size_t count) {
    for (size_t row = 0; row < count; row++)
        coder->work.states[row] = state + row * coder->work.model->state_size;
}

int aec_encode_packets(const aec_context *model, const aec_packets *shape, const int32_t *codes,
                       size_t num_codes, uint8_t *state, size_t num_state, uint8_t *bytes,
                       size_t num_bytes, uint32_t *lengths, size_t num_lengths, double *bits,
                       size_t num_bits, void *scratch, size_t scratch_size) {
    if (!shape) return AEC_ERROR_ARGUMENT;
    struct aec_coder coder;
    uint64_t packets = shape->num_packets, frames = shape->num_frames, rows = rows_of(shape);
    size_t capacity = aec_packet_capacity(shape);
    uint64_t per_packet = aec_times4(shape->channels, shape->num_codebooks, frames, 1);
    if (!aec_fits(model, shape) || !capacity || aec_times(packets, per_packet) != num_codes ||
        aec_times4(packets, rows, model->state_size, 1) != num_state ||
        aec_times(packets, capacity) != num_bytes || packets != num_lengths ||
        (num_bits && packets * frames != num_bits) || aec_lacks(codes, num_codes) ||
        aec_lacks(state, num_state) || aec_lacks(bytes, num_bytes) ||
        aec_lacks(lengths, num_lengths) || aec_lacks(bits, num_bits))
        return AEC_ERROR_ARGUMENT;
    int error = aec_coder_in(&coder, model, rows, scratch, scratch_size);
    if (error) return error;
    if (!aec_are_codes(model, codes, num_codes)) return AEC_ERROR_CODE;
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    for (size_t index = 0; index < num_bits; index++) bits[index] = 0;
    for (uint32_t packet = 0; packet < packets; packet++) {
        set_states(&coder, state, (size_t)rows);
        lengths[packet] = encode_packet(&coder, shape, codes, bytes, capacity,
                                        num_bits ? bits + packet * frames : NULL);
        state += rows * model->state_size;
        codes += per_packet;
        bytes += capacity;
    }
    aec_set_float_mode(mode);
    return 0;
}

int aec_context_advance(const aec_context *model, uint32_t num_rows, uint32_t num_codebooks,
                        uint32_t num_frames, const int32_t *codes, size_t num_codes, uint8_t *state,
                        size_t num_state, void *scratch, size_t scratch_size) {
    /* Rows are like packets of one channel. */
    const aec_packets shape = {num_rows, 1, num_codebooks, num_frames, 1, 0, 0};
    struct aec_coder coder;
    if (!aec_fits(model, &shape) ||
        aec_times4(num_rows, num_codebooks, num_frames, 1) != num_codes ||
        aec_times(num_rows, model->state_size) != num_state || aec_lacks(codes, num_codes) ||
        aec_lacks(state, num_state))
        return AEC_ERROR_ARGUMENT;
    int error = aec_coder_in(&coder, model, 1, scratch, scratch_size);
    if (error) return error;
    if (!aec_are_codes(model, codes, num_codes)) return AEC_ERROR_CODE;
    for (uint32_t row = 0; row < num_rows; row++, state += model->state_size) {
        struct part part = {&shape, codes + (size_t)row * num_codebooks * num_frames, num_frames, 0,
                            0};
        set_states(&coder, state, 1);
        for (; part.begin < num_frames; part.begin += part.num_frames) {
            uint32_t left = num_frames - part.begin;
            part.num_frames = left < AEC_FRAMES_TOGETHER ? left : AEC_FRAMES_TOGETHER;
            load_codes(&coder, &part, 1);
            aec_compute_context(&coder.work, 1, part.num_frames);
            aec_remember_entries(&coder.work, 1, part.num_frames);
        }
    }
    return 0;
}

/* ---- Decoding ---- */

/* Packets whose rows are decoded together. */
struct group {
    const aec_packets *shape;
    const uint32_t *codebooks;
    uint32_t num_packets, num_rows; /* rows of a packet */
    uint8_t *state;
    int32_t *codes; /* [num_packets, C, k, T] */
};

static struct aec_range_decoder *decoder_of(struct aec_coder *coder, const struct group *group,
                                            uint32_t row) {
    return coder->decoders + row / group->num_rows;
}

static int32_t *code_of(const struct group *group, const uint32_t *steps, uint32_t row,
                        uint32_t codebook, uint32_t frame) {
    const aec_packets *shape = group->shape;
    uint32_t packet = row / group->num_rows, own = row % group->num_rows;
    uint64_t channel = (uint64_t)packet * shape->channels + own % shape->channels;
    uint64_t index = (uint64_t)(own / shape->channels) * steps[packet] + frame;
    return group->codes + (channel * shape->num_codebooks + codebook) * shape->num_frames + index;
}

/* Decode whether rows have codes in this frame. */
static void decode_presence(struct aec_coder *coder, const struct group *group, uint32_t running) {
    for (uint32_t index = 0; index < running; index++) {
        uint32_t row = coder->rows[index];
        struct aec_range_decoder *decoder = decoder_of(coder, group, row);
        int before = coder->present[row];
        struct aec_interval absent = presence(0, before);
        coder->present[row] = aec_range_peek(decoder) >= absent.frequency;
        aec_range_skip(decoder, presence(coder->present[row], before));
    }
}

/* How many codes each running row has. */
static void decode_counts(struct aec_coder *coder, const struct group *group, uint32_t running,
                          uint32_t num_codebooks) {
    struct aec_workspace *work = &coder->work;
    const aec_context *model = work->model;
    for (uint32_t index = 0; index < running; index++) {
        coder->counts[index] = coder->present[coder->rows[index]] ? num_codebooks : 0;
        work->inputs[index] = aec_frame_context(work, index);
    }
    if (!group->shape->variable || !num_codebooks) return;
    aec_multiply_inputs(work, &model->counts, running);
    for (uint32_t index = 0; index < running; index++)
        if (coder->counts[index]) {
            int32_t *sums = work->sums + (size_t)index * model->counts.outputs;
            struct aec_distribution counts = aec_distribution_after(model, sums, num_codebooks);
            struct aec_range_decoder *decoder = decoder_of(coder, group, coder->rows[index]);
            coder->counts[index] = 1 + aec_decode_value(&counts, decoder);
        }
}

/* Decode the first symbols of all listed rows, and then their second ones, to indices of codes. */
static void decode_symbols(struct aec_coder *coder, const struct group *group, uint32_t codebook,
                           uint32_t there) {
    struct aec_workspace *work = &coder->work;
    const aec_context *model = work->model;
    const struct aec_codebook *book = model->codebooks + codebook;
    aec_compute_units(work, codebook, coder->list, there);
    aec_multiply_inputs(work, &book->first, there);
    for (uint32_t index = 0; index < there; index++) {
        int32_t *sums = work->sums + (size_t)index * book->first.outputs;
        struct aec_distribution first = aec_distribution_after(model, sums, model->first_values);
        uint32_t row = coder->rows[coder->list[index]];
        coder->firsts[index] = aec_decode_value(&first, decoder_of(coder, group, row));
    }
    multiply_seconds(coder, book, there);
    for (uint32_t index = 0; index < there; index++) {
        struct aec_distribution second = second_of(coder, book, index);
        uint32_t row = coder->rows[coder->list[index]];
        coder->symbols[index] = coder->firsts[index] * model->second_values;
        coder->symbols[index] += aec_decode_value(&second, decoder_of(coder, group, row));
    }
}

/* Decode a frame of all rows that have so many. */
static void decode_frame(struct aec_coder *coder, const struct group *group, const uint32_t *steps,
                         uint32_t frame) {
    struct aec_workspace *work = &coder->work;
    const aec_context *model = work->model;
    uint32_t running = 0, num_codebooks = group->codebooks[frame];
    for (uint32_t row = 0; row < group->num_packets * group->num_rows; row++)
        if (coder->lengths[row] > frame) {
            work->states[running] = group->state + row * model->state_size;
            memset(aec_frame_entries(work, running), 0, model->entries_size);
            coder->rows[running++] = row;
        }
    if (group->shape->pauses) decode_presence(coder, group, running);
    aec_compute_context(work, running, 1);
    decode_counts(coder, group, running, num_codebooks);
    for (uint32_t k = 0; k < num_codebooks; k++) {
        uint32_t there = 0;
        for (uint32_t index = 0; index < running; index++)
            if (coder->counts[index] > k) coder->list[there++] = index;
        if (!there) break;
        decode_symbols(coder, group, k, there);
        for (uint32_t index = 0; index < there; index++) {
            uint32_t code = model->codebooks[k].codes[coder->symbols[index]];
            uint32_t row = coder->rows[coder->list[index]];
            *code_of(group, steps, row, k, frame) = (int32_t)code;
            aec_set_entry(model, aec_frame_entries(work, coder->list[index]), k, code);
        }
    }
    aec_remember_entries(work, running, 1);
}

/* Decode a group of packets; the number of bytes that they have. */
static size_t decode_group(struct aec_coder *coder, const struct group *group, const uint8_t *bytes,
                           const uint32_t *lengths, const uint32_t *frames) {
    uint32_t longest = 0, segments = group->shape->segments, channels = group->shape->channels;
    uint32_t *steps = coder->steps;
    size_t used = 0;
    for (uint32_t packet = 0, row = 0; packet < group->num_packets; packet++) {
        coder->decoders[packet] = aec_range_decoder_of(bytes + used, lengths[packet]);
        used += lengths[packet];
        steps[packet] = aec_ceil_div(frames[packet], segments);
        longest = steps[packet] > longest ? steps[packet] : longest;
        for (uint32_t segment = 0; segment < segments; segment++)
            for (uint32_t channel = 0; channel < channels; channel++, row++) {
                uint64_t begin = (uint64_t)segment * steps[packet];
                uint64_t left = frames[packet] > begin ? frames[packet] - begin : 0;
                coder->lengths[row] = left < steps[packet] ? (uint32_t)left : steps[packet];
                coder->present[row] = 1;
            }
    }
    for (uint32_t frame = 0; frame < longest; frame++) decode_frame(coder, group, steps, frame);
    return used;
}

int aec_decode_packets(const aec_context *model, const aec_packets *shape, const uint8_t *bytes,
                       size_t num_bytes, const uint32_t *lengths, size_t num_lengths,
                       const uint32_t *frames, size_t num_frames, const uint32_t *codebooks,
                       size_t num_codebooks, uint8_t *state, size_t num_state, int32_t *codes,
                       size_t num_codes, void *scratch, size_t scratch_size) {
    if (!shape) return AEC_ERROR_ARGUMENT;
    struct aec_coder coder;
    uint64_t packets = shape->num_packets, rows = rows_of(shape), sum = 0;
    uint64_t per_packet = aec_times4(shape->channels, shape->num_codebooks, shape->num_frames, 1);
    if (!aec_fits(model, shape) || packets != num_lengths || packets != num_frames ||
        shape->num_frames != num_codebooks || aec_times(packets, per_packet) != num_codes ||
        aec_times4(packets, rows, model->state_size, 1) != num_state ||
        aec_lacks(bytes, num_bytes) || aec_lacks(lengths, num_lengths) ||
        aec_lacks(frames, num_frames) || aec_lacks(codebooks, num_codebooks) ||
        aec_lacks(state, num_state) || aec_lacks(codes, num_codes))
        return AEC_ERROR_ARGUMENT;
    for (uint32_t packet = 0; packet < packets; packet++) {
        sum += lengths[packet];
        if (frames[packet] > shape->num_frames) return AEC_ERROR_ARGUMENT;
    }
    for (uint32_t frame = 0; frame < shape->num_frames; frame++)
        if (codebooks[frame] > shape->num_codebooks) return AEC_ERROR_ARGUMENT;
    if (sum != num_bytes) return AEC_ERROR_ARGUMENT;
    int error = aec_coder_in(&coder, model, rows, scratch, scratch_size);
    if (error) return error;
    for (size_t index = 0; index < num_codes; index++) codes[index] = -1;
    uint32_t together = (uint32_t)(coder.num_frames / rows);
    for (uint32_t packet = 0; packet < packets; packet += together) {
        uint32_t left = (uint32_t)packets - packet;
        struct group group = {shape,
                              codebooks,
                              left < together ? left : together,
                              (uint32_t)rows,
                              state + packet * rows * model->state_size,
                              codes + packet * per_packet};
        bytes += decode_group(&coder, &group, bytes, lengths + packet, frames + packet);
    }
    return 0;
}
