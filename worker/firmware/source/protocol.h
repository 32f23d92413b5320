// What crosses the serial port, as docs/firmware.md has it. Tests compare this with the Python codec.
#pragma once

#include <assert.h>
#include <stdint.h>

#define PROTOCOL_VERSION 1
#define FRAME_MAGIC_0 0xb1
#define FRAME_MAGIC_1 0xc0
#define SILENCE_US 250000
#define KEEP_ALIVE_US 10000000
#define PINS_AT_ONCE 4
#define SAMPLES_PER_FRAME 256

enum frame_type {
    HELLO = 0x01,
    MEASURE = 0x02,
    STATUS = 0x03,
    ABORT = 0x04,
    BOOTLOADER = 0x05,
    RESTART = 0x06,
    BANNER = 0x81,
    ACCEPTED = 0x82,
    BOARD_STATUS = 0x83,
    ABORTED = 0x84,
    REJECTED = 0x85,
    RESULT = 0x86,
    SAMPLES = 0x87,
};

enum encoding { ENCODING_STORED = 0, ENCODING_DEFLATE = 1 };

enum measurement_kind { MEASUREMENT_KIND_PULSES = 1, MEASUREMENT_KIND_SAMPLES = 2 };

enum outcome {
    OUTCOME_MEASURED = 0,
    OUTCOME_ABORTED = 1,
    OUTCOME_NOT_CONFIGURED = 2,
    OUTCOME_BITSTREAM_DAMAGED = 3,
    // Only virtual boards say these.
    OUTCOME_UNSUPPORTED = 4,
    OUTCOME_UNAVAILABLE = 5,
};

enum result_flag { RESULT_FLAG_ESTIMATE = 1 };

enum reason {
    REASON_HEADER_DAMAGED = 1,
    REASON_PAYLOAD_DAMAGED = 2,
    REASON_CUT_OFF = 3,
    REASON_UNKNOWN_TYPE = 4,
    REASON_TOO_LONG = 5,
    REASON_QUEUE_FULL = 6,
    REASON_INVALID_ARGUMENT = 7,
    REASON_SEQUENCE_IN_USE = 8,
};

enum phase { PHASE_IDLE = 0, PHASE_CONFIGURING = 1, PHASE_MEASURING = 2 };

typedef struct {
    uint8_t magic[2];
    uint8_t type;
    uint8_t reserved;
    uint32_t sequence;
    uint32_t length;
    uint32_t checksum; // of what stands before it
} frame_header_t;

typedef struct {
    uint32_t bitstream_size;
    uint32_t bitstream_crc;
    uint8_t encoding;
    uint8_t kind;
    uint8_t pin_count;
    uint8_t adc_input;
    uint8_t pins[PINS_AT_ONCE];
    uint32_t window_us;
    uint32_t rate_hz;
    uint16_t sample_count;
    uint16_t reserved;
} measure_request_t;

typedef struct {
    uint32_t free_bytes;
    uint16_t waiting;
    uint8_t phase;
    uint8_t cdone;
    uint32_t sequence;
    uint32_t skipped_bytes;
    uint32_t uptime_ms;
    int32_t temperature_mc;
} status_t;

typedef struct {
    uint8_t reason;
    uint8_t reserved[3];
    uint32_t detail;
} rejected_t;

typedef struct {
    uint8_t outcome;
    uint8_t cdone;
    uint8_t pin_count;
    uint8_t flags; // RESULT_FLAG_…, of virtual boards
    uint16_t sample_count;
    uint16_t reserved;
    uint32_t window_us;
    int32_t temperature_mc;
    uint32_t inflate_us;
    uint32_t configure_us;
    uint32_t gap_us;
    uint32_t pulses[PINS_AT_ONCE];
} result_t;

static_assert(sizeof(frame_header_t) == 16, "no padding");
static_assert(sizeof(measure_request_t) == 28, "no padding");
static_assert(sizeof(status_t) == 24, "no padding");
static_assert(sizeof(rejected_t) == 8, "no padding");
static_assert(sizeof(result_t) == 44, "no padding");
