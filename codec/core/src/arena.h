/* Memory that is released together. */

#ifndef AEC_ARENA_H
#define AEC_ARENA_H

#include <stddef.h>

struct aec_arena {
    void *last; /* of the allocations, which are a chain */
    int failed; /* whether one was impossible */
};

/* Zeros, aligned for vectors; NULL if there is no memory. */
void *aec_allocate(struct aec_arena *memory, size_t count, size_t size);

void aec_release(struct aec_arena *memory);

#endif
