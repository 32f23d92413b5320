// Configures the FPGA. Sending goes on by itself; what remains is done by asking how far it is.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum fpga_state { FPGA_BUSY, FPGA_CONFIGURED, FPGA_REFUSED };

void fpga_init(void);

// Begin. The bitstream is at a whole word, and filled up with zeros to a whole word.
void fpga_configure(const uint8_t *bitstream, uint32_t size);
enum fpga_state fpga_continue(void);
void fpga_stop(void);

// The first byte that is still to be sent; NULL if there is none. What lies before it may be overwritten.
const uint8_t *fpga_unsent(void);

bool fpga_cdone(void);
