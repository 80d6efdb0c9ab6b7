#include "aecodec.h"

int aec_interface(void) { return AEC_INTERFACE; }
