// Unpacks bitstreams into the one buffer there is for them, while the one before may still be sent.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "queue.h"

enum bitstream_state { BITSTREAM_READY, BITSTREAM_DAMAGED, BITSTREAM_STOPPED };

// Takes milliseconds and calls meanwhile() again and again; it may call bitstream_stop().
enum bitstream_state bitstream_unpack(const queued_t *measurement, void (*meanwhile)(void));
void bitstream_stop(void);

const uint8_t *bitstream_buffer(void);
