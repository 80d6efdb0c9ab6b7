/* Memory that is released together. */

#ifndef AEC_ARENA_H
#define AEC_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct aec_arena {
    void *last; /* of the allocations, which are a chain */
    int failed; /* whether one was impossible */
};

/* Zeros, aligned for vectors; NULL if there is no memory. Products of sizes are counted in 64 bits,
 * as addresses may have fewer. */
void *aec_allocate(struct aec_arena *memory, uint64_t count, size_t size);

void aec_release(struct aec_arena *memory);

#endif
