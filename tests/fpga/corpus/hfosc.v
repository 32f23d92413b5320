// Clocked by the internal oscillator.
module top (input CLK, output ICE_27);
    wire k;
    reg [13:0] c = 0;
    SB_HFOSC osc (.CLKHFPU(1'b1), .CLKHFEN(1'b1), .CLKHF(k));
    always @(posedge k) c <= c + 1;
    assign ICE_27 = c[13];
endmodule
