#include "inflate.h"

#include <stdbool.h>
#include <string.h>

#ifdef PICO_BOARD
#include "pico.h"
#else // tests compile this for the machine that they run on
#define __not_in_flash_func(name) name
#define __force_inline inline __attribute__((always_inline))
#endif

#define LONGEST_CODE 15
#define QUICK_BITS 9 // codes up to this length take one look into a table
#define LITERALS 288
#define DISTANCES 30
#define END_OF_BLOCK 256

// A canonical Huffman code.
typedef struct {
    uint16_t quick[1 << QUICK_BITS];      // by the next bits: symbol << 4 | length of its code; 0: longer
    uint16_t count[LONGEST_CODE + 1];     // codes of each length
    uint16_t symbols[LITERALS];           // in the order of their codes
} huffman_t;

typedef struct {
    const uint8_t *in, *in_end;
    uint32_t bits;       // read and not yet used, the next one lowest
    unsigned bit_count;
    unsigned beyond_end; // bytes that were read where there are none
} reader_t;

static huffman_t literal_code, distance_code;
static uint8_t code_lengths[LITERALS + DISTANCES + 2];

static const uint16_t match_base[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                      31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
static const uint8_t match_extra[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                      2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
static const uint16_t distance_base[] = {1,   2,   3,   4,    5,    7,    9,    13,   17,   25,
                                         33,  49,  65,  97,   129,  193,  257,  385,  513,  769,
                                         1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
static const uint8_t distance_extra[] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                         6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};
static const uint8_t length_code_order[] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};

// At least so many bits are there then; behind the end they are 0.
static __force_inline void need(reader_t *reader, unsigned count) {
    while (reader->bit_count < count) {
        if (reader->in < reader->in_end) {
            reader->bits |= (uint32_t)*reader->in++ << reader->bit_count;
        } else {
            reader->beyond_end++;
        }
        reader->bit_count += 8;
    }
}

static __force_inline uint32_t take(reader_t *reader, unsigned count) {
    need(reader, count);
    uint32_t value = reader->bits & ((1u << count) - 1);
    reader->bits >>= count;
    reader->bit_count -= count;
    return value;
}

static bool __not_in_flash_func(set_code)(huffman_t *code, const uint8_t *lengths, unsigned symbol_count) {
    memset(code->count, 0, sizeof code->count);
    memset(code->quick, 0, sizeof code->quick);
    for (unsigned symbol = 0; symbol < symbol_count; symbol++) code->count[lengths[symbol]]++;
    code->count[0] = 0;

    int unassigned = 1;
    uint16_t start[LONGEST_CODE + 2] = {0};
    for (int length = 1; length <= LONGEST_CODE; length++) {
        unassigned = 2 * unassigned - code->count[length];
        if (unassigned < 0) return false;
        start[length + 1] = (uint16_t)(start[length] + code->count[length]);
    }
    for (unsigned symbol = 0; symbol < symbol_count; symbol++) {
        if (lengths[symbol]) code->symbols[start[lengths[symbol]]++] = (uint16_t)symbol;
    }

    unsigned next_code = 0, place = 0;
    for (unsigned length = 1; length <= QUICK_BITS; length++, next_code <<= 1) {
        for (unsigned i = 0; i < code->count[length]; i++, next_code++) {
            unsigned reversed = 0; // codes are packed from their most significant bit on
            for (unsigned bit = 0; bit < length; bit++) reversed |= (next_code >> bit & 1) << (length - 1 - bit);
            uint16_t entry = (uint16_t)(code->symbols[place++] << 4 | length);
            for (; reversed < 1 << QUICK_BITS; reversed += 1 << length) code->quick[reversed] = entry;
        }
    }
    return true;
}

// The next symbol, or -1 if no code begins with the next bits.
static __force_inline int next_symbol(reader_t *reader, const huffman_t *code) {
    need(reader, LONGEST_CODE);
    unsigned entry = code->quick[reader->bits & ((1 << QUICK_BITS) - 1)];
    if (entry) {
        reader->bits >>= entry & 15;
        reader->bit_count -= entry & 15;
        return (int)(entry >> 4);
    }
    uint32_t bits = reader->bits;
    int value = 0, first = 0, place = 0;
    for (unsigned length = 1; length <= LONGEST_CODE; length++) {
        value = value << 1 | (int)(bits & 1);
        bits >>= 1;
        int count = code->count[length];
        first <<= 1;
        if (value - first < count) {
            reader->bits = bits;
            reader->bit_count -= length;
            return code->symbols[place + value - first];
        }
        first += count;
        place += count;
    }
    return -1;
}

static bool fixed_codes(void) {
    for (unsigned symbol = 0; symbol < LITERALS; symbol++) {
        code_lengths[symbol] = symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8;
    }
    memset(code_lengths + LITERALS, 5, DISTANCES);
    return set_code(&literal_code, code_lengths, LITERALS) &&
           set_code(&distance_code, code_lengths + LITERALS, DISTANCES);
}

static bool __not_in_flash_func(read_codes)(reader_t *reader) {
    unsigned literals = take(reader, 5) + 257, distances = take(reader, 5) + 1, length_codes = take(reader, 4) + 4;
    if (literals > LITERALS || distances > DISTANCES) return false;
    uint8_t lengths_of_lengths[sizeof length_code_order] = {0};
    for (unsigned i = 0; i < length_codes; i++) lengths_of_lengths[length_code_order[i]] = (uint8_t)take(reader, 3);
    if (!set_code(&distance_code, lengths_of_lengths, sizeof lengths_of_lengths)) return false;

    for (unsigned i = 0; i < literals + distances;) {
        int symbol = next_symbol(reader, &distance_code);
        if (symbol < 0) return false;
        if (symbol < 16) {
            code_lengths[i++] = (uint8_t)symbol;
            continue;
        }
        uint8_t repeated = 0;
        unsigned times;
        if (symbol == 16) {
            if (!i) return false;
            repeated = code_lengths[i - 1];
            times = 3 + take(reader, 2);
        } else {
            times = symbol == 17 ? 3 + take(reader, 3) : 11 + take(reader, 7);
        }
        if (i + times > literals + distances) return false;
        memset(code_lengths + i, repeated, times);
        i += times;
    }
    return code_lengths[END_OF_BLOCK] && set_code(&literal_code, code_lengths, literals) &&
           set_code(&distance_code, code_lengths + literals, distances);
}

static __force_inline void copy_match(uint8_t *out, unsigned distance, unsigned length) {
    const uint8_t *from = out - distance;
    if (distance == 1) {
        memset(out, *from, length); // what most of a bitstream is
    } else if (distance >= length) {
        memcpy(out, from, length);
    } else {
        while (length--) *out++ = *from++;
    }
}

enum inflate_status __not_in_flash_func(inflate)(const uint8_t *in, size_t in_size, uint8_t *start, size_t out_size,
                                                 inflate_room_t room) {
    reader_t reader = {.in = in, .in_end = in + in_size};
    uint8_t *out = start, *const end = start + out_size, *limit = start;
    bool last;
    do {
        // Also where blocks are empty: there may be thousands, and other things have to be done.
        if (!(limit = room(out))) return INFLATE_STOPPED;
        last = take(&reader, 1);
        unsigned type = take(&reader, 2);
        if (type == 3) return INFLATE_DAMAGED;
        if (type == 0) {
            reader.in -= reader.bit_count / 8; // back to the first whole byte that is not used
            reader.bits = reader.bit_count = 0;
            if (reader.beyond_end || reader.in_end - reader.in < 4) return INFLATE_DAMAGED;
            unsigned length = reader.in[0] | reader.in[1] << 8, inverted = reader.in[2] | reader.in[3] << 8;
            reader.in += 4;
            if ((length ^ inverted) != 0xffff || (size_t)(reader.in_end - reader.in) < length ||
                (size_t)(end - out) < length) {
                return INFLATE_DAMAGED;
            }
            while (length) {
                if (out == limit && !(limit = room(out))) return INFLATE_STOPPED;
                size_t part = length < (size_t)(limit - out) ? length : (size_t)(limit - out);
                memcpy(out, reader.in, part);
                out += part;
                reader.in += part;
                length -= (unsigned)part;
            }
            continue;
        }
        if (!(type == 1 ? fixed_codes() : read_codes(&reader))) return INFLATE_DAMAGED;
        for (;;) {
            if (limit < end && out + INFLATE_MATCH > limit && !(limit = room(out))) return INFLATE_STOPPED;
            int symbol = next_symbol(&reader, &literal_code);
            if (symbol == END_OF_BLOCK) break;
            if (symbol < 0 || reader.beyond_end > 4) return INFLATE_DAMAGED;
            if (symbol < END_OF_BLOCK) {
                if (out == end) return INFLATE_DAMAGED;
                *out++ = (uint8_t)symbol;
                continue;
            }
            symbol -= END_OF_BLOCK + 1;
            if (symbol >= (int)sizeof match_extra) return INFLATE_DAMAGED;
            unsigned length = match_base[symbol] + take(&reader, match_extra[symbol]);
            symbol = next_symbol(&reader, &distance_code);
            if (symbol < 0 || symbol >= DISTANCES) return INFLATE_DAMAGED;
            unsigned distance = distance_base[symbol] + take(&reader, distance_extra[symbol]);
            if (distance > (size_t)(out - start) || length > (size_t)(end - out)) return INFLATE_DAMAGED;
            copy_match(out, distance, length);
            out += length;
        }
    } while (!last);
    return out == end && reader.beyond_end * 8 <= reader.bit_count ? INFLATE_DONE : INFLATE_DAMAGED;
}
