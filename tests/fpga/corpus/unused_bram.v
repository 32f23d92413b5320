// Block RAM and an oscillator, neither of which the output depends on.
module top (input CLK, output ICE_27);
    reg [7:0] m[0:511];
    reg [8:0] a = 0;
    reg [7:0] q;
    wire k;
    (* keep *) reg sink = 0;
    SB_HFOSC osc (.CLKHFPU(1'b1), .CLKHFEN(1'b1), .CLKHF(k));
    always @(posedge CLK) begin
        a <= a + 1;
        q <= m[a];
        if (a == 3) m[a] <= q + 1;
    end
    always @(posedge k) sink <= sink ^ q[3];
    assign ICE_27 = a[8];
endmodule
