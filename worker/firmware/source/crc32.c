#include "crc32.h"

#include "pico.h"

#define POLYNOMIAL 0xedb88320u

static uint32_t table[256]; // in RAM: flash would take several times as long

void crc32_init(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >> 1) ^ POLYNOMIAL : crc >> 1;
        table[byte] = crc;
    }
}

uint32_t __not_in_flash_func(crc32)(uint32_t crc, const void *data, size_t size) {
    const uint8_t *byte = data;
    crc = ~crc;
    while (size--) crc = table[(crc ^ *byte++) & 0xff] ^ (crc >> 8);
    return ~crc;
}
