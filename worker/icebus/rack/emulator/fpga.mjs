// An iCE40UP5K on the pins of the chip: takes the bitstream bit by bit, has the virtual FPGA say what the
// circuit does, raises CDONE, and drives the pins that the circuit would.

import { GPIOPinState } from './parts.mjs';

// As worker/firmware/boards/pico_ice.h has them.
const PINS = { sdi: 8, csn: 9, sck: 10, cdone: 26, creset: 27 };
// Pin of the FPGA's package, GPIO.
const COUNTED = [[27, 0], [25, 1], [21, 2], [19, 3], [26, 4], [23, 5], [20, 6], [18, 7]];

export const COUNTED_PINS = COUNTED.map(([pin]) => pin);

const FIRST_INPUT = 2; // of those that are free for samples
const WAKE_UP_CLOCKS = 49;
const TIME_CONSTANT_NS = 50_000; // as icebus.rack.firmware.framed.voltage has it for virtual boards
const BITSTREAM_ROOM = 200_000;

export class Fpga {
  // `configured` is given the bytes that came, and promises {cdone, rates: {pin: pulses a second}, …};
  // the chip is not run while the promise is open, so that no emulated time passes.
  constructor(chip, { configured, told }) {
    this.chip = chip;
    this.configured = configured;
    this.told = told;
    this.bytes = Buffer.alloc(BITSTREAM_ROOM);
    this.pending = null;
    this.outputs = COUNTED.map(([pin, gpio]) => new Output(chip, pin, gpio));
    this.#restart();
    this.wasClocked = false;
    chip.stepListeners.push(() => this.#watchClock());
    this.#onLevel(PINS.creset, (high) => (high ? this.#beginConfiguration() : this.#restart()));
    this.#onLevel(PINS.csn, (high) => this.#select(!high));
  }

  // What an input of the converter sees, as a part of its reference: a capacitor that a pin charges through
  // a resistor, the first pin for the first input, and so on. No board has them.
  voltage(input) {
    return this.outputs[input - FIRST_INPUT].settle();
  }

  // Drive a GPIO whatever the circuit does; null ends that.
  override(gpio, hz) {
    const output = this.outputs.find((one) => one.gpio === gpio);
    if (!output) throw new Error(`GPIO ${gpio} is not connected to the FPGA`);
    output.override(hz);
  }

  #onLevel(gpio, changed) {
    const pin = this.chip.mcu.gpio[gpio];
    const high = () => pin.value === GPIOPinState.High || pin.value === GPIOPinState.InputPullUp;
    let last = high();
    pin.addListener(() => {
      if (high() === last) return;
      last = !last;
      changed(last);
    });
  }

  #restart() {
    this.listening = false;
    this.behaviour = null;
    this.#setDone(false);
    for (const output of this.outputs) output.drive(0);
  }

  #beginConfiguration() {
    this.listening = true;
    this.size = this.bits = this.shifted = this.clocks = 0;
  }

  #setDone(high) {
    this.done = high;
    this.chip.mcu.gpio[PINS.cdone].setInputValue(high);
  }

  #select(selected) {
    this.selected = selected;
    this.clocks = 0;
    if (selected || !this.listening || !this.size) return;
    this.listening = false;
    const bytes = Buffer.from(this.bytes.subarray(0, this.size));
    this.chip.paused = true;
    this.pending = this.configured(bytes).then((behaviour) => {
      this.pending = null;
      this.chip.paused = false;
      this.behaviour = behaviour;
      this.told({ event: 'configured', bytes: bytes.length, ...behaviour });
    });
  }

  #watchClock() {
    const pins = this.chip.senderPins;
    const clocked = !!(pins & (1 << PINS.sck));
    const rises = clocked && !this.wasClocked;
    this.wasClocked = clocked;
    if (!rises) return;
    if (this.selected && this.listening) this.#takeBit((pins >> PINS.sdi) & 1);
    else if (this.behaviour?.cdone) this.#wakeUp();
  }

  #takeBit(bit) {
    this.shifted = ((this.shifted << 1) | bit) & 0xff;
    if (++this.bits % 8 === 0 && this.size < BITSTREAM_ROOM) this.bytes[this.size++] = this.shifted;
  }

  #wakeUp() {
    if (!this.done) {
      this.#setDone(true);
      this.clocks = 0;
    } else if (++this.clocks === WAKE_UP_CLOCKS) {
      for (const output of this.outputs) output.drive(this.behaviour.rates[output.pin] ?? 0);
    }
  }
}

// A pin that rises so many times a second, evenly, first after half a period.
class Output {
  constructor(chip, pin, gpio) {
    this.chip = chip;
    this.pin = pin;
    this.gpio = gpio;
    this.high = false;
    this.wanted = 0;
    this.overridden = null;
    this.charge = 0;
    this.chargedAt = 0;
    this.alarm = chip.clock.createAlarm(() => this.#toggle());
  }

  drive(hz) {
    this.wanted = hz;
    this.#start();
  }

  override(hz) {
    this.overridden = hz;
    this.#start();
  }

  #start() {
    const hz = this.overridden ?? this.wanted;
    this.alarm.cancel();
    this.#set(false);
    this.halfPeriod = hz ? 5e8 / hz : 0;
    this.due = this.chip.clock.nanos;
    if (hz) this.#schedule();
  }

  #schedule() {
    this.due += this.halfPeriod; // not from now on: rounding would add up
    this.alarm.schedule(this.due - this.chip.clock.nanos);
  }

  #toggle() {
    this.#set(!this.high);
    this.#schedule();
  }

  // The voltage at the capacitor now.
  settle() {
    const now = this.chip.clock.nanos;
    const target = this.high ? 1 : 0;
    this.charge = target + (this.charge - target) * Math.exp((this.chargedAt - now) / TIME_CONSTANT_NS);
    this.chargedAt = now;
    return this.charge;
  }

  #set(high) {
    this.settle(); // with the level that was
    this.high = high;
    this.chip.mcu.gpio[this.gpio].setInputValue(high);
    this.chip.settleCounters();
  }
}
