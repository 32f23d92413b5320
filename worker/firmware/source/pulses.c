#include "pulses.h"

#include "board_pins.h"
#include "hardware/irq.h"
#include "hardware/pio.h"
#include "hardware/sync.h"
#include "hardware/timer.h"
#include "pulses.pio.h"

#define COUNTERS pio0

static unsigned program, alarm;
static uint32_t started_us;
static volatile uint32_t ended_us;
static volatile bool running;

static void __not_in_flash_func(stop_counters)(void) {
    COUNTERS->ctrl = 0;
    ended_us = timer_hw->timerawl;
    running = false;
}

static void __not_in_flash_func(window_ends)(void) {
    stop_counters();
    hw_clear_bits(&timer_hw->inte, 1u << alarm);
    timer_hw->intr = 1u << alarm;
}

void pulses_init(void) {
    for (unsigned i = 0; i < counted_pin_count; i++) {
        gpio_init(counted_pins[i].gpio);
        gpio_disable_pulls(counted_pins[i].gpio);
    }
    program = (unsigned)pio_add_program(COUNTERS, &count_edges_program);
    alarm = (unsigned)hardware_alarm_claim_unused(true);
    unsigned irq = hardware_alarm_get_irq_num(alarm);
    irq_set_exclusive_handler(irq, window_ends);
    irq_set_priority(irq, PICO_HIGHEST_IRQ_PRIORITY);
    irq_set_enabled(irq, true);
}

static int gpio_of(uint8_t pin) {
    for (unsigned i = 0; i < counted_pin_count; i++) {
        if (counted_pins[i].fpga_pin == pin) return counted_pins[i].gpio;
    }
    return -1;
}

bool pulses_has_pin(uint8_t pin) { return gpio_of(pin) >= 0; }

void __not_in_flash_func(pulses_start)(const uint8_t *pins, unsigned pin_count, uint32_t window_us) {
    for (unsigned i = 0; i < pin_count; i++) {
        pio_sm_config config = count_edges_program_get_default_config(program);
        sm_config_set_in_pins(&config, (unsigned)gpio_of(pins[i]));
        pio_sm_init(COUNTERS, i, program, &config);
        pio_sm_exec(COUNTERS, i, pio_encode_mov_not(pio_x, pio_null));
    }
    uint32_t interrupts = save_and_disable_interrupts();
    // Begin with a microsecond: the window then is whole microseconds, as the timer counts them.
    uint32_t before = timer_hw->timerawl;
    while ((started_us = timer_hw->timerawl) == before) tight_loop_contents();
    COUNTERS->ctrl = (1u << pin_count) - 1; // all at once
    running = true;
    timer_hw->intr = 1u << alarm;
    hw_set_bits(&timer_hw->inte, 1u << alarm);
    timer_hw->alarm[alarm] = started_us + window_us;
    restore_interrupts(interrupts);
}

bool pulses_running(void) { return running; }

void pulses_stop(void) {
    uint32_t interrupts = save_and_disable_interrupts();
    if (running) {
        stop_counters();
        timer_hw->armed = 1u << alarm;
        hw_clear_bits(&timer_hw->inte, 1u << alarm);
    }
    restore_interrupts(interrupts);
}

uint32_t pulses_read(unsigned place) {
    pio_sm_exec(COUNTERS, place, pio_encode_mov(pio_isr, pio_x));
    pio_sm_exec(COUNTERS, place, pio_encode_push(false, false));
    return ~pio_sm_get(COUNTERS, place);
}

uint32_t pulses_started_us(void) { return started_us; }

uint32_t pulses_ended_us(void) { return ended_us; }
