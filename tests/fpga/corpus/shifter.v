// A nonlinear shift register: nothing to be known but by simulating every step.
module top (input CLK, output ICE_27);
    reg [23:0] s = 0;
    always @(posedge CLK) s <= {s[22:0], ~(s[23] ^ (s[5] & s[9]) ^ s[2] ^ (s[17] | s[11]))};
    assign ICE_27 = s[23];
endmodule
