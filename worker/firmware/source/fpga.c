#include "fpga.h"

#include "fpga.pio.h"
#include "hardware/clocks.h"
#include "hardware/dma.h"
#include "hardware/gpio.h"
#include "hardware/pio.h"
#include "hardware/timer.h"

#define SENDER pio1
#define STATE_MACHINE 0
// Six clocks of the processor a bit: 24 MHz at 144 MHz, and 25 MHz is what the FPGA takes.
#define CLOCK_DIVIDER 3

#define RESET_US 1
#define CLEARING_US 1200
#define CLOCKS_TO_CDONE 128
#define WAKE_UP_CLOCKS 64 // at least 49

static enum { RESTING, CLEARING, SENDING } step;
static const uint8_t *bitstream;
static uint32_t bitstream_words, cleared_from_us;
static unsigned channel, program;

static void drive_bus(bool drive) {
    // Released, because SDI, SCK and CSN may be outputs of the circuit once it runs.
    pio_sm_set_consecutive_pindirs(SENDER, STATE_MACHINE, FPGA_SDI, 1, drive);
    pio_sm_set_consecutive_pindirs(SENDER, STATE_MACHINE, FPGA_SCK, 1, drive);
    gpio_put(FPGA_CSN, 1);
    gpio_set_dir(FPGA_CSN, drive);
}

void fpga_init(void) {
    // In reset until the first bitstream, so that it does not load what its flash holds.
    gpio_init(FPGA_CRESET);
    gpio_put(FPGA_CRESET, 0);
    gpio_set_dir(FPGA_CRESET, true);
    gpio_init(FPGA_CSN);
    gpio_pull_up(FPGA_CSN);
    gpio_init(FPGA_CDONE);
    gpio_pull_up(FPGA_CDONE);
    clock_gpio_init(FPGA_CLOCK, CLOCKS_CLK_GPOUT0_CTRL_AUXSRC_VALUE_CLK_USB, 1);

    program = (unsigned)pio_add_program(SENDER, &configure_program);
    pio_gpio_init(SENDER, FPGA_SDI);
    pio_gpio_init(SENDER, FPGA_SCK);
    pio_sm_config config = configure_program_get_default_config(program);
    sm_config_set_out_pins(&config, FPGA_SDI, 1);
    sm_config_set_sideset_pins(&config, FPGA_SCK);
    sm_config_set_out_shift(&config, false, true, 32);
    sm_config_set_fifo_join(&config, PIO_FIFO_JOIN_TX);
    sm_config_set_clkdiv_int_frac(&config, CLOCK_DIVIDER, 0);
    pio_sm_init(SENDER, STATE_MACHINE, program, &config);
    pio_sm_set_enabled(SENDER, STATE_MACHINE, true);

    channel = (unsigned)dma_claim_unused_channel(true);
    dma_channel_config transfer = dma_channel_get_default_config(channel);
    channel_config_set_transfer_data_size(&transfer, DMA_SIZE_32);
    channel_config_set_bswap(&transfer, true); // the first byte is the first to be sent
    channel_config_set_read_increment(&transfer, true);
    channel_config_set_write_increment(&transfer, false);
    channel_config_set_dreq(&transfer, pio_get_dreq(SENDER, STATE_MACHINE, true));
    dma_channel_configure(channel, &transfer, &SENDER->txf[STATE_MACHINE], NULL, 0, false);
}

static void wait_until_sent(void) {
    uint32_t stalled = 1u << (PIO_FDEBUG_TXSTALL_LSB + STATE_MACHINE);
    while (!pio_sm_is_tx_fifo_empty(SENDER, STATE_MACHINE)) tight_loop_contents();
    SENDER->fdebug = stalled;
    while (!(SENDER->fdebug & stalled)) tight_loop_contents();
}

static void give_clocks(unsigned count) { // a multiple of 32
    for (; count; count -= 32) pio_sm_put_blocking(SENDER, STATE_MACHINE, 0);
    wait_until_sent();
}

// Fewer than a word, by executing what the program would.
static void give_eight_clocks(void) {
    for (int i = 0; i < 8; i++) {
        pio_sm_exec(SENDER, STATE_MACHINE, pio_encode_nop() | pio_encode_sideset(1, 1));
        pio_sm_exec(SENDER, STATE_MACHINE, pio_encode_nop() | pio_encode_sideset(1, 0));
    }
}

void fpga_configure(const uint8_t *from, uint32_t size) {
    bitstream = from;
    bitstream_words = (size + 3) / 4;
    drive_bus(true);
    gpio_put(FPGA_CSN, 0); // low when reset ends: the FPGA listens instead of reading its flash
    gpio_put(FPGA_CRESET, 0);
    busy_wait_us_32(RESET_US);
    gpio_put(FPGA_CRESET, 1);
    cleared_from_us = timer_hw->timerawl;
    step = CLEARING;
}

enum fpga_state fpga_continue(void) {
    switch (step) {
    case RESTING:
        return fpga_cdone() ? FPGA_CONFIGURED : FPGA_REFUSED;
    case CLEARING:
        if (timer_hw->timerawl - cleared_from_us < CLEARING_US) return FPGA_BUSY;
        gpio_put(FPGA_CSN, 1);
        give_eight_clocks();
        gpio_put(FPGA_CSN, 0);
        dma_channel_transfer_from_buffer_now(channel, bitstream, bitstream_words);
        step = SENDING;
        return FPGA_BUSY;
    case SENDING:
        if (dma_channel_is_busy(channel)) return FPGA_BUSY;
        wait_until_sent();
        gpio_put(FPGA_CSN, 1);
        for (unsigned given = 0; given < CLOCKS_TO_CDONE && !fpga_cdone(); given += 32) give_clocks(32);
        give_clocks(WAKE_UP_CLOCKS);
        drive_bus(false);
        step = RESTING;
    }
    return fpga_continue();
}

void fpga_stop(void) {
    if (step == RESTING) return;
    gpio_put(FPGA_CRESET, 0);
    dma_channel_abort(channel);
    pio_sm_clear_fifos(SENDER, STATE_MACHINE);
    // The word that was being sent would go on with the next bitstream.
    pio_sm_restart(SENDER, STATE_MACHINE);
    pio_sm_exec(SENDER, STATE_MACHINE, pio_encode_jmp(program));
    drive_bus(false);
    step = RESTING;
}

const uint8_t *fpga_unsent(void) {
    if (step == CLEARING) return bitstream;
    if (step == SENDING && dma_channel_is_busy(channel)) {
        return (const uint8_t *)(uintptr_t)dma_channel_hw_addr(channel)->read_addr;
    }
    return NULL;
}

bool fpga_cdone(void) { return gpio_get(FPGA_CDONE); }
