"""Emulated boards: the RP2040 image of the firmware, run unchanged by rp2040js.

The emulator is a process of Node.js for each board. It connects the chip's configuration pins to
the virtual FPGA, and its USB to the rack, which makes a serial port of it as of a virtual board's.
"""
