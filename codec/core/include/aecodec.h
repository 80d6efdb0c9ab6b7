/* The core of aecodec: numbers in, numbers out.
 *
 * Functions return 0 or one of the errors below, unless they say otherwise. They check all sizes
 * and read and write nothing beyond them, whatever the values are. None keeps anything between
 * calls but in the memory that it is given, so different threads may call them at the same time
 * with different memory. */

#ifndef AECODEC_H
#define AECODEC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define AEC_EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define AEC_EXPORT __attribute__((visibility("default")))
#else
#define AEC_EXPORT
#endif

/* Changes with every change of what follows. */
#define AEC_INTERFACE 1

#define AEC_ERROR_ARGUMENT (-1) /* a size or a value is impossible */

/* AEC_INTERFACE of the library, to be compared with that of the header. */
AEC_EXPORT int aec_interface(void);

#ifdef __cplusplus
}
#endif

#endif
