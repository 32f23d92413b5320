#include "measurement.h"

#include "bitstream.h"
#include "fpga.h"
#include "hardware/timer.h"
#include "pulses.h"
#include "queue.h"
#include "replies.h"
#include "samples.h"
#include "temperature.h"

typedef struct {
    uint32_t sequence;
    measure_request_t request;
    result_t result;
} measurement_t;

static measurement_t current, next;
static enum phase phase;
static bool next_is_ready, preparing, aborting, abort_is_told;
static uint32_t configured_from_us, last_ended_us;
static bool any_before;

static uint32_t now_us(void) { return timer_hw->timerawl; }

static bool counts_pulses(const measurement_t *of) { return of->request.kind == MEASUREMENT_KIND_PULSES; }

static void end(measurement_t *measurement, enum outcome outcome) {
    measurement->result.outcome = (uint8_t)outcome;
    measurement->result.cdone = fpga_cdone();
    measurement->result.temperature_mc = temperature_mc();
    results_add(measurement->sequence, &measurement->result);
}

static void end_current(enum outcome outcome) {
    phase = PHASE_IDLE;
    end(&current, outcome);
}

static void start_next(void) {
    if (!next_is_ready) return;
    next_is_ready = false;
    current = next;
    if (current.result.outcome == OUTCOME_BITSTREAM_DAMAGED) {
        end_current(OUTCOME_BITSTREAM_DAMAGED);
        return;
    }
    configured_from_us = now_us();
    fpga_configure(bitstream_buffer(), current.request.bitstream_size);
    phase = PHASE_CONFIGURING;
}

static void start_measuring(void) {
    const measure_request_t *request = &current.request;
    uint32_t started_us;
    current.result.configure_us = now_us() - configured_from_us;
    if (counts_pulses(&current)) {
        pulses_start(request->pins, request->pin_count, request->window_us);
        started_us = pulses_started_us();
    } else {
        samples_start(request->adc_input, request->rate_hz, request->sample_count);
        started_us = samples_started_us();
    }
    if (any_before) current.result.gap_us = started_us - last_ended_us;
    phase = PHASE_MEASURING;
}

static void configuring(void) {
    switch (fpga_continue()) {
    case FPGA_BUSY:
        break;
    case FPGA_REFUSED:
        current.result.configure_us = now_us() - configured_from_us;
        end_current(OUTCOME_NOT_CONFIGURED);
        break;
    case FPGA_CONFIGURED:
        // There is one buffer for samples, and its last ones may still have to be sent.
        if (counts_pulses(&current) || !results_need_samples()) start_measuring();
    }
}

// What was measured until now, be it all or not.
static void take_result(void) {
    if (counts_pulses(&current)) {
        current.result.window_us = pulses_ended_us() - pulses_started_us();
        current.result.pin_count = current.request.pin_count;
        for (unsigned i = 0; i < current.request.pin_count; i++) current.result.pulses[i] = pulses_read(i);
        last_ended_us = pulses_ended_us();
    } else {
        samples_stop();
        current.result.window_us = samples_ended_us() - samples_started_us();
        last_ended_us = samples_ended_us();
    }
    any_before = true;
}

static void measuring(void) {
    if (pulses_running() || samples_running()) return;
    take_result();
    if (!counts_pulses(&current)) current.result.sample_count = current.request.sample_count;
    end_current(OUTCOME_MEASURED);
    start_next();
}

void measurement_continue(void) {
    switch (phase) {
    case PHASE_IDLE:
        start_next();
        break;
    case PHASE_CONFIGURING:
        configuring();
        break;
    case PHASE_MEASURING:
        measuring();
    }
}

void measurement_prepare(void (*meanwhile)(void)) {
    if (next_is_ready || !queue_length()) return;
    const queued_t *first = queue_at(0);
    next = (measurement_t){.sequence = first->sequence, .request = first->request};
    preparing = true;
    uint32_t started_us = now_us();
    enum bitstream_state state = bitstream_unpack(first, meanwhile);
    next.result.inflate_us = now_us() - started_us;
    queue_remove_first();
    preparing = false;
    if (state == BITSTREAM_STOPPED) {
        if (abort_is_told) end(&next, OUTCOME_ABORTED);
        aborting = false;
        return;
    }
    next.result.outcome = state == BITSTREAM_READY ? OUTCOME_MEASURED : OUTCOME_BITSTREAM_DAMAGED;
    next_is_ready = true;
}

static void abort_current(void) {
    if (phase == PHASE_IDLE) return;
    if (phase == PHASE_CONFIGURING) fpga_stop();
    if (phase == PHASE_MEASURING) {
        pulses_stop();
        samples_stop();
        take_result();
    }
    phase = PHASE_IDLE;
    if (abort_is_told) end(&current, OUTCOME_ABORTED);
}

void measurements_abort(bool tell) {
    abort_is_told = tell;
    abort_current();
    if (next_is_ready && tell) end(&next, OUTCOME_ABORTED);
    next_is_ready = false;
    if (preparing) {
        aborting = true;
        bitstream_stop();
    }
    unsigned kept = preparing ? 1 : 0; // the bytes of this one are being read
    for (unsigned i = kept; tell && i < queue_length(); i++) {
        measurement_t waiting = {.sequence = queue_at(i)->sequence, .request = queue_at(i)->request};
        end(&waiting, OUTCOME_ABORTED);
    }
    queue_truncate(kept);
}

bool measurements_aborting(void) { return aborting; }

unsigned measurements_waiting(void) { return queue_length() + next_is_ready; }

unsigned measurements_owed(void) { return measurements_waiting() + (phase != PHASE_IDLE); }

bool measurements_have_sequence(uint32_t sequence) {
    if (phase != PHASE_IDLE && current.sequence == sequence) return true;
    if (next_is_ready && next.sequence == sequence) return true;
    for (unsigned i = 0; i < queue_length(); i++) {
        if (queue_at(i)->sequence == sequence) return true;
    }
    return false;
}

enum phase measurement_phase(void) { return phase; }

uint32_t measurement_sequence(void) { return phase == PHASE_IDLE ? 0 : current.sequence; }
