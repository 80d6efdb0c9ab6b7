/* Codes that are nearer to a latent than the nearest entries one by one: a beam search.
 *
 * Several candidates are kept from one codebook to the next. What entry e of a codebook leaves of a
 * residual r has the square |r|^2 - 2 (r . value(e) - |value(e)|^2 / 2), where value(e) is the
 * entry's vector times the map of the codebook, plus its bias; so r is mapped to the few
 * dimensions of vectors once, and then compared with all of them. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aecodec.h"
#include "arena.h"
#include "elementary.h"
#include "float_mode.h"
#include "sums.h"

struct book {
    size_t size;
    float *vectors;     /* [dim][size] */
    float *map;         /* [dim][latent] */
    float *bias;        /* [latent] */
    float *half_powers; /* [size] */
};

struct aec_beam {
    struct aec_arena memory;
    size_t num_codebooks, dim, latent, most; /* most: candidates */
    struct book *books;
    float *residuals, *next; /* [most][latent] */
    float *squares;          /* [most], of the residuals */
    float *scores;           /* [size] of the greatest codebook */
    /* The best entries of a codebook so far, the best first: what remains, the candidates before
     * them, and their codes; the last two are kept for every codebook. */
    size_t count;
    float *best;             /* [most] */
    int32_t *before, *codes; /* [num_codebooks][most] */
};

/* Of equal entries the first one stays first. */
static void insert(struct aec_beam *beam, size_t k, float square, size_t before, size_t code) {
    int32_t *own = beam->before + k * beam->most, *codes = beam->codes + k * beam->most;
    size_t place = beam->count < beam->most ? beam->count++ : beam->most - 1;
    for (; place && beam->best[place - 1] > square; place--) {
        beam->best[place] = beam->best[place - 1];
        own[place] = own[place - 1];
        codes[place] = codes[place - 1];
    }
    beam->best[place] = square;
    own[place] = (int32_t)before;
    codes[place] = (int32_t)code;
}

/* Compares what every entry leaves of a candidate. */
static void extend(struct aec_beam *beam, size_t k, size_t candidate) {
    const struct book *book = beam->books + k;
    const float *residual = beam->residuals + candidate * beam->latent;
    const float offset = aec_inner_product(residual, book->bias, beam->latent);
    float *restrict scores = beam->scores;
    for (size_t e = 0; e < book->size; e++) scores[e] = offset - book->half_powers[e];
    for (size_t d = 0; d < beam->dim; d++) {
        const float x = aec_inner_product(residual, book->map + d * beam->latent, beam->latent);
        const float *restrict vectors = book->vectors + d * book->size;
        for (size_t e = 0; e < book->size; e++) scores[e] += x * vectors[e];
    }
    const float square = beam->squares[candidate];
    for (size_t e = 0; e < book->size; e++) {
        const float after = square - 2.0f * scores[e];
        if (beam->count < beam->most || after < beam->best[beam->most - 1])
            insert(beam, k, after, candidate, e);
    }
}

/* left = from - value of a code. */
static void subtract(const struct aec_beam *beam, const struct book *book, size_t code,
                     const float *restrict from, float *restrict left) {
    for (size_t i = 0; i < beam->latent; i++) left[i] = from[i] - book->bias[i];
    for (size_t d = 0; d < beam->dim; d++) {
        const float x = book->vectors[d * book->size + code];
        const float *restrict map = book->map + d * beam->latent;
        for (size_t i = 0; i < beam->latent; i++) left[i] -= x * map[i];
    }
}

/* The best entries of a codebook after all candidates become the candidates. */
static void follow(struct aec_beam *beam, size_t k, size_t num_candidates) {
    beam->count = 0;
    for (size_t m = 0; m < num_candidates; m++) extend(beam, k, m);
    for (size_t m = 0; m < beam->count; m++) {
        const size_t place = k * beam->most + m;
        const float *from = beam->residuals + (size_t)beam->before[place] * beam->latent;
        subtract(beam, beam->books + k, (size_t)beam->codes[place], from,
                 beam->next + m * beam->latent);
    }
    memcpy(beam->squares, beam->best, beam->count * sizeof(float));
    float *other = beam->residuals;
    beam->residuals = beam->next;
    beam->next = other;
}

/* The candidates of a frame, the best first. */
static void search_frame(struct aec_beam *beam, const float *latent, size_t count, int32_t *codes,
                         float *errors) {
    const size_t length = beam->latent, most = beam->most;
    for (size_t i = 0; i < length; i++) beam->residuals[i] = aec_usable(latent[i]);
    beam->squares[0] = aec_inner_product(beam->residuals, beam->residuals, length);
    beam->count = 1;
    for (size_t k = 0; k < count; k++) follow(beam, k, beam->count);
    for (size_t m = 0; m < most; m++, codes += beam->num_codebooks) {
        for (size_t k = 0; k < beam->num_codebooks; k++) codes[k] = -1;
        errors[m] = INFINITY;
        if (m >= beam->count && count) continue;
        const float *left = beam->residuals + (count ? m : 0) * length;
        const float error = aec_inner_product(left, left, length) / (float)length;
        if (error < INFINITY) errors[m] = error; /* not a NaN */
        for (size_t k = count, place = m; k-- > 0;) {
            codes[k] = beam->codes[k * most + place];
            place = (size_t)beam->before[k * most + place];
        }
    }
}

