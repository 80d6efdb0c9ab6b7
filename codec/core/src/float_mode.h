/* How the processor computes with floats while the core does: rounding to the nearest, with numbers
 * too small to be normal. A process may have asked for another way, as PyTorch lets it and
 * libraries built with -ffast-math do without asking, and results must not depend on that. */

#ifndef AEC_FLOAT_MODE_H
#define AEC_FLOAT_MODE_H

#include <stdint.h>

#if defined(__x86_64__)

static inline uint64_t aec_set_float_mode(uint64_t mode) {
    uint32_t before, after = (uint32_t)mode;
    __asm__ volatile("stmxcsr %0" : "=m"(before) : : "memory");
    __asm__ volatile("ldmxcsr %0" : : "m"(after) : "memory");
    return before;
}

#define AEC_FLOAT_MODE 0x1f80 /* all exceptions are masked */

#elif defined(__aarch64__)

static inline uint64_t aec_set_float_mode(uint64_t mode) {
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before) : : "memory");
    __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory");
    return before;
}

#define AEC_FLOAT_MODE 0

#else /* such as WebAssembly, which has no other mode */

static inline uint64_t aec_set_float_mode(uint64_t mode) { return mode; }

#define AEC_FLOAT_MODE 0

#endif

#endif
