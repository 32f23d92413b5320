// Pin 27 is an input here.
module top (input CLK, output PMOD, input ICE_27);
    assign PMOD = CLK;
endmodule
