// An oscillator that is not enabled.
module top (input CLK, output ICE_27);
    reg [9:0] c = 0;
    wire osc;
    always @(posedge CLK) c <= c + 1;
    SB_HFOSC hf (.CLKHFPU(1'b1), .CLKHFEN(1'b0), .CLKHF(osc));
    reg q = 0;
    always @(posedge osc) q <= !q;
    assign ICE_27 = c[9] ^ q;
endmodule
