// What the firmware says of itself: to the host that asks, and in its image.
#pragma once

#include <stdint.h>

#define BANNER_SIZE 640

void banner_init(void);
void reply_banner(uint32_t sequence);
