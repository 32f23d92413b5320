// Clocked by the slow internal oscillator.
module top (input CLK, output ICE_27);
    wire k;
    reg [3:0] c = 0;
    SB_LFOSC osc (.CLKLFPU(1'b1), .CLKLFEN(1'b1), .CLKLF(k));
    always @(posedge k) c <= c + 1;
    assign ICE_27 = c[3];
endmodule
