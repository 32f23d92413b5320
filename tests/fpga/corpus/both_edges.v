// Flip-flops on both edges that see each other.
module top (input CLK, output ICE_27);
    reg [7:0] a = 0;
    reg [7:0] b = 0;
    always @(posedge CLK) a <= a == 199 ? 0 : a + 1;
    always @(negedge CLK) b <= b + a[0];
    assign ICE_27 = b[7] ^ a[7];
endmodule
