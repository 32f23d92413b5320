// pico-ice: RP2040 and iCE40UP5K. What the SDK wants of a board, and how the FPGA is connected.
// The SDK includes this from assembler too: preprocessor directives only.
#ifndef BOARDS_PICO_ICE_H
#define BOARDS_PICO_ICE_H

// pico_cmake_set PICO_PLATFORM=rp2040
#define PICO_BOOT_STAGE2_CHOOSE_W25Q080 1
#ifndef PICO_FLASH_SPI_CLKDIV
#define PICO_FLASH_SPI_CLKDIV 2
#endif
// pico_cmake_set_default PICO_FLASH_SIZE_BYTES = (4 * 1024 * 1024)
#ifndef PICO_FLASH_SIZE_BYTES
#define PICO_FLASH_SIZE_BYTES (4 * 1024 * 1024)
#endif

#define BOARD_NAME "pico-ice"
#define BOARD_CHIP "rp2040"

// The FPGA's configuration input is at the RX pin of the chip's SPI, which therefore can't send to it.
#define FPGA_SDI 8
#define FPGA_CSN 9
#define FPGA_SCK 10
#define FPGA_CLOCK 24
#define FPGA_CDONE 26
#define FPGA_CRESET 27

// {pin of the FPGA's package, GPIO}, from the board's published layout; the first is the default.
#define COUNTED_PINS {27, 0}, {25, 1}, {21, 2}, {19, 3}, {26, 4}, {23, 5}, {20, 6}, {18, 7}

// Inputs 0 and 1 are CDONE and CRESET.
#define ADC_INPUTS 2, 3

#endif
