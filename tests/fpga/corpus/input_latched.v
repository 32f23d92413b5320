// Follows a pin on which nothing is connected, through the latch of its input.
module top (input CLK, input IN, output ICE_27);
    wire in;
    reg [9:0] c = 0;
    SB_IO #(.PIN_TYPE(6'b0000_11)) io (.PACKAGE_PIN(IN), .LATCH_INPUT_VALUE(c[5]), .D_IN_0(in));
    always @(posedge CLK) c <= c + 1;
    assign ICE_27 = c[9] & in;
endmodule
