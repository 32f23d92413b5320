// An emulated pico-ice: runs what is in its flash, unchanged. Lines of JSON on standard input are commands,
// lines on standard output say what happens. It ends with its standard input.
//
//   node emulator.mjs --boot-rom JSON -- PYTHON -m icebus.rack.emulator.counts
//
// Commands: {"command": …}
//   "start", "flash", "id"    the first: what is in flash (base64), and its unique id (hexadecimal)
//   "open"                    a host opens the serial port
//   "write", "data"           it writes (base64)
//   "baud", "rate"            it sets the baud rate; 1200 restarts the board into its bootloader
//   "close"                   it closes the port
//   "power"                   take the power away and give it back
//   "pause", "resume"         the chip stands still, and goes on
//   "hang"                    the firmware's loop stands still
//   "skip", "seconds"         let time pass while the processor does next to nothing
//   "pulses", "gpio", "hz"    drive a pin, whatever the circuit does
//   "voltage", "input", "values"   what the converter reads, one after another, again and again; without,
//                             what a pin of the FPGA charges a capacitor to
//
// Events: {"event": …, "emulated_us"}
//   "application"             a USB device has said what it is: "vendor", "product_id", "manufacturer", …
//   "restarting", "bootloader"   it is gone, and starts again or waits for firmware
//   "data", "data"            it has sent to an open port (base64)
//   "taken", "bytes"          of what was written, the device has taken so many more, or never will
//   "closed"                  the port is
//   "configured", "bytes", …  the FPGA has a bitstream, and does this
//   "done", "name"            of each command other than those of the port

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import readline from 'node:readline';
import { parseArgs } from 'node:util';
import { Chip } from './chip.mjs';
import { COUNTED_PINS, Fpga } from './fpga.mjs';
import { Port } from './port.mjs';
import { UsbHost } from './usb_host.mjs';

const INSTRUCTIONS_AT_ONCE = 5000;
const RESTING_MS = 4; // between turns of a board that rests: it leaves the machine to others
const RESTS_AFTER_US = 500_000; // in which it measured nothing and nobody spoke: what was asked for is done
const TAKEN_AT_ONCE = 4096;
const FULL_SCALE = 4095; // of the converter
const ROOM_TEMPERATURE = 891; // what the converter reads of the sensor at 20 degrees

const later = (ms) => new Promise((resolve) => (ms ? setTimeout(resolve, ms) : setImmediate(resolve)));

// Asks the virtual FPGA, one bitstream after another.
class Counts {
  constructor([program, ...args]) {
    this.process = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.waiting = [];
    readline.createInterface({ input: this.process.stdout }).on('line', (line) => this.waiting.shift()(JSON.parse(line)));
    this.process.on('exit', (code, signal) => {
      console.error(`emulator: the virtual FPGA ended (${signal ?? code})`);
      process.exit(1);
    });
    this.process.stdin.on('error', () => {}); // it has ended, which is told above
  }

  ask(bytes) {
    this.process.stdin.write(JSON.stringify({ bitstream: bytes.toString('base64'), pins: COUNTED_PINS }) + '\n');
    return new Promise((resolve) => this.waiting.push(resolve));
  }
}

class Board {
  constructor(hardware, counts) {
    this.hardware = hardware;
    this.counts = counts;
    this.voltages = {};
    this.state = 'off';
  }

  start(watchdog) {
    this.state = 'starting';
    this.untold = 0;
    this.busyAt = 0;
    this.chip = new Chip(this.hardware, { watchdog, restarted: (into) => (this.restart = into) });
    this.fpga = new Fpga(this.chip, { configured: (bytes) => this.counts.ask(bytes), told: (event) => this.tell(event) });
    this.usb = new UsbHost(this.chip, {
      identified: (device) => this.#identified(device),
      received: (data) => this.#received(data),
      taken: (bytes) => this.#taken(bytes),
    });
    this.port = new Port(this.usb, (event) => this.tell({ event }));
    this.#connectConverter();
  }

  tell(event) {
    process.stdout.write(JSON.stringify({ ...event, emulated_us: Math.round(this.chip.clock.micros) }) + '\n');
  }

