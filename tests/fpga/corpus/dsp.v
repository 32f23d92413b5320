// Uses a multiplier.
module top (input CLK, output ICE_27);
    reg [15:0] a = 0;
    wire [31:0] o;
    always @(posedge CLK) a <= a + 1;
    SB_MAC16 mac (.A(a), .B(a), .C(16'b0), .D(16'b0), .CLK(CLK), .CE(1'b1), .O(o));
    assign ICE_27 = o[9];
endmodule
