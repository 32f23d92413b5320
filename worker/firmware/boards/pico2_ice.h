// pico2-ice: RP2350B and iCE40UP5K. What the SDK wants of a board, and how the FPGA is connected.
// The SDK includes this from assembler too: preprocessor directives only.
#ifndef BOARDS_PICO2_ICE_H
#define BOARDS_PICO2_ICE_H

// pico_cmake_set PICO_PLATFORM=rp2350
#define PICO_RP2350A 0
#define PICO_BOOT_STAGE2_CHOOSE_W25Q080 1
#ifndef PICO_FLASH_SPI_CLKDIV
#define PICO_FLASH_SPI_CLKDIV 2
#endif
// pico_cmake_set_default PICO_FLASH_SIZE_BYTES = (4 * 1024 * 1024)
#ifndef PICO_FLASH_SIZE_BYTES
#define PICO_FLASH_SIZE_BYTES (4 * 1024 * 1024)
#endif
// pico_cmake_set_default PICO_RP2350_A2_SUPPORTED = 1
#ifndef PICO_RP2350_A2_SUPPORTED
#define PICO_RP2350_A2_SUPPORTED 1
#endif
// Some crystals start slowly.
#ifndef PICO_XOSC_STARTUP_DELAY_MULTIPLIER
#define PICO_XOSC_STARTUP_DELAY_MULTIPLIER 64
#endif

#define BOARD_NAME "pico2-ice"
#define BOARD_CHIP "rp2350"

// The FPGA's configuration input is at the RX pin of the chip's SPI, which therefore can't send to it.
#define FPGA_SDI 4
#define FPGA_CSN 5
#define FPGA_SCK 6
#define FPGA_CLOCK 21
#define FPGA_CDONE 40
#define FPGA_CRESET 31

// {pin of the FPGA's package, GPIO}, from the board's published pin names; the first is the default.
#define COUNTED_PINS \
    {27, 20}, {9, 28}, {11, 29}, {18, 27}, {19, 23}, {20, 22}, {21, 26}, {23, 25}, {25, 30}, {26, 24}

// Input 0 is CDONE.
#define ADC_INPUTS 1, 2, 3, 4, 5, 6

#endif
