/* Prints digests of what the core computes: codes, bytes and samples of clips, in whole and in
 * steps of a frame with losses. They are the same however and wherever it was compiled.
 *
 *     digests MODEL
 *
 * MODEL is a file as examples/c/export.py writes it, with clips as arrays "clip.NAME". With
 * -DTHREADS=4 four threads share the model and the clips. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

#ifdef THREADS
#include <pthread.h>
#else
#define THREADS 1
#endif

enum { NUM_BITRATES = 5, MOST_CLIPS = 64, LOST = 7, CANDIDATES = 2 };

static const size_t CODEBOOKS[NUM_BITRATES] = {1, 3, 6, 12, 20};

static const struct model *model;
static aec_tensor clips[MOST_CLIPS];
static size_t num_clips;

/* A clip and what it becomes. */
struct work {
    size_t frames, hop, num_codebooks; /* num_codebooks: of the model */
    const float *audio;
    int64_t *codes, *some; /* [num_codebooks][frames], and with fewer codebooks */
    int32_t *packed, *unpacked;
    float *errors, *samples;
    uint8_t *encoder, *decoder, *context, *scratch, *bytes;
    size_t encoder_size, decoder_size, context_size, scratch_size, capacity;
    aec_coder *coder;
};

struct digests {
    uint64_t codes, bytes, samples;
};

static struct digests found[MOST_CLIPS][2]; /* in whole, in steps */

static void check(int error, const char *what) {
    if (!error) return;
    fprintf(stderr, "%s: error %d\n", what, error);
    exit(1);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count + 1, size);
    check(memory ? 0 : AEC_ERROR_MEMORY, "allocate");
    return memory;
}

/* FNV-1a of some bytes after others. */
static uint64_t digest(uint64_t before, const void *values, size_t size) {
    const uint8_t *bytes = values;
    for (size_t i = 0; i < size; i++) before = (before ^ bytes[i]) * 0x100000001b3u;
    return before;
}

static struct work work_of(const aec_tensor *clip) {
    struct work w = {.hop = 1, .num_codebooks = (size_t)model->config.num_codebooks};
    for (int level = 0; level < model->config.num_levels; level++)
        w.hop *= (size_t)model->config.strides[level];
    w.frames = clip->count / w.hop;
    w.audio = clip->values;
    const size_t count = w.num_codebooks * w.frames;
    const aec_packets most = {1, 1, (uint32_t)w.num_codebooks, (uint32_t)w.frames, 1, 1, 1};
    w.capacity = aec_packet_capacity(&most);
    w.encoder_size = aec_encoder_state_size(model->network);
    w.decoder_size = aec_decoder_state_size(model->network);
    w.context_size = aec_context_state_size(model->context);
    w.scratch_size = aec_context_scratch_size(model->context, 1 + CANDIDATES);
    w.codes = allocate(count, sizeof *w.codes);
    w.some = allocate(count, sizeof *w.some);
    w.packed = allocate(count * CANDIDATES, sizeof *w.packed);
    w.unpacked = allocate(count, sizeof *w.unpacked);
    w.errors = allocate(count, sizeof *w.errors);
    w.samples = allocate(w.frames * w.hop, sizeof *w.samples);
    w.encoder = allocate(w.encoder_size, 1);
    w.decoder = allocate(w.decoder_size, 1);
    w.context = allocate(w.context_size, 1);
    w.scratch = allocate(w.scratch_size, 1);
    w.bytes = allocate(w.capacity, 1);
    check(aec_coder_create(model->network, &w.coder), "aec_coder_create");
    return w;
}

