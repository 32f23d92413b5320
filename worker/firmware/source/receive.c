#include "receive.h"

#include <string.h>

#include "banner.h"
#include "crc32.h"
#include "hardware/timer.h"
#include "host.h"
#include "limits.h"
#include "measurement.h"
#include "pico.h"
#include "pulses.h"
#include "queue.h"
#include "replies.h"
#include "samples.h"
#include "tusb.h"

#define CHECKSUM_SIZE sizeof(uint32_t)

static enum { HEADER, PAYLOAD, CHECKSUM, SKIPPED } part;
static uint32_t received; // of that part
static frame_header_t header;
static uint32_t computed, checksum;
static struct {
    measure_request_t request;
    uint8_t *encoded; // NULL: no room, so that the rest is read and forgotten
} measure;
static uint32_t last_byte_us, last_frame_us, skipped_bytes;
static bool damage_is_told, abort_waits;
static uint32_t abort_sequence;

uint32_t receive_skipped_bytes(void) { return skipped_bytes; }

uint32_t receive_last_frame_us(void) { return last_frame_us; }

static void await(int next) {
    part = next;
    received = 0;
}

void receive_reset(void) {
    await(HEADER);
    abort_waits = false;
    tud_cdc_read_flush();
}

static uint32_t longest_payload(void) { return header.type == MEASURE ? sizeof(measure_request_t) + QUEUE_BYTES : 0; }

#define NO_FIELD (-1)

// The offset of the first field that asks for what this board can't do.
static int invalid_field(const measure_request_t *request) {
#define OFFSET(field) ((int)offsetof(measure_request_t, field))
    if (!request->bitstream_size || request->bitstream_size > BITSTREAM_SIZE) return OFFSET(bitstream_size);
    if (request->encoding > ENCODING_DEFLATE) return OFFSET(encoding);
    if (request->kind == MEASUREMENT_KIND_PULSES) {
        if (!request->pin_count || request->pin_count > PINS_AT_ONCE) return OFFSET(pin_count);
        for (unsigned i = 0; i < request->pin_count; i++) {
            if (!pulses_has_pin(request->pins[i])) return OFFSET(pins) + (int)i;
        }
        if (request->window_us < SHORTEST_WINDOW_US || request->window_us > LONGEST_WINDOW_US) return OFFSET(window_us);
    } else if (request->kind == MEASUREMENT_KIND_SAMPLES) {
        if (!samples_has_input(request->adc_input)) return OFFSET(adc_input);
        if (request->rate_hz < LOWEST_RATE_HZ || request->rate_hz > HIGHEST_RATE_HZ) return OFFSET(rate_hz);
        if (!request->sample_count || request->sample_count > MOST_SAMPLES) return OFFSET(sample_count);
    } else {
        return OFFSET(kind);
    }
    return NO_FIELD;
}

static void accept_measurement(void) {
    int field = invalid_field(&measure.request);
    if (measurements_have_sequence(header.sequence) || results_have_sequence(header.sequence)) {
        reply_rejected(header.sequence, REASON_SEQUENCE_IN_USE, 0);
    } else if (field != NO_FIELD) {
        reply_rejected(header.sequence, REASON_INVALID_ARGUMENT, (uint32_t)field);
    } else if (!measure.encoded || measurements_owed() + results_waiting() >= QUEUE_LENGTH) {
        reply_rejected(header.sequence, REASON_QUEUE_FULL, queue_free_bytes());
    } else {
        queue_add(&(queued_t){.sequence = header.sequence,
                              .request = measure.request,
                              .encoded = measure.encoded,
                              .size = header.length - sizeof measure.request});
        reply_status(ACCEPTED, header.sequence);
    }
}

static void carry_out(void) {
    last_frame_us = timer_hw->timerawl;
    switch (header.type) {
    case HELLO:
        reply_banner(header.sequence);
        break;
    case MEASURE:
        accept_measurement();
        break;
    case STATUS:
        reply_status(BOARD_STATUS, header.sequence);
        break;
    case ABORT:
        measurements_abort(true);
        abort_waits = true;
        abort_sequence = header.sequence;
        break;
    case BOOTLOADER:
    case RESTART:
        host_wants_restart(header.type == RESTART ? RESTART_FIRMWARE : RESTART_BOOTLOADER);
        reply_status(ACCEPTED, header.sequence);
        break;
    }
}

