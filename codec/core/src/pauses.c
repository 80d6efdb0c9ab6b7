/* Pauses: frames of steady noise far below the rest (codec/activity/pauses.py says why). */

#include <string.h>

#include "aecodec.h"
#include "float_mode.h"
#include "rounding.h"

#define LOWEST_DB -200.0
/* Pauses are so much weaker than what was loudest before, and weaker than the highest; their frames
 * differ by no more than STEADY_DB, except those below SILENT_DB. */
#define BELOW_LOUDEST_DB 30.0
#define HIGHEST_DB -45.0
#define STEADY_DB 9.0
#define SILENT_DB -85.0f
/* Frames that rise so far above their quiet passage end it: weak beginnings of speech, breaths.
 * Without what lies below LOWEST_HZ, 20 ms of room noise do not. In 588 recordings without a part
 * in the choice, the last frames of 111 pauses rose by 6.8 dB at most, 99 % of them by 5.4. */
#define RISE_DB 8.0f
/* Decrease of what counts as the loudest, per second. */
#define DECAY_DB 0.25
#define MIN_SECONDS 0.5
/* Parts of a quiet passage that do not belong to a pause: the first weak frames of what follows it,
 * and what fades away before it. */
#define BEFORE_SECONDS 0.08
#define AFTER_SECONDS 0.12
/* Highest ratio of a bin of the mean spectrum to the median of its neighbours, so many on each
 * side: noise has none that stand out. */
#define MOST_TONAL 12.0f
/* Below this lies hum, which may stand out. */
#define LOWEST_HZ 150.0
enum { NUM_REFERENCES = 16, NEIGHBOURS = 8, UNLIMITED = 255 };
enum { QUIET = 1, REFERENCE = 2, PAUSE = 4 }; /* what a frame is while pauses are looked for */

/* Floats of scratch memory for each sample of a frame, and for each frame. */
enum { FOR_SAMPLE = 20, FOR_FRAME = 3 };

static void sort(float *values, size_t count) {
    size_t gap = 1;
    while (gap < count / 3) gap = 3 * gap + 1;
    for (; gap; gap /= 3) {
        for (size_t i = gap; i < count; i++) {
            const float value = values[i];
            size_t j = i;
            for (; j >= gap && values[j - gap] > value; j -= gap) values[j] = values[j - gap];
            values[j] = value;
        }
    }
}

static float median_of_sorted(const float *values, size_t count) {
    const float high = values[count / 2];
    return count % 2 ? high : (values[count / 2 - 1] + high) / 2.0f;
}

/* The value below which a share of the sorted ones lies, between the two nearest. */
static double percentile(const float *sorted, size_t count, double share) {
    const double place = (double)(count - 1) * share;
    const size_t low = (size_t)place, high = low + 1 < count ? low + 1 : low;
    const double rest = place - (double)low, between = (double)(sorted[high] - sorted[low]);
    return rest < 0.5 ? (double)sorted[low] + between * rest
                      : (double)sorted[high] - between * (1.0 - rest);
}

static double not_below_silence(double x) { return x > (double)SILENT_DB ? x : (double)SILENT_DB; }

/* Whether no bin of a spectrum stands out of its neighbours, which are reflected at both ends. */
static int has_no_tone(const float *spectrum, size_t count) {
    const size_t period = count > 1 ? 2 * (count - 1) : 1;
    for (size_t k = 0; k < count; k++) {
        float around[2 * NEIGHBOURS + 1];
        for (size_t i = 0; i < 2 * NEIGHBOURS + 1; i++) {
            const size_t place = (k + i + NEIGHBOURS * period - NEIGHBOURS) % period;
            around[i] = spectrum[place < count ? place : period - place];
        }
        sort(around, 2 * NEIGHBOURS + 1);
        if (!(spectrum[k] < MOST_TONAL * around[NEIGHBOURS])) return 0;
    }
    return 1;
}

/* Scratch: FOR_SAMPLE floats for each sample of a frame, and one for each frame. */
static int is_noise(size_t length, size_t bin, const float *frames, const float *levels,
                    size_t count, float *scratch) {
    float *sorted = scratch + FOR_SAMPLE * length;
    memcpy(sorted, levels, count * sizeof *sorted);
    sort(sorted, count);
    const double low = not_below_silence(percentile(sorted, count, 0.05));
    const double high = not_below_silence(percentile(sorted, count, 0.95));
    if (high - low > STEADY_DB) return 0;
    if (high == (double)SILENT_DB) return 1;
    float *spectrum = scratch + 19 * length;
    const size_t bins = (length - 1) / 2 + 1;
    if (aec_mean_spectrum((uint32_t)length, frames, count * length, spectrum, bins, scratch,
                          19 * length))
        return 0;
    return bin >= bins || has_no_tone(spectrum + bin, bins - bin);
}

int aec_is_noise(uint32_t frame_length, uint32_t bin, const float *audio, size_t num_audio,
                 const float *levels, size_t num_levels, uint32_t *found, size_t num_found,
                 float *scratch, size_t num_scratch) {
    if (frame_length < 2 || bin > frame_length / 2 || num_audio % frame_length || !num_levels ||
        num_levels != num_audio / frame_length || num_scratch / FOR_SAMPLE < frame_length ||
        num_scratch - (size_t)FOR_SAMPLE * frame_length < num_levels || num_found != 1 || !audio ||
        !levels || !found || !scratch)
        return AEC_ERROR_ARGUMENT;
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    *found = (uint32_t)is_noise(frame_length, bin, audio, levels, num_levels, scratch);
    aec_set_float_mode(mode);
    return 0;
}

/* What a channel of a packet is. */
struct channel {
    size_t length, num_frames, bin;
    double frame_rate;
    const float *audio, *levels;
    uint8_t *flags;
    float *scratch;
};

