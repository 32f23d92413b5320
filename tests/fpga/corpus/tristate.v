// An output that is switched off and on.
module top (input CLK, output ICE_27);
    reg [13:0] c = 0;
    always @(posedge CLK) c <= c + 1;
    SB_IO #(.PIN_TYPE(6'b101001)) pin (
        .PACKAGE_PIN(ICE_27), .OUTPUT_ENABLE(c[5]), .D_OUT_0(c[13])
    );
endmodule
