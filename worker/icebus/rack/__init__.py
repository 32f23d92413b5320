"""The rack: a process of virtual pico-ice boards that a worker can't tell from real ones.

A board is a serial port (a PTY), a bootloader drive (a folder) and an emulated firmware; its FPGA
is simulated from the bitstream itself (:mod:`icebus.fpga`). The rack and the worker meet in a
directory (:mod:`icebus.schemas.boards.rack`), not in code.
"""