static void release(struct work *w) {
    aec_coder_destroy(w->coder);
    void *all[] = {w->codes,   w->some,    w->packed,  w->unpacked, w->errors, w->samples,
                   w->encoder, w->decoder, w->context, w->scratch,  w->bytes};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* Encodes steps of `step` frames. The digest is of codes, errors and the state. */
static uint64_t encode(struct work *w, size_t step) {
    int64_t *codes = step == w->frames ? w->codes : w->some;
    uint64_t sum = 0xcbf29ce484222325u;
    check(aec_encoder_init(model->network, w->encoder, w->encoder_size), "aec_encoder_init");
    for (size_t t = 0; t < w->frames; t += step) {
        const size_t count = w->num_codebooks * step;
        check(aec_encode(w->coder, 1, step, w->num_codebooks, w->audio + t * w->hop, step * w->hop,
                         w->encoder, w->encoder, w->encoder_size, codes, count, w->errors, NULL, 0),
              "aec_encode");
        for (size_t k = 0; step < w->frames && k < w->num_codebooks; k++)
            if (codes[k] != w->codes[k * w->frames + t]) check(-1, "codes of a step");
        sum = digest(sum, w->errors, step == w->frames ? count * sizeof(float) : 0);
    }
    sum = digest(sum, w->codes, w->num_codebooks * w->frames * sizeof *codes);
    return digest(sum, w->encoder, w->encoder_size);
}

/* Codes of `count` frames from frame t on, as bytes and back. */
static uint64_t pack(struct work *w, uint64_t sum, size_t t, size_t count, size_t codebooks) {
    const aec_packets shape = {1, 1, (uint32_t)codebooks, (uint32_t)count, 1, 0, 0};
    const size_t num_codes = codebooks * count;
    uint32_t length, frames = (uint32_t)count;
    uint32_t *numbers = allocate(count, sizeof *numbers);
    for (size_t k = 0; k < codebooks; k++)
        for (size_t i = 0; i < count; i++)
            w->packed[k * count + i] = (int32_t)w->codes[k * w->frames + t + i];
    for (size_t i = 0; i < count; i++) numbers[i] = (uint32_t)codebooks;
    memset(w->context, 0, w->context_size);
    check(aec_encode_packets(model->context, &shape, w->packed, num_codes, w->context,
                             w->context_size, w->bytes, aec_packet_capacity(&shape), &length, 1,
                             NULL, 0, w->scratch, w->scratch_size),
          "aec_encode_packets");
    sum = digest(digest(sum, w->bytes, length), w->context, w->context_size);
    memset(w->context, 0, w->context_size);
    check(aec_decode_packets(model->context, &shape, w->bytes, length, &length, 1, &frames, 1,
                             numbers, count, w->context, w->context_size, w->unpacked, num_codes,
                             w->scratch, w->scratch_size),
          "aec_decode_packets");
    free(numbers);
    if (memcmp(w->packed, w->unpacked, num_codes * sizeof(int32_t))) check(-1, "unpacked codes");
    return sum;
}

/* Which of two candidates the search chooses for each frame. */
static uint64_t search(struct work *w, uint64_t sum, size_t codebooks) {
    const aec_packets shape = {1, 1, (uint32_t)codebooks, (uint32_t)w->frames, 1, 0, 0};
    uint32_t *chosen = allocate(w->frames, sizeof *chosen);
    float *errors = allocate(w->frames * CANDIDATES, sizeof *errors);
    for (size_t t = 0; t < w->frames; t++)
        for (size_t c = 0; c < CANDIDATES; c++) {
            for (size_t k = 0; k < codebooks; k++)
                w->packed[(t * CANDIDATES + c) * codebooks + k] =
                    (int32_t)w->codes[k * w->frames + (c ? w->frames - 1 - t : t)];
            errors[t * CANDIDATES + c] =
                w->errors[(codebooks - 1) * w->frames + t] * (float)(c + 1);
        }
    check(aec_search_codes(model->context, &shape, CANDIDATES, w->packed,
                           w->frames * CANDIDATES * codebooks, errors, w->frames * CANDIDATES,
                           0.003, chosen, w->frames, w->scratch, w->scratch_size),
          "aec_search_codes");
    sum = digest(sum, chosen, w->frames * sizeof *chosen);
    free(chosen);
    free(errors);
    return sum;
}

/* Decodes steps of `step` frames; the codes of one of LOST steps are absent. */
static uint64_t decode(struct work *w, size_t step, size_t codebooks) {
    check(aec_decoder_init(model->network, w->decoder, w->decoder_size), "aec_decoder_init");
    for (size_t t = 0; t < w->frames; t += step) {
        const int lost = t / step % LOST == LOST - 1;
        for (size_t k = 0; k < codebooks; k++)
            for (size_t i = 0; i < step; i++)
                w->some[k * step + i] = lost ? -1 : w->codes[k * w->frames + t + i];
        check(aec_decode(w->coder, 1, step, codebooks, w->some, codebooks * step, w->decoder,
                         w->decoder, w->decoder_size, w->samples + t * w->hop, step * w->hop),
              "aec_decode");
    }
    uint64_t sum = digest(0xcbf29ce484222325u, w->samples, w->frames * w->hop * sizeof(float));
    return digest(sum, w->decoder, w->decoder_size);
}

static size_t codebooks_of(size_t clip) {
    const size_t wanted = CODEBOOKS[clip % NUM_BITRATES];
    const size_t most = (size_t)model->config.num_codebooks;
    return wanted < most ? wanted : most;
}

static void run_clip(size_t clip) {
    const size_t codebooks = codebooks_of(clip);
    struct work w = work_of(&clips[clip]);
    struct digests *whole = &found[clip][0], *steps = &found[clip][1];
    whole->codes = encode(&w, w.frames);
    whole->bytes = search(&w, pack(&w, 0, 0, w.frames, codebooks), codebooks);
    whole->samples = decode(&w, w.frames, codebooks);
    for (size_t t = 0; t < w.frames; t++) steps->bytes = pack(&w, steps->bytes, t, 1, codebooks);
    steps->samples = decode(&w, 1, codebooks);
    steps->codes = encode(&w, 1);
    release(&w);
}

static void *run(void *first) {
    for (size_t clip = *(size_t *)first; clip < num_clips; clip += THREADS) run_clip(clip);
    return NULL;
}

int main(int argc, char **argv) {
    static struct model opened;
    size_t firsts[THREADS];
    check(argc == 2 ? model_open(&opened, argv[1]) : -1, "digests MODEL");
    model = &opened;
    for (size_t i = 0; i < model->num_arrays && num_clips < MOST_CLIPS; i++)
        if (!strncmp(model->arrays[i].name, "clip.", 5)) clips[num_clips++] = model->arrays[i];
    for (size_t t = 0; t < THREADS; t++) firsts[t] = t;
#if THREADS > 1
    pthread_t threads[THREADS];
    for (size_t t = 0; t < THREADS; t++)
        check(pthread_create(&threads[t], NULL, run, &firsts[t]), "pthread_create");
    for (size_t t = 0; t < THREADS; t++) check(pthread_join(threads[t], NULL), "pthread_join");
#else
    run(&firsts[0]);
#endif
    for (size_t clip = 0; clip < num_clips; clip++)
        for (size_t i = 0; i < 2; i++) {
            const struct digests *d = &found[clip][i];
            printf("%s %d %s %016llx %016llx %016llx\n", clips[clip].name, (int)codebooks_of(clip),
                   i ? "steps" : "whole", (unsigned long long)d->codes,
                   (unsigned long long)d->bytes, (unsigned long long)d->samples);
        }
    model_close(&opened);
    return 0;
}
