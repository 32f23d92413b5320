// A free-running counter that takes longer than the window to come back.
module top (input CLK, output ICE_27);
    reg [25:0] c = 0;
    always @(posedge CLK) c <= c + 1;
    assign ICE_27 = c[25] & c[9];
endmodule
