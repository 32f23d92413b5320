"""From a netlist to a state machine: the next state of all flip-flops as gates over the present.

Here is decided in what order things happen within a clock cycle, and which circuits have no such
order. A circuit on one edge of one clock takes a short cut, from the bits of its bitstream to the
state machine without a netlist: those are what a search makes thousands of.
"""
