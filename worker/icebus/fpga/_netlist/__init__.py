"""From a bitstream to a netlist: the gates and flip-flops behind one pin.

Tiles and wires end here. What comes out says what the circuit is, not how to simulate it, so that
every engine starts from the same form, and circuits that differ only in their placement are equal.
"""
