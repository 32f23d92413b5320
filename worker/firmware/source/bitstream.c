#include "bitstream.h"

#include <string.h>

#include "crc32.h"
#include "fpga.h"
#include "inflate.h"
#include "limits.h"
#include "pico.h"

// Bytes written between two looks at what else there is to do: some tenths of a millisecond.
#define PIECE 2048

static uint8_t buffer[BITSTREAM_SIZE] __attribute__((aligned(4)));
static uint8_t *end;
static const uint8_t *checked;
static uint32_t crc;
static bool stopped;
static void (*do_meanwhile)(void);

static void __not_in_flash_func(check_until)(const uint8_t *written) {
    crc = crc32(crc, checked, (size_t)(written - checked));
    checked = written;
}

// Up to where may be written: not over what the FPGA has still to be sent.
static uint8_t *__not_in_flash_func(room)(uint8_t *written) {
    check_until(written);
    uint8_t *limit = (size_t)(end - written) > PIECE ? written + PIECE : end;
    for (;;) {
        do_meanwhile();
        if (stopped) return NULL;
        const uint8_t *unsent = fpga_unsent();
        if (!unsent || unsent >= limit) return limit;
        if (unsent >= written + INFLATE_MATCH) return buffer + (unsent - buffer);
    }
}

static enum inflate_status copy_stored(const uint8_t *from, uint32_t size) {
    if (size != (uint32_t)(end - buffer)) return INFLATE_DAMAGED;
    for (uint8_t *to = buffer; to < end;) {
        uint8_t *limit = room(to);
        if (!limit) return INFLATE_STOPPED;
        memcpy(to, from + (to - buffer), (size_t)(limit - to));
        to = limit;
    }
    return INFLATE_DONE;
}

enum bitstream_state __not_in_flash_func(bitstream_unpack)(const queued_t *measurement, void (*meanwhile)(void)) {
    uint32_t size = measurement->request.bitstream_size;
    end = buffer + size;
    checked = buffer;
    crc = 0;
    stopped = false;
    do_meanwhile = meanwhile;
    enum inflate_status status = measurement->request.encoding == ENCODING_STORED
                                     ? copy_stored(measurement->encoded, measurement->size)
                                     : inflate(measurement->encoded, measurement->size, buffer, size, room);
    if (status == INFLATE_STOPPED) return BITSTREAM_STOPPED;
    if (status == INFLATE_DAMAGED) return BITSTREAM_DAMAGED;
    check_until(end);
    while (size % 4) buffer[size++] = 0;
    return crc == measurement->request.bitstream_crc ? BITSTREAM_READY : BITSTREAM_DAMAGED;
}

void bitstream_stop(void) { stopped = true; }

const uint8_t *bitstream_buffer(void) { return buffer; }
