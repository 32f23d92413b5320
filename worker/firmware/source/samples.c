#include "samples.h"

#include "board_pins.h"
#include "hardware/adc.h"
#include "hardware/dma.h"
#include "hardware/irq.h"
#include "hardware/sync.h"
#include "hardware/timer.h"
#include "limits.h"

#define ADC_CLOCK_HZ 48000000

static uint16_t values[MOST_SAMPLES];
static unsigned channel;
static uint32_t started_us;
static volatile uint32_t ended_us;
static volatile bool running;

static void __not_in_flash_func(all_taken)(void) {
    adc_run(false);
    ended_us = timer_hw->timerawl;
    // One more has begun, and would be taken for the temperature.
    while (!(adc_hw->cs & ADC_CS_READY_BITS)) tight_loop_contents();
    // While the converter still asks for them to be taken: else it would go on asking, and the next
    // transfer begin without a sample.
    while (!(adc_hw->fcs & ADC_FCS_EMPTY_BITS)) (void)adc_hw->fifo;
    dma_channel_acknowledge_irq0(channel);
    running = false;
}

void samples_init(void) {
    adc_init();
    for (unsigned i = 0; i < adc_input_count; i++) adc_gpio_init(ADC_BASE_PIN + adc_inputs[i]);
    channel = (unsigned)dma_claim_unused_channel(true);
    dma_channel_set_irq0_enabled(channel, true);
    irq_set_exclusive_handler(DMA_IRQ_0, all_taken);
    irq_set_enabled(DMA_IRQ_0, true);
}

bool samples_has_input(uint8_t input) {
    for (unsigned i = 0; i < adc_input_count; i++) {
        if (adc_inputs[i] == input) return true;
    }
    return false;
}

void samples_start(uint8_t input, uint32_t rate_hz, uint16_t count) {
    adc_select_input(input);
    adc_fifo_setup(true, true, 1, false, false);
    adc_fifo_drain();
    // The divider has eight bits of fraction and counts the clocks between two samples, less one.
    adc_hw->div = (uint32_t)(((uint64_t)ADC_CLOCK_HZ << 8) / rate_hz) - (1 << 8);
    dma_channel_config config = dma_channel_get_default_config(channel);
    channel_config_set_transfer_data_size(&config, DMA_SIZE_16);
    channel_config_set_read_increment(&config, false);
    channel_config_set_write_increment(&config, true);
    channel_config_set_dreq(&config, DREQ_ADC);
    // A transfer that ends at once must not stop the converter before it was started.
    uint32_t interrupts = save_and_disable_interrupts();
    running = true;
    dma_channel_configure(channel, &config, values, &adc_hw->fifo, count, true);
    started_us = timer_hw->timerawl;
    adc_run(true);
    restore_interrupts(interrupts);
}

bool samples_running(void) { return running; }

void samples_stop(void) {
    uint32_t interrupts = save_and_disable_interrupts();
    if (running) {
        dma_channel_set_irq0_enabled(channel, false); // aborting may raise it (RP2040-E13)
        dma_channel_abort(channel);
        all_taken();
        dma_channel_set_irq0_enabled(channel, true);
    }
    restore_interrupts(interrupts);
    // While its request of the DMA is on: the emulator keeps a request that is switched off before the
    // FIFO is empty, and the next start is served by it at once. What the chip does is unverified.
    adc_fifo_drain();
    adc_fifo_setup(false, false, 1, false, false);
}

const uint16_t *samples_values(void) { return values; }

uint32_t samples_started_us(void) { return started_us; }

uint32_t samples_ended_us(void) { return ended_us; }