  async run() {
    for (;;) {
      if (this.state === 'bootloader' || this.still) {
        await new Promise((resolve) => (this.wake = resolve));
        continue;
      }
      this.chip.run(INSTRUCTIONS_AT_ONCE);
      if (this.restart) this.#restarted();
      if (this.fpga.pending) await this.fpga.pending;
      await later(this.#resting ? RESTING_MS : 0);
    }
  }

  get #resting() {
    const { micros } = this.chip.clock;
    if (this.state !== 'application' || this.port.busy || this.chip.busy) this.busyAt = micros;
    return micros > this.busyAt + RESTS_AFTER_US;
  }

  #goAway(state) {
    this.port.leave();
    this.state = state;
    this.tell({ event: state });
  }

  #restarted() {
    const into = this.restart;
    this.restart = null;
    this.#goAway(into === 'bootloader' ? 'bootloader' : 'restarting');
    if (into === 'application') this.start(this.chip.watchdogState);
  }

  #powerCycle() {
    this.#goAway('restarting');
    this.restart = null;
    this.start();
    this.wake?.();
  }

  #identified(device) {
    this.state = 'application';
    this.tell({ event: 'application', ...device });
  }

  #received(data) {
    this.busyAt = this.chip.clock.micros;
    if (this.port.opened) this.tell({ event: 'data', data: data.toString('base64') });
  }

  #taken(bytes) {
    this.busyAt = this.chip.clock.micros;
    this.untold += bytes;
    if (this.untold < TAKEN_AT_ONCE && this.usb.outgoing.length) return;
    this.tell({ event: 'taken', bytes: this.untold });
    this.untold = 0;
  }

  #connectConverter() {
    const { adc } = this.chip.mcu;
    const sensor = adc.numChannels - 1;
    const START_ONE = 1 << 2;
    adc.onADCRead = (input) => {
      adc.cs &= ~START_ONE; // as the chip does; else the next write to the register starts another
      const values = this.voltages[input];
      if (values) values.push((adc.channelValues[input] = values.shift()));
      else if (input === sensor) adc.channelValues[input] = ROOM_TEMPERATURE;
      else adc.channelValues[input] = Math.round(FULL_SCALE * this.fpga.voltage(input));
      adc.currentChannel = input;
      adc.sampleAlarm.schedule(adc.sampleTime * 1000);
    };
  }

  carryOut({ command, ...how }) {
    if (this.#useOfPort(command, how)) return;
    if (command === 'skip') this.chip.skip(how.seconds);
    else if (command === 'hang') this.chip.hang();
    else if (command === 'power') this.#powerCycle();
    else if (command === 'pause') this.still = true;
    else if (command === 'resume') {
      this.still = false;
      this.wake?.();
    } else if (command === 'pulses') this.fpga.override(how.gpio, how.hz);
    else if (command === 'voltage') this.voltages[how.input] = how.values;
    else throw new Error(`unknown command ${command}`);
    this.tell({ event: 'done', command });
  }

  #useOfPort(command, how) {
    if (command === 'open') this.port.open();
    else if (command === 'write') this.port.write(Buffer.from(how.data, 'base64'));
    else if (command === 'baud') this.port.setBaud(how.rate);
    else if (command === 'close') this.port.close();
    else return false;
    return true;
  }
}

const { values: options, positionals } = parseArgs({
  options: { 'boot-rom': { type: 'string' } },
  allowPositionals: true,
});
const bootRom = Uint32Array.from(JSON.parse(fs.readFileSync(options['boot-rom'])));
const counts = new Counts(positionals);
let board = null;

function start({ command, flash, id }) {
  if (command !== 'start') throw new Error(`${command} before start`);
  board = new Board({ bootRom, flash: Buffer.from(flash, 'base64'), flashId: Buffer.from(id, 'hex') }, counts);
  board.start();
  board.run();
}

readline
  .createInterface({ input: process.stdin })
  .on('line', (line) => (board ? board.carryOut(JSON.parse(line)) : start(JSON.parse(line))))
  .on('close', () => process.exit(0));
process.stdout.on('error', () => process.exit(0)); // nobody listens any more