static void tell_damage(void) {
    if (!damage_is_told) reply_rejected(0, REASON_HEADER_DAMAGED, 0);
    damage_is_told = true;
}

static void skip_to_magic(void) {
    uint8_t *bytes = (uint8_t *)&header;
    while (received && (bytes[0] != FRAME_MAGIC_0 || (received > 1 && bytes[1] != FRAME_MAGIC_1))) {
        memmove(bytes, bytes + 1, --received);
        skipped_bytes++;
        tell_damage();
    }
}

static void header_has_come(void) {
    if (header.checksum != crc32(0, &header, offsetof(frame_header_t, checksum))) {
        header.magic[0] = 0; // so that this one is skipped
        skip_to_magic();
        return;
    }
    damage_is_told = false;
    computed = header.checksum;
    bool known = (header.type >= HELLO && header.type <= RESTART), fits = header.length <= longest_payload();
    if (!known) {
        reply_rejected(header.sequence, REASON_UNKNOWN_TYPE, header.type);
    } else if (!fits) {
        reply_rejected(header.sequence, REASON_TOO_LONG, longest_payload());
    } else if (header.type == MEASURE && header.length <= sizeof measure.request) {
        // Nothing to configure the FPGA with.
        reply_rejected(header.sequence, REASON_INVALID_ARGUMENT, sizeof measure.request);
    } else if (header.length) {
        await(PAYLOAD);
        return;
    } else {
        await(HEADER);
        carry_out();
        return;
    }
    await(header.length ? SKIPPED : HEADER);
}

static uint32_t read_to(void *to, uint32_t size) {
    uint32_t count = tud_cdc_read(to, size);
    received += count;
    return count;
}

static void read_header(void) {
    read_to((uint8_t *)&header + received, sizeof header - received);
    skip_to_magic();
    if (received == sizeof header) header_has_come();
}

static void read_payload(void) {
    uint8_t forgotten[64];
    const uint32_t fixed = sizeof measure.request;
    uint8_t *to;
    uint32_t wanted;
    if (received < fixed) {
        to = (uint8_t *)&measure.request + received;
        wanted = fixed - received;
    } else {
        if (received == fixed) measure.encoded = queue_reserve(header.length - fixed);
        to = measure.encoded ? measure.encoded + (received - fixed) : forgotten;
        wanted = header.length - received;
        if (!measure.encoded) wanted = MIN(wanted, sizeof forgotten);
    }
    computed = crc32(computed, to, read_to(to, wanted));
    if (received == header.length) await(CHECKSUM);
}

static void read_checksum(void) {
    read_to((uint8_t *)&checksum + received, CHECKSUM_SIZE - received);
    if (received < CHECKSUM_SIZE) return;
    await(HEADER);
    if (checksum == computed) {
        carry_out();
    } else {
        reply_rejected(header.sequence, REASON_PAYLOAD_DAMAGED, 0);
    }
}

static void read_skipped(void) {
    uint8_t forgotten[64];
    uint64_t left = (uint64_t)header.length + CHECKSUM_SIZE - received;
    if (read_to(forgotten, (uint32_t)MIN(left, sizeof forgotten)) == left) await(HEADER);
}

static void give_up_after_silence(void) {
    if ((part == HEADER && !received) || timer_hw->timerawl - last_byte_us < SILENCE_US) return;
    if (part == HEADER) {
        skipped_bytes += received;
        tell_damage();
    } else if (part != SKIPPED) {
        reply_rejected(header.sequence, REASON_CUT_OFF, part == PAYLOAD ? received : header.length);
    }
    await(HEADER);
}

void receive(void) {
    if (abort_waits && !measurements_aborting() && !results_waiting() && replies_have_room()) {
        abort_waits = false;
        reply_status(ABORTED, abort_sequence);
    }
    if (!tud_cdc_available() && replies_have_room()) give_up_after_silence();
    while (tud_cdc_available() && !abort_waits && replies_have_room()) {
        last_byte_us = timer_hw->timerawl;
        switch (part) {
        case HEADER:
            read_header();
            break;
        case PAYLOAD:
            read_payload();
            break;
        case CHECKSUM:
            read_checksum();
            break;
        case SKIPPED:
            read_skipped();
            break;
        }
    }
}
