"""Ways to the bootloader of a board: one interface, chosen by what there is."""
