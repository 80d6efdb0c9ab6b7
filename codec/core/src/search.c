#include <string.h>

#include "coding.h"
#include "float_mode.h"

/* Candidates of a frame of a channel. Those that begin with the same codes share all that depends
 * on these alone: it is computed for the first of them, their leader. */
struct choice {
    const int32_t *candidates; /* [num_candidates, num_codebooks] */
    uint32_t num_candidates, num_codebooks;
    uint32_t channel, first_frame; /* in the workspace: of the channel, of the first candidate */
};

static int32_t code_of(const struct choice *choice, uint32_t candidate, uint32_t codebook) {
    return choice->candidates[(size_t)candidate * choice->num_codebooks + codebook];
}

/* What the candidates' numbers of codes cost. */
static void add_counts(struct aec_coder *coder, const struct choice *choice) {
    struct aec_workspace *work = &coder->work;
    work->inputs[0] = aec_frame_context(work, choice->channel);
    aec_multiply_inputs(work, &work->model->counts, 1);
    struct aec_distribution counts =
        aec_distribution_after(work->model, work->sums, choice->num_codebooks);
    for (uint32_t candidate = 0; candidate < choice->num_candidates; candidate++) {
        uint32_t count = 0;
        for (uint32_t k = 0; k < choice->num_codebooks; k++)
            count += code_of(choice, candidate, k) >= 0;
        if (count)
            aec_information_add(coder->information + candidate,
                                aec_interval_of(&counts, count - 1));
    }
}

/* Distributions of the first symbols after each leader, whose index among them is in slots. */
static uint32_t find_firsts(struct aec_coder *coder, const struct choice *choice,
                            uint32_t codebook) {
    struct aec_workspace *work = &coder->work;
    const struct aec_codebook *book = work->model->codebooks + codebook;
    uint32_t there = 0;
    for (uint32_t candidate = 0; candidate < choice->num_candidates; candidate++)
        coder->slots[candidate] = UINT32_MAX;
    for (uint32_t candidate = 0; candidate < choice->num_candidates; candidate++) {
        uint32_t leader = coder->leaders[candidate];
        if (code_of(choice, candidate, codebook) < 0 || coder->slots[leader] != UINT32_MAX)
            continue;
        coder->slots[leader] = there;
        coder->list[there++] = choice->first_frame + leader;
    }
    if (!there) return 0;
    aec_compute_units(work, codebook, coder->list, there);
    aec_multiply_inputs(work, &book->first, there);
    for (uint32_t index = 0; index < there; index++)
        coder->of_first[index] =
            aec_distribution_after(work->model, work->sums + (size_t)index * book->first.outputs,
                                   work->model->first_values);
    return there;
}

/* The earlier candidate with the same first symbol after the same codes, or this one. */
static uint32_t same_first(const struct aec_coder *coder, const struct choice *choice,
                           uint32_t codebook, uint32_t candidate) {
    for (uint32_t other = 0; other < candidate; other++)
        if (coder->leaders[other] == coder->leaders[candidate] &&
            coder->symbols[other] == coder->symbols[candidate] &&
            code_of(choice, other, codebook) >= 0)
            return other;
    return candidate;
}

/* What the candidates' codes of a codebook cost. */
static void add_symbols(struct aec_coder *coder, const struct choice *choice, uint32_t codebook) {
    struct aec_workspace *work = &coder->work;
    const aec_context *model = work->model;
    if (!find_firsts(coder, choice, codebook)) return;
    for (uint32_t candidate = 0; candidate < choice->num_candidates; candidate++) {
        int32_t code = code_of(choice, candidate, codebook);
        if (code < 0) continue;
        uint32_t index = model->codebooks[codebook].order[code];
        uint32_t slot = coder->slots[coder->leaders[candidate]];
        coder->symbols[candidate] = index / model->second_values;
        uint32_t same = same_first(coder, choice, codebook, candidate);
        if (same == candidate) {
            int32_t *sums = coder->sums + candidate * model->most_outputs;
            model->kernel->multiply(model->codebooks[codebook].second + coder->symbols[candidate],
                                    work->inputs + slot, 1, sums);
            coder->of_second[candidate] = aec_distribution_after(model, sums, model->second_values);
        }
        aec_information_add(coder->information + candidate,
                            aec_interval_of(coder->of_first + slot, coder->symbols[candidate]));
        aec_information_add(coder->information + candidate,
                            aec_interval_of(coder->of_second + same, index % model->second_values));
        aec_set_entry(model, aec_frame_entries(work, choice->first_frame + candidate), codebook,
                      (uint32_t)code);
    }
}

