// A pin on which nothing is connected decides about another output only.
module top (input CLK, input IN, output ICE_27, output PMOD);
    reg [9:0] c = 0;
    always @(posedge CLK) c <= c + 1;
    assign ICE_27 = c[9];
    assign PMOD = c[3] & IN;
endmodule
