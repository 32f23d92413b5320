// Measurements that wait, with their encoded bitstreams, first come first served.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"

typedef struct {
    uint32_t sequence;
    measure_request_t request;
    const uint8_t *encoded;
    uint32_t size;
} queued_t;

// Room for an encoded bitstream that is about to be received; NULL if there is none. It becomes part
// of the queue by queue_add, and is simply forgotten otherwise.
uint8_t *queue_reserve(uint32_t size);
void queue_add(const queued_t *measurement);

unsigned queue_length(void);
const queued_t *queue_at(unsigned place);
void queue_remove_first(void);
// Forget all but the first few.
void queue_truncate(unsigned length);

// Bytes of the longest encoded bitstream that there is room for.
uint32_t queue_free_bytes(void);
