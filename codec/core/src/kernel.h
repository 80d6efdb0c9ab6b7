/* Kernels: the inner loops for the instructions of some processors. */

#ifndef AEC_KERNEL_H
#define AEC_KERNEL_H

#include "loops.h"
#include "matrix.h"

#if defined(__aarch64__) && !defined(__ARM_BIG_ENDIAN) && \
    (defined(__linux__) || defined(__ARM_FEATURE_DOTPROD))
#define AEC_DOTPROD 1
#endif

struct aec_kernel {
    const char *name;
    /* Inputs whose weights lie beside each other, 1, 2 or 4: as many as an instruction joins. */
    size_t together;
    /* Added to the weights of the network: 128 for an instruction whose first factor has no sign,
     * else 0. */
    int offset;
    aec_multiply *multiply;
    struct aec_loops loops;
};

/* The kernel that the environment names, else the fastest one of this processor; NULL if the one
 * that is named cannot be used. */
const struct aec_kernel *aec_choose_kernel(void);

/* Only those of this kind of processor are compiled. */
extern const struct aec_kernel aec_portable, aec_avx2, aec_avxvnni, aec_vnni, aec_dotprod, aec_wasm;

#endif
