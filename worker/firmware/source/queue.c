#include "queue.h"

#include "limits.h"
#include "pico.h"

// A ring of bytes in which every bitstream lies in one piece: what does not fit before the end is put
// at the beginning.
static uint8_t bytes[QUEUE_BYTES] __attribute__((aligned(4)));
static queued_t measurements[QUEUE_LENGTH];
static unsigned first, length;

unsigned queue_length(void) { return length; }

const queued_t *queue_at(unsigned place) { return &measurements[(first + place) % QUEUE_LENGTH]; }

// Where the bytes in use begin and end; the end is not beyond the last byte.
static uint32_t used_from(void) { return (uint32_t)(queue_at(0)->encoded - bytes); }
static uint32_t used_to(void) {
    const queued_t *last = queue_at(length - 1);
    return (uint32_t)(last->encoded - bytes) + last->size;
}

uint8_t *queue_reserve(uint32_t size) {
    if (length == QUEUE_LENGTH) return NULL;
    if (!length) return size <= QUEUE_BYTES ? bytes : NULL;
    uint32_t from = used_from(), to = used_to();
    if (to > from) {
        if (size <= QUEUE_BYTES - to) return bytes + to;
        to = 0;
    }
    // One byte stays free, so that a full ring does not look like an empty one.
    return size < from - to ? bytes + to : NULL;
}

uint32_t queue_free_bytes(void) {
    if (length == QUEUE_LENGTH) return 0;
    if (!length) return QUEUE_BYTES;
    uint32_t from = used_from(), to = used_to();
    if (to <= from) return from - to > 0 ? from - to - 1 : 0;
    return MAX(QUEUE_BYTES - to, from > 0 ? from - 1 : 0);
}

void queue_add(const queued_t *measurement) {
    measurements[(first + length) % QUEUE_LENGTH] = *measurement;
    length++;
}

void queue_remove_first(void) {
    first = (first + 1) % QUEUE_LENGTH;
    length--;
}

void queue_truncate(unsigned remaining) {
    if (length > remaining) length = remaining;
}
