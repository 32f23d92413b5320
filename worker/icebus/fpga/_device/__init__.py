"""The iCE40UP5K as data: where its configuration bits are, and which wires they connect.

What is known of the chip is here and nowhere else, so that the rest is about circuits. The switches
and wires are read from a chip database of Project IceStorm; nothing here knows what a circuit does.
"""
