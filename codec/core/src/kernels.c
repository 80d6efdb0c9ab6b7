#include "kernel.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* Whether the processor and the system have the instructions; GCC's own test does not know VNNI in
 * all versions. */
static int has_registers(unsigned mask) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 27))) return 0;
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & mask) == mask;
}

static int has_avx2(void) {
    unsigned a, b, c, d;
    return has_registers(0x6) && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (1u << 5));
}

static int has_vnni(void) {
    unsigned a, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 4));
}

static int has_avx512(void) {
    /* AVX-512 F, DQ, BW, VL */
    const unsigned needed = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);
    unsigned a, b, c, d;
    return has_avx2() && has_registers(0xe6) && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
           (b & needed) == needed && (c & (1u << 11));
}
#endif

const struct aec_kernel *aec_find_kernel(const char *name) {
    const struct aec_kernel *usable[4];
    int count = 0;
#if defined(__x86_64__)
    if (has_avx512()) usable[count++] = &aec_kernel_avx512;
    if (has_vnni()) usable[count++] = &aec_kernel_vnni;
    if (has_avx2()) usable[count++] = &aec_kernel_avx2;
#endif
    usable[count++] = &aec_kernel_portable;
    if (!name) return usable[0];
    for (int i = 0; i < count; i++)
        if (!strcmp(name, usable[i]->name)) return usable[i];
    return NULL;
}
