#include "kernel.h"

#include <stdlib.h>
#include <string.h>

#include "aecodec.h"

static int always(void) { return 1; }

#if defined(__x86_64__)

#include <cpuid.h>

#define BIT(word, index) (((word) >> (index)) & 1)

/* Which registers the operating system keeps for each process. */
static unsigned kept_registers(void) {
    unsigned low, high, a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !BIT(c, 27)) /* xgetbv */
        return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int has_avx2(void) {
    unsigned a, b, c, d;
    return (kept_registers() & 0x6) == 0x6 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && BIT(b, 5);
}

static int has_avxvnni(void) {
    unsigned a, b, c, d;
    if (!has_avx2() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || a < 1) return 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && BIT(a, 4);
}

/* AVX-512 F, BW, VL and VNNI. */
static int has_vnni(void) {
    unsigned a, b, c, d;
    return has_avx2() && (kept_registers() & 0xe6) == 0xe6 &&
           __get_cpuid_count(7, 0, &a, &b, &c, &d) && BIT(b, 16) && BIT(b, 30) && BIT(b, 31) &&
           BIT(c, 11);
}

#elif defined(AEC_DOTPROD) && defined(__ARM_FEATURE_DOTPROD)

#define has_dotprod always

#elif defined(AEC_DOTPROD)

#include <sys/auxv.h>

static int has_dotprod(void) { return (getauxval(AT_HWCAP) >> 20) & 1; } /* HWCAP_ASIMDDP */

#endif

/* From the slowest to the fastest. */
static const struct {
    const struct aec_kernel *kernel;
    int (*is_usable)(void);
} KERNELS[] = {
    {&aec_portable, always},
#if defined(__x86_64__)
    {&aec_avx2, has_avx2},
    {&aec_avxvnni, has_avxvnni}, /* for processors without AVX-512 */
    {&aec_vnni, has_vnni},
#elif defined(AEC_DOTPROD)
    {&aec_dotprod, has_dotprod},
#elif defined(__wasm_simd128__)
    {&aec_wasm, always},
#endif
};

const struct aec_kernel *aec_choose_kernel(void) {
    const char *named = getenv("AECODEC_KERNEL");
    for (size_t i = sizeof KERNELS / sizeof *KERNELS; i-- > 0;)
        if ((!named || !*named || !strcmp(named, KERNELS[i].kernel->name)) &&
            KERNELS[i].is_usable())
            return KERNELS[i].kernel;
    return NULL;
}

const char *aec_kernel(void) {
    const struct aec_kernel *kernel = aec_choose_kernel();
    return kernel ? kernel->name : NULL;
}
