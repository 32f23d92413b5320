// A maximal shift register of 16 bits.
module top (input CLK, output ICE_27);
    reg [15:0] s = 0;
    always @(posedge CLK) s <= {s[14:0], ~(s[15] ^ s[13] ^ s[12] ^ s[10])};
    assign ICE_27 = s[15];
endmodule
