// Follows a pin whose output is never switched on.
module top (input CLK, inout IN, output ICE_27);
    wire in;
    SB_IO #(.PIN_TYPE(6'b1010_01)) io (.PACKAGE_PIN(IN), .OUTPUT_ENABLE(1'b0), .D_OUT_0(CLK), .D_IN_0(in));
    reg [9:0] c = 0;
    always @(posedge CLK) c <= c + in;
    assign ICE_27 = c[9];
endmodule
