#include "host.h"

#include "hardware/watchdog.h"
#include "pico/bootrom.h"
#include "pico/time.h"
#include "tusb.h"

#define TOUCH_BAUD 1200
// Long enough for the reply, or the status stage of the request that set the baud rate, to leave.
#define RESTART_DELAY_US 20000

static restart_t wanted;
static absolute_time_t due;

void host_wants_restart(restart_t into) {
    wanted = into;
    due = make_timeout_time_us(RESTART_DELAY_US);
}

void host_restart_if_due(void) {
    if (wanted == RESTART_NOT || !time_reached(due)) return;
    if (wanted == RESTART_BOOTLOADER) reset_usb_boot(0, 0);
    watchdog_reboot(0, 0, 0);
    for (;;) tight_loop_contents();
}

void tud_cdc_line_state_cb(uint8_t interface, bool dtr, bool rts) {
    if (!dtr) host_has_left();
}

void tud_umount_cb(void) { host_has_left(); }

void tud_cdc_line_coding_cb(uint8_t interface, cdc_line_coding_t const *coding) {
    if (coding->bit_rate == TOUCH_BAUD) host_wants_restart(RESTART_BOOTLOADER);
}
