// The RP2040 of rp2040js, with what it lacks for our firmware: PIO that keeps time, and resets.
import { giveFlashId } from './flash_id.mjs';
import { ConsoleLogger, LogLevel, RP2040 } from './parts.mjs';

const FLASH_ADDRESS = 0x10000000;
const WATCHDOG = 0x40058;
const COUNTERS = 0; // the PIO that counts edges
const ADC_START_MANY = 1 << 3;
const SENDER = 1; // the PIO that configures the FPGA

// The boot ROM continues at an address of the program's choice if it finds this in the watchdog's
// registers; the address of its own USB bootloader is within the ROM.
const VECTOR_MAGIC = 0xb007c0d3;
const ROM_SIZE = 0x4000;

// While time is skipped: many turns of the firmware's loop.
const INSTRUCTIONS_A_SECOND = 20_000;

const SPIN = { address: 0x20040ff0, instruction: 0xe7fe }; // a branch to itself, in the other core's stack

export class Chip {
  // `restarted` is called with 'application' or 'bootloader' when the chip has reset itself.
  constructor({ bootRom, flash, flashId }, { watchdog, restarted }) {
    this.mcu = new RP2040();
    this.clock = this.mcu.clock;
    this.mcu.logger = new ConsoleLogger(LogLevel.Error, true);
    this.mcu.loadBootrom(bootRom);
    this.mcu.flash.set(flash);
    giveFlashId(this.mcu, flashId);
    // The boot ROM itself is skipped: it would read flash by commands that are not emulated.
    this.mcu.core.PC = FLASH_ADDRESS;
    this.stopped = false; // for good
    this.paused = false;
    this.hung = false; // its loop, not its interrupts
    this.stepListeners = [];
    this.senderCycles = 0;
    for (const pio of this.mcu.pio) pio.run = () => {}; // it would step by the host's clock
    this.#settleCountersWhenStarted();
    this.watchdog = this.mcu.peripherals[WATCHDOG];
    if (watchdog) {
      this.watchdog.reason = watchdog.reason;
      this.watchdog.scratchData.set(watchdog.scratch);
    }
    this.watchdog.onWatchdogTrigger = () => {
      if (this.stopped) return;
      this.stopped = true;
      this.watchdog.alarm.enable = false; // it would come again at once, for ever
      const [, , , , magic, , , entry] = this.watchdog.scratchData;
      restarted(magic === VECTOR_MAGIC && entry < ROM_SIZE ? 'bootloader' : 'application');
    };
  }

  // What a reset leaves as it was.
  get watchdogState() {
    return { reason: this.watchdog.reason, scratch: Uint32Array.from(this.watchdog.scratchData) };
  }

  // It measures, or hangs, which its watchdog is to notice.
  get busy() {
    const { pio, adc } = this.mcu;
    return this.hung || !!(adc.cs & ADC_START_MANY) || pio[COUNTERS].machines.some(({ enabled }) => enabled);
  }

  get sender() {
    return this.mcu.pio[SENDER].machines[0];
  }

  get senderPins() {
    return this.mcu.pio[SENDER].pinValues;
  }

  // The firmware's loop stands still from now on; interrupts are still served.
  hang() {
    this.hung = true;
    this.mcu.writeUint16(SPIN.address, SPIN.instruction);
    this.mcu.core.PC = SPIN.address;
  }

  run(instructions) {
    const { mcu, clock } = this;
    for (let i = 0; i < instructions && !this.stopped && !this.paused; i++) {
      if (mcu.core.waiting) {
        clock.tick(Math.max(clock.nanosToNextAlarm, 8));
        continue;
      }
      const cycles = mcu.core.executeInstruction();
      clock.tick((cycles * 1e9) / mcu.clkSys);
      this.#stepSender(cycles);
    }
  }

  // Time passes faster than the processor runs: it only runs often enough to keep its watchdog quiet.
  skip(seconds) {
    for (let passed = 0; passed < seconds && !this.stopped; passed++) {
      this.clock.tick(1e9);
      this.run(INSTRUCTIONS_A_SECOND);
    }
  }

  // Let the counters take in what is on their pins: they wait for an edge then.
  settleCounters() {
    for (const machine of this.mcu.pio[COUNTERS].machines) {
      for (let i = 0; machine.enabled && !machine.waiting && i < 4; i++) machine.step();
    }
  }

  #settleCountersWhenStarted() {
    const counters = this.mcu.pio[COUNTERS];
    const write = counters.writeUint32.bind(counters);
    counters.writeUint32 = (offset, value) => {
      write(offset, value);
      this.settleCounters();
    };
  }

  #stepSender(cycles) {
    const { sender } = this;
    if (!sender.enabled || (sender.waiting && sender.txFIFO.empty)) {
      this.senderCycles = 0;
      return;
    }
    const divider = sender.clockDivInt + sender.clockDivFrac / 256;
    this.senderCycles += cycles;
    while (this.senderCycles >= divider) {
      this.senderCycles -= divider;
      sender.step();
      for (const listener of this.stepListeners) listener();
    }
  }
}
