/* Which instructions of the processor are used. */

#ifndef AEC_KERNEL_H
#define AEC_KERNEL_H

#if defined(__x86_64__) || defined(_M_X64)
#define AEC_X86 1
#endif

/* From the slowest to the fastest. Only those of this kind of processor are compiled. */
enum aec_kernel_id {
    AEC_PORTABLE,
#ifdef AEC_X86
    AEC_AVX2,
    AEC_AVX_VNNI, /* 256 bits, on processors without AVX-512 */
    AEC_VNNI,     /* 512 bits */
#endif
    AEC_NUM_KERNELS
};

/* The kernel that the environment names, else the fastest one of this processor; -1 if the one that
 * is named cannot be used. */
int aec_choose_kernel(void);

#endif
