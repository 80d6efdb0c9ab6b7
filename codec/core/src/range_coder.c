#include "range_coder.h"

/* The interval has 32 bits. It is refilled by bytes as soon as 24 bits or fewer are left, so that
 * even the rarest symbol keeps at least 2^8 values. */
static const uint64_t TOP = (uint64_t)1 << 32;
static const uint64_t REFILL = 1 << 24;
/* Beyond any interval, even after a symbol is taken off. */
static const uint64_t BEYOND = (uint64_t)1 << 33;

struct aec_range_encoder aec_range_encoder_in(uint8_t *bytes, size_t capacity) {
    return (struct aec_range_encoder){0, TOP, bytes, 0, capacity};
}

static void append(struct aec_range_encoder *encoder, uint8_t byte) {
    if (encoder->length < encoder->capacity) encoder->bytes[encoder->length++] = byte;
}

/* Add one to the number that the bytes so far are. */
static void carry(struct aec_range_encoder *encoder) {
    for (size_t position = encoder->length; position-- > 0;)
        if (++encoder->bytes[position]) return;
}

void aec_range_encode(struct aec_range_encoder *encoder, struct aec_interval symbol) {
    uint64_t unit = encoder->range >> AEC_TOTAL_BITS;
    encoder->low += unit * symbol.start;
    encoder->range = unit * symbol.frequency;
    if (encoder->low >= TOP) {
        encoder->low -= TOP;
        carry(encoder);
    }
    while (encoder->range <= REFILL) {
        append(encoder, (uint8_t)(encoder->low >> 24));
        encoder->low = encoder->low << 8 & (TOP - 1);
        encoder->range <<= 8;
    }
}

size_t aec_range_finish(struct aec_range_encoder *encoder) {
    /* The smallest number with the fewest leading bytes in the interval, zeros after them. */
    int count = 0;
    uint64_t number = TOP - 1;
    for (; count <= 4; count++) {
        uint64_t unit = TOP >> 8 * count;
        number = (encoder->low + unit - 1) / unit * unit;
        if (number < encoder->low + encoder->range) break;
    }
    if (number >= TOP) {
        number -= TOP;
        carry(encoder);
    }
    for (int index = 0; index < count; index++)
        append(encoder, (uint8_t)(number >> (24 - 8 * index)));
    while (encoder->length && !encoder->bytes[encoder->length - 1]) encoder->length--;
    return encoder->length;
}

static uint8_t next_byte(struct aec_range_decoder *decoder) {
    return decoder->position < decoder->length ? decoder->bytes[decoder->position++] : 0;
}

struct aec_range_decoder aec_range_decoder_of(const uint8_t *bytes, size_t length) {
    struct aec_range_decoder decoder = {TOP, 0, bytes, 0, length};
    for (int index = 0; index < 4; index++)
        decoder.number = decoder.number << 8 | next_byte(&decoder);
    return decoder;
}

uint32_t aec_range_peek(const struct aec_range_decoder *decoder) {
    uint32_t unit = (uint32_t)(decoder->range >> AEC_TOTAL_BITS);
    return decoder->number < TOP ? (uint32_t)decoder->number / unit : UINT32_MAX;
}

void aec_range_skip(struct aec_range_decoder *decoder, struct aec_interval symbol) {
    uint32_t unit = (uint32_t)(decoder->range >> AEC_TOTAL_BITS);
    decoder->number -= (uint64_t)unit * symbol.start;
    decoder->range = (uint64_t)unit * symbol.frequency;
    while (decoder->range <= REFILL) {
        decoder->number = decoder->number << 8 | next_byte(decoder);
        /* Damaged bytes may lie beyond the interval, ever farther. There is no way back. */
        decoder->number = decoder->number < BEYOND ? decoder->number : BEYOND;
        decoder->range <<= 8;
    }
}
