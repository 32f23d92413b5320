// Takes samples of a voltage at a steady rate.
#pragma once

#include <stdbool.h>
#include <stdint.h>

void samples_init(void);

bool samples_has_input(uint8_t input);

// The samples of the measurement before are overwritten.
void samples_start(uint8_t input, uint32_t rate_hz, uint16_t count);
bool samples_running(void);
void samples_stop(void);

// After they have ended.
const uint16_t *samples_values(void);
uint32_t samples_started_us(void);
uint32_t samples_ended_us(void);
