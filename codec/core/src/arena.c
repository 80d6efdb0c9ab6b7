#include "arena.h"

#include <stdlib.h>

#include "memory.h"

void *aec_allocate(struct aec_arena *memory, uint64_t count, size_t size) {
    const size_t head = sizeof(void *) + AEC_ALIGNMENT;
    if (!memory->failed && (!size || count <= (SIZE_MAX / 2 - head) / size)) {
        char *block = calloc(1, (size_t)count * size + head);
        if (block) {
            *(void **)block = memory->last;
            memory->last = block;
            uintptr_t first = (uintptr_t)block + sizeof(void *) + AEC_ALIGNMENT - 1;
            return (void *)(first - first % AEC_ALIGNMENT);
        }
    }
    memory->failed = 1;
    return NULL;
}

void aec_release(struct aec_arena *memory) {
    while (memory->last) {
        void *before = *(void **)memory->last;
        free(memory->last);
        memory->last = before;
    }
}
