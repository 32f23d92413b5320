// Clocked by the falling edge.
module top (input CLK, output ICE_27);
    reg [15:0] c = 0;
    always @(negedge CLK) c <= c + 3;
    assign ICE_27 = c[15];
endmodule
