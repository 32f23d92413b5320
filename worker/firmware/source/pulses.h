// Counts rising edges on up to four pins over one window.
#pragma once

#include <stdbool.h>
#include <stdint.h>

void pulses_init(void);

// Whether a pin of the FPGA's package can be counted on this board.
bool pulses_has_pin(uint8_t pin);

void pulses_start(const uint8_t *pins, unsigned pin_count, uint32_t window_us);
bool pulses_running(void);
void pulses_stop(void);

// After it has ended: the count of a pin, by its place; and when it began and ended.
uint32_t pulses_read(unsigned place);
uint32_t pulses_started_us(void);
uint32_t pulses_ended_us(void);
