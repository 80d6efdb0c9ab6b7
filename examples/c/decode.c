/* Decodes packets as they come from a network:
 *
 *     decode MODEL PACKETS AUDIO
 *
 * MODEL and PACKETS are written by export.py. A packet is a frame of 20 ms: the number of its
 * codebooks (a byte), the number of its bytes (two, little-endian), and these, as
 * aec_encode_packets makes them. One without codebooks was lost. AUDIO is given float32 samples. */

#include <stdio.h>
#include <stdlib.h>

#include "model.h"

enum { MOST_CODEBOOKS = 255, MOST_BYTES = 65535 };

/* Codes of a packet; it can be decoded without those before it. */
static int decode_codes(const aec_context *context, const uint8_t *bytes, uint32_t length,
                        uint32_t num_codebooks, int64_t *codes) {
    const aec_packets shape = {.num_packets = 1,
                               .channels = 1,
                               .num_codebooks = num_codebooks,
                               .num_frames = 1,
                               .segments = 1};
    const uint32_t frames = 1;
    int32_t found[MOST_CODEBOOKS];
    size_t state_size = aec_context_state_size(context);
    size_t scratch_size = aec_context_scratch_size(context, 1);
    uint8_t *state = calloc(1, state_size), *scratch = malloc(scratch_size);
    int error = AEC_ERROR_MEMORY;
    if (state && scratch)
        error = aec_decode_packets(context, &shape, bytes, length, &length, 1, &frames, 1,
                                   &num_codebooks, 1, state, state_size, found, num_codebooks,
                                   scratch, scratch_size);
    for (uint32_t k = 0; !error && k < num_codebooks; k++) codes[k] = found[k];
    free(state);
    free(scratch);
    return error;
}

/* All packets of a file. A lost one repeats the codes of the one before. */
static int decode(const struct model *model, FILE *packets, FILE *audio) {
    static uint8_t head[3], bytes[MOST_BYTES];
    int64_t codes[MOST_CODEBOOKS];
    size_t hop = 1, size = aec_decoder_state_size(model->network);
    for (int level = 0; level < model->config.num_levels; level++)
        hop *= (size_t)model->config.strides[level];
    void *state = malloc(size);
    float *samples = malloc(hop * sizeof *samples);
    aec_coder *coder = NULL;
    int error = state && samples ? aec_coder_create(model->network, &coder) : AEC_ERROR_MEMORY;
    if (!error) error = aec_decoder_init(model->network, state, size);
    size_t read = 0, num_codebooks = 0;
    while (!error && (read = fread(head, 1, sizeof head, packets)) == sizeof head) {
        const uint32_t length = head[1] + 256u * head[2];
        if (fread(bytes, 1, length, packets) != length) error = AEC_ERROR_ARGUMENT;
        if (!error && head[0]) {
            num_codebooks = head[0];
            error = decode_codes(model->context, bytes, length, head[0], codes);
        }
        if (!error)
            error = aec_decode(coder, 1, 1, num_codebooks, codes, num_codebooks, state, state, size,
                               samples, hop);
        if (!error && fwrite(samples, sizeof *samples, hop, audio) != hop) error = -1;
    }
    if (!error && read) error = AEC_ERROR_ARGUMENT; /* the file ends within a packet */
    aec_coder_destroy(coder);
    free(samples);
    free(state);
    return error;
}

int main(int argc, char **argv) {
    struct model model;
    if (argc != 4 || model_open(&model, argv[1])) {
        fprintf(stderr, "usage: decode MODEL PACKETS AUDIO, with a MODEL of export.py\n");
        return 2;
    }
    FILE *packets = fopen(argv[2], "rb"), *audio = fopen(argv[3], "wb");
    int error = packets && audio ? decode(&model, packets, audio) : -1;
    if (packets) fclose(packets);
    if (audio && fclose(audio)) error = -1;
    model_close(&model);
    if (error) fprintf(stderr, "%s cannot be decoded: error %d of aecodec.h\n", argv[2], error);
    return error ? 1 : 0;
}
