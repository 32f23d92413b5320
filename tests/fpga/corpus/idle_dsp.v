// A multiplier without inputs.
module top (input CLK, output ICE_27);
    reg [9:0] c = 0;
    wire [31:0] q;
    always @(posedge CLK) c <= c + 1;
    SB_MAC16 mac (.O(q));
    assign ICE_27 = c[9] ^ q[3];
endmodule
