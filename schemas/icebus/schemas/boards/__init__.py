"""What crosses the border to boards: bitstreams, firmware images, serial protocols, the rack."""
