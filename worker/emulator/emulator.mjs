// An emulated pico-ice: runs an image of the firmware, unchanged. Its serial port is a TCP port of this
// machine; a connection stands for an open port. Lines of JSON on standard output say what happens, lines
// on standard input are commands. It ends with its standard input.
//
//   node emulator.mjs --image UF2 --boot-rom JSON -- PYTHON counts.py
//
// Commands: {"command": …}
//   "baud", "rate"            set the baud rate; 1200 restarts the board into its bootloader
//   "skip", "seconds"         let time pass while the processor does next to nothing
//   "hang"                    the firmware's loop stands still
//   "power"                   take the power away and give it back
//   "pulses", "gpio", "hz"    drive a pin, whatever the circuit does
//   "voltage", "input", "values"   what the converter reads, one after another, again and again

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import readline from 'node:readline';
import { parseArgs } from 'node:util';
import { Chip, flashOf } from './chip.mjs';
import { COUNTED_PINS, Fpga } from './fpga.mjs';
import { UsbHost } from './usb_host.mjs';

const RP2040_FAMILY = 0xe48bff56;
const INSTRUCTIONS_AT_ONCE = 5000;
const MOST_OUTGOING = 65536;
const ROOM_TEMPERATURE = 891; // what the converter reads of the sensor at 20 degrees

function tell(event) {
  process.stdout.write(JSON.stringify({ ...event, emulated_us: Math.round(board.chip.clock.micros) }) + '\n');
}

// Asks the virtual FPGA, one bitstream after another.
class Counts {
  constructor([program, ...args]) {
    this.process = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.waiting = [];
    readline.createInterface({ input: this.process.stdout }).on('line', (line) => this.waiting.shift()(JSON.parse(line)));
    this.process.on('exit', () => process.exit(1));
  }

  ask(bytes) {
    this.process.stdin.write(JSON.stringify({ bitstream: bytes.toString('base64'), pins: COUNTED_PINS }) + '\n');
    return new Promise((resolve) => this.waiting.push(resolve));
  }
}

class Board {
  constructor(bootRom, flash, counts) {
    this.bootRom = bootRom;
    this.flash = flash;
    this.counts = counts;
    this.connection = null;
    this.voltages = {};
    this.state = 'off';
  }

  start(watchdog) {
    this.state = 'starting';
    this.chip = new Chip(this.bootRom, this.flash, { watchdog, restarted: (into) => (this.restart = into) });
    this.fpga = new Fpga(this.chip, { configured: (bytes) => this.counts.ask(bytes), told: tell });
    this.usb = new UsbHost(this.chip, {
      identified: (device) => this.#identified(device),
      received: (data) => this.connection?.write(data),
    });
    this.#connectConverter();
  }

  // What happens to a port when its device goes: the connection ends.
  #goAway(state) {
    this.state = state;
    this.connection?.destroy();
    this.connection = null;
    tell({ event: state });
  }

  async run() {
    for (;;) {
      if (this.state === 'bootloader') {
        await new Promise((resolve) => (this.wake = resolve));
        continue;
      }
      this.chip.run(INSTRUCTIONS_AT_ONCE);
      if (this.restart) this.#restarted();
      if (this.fpga.pending) await this.fpga.pending;
      await new Promise(setImmediate);
    }
  }

  #restarted() {
    const into = this.restart;
    this.restart = null;
    this.#goAway(into === 'bootloader' ? 'bootloader' : 'restarting');
    if (into === 'application') this.start(this.chip.watchdogState);
  }

  powerCycle() {
    this.#goAway('restarting');
    this.restart = null;
    this.start();
    this.wake?.();
  }

  #identified(device) {
    this.state = 'application';
    tell({ event: 'application', ...device });
  }

  // A connection opens the port. Like a port it is open once: the next one waits until this one ends.
  connect(socket) {
    socket.setNoDelay();
    socket.on('error', () => {});
    if (this.connection) {
      this.connection.once('close', () => this.connect(socket));
      return;
    }
    if (this.state !== 'application' || socket.destroyed) {
      socket.destroy();
      return;
    }
    this.connection = socket;
    const { usb } = this;
    socket.on('close', () => {
      if (this.connection !== socket) return;
      this.connection = null;
      usb.forget();
      usb.openPort(false);
    });
    usb.openPort(true).then(() => socket.on('data', (data) => this.#send(socket, usb, data)));
  }

  #send(socket, usb, data) {
    usb.write(data);
    if (usb.outgoing.length <= MOST_OUTGOING) return;
    const resume = () => (usb.outgoing.length > MOST_OUTGOING / 2 ? setImmediate(resume) : socket.resume());
    socket.pause();
    setImmediate(resume);
  }

  #connectConverter() {
    const { adc } = this.chip.mcu;
    const sensor = adc.numChannels - 1;
    const START_ONE = 1 << 2;
    adc.onADCRead = (input) => {
      adc.cs &= ~START_ONE; // as the chip does; else the next write to the register starts another
      const values = this.voltages[input] ?? [input === sensor ? ROOM_TEMPERATURE : 0];
      adc.channelValues[input] = values[0];
      values.push(values.shift());
      adc.currentChannel = input;
      adc.sampleAlarm.schedule(adc.sampleTime * 1000);
    };
  }

  carryOut({ command, ...how }) {
    if (command === 'baud') this.usb.setBaud(how.rate);
    else if (command === 'skip') this.chip.skip(how.seconds);
    else if (command === 'hang') this.chip.hang();
    else if (command === 'power') this.powerCycle();
    else if (command === 'pulses') this.fpga.override(how.gpio, how.hz);
    else if (command === 'voltage') this.voltages[how.input] = how.values;
    else throw new Error(`unknown command ${command}`);
    tell({ event: 'done', command });
  }
}

const { values: options, positionals } = parseArgs({
  options: { image: { type: 'string' }, 'boot-rom': { type: 'string' } },
  allowPositionals: true,
});
const bootRom = Uint32Array.from(JSON.parse(fs.readFileSync(options['boot-rom'])));
const board = new Board(bootRom, flashOf(fs.readFileSync(options.image), RP2040_FAMILY), new Counts(positionals));
board.start();
const server = net.createServer((socket) => board.connect(socket));
server.listen(0, '127.0.0.1', () => tell({ event: 'listening', port: server.address().port }));
readline
  .createInterface({ input: process.stdin })
  .on('line', (line) => board.carryOut(JSON.parse(line)))
  .on('close', () => process.exit(0));
await board.run();
