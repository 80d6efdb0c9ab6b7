/* A model in a file that export.py writes, and what reads it. */

#ifndef MODEL_H
#define MODEL_H

#include "aecodec.h"

/* An array of the file. In it lie one after the other: a header of 128 bytes, which is the name,
 * padded with zeros to 112 bytes, the type and the number of bytes of a value (uint32), and the
 * number of values (uint64); then the values, padded to a multiple of 16 bytes. All numbers are
 * little-endian, as on all processors that this is for. */
enum { MODEL_FLOAT32, MODEL_INT8, MODEL_INT32, MODEL_UINT16, MODEL_UINT32 };

struct model {
    char *file;         /* the whole of it */
    aec_tensor *arrays; /* which point there */
    size_t num_arrays;
    aec_config config;
    aec_model *network;
    aec_context *context;
};

/* The file at `path`; 0, or -1 if it cannot be read, or an error of aecodec.h. It is closed in any
 * case. */
int model_open(struct model *model, const char *path);

void model_close(struct model *model);

/* An array of the file; one of no values if there is none of this name and type. */
aec_tensor model_array(const struct model *model, const char *name, int32_t type);

#endif
