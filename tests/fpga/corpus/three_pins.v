// A counter, three bits of which are seen on pins that the firmware counts at once.
module top (input CLK, output ICE_27, output ICE_25, output ICE_21);
    reg [15:0] c = 0;
    always @(posedge CLK) c <= c + 1;
    assign ICE_27 = c[9];
    assign ICE_25 = c[11];
    assign ICE_21 = c[15];
endmodule
