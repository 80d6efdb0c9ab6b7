#include "kernel.h"

#include <stdlib.h>
#include <string.h>

#include "aecodec.h"

static const char *const NAMES[AEC_NUM_KERNELS] = {
    "portable",
#ifdef AEC_X86
    "avx2",
    "avxvnni",
    "vnni",
#endif
};

#ifdef AEC_X86

#include <cpuid.h>

#define BIT(word, index) (((word) >> (index)) & 1)

/* Which registers the operating system keeps for each process. */
static unsigned kept_registers(void) {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* Whether this processor has the instructions of a kernel. */
static int is_usable(int kernel) {
    unsigned a, b, c, d, leaves, a1 = 0, b1, c1, d1;
    if (kernel == AEC_PORTABLE)
        return 1;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !BIT(c, 27)) /* xgetbv */
        return 0;
    unsigned registers = kept_registers();
    if ((registers & 0x6) != 0x6 || !__get_cpuid_count(7, 0, &leaves, &b, &c, &d) || !BIT(b, 5))
        return 0;
    if (kernel == AEC_VNNI) /* AVX-512 F, BW, VL, VNNI */
        return (registers & 0xe6) == 0xe6 && BIT(b, 16) && BIT(b, 30) && BIT(b, 31) && BIT(c, 11);
    if (kernel == AEC_AVX_VNNI)
        return leaves >= 1 && __get_cpuid_count(7, 1, &a1, &b1, &c1, &d1) && BIT(a1, 4);
    return 1;
}

#else

static int is_usable(int kernel) { return kernel == AEC_PORTABLE; }

#endif

int aec_choose_kernel(void) {
    const char *named = getenv("AECODEC_KERNEL");
    for (int kernel = AEC_NUM_KERNELS - 1; kernel >= 0; kernel--)
        if ((!named || !*named || !strcmp(named, NAMES[kernel])) && is_usable(kernel))
            return kernel;
    return -1;
}

const char *aec_kernel(void) {
    int kernel = aec_choose_kernel();
    return kernel < 0 ? NULL : NAMES[kernel];
}
