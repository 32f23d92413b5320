// The host at the other end of the chip's USB: finds out what the device is, and talks to its first
// serial port. It takes what the device sends at once, and sends at the pace of a full-speed bus.

const PACKET_SIZE = 64;
const PACKET_US = 55; // 64 bytes: 0.89 MB/s once the time that the firmware needs is added
const STATUS_NS = 100_000;
const LONGEST_CLOSING_NS = 1e9; // Linux gives a device 30 s to take what is left; ours takes it at once or never
const DATA_ENDPOINT = 2;

const DEVICE_TO_HOST = 0x80;
const REQUEST = { setAddress: 5, getDescriptor: 6, setConfiguration: 9, setLineCoding: 0x20, setControlLineState: 0x22 };
const DESCRIPTOR = { device: 1, configuration: 2, string: 3 };
const CLASS_INTERFACE = 0x21;
const [DTR, RTS] = [1, 2];

export class UsbHost {
  // `identified` is called with what the device says of itself, `received` with what it sends, `taken` with
  // the number of bytes that it took, or that were forgotten.
  constructor(chip, { identified, received, taken }) {
    this.usb = chip.mcu.usbCtrl;
    this.identified = identified;
    this.received = received;
    this.taken = taken;
    this.whenSent = null;
    this.closing = chip.clock.createAlarm(() => this.#allSent());
    this.transfers = [];
    this.outgoing = Buffer.alloc(0);
    this.armed = 0; // bytes that the device is ready to take
    this.resets = 0;
    this.next = chip.clock.createAlarm(() => this.#finish());
    this.usb.onUSBEnabled = () => this.usb.resetDevice();
    this.usb.onResetReceived = () => {
      if (this.resets++ === 0) this.#identify();
    };
    this.usb.onEndpointWrite = (endpoint, data) => this.#deviceSends(endpoint, Buffer.from(data));
    this.usb.onEndpointRead = (endpoint, size) => this.#deviceTakes(endpoint, size);
  }

  write(data) {
    this.outgoing = Buffer.concat([this.outgoing, data]);
    this.#send();
  }

  forget() {
    if (this.outgoing.length) this.taken(this.outgoing.length);
    this.outgoing = Buffer.alloc(0);
    this.#allSent();
  }

  // Waits until the device has taken everything, or will not.
  sent() {
    if (!this.outgoing.length) return Promise.resolve();
    this.closing.schedule(LONGEST_CLOSING_NS);
    return new Promise((resolve) => (this.whenSent = resolve));
  }

  #allSent() {
    this.closing.cancel();
    this.whenSent?.();
    this.whenSent = null;
  }

  openPort(open) {
    return this.#control(CLASS_INTERFACE, REQUEST.setControlLineState, open ? DTR | RTS : 0);
  }

  setBaud(rate) {
    const coding = Buffer.alloc(7);
    coding.writeUInt32LE(rate, 0);
    coding[6] = 8; // data bits
    return this.#control(CLASS_INTERFACE, REQUEST.setLineCoding, 0, coding);
  }

  async #identify() {
    const device = await this.#descriptor(DESCRIPTOR.device, 0, 18);
    await this.#control(0, REQUEST.setAddress, 1);
    const head = await this.#descriptor(DESCRIPTOR.configuration, 0, 9);
    await this.#descriptor(DESCRIPTOR.configuration, 0, head.readUInt16LE(2));
    const strings = [];
    for (const index of [14, 15, 16]) strings.push(await this.#string(device[index]));
    await this.#control(0, REQUEST.setConfiguration, 1);
    const [manufacturer, product, serial] = strings;
    this.identified({ vendor: device.readUInt16LE(8), product_id: device.readUInt16LE(10), manufacturer, product, serial });
  }

  #descriptor(type, index, size, language = 0) {
    return this.#control(DEVICE_TO_HOST, REQUEST.getDescriptor, (type << 8) | index, null, size, language);
  }

  async #string(index) {
    if (!index) return '';
    const ENGLISH = 0x409;
    const descriptor = await this.#descriptor(DESCRIPTOR.string, index, 255, ENGLISH);
    return descriptor.subarray(2).toString('utf16le');
  }

  #control(type, request, value, data = null, size = data?.length ?? 0, index = 0) {
    const setup = Buffer.alloc(8);
    setup[0] = type;
    setup[1] = request;
    setup.writeUInt16LE(value, 2);
    setup.writeUInt16LE(index, 4);
    setup.writeUInt16LE(size, 6);
    return new Promise((resolve) => {
      const reads = !!(type & DEVICE_TO_HOST);
      const progress = { came: Buffer.alloc(0), complete: false, armed: false };
      this.transfers.push({ setup, data, size, reads, resolve, ...progress });
      if (this.transfers.length === 1) this.#begin();
    });
  }

  #begin() {
    if (this.transfers.length) this.usb.sendSetupPacket(this.transfers[0].setup);
  }

  #finish() {
    const { resolve, came } = this.transfers.shift();
    resolve(came);
    this.#begin();
  }

  // The status stage of a transfer that reads: nothing, once all has come and the device is ready for it.
  #acknowledge(transfer) {
    if (!transfer.complete || !transfer.armed) return;
    transfer.armed = false;
    this.usb.endpointReadDone(0, new Uint8Array(0));
    this.next.schedule(STATUS_NS);
  }

  #deviceSends(endpoint, data) {
    if (endpoint === DATA_ENDPOINT && data.length) this.received(data);
    const [transfer] = this.transfers;
    if (endpoint !== 0 || !transfer) return;
    if (!transfer.reads) {
      this.next.schedule(STATUS_NS);
      return;
    }
    transfer.came = Buffer.concat([transfer.came, data]);
    transfer.complete = data.length < PACKET_SIZE || transfer.came.length >= transfer.size;
    this.#acknowledge(transfer);
  }

  #deviceTakes(endpoint, size) {
    if (endpoint === DATA_ENDPOINT) {
      this.armed = size;
      this.#send();
    }
    const [transfer] = this.transfers;
    if (endpoint !== 0 || !transfer) return;
    if (transfer.reads) {
      transfer.armed = true;
      this.#acknowledge(transfer);
    } else if (transfer.data) {
      this.usb.endpointReadDone(0, Uint8Array.from(transfer.data));
      transfer.data = null;
    }
  }

  #send() {
    if (!this.armed || !this.outgoing.length) return;
    const size = Math.min(this.armed, this.outgoing.length, PACKET_SIZE);
    this.armed = 0;
    this.usb.endpointReadDone(DATA_ENDPOINT, Uint8Array.from(this.outgoing.subarray(0, size)), PACKET_US);
    this.outgoing = this.outgoing.subarray(size);
    this.taken(size);
    if (!this.outgoing.length) this.#allSent();
  }
}
