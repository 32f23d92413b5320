#include "banner.h"

#include <stdio.h>
#include <string.h>

#include "board_pins.h"
#include "hardware/watchdog.h"
#include "limits.h"
#include "pico/unique_id.h"
#include "pico.h"
#include "replies.h"

#define FIRMWARE_NAME "icebus"
#define MARKER "{\"name\":\"" FIRMWARE_NAME "\",\"version\":\"" FIRMWARE_VERSION "\",\"chip\":\"" BOARD_CHIP "\"}"

// Names the firmware to whoever looks into the image: magic, length, JSON.
static const struct {
    char magic[16];
    uint32_t length;
    char json[sizeof MARKER - 1];
} marker __attribute__((aligned(4))) = {"icebus-firmware", sizeof MARKER - 1, MARKER};

const counted_pin_t counted_pins[] = {COUNTED_PINS};
const unsigned counted_pin_count = count_of(counted_pins);
const uint8_t adc_inputs[] = {ADC_INPUTS};
const unsigned adc_input_count = count_of(adc_inputs);

static const char *reset;

static const char *reset_reason(void) {
    if (watchdog_enable_caused_reboot()) return "watchdog";
    return watchdog_caused_reboot() ? "request" : "power";
}

void banner_init(void) {
    reset = reset_reason();
    // Nothing else refers to it, and the linker drops what nothing refers to.
    __asm volatile("" : : "r"(&marker));
}

// Lists of numbers, as JSON has them, of at most 16.
typedef struct {
    char text[16 * 4];
} list_t;

static list_t list_of(const uint8_t *values, unsigned count, unsigned stride) {
    list_t list = {""};
    size_t length = 0;
    for (unsigned i = 0; i < count; i++) {
        length += (size_t)snprintf(list.text + length, sizeof list.text - length, i ? ",%u" : "%u", values[i * stride]);
    }
    return list;
}

void reply_banner(uint32_t sequence) {
    static char json[BANNER_SIZE];
    char id[2 * PICO_UNIQUE_BOARD_ID_SIZE_BYTES + 1];
    pico_get_unique_board_id_string(id, sizeof id);
    int size = snprintf(
        json, sizeof json,
        "{\"protocol\":%u,\"firmware\":\"%s\",\"version\":\"%s\",\"board\":\"%s\",\"chip\":\"%s\",\"id\":\"%s\","
        "\"reset\":\"%s\",\"bitstream_size\":%u,\"queue_bytes\":%u,\"queue_length\":%u,\"pins\":[%s],"
        "\"pins_at_once\":%u,\"window_us\":[%u,%u],\"adc_inputs\":[%s],\"rate_hz\":[%u,%u],\"samples\":%u}",
        PROTOCOL_VERSION, FIRMWARE_NAME, FIRMWARE_VERSION, BOARD_NAME, BOARD_CHIP, id, reset, BITSTREAM_SIZE,
        QUEUE_BYTES, QUEUE_LENGTH, list_of(&counted_pins[0].fpga_pin, counted_pin_count, sizeof counted_pins[0]).text,
        PINS_AT_ONCE, SHORTEST_WINDOW_US, LONGEST_WINDOW_US, list_of(adc_inputs, adc_input_count, 1).text,
        LOWEST_RATE_HZ, HIGHEST_RATE_HZ, MOST_SAMPLES);
    hard_assert(size < BANNER_SIZE);
    reply(BANNER, sequence, json, (uint32_t)size);
}