/* Half the square of the value of every entry: of what it leaves of nothing. */
static void find_half_powers(const struct aec_beam *beam, struct book *book) {
    memset(beam->residuals, 0, beam->latent * sizeof(float));
    for (size_t e = 0; e < book->size; e++) {
        subtract(beam, book, e, beam->residuals, beam->next);
        book->half_powers[e] = 0.5f * aec_inner_product(beam->next, beam->next, beam->latent);
    }
}

static float *copied(struct aec_beam *beam, const float *values, size_t count) {
    float *copy = aec_allocate(&beam->memory, count, sizeof(float));
    if (copy) memcpy(copy, values, count * sizeof(float));
    return copy;
}

/* The tables, where `vectors` are those of all codebooks. */
static void read_books(struct aec_beam *beam, const uint32_t *sizes, const float *vectors,
                       const float *maps, const float *biases) {
    const size_t dim = beam->dim, latent = beam->latent;
    for (size_t k = 0; k < beam->num_codebooks && beam->books; k++) {
        struct book *book = beam->books + k;
        book->size = sizes[k];
        book->vectors = aec_allocate(&beam->memory, dim * book->size, sizeof(float));
        book->map = copied(beam, maps + k * dim * latent, dim * latent);
        book->bias = copied(beam, biases + k * latent, latent);
        book->half_powers = aec_allocate(&beam->memory, book->size, sizeof(float));
        if (beam->memory.failed) return;
        for (size_t e = 0; e < book->size; e++)
            for (size_t d = 0; d < dim; d++) book->vectors[d * book->size + e] = *vectors++;
        find_half_powers(beam, book);
    }
}

/* Whether `count` is the product of two sizes. */
static int is_product(uint64_t count, uint64_t a, uint64_t b) {
    return a && b ? count / a == b && !(count % a) : !count;
}

enum { LARGEST = 1 << 16 };

int aec_beam_create(const aec_beam_sizes *sizes, const uint32_t *codebook_sizes,
                    size_t num_codebooks, const float *vectors, size_t num_vectors,
                    const float *maps, size_t num_maps, const float *biases, size_t num_biases,
                    aec_beam **beam) {
    if (!beam) return AEC_ERROR_ARGUMENT;
    *beam = NULL;
    if (!sizes || !codebook_sizes || !num_codebooks || num_codebooks > LARGEST || !vectors ||
        !maps || !biases || !sizes->dim || sizes->dim > LARGEST || !sizes->latent_dim ||
        sizes->latent_dim > LARGEST || !sizes->num_candidates || sizes->num_candidates > LARGEST)
        return AEC_ERROR_ARGUMENT;
    const size_t dim = sizes->dim, latent = sizes->latent_dim, most = sizes->num_candidates;
    size_t largest = 0;
    uint64_t total = 0;
    for (size_t k = 0; k < num_codebooks; k++) {
        if (!codebook_sizes[k] || codebook_sizes[k] > LARGEST) return AEC_ERROR_ARGUMENT;
        total += codebook_sizes[k];
        if (largest < codebook_sizes[k]) largest = codebook_sizes[k];
    }
    if (!is_product(num_vectors, total, dim) || num_maps % dim ||
        !is_product(num_maps / dim, num_codebooks, latent) ||
        !is_product(num_biases, num_codebooks, latent))
        return AEC_ERROR_ARGUMENT;
    struct aec_beam *made = calloc(1, sizeof *made);
    if (!made) return AEC_ERROR_MEMORY;
    struct aec_arena *memory = &made->memory;
    made->num_codebooks = num_codebooks;
    made->dim = dim;
    made->latent = latent;
    made->most = most;
    made->books = aec_allocate(memory, num_codebooks, sizeof *made->books);
    made->residuals = aec_allocate(memory, (uint64_t)most * latent, sizeof(float));
    made->next = aec_allocate(memory, (uint64_t)most * latent, sizeof(float));
    made->squares = aec_allocate(memory, most, sizeof(float));
    made->best = aec_allocate(memory, most, sizeof(float));
    made->scores = aec_allocate(memory, largest, sizeof(float));
    made->before = aec_allocate(memory, (uint64_t)num_codebooks * most, sizeof(int32_t));
    made->codes = aec_allocate(memory, (uint64_t)num_codebooks * most, sizeof(int32_t));
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    if (!memory->failed) read_books(made, codebook_sizes, vectors, maps, biases);
    aec_set_float_mode(mode);
    if (memory->failed) {
        aec_beam_destroy(made);
        return AEC_ERROR_MEMORY;
    }
    *beam = made;
    return 0;
}

void aec_beam_destroy(aec_beam *beam) {
    if (!beam) return;
    aec_release(&beam->memory);
    free(beam);
}

int aec_beam_search(aec_beam *beam, const float *latent, size_t num_latent, const uint32_t *counts,
                    size_t num_frames, int32_t *codes, size_t num_codes, float *errors,
                    size_t num_errors) {
    if (!beam || !is_product(num_latent, num_frames, beam->latent) ||
        !is_product(num_errors, num_frames, beam->most) ||
        !is_product(num_codes, num_errors, beam->num_codebooks) ||
        (num_frames && (!latent || !counts || !codes || !errors)))
        return AEC_ERROR_ARGUMENT;
    for (size_t t = 0; t < num_frames; t++)
        if (counts[t] > beam->num_codebooks) return AEC_ERROR_ARGUMENT;
    const uint64_t mode = aec_set_float_mode(AEC_FLOAT_MODE);
    for (size_t t = 0; t < num_frames; t++)
        search_frame(beam, latent + t * beam->latent, counts[t],
                     codes + t * beam->most * beam->num_codebooks, errors + t * beam->most);
    aec_set_float_mode(mode);
    return 0;
}
