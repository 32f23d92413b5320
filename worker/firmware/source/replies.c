#include "replies.h"

#include "banner.h"
#include "crc32.h"
#include "fpga.h"
#include "limits.h"
#include "measurement.h"
#include "pico/time.h"
#include "pico.h"
#include "queue.h"
#include "receive.h"
#include "samples.h"
#include "temperature.h"
#include "tusb.h"

#define CHECKSUM_SIZE sizeof(uint32_t)
#define FRAME_SIZE(payload) (sizeof(frame_header_t) + (payload) + CHECKSUM_SIZE)

typedef struct {
    uint32_t sequence;
    result_t result;
} waiting_t;

typedef struct {
    uint16_t first, count;
    uint16_t values[SAMPLES_PER_FRAME];
} samples_t;

static waiting_t waiting[QUEUE_LENGTH];
static unsigned first, length;
static uint16_t samples_sent; // of the first result that waits

bool replies_have_room(void) { return tud_cdc_write_available() >= FRAME_SIZE(BANNER_SIZE); }

void reply(enum frame_type type, uint32_t sequence, const void *payload, uint32_t size) {
    frame_header_t header = {
        .magic = {FRAME_MAGIC_0, FRAME_MAGIC_1},
        .type = (uint8_t)type,
        .sequence = sequence,
        .length = size,
    };
    header.checksum = crc32(0, &header, offsetof(frame_header_t, checksum));
    tud_cdc_write(&header, sizeof header);
    if (size) {
        uint32_t checksum = crc32(header.checksum, payload, size);
        tud_cdc_write(payload, size);
        tud_cdc_write(&checksum, sizeof checksum);
    }
    tud_cdc_write_flush();
}

void reply_status(enum frame_type type, uint32_t sequence) {
    status_t status = {
        .free_bytes = queue_free_bytes(),
        .waiting = (uint16_t)measurements_waiting(),
        .phase = (uint8_t)measurement_phase(),
        .cdone = fpga_cdone(),
        .sequence = measurement_sequence(),
        .skipped_bytes = receive_skipped_bytes(),
        .uptime_ms = to_ms_since_boot(get_absolute_time()),
        .temperature_mc = temperature_mc(),
    };
    reply(type, sequence, &status, sizeof status);
}

void reply_rejected(uint32_t sequence, enum reason reason, uint32_t detail) {
    rejected_t rejected = {.reason = (uint8_t)reason, .detail = detail};
    reply(REJECTED, sequence, &rejected, sizeof rejected);
}

static waiting_t *waiting_at(unsigned place) { return &waiting[(first + place) % QUEUE_LENGTH]; }

void results_add(uint32_t sequence, const result_t *result) {
    *waiting_at(length++) = (waiting_t){.sequence = sequence, .result = *result};
}

unsigned results_waiting(void) { return length; }

bool results_need_samples(void) {
    for (unsigned i = 0; i < length; i++) {
        if (waiting_at(i)->result.sample_count) return true;
    }
    return false;
}

bool results_have_sequence(uint32_t sequence) {
    for (unsigned i = 0; i < length; i++) {
        if (waiting_at(i)->sequence == sequence) return true;
    }
    return false;
}

static void send_some_samples(const waiting_t *of) {
    static samples_t some;
    some.first = samples_sent;
    some.count = (uint16_t)MIN(of->result.sample_count - samples_sent, SAMPLES_PER_FRAME);
    memcpy(some.values, samples_values() + samples_sent, some.count * sizeof some.values[0]);
    samples_sent = (uint16_t)(samples_sent + some.count);
    reply(SAMPLES, of->sequence, &some, offsetof(samples_t, values) + some.count * sizeof some.values[0]);
}

void results_send(void) {
    while (length) {
        const waiting_t *next = waiting_at(0);
        bool more_samples = samples_sent < next->result.sample_count;
        if (tud_cdc_write_available() < FRAME_SIZE(more_samples ? sizeof(samples_t) : sizeof(result_t))) return;
        if (more_samples) {
            send_some_samples(next);
            continue;
        }
        reply(RESULT, next->sequence, &next->result, sizeof next->result);
        samples_sent = 0;
        first = (first + 1) % QUEUE_LENGTH;
        length--;
    }
}

void results_forget(void) {
    length = 0;
    samples_sent = 0;
}
