// Receives requests, and carries them out.
#pragma once

#include <stdbool.h>
#include <stdint.h>

void receive(void);

// Forget a frame that has begun, and what is about to be read.
void receive_reset(void);

// Bytes that belonged to no frame.
uint32_t receive_skipped_bytes(void);

// When the last whole frame came.
uint32_t receive_last_frame_us(void);
