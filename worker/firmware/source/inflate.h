// Raw deflate (RFC 1951) into one flat buffer, which is its own window.
#pragma once

#include <stddef.h>
#include <stdint.h>

enum inflate_status { INFLATE_DONE, INFLATE_DAMAGED, INFLATE_STOPPED };

// Up to where may be written? Asked when less than a whole match fits before the last answer. The answer
// is at least a match (INFLATE_MATCH bytes) further, or the end of the buffer; NULL stops inflating.
typedef uint8_t *(*inflate_room_t)(uint8_t *written);

#define INFLATE_MATCH 258

// Exactly out_size bytes must come out; anything else is INFLATE_DAMAGED.
enum inflate_status inflate(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size, inflate_room_t room);
