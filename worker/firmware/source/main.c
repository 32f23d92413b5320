// The firmware of icebus's boards: configures the FPGA with the bitstreams it is sent, and measures what
// the circuit does. docs/firmware.md is the contract with the host.

#include "banner.h"
#include "crc32.h"
#include "fpga.h"
#include "hardware/clocks.h"
#include "hardware/timer.h"
#include "hardware/watchdog.h"
#include "host.h"
#include "limits.h"
#include "measurement.h"
#include "pico/stdlib.h"
#include "pulses.h"
#include "receive.h"
#include "replies.h"
#include "samples.h"
#include "temperature.h"
#include "tusb.h"

// A sixth of it clocks the FPGA's configuration port.
#define PROCESSOR_KHZ 144000

void host_has_left(void) {
    measurements_abort(false);
    results_forget();
    receive_reset();
    tud_cdc_write_clear();
}

static void abort_without_host(void) {
    if (measurements_owed() && timer_hw->timerawl - receive_last_frame_us() > KEEP_ALIVE_US) measurements_abort(true);
}

// Everything that must not wait for a bitstream to be unpacked.
static void serve(void) {
    watchdog_update();
    tud_task();
    measurement_continue();
    receive();
    abort_without_host();
    results_send();
    host_restart_if_due();
}

int main(void) {
    set_sys_clock_khz(PROCESSOR_KHZ, true);
    banner_init(); // looks at why the chip was reset, so before the watchdog is set
    crc32_init();
    fpga_init();
    pulses_init();
    samples_init();
    temperature_init();
    tud_init(0);
    watchdog_enable(WATCHDOG_MS, true);
    for (;;) {
        serve();
        measurement_prepare(serve);
    }
}
