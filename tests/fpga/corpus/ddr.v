// A double data rate output.
module top (input CLK, output ICE_27);
    reg [13:0] c = 0;
    always @(posedge CLK) c <= c + 1;
    SB_IO #(.PIN_TYPE(6'b010001)) pin (
        .PACKAGE_PIN(ICE_27), .OUTPUT_CLK(CLK), .D_OUT_0(c[13]), .D_OUT_1(c[12])
    );
endmodule
