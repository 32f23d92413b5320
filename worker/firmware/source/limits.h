// How much fits: what the banner says of this build.
#pragma once

#define BITSTREAM_SIZE 104096       // a full iCE40UP5K bitstream, filled up to whole words
#define QUEUE_BYTES (120 * 1024)    // what else fits into the RP2040's 264 kB: one bitstream as it is, or many compressed
#define QUEUE_LENGTH 64
#define SHORTEST_WINDOW_US 1000
#define LONGEST_WINDOW_US 60000000
#define LOWEST_RATE_HZ 1000         // the converter's divider reaches down to 733
#define HIGHEST_RATE_HZ 500000
#define MOST_SAMPLES 2048
#define WATCHDOG_MS 2000
