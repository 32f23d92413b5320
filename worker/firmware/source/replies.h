// What the board sends: replies to requests at once, results when there is room for them.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"

// Whether any reply to a request fits now. The next request is read only then, so that none is lost.
bool replies_have_room(void);

void reply(enum frame_type type, uint32_t sequence, const void *payload, uint32_t size);
void reply_status(enum frame_type type, uint32_t sequence);
void reply_rejected(uint32_t sequence, enum reason reason, uint32_t detail);

// Results wait here until the host reads; measurements are accepted only if their result will fit.
void results_add(uint32_t sequence, const result_t *result);
unsigned results_waiting(void);
bool results_need_samples(void);
bool results_have_sequence(uint32_t sequence);
void results_send(void);
void results_forget(void);
