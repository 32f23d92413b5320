// The host at the other end of the serial port: whether it is there, and what it asks for other than
// by frames.
#pragma once

typedef enum { RESTART_NOT, RESTART_FIRMWARE, RESTART_BOOTLOADER } restart_t;

// Called when the host has closed the port, died, or taken the board off the bus; main.c has it. Called
// at once: what comes next on the bus may be of the next host.
void host_has_left(void);

// Restart soon, but only after the host has been told so.
void host_wants_restart(restart_t into);

// Carries out a restart whose time has come.
void host_restart_if_due(void);
