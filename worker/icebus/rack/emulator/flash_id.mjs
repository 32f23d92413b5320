// The flash's unique id, which the firmware asks for by a command of the flash (W25Q32JV datasheet 8.2.30):
// four bytes of no meaning follow the command, then come the eight of the id.

const DATA_REGISTER = 0x60; // of the RP2040's interface to its flash
const READ_UNIQUE_ID = 0x4b;
const BEFORE_ID = 5;

export function giveFlashId(mcu, id) {
  const flash = mcu.peripherals[0x18000];
  const write = flash.writeUint32.bind(flash);
  let place = 0; // in the command that is being carried out
  flash.writeUint32 = (offset, value) => {
    write(offset, value);
    if (offset !== DATA_REGISTER) return;
    if (place === 0 && value !== READ_UNIQUE_ID) return;
    flash.dr0 = id[place - BEFORE_ID] ?? 0;
    place = (place + 1) % (BEFORE_ID + id.length);
  };
}