/* The end of the run of quiet frames at `start`, the first one at or behind it. */
static size_t run_at(const struct channel *c, size_t *start) {
    while (*start < c->num_frames && !(c->flags[*start] & QUIET)) ++*start;
    size_t end = *start;
    while (end < c->num_frames && c->flags[end] & QUIET) end++;
    return end;
}

/* Frames that rise out of a quiet passage end it. */
static void end_at_rises(const struct channel *c, size_t start, size_t end) {
    const size_t count = end - start, length = c->length;
    float *passage = c->scratch + FOR_SAMPLE * length + c->num_frames;
    float *sorted = passage + c->num_frames;
    if (aec_levels_above((uint32_t)length, (uint32_t)c->bin, c->audio + start * length,
                         count * length, passage, count, c->scratch, 3 * length))
        return;
    for (size_t i = 0; i < count; i++) passage[i] = passage[i] > SILENT_DB ? passage[i] : SILENT_DB;
    memcpy(sorted, passage, count * sizeof *sorted);
    sort(sorted, count);
    const float highest = median_of_sorted(sorted, count) + RISE_DB;
    for (size_t i = 0; i < count; i++)
        if (!(passage[i] < highest)) c->flags[start + i] = 0;
}

/* Whether `count` frames are as many as a pause has. */
static int is_long(const struct channel *c, size_t count) {
    return (double)count >= MIN_SECONDS * c->frame_rate;
}

/* Mark the pause in a quiet passage, and what stands for it. */
static void mark(const struct channel *c, size_t start, size_t end) {
    const size_t before = (size_t)aec_nearest(BEFORE_SECONDS * c->frame_rate);
    const size_t begin = start ? start + (size_t)aec_nearest(AFTER_SECONDS * c->frame_rate) : 0;
    if (begin + before >= end || !is_long(c, end - before - begin)) return;
    const size_t stop = end - before, first = begin + NUM_REFERENCES;
    if (!is_noise(c->length, c->bin, c->audio + begin * c->length, c->levels + begin, stop - begin,
                  c->scratch))
        return;
    for (size_t i = begin; i < first && i < c->num_frames; i++) c->flags[i] |= REFERENCE;
    /* What follows the packet is not known yet. If it is a pause too, little is spent. */
    for (size_t i = stop; i < end; i++)
        c->flags[i] = (uint8_t)(QUIET | (end == c->num_frames ? REFERENCE : 0));
    for (size_t i = first; i < stop; i++) c->flags[i] |= PAUSE;
}

static void find_in(const struct channel *c, double highest) {
    for (size_t t = 0; t < c->num_frames; t++)
        c->flags[t] = c->levels[t] < (float)highest ? QUIET : 0;
    for (size_t start = 0, end; (end = run_at(c, &start)) > start; start = end)
        if (is_long(c, end - start)) end_at_rises(c, start, end);
    for (size_t start = 0, end; (end = run_at(c, &start)) > start; start = end) mark(c, start, end);
    for (size_t t = 0; t < c->num_frames; t++)
        c->flags[t] = c->flags[t] & PAUSE ? 0 : c->flags[t] & REFERENCE ? 1 : UNLIMITED;
}

size_t aec_pauses_scratch(uint32_t hop, size_t num_limits) {
    const size_t room = SIZE_MAX / 8 / sizeof(float);
    if (hop > room / FOR_SAMPLE / 2 || num_limits > room / (FOR_FRAME + 2)) return 0;
    return (size_t)FOR_SAMPLE * hop + (FOR_FRAME + 2) * num_limits;
}

int aec_find_pauses(uint32_t sample_rate, uint32_t hop, uint32_t channels, const float *audio,
                    size_t num_audio, double *loudest, size_t num_loudest, uint8_t *limits,
                    size_t num_limits, float *scratch, size_t num_scratch) {
    const size_t needed = aec_pauses_scratch(hop, num_limits);
    if (!sample_rate || hop < 2 || !channels || num_audio % hop || num_audio / hop != num_limits ||
        num_limits % channels || !needed || num_scratch < needed || num_loudest != 1 || !loudest ||
        !scratch || (num_limits && (!audio || !limits)))
        return AEC_ERROR_ARGUMENT;
    const double lowest_bin = LOWEST_HZ * (double)hop / (double)sample_rate;
    const size_t num_frames = num_limits / channels;
    if (lowest_bin >= (double)(hop / 2 + 1)) return AEC_ERROR_ARGUMENT;
    float *levels = scratch + FOR_SAMPLE * (size_t)hop + FOR_FRAME * num_limits;
    float *weights = levels + num_limits;
    const int error =
        aec_measure_frames(hop, audio, num_audio, levels, num_limits, weights, num_limits);
    if (error) return error;
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    const double seconds = (double)(num_frames * hop) / (double)sample_rate;
    double most = LOWEST_DB, faded = *loudest - DECAY_DB * seconds;
    for (size_t i = 0; i < num_limits; i++) most = levels[i] > most ? levels[i] : most;
    *loudest = most > faded ? most : faded;
    const double below = *loudest - BELOW_LOUDEST_DB;
    for (size_t c = 0; c < channels; c++) {
        const struct channel channel = {
            .length = hop,
            .num_frames = num_frames,
            .bin = (size_t)lowest_bin,
            .frame_rate = (double)sample_rate / (double)hop,
            .audio = audio + c * num_frames * hop,
            .levels = levels + c * num_frames,
            .flags = limits + c * num_frames,
            .scratch = scratch,
        };
        find_in(&channel, below < HIGHEST_DB ? below : HIGHEST_DB);
    }
    aec_set_float_mode(mode);
    return 0;
}
