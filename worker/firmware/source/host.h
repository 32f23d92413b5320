// The host at the other end of the serial port: whether it is there, and what it asks for other than
// by frames.
#pragma once

#include <stdbool.h>

typedef enum { RESTART_NOT, RESTART_FIRMWARE, RESTART_BOOTLOADER } restart_t;

// True once each time the host has closed the port, died, or taken the board off the bus.
bool host_has_left(void);

// Restart soon, but only after the host has been told so.
void host_wants_restart(restart_t into);

// Carries out a restart whose time has come.
void host_restart_if_due(void);
