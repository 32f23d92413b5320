// The chip's temperature, by its own sensor.
#pragma once

#include <stdint.h>

void temperature_init(void);

// In thousandths of a degree Celsius. While samples are taken the converter is busy: the last one then.
int32_t temperature_mc(void);
