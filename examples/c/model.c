#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER = 128, NAME = 112, TYPES = 5 };

/* Bytes of a value of each type. */
static const uint32_t WIDTHS[TYPES] = {4, 1, 4, 2, 4};

/* All bytes of a file, or NULL. */
static char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    long length = fseek(file, 0, SEEK_END) ? -1 : ftell(file);
    char *bytes = length < 0 ? NULL : malloc((size_t)length + 1);
    rewind(file);
    if (bytes && fread(bytes, 1, (size_t)length, file) != (size_t)length) {
        free(bytes);
        bytes = NULL;
    }
    fclose(file);
    *size = (size_t)length;
    return bytes;
}

/* Lists the arrays of a file, each of which lies in it, whatever the headers say. */
static int list_arrays(struct model *model, size_t size) {
    for (size_t place = 0; place < size;) {
        uint32_t type, width;
        uint64_t count;
        const char *header = model->file + place;
        if (size - place < HEADER || header[NAME - 1]) return -1;
        aec_tensor *more = realloc(model->arrays, (model->num_arrays + 1) * sizeof *more);
        if (!more) return AEC_ERROR_MEMORY;
        model->arrays = more;
        memcpy(&type, header + NAME, 4);
        memcpy(&width, header + NAME + 4, 4);
        memcpy(&count, header + NAME + 8, 8);
        place += HEADER;
        if (type >= TYPES || width != WIDTHS[type] || count > (size - place) / width) return -1;
        more[model->num_arrays++] =
            (aec_tensor){header, (int32_t)type, model->file + place, (size_t)count};
        place += ((size_t)count * width + 15) / 16 * 16;
    }
    return 0;
}

aec_tensor model_array(const struct model *model, const char *name, int32_t type) {
    for (size_t i = 0; i < model->num_arrays; i++)
        if (!strcmp(model->arrays[i].name, name) && model->arrays[i].type == type)
            return model->arrays[i];
    return (aec_tensor){0};
}

static int create(struct model *model) {
    aec_tensor config = model_array(model, "config", MODEL_INT32);
    if (config.count * sizeof(int32_t) != sizeof model->config) return AEC_ERROR_MODEL;
    memcpy(&model->config, config.values, sizeof model->config);
    int error = aec_model_create(&model->config, model->arrays, model->num_arrays, &model->network);
    if (error) return error;

    aec_tensor sizes = model_array(model, "context.sizes", MODEL_UINT32);
    aec_tensor dilations = model_array(model, "context.dilations", MODEL_UINT32);
    aec_tensor weights = model_array(model, "context.weights", MODEL_INT8);
    aec_tensor biases = model_array(model, "context.biases", MODEL_INT32);
    aec_tensor order = model_array(model, "context.order", MODEL_UINT16);
    size_t num_products = 7 + 2 * dilations.count;
    int64_t *largest = malloc(num_products * sizeof *largest);
    if (!largest || sizes.count * sizeof(uint32_t) != sizeof(aec_context_sizes))
        error = AEC_ERROR_MODEL;
    else
        error = aec_context_create(sizes.values, dilations.values, dilations.count, weights.values,
                                   weights.count, biases.values, biases.count, order.values,
                                   order.count, largest, num_products, &model->context);
    free(largest);
    return error;
}

int model_open(struct model *model, const char *path) {
    size_t size = 0;
    *model = (struct model){.file = read_file(path, &size)};
    int error = model->file ? list_arrays(model, size) : -1;
    if (!error) error = create(model);
    if (error) model_close(model);
    return error;
}

void model_close(struct model *model) {
    aec_context_destroy(model->context);
    aec_model_destroy(model->network);
    free(model->arrays);
    free(model->file);
    *model = (struct model){0};
}
