// CRC-32 of zlib, Ethernet and PNG.
#pragma once

#include <stddef.h>
#include <stdint.h>

void crc32_init(void);

// The checksum of more bytes, given that of those before; 0 to begin with.
uint32_t crc32(uint32_t crc, const void *data, size_t size);
