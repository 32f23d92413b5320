// Makes the measurements of the queue, one after another: while one is made, the next one's bitstream is
// unpacked, so that only configuring the FPGA lies between two.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"

// Go on with the one that is being made. Call it as often as possible.
void measurement_continue(void);

// Unpack the next one's bitstream, if that can be done now; calls meanwhile() again and again.
void measurement_prepare(void (*meanwhile)(void));

// End all that was accepted, with a result for each, or without, as when nobody is there to read it.
void measurements_abort(bool tell);
// Whether one that was aborted has still to end.
bool measurements_aborting(void);

// Accepted, and without a result so far; of these, those that are not yet being made.
unsigned measurements_owed(void);
unsigned measurements_waiting(void);
bool measurements_have_sequence(uint32_t sequence);

enum phase measurement_phase(void);
// Of the one that is being made, or 0.
uint32_t measurement_sequence(void);
