// The board's serial port as a host uses it: one thing after the other, and closing waits until all is
// sent, as on Linux.

export class Port {
  // `told` is called with 'closed' once the port is.
  constructor(usb, told) {
    this.usb = usb;
    this.told = told;
    this.before = Promise.resolve();
    this.waiting = 0;
    this.gone = false;
    this.opened = false;
  }

  // The device has yet to be told something.
  get busy() {
    return this.waiting > 0 || this.usb.outgoing.length > 0;
  }

  open() {
    this.#next(async () => {
      this.opened = true;
      await this.usb.openPort(true);
    });
  }

  write(data) {
    this.#next(() => this.usb.write(data));
  }

  setBaud(rate) {
    this.#next(() => this.usb.setBaud(rate));
  }

  close() {
    this.#next(async () => {
      await this.usb.sent();
      this.opened = false;
      this.usb.forget();
      await this.usb.openPort(false);
      this.told('closed');
    });
  }

  // The device is gone: whatever was to be done with it is not.
  leave() {
    this.gone = true;
    this.opened = false;
  }

  #next(what) {
    this.waiting++;
    this.before = this.before.then(async () => {
      if (!this.gone) await what();
      this.waiting--;
    });
  }
}
