/* Pieces of one block of memory. */

#ifndef AEC_MEMORY_H
#define AEC_MEMORY_H

#include <stddef.h>
#include <stdint.h>

enum { AEC_ALIGNMENT = 64 };

/* Pieces that were taken so far. Without a block they are only added up. */
struct aec_block {
    unsigned char *begin;
    size_t used;
};

/* More than any memory has. */
#define AEC_TOO_LARGE (SIZE_MAX / 2)

/* The next piece; NULL without a block. Without one, `used` becomes AEC_TOO_LARGE at most. */
static inline void *aec_take(struct aec_block *block, size_t count, size_t size) {
    size_t offset = block->used, room = AEC_TOO_LARGE - offset;
    if (size && count > room / size)
        block->used = AEC_TOO_LARGE;
    else
        block->used += (count * size + AEC_ALIGNMENT - 1) / AEC_ALIGNMENT * AEC_ALIGNMENT;
    if (block->used > AEC_TOO_LARGE) block->used = AEC_TOO_LARGE;
    return block->begin ? block->begin + offset : NULL;
}

/* A block of memory from its first aligned byte on. */
static inline struct aec_block aec_block_in(void *memory) {
    uintptr_t address = (uintptr_t)memory;
    uintptr_t aligned = (address + AEC_ALIGNMENT - 1) / AEC_ALIGNMENT * AEC_ALIGNMENT;
    return (struct aec_block){(unsigned char *)memory + (aligned - address), 0};
}

#endif
