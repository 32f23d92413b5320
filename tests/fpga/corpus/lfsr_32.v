// A shift register that does not come back within the window.
module top (input CLK, output ICE_27);
    reg [31:0] s = 0;
    always @(posedge CLK) s <= {s[30:0], ~(s[31] ^ s[21] ^ s[1] ^ s[0])};
    assign ICE_27 = s[31];
endmodule
