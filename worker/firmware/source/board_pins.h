// What can be measured on this board, from its header in boards/.
#pragma once

#include <stdint.h>

typedef struct {
    uint8_t fpga_pin, gpio;
} counted_pin_t;

extern const counted_pin_t counted_pins[];
extern const unsigned counted_pin_count;
extern const uint8_t adc_inputs[];
extern const unsigned adc_input_count;
