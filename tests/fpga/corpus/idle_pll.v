// Clocked by a PLL that is kept in reset.
module top (input CLK, output ICE_27);
    wire k;
    reg [13:0] c = 0;
    SB_PLL40_PAD #(
        .FEEDBACK_PATH("SIMPLE"), .DIVR(4'd3), .DIVF(7'd63), .DIVQ(3'd5), .FILTER_RANGE(3'd1)
    ) pll (.PACKAGEPIN(CLK), .PLLOUTGLOBAL(k), .RESETB(1'b0), .BYPASS(1'b0));
    always @(posedge k) c <= c + 1;
    assign ICE_27 = c[13];
endmodule
