// The emulator from npm. It is not beside us but in a folder of its own, which ICEBUS_EMULATOR names.
import { createRequire } from 'node:module';
import path from 'node:path';

const require = createRequire(path.join(path.resolve(process.env.ICEBUS_EMULATOR), 'package.json'));
export const { ConsoleLogger, GPIOPinState, LogLevel, RP2040 } = require('rp2040js');