/* Leaders of candidates that have the same codes up to and with this codebook. */
static void part_leaders(struct aec_coder *coder, const struct choice *choice, uint32_t codebook) {
    uint32_t *after = coder->list;
    for (uint32_t candidate = 0; candidate < choice->num_candidates; candidate++) {
        uint32_t leader = 0;
        while (coder->leaders[leader] != coder->leaders[candidate] ||
               code_of(choice, leader, codebook) != code_of(choice, candidate, codebook))
            leader++;
        after[candidate] = leader;
    }
    memcpy(coder->leaders, after, choice->num_candidates * sizeof *after);
}

/* The best candidate of a channel's frame. */
static uint32_t choose(struct aec_coder *coder, const struct choice *choice, const float *errors,
                       double lambda) {
    struct aec_workspace *work = &coder->work;
    const aec_context *model = work->model;
    for (uint32_t candidate = 0; candidate < choice->num_candidates; candidate++) {
        uint32_t frame = choice->first_frame + candidate;
        memcpy(aec_frame_context(work, frame), aec_frame_context(work, choice->channel),
               model->context_size);
        memset(aec_frame_entries(work, frame), 0, model->entries_size);
        coder->information[candidate] = (struct aec_information){1, 0};
        coder->leaders[candidate] = 0;
    }
    add_counts(coder, choice);
    for (uint32_t k = 0; k < choice->num_codebooks; k++) {
        add_symbols(coder, choice, k);
        part_leaders(coder, choice, k);
    }
    uint32_t best = 0;
    double least = 0;
    for (uint32_t candidate = 0; candidate < choice->num_candidates; candidate++) {
        double bits = aec_information_bits(coder->information + candidate);
        double cost = errors[candidate] + lambda * bits;
        if (!candidate || cost < least) {
            best = candidate;
            least = cost;
        }
    }
    for (uint32_t k = 0; k < choice->num_codebooks; k++)
        if (code_of(choice, best, k) >= 0)
            aec_set_entry(model, aec_frame_entries(work, choice->channel), k,
                          (uint32_t)code_of(choice, best, k));
    return best;
}

int aec_search_codes(const aec_context *model, const aec_packets *shape, uint32_t num_candidates,
                     const int32_t *candidates, size_t num_codes, const float *errors,
                     size_t num_errors, double lambda, uint32_t *chosen, size_t num_chosen,
                     void *scratch, size_t scratch_size) {
    if (!shape) return AEC_ERROR_ARGUMENT;
    struct aec_coder coder;
    uint64_t channels = shape->channels, frames = shape->num_frames;
    uint64_t choices = channels * frames;
    if (!aec_fits(model, shape) || shape->num_packets != 1 || !num_candidates ||
        aec_times4(choices, num_candidates, shape->num_codebooks, 1) != num_codes ||
        aec_times(choices, num_candidates) != num_errors || choices != num_chosen ||
        aec_lacks(candidates, num_codes) || aec_lacks(errors, num_errors) ||
        aec_lacks(chosen, num_chosen))
        return AEC_ERROR_ARGUMENT;
    int error = aec_coder_in(&coder, model, channels + num_candidates, scratch, scratch_size);
    if (error) return error;
    if (!aec_are_codes(model, candidates, num_codes)) return AEC_ERROR_CODE;
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    uint32_t steps = aec_ceil_div(shape->num_frames, shape->segments);
    for (uint32_t channel = 0; channel < channels; channel++)
        coder.work.states[channel] = coder.states + channel * model->state_size;
    for (uint32_t frame = 0; frame < frames; frame++) {
        if (frame % steps == 0) memset(coder.states, 0, channels * model->state_size);
        for (uint32_t channel = 0; channel < channels; channel++)
            memset(aec_frame_entries(&coder.work, channel), 0, model->entries_size);
        aec_compute_context(&coder.work, channels, 1);
        for (uint32_t channel = 0; channel < channels; channel++) {
            size_t index = channel * frames + frame;
            struct choice choice = {candidates + index * num_candidates * shape->num_codebooks,
                                    num_candidates, shape->num_codebooks, channel,
                                    (uint32_t)channels};
            chosen[index] = choose(&coder, &choice, errors + index * num_candidates, lambda);
        }
        aec_remember_entries(&coder.work, channels, 1);
    }
    aec_set_float_mode(mode);
    return 0;
}
